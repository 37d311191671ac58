"""A record as one line of a template of the user's, such as ``{timestamp} | {level:8} | {event}``.

A field is named as in Python's `str.format`, with its conversions and format specifications. A dot leads into an
object (``{exception.type}``) or a list (``{tags.0}``), unless a field has that very name. What a record does not have
is empty; ``{fields}`` is what else it has, but for the fields that are on every record, as pairs of logfmt.
"""

import re
import string
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import orjson

from fapilog.formats.escaping import escape
from fapilog.formats.fields import parse
from fapilog.formats.logfmt import pairs
from fapilog.types import RESERVED_FIELDS

Part: TypeAlias = Callable[[dict[str, Any]], str]

REST: Final = "fields"
MAX_COLUMNS: Final = 1_000
"""How wide a format specification may make a value, and how many digits it may give it."""

_ALIASES: Final = {"message": "event", "time": "timestamp", "logger_name": "logger"}
"""What others call a field, and what stands for it in a record that has none of that name."""

_EXAMPLE: Final = "{timestamp} | {level:8} | {event}"
_CONVERSIONS: Final[Mapping[str | None, Callable[[Any], Any]]] = {"r": repr, "a": ascii, "s": str}
_LAYOUT: Final = re.compile(r"(?P<layout>(?:.?[<>=^])?)[-+ ]?z?#?0?(?P<width>\d*)[_,]?(?:\.(?P<digits>\d+))?[a-zA-Z%]?")
_LIKELY: Final[tuple[Any, ...]] = ("", 0, 0.0)


class Template:
    """A format that is a template."""

    media_type: Final = "text/plain; charset=utf-8"

    def __init__(self, template: str) -> None:
        """Read *template*.

        Raises:
            ValueError: It is none, or would not make one line of each record.
        """
        self._parts = _read(template)

    def __call__(self, line: bytes) -> bytes:
        """Return one record as one line."""
        record = parse(line)
        said = "".join([part if isinstance(part, str) else part(record) for part in self._parts])
        return said.encode("utf-8", "backslashreplace") + b"\n"


def _read(template: str) -> list[str | Part]:
    try:
        found = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template!r} is no template: {str(error).lower()}; write such as {_EXAMPLE!r}") from None
    parts: list[str | Part] = []
    named = {field for _, field, _, _ in found if field}
    for literal, field, spec, conversion in found:
        if not literal.replace("\t", "").isprintable():
            raise ValueError(
                f"{template!r} is no template: {literal!r} has a character that is not seen, or ends a line"
            )
        parts.append(literal)
        if field is not None:
            try:
                parts.append(_part(field, spec or "", conversion, named))
            except ValueError as error:
                raise ValueError(f"{template!r} is no template: {error}; write such as {_EXAMPLE!r}") from None
    return [part for part in parts if part != ""]


def _part(field: str, spec: str, conversion: str | None, named: set[str]) -> Part:
    """Return what shows one field.

    Raises:
        ValueError: No field can be shown so.
    """
    if not field or field.isdigit():
        raise ValueError(f"{{{field}}} names no field")
    if any(mark in field for mark in "[]{\"'"):
        raise ValueError(f"{{{field}}} is no field's name, and no path with dots")
    if any(not step for step in field.split(".")):
        raise ValueError(f"{{{field}}} has a dot with nothing before or behind it")
    if field == REST:
        left_out = named | RESERVED_FIELDS
        show = _shower(spec, conversion, field)
        return lambda record: show(pairs({name: value for name, value in record.items() if name not in left_out}))
    if field in ("timestamp", "time") and "%" in spec and conversion is None:
        return _clock(spec)
    show = _shower(spec, conversion, field)
    if field in _ALIASES:
        ours = _ALIASES[field]
        return lambda record: show(record[field] if field in record else record.get(ours, _MISSING))
    if "." not in field:
        return lambda record: show(record.get(field, _MISSING))
    return lambda record: show(_found(record, field))


def _found(record: Mapping[str, Any], path: str) -> Any:
    """Return what a path leads to, or what says that there is nothing."""
    if path in record:
        return record[path]
    here: Any = record
    for step in path.split("."):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(here):
            here = here[int(step)]
        else:
            return _MISSING
    return here


class _Missing:
    """Stands for a field that a record does not have."""


_MISSING: Final = _Missing()


def _shower(spec: str, conversion: str | None, field: str) -> Callable[[Any], str]:
    """Return what makes text of a value as a specification asks; where it does not fit the value, as near as it can."""
    layout = _LAYOUT.fullmatch(spec)
    if layout is None or not spec.isprintable():
        raise ValueError(f"{{{field}:{spec}}} has no format specification of Python")
    width, digits = layout["width"] or "0", layout["digits"] or "0"
    if any(len(number) > 4 or int(number) > MAX_COLUMNS for number in (width, digits)):
        raise ValueError(f"{{{field}:{spec}}} asks for more than {MAX_COLUMNS:,} columns")
    if conversion is not None and conversion not in _CONVERSIONS:
        raise ValueError(f"{{{field}!{conversion}}} has no conversion of Python: r, s or a")
    if not any(_fits(value, spec) for value in (_LIKELY if conversion is None else ("",))):
        raise ValueError(f"{{{field}:{spec}}} has no format specification of Python")
    if not spec and conversion is None:
        return _text
    convert = _CONVERSIONS.get(conversion)
    aligned = layout["layout"]  # a text cannot be padded behind its sign
    as_text = (f"{aligned[:-1]}>" if aligned.endswith("=") else aligned) + layout["width"]

    def show(value: Any) -> str:
        if value is _MISSING:
            return format("", as_text)
        if convert is not None:
            value = escape(convert(value))
        elif type(value) not in (int, float):
            value = _text(value)
        try:
            return escape(format(value, spec))
        except (ValueError, OverflowError):
            return format(_text(value), as_text)

    return show


def _clock(spec: str) -> Part:
    """Return what shows the time of a record here, by a specification of `strftime`."""
    if not datetime(2026, 1, 1).astimezone().strftime(spec).replace("\t", "").isprintable():
        raise ValueError(f"{{timestamp:{spec}}} has a character that is not seen, or ends a line")

    def show(record: dict[str, Any]) -> str:
        timestamp = record.get("timestamp", "")
        try:
            return escape(datetime.fromisoformat(timestamp).astimezone().strftime(spec))
        except (TypeError, ValueError, OverflowError, OSError):
            return _text(timestamp)

    return show


def _fits(value: Any, spec: str) -> bool:
    try:
        format(value, spec)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    if isinstance(value, str):
        return escape(value)
    return "" if value is _MISSING else escape(orjson.dumps(value).decode())
