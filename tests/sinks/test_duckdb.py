import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fapilog.files.segment import list_segments
from fapilog.sinks.duckdb import DuckDBSink
from fapilog.store import LogStore
from fapilog.testing import SinkContract
from fapilog.types import INFO, Batch


def until(condition: Callable[[], object]) -> None:
    by = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < by
        time.sleep(0.02)


def batch_of(*events: str) -> Batch:
    lines = [json.dumps({"timestamp": "2096-11-20T08:00:00.000001Z", "event": event}) for event in events]
    return Batch([(INFO, 0, line.encode() + b"\n") for line in lines])


def events(path: Path) -> list[str]:
    with LogStore(path) as store:
        return [row[0] for row in store.sql("select event from logs order by event").fetchall()]


class TestDuckDBSink(SinkContract):
    def make_sink(self, tmp_path: Path) -> DuckDBSink:
        return DuckDBSink(path=tmp_path)

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        segments = list_segments(tmp_path / "segments")
        return [
            line
            for segment in segments
            for line in (tmp_path / "segments" / segment.name).read_bytes().splitlines(keepends=True)
        ]


def test_what_is_written_can_be_queried_at_once(tmp_path: Path) -> None:
    sink = DuckDBSink(path=tmp_path / "logs")
    sink.open()
    sink.write(batch_of("one", "two"))
    assert events(tmp_path / "logs") == ["one", "two"]
    sink.close()


def test_opening_makes_a_private_directory_and_takes_no_slot(tmp_path: Path) -> None:
    DuckDBSink(path=tmp_path / "deep" / "logs").open()
    store = tmp_path / "deep" / "logs"
    assert store.stat().st_mode & 0o777 == 0o700
    assert (store / ".gitignore").read_text() == "*\n"
    assert list((store / "segments").iterdir()) == []
    assert events(store) == []


def test_a_directory_with_other_files_in_it_gets_no_gitignore(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    DuckDBSink(path=tmp_path).open()
    assert not (tmp_path / ".gitignore").exists()


def test_a_path_that_cannot_be_written_is_told_at_opening(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        DuckDBSink(path=tmp_path / "file").open()
    with pytest.raises(OSError, match="/proc/nothing"):
        DuckDBSink(path=Path("/proc/nothing")).open()


def test_a_relative_path_is_that_of_the_moment_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = DuckDBSink()
    monkeypatch.chdir("/")
    sink.open()
    sink.write(batch_of("one"))
    assert events(tmp_path / "logs") == ["one"]
    sink.close()


def test_a_sink_made_anew_in_a_forked_child_writes_beside_its_parent(tmp_path: Path) -> None:
    sink = DuckDBSink(path=tmp_path)
    sink.open()
    sink.write(batch_of("parent 1"))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            mine = dataclasses.replace(sink)
            mine.open()
            mine.write(batch_of("child 1"))
            mine.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    sink.write(batch_of("parent 2"))
    sink.flush()
    assert events(tmp_path) == ["child 1", "parent 1", "parent 2"]
    assert sorted(path.name for path in (tmp_path / "segments").glob("*.jsonl")) == ["0-1.jsonl", "1-1.jsonl"]
    sink.close()


def test_a_store_beyond_its_size_loses_its_oldest_records(tmp_path: Path) -> None:
    sink = DuckDBSink(path=tmp_path, segment_max_bytes=1, max_bytes=500, compaction="off", upkeep_interval_seconds=0.05)
    sink.open()
    for number in range(20):
        sink.write(batch_of(f"{number:02}"))
    until(lambda: len(events(tmp_path)) <= 9)
    kept = events(tmp_path)
    assert kept == [f"{number:02}" for number in range(20 - len(kept), 20)]
    assert len(kept) >= 5
    sink.close()


@pytest.mark.parametrize("compaction", ["auto", "inline"])
def test_full_segments_become_parquet_while_the_service_runs(tmp_path: Path, compaction: Any) -> None:
    sink = DuckDBSink(path=tmp_path, segment_max_bytes=100_000, compaction=compaction, upkeep_interval_seconds=0.1)
    sink._upkeep._compact_bytes = 250_000
    sink.open()
    for number in range(50):
        sink.write(batch_of(*(f"{number * 100 + each:05}" for each in range(100))))
    until(lambda: list((tmp_path / "parquet").glob("date=2096-11-20/*.parquet")))
    assert events(tmp_path) == [f"{number:05}" for number in range(5_000)]
    sink.close()


def test_what_a_compaction_could_not_do_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text("{")
    sink = DuckDBSink(path=tmp_path, upkeep_interval_seconds=0.1)
    sink.open()
    sink.write(batch_of("one"))
    told = ""

    def is_told() -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return "manifest.json' is damaged" in told

    until(is_told)
    sink.close()
    assert events(tmp_path) == ["one"]


def test_levels_that_are_kept_longer_are_read_from_text() -> None:
    assert DuckDBSink(level_max_age_days="error=90,debug=3").level_max_age_days == {"error": 90, "debug": 3}  # type: ignore[arg-type]
    assert DuckDBSink(level_max_age_days='{"error": 90}').level_max_age_days == {"error": 90}  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="level_max_age_days"):
        DuckDBSink(level_max_age_days="error")  # type: ignore[arg-type]


def test_closing_ends_the_child_of_a_compaction(tmp_path: Path) -> None:
    sink = DuckDBSink(path=tmp_path, upkeep_interval_seconds=0.01)
    sink.open()
    (tmp_path / "segments" / "7-1.jsonl").write_bytes(b"".join(batch_of(*map(str, range(300_000))).lines))
    (tmp_path / "segments" / "7-2.jsonl").touch()
    sink._upkeep._compact_bytes = 1
    sink.write(batch_of("one"))
    until(lambda: sink._upkeep._child is not None)
    sink.close()
    assert sink._upkeep._child is None
    assert len(events(tmp_path)) == 300_001


def test_a_store_whose_bounds_cannot_be_kept_is_written_all_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = DuckDBSink(path=tmp_path, compaction="off", upkeep_interval_seconds=0.05)
    sink.open()
    (tmp_path / "manifest.json").write_text("{")
    sink.write(batch_of("one"))
    assert events(tmp_path) == ["one"]
    until(lambda: "cannot look after the store" in capfd.readouterr().err)
    sink.close()


def test_a_process_that_writes_never_loads_duckdb(tmp_path: Path) -> None:
    script = f"""
import sys
import time
from collections.abc import Callable
from pathlib import Path
from fapilog.files.segment import list_segments
from fapilog.sinks.duckdb import DuckDBSink
from fapilog.testing import SinkContract
from fapilog.types import Batch
sink = DuckDBSink(path=Path({str(tmp_path)!r}), segment_max_bytes=1, max_bytes=1)
sink.open()
for _ in range(3):
    sink.write(Batch([(20, 0, b'{{"event": "one"}}\\n')]))
sink.flush()
sink.close()
assert "duckdb" not in sys.modules, "duckdb"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
