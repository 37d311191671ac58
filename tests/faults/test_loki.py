"""Faults F086 to F098: what only Loki does, and a Loki that goes away for a minute."""

import asyncio
import json
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson
import pytest

from fapilog import configure_logging, log
from fapilog.pipeline.spool import Spool
from fapilog.runtime import Handle
from fapilog.sinks.loki import LokiSink
from tests.fake_loki import LokiReceiver
from tests.faults import far_end
from tests.faults.far_end import figures, say, wait

NS = 10**9


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fapilog.pipeline.sender.FIRST_DELAY_SECONDS", 0.05)


def service(loki: LokiReceiver, spool: Path, **options: Any) -> AbstractContextManager[Handle]:
    """Log to *loki*."""
    return far_end.service("loki", spool, endpoint=loki.url(""), **options)


def streams(loki: LokiReceiver) -> dict[str, list[int]]:
    """The numbers of the records of each stream, in order of arrival; what tells of losses has none."""
    records = {labels: [json.loads(line) for _, line, _ in entries] for labels, entries in loki.streams().items()}
    return {labels: [each["number"] for each in found if "number" in each] for labels, found in records.items()}


def spooled(spool: Path, loki: LokiReceiver, count: int, oldest_seconds: float) -> None:
    """Leave in *spool* what a process that died had to say over the last hours."""
    now = time.time_ns()
    left = Spool(spool, sink="loki", destination=LokiSink(endpoint=loki.url("")).destination)
    ages = [int(oldest_seconds * (count - number) / count * NS) for number in range(count)]
    left.append(
        [
            (20, now - age, orjson.dumps({"level": "info", "event": "old", "number": number}) + b"\n")
            for number, age in enumerate(ages)
        ]
    )
    left.close()


def test_f089_a_rate_limit_delays_and_loses_nothing(loki: LokiReceiver, tmp_path: Path) -> None:
    loki.limit(rate_bytes=400_000, burst_bytes=400_000)
    with service(loki, tmp_path, linger_seconds=0.3) as handle:
        say(1_500, text="x" * 500)
        stats = wait(handle, lambda stats: stats.delivered == 1_500)
        assert (stats.dropped, stats.ambiguous) == ({}, 0)
    assert [sorted(found) for found in streams(loki).values()] == [list(range(1, 1_501))]
    assert 429 in {request["status"] for request in loki.report()["requests"]}


def test_f090_a_limit_of_streams_loses_nothing_and_is_not_asked_for_ever(loki: LokiReceiver, tmp_path: Path) -> None:
    with service(loki, tmp_path, label_fields=["user"]) as handle:
        say(1, user="__other__")
        wait(handle, lambda stats: stats.delivered == 1)
        loki.limit(max_streams=10)
        for number in range(2, 82):
            say(1, number, user=f"u{number}")
        wait(handle, lambda stats: stats.delivered == 81)
        requests = len(loki.report()["requests"])
        assert requests < 120
        say(20, 82, user="later")
        stats = wait(handle, lambda stats: stats.delivered == 101)
        assert stats.dropped == {}
        assert stats.label_capped == 101 - 9, "all but those of the nine further streams that Loki took"
        assert len(loki.report()["requests"]) - requests <= 20
    found = streams(loki)
    assert len(found) == 10
    assert sorted(number for each in found.values() for number in each) == list(range(1, 102))


def test_f092_what_was_spooled_for_hours_goes_before_anything_newer(loki: LokiReceiver, tmp_path: Path) -> None:
    spooled(tmp_path, loki, 5_000, 3 * 3_600)
    with service(loki, tmp_path, batch_max_records=500, label_fields=["level"]) as handle:
        say(1_000, 5_000)
        stats = wait(handle, lambda stats: stats.delivered == 6_000)
        assert (stats.adopted, stats.dropped) == (5_000, {})
    ((_, found),) = streams(loki).items()
    assert found == list(range(6_000))


