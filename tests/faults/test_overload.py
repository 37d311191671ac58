"""Faults F032 to F043: more than can be delivered, sinks that misbehave, and the account of what was lost."""

import asyncio
import bisect
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from fapilog import configure_logging, log
from fapilog.diagnostics import DropReason
from fapilog.errors import BatchRejectedError, BatchTooLargeError, RetryableError, SinkClosedError
from fapilog.logger import get_logger
from fapilog.pipeline.ledger import Stats
from fapilog.runtime import Handle
from fapilog.testing import CollectingSink
from fapilog.types import Batch
from tests.programs import run
from tests.receiver import Receiver


class Gated(CollectingSink):
    """A sink that takes nothing until its gate opens."""

    name = "gated"

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.reached = threading.Event(), threading.Event()

    def write(self, batch: Batch, /) -> None:
        self.reached.set()
        assert self.gate.wait(60)
        super().write(batch)


class Good(CollectingSink):
    """A healthy sink, which knows how late each record came."""

    name = "good"

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def write(self, batch: Batch, /) -> None:
        super().write(batch)
        self.delays += [(time.time_ns() - record.timestamp_ns) / 1e9 for record in batch]


@contextmanager
def logging_to(*sinks: Any, **options: Any) -> Iterator[Handle]:
    """Log to *sinks*; every snapshot on the way, and the one after the end, balances."""
    wrong: list[Stats] = []
    done = threading.Event()
    options = {"access_log": False, "shutdown_timeout_seconds": 2, **options}
    with configure_logging(sinks=list(sinks), **options) as handle:

        def watch() -> None:
            while not done.wait(0.002):
                stats = handle.stats()
                if not all(sink.balanced for sink in stats.sinks.values()):
                    wrong.append(stats)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield handle
        finally:
            for sink in sinks:
                if isinstance(sink, Gated):
                    sink.gate.set()
            done.set()
            watching.join(10)
    assert not wrong, wrong[0]
    for sink in handle.stats().sinks.values():
        assert (sink.queued, sink.in_flight, sink.balanced) == (0, 0, True), sink


def on_a_loop(function: Callable[[], Any]) -> Any:
    """Call a function from within a running event loop."""

    async def main() -> Any:
        return function()

    return asyncio.run(main())


def levels_of(sink: CollectingSink) -> Counter[str]:
    return Counter(record["level"] for record in sink.records if record["logger"] != "fapilog")


@pytest.mark.parametrize("overflow", ["drop", "auto"])
def test_f032_what_is_full_gives_up_the_lowest_levels_first_counts_each_and_tells_it_afterwards(overflow: str) -> None:
    sink = Gated()
    called: Counter[str] = Counter(info=1, error=1)
    gated = {"level": "debug", "linger_seconds": 0}
    with logging_to(sink, queue_maxsize=1_000, queue_overflow=overflow, level="debug", gated=gated) as handle:

        def flood(count: int, *levels: str) -> None:
            for number in range(count):
                for level in levels:
                    getattr(log, level)("flood")
                    called[level] += 1
                if number % 100 == 99:  # so that nothing is lost at the door
                    _until(handle, lambda stats: not stats.queue_records)

        log.info("first")
        assert sink.reached.wait(30)
        _until(handle, lambda stats: stats.sinks["gated"].state == "stalled")
        on_a_loop(lambda: flood(600, "debug", "info"))
        assert handle.stats().sinks["gated"].queued == 899
        on_a_loop(lambda: flood(300, "warning", "error"))
        assert handle.stats().sinks["gated"].dropped == {"inbox_full": 800}
        on_a_loop(lambda: flood(500, "error"))
        on_a_loop(lambda: flood(100, "debug", "info", "warning"))
        stats = handle.stats()
        dropped = stats.sinks["gated"].dropped["inbox_full"]
        sink.gate.set()
        assert handle.flush(30).ok
        log.error("again")
        assert handle.flush(30).ok
        assert stats.dropped == {}
        kept = levels_of(sink)
        assert kept == {"info": 1, "warning": 200, "error": 801}
        assert kept.total() + dropped == called.total()
    [told] = [record for record in sink.records if record["event"] == "records were dropped"]
    assert (told["sink"], told["dropped"], told["reasons"]) == ("gated", dropped, {"inbox_full": dropped})
    assert told["first_dropped"] <= told["last_dropped"]


