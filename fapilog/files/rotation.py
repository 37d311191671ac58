"""When a file is full or old enough to be put aside, and the next one begun.

Times are those of the local time zone, as with loguru, so that ``00:00`` is the midnight of whoever reads the logs.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any, BinaryIO, Final, TypeAlias

from fapilog.errors import ConfigurationError
from fapilog.files.quantities import parse_duration, parse_size, parse_time, parse_weekday

ShouldRotate: TypeAlias = Callable[[str, BinaryIO], bool]
"""Says whether a new file is begun before the given text is written to the given file, which is open for reading."""

RotationRule: TypeAlias = str | int | float | timedelta | time | ShouldRotate

GRAMMAR: Final = (
    "write a size ('500 MB'), an interval ('1 hour', '1 week, 3 days'), hourly, daily, weekly, monthly or yearly, "
    "a time of day ('00:00', '6 pm'), a weekday ('monday', 'monday 12:00', 'w0 at 12:00'), 'module:function', "
    "or a list of these"
)

_Next: TypeAlias = Callable[[datetime], datetime]
_WEEKDAY: Final = re.compile(r"(\w+)(?:\s+at)?\s+(\S.*)", re.ASCII)
_HOUR: Final = re.compile(r"\d\d?", re.ASCII)
"""Not so many bytes: nobody wants files of those, and loguru takes it for the time."""

_MIDNIGHT: Final = time()


@dataclass(frozen=True)
class Rotation:
    """All the rules of one file; the first that holds counts."""

    max_bytes: int | None = None
    """How large a file may grow."""

    times: tuple[_Next, ...] = ()
    """Functions that return the first moment of rotation after the given one, both in local time."""

    asked: tuple[ShouldRotate, ...] = ()
    """Functions that are asked before each write."""

    is_set: bool = field(default=False)
    """Whether there is any rule at all."""

    @classmethod
    def parse(cls, given: RotationRule | Sequence[RotationRule] | None) -> "Rotation":
        """Read what a user wrote; None and an empty list are no rotation.

        Raises:
            ConfigurationError: A part of it is no rule; the message names it and what would be one.
        """
        rules = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
        sizes: list[int] = []
        times: list[_Next] = []
        asked: list[ShouldRotate] = []
        for rule in rules:
            read = _read(rule)
            if isinstance(read, int):
                sizes.append(read)
            elif isinstance(read, _Asked):
                asked.append(read.function)
            else:
                times.append(read)
        return cls(min(sizes, default=None), tuple(times), tuple(asked), bool(rules))

    def due(self, begun: float) -> float:
        """Return when a file that was begun at *begun* is old enough, in seconds since the epoch; infinity if never."""
        moment = datetime.fromtimestamp(begun)
        return min((_after(next_one, moment, begun) for next_one in self.times), default=math.inf)


@dataclass(frozen=True)
class _Asked:
    """Keeps a user's function apart from those made here."""

    function: ShouldRotate


def _read(rule: Any) -> "int | _Next | _Asked":
    read: int | _Next | _Asked | None = None
    if isinstance(rule, bool):
        pass
    elif isinstance(rule, int | float):
        read = int(rule) if math.isfinite(rule) else None
    elif isinstance(rule, timedelta):
        read = _every(rule) if rule > timedelta() else None
    elif isinstance(rule, time):
        read = _daily_at(rule)
    elif isinstance(rule, str):
        read = _read_text(rule)
    elif callable(rule):
        return _Asked(rule)
    if read is None or (isinstance(read, int) and read <= 0):
        raise ConfigurationError(f"{rule!r} does not say when to rotate; {GRAMMAR}")
    return read


def _read_text(text: str) -> int | _Next | None:
    word = text.strip().lower()
    if word in _FREQUENCIES:
        return _FREQUENCIES[word]
    if (size := parse_size(text)) is not None and not _HOUR.fullmatch(word):
        return size
    if (interval := parse_duration(text)) is not None:
        return _every(interval) if interval > timedelta() else None
    if (moment := parse_time(text)) is not None:
        return _daily_at(moment)
    if (day := parse_weekday(text)) is not None:
        return _weekly_at(day, _MIDNIGHT)
    if (found := _WEEKDAY.fullmatch(word)) is not None:
        day, moment = parse_weekday(found[1]), parse_time(found[2])
        if day is not None and moment is not None:
            return _weekly_at(day, moment)
    return None


def _after(next_one: _Next, moment: datetime, begun: float) -> float:
    """Return the first moment after *begun*; where clocks are put back the same local time comes twice."""
    for _ in range(3):
        moment = next_one(moment)
        try:
            found = moment.timestamp()
        except (OverflowError, ValueError, OSError):  # beyond the year 9999
            return math.inf
        if found > begun:
            return found
    return math.inf


def _every(interval: timedelta) -> _Next:
    def next_one(moment: datetime) -> datetime:
        try:  # of the clock itself: an hour is an hour on the day the clocks change
            return datetime.fromtimestamp(moment.timestamp() + interval.total_seconds())
        except (OverflowError, ValueError, OSError):
            return datetime.max

    return next_one


def _daily_at(at: time) -> _Next:
    def next_one(moment: datetime) -> datetime:
        if at.tzinfo is not None:
            there = moment.astimezone(at.tzinfo)
            found = datetime.combine(there, at)
            return (found if found > there else found + timedelta(days=1)).astimezone().replace(tzinfo=None)
        found = datetime.combine(moment, at)
        return found if found > moment else found + timedelta(days=1)

    return next_one


def _weekly_at(day: int, at: time) -> _Next:
    def next_one(moment: datetime) -> datetime:
        found = datetime.combine(moment + timedelta(days=(day - moment.weekday()) % 7), at)
        return found if found > moment else found + timedelta(days=7)

    return next_one


def _hourly(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


def _monthly(moment: datetime) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month, 12)
    return datetime(year, month + 1, 1)


def _yearly(moment: datetime) -> datetime:
    return datetime(moment.year + 1, 1, 1)


_FREQUENCIES: Final[dict[str, _Next]] = {
    "hourly": _hourly,
    "daily": _daily_at(_MIDNIGHT),
    "weekly": _weekly_at(0, _MIDNIGHT),
    "monthly": _monthly,
    "yearly": _yearly,
}