@pytest.mark.parametrize("slot_label", ["slot", ""])
def test_f093_a_process_that_replays_does_not_share_a_stream_with_one_that_is_live(
    loki: LokiReceiver, tmp_path: Path, slot_label: str
) -> None:
    live = LokiSink(endpoint=loki.url(""), slot_label=slot_label, slot_path=tmp_path / "slots", label_fields=["level"])
    with configure_logging(sinks=[live], access_log=False, spool_path=tmp_path / "live") as handle:
        say(1, 9_999)
        assert handle.flush(10).ok
        spooled(tmp_path / "dead", loki, 1_000, 3 * 3_600)
        replayed = LokiSink(
            endpoint=loki.url(""), slot_label=slot_label, slot_path=tmp_path / "slots", label_fields=["level"]
        )
        spool = Spool(tmp_path / "dead", sink="loki", destination=replayed.destination)
        spool.adopt()

        async def replay() -> set[int]:
            from fapilog.errors import BatchRejectedError
            from fapilog.types import Batch

            try:
                await replayed.write(Batch(spool.read(10_000, 10**7)))
            except BatchRejectedError as error:
                return set(error.rejected or ())
            finally:
                await replayed.close()
            return set()

        refused = asyncio.run(replay())
        spool.close()
    found = streams(loki)
    if slot_label:
        assert refused == set()
        assert {labels[-3:-1]: len(numbers) for labels, numbers in found.items()} == {'0"': 1, '1"': 1_000}
    else:  # why there is that label: two thirds are more than an hour behind
        assert 650 < len(refused) < 680
        assert sum(map(len, found.values())) == 1_001 - len(refused)


def test_f094_what_is_older_than_loki_takes_is_dropped_and_kept_for_a_person(
    loki: LokiReceiver, tmp_path: Path
) -> None:
    loki.limit(reject_old_seconds=3_600)
    spooled(tmp_path, loki, 300, 3 * 3_600)
    with service(loki, tmp_path) as handle:
        say(1)
        stats = wait(handle, lambda stats: stats.delivered + sum(stats.dropped.values()) >= 301)
        assert 195 < stats.dropped["rejected"] < 205
    assert sum(map(len, streams(loki).values())) == 301 - stats.dropped["rejected"]
    dead = (tmp_path / "dead" / "loki.jsonl").read_bytes().splitlines()
    assert len(dead) == stats.dropped["rejected"]


@pytest.mark.parametrize("body", ["protobuf", "json"])
def test_f096_a_push_whose_answer_was_lost_is_stored_once(loki: LokiReceiver, tmp_path: Path, body: str) -> None:
    loki.behave({"do": "silent", "keep": True, "times": 2})
    with service(loki, tmp_path, body=body) as handle:
        say(100)
        stats = wait(handle, lambda stats: stats.delivered == 100)
        assert stats.ambiguous == 200
    assert list(streams(loki).values()) == [list(range(1, 101))]


def test_a_loki_that_goes_away_for_a_while_loses_nothing_and_slows_nobody(loki: LokiReceiver, tmp_path: Path) -> None:
    go_away(loki, tmp_path, 3.0, per_second=500)


@pytest.mark.faults_long
def test_a_loki_that_goes_away_for_a_minute_loses_nothing_and_slows_nobody(loki: LokiReceiver, tmp_path: Path) -> None:
    go_away(loki, tmp_path, 60.0, per_second=1_000)


def go_away(loki: LokiReceiver, spool: Path, seconds: float, *, per_second: int) -> None:
    """Log at a steady pace on an event loop while Loki goes and comes back, and see who noticed."""
    calls: dict[str, list[float]] = {"before": [], "away": [], "after": []}
    sent = 0

    async def log_for(phase: str, for_seconds: float) -> None:
        nonlocal sent
        began, per_turn = time.perf_counter(), max(1, per_second // 100)
        for turn in range(int(for_seconds * per_second / per_turn)):
            for _ in range(per_turn):
                sent += 1
                at = time.perf_counter()
                log.info("order", number=sent, sku="tea")
                calls[phase].append(time.perf_counter() - at)
            await asyncio.sleep(max(0.0, began + (turn + 1) * per_turn / per_second - time.perf_counter()))

    async def run(handle: Handle) -> None:
        await log_for("before", 2.0)
        await asyncio.to_thread(loki.refuse)
        await log_for("away", seconds)
        assert figures(handle).spooled > 0
        await asyncio.to_thread(loki.listen)
        await log_for("after", 2.0)

    with service(loki, spool) as handle:
        asyncio.run(run(handle))
        stats = wait(handle, lambda stats: stats.delivered == sent, 60.0)
        assert (stats.dropped, stats.state) == ({}, "up")
    assert list(streams(loki).values()) == [list(range(1, sent + 1))]
    percentiles = {phase: sorted(each)[int(len(each) * 0.99)] * 1e6 for phase, each in calls.items()}
    print("99 of 100 log calls took at most (us):", {phase: round(value, 1) for phase, value in percentiles.items()})
    a_turn_at_the_interpreter = sys.getswitchinterval() * 1e6
    for phase in ("away", "after"):
        assert percentiles[phase] < max(2 * percentiles["before"], a_turn_at_the_interpreter)