def _until(handle: Handle, condition: Callable[[Stats], bool]) -> None:
    until = time.monotonic() + 30
    while not condition(handle.stats()):
        assert time.monotonic() < until, handle.stats()
        time.sleep(0.001)


async def _nothing() -> None:
    await asyncio.sleep(0.01)


def test_f033_with_block_a_thread_waits_no_longer_than_the_timeout_and_a_loop_never() -> None:
    sink = Gated()
    with logging_to(
        sink, queue_maxsize=50, queue_overflow="block", block_timeout_seconds=0.3, gated={"linger_seconds": 0}
    ) as handle:
        log.info("first")
        assert sink.reached.wait(10)

        def slowest(count: int) -> float:
            longest = 0.0
            for _ in range(count):
                began = time.perf_counter()
                log.info("flood")
                longest = max(longest, time.perf_counter() - began)
            return longest

        handle._runtime.worker._hand_out = _nothing  # type: ignore[method-assign]
        time.sleep(0.05)
        waited = slowest(52)
        assert 0.25 < waited < 0.5
        assert handle.stats().dropped["block_timeout"] == 2
        assert on_a_loop(lambda: slowest(100)) < 0.05
        assert handle.stats().dropped["queue_full"] == 100
        del handle._runtime.worker._hand_out


def test_f034_a_few_huge_records_are_bounded_by_their_bytes() -> None:
    sink = Gated()
    limit = 4 << 20
    most = 0
    with logging_to(sink, queue_max_bytes=limit, queue_overflow="drop") as handle:
        for _ in range(500):
            log.error("huge", text="x" * 30_000, more="y" * 30_000, rest="z" * 30_000)
            stats = handle.stats()
            most = max(most, stats.queue_bytes)
            assert stats.sinks["gated"].inbox_bytes <= limit
        assert most <= limit
        assert 0 < stats.sinks["gated"].queued < 120
        sink.gate.set()


def test_f036_a_slow_sink_drops_alone_and_delays_no_other() -> None:
    class Slow(CollectingSink):
        name = "slow"

        def write(self, batch: Batch, /) -> None:
            time.sleep(0.002 * len(batch))

    good = Good()
    with logging_to(Slow(), good, queue_maxsize=300, queue_overflow="drop", slow={"batch_max_records": 20}) as handle:
        for number in range(2_000):
            log.info("order", number=number)
            if number % 5 == 0:
                time.sleep(0.002)
        handle.flush(0.5)
        stats = handle.stats()
        assert set(stats.sinks["slow"].dropped) == {"inbox_full"}
        assert stats.sinks["good"].dropped == {}
    assert [record["number"] for record in good.records if "number" in record] == list(range(2_000))
    assert sorted(good.delays)[int(len(good.delays) * 0.99)] < 0.3


class Raises(CollectingSink):
    name = "bad"

    def write(self, _batch: Batch, /) -> None:
        raise SystemExit("enough")


class Hangs(CollectingSink):
    name = "bad"
    gate = threading.Event()

    def write(self, _batch: Batch, /) -> None:
        self.gate.wait(60)


class Nonsense(CollectingSink):
    name = "bad"

    def write(self, batch: Batch, /) -> Any:
        batch.lines.clear()
        return object()


class BlocksItsLoop(CollectingSink):
    name = "bad"
    gate = threading.Event()

    async def write(self, _batch: Batch, /) -> None:  # type: ignore[override]
        self.gate.wait(60)

    async def close(self) -> None:  # type: ignore[override]
        ...


class Spins(CollectingSink):
    name = "bad"

    def write(self, _batch: Batch, /) -> None:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            pass


class LogsInside(CollectingSink):
    name = "bad"

    def write(self, batch: Batch, /) -> None:
        for _ in batch:
            log.info("nested")


