import threading
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fapilog import configure_logging, get_logger, log
from fapilog.errors import ConfigurationError
from fapilog.processors.throttle import Throttle
from fapilog.testing import capture
from fapilog.types import ERROR, INFO, LEVEL_NAMES


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def passes(throttle: Throttle, event: str = "e", level: int = INFO, **fields: Any) -> bool:
    try:
        throttle(None, "", {"event": event, "level": LEVEL_NAMES[level], "logger": "x", **fields})
    except structlog.DropEvent:
        return False
    return True


def test_so_many_pass_at_once_and_then_one_whenever_the_time_for_it_is_over() -> None:
    clock = Clock()
    throttle = Throttle(10, window_seconds=5, burst=3, clock=clock)
    assert [passes(throttle) for _ in range(5)] == [True, True, True, False, False]
    for _ in range(20):
        clock.now += 0.5
        assert passes(throttle)
        assert not passes(throttle)


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 5), st.floats(0.1, 5))
def test_in_any_time_no_more_pass_than_the_rate_and_the_burst_allow(
    pauses: list[float], rate: int, window: float
) -> None:
    clock = Clock()
    throttle = Throttle(rate, window_seconds=window, clock=clock)
    at = []
    for pause in pauses:
        clock.now += pause
        if passes(throttle):
            at.append(clock.now)
    for first in range(len(at)):
        for last in range(first, len(at)):
            assert last - first + 1 <= rate + (at[last] - at[first]) * rate / window + 1e-6


def test_each_key_has_a_bucket_of_its_own() -> None:
    with capture(throttle_max_rate=1, throttle_key_field="event,user") as logged:
        for _ in range(3):
            log.info("a", user=1)
            log.info("a", user=2)
            log.info("b", user=[1])
            log.info("b")
    assert [(record["event"], record.get("user")) for record in logged.records] == [
        ("a", 1),
        ("a", 2),
        ("b", [1]),
        ("b", None),
    ]


def test_a_key_may_be_a_function_of_the_record_or_nothing_at_all() -> None:
    with capture(processors=[Throttle(1, key=lambda record: record["logger"])]) as logged:
        for name in ("a", "b", "a", "b"):
            get_logger(name).info(f"from {name}")
    assert logged.events == ["from a", "from b"]
    with capture(throttle_max_rate=2, throttle_key_field="[]") as logged:
        for number in range(5):
            log.info(str(number))
    assert logged.events == ["0", "1"]


def test_the_next_that_passes_says_how_many_did_not() -> None:
    clock = Clock()
    with capture(processors=[Throttle(1, window_seconds=10, clock=clock)]) as logged:
        for _ in range(4):
            log.info("x")
        clock.now += 10
        log.info("x")
        clock.now += 10
        log.info("x")
        assert [record.get("_throttled") for record in logged.records] == [None, 3, None]
        assert logged.handle.stats().filtered == {"throttled": 3}


def test_errors_pass_and_take_nothing_unless_asked_otherwise() -> None:
    throttle = Throttle(1)
    assert all(passes(throttle, level=ERROR) for _ in range(9))
    assert passes(throttle)
    assert not passes(throttle)
    assert passes(throttle, exc_info=ValueError())
    strict = Throttle(1, errors=True)
    assert [passes(strict, level=ERROR) for _ in range(3)] == [True, False, False]


def test_the_key_not_met_for_longest_is_forgotten_first() -> None:
    throttle = Throttle(1, max_keys=3)
    for event in "abcabc":
        passes(throttle, event)
    assert passes(throttle, "d")
    assert len(throttle._buckets) == 3
    assert not passes(throttle, "c")
    assert passes(throttle, "a")


def test_a_million_keys_take_no_more_room_than_there_is() -> None:
    throttle = Throttle(1, max_keys=100)
    for number in range(10_000):
        throttle.refuses("x", INFO, f"{number}" + "x" * 10_000, {}, {})
    assert len(throttle._buckets) == 100
    assert all(len(key[0]) <= 256 for key in throttle._buckets)


def test_long_texts_that_begin_alike_are_told_apart() -> None:
    throttle = Throttle(1)
    assert passes(throttle, "x" * 300 + "a")
    assert passes(throttle, "x" * 300 + "b")
    assert not passes(throttle, "x" * 300 + "a")


def test_threads_together_get_no_more_than_one_alone() -> None:
    throttle = Throttle(100, window_seconds=1e9)
    passed: list[bool] = []
    start = threading.Barrier(4)

    def use() -> None:
        start.wait()
        mine = [passes(throttle) for _ in range(500)]
        passed.extend(mine)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed.count(True) == 100
    assert next(iter(throttle._buckets.values()))[2] == 1_900


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_rate": 0}, "max_rate must be above 0; got 0"),
        ({"max_rate": -1}, "max_rate must be above 0; got -1"),
        ({"max_rate": float("nan")}, "max_rate must be above 0; got nan"),
        ({"window_seconds": 0}, "window_seconds must be above 0; got 0"),
        ({"burst": 0.5}, "burst must be 1 at least, or nothing would ever pass; got 0.5"),
        ({"max_keys": 0}, "max_keys must be above 0; got 0"),
    ],
)
def test_a_number_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Throttle(**options)
    assert str(caught.value) == said


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="throttle_max_rate: Input should be greater than 0"):
        configure_logging(throttle_max_rate=0)


def test_a_slow_trickle_passes_however_low_the_rate() -> None:
    clock = Clock()
    throttle = Throttle(0.5, window_seconds=1, clock=clock)
    assert passes(throttle)
    clock.now += 1
    assert not passes(throttle)
    clock.now += 1
    assert passes(throttle)
