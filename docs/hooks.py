"""Write into the pages what the code knows: settings, options, fields and columns, each from where it is defined.

A page asks with a line such as ``<!-- generated: settings -->``.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from fapilog.cli import commands as group
from fapilog.detectors.credentials import CREDENTIALS
from fapilog.detectors.personal import PERSONAL, PRESET_FIELDS, PRESETS
from fapilog.encoding import LIMITS, MAX_LINE_BYTES
from fapilog.pipeline.options import DeliveryOptions
from fapilog.plugins import BUILT_IN, find, options_of
from fapilog.processors.redact import DEFAULT_FIELDS, SECRET_SUFFIXES
from fapilog.settings import PREFIX, LoggingSettings
from fapilog.store.schema import COLUMNS
from fapilog.store.views import VIEWS
from fapilog.types import RESERVED_FIELDS

_TYPE_NAMES = {
    "str": "text",
    "SecretStr": "secret text",
    "Path": "path",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "timedelta": "duration",
    "time": "time of day",
    "Callable": "function",
}
_REQUEST = re.compile(r"<!-- generated: (?P<what>[\w-]+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in every request of a page; one for what is not known fails the build."""
    return _REQUEST.sub(lambda match: GENERATORS[match["what"]](), markdown)


def settings() -> str:
    """Describe every setting."""
    rows = [
        (f"`{PREFIX}{name.upper()}`", _type(field), _default(field), _prose(field.description))
        for name, field in LoggingSettings.model_fields.items()
        if name != "sink_options"
    ]
    return _table(("variable", "type", "default", ""), rows)


def sink_options() -> str:
    """Describe every built-in sink and its own options."""
    parts = []
    for name in sorted(BUILT_IN["sink"]):
        cls = find("sink", name)
        parts += [f"### {name}", _prose(cls.__doc__.split("\n\n")[0]), _options(cls, name)]
    return "\n\n".join(parts)


def delivery_options() -> str:
    """Describe the options that every sink has."""
    return _options(DeliveryOptions, "<sink>")


def columns() -> str:
    """Describe the columns of the view `logs`."""
    rows = [(f"`{column.name}`", column.type, f"{column.description}.") for column in COLUMNS]
    return _table(("column", "type", ""), [*rows, ("`fields`", "JSON", "Every other field of the record.")])


def commands() -> str:
    """Describe every command and its options."""
    parts = []
    for name, command in group.commands.items():
        context = click.Context(command, info_name=f"fapilog {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        first, *others = inspect.cleandoc(command.help or "").split("\n\n")
        prose = [_prose(part) if "\b" not in part else f"```\n{part.strip(chr(8)).strip()}\n```" for part in others]
        rows = [
            (
                f"`{' '.join(['/'.join([*option.opts, *option.secondary_opts]), _metavar(option, context)]).strip()}`",
                _default_of(option),
                _prose(option.help),
            )
            for option in command.params
            if isinstance(option, click.Option)
        ]
        parts += [f"### fapilog {name}", f"`fapilog {name} {usage}`", _prose(first), *prose]
        parts += [_table(("option", "default", ""), rows)] if rows else []
    return "\n\n".join(parts)


def _metavar(option: click.Option, context: click.Context) -> str:
    return "" if option.is_flag else _cell(option.make_metavar(context))


def _default_of(option: click.Option) -> str:
    if isinstance(option.show_default, str):
        return _cell(option.show_default)
    return f"`{option.default}`" if option.show_default and option.default is not None else ""


def view_columns(name: str) -> str:
    """Describe the columns of a view beside `logs`."""
    rows = [(f"`{column.name}`", f"{column.description}.") for column in VIEWS[name]]
    return _table(("column", ""), rows)


def limits() -> str:
    """Say how much of a value and of a line is kept."""
    return (
        f"Of a text {LIMITS.string:,} characters are kept (`FAPILOG_MAX_STRING_CHARACTERS`), of a list "
        f"{LIMITS.items:,} items (`FAPILOG_MAX_ITEMS`), of an object {LIMITS.keys:,} keys (`FAPILOG_MAX_KEYS`), of "
        f"what is nested {LIMITS.depth} levels (`FAPILOG_MAX_DEPTH`). Of a record that would still be longer than "
        f"{MAX_LINE_BYTES:,} bytes (`FAPILOG_MAX_RECORD_BYTES`) less is kept of each field, and in the end only what "
        "says when, what and where it was."
    )


def reserved_fields() -> str:
    """List the fields only fapilog sets."""
    return _list(sorted(RESERVED_FIELDS))


def redacted_fields() -> str:
    """List the names whose values are masked."""
    return f"{_list(DEFAULT_FIELDS)}; and every name that ends in {_list(SECRET_SUFFIXES)}"


def redaction_rules() -> str:
    """List the detectors, when each is on, and how sure it is."""
    rows = [(f"`{each.name}`", "always", f"{each.confidence:.2f}") for each in CREDENTIALS]
    for name, each in PERSONAL.items():
        presets = _list(preset for preset, names in PRESETS.items() if name in names)
        rows.append((f"`{name}`", f"with {presets}", f"{each.confidence:.2f}"))
    return _table(("rule", "looked for", "confidence"), rows)


def preset_fields() -> str:
    """List the names that each preset makes secret."""
    return "; ".join(f"{preset}: {_list(names)}" for preset, names in PRESET_FIELDS.items())


def _options(cls: Any, sink: str) -> str:
    rows = [
        (
            f"`{name}`",
            f"`{PREFIX}{sink.upper()}__{name.upper()}`",
            _type(field),
            _default(field),
            _prose(field.description),
        )
        for name, field in options_of(cls).items()
    ]
    return _table(("option", "variable", "type", "default", ""), rows)


def _type(field: FieldInfo) -> str:
    return _cell(_type_name(field.annotation))


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _type_name(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " | ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (list, dict):
        return str(get_origin(annotation).__name__)
    if get_origin(annotation) in (UnionType, Union):
        return " | ".join(_type_name(member) for member in get_args(annotation) if member is not NoneType)
    name = getattr(annotation, "__name__", str(annotation))
    return _TYPE_NAMES.get(name, name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{','.join(value)}`" if isinstance(value, list) else f"`{value}`"


def _prose(text: str | None) -> str:
    return _cell(" ".join((text or "").split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


GENERATORS: dict[str, Callable[[], str]] = {
    "columns": columns,
    "commands": commands,
    "delivery-options": delivery_options,
    "job-logs": lambda: view_columns("job_logs"),
    "limits": limits,
    "pipeline-logs": lambda: view_columns("pipeline_logs"),
    "preset-fields": preset_fields,
    "redacted-fields": redacted_fields,
    "redaction-rules": redaction_rules,
    "reserved-fields": reserved_fields,
    "settings": settings,
    "sink-options": sink_options,
}
"""What a page may ask for."""
