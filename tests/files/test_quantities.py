from datetime import time, timedelta

import pytest

from fapilog.files.quantities import parse_duration, parse_size, parse_time, parse_weekday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500 MB", 500_000_000),
        ("500mb", 500_000_000),
        (" 1.5 GiB ", 1_610_612_736),
        (".5 kB", 500),
        ("100 kb", 100_000),
        ("10 B", 10),
        ("1 TB", 10**12),
        ("1000000", 1_000_000),
        ("MB", None),
        ("5 XB", None),
        ("1 hour", None),
        ("-1 MB", None),
        ("1e3 MB", 10**9),
        ("+1 ZB", 10**21),
        ("1e400 MB", None),
        ("9" * 400, None),
    ],
)
def test_a_size_is_a_number_with_a_unit_in_any_case_and_always_bytes(text: str, expected: int | None) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 hour", timedelta(hours=1)),
        ("10h", timedelta(hours=10)),
        ("1.5 days", timedelta(hours=36)),
        ("1 week, 3 days", timedelta(days=10)),
        ("1h 30 minutes", timedelta(minutes=90)),
        ("2 min 5s", timedelta(seconds=125)),
        ("3 w", timedelta(weeks=3)),
        ("1 month", timedelta(seconds=2_628_000)),
        ("1 YEAR", timedelta(days=365)),
        ("1e1 days", timedelta(days=10)),
        ("1e400 days", None),
        ("250 ms", timedelta(milliseconds=250)),
        ("1 fortnight", None),
        ("hour", None),
        ("1 hour and a half", None),
        ("999999999999 years", None),
        ("10", None),
    ],
)
def test_a_duration_is_one_or_more_numbers_with_units(text: str, expected: timedelta | None) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00", time()),
        ("18:30", time(18, 30)),
        ("18:30:15.5", time(18, 30, 15, 500_000)),
        ("6 pm", time(18)),
        ("12 AM", time()),
        ("12:15 pm", time(12, 15)),
        ("25:00", None),
        ("13 pm", None),
        ("12", time(12)),
        ("24", None),
        ("12:5", None),
    ],
)
def test_a_time_of_day_has_an_hour_and_perhaps_minutes_or_half_a_day(text: str, expected: time | None) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("monday", 0), ("Sunday", 6), ("w2", 2), ("w7", None), ("mon", None)])
def test_a_weekday_is_its_name_or_number(text: str, expected: int | None) -> None:
    assert parse_weekday(text) == expected
