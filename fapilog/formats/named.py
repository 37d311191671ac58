"""Find a format by its name, and make the lines of a batch with it.

A name is a built-in one or ``module:function``: a function that is given a record as a dict and returns a dict, which
is written as JSON, or one line of text.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import orjson
from pydantic import AfterValidator, BeforeValidator

from fapilog.diagnostics import report
from fapilog.encoding import encode, plain_fields, text
from fapilog.errors import ConfigurationError
from fapilog.formats.pretty import escape
from fapilog.types import Batch

JSON_LINES: Final = "application/x-ndjson"

LineFormat: TypeAlias = Callable[[bytes], bytes]
"""Makes one line of another from a canonical one; both end in a newline."""

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

    def __init__(self, name: str, *, colour: bool = False) -> None:
        """Find the format called *name*; *colour* is for a person alone.

        Raises:
            ConfigurationError: There is none.
        """
        self.name = name
        self.failed = 0
        """How many records were written in the canonical form, because the format could not hold them."""
        self._make = None if name == "json" else _find(name, colour=colour)
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
            except Exception as error:  # noqa: BLE001 - a record is worth more than its format
                self._fail(error)
                made.append(line)
        return made

    def payload(self, batch: Batch) -> bytes:
        """Return the records of *batch* as one block."""
        return batch.payload if self._make is None else b"".join(self.lines(batch))

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        report(
            f"the format {self.name!r} cannot hold a record, which is written as JSON instead: "
            f"{type(error).__name__}: {text(error, 200)}",
            key=f"format {self.name}",
        )


def format_name(said: str) -> str:
    """Return the name of a format as it is known, whatever its case.

    Raises:
        ValueError: There is no such format.
    """
    if ":" in said:
        _of_user(said)
        return said
    name = said.lower()
    if name not in KNOWN:
        raise ValueError(f"got {said!r}; known: {', '.join(sorted(KNOWN))}, or 'module:function'")
    return name


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


FormatName = Annotated[str, BeforeValidator(_stripped), AfterValidator(format_name)]
"""The type of an option that names a format."""


def _find(name: str, *, colour: bool) -> LineFormat:
    if ":" in name:
        try:
            return _Custom(_of_user(name))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    target = _BUILT_IN.get(name)
    if target is None:
        raise ConfigurationError(f"no format is called {name!r}; known: {', '.join(sorted(KNOWN))}")
    module, _, attribute = target.partition(":")
    made: Any = getattr(importlib.import_module(module), attribute)
    found: LineFormat = made(colour=colour) if name == "pretty" else made()
    return found


def _of_user(target: str) -> Callable[[dict[str, Any]], Any]:
    module, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no format at {target!r}: {error}; write 'module:function'") from error
    if inspect.isclass(found) or not callable(found):
        raise ValueError(f"{target!r} is not a format; give a function that takes a record as a dict")
    function: Callable[[dict[str, Any]], Any] = found
    return function


class _Custom:
    """The format of a user's function. What it returns is made one line, whatever it is."""

    media_type = "text/plain; charset=utf-8"

    def __init__(self, function: Callable[[dict[str, Any]], Any]) -> None:
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
