"""Show a record to a person: one aligned, coloured line, wrapped below itself, and its exception below that.

Everything a record holds is foreign text, so whatever could move the cursor, recolour the terminal or forge a second
line is shown escaped, in names as well as in values. What begins in the first column is a record; whatever belongs to
it stands further to the right.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from fapilog.diagnostics import report
from fapilog.encoding import text
from fapilog.errors import MissingExtraError
from fapilog.formats import tracebacks
from fapilog.formats.escaping import escape
from fapilog.formats.fields import is_access, parse
from fapilog.formats.screen import Screen, columns, pieces
from fapilog.types import LEVELS

_COLOURS: Final = {
    "trace": "\x1b[2m",
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "success": "\x1b[1;32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_STATUS: Final = {1: "\x1b[36m", 2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}
_ROLES: Final[Mapping[tracebacks.Role, str]] = {"place": "\x1b[2m", "local": "\x1b[2m", "error": "\x1b[1;31m"}
_DIM: Final = "\x1b[2m"
_BOLD: Final = "\x1b[1m"
_RESET: Final = "\x1b[0m"

_LEFT_OUT: Final = frozenset(
    {"timestamp", "level", "event", "logger", "id", "service", "env", "version", "host", "pid"}
    | {"span_id", "parent_span_id", "trace_flags", "request_id"}
)
"""Fields that are shown elsewhere in the line, or are the same on every one."""

_LEFT_OUT_OF_ACCESS: Final = _LEFT_OUT | {
    *("method", "path", "query", "route", "status_code", "duration_ms", "ttfb_ms"),
    *("scheme", "http_version", "request_bytes", "user_agent"),
}

_EVENT: Final = 30
"""How many columns an event is given, so that the fields of most records begin in one place."""

_LEVEL: Final = max(map(len, LEVELS))
_INDENT: Final = len("12:00:00.000") + 1 + _LEVEL + 1
_MAX_TIME: Final = 23
_MAX_LEVEL: Final = 16
"""What else stands there is none of ours, and is cut."""

_BELOW: Final = "    "
_DRAWING_SECONDS: Final = 0.5
_DRAWING_SHARE: Final = 0.25
"""How long rich may draw at once, and which part of all time: it takes a hundred times as long as writing, and a storm
of errors must not have the interpreter for itself."""

_MAX_KEYS: Final = 1_000
_MAX_NESTED: Final = 8
"""How deep a nested value is laid out; what is deeper is wrapped as text."""

_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
"""Unlike orjson's, with spaces between the parts."""

_BARE: Final = re.compile(r'[^ "=]+')


class _Drawing(Protocol):
    def lines(self, exception: Mapping[str, Any], columns: int | None) -> list[str]: ...


class _Keys(dict[str, tuple[str, str]]):
    """What stands before the values of fields, as it is measured and as it is painted, by name."""

    def __init__(self, paint: Callable[[str, str], str]) -> None:
        super().__init__()
        self._paint = paint

    def __missing__(self, name: str) -> tuple[str, str]:
        key = f"{name if name.isidentifier() else _value(name)}="
        made = key, self._paint(_DIM, key)
        if len(self) < _MAX_KEYS:
            self[name] = made
        return made


