"""A durable record: the log call returns when it is on disk, or says that this is not known."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from fapilog import configure_logging, log
from fapilog.errors import DurabilityError, RetryableError
from fapilog.recorder import slot
from fapilog.testing import CollectingSink
from fapilog.types import Batch
from tests.programs import parse_all, run


class Disk(CollectingSink):
    """A sink with a disk: it knows what was fsynced, and how often."""

    name = "disk"

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.synced: list[bytes] = []
        self.fsyncs = 0
        self.error: BaseException | None = None
        self.flush_error: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()

    def write(self, batch: Batch, /) -> None:
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.written += batch.lines

    def flush(self) -> None:
        if self.flush_error is not None:
            raise self.flush_error
        time.sleep(0.01)
        self.fsyncs += 1
        self.synced = list(self.written)


class Network:
    """A far end that keeps nothing, with a spool unless it is told otherwise."""

    name = "network"
    default_linger_seconds = 0.0

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def write(self, _batch: Batch, /) -> None:
        if self.error is not None:
            raise self.error

    async def close(self) -> None: ...


def is_on(disk: Disk, event: str) -> bool:
    return any(event.encode() in line for line in disk.synced)


def test_a_durable_call_returns_when_the_record_is_fsynced() -> None:
    disk = Disk()
    with configure_logging(sinks=[disk]):
        log.info("ordinary")
        log.info("paid", durable=True)
        assert is_on(disk, "paid")
        assert b'"durable"' not in disk.synced[-1]


def test_an_audit_record_is_durable_and_marked_whatever_the_level() -> None:
    disk = Disk()
    with configure_logging(sinks=[disk], level="error"):
        log.audit("deleted", user_id="7")
        assert is_on(disk, "deleted")
        assert b'"audit":true' in disk.synced[-1]


@pytest.mark.parametrize("sink", ["file", "duckdb"])
def test_a_durable_record_survives_a_kill_at_once(tmp_path: Path, sink: str) -> None:
    path = tmp_path / ("app.log" if sink == "file" else "logs")
    ended = run(
        """
        import os, signal, sys
        import fapilog
        fapilog.configure_logging(sinks=[sys.argv[1]], **{sys.argv[1]: {"path": sys.argv[2]}})
        for number in range(50):
            fapilog.log.info("before", number=number)
        fapilog.log.audit("the last one")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        sink,
        path,
    )
    assert ended.returncode == -9
    files = [path] if sink == "file" else sorted(path.glob("**/*.jsonl"))
    records = [record for file in files for record in parse_all(file.read_bytes())]
    assert [record["event"] for record in records] == ["before"] * 50 + ["the last one"]


def test_a_durable_record_is_in_the_spool_while_the_far_end_is_down(tmp_path: Path) -> None:
    with configure_logging(sinks=[Network(RetryableError("down"))], spool_path=tmp_path) as handle:
        log.info("paid", durable=True)
        assert handle.stats().sinks["network"].spooled == 1
        assert any(b"paid" in path.read_bytes() for path in tmp_path.glob("network/*/*.log"))


class Observed(Network):
    """A far end that looks, when it is given a record, whether that is on disk already."""

    def __init__(self, spool: Path) -> None:
        super().__init__()
        self.spool = spool
        self.spooled: dict[str, bool] = {}

    async def write(self, batch: Batch, /) -> None:
        on_disk = b"".join(path.read_bytes() for path in self.spool.glob("network/*/*.log"))
        self.spooled |= {orjson.loads(line)["event"]: line in on_disk for line in batch.lines}


@pytest.mark.parametrize(
    ("beside", "options", "spooled"),
    [
        ([], {}, True),
        ([Disk()], {}, False),
        ([Disk()], {"disk": {"level": "error"}}, True),
        ([Disk()], {"disk": {"filter": lambda record: record["event"] != "paid"}}, True),
        ([CollectingSink()], {}, True),
    ],
    ids=["alone", "a disk takes all", "below the disk's level", "filtered", "no disk"],
)
def test_what_no_other_sink_has_on_disk_is_in_the_spool_before_it_is_sent(
    beside: list[Any], options: dict[str, Any], spooled: bool, tmp_path: Path
) -> None:
    network = Observed(tmp_path)
    with configure_logging(sinks=[network, *beside], spool_path=tmp_path, **options) as handle:
        log.info("ordinary")
        handle.flush(10, durable=False)
        log.info("paid", durable=True)
    assert network.spooled == {"ordinary": False, "paid": spooled}