@pytest.mark.parametrize(
    "bad", [Raises, Hangs, Nonsense, BlocksItsLoop, pytest.param(Spins, marks=pytest.mark.faults_long), LogsInside]
)
def test_f037_a_sink_that_misbehaves_delays_no_other_and_is_named(
    bad: type[CollectingSink], capfd: pytest.CaptureFixture[str]
) -> None:
    good = Good()
    Hangs.gate.clear()
    BlocksItsLoop.gate.clear()
    try:
        with logging_to(bad(), good, bad={"spool": False}, shutdown_timeout_seconds=0.5) as handle:
            for number in range(300):
                log.info("order", number=number)
                time.sleep(0.005)
            if bad in (Hangs, BlocksItsLoop):
                until = time.monotonic() + 5
                while handle.stats().sinks["bad"].state != "stalled" and time.monotonic() < until:
                    time.sleep(0.01)
                assert handle.stats().sinks["bad"].state == "stalled"
            until = time.monotonic() + 5
            while len(good.delays) < 300 and time.monotonic() < until:
                time.sleep(0.01)
            assert [record["number"] for record in good.records if "number" in record] == list(range(300))
            assert sorted(good.delays)[290] < 0.5
            if bad is LogsInside:
                assert handle.stats().filtered["own_thread"] == handle.stats().sinks["bad"].delivered > 0
    finally:
        Hangs.gate.set()
        BlocksItsLoop.gate.set()
    said = capfd.readouterr().err
    if bad is Raises:
        assert said.count("sink bad lost") == 1
    if bad in (Hangs, BlocksItsLoop):
        assert said.count("sink bad is stuck in write()") == 1


def test_f037_a_filter_that_hangs_holds_up_its_own_sink_alone_and_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    good, other = Good(), CollectingSink()
    other.name = "other"
    gate = threading.Event()

    def wanted(record: dict[str, Any]) -> bool:
        assert gate.wait(30)
        return bool(record["number"] % 2)

    with logging_to(good, other, other={"filter": wanted}) as handle:
        for number in range(300):
            log.info("order", number=number)
            time.sleep(0.005)
        handle.flush(0.2)
        assert len(good.delays) == 300
        assert sorted(good.delays)[290] < 0.5
        stats = handle.stats().sinks["other"]
        assert (stats.queued, stats.delivered, stats.routed_away) == (300, 0, 0)
        gate.set()
    assert [record["number"] for record in other.records] == list(range(1, 300, 2))
    stats = handle.stats().sinks["other"]
    assert (stats.queued, stats.delivered, stats.routed_away) == (0, 150, 150)
    assert capfd.readouterr().err.count("the filter of sink other is stuck") == 1


@pytest.mark.parametrize("spools", [False, True])
def test_what_a_filter_has_not_judged_at_the_end_is_counted_as_lost(spools: bool, tmp_path: Path) -> None:
    gate = threading.Event()

    async def send(_batch: Batch, /) -> None: ...

    sink = CollectingSink()
    if spools:
        sink.write = send  # type: ignore[method-assign,assignment]
    sink.name = "other"
    with logging_to(
        sink, other={"filter": lambda _record: gate.wait(30)}, spool_path=tmp_path, shutdown_timeout_seconds=0.2
    ) as handle:
        for _ in range(10):
            log.info("order")
    gate.set()
    stats = handle.stats().sinks["other"]
    assert (stats.queued, stats.in_flight, stats.spooled, sum(stats.dropped.values())) == (0, 0, 0, 10)


