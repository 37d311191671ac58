"""Find a sink or a processor by its name, and make a sink from what a user wrote.

A name is a built-in one, an entry point in the group ``fapilog.sinks`` or ``fapilog.processors``, or
``"module:attribute"``. Built-ins are a table in code, so they are found in a checkout and a zipapp too, and an entry
point cannot take their name. Naming a plugin imports nothing; building it imports its module.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ConfigDict, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from fapilog.errors import ConfigurationError, UnknownPluginError
from fapilog.types import Processor, Sink

OPTIONS: Final = ConfigDict(extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)
"""The configuration of every sink's dataclass: unknown options fail, docstrings describe, errors hide values."""

Kind: TypeAlias = Literal["sink", "processor"]

BUILT_IN: Final[Mapping[Kind, Mapping[str, str]]] = {
    "sink": {
        "duckdb": "fapilog.sinks.duckdb:DuckDBSink",
        "file": "fapilog.sinks.file:FileSink",
        "http": "fapilog.sinks.http:HttpSink",
        "loki": "fapilog.sinks.loki:LokiSink",
        "stdout": "fapilog.sinks.stdout:StdoutSink",
    },
    "processor": {
        "deduplicate": "fapilog.processors.deduplicate:Deduplicate",
        "filter": "fapilog.processors.filter:Filter",
        "redact": "fapilog.processors.redact:Redact",
        "sample": "fapilog.processors.sample:Sample",
        "throttle": "fapilog.processors.throttle:Throttle",
        "validate": "fapilog.processors.validate:Validate",
    },
}
SCHEMES: Final[Mapping[str, str]] = {"https": "http", "loki+https": "loki"}
"""Schemes of URIs that are no sink's name, and the sink they stand for."""

_ADDRESS: Final = re.compile(r"[@/?]|:\d")
"""What no name of a sink and no ``module:Class`` has."""

GROUPS: Final[Mapping[Kind, str]] = {"sink": "fapilog.sinks", "processor": "fapilog.processors"}


