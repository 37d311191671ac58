import math
import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from fapilog.errors import ConfigurationError
from fapilog.files.rotation import Rotation


@pytest.fixture(autouse=True)
def _in_vienna(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


def due(rule: Any, begun: str) -> str:
    moment = Rotation.parse(rule).due(datetime.fromisoformat(begun).timestamp())
    return datetime.fromtimestamp(moment).isoformat(sep=" ", timespec="minutes")


@pytest.mark.parametrize(
    ("rule", "begun", "expected"),
    [
        ("hourly", "2026-11-20 12:49", "2026-11-20 13:00"),
        ("daily", "2026-11-20 12:49", "2026-11-21 00:00"),
        ("daily", "2026-11-20 00:00", "2026-11-21 00:00"),
        ("weekly", "2026-11-20 12:49", "2026-11-23 00:00"),
        ("monthly", "2026-12-31 23:59", "2027-01-01 00:00"),
        ("monthly", "2026-01-31 12:00", "2026-02-01 00:00"),
        ("yearly", "2024-02-29 12:00", "2025-01-01 00:00"),
        ("00:00", "2026-11-20 12:49", "2026-11-21 00:00"),
        ("18:00", "2026-11-20 12:49", "2026-11-20 18:00"),
        ("6 am", "2026-11-20 12:49", "2026-11-21 06:00"),
        ("18", "2026-11-20 12:49", "2026-11-20 18:00"),
        (time(13, 0), "2026-11-20 12:49", "2026-11-20 13:00"),
        (time(13, 0, tzinfo=UTC), "2026-11-20 12:49", "2026-11-20 14:00"),
        ("1 hour", "2026-11-20 12:49", "2026-11-20 13:49"),
        (timedelta(days=2), "2026-11-20 12:49", "2026-11-22 12:49"),
        ("monday", "2026-11-20 12:49", "2026-11-23 00:00"),
        ("monday 12:00", "2026-11-20 12:49", "2026-11-23 12:00"),
        ("Friday at 12:00", "2026-11-20 12:49", "2026-11-27 12:00"),
        ("friday at 1 pm", "2026-11-20 12:49", "2026-11-20 13:00"),
        ("w4 at 13:00", "2026-11-20 12:49", "2026-11-20 13:00"),
        ("w4 at 13", "2026-11-20 12:49", "2026-11-20 13:00"),
        (["monthly", "18:00", "500 MB"], "2026-11-20 12:49", "2026-11-20 18:00"),
    ],
)
def test_a_file_is_due_at_the_first_moment_after_it_was_begun(rule: Any, begun: str, expected: str) -> None:
    assert due(rule, begun) == expected


def test_an_interval_is_of_the_clock_and_a_day_of_the_calendar_when_the_clocks_change() -> None:
    assert due("daily", "2026-10-24 12:00") == "2026-10-25 00:00"
    assert due("daily", "2026-10-25 00:00") == "2026-10-26 00:00"
    begun = datetime.fromisoformat("2026-10-25 00:00").timestamp()
    assert Rotation.parse("daily").due(begun) - begun == 25 * 3600
    assert Rotation.parse("24 hours").due(begun) - begun == 24 * 3600


def test_a_time_that_comes_twice_as_clocks_are_put_back_is_always_later_than_the_beginning() -> None:
    first = datetime.fromisoformat("2026-10-25 02:10").timestamp()
    for begun in range(int(first), int(first) + 3 * 3600, 600):
        for rule in ("hourly", "02:30", "30 minutes"):
            assert begun < Rotation.parse(rule).due(begun) <= begun + 25 * 3600


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("500 MB", 500_000_000), (1_000, 1_000), ("1000", 1_000), (1e6, 1_000_000), (["1 MB", "daily", "10 kB"], 10_000)],
)
def test_a_size_is_the_smallest_of_those_given(rule: Any, expected: int) -> None:
    assert Rotation.parse(rule).max_bytes == expected


def test_a_function_is_kept_to_be_asked() -> None:
    def asked(text: str, file: object) -> bool:
        return True

    assert Rotation.parse([asked, "1 MB"]).asked == (asked,)


@pytest.mark.parametrize("rule", [None, []])
def test_no_rule_is_no_rotation(rule: Any) -> None:
    assert not Rotation.parse(rule).is_set
    assert Rotation.parse(rule).due(0.0) == math.inf


@pytest.mark.parametrize(
    "rule",
    [
        "soon",
        "",
        "5 parsecs",
        "25:00",
        "mondey 12:00",
        "monday 25:00",
        "0 MB",
        "1e400 MB",
        "0 s",
        "45",
        math.inf,
        math.nan,
        0,
        -5,
        True,
        timedelta(),
        object(),
    ],
)
def test_what_is_no_rule_is_named_beside_the_grammar(rule: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Rotation.parse(["1 MB", rule])
    assert repr(rule) in str(caught.value)
    assert "write a size ('500 MB'), an interval ('1 hour'" in str(caught.value)
