"""What is promised of each record when sinks misbehave, come, go, or are asked to vouch for it."""

import asyncio
import errno
import json
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fapilog import configure_logging, get_logger
from fapilog.errors import DurabilityError, RetryableError
from fapilog.runtime import Handle
from fapilog.types import Batch
from tests.programs import parse_all, run

log = get_logger("shop")


class Kept:
    """A sink that keeps the numbers it is given, after so many seconds for each batch."""

    def __init__(self, name: str = "kept", seconds: float = 0.0) -> None:
        self.name, self.seconds = name, seconds
        self.numbers: list[int] = []

    def write(self, batch: Batch) -> None:
        time.sleep(self.seconds)
        self.numbers += [record["number"] for line in batch.lines if "number" in (record := json.loads(line))]

    def close(self) -> None:
        """Keep what there is."""


class Stuck(Kept):
    """A sink that does not return, until it is let go."""

    def __init__(self, name: str = "stuck") -> None:
        super().__init__(name)
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, batch: Batch) -> None:
        self.entered.set()
        self.go.wait(60)

    def flush(self) -> None:
        """Be one that could vouch for what it never returns from."""


def say(count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        log.info("counted", number=number)


def until(is_so: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def balanced(handle: Handle) -> bool:
    return all(sink.balanced for sink in handle.stats().sinks.values())


class TestWhoVouchesForARecord:
    """`durable=True` returns only when the record is on disk, and raises otherwise."""

    def test_not_a_sink_that_was_added_after_it(self, tmp_path: Path) -> None:
        path, busy, go = tmp_path / "late.jsonl", threading.Event(), threading.Event()

        def passes(record: dict[str, Any]) -> bool:
            if record["event"] == "slow":
                busy.set()
                go.wait(30)
            return True

        failed: list[BaseException] = []

        def audit() -> None:
            try:
                log.audit("paid")
            except DurabilityError as error:
                failed.append(error)

        with configure_logging(sinks=[Kept()], kept={"filter": passes}) as handle:
            log.info("slow")
            assert busy.wait(30)
            threads = [
                threading.Thread(target=audit),
                threading.Thread(target=lambda: handle.add_sink({"type": "file", "path": str(path)})),
            ]
            threads[0].start()
            until(lambda: handle.stats().queue_records == 1)
            threads[1].start()
            go.set()
            for thread in threads:
                thread.join(30)
            assert [str(error) for error in failed] == [
                "no sink could bring the record to disk; name a file, the store, or a spooling sink"
            ]
            log.audit("paid", order_id=7)
        (line,) = path.read_bytes().splitlines()
        assert json.loads(line)["order_id"] == 7

    def test_not_one_that_was_closed_with_the_process(self, tmp_path: Path) -> None:
        source = """
            import atexit, sys

            def at_the_very_end():
                try:
                    log.audit("too late")
                except DurabilityError as error:
                    print("refused:", error)

            atexit.register(at_the_very_end)  # before fapilog's own, so after it
            from fapilog import configure_logging, log
            from fapilog.errors import DurabilityError
            configure_logging(sinks=[{"type": "file", "path": sys.argv[1]}])
            log.audit("in time")
        """
        program = run(source, tmp_path / "log.jsonl")
        assert program.stdout == b"refused: logging was ending, so the record is not known to be on disk\n"
        assert b"too late" in program.stderr
        assert b"too late" not in (tmp_path / "log.jsonl").read_bytes()

    def test_not_one_whose_worker_was_given_up(self, tmp_path: Path) -> None:
        source = """
            import sys
            from fapilog import configure_logging, log
            from fapilog.errors import DurabilityError
            configure_logging(sinks=[{"type": "file", "path": sys.argv[1]}])
            for _ in range(2):
                try:
                    log.audit("paid")
                except DurabilityError as error:
                    print("refused")
        """
        failing = {"FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": "worker.take:raise:always"}
        assert run(source, tmp_path / "log.jsonl", env=failing).stdout == b"refused\nrefused\n"

    def test_one_that_is_stuck_holds_up_none_that_another_can_vouch_for(self, tmp_path: Path) -> None:
        stuck, errors = Stuck(), {"type": "file", "path": str(tmp_path / "errors.jsonl"), "level": "error"}
        with configure_logging(sinks=[errors, stuck], shutdown_timeout_seconds=30) as handle:
            waiting = threading.Thread(target=log.audit, args=("for the stuck alone",))
            waiting.start()
            assert stuck.entered.wait(30)
            began = time.monotonic()
            for _ in range(3):
                log.error("declined", durable=True)
            assert time.monotonic() - began < 20
            assert waiting.is_alive()
            stuck.go.set()
            waiting.join(60)
            assert handle.flush(30).ok
        assert len((tmp_path / "errors.jsonl").read_bytes().splitlines()) == 3


@pytest.mark.parametrize("meanwhile", ["flush", "audit", "add", "remove"])
def test_who_hands_out_beside_the_worker_drops_nothing_of_a_sink_that_works(tmp_path: Path, meanwhile: str) -> None:
    slow, other = Kept("slow", 0.02), Kept("other")
    with configure_logging(
        sinks=[slow, other, {"type": "file", "path": str(tmp_path / "log.jsonl")}],
        slow={"batch_max_records": 10},
        queue_maxsize=200,
        block_timeout_seconds=0.3,
        shutdown_timeout_seconds=60,
    ) as handle:
        say(600)
        if meanwhile == "flush":
            assert handle.flush(60).ok
        elif meanwhile == "audit":
            log.audit("paid", number=600)
        elif meanwhile == "add":
            added = Kept("added")
            handle.add_sink(added)
            say(1, 600)
        else:
            gone = handle.remove_sink("other")
            assert (gone.accepted, gone.delivered) == (600, 600)
        assert handle.flush(60).ok
        assert {name: sink.dropped for name, sink in handle.stats().sinks.items() if sink.dropped} == {}
        assert balanced(handle)
    assert slow.numbers[:600] == list(range(600))


def test_no_more_files_at_the_first_record_is_no_end_of_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, refused = Kept(), 0
    make = asyncio.SelectorEventLoop

    def refuse() -> Any:
        nonlocal refused
        if threading.current_thread().name == "fapilog-worker" and refused < 3:
            refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return make()

    monkeypatch.setattr(asyncio, "SelectorEventLoop", refuse)
    with configure_logging(sinks=[kept]) as handle:
        for number in range(10):
            say(1, number)
            assert handle.flush(30).ok
        assert handle.stats().worker_restarts == 0
        assert balanced(handle)
    assert refused == 3
    assert kept.numbers == list(range(10))


def test_a_process_that_ends_while_a_sink_is_removed_counts_what_that_has_lost(
    capfd: pytest.CaptureFixture[str],
) -> None:
    stuck, kept = Stuck(), Kept()
    handle = configure_logging(sinks=[stuck, kept], shutdown_timeout_seconds=1)
    say(50)
    assert stuck.entered.wait(30)
    failed: list[Exception] = []

    def remove() -> None:
        try:
            handle.remove_sink("stuck", 30)
        except Exception as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    removing = threading.Thread(target=remove)
    removing.start()
    until(lambda: handle._runtime.worker.deliveries[0].name == "kept")
    handle._runtime.close(1)
    removing.join(30)
    assert [str(error) for error in failed] == ["sink 'stuck' cannot be removed: logging has ended"]
    stats = handle.stats().sinks["stuck"]
    assert (stats.balanced, stats.dropped) == (True, {"shutdown_timeout": 50})
    assert "dropped=50 (shutdown_timeout=50)" in capfd.readouterr().err
    stuck.go.set()


def test_a_filter_that_wants_to_end_the_program_costs_no_sink_anything() -> None:
    kept, filtered = Kept(), Kept("filtered")

    def leave(_record: dict[str, Any]) -> bool:
        raise SystemExit

    with configure_logging(sinks=[kept, filtered], filtered={"filter": leave}) as handle:
        say(20)
        assert handle.flush(30).ok
        assert handle.stats().worker_restarts == 0
    assert kept.numbers == filtered.numbers == list(range(20))


def test_a_function_that_returns_an_awaitable_is_awaited() -> None:
    class Later(Kept):
        def write(self, batch: Batch) -> Awaitable[None]:  # type: ignore[override]
            async def write() -> None:
                await asyncio.sleep(0.01)
                Kept.write(self, batch)

            return write()

    later = Later()
    with configure_logging(sinks=[later]) as handle:
        say(20)
        assert handle.flush(30).ok
        assert later.numbers == list(range(20))


def test_a_sink_that_ends_the_program_as_it_starts_is_closed_and_the_others_go_on() -> None:
    class Leaves(Kept):
        def start(self) -> None:
            raise SystemExit

    kept = Kept()
    with configure_logging(sinks=[Leaves("leaves"), kept]) as handle:
        say(5)
        assert handle.flush(30).ok
        assert handle.stats().sinks["leaves"].dropped == {"sink_closed": 5}
    assert kept.numbers == list(range(5))


@pytest.mark.parametrize("trouble", ["hangs", "fails"])
def test_a_coroutine_without_a_spool_that_hangs_or_fails_holds_up_no_other(trouble: str) -> None:
    entered = threading.Event()

    class Far:
        name = "far"

        async def write(self, batch: Batch) -> None:
            entered.set()
            if trouble == "fails":
                raise RetryableError("away")
            await asyncio.sleep(3_600)

        async def close(self) -> None:
            """Have nothing to release."""

    kept = Kept()
    with configure_logging(
        sinks=[Far(), kept],
        far={"spool": False, "linger_seconds": 0, "circuit_breaker_threshold": 1_000},
        queue_maxsize=100,
        block_timeout_seconds=30,
        shutdown_timeout_seconds=1,
    ) as handle:
        say(1)
        assert entered.wait(30)
        began = time.monotonic()
        say(1_000, 1)
        until(lambda: len(kept.numbers) == 1_001)
        assert time.monotonic() - began < 20, "not one block timeout"
        assert handle.stats().sinks["kept"].dropped == {}


def test_a_sink_that_cannot_begin_is_not_added(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    with configure_logging(sinks=[kept]) as handle:
        say(1)
        assert handle.flush(30).ok
        with monkeypatch.context() as patch:
            patch.setattr("fapilog.pipeline.delivery.Delivery.begin", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                handle.add_sink(Kept("late"))
        assert handle.list_sinks() == ("kept",)
        say(1, 1)
        assert handle.flush(30).ok
    assert kept.numbers == [0, 1]


@pytest.mark.parametrize("what", ["close", "configure again"])
def test_whoever_is_alerted_may_end_or_replace_the_logger(what: str, tmp_path: Path) -> None:
    class Down(Kept):
        def write(self, batch: Batch) -> None:
            raise RetryableError("away")

    done = threading.Event()

    def alerted(_alert: Any) -> None:
        if done.is_set():
            return
        if what == "close":
            handle.close(0.5)
        else:
            configure_logging(sinks=[{"type": "file", "path": str(tmp_path / "log.jsonl")}])
        done.set()

    handle = configure_logging(
        sinks=[Down("down")],
        down={"circuit_breaker_threshold": 1},
        on_alert=alerted,
        alert_interval_seconds=0.05,
        shutdown_timeout_seconds=0.5,
    )
    say(20)
    assert done.wait(30)
    stats = handle.stats().sinks["down"]
    assert (stats.balanced, stats.queued, sum(stats.dropped.values())) == (True, 0, 20)


def test_a_flush_while_the_logger_ends_says_what_it_knows_and_raises_nothing() -> None:
    failed: list[BaseException] = []

    def flush(handle: Handle, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                handle.flush(0.2)
                asyncio.run(handle.aflush(0.2))
            except BaseException as error:  # noqa: BLE001 - none may come
                failed.append(error)

    for _ in range(10):
        ended = threading.Event()
        handle = configure_logging(sinks=[Kept()])
        say(5)
        threads = [threading.Thread(target=flush, args=(handle, ended)) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.01)
        handle.close()
        ended.set()
        for thread in threads:
            thread.join(30)
    assert failed == []


def test_a_sink_that_cannot_tell_its_own_figures_spoils_no_statistics() -> None:
    class Broken(Kept):
        @property
        def unformatted(self) -> int:
            raise ZeroDivisionError

    with configure_logging(sinks=[Broken()]) as handle:
        say(3)
        assert handle.flush(30).ok
        assert (handle.stats().sinks["kept"].delivered, handle.stats().sinks["kept"].unformatted) == (3, 0)


def test_without_a_descriptor_left_records_wait_and_little_is_said(tmp_path: Path) -> None:
    ended = run(
        """
        import os, resource, sys
        import fapilog
        handle = fapilog.configure_logging(sinks=["file"], file={"path": sys.argv[1]})
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.dup(2))
        except OSError:
            pass
        for number in range(100):
            fapilog.log.info("before", number=number)
        for each in held:
            os.close(each)
        fapilog.log.info("after")
        """,
        tmp_path / "app.log",
    )
    assert ended.returncode == 0
    written = parse_all((tmp_path / "app.log").read_bytes())
    assert [record["event"] for record in written] == ["before"] * 100 + ["after"]
    assert len(ended.stderr.splitlines()) <= 3, ended.stderr
