"""Many processes write, others read, the store is compacted, workers are killed: each record is there once."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.manifest import Manifest
from tests.programs import environment

WRITER = """
import json, os, sys, time
from pathlib import Path
from fapilog.sinks.duckdb import DuckDBSink
from fapilog.types import Batch

sink = DuckDBSink(path=Path(sys.argv[1]), segment_max_bytes=200_000, upkeep_interval_seconds=0.5)
sink._upkeep._compact_bytes = 1_000_000
sink.open()
number, end = 0, time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    lines = []
    for _ in range(50):
        number += 1
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06}Z"
        record = {"timestamp": stamp, "level": "info", "event": "order placed", "logger": sys.argv[2], "pid": number}
        lines.append((20, 0, json.dumps(record).encode() + b"\\n"))
    sink.write(Batch(lines))
    os.write(1, b"%d\\n" % number)
    time.sleep(0.02)
sink.close()
"""

READER = """
import sys, time
from fapilog.store import LogStore

end, asked = time.monotonic() + float(sys.argv[2]), 0
with LogStore(sys.argv[1]) as store:
    while time.monotonic() < end or not asked:
        query = "select logger, count(*), count(distinct pid), max(pid) from logs group by logger"
        for logger, count, distinct, highest in store.rows(query):
            assert count == distinct == highest, (logger, count, distinct, highest)
        assert not store.warnings, store.warnings
        asked += 1
print(asked)
"""


@contextmanager
def program(source: str, *arguments: object, output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", source, *map(str, arguments)], stdout=out, stderr=out, env=environment()
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def acknowledged(output: Path) -> int:
    lines = output.read_bytes().rpartition(b"\n")[0].splitlines()
    return int(lines[-1]) if lines else 0


def check(store: Path, outputs: dict[str, Path]) -> None:
    with LogStore(store) as opened:
        query = "select logger, count(*), count(distinct pid), max(pid) from logs group by logger"
        found = {logger: figures for logger, *figures in opened.rows(query)}
    for name, output in outputs.items():
        if written := acknowledged(output):
            count, distinct, highest = found[name]
            assert count == distinct == highest >= written, name


def run_load(path: Path, *, seconds: float, writers: int, readers: int) -> None:
    store = path / "logs"
    (store / "segments").mkdir(parents=True)
    outputs = {f"w{number}": path / f"w{number}" for number in range(writers)}
    with ExitStack() as stack:
        started = [
            stack.enter_context(program(WRITER, store, name, seconds, output=output))
            for name, output in outputs.items()
        ]
        asking = [
            stack.enter_context(program(READER, store, seconds, output=path / f"r{number}"))
            for number in range(readers)
        ]
        for process in started:
            assert process.wait(seconds + 60) == 0
        for number, process in enumerate(asking):
            assert process.wait(seconds + 60) == 0, (path / f"r{number}").read_text()[-2000:]
        check(store, outputs)
        compact(store, grace_seconds=0)
        check(store, outputs)
        assert [segment for segment in Manifest.load(store).live_segments(store) if segment.size_bytes] == []


def run_kills(path: Path, *, seconds: float, pause_seconds: float, writers: int) -> None:
    store = path / "logs"
    chance = random.Random(7)  # noqa: S311 - the same workers each time
    outputs: dict[str, Path] = {}
    with ExitStack() as stack:

        def start() -> "tuple[Path, subprocess.Popen[bytes]]":
            name = f"w{len(outputs)}"
            outputs[name] = path / name
            return outputs[name], stack.enter_context(program(WRITER, store, name, seconds + 90, output=outputs[name]))

        running = [start() for _ in range(writers)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(pause_seconds)
            which = chance.randrange(writers)
            running[which][1].kill()
            running[which][1].wait()
            running[which] = start()
        by = time.monotonic() + 30
        while not all(acknowledged(output) for output, _ in running):
            assert time.monotonic() < by
            time.sleep(0.05)
        for _, process in running:
            process.kill()
            process.wait()
        check(store, outputs)
        compact(store, grace_seconds=0)
        check(store, outputs)
        slots = list((store / "segments").glob("*.lock"))
        assert len(slots) <= writers + 1, "a dead process's slot is taken over"


def test_three_processes_write_while_two_read_and_each_record_is_there_once(tmp_path: Path) -> None:
    run_load(tmp_path, seconds=1, writers=3, readers=2)


def test_workers_that_are_killed_lose_nothing_that_was_written(tmp_path: Path) -> None:
    run_kills(tmp_path, seconds=1.5, pause_seconds=0.5, writers=3)


@pytest.mark.faults_long
def test_eight_processes_write_for_a_minute_while_four_read(tmp_path: Path) -> None:
    run_load(tmp_path, seconds=60, writers=8, readers=4)


@pytest.mark.faults_long
def test_a_worker_is_killed_every_second_for_a_minute(tmp_path: Path) -> None:
    run_kills(tmp_path, seconds=60, pause_seconds=1, writers=4)


def test_a_hundred_processes_one_after_another_leave_one_slot_and_few_files(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fapilog.sinks.duckdb import DuckDBSink
from fapilog.types import Batch
for number in range(100):  # a sink that is closed has let go of all that a process would
    sink = DuckDBSink(path=Path(sys.argv[1]), compaction="off")
    sink.open()
    sink.write(Batch([(20, 0, b'{"pid": %d}\\n' % number)]))
    sink.close()
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, timeout=60, env=environment())
    assert sorted(path.name for path in (tmp_path / "segments").iterdir()) == ["0-1.jsonl", "0.lock"]
    with LogStore(tmp_path) as store:
        assert list(store.rows("select count(*), count(distinct pid) from logs")) == [(100, 100)]
