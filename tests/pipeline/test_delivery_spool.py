"""Delivery with a spool: what goes to disk, when, and in which order it comes back."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fapilog.errors import BatchRejectedError, RetryableError, SinkClosedError
from fapilog.files.deadletters import DeadLetters
from fapilog.pipeline.delivery import Delivery
from fapilog.pipeline.ledger import SinkStats, SpoolStats
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.queue import Overflow, Queue, Sequence
from fapilog.pipeline.spool import Spool
from fapilog.pipeline.worker import Worker
from fapilog.types import INFO, Batch

DOWN = RetryableError("nobody is there")


class Remote:
    """A far end that is up, down (an error to raise), slow, or does not answer (None)."""

    default_linger_seconds = 0.0

    def __init__(self, does: Exception | float | None = 0.0) -> None:
        self.does = does
        self.lines: list[bytes] = []
        self.batches: list[int] = []
        self.reached = threading.Event()

    async def write(self, batch: Batch, /) -> None:
        self.batches.append(len(batch))
        self.reached.set()
        if isinstance(self.does, Exception):
            raise self.does
        await asyncio.sleep(3600 if self.does is None else self.does)
        self.lines += batch.lines

    async def close(self) -> None: ...

    @property
    def numbers(self) -> list[int]:
        return [int(line.rpartition(b"-")[2].partition(b'"')[0]) for line in self.lines]


class Pipeline:
    """One far end behind a spool."""

    def __init__(
        self,
        sink: Remote,
        path: Path,
        *,
        overflow: Overflow = "drop",
        max_records: int = 1_000,
        numbers: Sequence | None = None,
        spool_max_bytes: int = 1 << 20,
        **options: Any,
    ) -> None:
        self.queue = Queue(numbers or Sequence(), max_records=max_records, overflow=overflow)
        self.delivery = Delivery(
            "tried",
            sink,
            DeliveryOptions(**{"circuit_breaker_timeout_seconds": 0.1, **options}),
            self.queue,
            make_spool=lambda: Spool(path / "spool", sink="tried", destination="there", max_bytes=spool_max_bytes),
            dead_letters=DeadLetters(path / "dead" / "tried.jsonl"),
            chance=lambda: 0.0,
        )
        self.worker = Worker(self.queue, [self.delivery])
        self.worker.attach()

    def put(self, count: int = 1, *, size: int = 0) -> None:
        for _ in range(count):
            assert self.queue.put(INFO, time.time_ns(), b'{"text":"%b","id":"i-' % (b"x" * size))

    def stats(self) -> SinkStats:
        with self.queue.lock:
            return self.delivery.stats()

    def spool_stats(self) -> SpoolStats:
        assert self.delivery._spool is not None
        return self.delivery._spool.stats()

    def wait_until(self, is_so: Any, seconds: float = 10.0) -> SinkStats:
        """Wait for the figures to say so."""
        until = time.monotonic() + seconds
        while not is_so(stats := self.stats()):
            assert time.monotonic() < until, stats
            time.sleep(0.005)
        return stats


@contextmanager
def spooling(sink: Remote, path: Path, **options: Any) -> Iterator[Pipeline]:
    """Deliver to *sink*; at every moment each record is somewhere, once."""
    pipeline = Pipeline(sink, path, **options)
    done = threading.Event()
    wrong: list[SinkStats] = []

    def watch() -> None:
        while not done.wait(0.0005):
            stats = pipeline.stats()
            if not stats.balanced:
                wrong.append(stats)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield pipeline
    finally:
        pipeline.worker.close(5)
        done.set()
        watching.join(10)
    stats = pipeline.stats()
    assert not wrong, wrong[0]
    assert (stats.queued, stats.in_flight, stats.balanced) == (0, 0, True)
    if pipeline.delivery._spool is not None:
        spool = pipeline.spool_stats()
        assert spool.taken_in == spool.delivered + sum(spool.dropped.values()) + spool.records
        assert spool.records == stats.spooled


def test_a_far_end_that_answers_slowly_gets_each_record_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sink = Remote(0.8)
    with spooling(sink, tmp_path) as pipeline:
        pipeline.put(3)
        pipeline.wait_until(lambda stats: stats.spooled == 3)
        stats = pipeline.wait_until(lambda stats: stats.delivered == 3)
    assert (sink.numbers, stats.ambiguous, stats.retries) == ([1, 2, 3], 0, 0)
    assert capfd.readouterr().err == ""


def test_what_is_not_answered_is_on_disk_within_half_a_second_or_so(tmp_path: Path) -> None:
    sink = Remote(None)
    with spooling(sink, tmp_path) as pipeline:
        pipeline.put()
        assert sink.reached.wait(10)
        began = time.monotonic()
        pipeline.wait_until(lambda stats: stats.spooled == 1)
        assert 0.3 < time.monotonic() - began < 1.5
        pipeline.put(5)
        pipeline.wait_until(lambda stats: stats.spooled == 6)


def test_what_fails_is_on_disk_within_half_a_second_or_so(tmp_path: Path) -> None:
    with spooling(Remote(DOWN), tmp_path) as pipeline:
        pipeline.put(3)
        began = time.monotonic()
        pipeline.wait_until(lambda stats: stats.spooled == 3)
        assert time.monotonic() - began < 1.5


def test_a_flush_returns_when_everything_is_on_disk_though_the_far_end_does_not_answer(tmp_path: Path) -> None:
    sink = Remote(None)
    with spooling(sink, tmp_path) as pipeline:
        pipeline.put()
        assert sink.reached.wait(10)
        pipeline.put(100)
        began = time.monotonic()
        result = pipeline.worker.flush(10)
        assert time.monotonic() - began < 3
        assert (result.ok, result.pending, result.spooled) == (True, {"tried": 0}, {"tried": 101})


def test_what_is_on_disk_goes_before_what_is_newer_while_live_traffic_flows(tmp_path: Path) -> None:
    sink = Remote(DOWN)
    with spooling(sink, tmp_path, batch_max_records=7) as pipeline:
        for at in range(60):
            pipeline.put(5)
            if at == 30:
                pipeline.wait_until(lambda stats: stats.spooled > 0)
                sink.does = 0.001
            time.sleep(0.01)
        stats = pipeline.wait_until(lambda stats: stats.delivered == 300)
    assert sink.numbers == list(range(1, 301))
    assert stats.dropped == {}


def test_a_far_end_that_flaps_between_all_its_ways_gets_everything_in_order(tmp_path: Path) -> None:
    sink = Remote(0.0)
    ways: list[Exception | float] = [DOWN, 0.7, RetryableError("?", ambiguous=True), 0.0, OSError(5, "cut"), 0.01]
    with spooling(sink, tmp_path, batch_max_records=50, circuit_breaker_threshold=1_000) as pipeline:
        for at in range(120):
            pipeline.put(10)
            sink.does = ways[at // 10 % len(ways)]
            time.sleep(0.02)
        sink.does = 0.0
        stats = pipeline.wait_until(lambda stats: stats.delivered == 1_200, 20)
    assert sink.numbers == list(range(1, 1_201))
    assert stats.dropped == {}


def test_more_than_the_inbox_holds_goes_to_disk_and_none_is_lost(tmp_path: Path) -> None:
    sink = Remote(0.05)
    with spooling(sink, tmp_path, overflow="block", max_records=100, batch_max_records=500) as pipeline:
        pipeline.put(2_000)
        stats = pipeline.wait_until(lambda stats: stats.delivered == 2_000, 30)
    assert (sink.numbers, stats.dropped) == (list(range(1, 2_001)), {})


def test_an_end_without_any_time_leaves_everything_on_disk_for_the_next_process(tmp_path: Path) -> None:
    sink, numbers = Remote(None), Sequence()
    with spooling(sink, tmp_path, numbers=numbers) as pipeline:
        pipeline.put(10)
        assert sink.reached.wait(10)
        pipeline.put(90)
        pipeline.worker.close(0)
        stats = pipeline.stats()
        assert (stats.spooled, stats.dropped) == (100, {})
        assert stats.ambiguous == 10  # sent, and never answered
    sink.does = 0.0
    with spooling(sink, tmp_path, numbers=numbers) as pipeline:
        pipeline.put(10)
        stats = pipeline.wait_until(lambda stats: stats.delivered == 110)
        assert (stats.adopted, stats.accepted) == (100, 10)
    assert sink.numbers == list(range(1, 111))
    assert not list((tmp_path / "spool" / "tried").iterdir())


def test_an_end_empties_the_spool_while_the_far_end_takes_it(tmp_path: Path) -> None:
    sink = Remote(DOWN)
    with spooling(sink, tmp_path, batch_max_records=10) as pipeline:
        pipeline.put(200)
        pipeline.wait_until(lambda stats: stats.spooled == 200)
        sink.does = 0.001
        pipeline.wait_until(lambda stats: stats.delivered > 0)
        pipeline.worker.close(10)
        assert (pipeline.stats().delivered, pipeline.stats().spooled) == (200, 0)
    assert sink.numbers == list(range(1, 201))


@pytest.mark.parametrize("does", [DOWN, None], ids=["down", "silent"])
def test_an_end_waits_no_longer_than_it_must_for_a_far_end_that_does_not_take_it(
    tmp_path: Path, does: Exception | None
) -> None:
    with spooling(Remote(does), tmp_path) as pipeline:
        pipeline.put(10)
        pipeline.wait_until(lambda stats: stats.spooled == 10)
        began = time.monotonic()
        pipeline.worker.close(10)
        assert time.monotonic() - began < 4


def test_each_attempt_without_an_answer_is_counted_as_ambiguous(tmp_path: Path) -> None:
    sink = Remote(RetryableError("?", ambiguous=True))
    with spooling(sink, tmp_path) as pipeline:
        pipeline.put(3)
        pipeline.wait_until(lambda stats: stats.ambiguous >= 6)
        sink.does = 0.0
        stats = pipeline.wait_until(lambda stats: stats.delivered == 3)
    assert stats.ambiguous == 3 * (len(sink.batches) - 1)


@pytest.mark.parametrize("kind", ["a file", "a symbolic link", "read-only"])
def test_a_spool_that_cannot_be_used_is_said_once_and_the_service_goes_on(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "spool"
    if kind == "a file":
        place.write_text("mine")
    elif kind == "a symbolic link":
        place.symlink_to(tmp_path / "elsewhere")
    elif os.geteuid() == 0:
        place = Path("/proc/fapilog")  # nobody can make a directory there
    else:
        place.mkdir(mode=0o500)
    sink = Remote(DOWN)
    with spooling(sink, place.parent) as pipeline:
        pipeline.put(10)
        pipeline.wait_until(lambda stats: stats.retries > 3)
        assert not pipeline.worker.flush(0.2).ok
        sink.does = 0.0
        stats = pipeline.wait_until(lambda stats: stats.delivered == 10)
        pipeline.put(10)
        assert pipeline.worker.flush(10).ok
    assert (sink.numbers, stats.dropped) == (list(range(1, 21)), {})
    assert capfd.readouterr().err.count("sink tried cannot spool") == 1


def test_a_spool_that_is_deleted_while_it_is_used_costs_what_was_in_it_and_is_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = Remote(DOWN)
    with spooling(sink, tmp_path) as pipeline:
        pipeline.put(10)
        pipeline.wait_until(lambda stats: stats.spooled == 10)
        shutil.rmtree(tmp_path / "spool")
        pipeline.put(5)
        pipeline.wait_until(lambda stats: stats.spooled == 5 or stats.dropped)
        sink.does = 0.0
        stats = pipeline.wait_until(lambda stats: stats.delivered == 5)
    assert (stats.dropped, sink.numbers) == ({"spool_vanished": 10}, list(range(11, 16)))
    assert "was deleted; 10 records were lost" in capfd.readouterr().err


def test_a_full_spool_drops_its_oldest_and_counts_them(tmp_path: Path) -> None:
    sink = Remote(DOWN)
    with spooling(sink, tmp_path, spool_max_bytes=40_000, max_records=20) as pipeline:
        for sent in range(1, 31):
            pipeline.put(10, size=500)
            pipeline.wait_until(
                lambda stats, sent=sent: stats.spooled + stats.dropped.get("spool_full", 0) == 10 * sent
            )
        assert pipeline.stats().spooled_bytes <= 40_000
        sink.does = 0.0
        stats = pipeline.wait_until(lambda stats: stats.spooled == 0)
    lost = stats.dropped["spool_full"]
    assert (stats.delivered + lost, set(stats.dropped)) == (300, {"spool_full"})
    assert sink.numbers == list(range(lost + 1, 301))


def test_what_a_full_spool_gave_up_while_it_was_being_sent_is_counted_once(tmp_path: Path) -> None:
    sink = Remote(None)
    with spooling(sink, tmp_path, spool_max_bytes=40_000, write_timeout_seconds=3) as pipeline:
        pipeline.put(10, size=500)
        pipeline.wait_until(lambda stats: stats.spooled == 10)
        sink.does = 0.0
        pipeline.put(200, size=500)
        stats = pipeline.wait_until(lambda stats: stats.spooled == 0, 20)
    assert stats.delivered + stats.dropped["spool_full"] == 210
    assert stats.delivered >= 0
    assert sink.numbers == sorted(set(sink.numbers))


def test_records_refused_one_by_one_from_the_spool_are_kept_as_dead_letters(tmp_path: Path) -> None:
    sink = Remote(DOWN)
    with spooling(sink, tmp_path) as pipeline:
        pipeline.put(5)
        pipeline.wait_until(lambda stats: stats.spooled == 5)
        sink.does = BatchRejectedError("no", rejected=[1, 3])
        stats = pipeline.wait_until(lambda stats: stats.spooled == 0)
    assert (stats.delivered, stats.dropped) == (3, {"rejected": 2})
    dead = (tmp_path / "dead" / "tried.jsonl").read_bytes()
    assert [b'"i-%d"' % number in dead for number in range(1, 6)] == [False, True, False, True, False]


def test_a_sink_that_closes_leaves_its_spool_for_the_next_process(tmp_path: Path) -> None:
    sink = Remote(DOWN)
    with spooling(sink, tmp_path, batch_max_records=2) as pipeline:
        pipeline.put(5)
        pipeline.wait_until(lambda stats: stats.spooled == 5)
        sink.does = SinkClosedError("gone")
        stats = pipeline.wait_until(lambda stats: stats.state == "closed" and stats.dropped)
        assert stats.spooled + stats.dropped["sink_closed"] == 5
        tried = len(sink.batches)
        pipeline.put(2)
        assert pipeline.worker.flush(10).ok
    assert len(sink.batches) == tried


def test_a_fault_of_ours_in_the_spool_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = Remote(DOWN)
    with spooling(sink, tmp_path) as pipeline:
        pipeline.put()
        pipeline.wait_until(lambda stats: stats.spooled == 1)
        spool = pipeline.delivery._spool
        assert spool is not None
        failed = threading.Event()

        def fail(_records: Any) -> None:
            monkeypatch.undo()
            failed.set()
            raise ZeroDivisionError

        monkeypatch.setattr(spool, "append", fail)
        pipeline.put(10)
        assert failed.wait(10)
        pipeline.wait_until(lambda stats: stats.spooled == 11)
        sink.does = 0.0
        pipeline.wait_until(lambda stats: stats.delivered == 11)
    assert sink.numbers == list(range(1, 12))
    assert "cannot spool: ZeroDivisionError" in capfd.readouterr().err


def test_a_batch_that_failed_is_sent_again_as_it_was_when_it_waits_on_disk_with_others(tmp_path: Path) -> None:
    class Busy(Remote):
        pipeline: Pipeline
        tried: list[list[bytes]]

        async def write(self, batch: Batch, /) -> None:
            self.tried.append(batch.lines)
            if len(self.tried) > 2:
                return
            self.pipeline.put()
            spooled = 2 + len(self.tried)
            self.pipeline.wait_until(lambda stats: stats.spooled == spooled, 30)
            raise RetryableError("busy", ambiguous=True)

    sink = Busy()
    sink.tried = []
    with spooling(sink, tmp_path) as pipeline:
        sink.pipeline = pipeline
        pipeline.put(2)
        assert pipeline.wait_until(lambda stats: stats.delivered == 4, 30).ambiguous == 4
    assert [len(lines) for lines in sink.tried] == [2, 2, 2, 2]
    assert sink.tried[0] == sink.tried[1] == sink.tried[2]