def test_those_who_wait_at_the_same_time_share_an_fsync() -> None:
    disk = Disk()
    with configure_logging(sinks=[disk], disk={"linger_seconds": 0}):
        log.info("first", durable=True)
        before = disk.fsyncs
        together = threading.Barrier(32)

        def pay(number: int) -> None:
            together.wait(10)
            log.info("paid", number=number, durable=True)
            assert is_on(disk, f'"number":{number},')

        threads = [threading.Thread(target=pay, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sum(b'"paid"' in line for line in disk.synced) == 32
        assert disk.fsyncs - before <= 16


def test_a_durable_call_works_on_an_event_loop() -> None:
    disk = Disk()

    async def main() -> None:
        log.info("paid", durable=True)
        await log.ainfo("paid again", durable=True)

    with configure_logging(sinks=[disk]):
        asyncio.run(main())
        assert is_on(disk, "paid again")


def test_a_durable_call_does_not_wait_for_the_linger_nor_for_a_sink_that_hangs() -> None:
    disk, stuck = Disk(), Disk()
    stuck.name = "stuck"
    stuck.gate.clear()
    try:
        with configure_logging(sinks=[stuck, disk], disk={"linger_seconds": 60}, shutdown_timeout_seconds=3) as handle:
            for _ in range(5):
                began = time.monotonic()
                log.info("paid", durable=True)
                assert time.monotonic() - began < 1
            worker = handle._runtime.worker
            tasks = asyncio.run_coroutine_threadsafe(_count_tasks(), worker._loop).result(5)
            assert tasks < 10  # nobody goes on waiting for the sink that hangs
            stuck.gate.set()
    finally:
        stuck.gate.set()


async def _count_tasks() -> int:
    return len(asyncio.all_tasks())


class Dropping:
    def __call__(self, _logger: Any, _name: str, _event: Any) -> Any:
        raise structlog.DropEvent


@pytest.mark.parametrize(
    ("sinks", "options"),
    [
        ([CollectingSink()], {}),
        ([Network()], {"network": {"spool": False}}),
        ([Network(RetryableError("down"))], {"network": {"spool": False}}),
        ([Disk(), CollectingSink()], {"disk": {"level": "error"}}),
        ([Disk()], {"disk": {"filter": lambda _record: False}}),
        ([Disk()], {"processors": [Dropping()]}),
        ([], {}),
    ],
    ids=["no disk", "no spool", "down, no spool", "below the sink's level", "filtered", "by a processor", "no sink"],
)
def test_a_record_that_no_disk_gets_is_an_error(sinks: list[Any], options: dict[str, Any]) -> None:
    with configure_logging(sinks=sinks, **{"shutdown_timeout_seconds": 0.5, **options}):
        log.info("ordinary")
        with pytest.raises(DurabilityError):
            log.info("paid", durable=True)


@pytest.mark.parametrize("error", [ValueError("lost"), RetryableError("busy"), OSError(28, "full"), SystemExit(1)])
def test_a_disk_that_does_not_take_the_record_is_an_error(error: BaseException) -> None:
    disk = Disk()
    disk.error = error
    with configure_logging(sinks=[disk], shutdown_timeout_seconds=0.5):
        for _ in range(2):
            with pytest.raises(DurabilityError):
                log.info("paid", durable=True)
        disk.error = None


def test_a_disk_that_cannot_fsync_is_an_error() -> None:
    disk = Disk()
    disk.flush_error = OSError(5, "Input/output error")
    with configure_logging(sinks=[disk]):
        with pytest.raises(DurabilityError, match="no sink could bring the record to disk"):
            log.info("paid", durable=True)
        disk.flush_error = None
        log.info("paid", durable=True)


def test_a_disk_that_hangs_is_an_error_in_time() -> None:
    disk = Disk()
    disk.gate.clear()
    with configure_logging(sinks=[disk], shutdown_timeout_seconds=0.5):
        began = time.monotonic()
        with pytest.raises(DurabilityError, match="not on disk within"):
            log.info("paid", durable=True)
        assert time.monotonic() - began < 2
        disk.gate.set()


def test_a_record_lost_at_one_disk_and_kept_at_another_is_durable() -> None:
    broken, disk = Disk(), Disk()
    broken.name, broken.error = "broken", ValueError("lost")
    with configure_logging(sinks=[broken, disk]):
        log.info("paid", durable=True)
        assert is_on(disk, "paid")


def test_a_record_refused_under_pressure_is_an_error_and_never_silent() -> None:
    disk = Disk()
    disk.gate.clear()
    with configure_logging(
        sinks=[disk], queue_maxsize=10, queue_overflow="drop", shutdown_timeout_seconds=0.5, access_log=False
    ) as handle:
        for _ in range(200):
            log.warning("flood")
        slot.recorder.queue.pressed = True
        while handle._runtime.queue.put(40, 0, b'{"id":"i-'):
            pass
        with pytest.raises(DurabilityError, match="dropped before it could be written"):
            log.info("paid", durable=True)
        disk.gate.set()


def test_others_that_are_lost_do_not_make_it_an_error() -> None:
    class Picky(Disk):
        def write(self, batch: Batch, /) -> None:
            if any(b"poison" in line for line in batch.lines):
                raise ValueError
            super().write(batch)

    disk = Picky()
    with configure_logging(sinks=[disk], disk={"batch_max_records": 1}):
        for _ in range(5):
            log.info("poison")
            log.info("paid", durable=True)
    assert sum(b"paid" in line for line in disk.synced) == 5


def test_before_there_is_a_configuration_it_is_an_error() -> None:
    with pytest.raises(DurabilityError, match="not configured"):
        log.info("paid", durable=True)


def test_after_the_end_it_is_an_error() -> None:
    handle = configure_logging(sinks=[Disk()])
    recorder = slot.recorder
    handle.close()
    slot.recorder = recorder
    with pytest.raises(DurabilityError):
        log.info("paid", durable=True)


def test_a_sink_that_logs_durably_while_it_writes_is_told_that_nothing_is_recorded() -> None:
    raised: list[Exception] = []

    class Chatty(Disk):
        def write(self, batch: Batch, /) -> None:
            try:
                log.info("nested", durable=True)
            except DurabilityError as error:
                raised.append(error)
            super().write(batch)

    disk = Chatty()
    with configure_logging(sinks=[disk]) as handle:
        log.info("paid", durable=True)
        assert handle.stats().filtered == {"own_thread": 1}
    assert len(raised) == 1


def test_durable_values_that_are_no_bool_are_fields_like_any_other() -> None:
    sink = CollectingSink()
    with configure_logging(sinks=[sink]) as handle:
        log.info("ordinary", durable="very")
        handle.flush()
    assert sink.records[0]["durable"] == "very"


def test_acknowledged_records_survive_a_kill_at_any_moment(tmp_path: Path) -> None:
    program = """
        import os, sys
        import fapilog
        fapilog.configure_logging(sinks=["file"], file={"path": sys.argv[1]})
        number = 0
        while True:
            fapilog.log.info("paid", number=number, durable=True)
            os.write(1, b"%d\\n" % number)
            number += 1
    """
    from tests.programs import start

    for at in range(3):
        path = tmp_path / f"{at}.log"
        process = start(program, path)
        assert process.stdout is not None
        while True:
            line = process.stdout.readline()
            assert line, process.stderr
            if int(line) >= 20 * (at + 1):
                break
        process.kill()
        acknowledged = [int(line), *map(int, process.stdout.read().split())]
        process.wait(10)
        process.communicate()
        lines = path.read_bytes().splitlines(keepends=True)
        kept = {record["number"] for record in parse_all(b"".join(line for line in lines if line.endswith(b"\n")))}
        assert set(acknowledged) <= kept
