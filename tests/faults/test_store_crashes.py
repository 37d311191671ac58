"""Kill whoever changes the store at each named point, and again during recovery: each record is seen once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import environment

POINTS = [
    "store.parquet.written",
    "store.parquet.renamed",
    "store.compact.written",
    "store.compact.committed",
    "store.merge.written",
    "store.merge.committed",
    "store.retain.planned",
    "store.retain.committed",
    "store.retain.recorded",
    "store.view.written",
    "store.sweep.unlink",
]

DRIVER = """
import json, os, shutil, signal, sys
from pathlib import Path

import duckdb  # it has no threads before the first connection, and those are made in the children

from fapilog import failpoints
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.deletions import read_deletions
from fapilog.store.manifest import Manifest

store, pairs, rebuild = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "rebuild"
NOW = 1_795_132_800.0  # 2026-11-20
BOUNDS = {"max_age_days": 365, "level_max_age_days": {"debug": 0.5}}

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

def line(pid, day, level):
    return json.dumps({"timestamp": f"2026-11-{day:02}T08:00:00.{pid:06}Z", "level": level, "pid": pid}) + "\\n"

def segment(name, pids, days, level="info"):
    path = store / "segments" / name
    path.write_text("".join(line(pid, days[pid % len(days)], level) for pid in pids))
    os.utime(path, (NOW, NOW))

def prepare():
    shutil.rmtree(store, ignore_errors=True)
    (store / "segments").mkdir(parents=True)
    segment("0-1.jsonl", range(0, 100), [17, 18])
    run(lambda: compact(store, grace_seconds=0, clock=lambda: NOW))
    segment("0-2.jsonl", range(100, 150), [18, 19])
    segment("1-1.jsonl", range(150, 200), [18, 19])
    segment("1-2.jsonl", range(200, 250), [18], "debug")

def compact_with(point):
    failpoints.arm(f"{point}:kill:1" if point else "")
    compact(store, grace_seconds=0, clock=lambda: NOW, **BOUNDS)

def seen(rows):
    kept, debug = rows
    assert kept == (200, 200), kept
    assert debug in ((50, 50), (0, 0)), debug
    return debug[0]

QUERY = "select count(*), count(distinct pid) from logs where level {} 'debug'"

def check():
    with LogStore(store) as opened:
        left = seen([opened.sql(QUERY.format(sign)).fetchall()[0] for sign in ("<>", "=")])
    if (store / "logs.duckdb").exists() and (store / "manifest.json").exists():
        with duckdb.connect(str(store / "logs.duckdb"), read_only=True) as database:
            seen([database.sql(QUERY.format(sign)).fetchall()[0] for sign in ("<>", "=")])
    return left

def check_deletions():
    assert check() == 0
    gone = read_deletions(store)
    assert sum(each.records for each in gone) == 50, gone
    assert {each.levels for each in gone} <= {("debug",), None}, gone
    assert Manifest.load(store).retired == ()

for first, second in pairs:
    prepare()
    assert run(check) == 0, "before"
    status = run(lambda: compact_with(first))
    assert status == -signal.SIGKILL, (first, status)
    assert run(check) == 0, f"after a kill at {first}"
    if rebuild:
        (store / "manifest.json").unlink()
        assert run(check) == 0, f"after a kill at {first}, without the manifest"
    status = run(lambda: compact_with(second))
    assert status in (0, -signal.SIGKILL), (first, second, status)
    assert run(check) == 0, f"after a kill at {first} and one at {second}"
    assert run(lambda: compact_with("")) == 0
    assert run(lambda: compact_with("")) == 0
    assert run(check if rebuild else check_deletions) == 0, f"after recovering from {first} and {second}"
print("done")
"""


def drive(path: Path, pairs: list[tuple[str, str]], how: str) -> None:
    command = [sys.executable, "-c", DRIVER, str(path / "store"), json.dumps(pairs), how]
    answer = subprocess.run(
        command, check=False, timeout=600, capture_output=True, text=True, env=environment(FAPILOG_TESTING="1")
    )
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert answer.stdout == "done\n"


def test_a_kill_at_some_points_and_at_another_while_recovering_loses_and_doubles_nothing(tmp_path: Path) -> None:
    pairs = [
        ("store.compact.written", "store.merge.written"),
        ("store.retain.planned", "store.sweep.unlink"),
    ]
    drive(tmp_path, pairs, "keep")


def test_a_manifest_lost_after_a_kill_is_made_again_from_the_files(tmp_path: Path) -> None:
    points = ["store.parquet.renamed", "store.merge.written"]
    drive(tmp_path, [(point, "store.parquet.written") for point in points], "rebuild")


@pytest.mark.faults_long
@pytest.mark.parametrize("first", POINTS)
@pytest.mark.parametrize("how", ["keep", "rebuild"])
def test_a_kill_at_any_two_points_loses_and_doubles_nothing(tmp_path: Path, first: str, how: str) -> None:
    drive(tmp_path, [(first, second) for second in POINTS], how)


FILLING = """
import json, sys
from pathlib import Path
from fapilog import failpoints
from fapilog.store import LogStore
from fapilog.store.compact import compact

store = Path(sys.argv[1])
NOW = 1_795_132_800.0  # 2026-11-20

def segment(name, *days):
    (store / "segments").mkdir(parents=True, exist_ok=True)
    level = "debug" if name == "0-1.jsonl" else "info"
    lines = [json.dumps({"timestamp": f"2026-11-{day}T08:00:00Z", "level": level}) for day in days]
    (store / "segments" / name).write_text("\\n".join(lines) + "\\n")

def step(failpoint, count, **bounds):
    failpoints.arm(failpoint)
    result = compact(store, grace_seconds=0, clock=lambda: NOW, **bounds)
    failpoints.arm("")
    with LogStore(store) as opened:
        assert opened.sql("select count(*) from logs").fetchall() == [(count,)]
        assert opened.warnings == []
    return result

segment("0-1.jsonl", 17, 18, 19)
failed = step("store.parquet.written:raise=ENOSPC:2+", 3)
assert failed.segments == 0
assert failed.problems[0].startswith("0-1.jsonl stays a segment: [Errno 28] No space left on device"), failed
assert list(store.rglob("*.parquet*")) == []
assert step("", 3).segments == 1
segment("0-2.jsonl", 18, 19)
failed = step("store.parquet.written:raise=ENOSPC:3+", 5)
assert (failed.segments, failed.merged, len(failed.problems)) == (1, 0, 2), failed
assert "2 files of 2026-11-18 stay apart: " in failed.problems[0]
assert step("", 5).merged == 4
failed = step("store.parquet.written:raise=ENOSPC:always", 4, level_max_age_days={"debug": 1})
assert failed.retired == 1, "all of the 17th can go; what of the 18th stays would have to be written again"
assert " keeps its records of debug: " in failed.problems[0]
assert step("", 3, level_max_age_days={"debug": 1}).retired == 1
print("done")
"""


def test_a_disk_that_fills_at_any_step_costs_no_record(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLING, str(tmp_path / "store")]
    answer = subprocess.run(
        command, check=False, timeout=60, capture_output=True, text=True, env=environment(FAPILOG_TESTING="1")
    )
    assert (answer.returncode, answer.stdout) == (0, "done\n"), answer.stderr[-4000:]
