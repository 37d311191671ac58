import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from fapilog.diagnostics import DropReason
from fapilog.pipeline.delivery import Delivery
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.queue import Item, Overflow, Queue, Sequence
from fapilog.pipeline.worker import Worker
from fapilog.testing import CollectingSink
from fapilog.types import ERROR, INFO, WARNING, Batch, Sink


class GatedSink(CollectingSink):
    """A sink that waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reached = threading.Event()

    def write(self, batch: Batch, /) -> None:
        self.reached.set()
        assert self.gate.wait(30)
        super().write(batch)


class BlockingSink:
    """A coroutine that does what it must not: it blocks the event loop."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    async def write(self, _batch: Batch, /) -> None:
        assert self.gate.wait(30)

    async def close(self) -> None: ...


@contextmanager
def working(*sinks: Sink, options: DeliveryOptions | None = None, **limits: object) -> Iterator[Worker]:
    """Run a worker over *sinks*, called s0, s1, …"""
    queue = Queue(Sequence(), **limits)  # type: ignore[arg-type]
    deliveries = [
        Delivery(f"s{number}", sink, options or DeliveryOptions(linger_seconds=0), queue)
        for number, sink in enumerate(sinks)
    ]
    worker = Worker(queue, deliveries)
    worker.attach()
    try:
        yield worker
    finally:
        for sink in sinks:
            if isinstance(sink, GatedSink | BlockingSink):
                sink.gate.set()
        worker.close(5)


def put(worker: Worker, count: int = 1, level: int = INFO) -> None:
    for _ in range(count):
        assert worker.queue.put(level, 0, b'{"event":"x","id":"i-')


def test_nothing_runs_before_the_first_record() -> None:
    with working(CollectingSink()):
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("fapilog-")]


def test_every_sink_gets_every_record_once_and_in_order() -> None:
    first, second = CollectingSink(), CollectingSink()
    with working(first, second) as worker:
        put(worker, 1_000)
        assert worker.flush(10).pending == {"s0": 0, "s1": 0}
    ids = [f"i-{number}" for number in range(1, 1_001)]
    assert [record["id"] for record in first.records] == ids
    assert [record["id"] for record in second.records] == ids


def test_a_record_is_delivered_without_a_flush() -> None:
    sink = GatedSink()
    with working(sink) as worker:
        put(worker)
        assert sink.reached.wait(10)


def test_a_sink_that_hangs_delays_no_other() -> None:
    stuck, free = GatedSink(), CollectingSink()
    with working(stuck, free) as worker:
        put(worker, 10)
        assert stuck.reached.wait(10)
        put(worker, 10)
        assert worker.flush(0.2).pending == {"s0": 20, "s1": 0}
        assert len(free.records) == 20


def test_a_flush_returns_in_time_though_a_coroutine_blocks_the_loop() -> None:
    with working(BlockingSink()) as worker:
        put(worker)
        began = time.monotonic()
        assert not worker.flush(0.1).ok
        assert not asyncio.run(worker.aflush(0.1)).ok
        assert time.monotonic() - began < 5


def test_aflush_waits_until_everything_is_delivered() -> None:
    sink = CollectingSink()
    with working(sink) as worker:
        put(worker, 100)
        assert asyncio.run(worker.aflush(10)).ok
        assert len(sink.records) == 100


def test_closing_returns_in_time_and_counts_what_a_stuck_sink_did_not_take() -> None:
    stuck = GatedSink()
    with working(stuck) as worker:
        put(worker, 3)
        assert stuck.reached.wait(10)
        put(worker, 4)
        began = time.monotonic()
        worker.close(0.2)
        assert time.monotonic() - began < 2
        with worker.queue.lock:
            stats = worker.deliveries[0].stats()
        assert stats.dropped == {"shutdown_timeout": 7}
        assert stats.balanced


def test_closing_delivers_what_waits_and_closes_the_sinks() -> None:
    sink = CollectingSink()
    with working(sink, options=DeliveryOptions(linger_seconds=60)) as worker:
        put(worker, 5)
        assert worker.close(10).ok
    assert (len(sink.records), sink.closed) == (5, True)


def test_a_worker_that_never_had_a_record_still_closes_its_sinks() -> None:
    sink = CollectingSink()
    with working(sink):
        pass
    assert sink.closed


def test_a_record_that_comes_while_an_idle_worker_is_closed_is_delivered_or_counted() -> None:
    for _ in range(50):
        sink = CollectingSink()
        with working(sink) as worker:
            together = threading.Barrier(2)

            def log(worker: Worker = worker, together: threading.Barrier = together) -> None:
                together.wait(10)
                worker.queue.put(INFO, 0, b'{"id":"i-')

            thread = threading.Thread(target=log)
            thread.start()
            together.wait(10)
            worker.close(5)
            thread.join(10)
            assert len(sink.records) + worker.queue.dropped.total() == 1


