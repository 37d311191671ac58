import dataclasses
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.pipeline.ledger import DELAY_BUCKETS, Delays, DropSummary, FlushResult, SinkStats, Stats


def stats(**figures: object) -> SinkStats:
    none = {"accepted": 0, "routed_away": 0, "delivered": 0, "queued": 0, "in_flight": 0, "dropped": {}}
    return SinkStats(state="up", **{**none, **figures})  # type: ignore[arg-type]


def test_every_record_is_somewhere_once() -> None:
    balanced = stats(
        accepted=19, adopted=2, routed_away=1, delivered=2, queued=3, in_flight=4, spooled=5, dropped={"rejected": 6}
    )
    assert balanced.balanced
    for name in ("accepted", "adopted", "routed_away", "delivered", "queued", "in_flight", "spooled"):
        more: dict[str, Any] = {name: 9}
        assert not dataclasses.replace(balanced, **more).balanced, name


def test_what_a_closed_sink_does_not_take_is_not_lost() -> None:
    sinks = {"pipe": stats(dropped={"sink_closed": 5}), "file": stats(dropped={"sink_error": 2})}
    whole = Stats("i", 7, {}, {"queue_full": 1}, 0, 0, sinks)
    assert whole.lost == 3


@given(st.lists(st.floats(0, 10_000)))
def test_each_delay_is_in_the_bucket_that_it_does_not_exceed(seconds: list[float]) -> None:
    delays = Delays()
    for each in seconds:
        delays = delays.observe(each)
    bounds = (*DELAY_BUCKETS, float("inf"))
    below = [sum(each <= bound for each in seconds) for bound in bounds]
    assert [sum(delays.counts[: at + 1]) for at in range(len(bounds))] == below
    assert delays.total_seconds == pytest.approx(sum(seconds))


def test_a_summary_tells_how_many_and_from_when_to_when_and_then_begins_anew() -> None:
    summary = DropSummary()
    before = time.time_ns()
    summary.note("queue_full", 2)
    between = time.time_ns()
    summary.note("evicted", 1)
    summary.note("queue_full", 3)
    counts, first, last = summary.take()
    assert counts == {"queue_full": 5, "evicted": 1}
    assert before <= first <= between <= last <= time.time_ns()
    assert not summary.counts
    summary.note("evicted", 1)
    assert summary.take()[1] >= last


def test_a_flush_is_fine_when_nothing_is_in_memory_alone() -> None:
    assert FlushResult({"a": 0, "b": 0}, spooled={"b": 9}).ok
    assert not FlushResult({"a": 0, "b": 1}).ok