@pytest.mark.faults_long
def test_f039_fifty_processes_that_come_back_together_do_not_come_at_the_same_moment(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.refuse()
    program = """
        import select, sys
        import fapilog
        handle = fapilog.configure_logging(
            sinks=[sys.argv[1]], spool_path=sys.argv[2], access_log=False,
            http={"circuit_breaker_threshold": 1, "circuit_breaker_timeout_seconds": 4})
        print("ready", flush=True)
        logged = 0
        while not select.select([sys.stdin], [], [], 0.25)[0]:
            fapilog.log.info("order", number=logged)
            logged += 1
        stats = handle.stats().sinks["http"]
        print(logged, handle.flush(20).ok, dict(stats.dropped), flush=True)
    """
    import subprocess

    from tests.programs import command, environment

    made = [
        subprocess.Popen(
            command(program, receiver.url(), tmp_path / "spool"),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(50)
    ]
    for process in made:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    time.sleep(6)  # all of them have found it down by then
    receiver.listen()
    time.sleep(12)
    logged = 0
    for process in made:
        count, ok, dropped = process.communicate(timeout=60)[0].split(maxsplit=2)
        assert (ok, dropped) == ("True", "{}\n")
        logged += int(count)
    times = sorted(request["at"] for request in receiver.report()["requests"])
    busiest = max(bisect.bisect_left(times, at + 1) - index for index, at in enumerate(times))
    steady = sum(times[0] + 5 <= at < times[0] + 9 for at in times) / 4
    assert busiest <= 2 * steady, (busiest, steady)
    assert len(receiver.lines()) == logged


def test_f040_a_batch_that_is_always_refused_stops_nothing_behind_it(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behave({"do": "reject", "marker": "poison"})
    with logging_to(receiver.url(), http={"linger_seconds": 0.05}, spool_path=tmp_path) as handle:
        for number in range(300):
            log.info("poison" if number in (7, 150, 151) else "order", number=number)
        assert handle.flush(10).ok
        stats = handle.stats().sinks["http"]
        assert (stats.delivered, stats.dropped) == (297, {"rejected": 3})
    *found, told = [json.loads(line) for line in receiver.lines()]
    assert [each["number"] for each in found] == [number for number in range(300) if number not in (7, 150, 151)]
    assert (told["event"], told["reasons"]) == ("records were dropped", {"rejected": 3})
    dead = (tmp_path / "dead" / "http.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["number"] for line in dead] == [7, 150, 151]


def test_f041_a_storm_from_an_event_loop_leaves_it_alive_and_every_record_counted() -> None:
    ended = run(
        """
        import asyncio, time
        import fapilog

        class Slow:
            name = "slow"
            def write(self, batch): time.sleep(0.05)
            def close(self): pass

        handle = fapilog.configure_logging(sinks=[Slow()], queue_max_bytes=1 << 20, access_log=False)

        async def main():
            gaps, called, last = [], 0, time.perf_counter()
            until = last + 2
            while last < until:
                for _ in range(100):
                    fapilog.log.error("storm", n=called)
                    called += 1
                await asyncio.sleep(0)
                now = time.perf_counter()
                gaps.append(now - last)
                last = now
            return max(gaps), called

        gap, called = asyncio.run(main())
        handle.flush(5)
        stats = handle.stats()
        told = stats.accepted + sum(stats.dropped.values()) - called
        print(gap, called, told, stats.sinks["slow"].balanced)
        """
    )
    gap, called, told, balanced = ended.stdout.split()
    assert float(gap) < 0.3
    assert int(called) > 1_000
    assert 0 <= int(told) <= 20  # the records that tell of drops
    assert balanced == b"True"


def test_f042_what_is_changed_after_the_call_was_recorded_as_it_was() -> None:
    sink = Gated()
    with logging_to(sink) as handle:
        items = {"amount": 1, "lines": [1, 2]}
        for _ in range(3):
            log.info("order", items=items)
        items["amount"] = 999
        items["lines"].append(3)  # type: ignore[attr-defined]
        sink.gate.set()
        assert handle.flush(10).ok
    assert [record["items"] for record in sink.records] == [{"amount": 1, "lines": [1, 2]}] * 3


def test_f043_many_threads_and_tasks_get_numbers_without_gaps_and_keep_their_own_order() -> None:
    sink = CollectingSink()

    async def task(name: str) -> None:
        for number in range(20):
            get_logger("tried").info("order", who=name, number=number)
            await asyncio.sleep(0)

    async def tasks() -> None:
        await asyncio.gather(*(task(f"task {each}") for each in range(100)))

    def thread(name: str) -> None:
        for number in range(20):
            get_logger("tried").info("order", who=name, number=number)

    with logging_to(sink) as handle:
        threads = [threading.Thread(target=thread, args=(f"thread {each}",)) for each in range(100)]
        for each in threads:
            each.start()
        asyncio.run(tasks())
        for each in threads:
            each.join(20)
        assert handle.flush(10).ok
    assert [int(record["id"].rpartition("-")[2]) for record in sink.records] == list(range(1, 4_001))
    for who in {record["who"] for record in sink.records}:
        assert [record["number"] for record in sink.records if record["who"] == who] == list(range(20))


_RAISING: dict[str, Exception] = {
    "too_large": BatchTooLargeError("no"),
    "rejected": BatchRejectedError("no"),
    "sink_error": ValueError("no"),
    "sink_closed": SinkClosedError("gone"),
    "retries_exhausted": RetryableError("busy"),
}
_POLICIES = {
    "block_timeout": "block",
    "evicted": "drop_oldest",
    "sampled_under_pressure": "sample",
    "queue_full": "drop",
    "inbox_full": "drop",
}


def _options(reason: str, path: Path) -> dict[str, Any]:
    """Return the settings under which a loss is near."""
    options: dict[str, Any] = {"queue_maxsize": 20, "block_timeout_seconds": 0.05, "spool_path": path}
    options["queue_overflow"] = _POLICIES.get(reason, "auto")
    gated: dict[str, Any] = {"linger_seconds": 0}
    options["gated"] = gated
    if reason in _RAISING:
        gated |= {"max_retry_attempts": 0}
    if reason.startswith("spool_") or reason == "too_old":
        gated |= {"spool": True}
    if reason == "spool_full":
        gated |= {"spool_max_bytes": 3_000}
    if reason == "too_old":
        gated |= {"spool_max_age_seconds": 0.2}
    if reason == "early_full":
        options["queue_maxsize"] = 2_000
    return options


def _lose(reason: DropReason, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Produce a loss, and return what was counted at the door and at the sink."""
    sink = Gated()
    options = _options(reason, tmp_path)
    if reason in _RAISING:
        monkeypatch.setattr(sink, "write", lambda _batch: _raise(_RAISING[reason]))
    if reason == "early_full":
        for _ in range(1_010):
            log.info("early")
    with configure_logging(sinks=[sink], access_log=False, shutdown_timeout_seconds=0.3, **options) as handle:
        if reason == "closed":
            handle._runtime.queue.close()
        log.info("first")
        if reason in ("queue_full", "block_timeout", "evicted", "sampled_under_pressure"):
            assert sink.reached.wait(10)
            handle._runtime.worker._hand_out = _nothing  # type: ignore[method-assign]
            time.sleep(0.1)
        if reason == "encoding_failed":
            monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
            monkeypatch.setattr(handle._runtime.recorder, "_process", None)
        for _ in range(60 if reason == "spool_full" else 30):
            log.info("flood", what=object())
            if reason in ("inbox_full", "spool_full"):
                time.sleep(0.02)
        if reason.startswith("spool_") or reason == "too_old":
            _spoil(handle, reason, tmp_path, monkeypatch)
        if reason == "worker_failed":
            monkeypatch.setattr(handle._runtime.worker, "_hand_out", None)
            for _ in range(100):
                log.info("more")
                time.sleep(0.02)
        if reason == "shutdown_aborted":
            handle._runtime.worker.abort()
        if reason.startswith("shutdown"):
            handle.close(0.1)
        sink.gate.set()
        if not reason.startswith("shutdown"):
            handle.flush(2)
        if vars(handle._runtime.worker).get("_hand_out"):
            del handle._runtime.worker._hand_out
            handle.flush(2)
    stats = handle.stats()
    assert stats.sinks["gated"].balanced
    return Counter(stats.dropped) + Counter(stats.sinks["gated"].dropped)


def _raise(error: Exception) -> None:
    raise error


def _spoil(handle: Handle, reason: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until the records are on disk, and then harm them."""
    until = time.monotonic() + 10
    while handle.stats().sinks["gated"].queued and time.monotonic() < until:
        time.sleep(0.01)
    segments = sorted(path.glob("gated/*/*.log"))
    if reason == "spool_corrupt":
        for segment in segments:
            whole = bytearray(segment.read_bytes())
            whole[-50] ^= 1
            segment.write_bytes(whole)
    elif reason == "spool_vanished":
        for segment in segments:
            segment.unlink()
    elif reason == "too_old":
        time.sleep(0.4)
    elif reason == "spool_enospc":
        spool = handle._runtime.deliveries[0]._spool
        assert spool is not None
        own = spool._own
        assert own is not None
        appending, calls = own.append, itertools.count(1)

        def append(*args: Any, **options: Any) -> None:
            call = next(calls)
            if call == 1:
                own._seal()  # what comes goes into a second segment
            if call == 2:
                raise OSError(28, "No space left on device")
            appending(*args, **options)

        monkeypatch.setattr(own, "append", append)
        for _ in range(2):
            log.info("more", what=object())
            time.sleep(0.8)


@pytest.mark.parametrize("reason", get_args(DropReason))
def test_each_reason_for_a_loss_can_happen_and_is_counted(
    reason: DropReason, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _lose(reason, tmp_path, monkeypatch)[reason] > 0
