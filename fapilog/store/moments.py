"""Points in time as people write them: ``1h`` ago, ``yesterday``, ``2026-11-20T08:30``."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

_AGO: Final = re.compile(r"([0-9]{1,9})\s*([a-z]+)", re.ASCII | re.IGNORECASE)
_SECONDS: Final = {
    unit: seconds
    for units, seconds in (
        ("s sec secs second seconds", 1),
        ("m min mins minute minutes", 60),
        ("h hour hours", 3_600),
        ("d day days", 86_400),
        ("w week weeks", 604_800),
    )
    for unit in units.split()
}
_DAYS: Final = {"today": 0, "yesterday": 1}
_PRECISIONS: Final = (
    (re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}"), timedelta(days=1)),
    (re.compile(r"[^.]*[T ][0-9]{2}(Z|[+-][0-9:]+)?", re.ASCII), timedelta(hours=1)),
    (re.compile(r"[^.]*[T ][0-9]{2}:?[0-9]{2}(Z|[+-][0-9:]+)?", re.ASCII), timedelta(minutes=1)),
    (re.compile(r"[^.,]*"), timedelta(seconds=1)),
)


def parse_moment(text: str, *, now: datetime | None = None) -> datetime:
    """Return the time that *text* names, in UTC: the first moment of it if it names a day or a minute.

    It is a time ago (``90s``, ``30m``, ``1h``, ``7d``, ``2w``), ``now``, ``today`` or ``yesterday`` (days begin at
    midnight UTC), or a date or time as ISO 8601 has it, in UTC unless it says otherwise.

    Raises:
        ValueError: It is none of these.
    """
    return _parse(text, datetime.now(UTC) if now is None else now.astimezone(UTC))[0]


def parse_span(text: str, *, now: datetime | None = None) -> tuple[datetime, datetime]:
    """Return from when to before when what *text* names lasts, such as a day, a minute, or a microsecond.

    Raises:
        ValueError: As `parse_moment`.
    """
    begin, length = _parse(text, datetime.now(UTC) if now is None else now.astimezone(UTC))
    try:
        return begin, begin + length
    except OverflowError:
        raise ValueError(f"{text!r} is the end of time") from None


def comparison_span(
    operator: str, text: str, *, now: datetime | None = None
) -> tuple[datetime | None, datetime | None]:
    """Return from when to before when a time is that compares so with *text*; None for no bound.

    After a day is from the next day on, and up to a day is up to its end.
    """
    begin, end = parse_span(text, now=now)
    match operator:
        case "=":
            return begin, end
        case ">":
            return end, None
        case ">=":
            return begin, None
        case "<":
            return None, begin
        case _:
            return None, end


def range_span(
    low: str | None, high: str | None, *, now: datetime | None = None
) -> tuple[datetime | None, datetime | None]:
    """Return from when to before when a time is that lies from *low* to *high*, both included; None for no bound."""
    begin = None if low is None else parse_span(low, now=now)[0]
    return begin, None if high is None else parse_span(high, now=now)[1]


def _parse(text: str, now: datetime) -> tuple[datetime, timedelta]:
    word = text.strip().lower()
    instant = timedelta(microseconds=1)
    if word == "now":
        return now, instant
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if word in _DAYS:
            return midnight - timedelta(days=_DAYS[word]), timedelta(days=1)
        if (ago := _AGO.fullmatch(word)) is not None and ago[2] in _SECONDS:
            return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]]), instant
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; write 30m, 1h or 7d ago, today, yesterday, or {date(2026, 11, 20)}T08:30"
        ) from None
    precise = (length for shape, length in _PRECISIONS if shape.fullmatch(text.strip().upper()))
    return moment, next(precise, instant)
