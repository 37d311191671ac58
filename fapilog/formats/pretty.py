"""Show a record to a person: one aligned, coloured line, its exception below.

Everything a record holds is foreign text, so whatever could move the cursor, recolour the terminal or forge a second
line is shown escaped, in names as well as in values.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

_COLOURS: Final = {
    "trace": "\x1b[2m",
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "success": "\x1b[1;32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_DIM: Final = "\x1b[2m"
_BOLD: Final = "\x1b[1m"
_RESET: Final = "\x1b[0m"

_LEFT_OUT: Final = frozenset(
    {"timestamp", "level", "event", "logger", "id", "service", "env", "version", "host", "pid", "exception", "stack"}
    | {"span_id", "parent_span_id", "trace_flags", "request_id"}
)
"""Fields that are shown elsewhere in the line, or are the same on every one."""

_ACCESS: Final = frozenset(
    {"method", "path", "route", "status_code", "duration_ms", "request_bytes", "response_bytes", "user_agent"}
)

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


class Pretty:
    """The format of that name."""

    media_type: Final = "text/plain; charset=utf-8"

    def __init__(self, *, colour: bool = False) -> None:
        """Use ANSI colours if *colour* is true."""
        self._colour = colour

    def __call__(self, line: bytes) -> bytes:
        """Return one record as text, ending in a newline."""
        return pretty(line, colour=self._colour).encode("utf-8", "backslashreplace")


def pretty(line: bytes, *, colour: bool) -> str:
    """Return one record as text for a terminal, ending in a newline.

    Args:
        line: The record as it was encoded.
        colour: Whether to use ANSI colours.
    """
    record: dict[str, Any] = orjson.loads(line)
    level = str(record.get("level", ""))
    paint = _paint if colour else _leave
    access = record.get("logger") == "fapilog.access" and "method" in record
    event = _request_line(record) if access else escape(str(record.get("event", "")))
    hidden = _LEFT_OUT | _ACCESS if access else _LEFT_OUT
    fields = " ".join(
        f"{paint(_DIM, escape(name) + '=')}{_value(value)}" for name, value in record.items() if name not in hidden
    )
    logger = record.get("logger")
    parts = [
        paint(_DIM, _local_time(record.get("timestamp"))),
        paint(_COLOURS.get(level, ""), f"{escape(level):<8}"),
        paint(_BOLD, event),
        fields,
        "" if access or logger == "root" else paint(_DIM, f"[{escape(str(logger))}]"),
    ]
    shown = " ".join(part for part in parts if part) + "\n"
    for below in _below(record):
        shown += "".join(f"    {escape(part)}\n" for part in below.split("\n"))
    return shown


def escape(said: str) -> str:
    r"""Show control, direction-changing and line-separating characters as ``\xNN`` or ``\uNNNN``."""
    return _UNSAFE.sub(_escaped, said)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _value(value: Any) -> str:
    if isinstance(value, str):
        quoted = any(character in value for character in ' "=') or not value
        shown = escape(value)
        return '"' + shown.replace('"', '\\"') + '"' if quoted else shown
    return escape(orjson.dumps(value).decode())


def _request_line(record: Mapping[str, Any]) -> str:
    duration = record.get("duration_ms")
    took = f" {duration:.1f} ms" if isinstance(duration, int | float) else ""
    return escape(f"{record.get('method')} {record.get('path')} {record.get('status_code')}") + took


def _local_time(timestamp: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return escape(str(timestamp))
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _below(record: Mapping[str, Any]) -> list[str]:
    """Return what goes under the line: the stack of an exception, or one that was asked for."""
    exception = record.get("exception")
    shown = []
    if isinstance(exception, Mapping):
        shown.append(str(exception.get("stacktrace") or f"{exception.get('type')}: {exception.get('message')}"))
    if isinstance(record.get("stack"), str):
        shown.append(record["stack"])
    return shown


def _paint(code: str, said: str) -> str:
    return f"{code}{said}{_RESET}" if said and code else said


def _leave(_code: str, said: str) -> str:
    return said