@dataclass(frozen=True)
class SinkSpec:
    """What a user wrote about one sink, taken apart."""

    type: str
    """How its class is found."""

    name: str
    """What it is called in statistics and in ``FAPILOG_<NAME>__<OPTION>``; its type unless given."""

    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Options by name, not yet validated."""

    sink: Sink | None = field(default=None, repr=False)
    """The sink itself, if the user made it."""


def known(kind: Kind) -> dict[str, str]:
    """Return every name of that kind that can be found without importing it, and where each comes from."""
    found = {point.name: f"{point.value} ({point.dist.name if point.dist else '?'})" for point in _points(kind)}
    return {**found, **BUILT_IN[kind]}


def find(kind: Kind, name: str) -> Any:
    """Import and return what *name* stands for.

    Raises:
        UnknownPluginError: If there is none, with the names there are.
    """
    target = BUILT_IN[kind].get(name)
    if target is None:
        for point in _points(kind):
            if point.name == name:
                return _load(kind, point)
        target = name if ":" in name else None
    if target is None:
        names = sorted(known(kind))
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UnknownPluginError(f"no {kind} is called {name!r}; known: {', '.join(names)}{hint}")
    module, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError) as error:
        if _is_of_another(error, module):
            raise
        raise UnknownPluginError(f"no {kind} at {name!r}: {error}; write 'module:Class'") from error
    return found


def parse_sink(spec: Any) -> SinkSpec:
    """Take apart what stands for a sink: a name, ``module:Class``, a URI, a dict with ``type``, or a sink object.

    A URI is ``type://host:port/path?option=value``. Its host and path become the option ``path`` if the sink has one,
    else ``endpoint``, over TLS if the scheme is ``https`` or ends in it; a dot in an option's name goes one level down
    (``label.app=shop``), and one that comes again has a list of values (``rotation=1MB&rotation=daily``).

    Raises:
        ConfigurationError: If it is none of these.
    """
    spec = unmasked(spec)
    if isinstance(spec, str):
        if "://" not in spec and _ADDRESS.search(spec):  # it may hold a password, so it is not repeated
            raise ConfigurationError(
                "a sink given as an address needs a scheme, such as loki://host:3100 or https://host/path"
            )
        return _from_uri(spec) if "://" in spec else SinkSpec(_type(spec), _short(_type(spec)))
    if isinstance(spec, Mapping):
        options = dict(spec)
        kind = options.pop("type", None)
        if not isinstance(kind, str):
            raise ConfigurationError(f"a sink given as a dict needs a 'type'; got the keys {sorted(map(str, spec))}")
        return SinkSpec(_type(kind), str(options.pop("name", _short(_type(kind)))), options)
    if callable(getattr(spec, "write", None)) and not inspect.isclass(spec):
        name = getattr(spec, "name", None)
        kind = type(spec).__name__
        return SinkSpec(kind, name if isinstance(name, str) else kind.removesuffix("Sink").lower() or kind, sink=spec)
    raise ConfigurationError(
        f"{type(spec).__qualname__} is not a sink; give a name, a URI, a dict with 'type', or an object with write()"
    )


def build_sink(spec: SinkSpec, options: Mapping[str, Any], shared: Iterable[str] = ()) -> Sink:
    """Make the sink of *spec* with *options*, already merged and unmasked.

    Args:
        spec: What the user wrote.
        options: The sink's own options.
        shared: The names of options that every sink has, which one of those may have been meant for.

    Raises:
        UnknownPluginError: If no such sink is known.
        ConfigurationError: If it does not take the options. The message never holds an option's value.
    """
    if spec.sink is not None:
        if options:
            raise ConfigurationError(f"sink {spec.name!r} was given as an object; its options are set already")
        return spec.sink
    cls = find("sink", spec.type)
    options = dict(options)
    if "uri" in options and "uri" not in _parameters(cls):
        options = _place(cls, options)
    try:
        built: Sink = cls(**options)
    except ValidationError as error:
        raise ConfigurationError(f"sink {spec.name!r}: {explain(error, sorted(_parameters(cls)), shared)}") from None
    except TypeError as error:
        raise ConfigurationError(f"sink {spec.name!r}: {error}") from error
    if not callable(getattr(built, "write", None)):
        raise ConfigurationError(f"{spec.type!r} is not a sink: it has no write()")
    return built


def build_processor(spec: Any) -> Processor:
    """Return the processor *spec* stands for: a callable itself, its name, or a dict of its ``type`` and options.

    A class is made, without options if none are given.

    Raises:
        UnknownPluginError: If no such processor is known.
        ConfigurationError: If it cannot be called, or does not take the options.
    """
    options = dict(spec) if isinstance(spec, Mapping) else {}
    spec = options.pop("type", None) if isinstance(spec, Mapping) else spec
    found = find("processor", spec) if isinstance(spec, str) else spec
    if inspect.isclass(found):
        try:
            found = found(**options)
        except TypeError as error:
            raise ConfigurationError(f"processor {spec!r}: {error}") from error
    elif options:
        raise ConfigurationError(f"{spec!r} is not a class, so it takes no options; got {', '.join(options)}")
    if not callable(found):
        raise ConfigurationError(f"{spec!r} is not a processor; give a callable (logger, method_name, event) -> event")
    processor: Processor = found
    return processor


def function(said: Any, setting: str) -> Any:
    """Return a function that a setting names as ``module:name``, or is.

    Raises:
        ConfigurationError: It is none.
    """
    found = said
    if isinstance(said, str):
        module, _, name = said.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(f"{setting}: cannot import {said!r}: {error}; write module:function") from None
    if not callable(found):
        raise ConfigurationError(f"{setting}: got {type(found).__qualname__}; give a function, or module:function")
    return found


def function_at(target: str) -> Callable[..., Any]:
    """Return the function that an option of a sink names as ``module:name``.

    Raises:
        ValueError: There is none.
    """
    module, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no function at {target!r}: {error}; write 'module:function'") from error
    if not callable(found):
        what = type(found).__qualname__
        raise ValueError(f"{target!r} is no function but {what}; write 'module:function'")  # noqa: TRY004 - pydantic's
    called: Callable[..., Any] = found
    return called


def options_of(cls: type) -> dict[str, FieldInfo]:
    """Return what there is to know of each option of a sink's class, by name.

    pydantic takes descriptions from the docstrings of a class alone; those of an inherited option are found here.
    """
    found: dict[str, FieldInfo] = {}
    for each in reversed(cls.__mro__):
        for name, option in vars(each).get("__pydantic_fields__", {}).items():
            if name.startswith("_"):
                continue
            inherited = found.get(name)
            found[name] = copy(option)
            if option.description is None and inherited is not None:
                found[name].description = inherited.description
    return found


def explain(error: ValidationError, names: list[str], shared: Iterable[str] = ()) -> str:
    """Say what is wrong with options in one line, without any value: an option may be a secret."""
    said = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            close = difflib.get_close_matches(where, [*names, *shared], 1)
            more = f", and of every sink: {', '.join(sorted(shared))}" if shared else ""
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}{more}"
            said.append(f"no option is called {where!r}; {hint}")
        elif problem["type"] in ("missing", "missing_argument"):
            said.append(f"option {where!r} is missing")
        else:
            what = problem["msg"].removeprefix("Value error, ")
            said.append((f"option {where!r}: " if where else "") + what[0].lower() + what[1:])
    return "; ".join(said)


def unmasked(value: Any) -> Any:
    """Return *value* with every `SecretStr` in it opened."""
    if isinstance(value, SecretStr | SecretBytes):
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return {key: unmasked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unmasked(item) for item in value]
    return value


def _points(kind: Kind) -> Any:
    return entry_points(group=GROUPS[kind])


def _load(kind: Kind, point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ModuleNotFoundError, AttributeError) as error:
        if _is_of_another(error, point.module):
            raise
        whose = point.dist.name if point.dist else "a package"
        raise UnknownPluginError(
            f"there is no {kind} {point.name!r} where {whose} says it is, at {point.value!r}: {error}"
        ) from error


def _is_of_another(error: Exception, module: str) -> bool:
    """Tell whether it is not *module* that is missing but something that it imports."""
    return isinstance(error, ModuleNotFoundError) and error.name not in (module, *_parents(module))


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _type(said: str) -> str:
    """Return the type of a sink as it is known; a built-in one may be written in any case."""
    name = said.strip()
    return name.lower() if name.lower() in BUILT_IN["sink"] else name


def _short(kind: str) -> str:
    """Name a sink after its type: ``shop.sinks:AuditSink`` is ``audit``."""
    attribute = kind.rpartition(":")[2] if ":" in kind else kind
    return attribute.rpartition(".")[2].removesuffix("Sink").lower() if ":" in kind else kind


def _from_uri(uri: str) -> SinkSpec:
    try:
        parts = urlsplit(uri)
    except ValueError:  # its message would show the user and password
        raise ConfigurationError("the URI of a sink cannot be read; write type://host:port/path?option=value") from None
    if "#" in uri:  # what follows would be left out: the end of a path, or of a password and the host behind it
        raise ConfigurationError("the URI of a sink holds a #; write it as %23")
    options: dict[str, Any] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        target = options
        *above, last = key.split(".")
        for part in above:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigurationError(f"the URI of a sink gives {part!r} both a value and options, in {key!r}")
        before = target.get(last)
        if isinstance(before, dict):
            raise ConfigurationError(f"the URI of a sink gives {last!r} both a value and options, in {key!r}")
        target[last] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    if parts.netloc or parts.path:
        options["uri"] = (parts.scheme, parts.netloc, parts.path)
    kind = SCHEMES.get(parts.scheme, parts.scheme)
    name = options.pop("name", kind)
    if not isinstance(name, str):
        raise ConfigurationError("the URI of a sink gives it more than one name")
    return SinkSpec(kind, name, options)


def _place(cls: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Give the host and path of a URI to the option they belong to."""
    scheme, netloc, path = options.pop("uri")
    names = _parameters(cls)
    if "path" in names:
        return {"path": netloc + unquote(path), **options}
    if "endpoint" in names:
        return {"endpoint": f"{'https' if scheme.endswith('https') else 'http'}://{netloc}{path}", **options}
    raise ConfigurationError(f"{cls.__name__} takes no host or path; options: {', '.join(sorted(names)) or 'none'}")


def _parameters(cls: Any) -> set[str]:
    return {name for name in inspect.signature(cls).parameters if name != "self"}