def test_without_threads_records_are_delivered_where_they_are_logged(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sink = CollectingSink()
    with working(sink) as worker:
        put(worker)
        put(worker)
        assert len(sink.records) == 2
        with worker.queue.lock:
            assert worker.deliveries[0].stats().delivered == 2
    assert "the worker cannot start" in capfd.readouterr().err


def test_an_error_of_ours_in_the_worker_starts_it_anew(capfd: pytest.CaptureFixture[str]) -> None:
    sink = CollectingSink()
    with working(sink) as worker:
        put(worker)
        assert worker.flush(10).ok
        taking, failed = worker.queue.take, threading.Event()

        def fail(*_bounds: int) -> tuple[list[Item], int]:
            worker.queue.take = taking  # type: ignore[method-assign]
            failed.set()
            raise ZeroDivisionError

        worker.queue.take = fail  # type: ignore[method-assign,assignment]
        put(worker)
        assert failed.wait(10)
        put(worker)
        assert worker.flush(10).ok
        assert "the worker failed and goes on: ZeroDivisionError" in capfd.readouterr().err
    assert len(sink.records) == 3


def test_the_threads_of_a_closed_worker_are_gone() -> None:
    with working(CollectingSink()) as worker:
        put(worker)
        worker.flush(10)
    assert worker._thread is not None
    assert not worker._thread.is_alive()


class SlowSink(CollectingSink):
    """A sink that takes a batch only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Semaphore(0)

    def write(self, batch: Batch, /) -> None:
        assert self.allowed.acquire(timeout=30)
        super().write(batch)


def test_a_thread_that_may_wait_loses_nothing_to_a_slow_sink() -> None:
    sink = SlowSink()
    options = DeliveryOptions(linger_seconds=0, batch_max_records=10)
    with working(sink, options=options, max_records=100, overflow="auto", block_timeout_seconds=30.0) as worker:
        logging = threading.Thread(target=put, args=(worker, 1_000))
        logging.start()
        for _ in range(1_000):  # more than there can be batches
            sink.allowed.release()
        logging.join(30)
        assert worker.flush(30).ok
        assert worker.queue.dropped == {}
    assert len(sink.records) == 1_000


def test_what_waits_for_a_slow_sink_stays_bounded() -> None:
    sink = SlowSink()
    options = DeliveryOptions(linger_seconds=0, batch_max_records=10)
    with working(sink, options=options, max_records=100, overflow="auto", block_timeout_seconds=0.05) as worker:
        for _ in range(1_000):
            worker.queue.put(INFO, 0, b'{"id":"i-')
            with worker.queue.lock:
                stats = worker.deliveries[0].stats()
            assert stats.queued + stats.in_flight <= 100 + 100 + 10  # the queue, the inbox and a batch
            assert stats.balanced
            if worker.queue.dropped:
                break
        assert worker.queue.dropped.keys() <= {"block_timeout"}
        for _ in range(1_000):
            sink.allowed.release()


def test_a_flush_that_ran_out_of_time_tells_what_is_on_its_way() -> None:
    sink = GatedSink()
    with working(sink) as worker:
        put(worker, 3)
        assert worker.flush(0.1).pending == {"s0": 3}
        sink.gate.set()
        assert worker.flush(10).pending == {"s0": 0}


Told = tuple[str | None, dict[DropReason, int], int, int]


@contextmanager
def telling(sink: Sink, *, overflow: Overflow = "drop", max_records: int = 10) -> Iterator[tuple[Worker, list[Told]]]:
    """Run a worker that logs a record for each drop it is to tell, as the runtime does."""
    told: list[Told] = []
    queue = Queue(Sequence(), max_records=max_records, overflow=overflow)

    def announce(name: str | None, counts: Mapping[DropReason, int], first_ns: int, last_ns: int) -> None:
        told.append((name, dict(counts), first_ns, last_ns))
        queue.put(WARNING, 0, b'{"event":"records were dropped","id":"i-')

    worker = Worker(queue, [Delivery("s0", sink, DeliveryOptions(linger_seconds=0), queue)], announce=announce)
    try:
        yield worker, told
    finally:
        if isinstance(sink, GatedSink):
            sink.gate.set()
        worker.attach()
        worker.close(5)


def test_what_the_queue_dropped_is_told_afterwards_with_its_count_and_times() -> None:
    sink = CollectingSink()
    with telling(sink, max_records=20) as (worker, told):
        before = time.time_ns()
        for _ in range(25):
            worker.queue.put(ERROR, 0, b'{"event":"x","id":"i-')
        after = time.time_ns()
        worker.attach()
        assert worker.flush(10).ok
        assert worker.flush(10).ok
    assert told[0][:2] == (None, {"queue_full": 5})
    assert before <= told[0][2] <= told[0][3] <= after
    assert sink.records[20]["event"] == "records were dropped"


def test_what_an_inbox_dropped_is_told_when_it_has_room_again() -> None:
    sink = GatedSink()
    with telling(sink) as (worker, told):
        worker.attach()
        put(worker)
        assert sink.reached.wait(10)
        for _ in range(2):
            put(worker, 8, ERROR)
            worker.flush(0.1)
        assert told == []
        sink.gate.set()
        assert worker.flush(10).ok
        put(worker)
        assert worker.flush(10).ok
    assert [each[:2] for each in told] == [("s0", {"inbox_full": 6})]


def test_a_record_that_tells_of_drops_does_not_make_another_and_another() -> None:
    class Broken(CollectingSink):
        def write(self, batch: Batch, /) -> None:
            super().write(batch)
            raise ValueError

    sink = Broken()
    with telling(sink) as (worker, told):
        worker.attach()
        for _ in range(20):
            put(worker)
            assert worker.flush(10).ok
        time.sleep(2.5)  # twice as long as it takes to be told again
        assert 1 <= len(told) <= 3
    assert sum(map(len, sink.batches)) == 20 + len(told)


def test_what_was_dropped_last_is_told_at_the_end() -> None:
    sink = CollectingSink()
    with telling(sink, overflow="drop_oldest") as (worker, told):
        for _ in range(2):
            for _ in range(15):
                worker.queue.put(ERROR, 0, b'{"event":"x","id":"i-')
            worker.attach()
            assert worker.flush(10).ok
    assert sum(each[1].get("evicted", 0) for each in told) == worker.queue.evicted
