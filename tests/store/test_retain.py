import json
import os
import time
from pathlib import Path

import duckdb
import pytest

from fapilog.files.segment import SegmentWriter, hold_slot
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.manifest import Manifest, lock_store
from fapilog.store.retain import GRACE_SECONDS, STALE_VIEW_SECONDS, Bounds, Retention, retain

NOW = 1_800_000_000.0
DAY = 86_400.0


def segment(store: Path, name: str, *, days_old: float, event: str = "x") -> Path:
    path = store / "segments" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(NOW - days_old * DAY))
    path.write_text(json.dumps({"timestamp": stamp, "event": event}) + "\n")
    os.utime(path, (NOW - days_old * DAY,) * 2)
    return path


def events(store: Path) -> list[str]:
    with LogStore(store) as opened:
        return [row[0] for row in opened.sql("select event from logs order by event").fetchall()]


def test_records_beyond_the_age_are_no_longer_seen(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31, event="old")
    segment(tmp_path, "0-2.jsonl", days_old=29, event="young")
    assert retain(tmp_path, clock=lambda: NOW).retired == 1
    assert events(tmp_path) == ["young"]


def test_the_oldest_go_first_until_the_size_fits(tmp_path: Path) -> None:
    size = 0
    for number, days in enumerate((1, 4, 3, 2), start=1):
        size = segment(tmp_path, f"{number}-1.jsonl", days_old=days, event=f"{days} days").stat().st_size
    retain(tmp_path, Bounds(max_bytes=2 * size), clock=lambda: NOW)
    assert events(tmp_path) == ["1 days", "2 days"]


def test_none_sets_no_bound(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=10_000)
    assert retain(tmp_path, Bounds(max_bytes=None, max_age_days=None), clock=lambda: NOW) == Retention(0, 0)


def test_a_file_goes_only_when_no_query_can_still_be_reading_it(tmp_path: Path) -> None:
    path = segment(tmp_path, "0-1.jsonl", days_old=31)
    assert retain(tmp_path, clock=lambda: NOW) == Retention(1, 0)
    assert retain(tmp_path, clock=lambda: NOW + GRACE_SECONDS - 1) == Retention(0, 0)
    assert path.exists()
    assert retain(tmp_path, clock=lambda: NOW + GRACE_SECONDS) == Retention(0, 1)
    assert not path.exists()
    assert Manifest.load(tmp_path).retired == ()


def test_the_segment_a_process_writes_is_never_deleted(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments", max_bytes=1)
    for _ in range(2):
        writer.append(b"{}\n")
    retain(tmp_path, Bounds(max_bytes=0, max_age_days=0), grace_seconds=0)
    assert [path.name for path in (tmp_path / "segments").glob("*.jsonl")] == ["0-2.jsonl"]
    writer.append(b"{}\n")
    writer.close()


def test_a_retired_segment_is_not_continued_by_the_next_process(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31)
    retain(tmp_path, clock=lambda: NOW)
    writer = SegmentWriter(tmp_path / "segments", sealed=lambda slot: Manifest.load(tmp_path).sealed[str(slot)])
    writer.append(b'{"event": "new"}\n')
    writer.close()
    assert events(tmp_path) == ["new"]


def test_only_our_own_files_are_deleted(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31)
    others = [
        *("notes.txt", "0-1.jsonl", "segments/mine.jsonl", "segments/0-1.jsonl.bak", "segments/0.lock"),
        *("parquet/theirs.parquet", "logs.duckdb"),
    ]
    (tmp_path / "parquet").mkdir()
    Manifest().save(tmp_path)
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    retain(tmp_path, Bounds(max_bytes=0, max_age_days=0), grace_seconds=0, clock=lambda: NOW)
    (tmp_path / "logs.duckdb").touch()
    assert [name for name in others if not (tmp_path / name).exists()] == []


def test_an_old_parquet_file_leaves_every_query_before_it_leaves_the_disk(tmp_path: Path) -> None:
    for number, days in ((1, 31), (2, 1)):
        segment(tmp_path, f"0-{number}.jsonl", days_old=days, event=f"{days} days")
        compact(tmp_path, grace_seconds=0, clock=lambda: NOW)
    retain(tmp_path, clock=lambda: NOW)
    assert len(list((tmp_path / "parquet").rglob("*.parquet"))) == 2
    assert events(tmp_path) == ["1 days"]
    compact(tmp_path, clock=lambda: NOW + GRACE_SECONDS)
    assert len(list((tmp_path / "parquet").rglob("*.parquet"))) == 1
    with duckdb.connect(tmp_path / "logs.duckdb", read_only=True) as database:
        assert database.sql("select event from logs").fetchall() == [("1 days",)]


def test_the_view_on_disk_keeps_working_until_a_compaction_or_it_goes(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31, event="old")
    compact(tmp_path, grace_seconds=0, clock=lambda: NOW)
    retain(tmp_path, clock=lambda: NOW)
    assert retain(tmp_path, clock=lambda: NOW + STALE_VIEW_SECONDS - 1).deleted == 0
    with duckdb.connect(tmp_path / "logs.duckdb", read_only=True) as database:
        assert database.sql("select event from logs").fetchall() == [("old",)]
        assert retain(tmp_path, clock=lambda: NOW + STALE_VIEW_SECONDS).deleted == 1
        assert not (tmp_path / "logs.duckdb").exists()
        with pytest.raises(duckdb.Error):
            database.sql("select event from logs").fetchall()
    assert events(tmp_path) == []


def test_nothing_is_done_while_another_process_changes_the_store(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31)
    with lock_store(tmp_path) or pytest.fail("locked already"):
        assert retain(tmp_path, clock=lambda: NOW) == Retention(0, 0)


def test_a_held_slot_keeps_its_last_segment(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31)
    with hold_slot(tmp_path / "segments", 0) or pytest.fail("held already"):
        assert retain(tmp_path, clock=lambda: NOW) == Retention(0, 0)
    assert retain(tmp_path, clock=lambda: NOW) == Retention(1, 0)


def test_a_clock_that_was_set_back_keeps_no_retired_file_for_ever(tmp_path: Path) -> None:
    path = segment(tmp_path, "0-1.jsonl", days_old=31)
    retain(tmp_path, clock=lambda: NOW)
    retain(tmp_path, clock=lambda: NOW - DAY)
    assert not path.exists()
