"""Find the format that a user asks for, and make the lines of a batch with it.

It is a built-in name; a template such as ``{timestamp} | {level:8} | {event}``; or a function, or its
``module:function``, that is given a record as a dict and returns one line of text, or a dict, which is written as JSON.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import orjson
from pydantic import BeforeValidator

from fapilog.diagnostics import report
from fapilog.encoding import encode, plain_fields, text
from fapilog.errors import ConfigurationError
from fapilog.formats.escaping import escape
from fapilog.formats.screen import Screen
from fapilog.types import Batch

JSON_LINES: Final = "application/x-ndjson"
_MAX_KNOWN: Final = 20_000
"""Twice as many as a batch has by default."""

LineFormat: TypeAlias = Callable[[bytes], bytes]
"""Makes one line of another from a canonical one; both end in a newline."""

UserFormat: TypeAlias = Callable[[dict[str, Any]], Any]
"""A function that makes text, bytes of UTF-8 or a dict of a record."""

_BUILT_IN: Final[Mapping[str, str]] = {
    "csv": "fapilog.formats.csv:Csv",
    "datadog": "fapilog.formats.datadog:Datadog",
    "ecs": "fapilog.formats.ecs:Ecs",
    "gcp": "fapilog.formats.gcp:Gcp",
    "logfmt": "fapilog.formats.logfmt:Logfmt",
    "otel": "fapilog.formats.otel:Otel",
    "pretty": "fapilog.formats.pretty:Pretty",
}

KNOWN: Final = ("json", *_BUILT_IN)
"""The formats that have a name; ``json`` is the canonical line."""


class Formatter:
    """The lines of one format. Where it fails, the canonical line is written in place of its own."""

    def __init__(self, wanted: str | UserFormat, screen: Screen | None = None) -> None:
        """Find the format that is *wanted*; ``pretty`` is written for *screen*, by default a plain one.

        Raises:
            ConfigurationError: There is none.
        """
        try:
            wanted = format_name(wanted)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        self.name = wanted if isinstance(wanted, str) else getattr(wanted, "__qualname__", type(wanted).__qualname__)
        self.failed = 0
        """How many records were written in the canonical form, because the format could not hold them."""
        self._known: set[int] = set()
        self._make = None if wanted == "json" else _find(wanted, screen)
        self.media_type: str = getattr(self._make, "media_type", JSON_LINES)
        """What a body of such lines is."""

        self.header: bytes = getattr(self._make, "header", b"")
        """What a file or stream of such lines begins with; empty for most formats."""

    def lines(self, batch: Batch) -> list[bytes]:
        """Return the records of *batch* as lines, in order."""
        make = self._make
        if make is None:
            return batch.lines
        made = []
        for line in batch.lines:
            try:
                made.append(make(line))
            except BaseException as error:  # noqa: BLE001 - a record is worth more than its format, whatever that raises
                self._fail(line, error)
                made.append(line)
        return made

    def payload(self, batch: Batch) -> bytes:
        """Return the records of *batch* as one block."""
        return batch.payload if self._make is None else b"".join(self.lines(batch))

    def _fail(self, line: bytes, error: BaseException) -> None:
        """Count a record and tell of it; one that is sent again, since its batch was not taken, is counted once."""
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self.failed += hash(line) not in self._known
        self._known.add(hash(line))
        report(
            f"the format {self.name!r} cannot hold a record, which is written as JSON instead: "
            f"{type(error).__name__}: {text(error, 200)}",
            key=f"format {self.name}",
        )


def format_name(said: object) -> str | UserFormat:
    """Return a format as it is known: a name in lower case, anything else as it is.

    Raises:
        ValueError: There is no such format.
    """
    if not isinstance(said, str):
        return _checked(said, type(said).__qualname__)
    if "{" in said:
        from fapilog.formats.template import Template  # noqa: PLC0415 - loaded by those who use one

        Template(said)
        return said
    said = said.strip()
    if ":" in said:
        _of_user(said)
        return said
    name = said.lower()
    if name not in KNOWN:
        raise ValueError(
            f"got {said!r}; known: {', '.join(sorted(KNOWN))}, 'module:function', "
            "or a template such as '{timestamp} {level:8} {event}'"
        )
    return name


FormatName = Annotated[str | UserFormat, BeforeValidator(format_name)]
"""The type of an option that names a format."""


def _find(wanted: str | UserFormat, screen: Screen | None) -> LineFormat:
    if not isinstance(wanted, str):
        return _Custom(wanted)
    found: LineFormat
    if "{" in wanted:
        from fapilog.formats.template import Template  # noqa: PLC0415 - as above

        found = Template(wanted)
    elif ":" in wanted:
        found = _Custom(_of_user(wanted))
    else:
        module, _, attribute = _BUILT_IN[wanted].partition(":")
        made: Any = getattr(importlib.import_module(module), attribute)
        found = made(screen) if wanted == "pretty" else made()
    return found


def _of_user(target: str) -> UserFormat:
    module, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no format at {target!r}: {error}; write 'module:function'") from error
    return _checked(found, repr(target))


def _checked(found: object, said: str) -> UserFormat:
    """See that something can be called for each record.

    Raises:
        ValueError: It cannot.
    """
    if inspect.isclass(found) or not callable(found):
        raise ValueError(f"{said} is not a format; give a function that takes a record as a dict")
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__):
        raise ValueError(f"{said} is a coroutine function; give an ordinary one that takes a record as a dict")
    return found


class _Custom:
    """The format of a user's function. What it returns is made one line, whatever it is."""

    media_type = "text/plain; charset=utf-8"

    def __init__(self, function: UserFormat) -> None:
        self._function = function

    def __call__(self, line: bytes) -> bytes:
        made = self._function(orjson.loads(line))
        if isinstance(made, bytes):
            made = made.decode("utf-8", "backslashreplace")
        if isinstance(made, str):
            return escape(made.rstrip("\r\n")).encode() + b"\n"
        if isinstance(made, Mapping):
            return encode(plain_fields(made)) + b"\n"
        raise TypeError(f"returned {type(made).__name__}, neither text nor a dict")
