"""Draw what was counted: bars over time, tables, and the spans of a trace as a tree."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fapilog.cli.records import line_of
from fapilog.cli.terminal import paint

if TYPE_CHECKING:
    from fapilog.store import LogRecord
    from fapilog.store.statistics import VolumeBucket
    from fapilog.store.traces import Span

MAX_BARS: Final = 24
_LONGEST_BAR: Final = 60
_MAX_INDENT: Final = 16

_LEVELS: Final = ("trace", "debug", "info", "success", "warning", "error", "critical")
_COLOURS: Final = {"warning": "yellow", "error": "red", "critical": "red", "trace": "dim", "debug": "cyan"}
_FILLS: Final = {"warning": ("▒", "+"), "error": ("█", "#"), "critical": ("█", "#")}
_FILL: Final = ("░", ".")


class Table(NamedTuple):
    """Rows to be shown as `fapilog.store.output.write_table` does."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """DuckDB's names; numbers stand to the right."""

    rows: list[tuple[Any, ...]]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)


def drawable(text: str) -> bool:
    """Whether standard output can show *text*."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bars(volume: "Sequence[VolumeBucket]", step_seconds: int, *, width: int, colour: bool) -> list[str]:
    """Draw how much was logged in each step of time, by level, the worst at the end of each bar.

    Args:
        volume: The steps, oldest first; neighbours are put together if there are too many.
        step_seconds: How long each is.
        width: How many columns there are.
        colour: Whether to tell levels by colours; else by how dark a bar is.
    """
    together = -(-len(volume) // MAX_BARS) or 1
    groups = [volume[start : start + together] for start in range(0, len(volume), together)]
    counts = [_added([bucket.levels for bucket in group]) for group in groups]
    if not counts:
        return []
    most = max(sum(levels.values()) for levels in counts)
    labels = _labels([group[0].start for group in groups], step_seconds * together)
    numbers = [f"{sum(levels.values()):,}" for levels in counts]
    room = min(_LONGEST_BAR, max(width - len(labels[0]) - max(map(len, numbers)) - 3, 10))
    return [
        f"{label} {_bar(levels, most, room, colour=colour)} {number}".rstrip()
        for label, levels, number in zip(labels, counts, numbers, strict=True)
    ]


def legend(levels: Mapping[str, int], *, colour: bool) -> str:
    """Say how many records each level has, in what its bar is drawn with."""
    from fapilog.formats import escape  # noqa: PLC0415 - help and completion do without

    parts = [f"{_drawn(level, 2, colour=colour)} {escape(level)} {levels[level]:,}" for level in _ordered(levels)]
    return "  ".join(parts)


def tree(spans: "Sequence[Span]", *, width: int | None, colour: bool) -> Iterator[str]:
    """Draw the spans of a trace, each with its records and the spans it called, in order of time."""
    from fapilog.formats import Screen  # noqa: PLC0415 - help and completion do without
    from fapilog.formats.pretty import Pretty  # noqa: PLC0415 - as above
    from fapilog.store.traces import Span  # noqa: PLC0415 - as above

    fork, end, bar, blank = ("├─ ", "└─ ", "│  ", "   ") if drawable("├└│─") else ("|- ", "`- ", "|  ", "   ")
    waiting: list[tuple[int, str, str, Span | LogRecord]] = [(0, "", "", span) for span in reversed(spans)]
    while waiting:
        depth, first, below, entry = waiting.pop()
        if not isinstance(entry, Span):
            room = None if width is None else max(width - len(first), 40)
            line = {name: value for name, value in entry.flat().items() if name != "trace_id"}
            shown = Pretty(Screen(colour=colour, width=room))(line_of(line)).decode()
            for number, part in enumerate(shown.splitlines()):
                yield f"{paint(below if number else first, 'dim', colour=colour)}{part}"
            continue
        yield paint(first, "dim", colour=colour) + _head(entry, colour=colour)
        inside: list[Span | LogRecord] = [*_told(entry), *entry.children]
        under = below if depth <= _MAX_INDENT else below[: 3 * _MAX_INDENT]
        for number, inner in enumerate(sorted(inside, key=_moment, reverse=True)):
            waiting.append((depth + 1, under + (fork if number else end), under + (bar if number else blank), inner))


def _head(span: "Span", *, colour: bool) -> str:
    """Say what a span is: a request and how it went, or only its id."""
    from fapilog.formats import escape  # noqa: PLC0415 - as above

    access = span.access
    if access is None:
        what = paint(f"span {escape(span.span_id)}" if span.span_id else "no span", "bold", colour=colour)
    else:
        status = access.status_code
        bad = status is None or status >= 500
        what = paint(escape(f"{access.method} {access.path or access.route}"), "bold", colour=colour)
        warn = status is not None and status >= 400
        what += " " + paint(str(status), "red" if bad else "yellow" if warn else "green", colour=colour)
    parts = [what, escape(span.service or "")]
    if span.duration_ms is not None:
        parts.append(f"{span.duration_ms:,.1f} ms")
    if span.start is not None:
        parts.append(paint(f"from {span.start:%H:%M:%S.%f}"[:-3], "dim", colour=colour))
    return "  ".join(part for part in parts if part)


def _told(span: "Span") -> "list[LogRecord]":
    """The records of a span but the one its head tells of, unless that holds an exception."""
    return [record for record in span.records if record is not span.access or record.exception is not None]


def _moment(entry: Any) -> tuple[bool, Any]:
    moment = entry.timestamp if hasattr(entry, "timestamp") else entry.start
    return moment is None, moment


def _labels(starts: Sequence[datetime], seconds: int) -> list[str]:
    if seconds >= 86_400:
        return [f"{start:%Y-%m-%d}" for start in starts]
    clock = "%H:%M:%S" if seconds < 60 else "%H:%M"
    days = starts[-1].date() != starts[0].date()
    return [start.strftime(f"%m-%d {clock}" if days else clock) for start in starts]


def _bar(levels: Mapping[str, int], most: int, room: int, *, colour: bool) -> str:
    total = sum(levels.values())
    if not total:
        return ""
    ordered = _ordered(levels)
    cells = max(round(total / most * room), 1)
    shares = {level: round(levels[level] / total * cells) for level in ordered}
    for level in ordered:  # what is rare and bad must be seen
        if level in _FILLS:
            shares[level] = max(shares[level], 1)
    largest = max(ordered, key=lambda level: shares[level])
    shares[largest] = max(shares[largest] + cells - sum(shares.values()), 1)
    return "".join(_drawn(level, shares[level], colour=colour) for level in ordered)


def _drawn(level: str, cells: int, *, colour: bool) -> str:
    drawn, plain = ("█", "#") if colour else _FILLS.get(level, _FILL)
    return paint((drawn if drawable("░▒█") else plain) * cells, _COLOURS.get(level, "green"), colour=colour)


def _ordered(levels: Mapping[str, int]) -> list[str]:
    return [level for level in _LEVELS if levels.get(level)] + sorted(levels.keys() - set(_LEVELS))


def _added(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    added: dict[str, int] = {}
    for levels in parts:
        for level, records in levels.items():
            added[level] = added.get(level, 0) + records
    return added
