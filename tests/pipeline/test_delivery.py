import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from fapilog.errors import RetryableError, SinkClosedError
from fapilog.pipeline.delivery import Delivery
from fapilog.pipeline.ledger import SinkStats
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.queue import Overflow, Queue, Sequence
from fapilog.pipeline.worker import Worker
from fapilog.testing import CollectingSink
from fapilog.types import DEBUG, ERROR, INFO, WARNING, Batch, Sink


class FailingSink(CollectingSink):
    """Raise what it is told to, one error for each write, and then work."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    def write(self, batch: Batch, /) -> None:
        if self.errors:
            raise self.errors.pop(0)
        super().write(batch)


class FailingCoroutineSink(FailingSink):
    """The same on the worker's loop."""

    async def write(self, batch: Batch, /) -> None:  # type: ignore[override]
        FailingSink.write(self, batch)


class GatedSink(CollectingSink):
    """Hold the first batch until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.reached = threading.Event(), threading.Event()

    def write(self, batch: Batch, /) -> None:
        self.reached.set()
        assert self.gate.wait(30)
        super().write(batch)


class Unspeakable(Exception):  # noqa: N818 - it is what it is
    def __str__(self) -> str:
        raise ValueError("no words")


class Pipeline:
    """One sink, and a worker that delivers to it without ever waiting between two tries."""

    def __init__(self, sink: Sink, *, overflow: Overflow = "drop", max_records: int = 1_000, **options: Any) -> None:
        self.queue = Queue(Sequence(), max_records=max_records, overflow=overflow)
        chosen = DeliveryOptions(**{"linger_seconds": 0, **options})
        self.delivery = Delivery("tried", sink, chosen, self.queue, chance=lambda: 0.0)
        self.worker = Worker(self.queue, [self.delivery])

    def put(self, *levels: int, size: int = 0) -> None:
        for level in levels:
            assert self.queue.put(level, 0, b'{"text":"%b","id":"i-' % (b"x" * size))

    def stats(self) -> SinkStats:
        with self.queue.lock:
            return self.delivery.stats()


@contextmanager
def delivering(sink: Sink, **options: Any) -> Iterator[Pipeline]:
    """Deliver to *sink*; the worker starts when the block asks it to, or at its end."""
    pipeline = Pipeline(sink, **options)
    try:
        yield pipeline
    finally:
        if isinstance(sink, GatedSink):
            sink.gate.set()
        pipeline.worker.attach()
        pipeline.worker.close(10)


def deliver(sink: Sink, count: int = 3, **options: Any) -> SinkStats:
    """Deliver *count* records and return what became of them."""
    with delivering(sink, **options) as pipeline:
        pipeline.put(*[INFO] * count)
        pipeline.worker.attach()
        assert pipeline.worker.flush(10).ok
        stats = pipeline.stats()
    assert stats.balanced
    return stats


sinks = pytest.mark.parametrize("make", [FailingSink, FailingCoroutineSink])


@sinks
@pytest.mark.parametrize("error", [RetryableError("busy"), OSError(28, "no space"), TimeoutError()], ids=repr)
def test_a_batch_that_may_succeed_later_is_tried_again(make: Callable[..., Sink], error: Exception) -> None:
    sink = make(error, error)
    stats = deliver(sink)
    assert (stats.delivered, stats.dropped, stats.state) == (3, {}, "up")


def test_a_batch_is_given_up_after_its_retries_and_the_next_one_is_delivered(capfd: pytest.CaptureFixture[str]) -> None:
    sink = FailingSink(*[RetryableError("busy")] * 3)
    with delivering(sink, max_retry_attempts=2, batch_max_records=2) as pipeline:
        pipeline.put(INFO, INFO, INFO)
        pipeline.worker.attach()
        assert pipeline.worker.flush(10).ok
        assert (pipeline.stats().dropped, pipeline.stats().delivered) == ({"retries_exhausted": 2}, 1)
    assert "sink tried gave up on 2 records" in capfd.readouterr().err


@sinks
@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        Unspeakable(),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(),
        asyncio.CancelledError(),
        GeneratorExit(),
    ],
    ids=repr,
)
def test_any_other_error_costs_its_batch_and_nothing_else(
    make: Callable[..., Sink], error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    # Python itself turns a StopIteration that leaves a coroutine into a RuntimeError.
    stopped = make is FailingCoroutineSink and isinstance(error, StopIteration)
    with delivering(make(error)) as pipeline:
        pipeline.put(INFO, INFO)
        pipeline.worker.attach()
        assert pipeline.worker.flush(10).ok
        pipeline.put(INFO)
        assert pipeline.worker.flush(10).ok
        assert (pipeline.stats().dropped, pipeline.stats().delivered) == ({"sink_error": 2}, 1)
    name = "RuntimeError" if stopped else type(error).__name__
    assert f"sink tried lost 2 records: {name}" in capfd.readouterr().err


@sinks
def test_a_closed_sink_is_asked_no_more_and_the_rest_is_counted_in_silence(
    make: Callable[..., FailingSink], capfd: pytest.CaptureFixture[str]
) -> None:
    sink = make(SinkClosedError("gone"))
    stats = deliver(sink, 10, batch_max_records=2)
    assert (stats.dropped, stats.state, sink.records) == ({"sink_closed": 10}, "closed", [])
    assert capfd.readouterr().err == ""


def test_what_comes_after_the_closing_of_a_sink_is_counted_too() -> None:
    with delivering(FailingSink(SinkClosedError("gone"))) as pipeline:
        pipeline.put(INFO)
        pipeline.worker.attach()
        assert pipeline.worker.flush(10).ok
        pipeline.put(INFO, INFO)
        assert pipeline.worker.flush(10).ok
        assert pipeline.stats().dropped == {"sink_closed": 3}


def test_a_sink_gets_only_its_level_and_above() -> None:
    sink = CollectingSink()
    with delivering(sink, level="warning") as pipeline:
        pipeline.put(DEBUG, INFO, WARNING, ERROR)
        pipeline.worker.attach()
        assert pipeline.worker.flush(10).ok
        assert [record.level for batch in sink.batches for record in batch] == [WARNING, ERROR]
        assert (pipeline.stats().routed_away, pipeline.stats().delivered) == (2, 2)


def test_a_batch_holds_no_more_records_than_it_may() -> None:
    sink = CollectingSink()
    deliver(sink, 10, batch_max_records=4)
    assert [len(batch) for batch in sink.batches] == [4, 4, 2]


def test_a_batch_holds_no_more_bytes_than_it_may_but_one_record_always() -> None:
    sink = CollectingSink()
    with delivering(sink, batch_max_bytes=1_000) as pipeline:
        for size in (400, 400, 400, 5_000, 10):
            pipeline.put(INFO, size=size)
        pipeline.worker.attach()
        assert pipeline.worker.flush(10).ok
    assert [len(batch) for batch in sink.batches] == [2, 1, 1, 1]


def test_a_flush_does_not_wait_for_the_linger() -> None:
    sink = CollectingSink()
    began = time.monotonic()
    deliver(sink, linger_seconds=60)
    assert time.monotonic() - began < 10


def test_records_that_linger_share_a_batch() -> None:
    sink = CollectingSink()
    with delivering(sink, linger_seconds=60) as pipeline:
        pipeline.worker.attach()
        for _ in range(10):
            pipeline.put(INFO)
        assert pipeline.worker.flush(10).ok
    assert [len(batch) for batch in sink.batches] == [10]


def test_a_full_inbox_gives_up_the_lowest_levels_and_counts_them(capfd: pytest.CaptureFixture[str]) -> None:
    sink = GatedSink()
    with delivering(sink, max_records=10) as pipeline:
        pipeline.put(INFO)
        pipeline.worker.attach()
        assert sink.reached.wait(10)
        for level in (INFO, ERROR):  # the second round finds the inbox half full
            pipeline.put(*[level] * 8)
            assert not pipeline.worker.flush(0.1).ok
        assert pipeline.stats().dropped == {"inbox_full": 6}
        sink.gate.set()
        assert pipeline.worker.flush(10).ok
        assert pipeline.stats().balanced
    assert [record.level for batch in sink.batches for record in batch] == [INFO] * 3 + [ERROR] * 8
    assert "sink tried is too slow" in capfd.readouterr().err


def test_warnings_are_kept_first_among_records_that_come_together() -> None:
    sink = GatedSink()
    with delivering(sink, max_records=10) as pipeline:
        pipeline.put(INFO)
        pipeline.worker.attach()
        assert sink.reached.wait(10)
        pipeline.put(*[INFO] * 6)
        pipeline.worker.flush(0.1)
        pipeline.put(*[INFO, ERROR] * 3)
        pipeline.worker.flush(0.1)
        sink.gate.set()
        assert pipeline.worker.flush(10).ok
    assert [record.level for batch in sink.batches for record in batch][7:] == [INFO, ERROR, ERROR, ERROR]


def test_a_full_inbox_with_drop_oldest_makes_room_for_the_newest() -> None:
    sink = GatedSink()
    with delivering(sink, max_records=10, overflow="drop_oldest") as pipeline:
        pipeline.put(INFO)
        pipeline.worker.attach()
        assert sink.reached.wait(10)
        for _ in range(2):
            pipeline.put(*[INFO] * 8)
            pipeline.worker.flush(0.1)
        sink.gate.set()
        assert pipeline.worker.flush(10).ok
        assert pipeline.stats().dropped == {"inbox_full": 6}
    assert [record["id"] for record in sink.records] == [f"i-{number}" for number in [1, *range(8, 18)]]


def test_a_record_that_gives_way_in_an_inbox_is_told_to_who_waits_for_it() -> None:
    sink = GatedSink()
    with delivering(sink, max_records=10) as pipeline:
        pipeline.put(INFO)
        pipeline.worker.attach()
        assert sink.reached.wait(30)
        first, second = b'{"n":1,"id":"i-', b'{"n":2,"id":"i-'
        lost = {front: pipeline.queue.watch(front) for front in (first, second)}
        for front in lost:
            pipeline.queue.put(INFO, 0, front)
        pipeline.put(*[INFO] * 6)
        pipeline.worker.flush(0.1)
        assert lost == {first: set(), second: set()}
        pipeline.put(*[ERROR] * 3)
        pipeline.worker.flush(0.1)
        assert lost == {first: {"tried"}, second: set()}


def test_a_batch_that_failed_is_sent_again_as_it_was_whatever_came_meanwhile() -> None:
    class Busy(CollectingSink):
        pipeline: Pipeline

        def __init__(self) -> None:
            super().__init__()
            self.tried: list[list[bytes]] = []

        def write(self, batch: Batch, /) -> None:
            self.tried.append(batch.lines)
            if not 2 <= len(self.tried) <= 4:
                return
            self.pipeline.put(INFO)
            until = time.monotonic() + 30
            while self.pipeline.delivery.waiting < 1 + len(self.tried) and time.monotonic() < until:
                time.sleep(0.001)
            raise RetryableError("busy", ambiguous=True)

    sink = Busy()
    with delivering(sink) as pipeline:
        sink.pipeline = pipeline
        pipeline.put(INFO)
        pipeline.worker.attach()
        assert pipeline.worker.flush(30).ok
        with pipeline.queue.lock:  # both in one batch
            pipeline.put(INFO, INFO)
        assert pipeline.worker.flush(30).ok
        assert pipeline.stats().ambiguous == 6
    assert [len(lines) for lines in sink.tried] == [1, 2, 2, 2, 2, 3]
    assert sink.tried[1] == sink.tried[2] == sink.tried[3] == sink.tried[4]


def test_a_record_evicted_from_the_queue_counts_for_every_sink() -> None:
    sink = CollectingSink()
    with delivering(sink, max_records=10, overflow="drop_oldest") as pipeline:
        pipeline.put(*[INFO] * 15)
        pipeline.worker.attach()
        assert pipeline.worker.flush(10).ok
        assert (pipeline.stats().dropped, pipeline.stats().delivered) == ({"evicted": 5}, 10)
        assert pipeline.stats().balanced


def test_a_batch_that_waits_for_its_next_try_at_the_end_is_counted_as_lost() -> None:
    sink = FailingSink(*[RetryableError("busy")] * 100)
    pipeline = Pipeline(sink)
    pipeline.delivery._chance = lambda: 1.0  # half a second before the second try
    pipeline.put(INFO, INFO)
    pipeline.worker.attach()
    pipeline.worker.close(0.1)
    assert (pipeline.stats().dropped, pipeline.stats().balanced) == ({"shutdown_timeout": 2}, True)


def test_a_sink_that_cannot_start_when_the_first_record_comes_is_closed_and_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Unready(CollectingSink):
        def open(self) -> None:
            raise OSError(30, "Read-only file system")

    assert deliver(Unready()).dropped == {"sink_closed": 3}
    assert "sink tried cannot start: OSError: [Errno 30] Read-only" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["flush", "close"])
def test_a_sink_that_fails_to_flush_or_close_is_said_and_no_more(
    method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = CollectingSink()

    def fail() -> None:
        raise OSError(5, "Input/output error")

    setattr(sink, method, fail)
    assert deliver(sink).delivered == 3
    assert f"sink tried cannot {method}: OSError" in capfd.readouterr().err


def test_a_flush_makes_durable_what_was_written() -> None:
    class Durable(CollectingSink):
        synced = 0

        def flush(self) -> None:
            self.synced = len(self.records)

    sink = Durable()
    deliver(sink, 5)
    assert sink.synced == 5


def test_every_sink_has_a_thread_of_its_own_be_it_plain_or_a_coroutine() -> None:
    seen: list[str] = []

    class Plain(CollectingSink):
        def write(self, batch: Batch, /) -> None:
            seen.append(threading.current_thread().name)

    class Coroutine(CollectingSink):
        async def write(self, batch: Batch, /) -> None:  # type: ignore[override]
            seen.append(threading.current_thread().name)

    deliver(Plain())
    deliver(Coroutine())
    assert seen == ["fapilog-tried", "fapilog-tried"]


@pytest.mark.parametrize(
    ("make", "options", "seconds"),
    [
        (FailingSink, {}, 0.0),
        (FailingSink, {"linger_seconds": 3.5}, 3.5),
        (FailingCoroutineSink, {}, 0.0),
    ],
)
def test_the_linger_is_what_was_set_else_what_the_sink_says(
    make: Callable[[], Sink], options: dict[str, float], seconds: float
) -> None:
    made = Delivery("tried", make(), DeliveryOptions(**options), Queue(Sequence()))  # type: ignore[arg-type]
    assert made.linger_seconds == seconds


def test_without_a_word_from_the_sink_local_ones_linger_50_ms_and_coroutines_half_a_second() -> None:
    class Local:
        def write(self, batch: Batch, /) -> None: ...
        def close(self) -> None: ...

    class Network:
        async def write(self, batch: Batch, /) -> None: ...
        async def close(self) -> None: ...

    queue = Queue(Sequence())
    made = [Delivery("tried", sink, DeliveryOptions(), queue) for sink in (Local(), Network())]
    assert [delivery.linger_seconds for delivery in made] == [0.05, 0.5]


@pytest.mark.parametrize("options", [{"level": "loud"}, {"batch_max_records": 0}, {"linger_seconds": -1}, {"x": 1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeliveryOptions(**options)
