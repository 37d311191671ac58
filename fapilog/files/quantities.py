"""Sizes, durations, times of day and weekdays as people write them.

The words are those of loguru, https://loguru.readthedocs.io/en/stable/api/logger.html#file, but for one: a size is
always in bytes, whatever the case of its letters, where loguru takes ``b`` for bits.
"""

import math
import re
from datetime import time, timedelta
from typing import Final

_NUMBER: Final = r"(\+?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)"
_UNITS: Final = " kmgtpezy"
_SIZE: Final = re.compile(rf"{_NUMBER}\s*(?:([kmgtpezy]?)(i?)b)?", re.IGNORECASE | re.ASCII)
_PART: Final = rf"{_NUMBER}\s*([a-z]+)"
_DURATION: Final = re.compile(rf"{_PART}(?:[\s,]*{_PART})*", re.IGNORECASE | re.ASCII)
_TIME: Final = re.compile(r"(\d{1,2})(?::(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?(?:\s*([ap])m)?", re.IGNORECASE | re.ASCII)
_SECONDS: Final = (
    (r"y|years?", 31_536_000.0),
    (r"months?", 2_628_000.0),
    (r"w|weeks?", 604_800.0),
    (r"d|days?", 86_400.0),
    (r"h|hours?", 3_600.0),
    (r"mins?|minutes?", 60.0),
    (r"s|secs?|seconds?", 1.0),
    (r"ms|milliseconds?", 1e-3),
    (r"us|microseconds?", 1e-6),
)
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def parse_size(text: str) -> int | None:
    """Return how many bytes ``500 MB``, ``1.5 GiB`` or ``1000000`` is; None if *text* is no size, or an endless one."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, unit, binary = found.groups()
    size = float(number) * float(1024 if binary else 1000) ** (_UNITS.index(unit.lower()) if unit else 0)
    return int(size) if math.isfinite(size) else None


def parse_duration(text: str) -> timedelta | None:
    """Return how long ``10 days`` or ``1h 30 minutes`` or ``1 week, 3 days`` is; None if *text* is no duration.

    A month is a twelfth of a year of 365 days.
    """
    text = text.strip()
    if not _DURATION.fullmatch(text):
        return None
    seconds = 0.0
    for number, unit in re.findall(_PART, text, re.IGNORECASE | re.ASCII):
        length = next((each for words, each in _SECONDS if re.fullmatch(words, unit, re.IGNORECASE)), None)
        if length is None:
            return None
        seconds += float(number) * length
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        return None


def parse_time(text: str) -> time | None:
    """Return the time of day ``18:00``, ``18:00:30``, ``18`` or ``6 pm``; None if *text* is none."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if found[5]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found[5].lower() == "p" else 0)
    try:
        return time(hour, minute, second, int((found[4] or "0").ljust(6, "0")))
    except ValueError:
        return None


def parse_weekday(text: str) -> int | None:
    """Return the number of a day, ``monday`` or ``w0`` being 0; None if *text* is none."""
    name = text.strip().lower()
    if name in _DAYS:
        return _DAYS.index(name)
    return int(name[1]) if re.fullmatch(r"w[0-6]", name) else None