class Pretty:
    """The format of that name."""

    media_type: Final = "text/plain; charset=utf-8"

    def __init__(self, screen: Screen | None = None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Write for *screen*; None means one without colours, on which nothing is wrapped."""
        self._screen = screen or Screen()
        self._paint: Callable[[str, str], str] = _paint if self._screen.colour else _leave
        self._keys = _Keys(self._paint)
        self._second = ""
        self._local_second = ""
        self._boxes: _Drawing | None = None
        self._draws = True
        """Whether rich may be there, which is found out with the first exception."""
        self._clock = clock
        self._drawn_at = clock()
        self._seconds_left = _DRAWING_SECONDS

    def __call__(self, line: bytes) -> bytes:
        """Return one record as text, ending in a newline."""
        return self.text(line).encode("utf-8", "backslashreplace")

    def text(self, line: bytes) -> str:
        """Return one record as text, ending in a newline."""
        record = parse(line)
        width = self._screen.width
        access = is_access(record)
        logger, paint = record.get("logger"), self._paint
        exception = record.pop("exception") if isinstance(record.get("exception"), dict) else None
        stack = record.pop("stack") if isinstance(record.get("stack"), str) else None
        if "trace_id" in record:  # long, and the last thing that is looked for
            record["trace_id"] = record.pop("trace_id")
        at, level = self._local_time(record.get("timestamp", "")), _shown(record.get("level", ""))
        head = (at, f"{level[:_MAX_LEVEL]:<{_LEVEL}}")
        painted_head = f"{paint(_DIM, at)} {paint(_COLOURS.get(level, ''), head[1])}"
        event, painted = self._request(record) if access else self._event(record)
        hidden = _LEFT_OUT_OF_ACCESS if access else _LEFT_OUT
        fields = [(name, value) for name, value in record.items() if name not in hidden]
        named = "" if access or logger in ("root", None) else f"[{_shown(logger)}]"
        if width is None:
            shown = self._one_line(painted_head, event, painted, fields, named)
        else:
            used = columns(head[0]) + 1 + columns(head[1])
            lines = self._wrapped(width, painted_head, used, event, painted, fields, named)
            shown = "\n".join(lines) + "\n"
        if exception is not None:
            shown += "".join([f"{_BELOW}{part}\n" for part in self._exception(exception, width)])
        if stack is not None:
            frames: list[tracebacks.Line] = [("code", line) for line in tracebacks.text_lines(stack)]
            shown += "".join([f"{_BELOW}{part}\n" for part in self._plain(frames, width)])
        return shown

    # The line

    def _event(self, record: Mapping[str, Any]) -> tuple[str, str]:
        event = record.get("event", "")
        shown = escape(event) if isinstance(event, str) else _shown(event)
        return shown, self._paint(_BOLD, shown)

    def _request(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """Say what was asked for, how that was answered, and in what time; and how it ended, if not well."""
        query, status, duration = record.get("query"), record.get("status_code"), record.get("duration_ms")
        path = record["path"] if isinstance(record["path"], str) else _inline(record["path"])
        target = f"{path}?{query}" if query and isinstance(query, str) else path
        asked = f"{_value(record.get('method', 'WS'))} {_target(target)}"
        answered = _shown(status)
        rest = f" {duration:.1f} ms" if type(duration) in (int, float) else ""
        event = record.get("event")
        if event not in ("request completed", "websocket closed"):
            rest += f" {_shown(event)}"
        colour = _STATUS.get(status // 100, "") if type(status) is int else ""
        paint = self._paint
        return f"{asked} {answered}{rest}", f"{paint(_BOLD, asked)} {paint(colour, answered)}{rest}"

    def _one_line(self, head: str, event: str, painted: str, fields: list[tuple[str, Any]], named: str) -> str:
        keys = self._keys
        parts = [f"{keys[name][1]}{_value(value)}" for name, value in fields]
        if named:
            parts.append(self._paint(_DIM, named))
        if parts:
            painted += " " * (_EVENT - columns(event))
        return " ".join([head, painted, *parts]) + "\n"

    def _wrapped(
        self, width: int, line: str, used: int, event: str, painted: str, fields: list[tuple[str, Any]], named: str
    ) -> Iterator[str]:
        """Lay out the same on lines of at most *width* columns, all but the first of them indented.

        *line* is the head of the first one, which fills *used* columns.
        """
        paint = self._paint
        indent = min(_INDENT, width // 3)
        room = width - indent
        margin = " " * indent
        if width - used - 1 < room // 2:  # a screen so narrow that the head has it for itself
            yield line
            line, used = margin[:-1], indent - 1
        size = columns(event)
        if size <= width - used - 1:
            line, used = f"{line} {painted}", used + 1 + size
        else:
            first, *more = pieces(event, width - used - 1, room)
            line = f"{line} {paint(_BOLD, first)}"
            for piece in more:
                yield line
                line, used = margin + paint(_BOLD, piece), indent + columns(piece)
        gap = max(1, _EVENT + 1 - size)
        for name, value in fields:
            key, painted = self._keys[name]
            said = _value(value)
            size = columns(key) + columns(said)
            if used + gap + size <= width:
                line += f"{' ' * gap}{painted}{said}"
                used += gap + size
            elif size <= room:
                yield line
                line, used = f"{margin}{painted}{said}", indent + size
            else:
                yield line
                *others, last = _laid_out(key, value, said, room)
                for other in others:
                    yield margin + (painted + other[len(key) :] if other.startswith(key) else other)
                line = margin + (painted + last[len(key) :] if last.startswith(key) else last)
                used = indent + columns(last)
            gap = 1
        if named:
            size = columns(named)
            if used + gap + size <= width:
                line += " " * gap + paint(_DIM, named)
            else:
                yield line
                first, *more = pieces(named, room, room)
                line = margin + paint(_DIM, first)
                for piece in more:
                    yield line
                    line = margin + paint(_DIM, piece)
        yield line

    def _local_time(self, timestamp: Any) -> str:
        """Return the time of day here; what is no time as it is."""
        if not isinstance(timestamp, str):
            return _shown(timestamp)[:_MAX_TIME]
        canonical = len(timestamp) == 27 and timestamp[-1] == "Z" and timestamp.isascii() and timestamp[20:26].isdigit()
        if canonical and timestamp[:19] == self._second:
            return f"{self._local_second}.{timestamp[20:23]}"
        try:
            moment = datetime.fromisoformat(timestamp)
            local = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone().isoformat(timespec="milliseconds")
        except (ValueError, OverflowError, OSError):  # none, or one of a year that no clock has
            return escape(timestamp)[:_MAX_TIME]
        if canonical:
            self._second, self._local_second = timestamp[:19], local[11:19]
        return local[11:23]

    # What is below it

    def _exception(self, exception: Mapping[str, Any], width: int | None) -> Iterable[str]:
        if self._draws and (self._screen.colour or width is not None):
            try:
                boxes = self._drawing()
                if self._may_draw():
                    drawn = boxes.lines(exception, None if width is None else width - len(_BELOW))
                    self._seconds_left -= self._clock() - self._drawn_at
                    return drawn
            except MissingExtraError:
                self._draws = False
            except Exception as error:  # noqa: BLE001 - whatever rich cannot draw can still be told
                report(f"rich cannot draw an exception: {type(error).__name__}: {text(error, 200)}", key="rich")
        return self._plain(tracebacks.lines(exception), width)

    def _drawing(self) -> _Drawing:
        if self._boxes is None:
            from fapilog.formats.boxes import Boxes  # noqa: PLC0415 - an extra, and slow to load

            self._boxes = Boxes(colour=self._screen.colour)
        return self._boxes

    def _may_draw(self) -> bool:
        now = self._clock()
        earned = (now - self._drawn_at) * _DRAWING_SHARE
        self._seconds_left, self._drawn_at = min(_DRAWING_SECONDS, self._seconds_left + earned), now
        return self._seconds_left > 0

    def _plain(self, lines: Iterable[tracebacks.Line], width: int | None) -> Iterator[str]:
        for role, line in lines:
            colour = _ROLES.get(role, "")
            if width is None or columns(line) <= width - len(_BELOW):
                yield self._paint(colour, line)
                continue
            room = width - len(_BELOW)
            inner = " " * min(len(line) - len(line.lstrip()) + 4, room // 3)
            first, *more = pieces(line, room, room - len(inner))
            yield self._paint(colour, first)
            yield from (inner + self._paint(colour, piece) for piece in more)


def pretty(line: bytes, *, colour: bool, width: int | None = None) -> str:
    """Return one record as text for a terminal, ending in a newline.

    Args:
        line: The record as it was encoded.
        colour: Whether to use ANSI colours.
        width: How many columns there are; None means that nothing is wrapped.
    """
    return Pretty(Screen(colour=colour, width=width)).text(line)


def _shown(value: Any) -> str:
    return escape(value) if isinstance(value, str) else _inline(value)


def _value(value: Any) -> str:
    """Return a value as it stands behind its name: text in quotes where it would not be seen where it ends."""
    if not isinstance(value, str):
        return _inline(value)
    return value if value.isalnum() or (_BARE.fullmatch(value) and value.isprintable()) else _quoted(value)


def _target(value: str) -> str:
    return value if value.isprintable() and " " not in value and '"' not in value else _quoted(value)


def _quoted(value: str) -> str:
    return '"' + escape(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _inline(value: Any) -> str:
    if type(value) is int:
        return str(value)
    return escape(_encode(value)) if isinstance(value, dict | list | str) else orjson.dumps(value).decode()


def _laid_out(key: str, value: Any, said: str, room: int) -> list[str]:
    """Return what is too long for one line of so many columns as several."""
    if isinstance(value, dict | list):
        return _nested(key, value, room, 0)
    return _cut(f"{key}{said}", room)


def _nested(before: str, value: Any, room: int, depth: int) -> list[str]:
    """Lay out a value with *before* in front of it: on one line if it fits, else each of its parts on its own."""
    said = before + _inline(value)
    if columns(said) <= room:
        return [said]
    if not isinstance(value, dict | list) or not value or depth >= _MAX_NESTED or room < 16:
        return _cut(said, room)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        return [*_cut(before + opening, room), *(f"  {line}" for line in _filled(value, room - 2)), closing]
    made = [before + opening]
    named = value.items() if isinstance(value, dict) else (("", each) for each in value)
    for name, each in named:
        lines = _nested(f"{_inline(name)}: " if isinstance(value, dict) else "", each, room - 3, depth + 1)
        lines[-1] += ","
        made += [f"  {line}" for line in lines]
    made[-1] = made[-1][:-1]
    return [*_cut(made[0], room), *made[1:], closing]


def _filled(values: list[Any], room: int) -> Iterator[str]:
    """Lay out plain values side by side, as many on a line as there is room for."""
    line = ""
    for number, value in enumerate(values, 1):
        said = _inline(value) + ("," if number < len(values) else "")
        if line and columns(line) + 1 + columns(said) <= room:
            line = f"{line} {said}"
            continue
        if line:
            yield line
        *others, line = _cut(said, room)
        yield from others
    yield line


def _cut(said: str, room: int) -> list[str]:
    first, *more = pieces(said, room, room - 2)
    return [first, *(f"  {piece}" for piece in more)]


def _paint(code: str, said: str) -> str:
    return f"{code}{said}{_RESET}" if said and code else said


def _leave(_code: str, said: str) -> str:
    return said
