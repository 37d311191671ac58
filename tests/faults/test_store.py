import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fapilog.files.segment import hold_slot
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.manifest import Manifest

CRASHING = """
import json, os, shutil, signal, sys
from pathlib import Path

import duckdb  # it has no threads before the first connection, and those are made in the children

from fapilog.store import LogStore
from fapilog.store.compact import compact

store = Path(sys.argv[1])
MUTATIONS = {"os.rename", "os.remove", "os.mkdir", "os.chmod"}

def changes_something(event, arguments):
    if str(store) not in str(arguments[:1]):
        return False
    if event == "open":
        return isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    return event in MUTATIONS

def run(task):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            task()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def compact_until(nth):
    def hook(event, arguments):
        nonlocal nth
        if changes_something(event, arguments):
            nth -= 1
            if nth == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    compact(store, grace_seconds=0)

def check():
    with LogStore(store) as opened:
        assert opened.sql("select count(*), count(distinct pid) from logs").fetchall() == [(200, 200)], "LogStore"
    if (store / "logs.duckdb").exists():
        with duckdb.connect(str(store / "logs.duckdb"), read_only=True) as database:
            answer = database.sql("select count(*), count(distinct pid) from logs").fetchall()
            assert answer == [(200, 200)], "logs.duckdb"

def refill(first):
    for number in range(2):
        path = store / "segments" / f"{number}-{first}.jsonl"
        lines = [json.dumps({"pid": pid}) + "\\n" for pid in range(100 * number, 100 * number + 100)]
        path.write_text("".join(lines))

nth = 0
while True:
    nth += 1
    shutil.rmtree(store, ignore_errors=True)
    (store / "segments").mkdir(parents=True)
    refill(1)
    status = run(lambda: compact_until(nth))
    assert status in (0, -signal.SIGKILL), status
    assert run(check) == 0, f"after a kill at step {nth}"
    if status == 0:
        break
    if nth % 3 == 0:
        assert run(lambda: compact_until(nth // 2)) in (0, -signal.SIGKILL)
        assert run(check) == 0, f"after a kill at step {nth} and one while recovering"
    if nth % 2:
        assert run(lambda: (compact_until(-1), check())) == 0, f"after recovering from step {nth}"
print(nth)
"""


def test_wherever_a_compaction_is_killed_each_record_is_seen_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CRASHING, str(tmp_path / "store")]
    answer = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 10


WRITING = """
import json, sys
from pathlib import Path
from fapilog.sinks.duckdb import DuckDBSink
from fapilog.types import Batch

sink = DuckDBSink(path=Path(sys.argv[1]), segment_max_bytes=20_000)
sink.open()
number = 0
while True:
    lines = []
    for _ in range(10):
        number += 1
        lines.append((20, 0, json.dumps({"logger": sys.argv[2], "pid": number}).encode() + b"\\n"))
    sink.write(Batch(lines))
    print(number, flush=True)
"""


def test_two_processes_write_while_others_compact_and_query_until_they_are_killed(tmp_path: Path) -> None:
    store = tmp_path / "logs"
    writers = {
        name: subprocess.Popen([sys.executable, "-c", WRITING, store, name], stdout=subprocess.PIPE) for name in "ab"
    }
    acknowledged = dict.fromkeys(writers, 0)

    def check() -> None:
        with LogStore(store) as opened:
            counts = opened.rows("select logger, count(*), count(distinct pid), max(pid) from logs group by logger")
            for name, count, distinct, highest in counts:
                assert count == distinct == highest >= acknowledged[name]

    try:
        for _ in range(3):
            for name, writer in writers.items():
                assert writer.stdout is not None
                acknowledged[name] = max(int(writer.stdout.readline()) for _ in range(300))
            check()
            assert compact(store).problems == []
            check()
    finally:
        for name, writer in writers.items():
            writer.send_signal(signal.SIGKILL)
            assert writer.stdout is not None
            acknowledged[name] = max([acknowledged[name], *map(int, writer.stdout.read().split(b"\n")[:-1])])
            writer.stdout.close()
            writer.wait()
    check()
    compact(store, grace_seconds=0)
    check()
    left = Manifest.load(store).live_segments(
        store
    )  # a process may be killed between making a segment and writing to it
    assert [segment.name for segment in left if segment.size_bytes] == []
    with hold_slot(store / "segments", 0) or pytest.fail("a killed process still holds its slot"):
        pass
