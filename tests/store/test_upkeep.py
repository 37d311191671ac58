import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fapilog.files.segment import SegmentWriter, hold_slot
from fapilog.store.compact import compact
from fapilog.store.manifest import DATABASE, Manifest, lock_store
from fapilog.store.retain import Bounds, retain
from fapilog.store.upkeep import CHILD_BYTES, Upkeep, due, memory_room

NOW = 1_795_132_800.0  # 2026-11-20
FREE = Bounds(max_bytes=None, max_age_days=None)


def segment(store: Path, name: str, *, size: int = 100, age: float = 0, day: int = 20) -> None:
    path = store / "segments" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    line = f'{{"timestamp": "2026-11-{day}T00:00:00Z", "event": "x"}}\n'
    path.write_text(line * (size // len(line) + 1))
    os.utime(path, (NOW - age, NOW - age))


def reason(store: Path, bounds: Bounds = FREE, *, later: float = 0) -> str | None:
    return due(store, bounds, compact_bytes=1_000, compact_seconds=900, clock=lambda: NOW + later)


def until(condition: Callable[[], object]) -> None:
    by = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < by
        time.sleep(0.02)


def test_a_store_in_use_with_little_in_it_needs_nothing(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments")
    writer.append(b"{}\n" * 1_000)
    segment(tmp_path, "1-1.jsonl")
    segment(tmp_path, "1-2.jsonl")
    assert reason(tmp_path) is None
    writer.close()


def test_full_segments_are_compacted(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", size=2_000)
    assert reason(tmp_path) is None, "the next process goes on in it"
    segment(tmp_path, "0-2.jsonl")
    assert reason(tmp_path) == "segments are full"


def test_what_is_old_is_compacted_unless_a_process_has_it(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", age=1_000)
    with hold_slot(tmp_path / "segments", 0) or pytest.fail("held already"):
        assert reason(tmp_path) is None
    assert reason(tmp_path) == "segments are old"


def test_what_is_beyond_the_bounds_is_a_reason(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", age=100)
    segment(tmp_path, "0-2.jsonl")
    assert reason(tmp_path, Bounds(max_bytes=10)) == "the store is beyond its bounds"


def test_days_in_pieces_are_a_reason_once_they_are_over(tmp_path: Path) -> None:
    for number in (1, 2):
        segment(tmp_path, f"0-{number}.jsonl")
        compact(tmp_path, grace_seconds=0, clock=lambda: NOW)
    assert reason(tmp_path) is None
    assert reason(tmp_path, later=86_400) == "days are in pieces"


def test_files_that_wait_to_be_deleted_are_a_reason(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl")
    compact(tmp_path, clock=lambda: NOW)
    assert reason(tmp_path) is None
    assert reason(tmp_path, later=1_000) == "files are to be deleted"


def test_what_was_replaced_is_deleted_without_a_child_once_no_query_needs_it(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl")
    compact(tmp_path, clock=lambda: time.time() - 61)
    assert (tmp_path / "segments" / "0-1.jsonl").exists()
    upkeep = Upkeep(tmp_path, FREE)
    upkeep._look()
    upkeep.close()
    assert not (tmp_path / "segments" / "0-1.jsonl").exists()


def test_a_view_that_is_behind_is_a_reason(tmp_path: Path) -> None:
    for day in (1, 2):
        segment(tmp_path, f"0-{day}.jsonl", day=18 + day)
        compact(tmp_path, grace_seconds=0, clock=lambda: NOW)
    retain(tmp_path, Bounds(max_age_days=0.5), clock=lambda: NOW + 3_600)
    assert (tmp_path / DATABASE).exists()
    assert reason(tmp_path, later=3_700) is None
    assert reason(tmp_path, later=4_000) == "logs.duckdb is behind"


def test_a_damaged_manifest_is_a_reason(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl")
    (tmp_path / "manifest.json").write_text("{")
    assert reason(tmp_path) == "the manifest has to be made again"


def test_room_is_what_the_container_has_left(tmp_path: Path) -> None:
    assert memory_room(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 100\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_room(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory_room(tmp_path) == 400


@pytest.mark.parametrize("why", ["memory", "python"])
def test_where_no_child_can_run_the_bounds_are_kept_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], why: str
) -> None:
    if why == "memory":
        monkeypatch.setattr("fapilog.store.upkeep.memory_room", lambda: CHILD_BYTES - 1)
    else:
        monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    segment(tmp_path, "0-1.jsonl", size=5_000)
    segment(tmp_path, "0-2.jsonl", size=5_000)
    upkeep = Upkeep(tmp_path, Bounds(max_bytes=6_000, max_age_days=None), interval_seconds=0.05, compact_bytes=1)
    upkeep.wake()
    until(lambda: Manifest.load(tmp_path).retired)
    upkeep.close()
    assert [entry.name for entry in Manifest.load(tmp_path).retired] == ["segments/0-1.jsonl"]
    assert not (tmp_path / "parquet").exists()
    assert "the store is not compacted, as " in capfd.readouterr().err


def test_only_one_process_has_a_child(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", size=5_000)
    segment(tmp_path, "0-2.jsonl")
    upkeep = Upkeep(tmp_path, FREE, compact_bytes=1)
    with lock_store(tmp_path) or pytest.fail("locked already"):
        upkeep._look()
    assert not (tmp_path / "parquet").exists()
    upkeep._look()
    assert list((tmp_path / "parquet").glob("*/*.parquet"))
    upkeep.close()


def test_a_child_that_fails_is_told_and_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    segment(tmp_path, "0-1.jsonl", size=5_000)
    segment(tmp_path, "0-2.jsonl")
    monkeypatch.setattr("fapilog.store.upkeep._CODE", "raise SystemExit('out of luck')")
    upkeep = Upkeep(tmp_path, FREE, compact_bytes=1)
    upkeep._look()
    assert "a compaction (segments are full) ended with 1: out of luck" in capfd.readouterr().err
    monkeypatch.undo()
    upkeep._look()
    assert not (tmp_path / "parquet").exists()
    upkeep._bounds = Bounds(max_bytes=1_000, max_age_days=None)
    upkeep._look()
    assert [entry.name for entry in Manifest.load(tmp_path).retired] == ["segments/0-1.jsonl"], "the bounds are kept"
    upkeep.close()
