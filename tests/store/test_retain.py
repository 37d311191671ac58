import json
import os
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fapilog.errors import StoreNotFoundError
from fapilog.files.segment import SegmentWriter, hold_slot
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.deletions import read_deletions
from fapilog.store.manifest import Manifest, lock_store
from fapilog.store.retain import GRACE_SECONDS, STALE_VIEW_SECONDS, Bounds, Cleanup, Retention, cleanup, retain

NOW = 1_800_000_000.0
DAY = 86_400.0


def segment(store: Path, name: str, *, days_old: float, event: str = "x") -> Path:
    path = store / "segments" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(NOW - days_old * DAY))
    path.write_text(json.dumps({"timestamp": stamp, "event": event}) + "\n")
    os.utime(path, (NOW - days_old * DAY,) * 2)
    return path


def day_of(store: Path, day: int, number: int, **levels: int) -> None:
    """Make a Parquet file of a day in January 2027, with so many records of each level."""
    directory = store / "segments"
    directory.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {"timestamp": f"2027-01-{day:02}T08:00:{each % 60:02}.000000Z", "level": level, "event": f"{level} {day}"}
        )
        for level, count in levels.items()
        for each in range(count)
    ]
    (directory / f"0-{number}.jsonl").write_text("\n".join(lines) + "\n")
    compact(store, grace_seconds=0, clock=lambda: NOW)


def files_in(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file() and path.suffix != ".lock"}


def counts(store: Path) -> dict[str, int]:
    with LogStore(store) as opened:
        return dict(opened.sql("select event, count(*) from logs group by event order by event").fetchall())


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


# NOW is 2027-01-15, eight in the morning.


def test_levels_are_kept_as_long_as_each_of_them_is_to_be(tmp_path: Path) -> None:
    day_of(tmp_path, 1, 1, info=10, error=2)
    day_of(tmp_path, 12, 2, info=10, debug=5)
    found = cleanup(tmp_path, max_age_days=10, level_max_age_days={"error": 90, "debug": 1}, clock=lambda: NOW)
    assert counts(tmp_path) == {"error 1": 2, "info 12": 10}
    assert [(each.reason, each.records, each.levels) for each in found.expired] == [
        ("age", 10, ("info",)),
        ("age", 5, ("debug",)),
    ]


def test_what_is_kept_longer_goes_last_where_there_is_too_much(tmp_path: Path) -> None:
    for number, day in enumerate((10, 11, 12), start=1):
        day_of(tmp_path, day, number, info=50, error=2)
    bounds: dict[str, Any] = {"max_age_days": 30, "level_max_age_days": {"error": 90}, "clock": lambda: NOW}
    cleanup(tmp_path, max_records=60, **bounds)
    assert counts(tmp_path) == {"error 10": 2, "error 11": 2, "error 12": 2, "info 12": 50}
    cleanup(tmp_path, max_records=3, **bounds)
    assert counts(tmp_path) == {"error 12": 2}


def test_the_oldest_go_until_there_are_no_more_records_than_asked_for(tmp_path: Path) -> None:
    for number, day in enumerate((10, 11, 12), start=1):
        day_of(tmp_path, day, number, info=10)
    segment(tmp_path, "1-1.jsonl", days_old=0, event="live")
    assert cleanup(tmp_path, max_records=21, clock=lambda: NOW).expired[0].records == 10
    assert counts(tmp_path) == {"info 11": 10, "info 12": 10, "live": 1}


def test_a_dry_run_says_what_would_go_and_changes_nothing(tmp_path: Path) -> None:
    day_of(tmp_path, 1, 1, info=10, error=2)
    segment(tmp_path, "1-1.jsonl", days_old=40, event="old")
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"
    }
    bounds: dict[str, Any] = {"max_age_days": 10, "level_max_age_days": {"error": 20}, "clock": lambda: NOW}
    found = cleanup(tmp_path, dry_run=True, **bounds)
    assert [(each.file.partition("/")[0], each.records, each.levels) for each in found.expired] == [
        ("segments", None, None),
        ("parquet", 10, ("info",)),
    ]
    assert found.dry_run
    assert files_in(tmp_path) == before
    again = cleanup(tmp_path, **bounds)
    assert [each.file for each in again.expired] == [each.file for each in found.expired]


def test_what_was_deleted_is_recorded_once(tmp_path: Path) -> None:
    day_of(tmp_path, 1, 1, info=10, error=2)
    day_of(tmp_path, 2, 2, info=3)
    cleanup(tmp_path, max_age_days=13.5, level_max_age_days={"error": 90}, clock=lambda: NOW)
    cleanup(tmp_path, max_age_days=1, clock=lambda: NOW)
    lines = [json.loads(line) for line in (tmp_path / "deleted.jsonl").read_text().splitlines()]
    assert [(line["reason"], line["records"], line["levels"]) for line in lines] == [
        ("age", 10, ["info"]),
        ("age", 2, None),
        ("age", 3, None),
    ]
    assert lines[0]["file"].startswith("parquet/date=2027-01-01/")
    assert [each.records for each in read_deletions(tmp_path)] == [10, 2, 3]
    assert Manifest.load(tmp_path).deletions == () or cleanup(tmp_path, clock=lambda: NOW).expired == ()


def test_a_deletion_that_could_not_be_recorded_is_remembered_until_it_can(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31)
    (tmp_path / "deleted.jsonl").mkdir()
    assert retain(tmp_path, clock=lambda: NOW).retired == 1
    (tmp_path / "deleted.jsonl").rmdir()
    assert [each.file for each in read_deletions(tmp_path)] == ["segments/0-1.jsonl"]
    retain(tmp_path, clock=lambda: NOW)
    assert json.loads((tmp_path / "deleted.jsonl").read_text())["file"] == "segments/0-1.jsonl"
    assert [each.file for each in read_deletions(tmp_path)] == ["segments/0-1.jsonl"]


def test_a_torn_line_in_the_record_of_deletions_costs_no_other(tmp_path: Path) -> None:
    for number in (1, 2):
        segment(tmp_path, f"0-{number}.jsonl", days_old=31)
        with (tmp_path / "deleted.jsonl").open("a") as file:
            file.write('{"at": 1.0, "gen')
        retain(tmp_path, clock=lambda: NOW)
    assert [each.file for each in read_deletions(tmp_path)] == ["segments/0-1.jsonl", "segments/0-2.jsonl"]


def test_a_cleanup_while_another_process_changes_the_store_says_so(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=31)
    with lock_store(tmp_path) or pytest.fail("locked already"):
        assert not cleanup(tmp_path, clock=lambda: NOW).ran
    assert events(tmp_path) == ["x"]


def test_a_cleanup_leaves_segments_as_they_are(tmp_path: Path) -> None:
    segment(tmp_path, "0-1.jsonl", days_old=1)
    assert cleanup(tmp_path, clock=lambda: NOW) == Cleanup(dry_run=False)
    assert (tmp_path / "segments" / "0-1.jsonl").exists()
    assert not list(tmp_path.rglob("*.parquet"))


def test_there_must_be_a_store_to_clean(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        cleanup(tmp_path, dry_run=True)


def test_records_without_a_time_go_by_the_day_they_were_compacted_on(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "0-1.jsonl").write_text("{}\n")
    compact(tmp_path, clock=lambda: NOW)
    assert cleanup(tmp_path, max_age_days=29, dry_run=True, clock=lambda: NOW + 29 * DAY).expired == ()
    assert len(cleanup(tmp_path, max_age_days=29, dry_run=True, clock=lambda: NOW + 30 * DAY).expired) == 1
