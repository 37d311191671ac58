import json
import os
import shutil
import subprocess
import sys
from collections import deque
from itertools import repeat
from pathlib import Path

import duckdb
import pytest

from fapilog.errors import StoreError, StoreNotFoundError
from fapilog.files.segment import SegmentWriter
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.manifest import Manifest, lock_store


def line(number: int) -> bytes:
    record = {"timestamp": f"2026-11-20T08:{number // 60 % 60:02}:{number % 60:02}.000000Z", "pid": number, "k": "v"}
    return json.dumps(record).encode() + b"\n"


def write(store: Path, name: str, *numbers: int) -> None:
    (store / "segments").mkdir(parents=True, exist_ok=True)
    (store / "segments" / name).write_bytes(b"".join(map(line, numbers)))


def numbers(store: Path) -> list[int]:
    with LogStore(store) as opened:
        found = [row[0] for row in opened.sql("select pid from logs order by pid").fetchall()]
        assert opened.warnings == []
        return found


def numbers_in_view(store: Path) -> list[int]:
    with duckdb.connect(store / "logs.duckdb", read_only=True) as database:
        return [row[0] for row in database.sql("select pid from logs order by pid").fetchall()]


def parquet(store: Path) -> list[Path]:
    return [path for path in (store / "parquet").rglob("*") if path.is_file()]


def test_segments_become_one_parquet_file_with_the_newest_record_first(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 5, 3)
    write(tmp_path, "1-1.jsonl", 4)
    result = compact(tmp_path)
    assert (result.segments, result.records, result.skipped_lines, result.problems) == (2, 3, 0, [])
    (file,) = parquet(tmp_path)
    with duckdb.connect() as database:
        assert database.read_parquet(str(file)).project("pid").fetchall() == [(5,), (4,), (3,)]
        compression = "select distinct compression from parquet_metadata($1)"
        assert database.sql(compression, params=[str(file)]).fetchall() == [("ZSTD",)]
    assert file.name.startswith("20261120T080003-")
    assert file.stat().st_mode & 0o777 == 0o600


def test_each_record_is_seen_once_before_and_after_its_segment_is_deleted(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1, 2)
    compact(tmp_path, grace_seconds=60)
    assert (tmp_path / "segments" / "0-1.jsonl").exists()
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == [1, 2]
    assert compact(tmp_path, grace_seconds=0).deleted == 1
    assert not (tmp_path / "segments" / "0-1.jsonl").exists()
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == [1, 2]


def test_the_view_on_disk_finds_segments_that_came_after_it(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    compact(tmp_path)
    write(tmp_path, "0-2.jsonl", 2)
    assert numbers_in_view(tmp_path) == [1, 2]


def test_a_view_opened_long_ago_fails_rather_than_leave_records_out(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    compact(tmp_path)
    write(tmp_path, "0-2.jsonl", 2)
    with duckdb.connect(tmp_path / "logs.duckdb", read_only=True) as database:
        assert database.sql("from logs").aggregate("sum(pid)").fetchall() == [(3,)]
        compact(tmp_path, grace_seconds=60)
        assert database.sql("from logs").aggregate("sum(pid)").fetchall() == [(3,)]
        compact(tmp_path, grace_seconds=0)
        with pytest.raises(duckdb.Error, match="the store was compacted since"):
            database.sql("from logs").aggregate("sum(pid)").fetchall()


def test_what_a_process_writes_to_stays_a_segment(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments", max_bytes=100)
    for number in range(4):
        writer.append(line(number))
    live = writer.path
    assert live is not None
    assert compact(tmp_path, grace_seconds=0).records == 3
    assert list((tmp_path / "segments").glob("0-*.jsonl")) == [live]
    writer.append(line(4))
    assert numbers(tmp_path) == [0, 1, 2, 3, 4]
    writer.close()
    assert compact(tmp_path, grace_seconds=0).records == 2
    assert numbers(tmp_path) == [0, 1, 2, 3, 4]


def test_a_process_that_comes_after_a_compaction_begins_a_segment_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    compact(tmp_path)
    writer = SegmentWriter(tmp_path / "segments", sealed=lambda slot: Manifest.load(tmp_path).sealed.get(str(slot), 0))
    writer.append(line(2))
    writer.close()
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == [1, 2]


def test_lines_that_are_no_records_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    with (tmp_path / "segments" / "0-1.jsonl").open("ab") as segment:
        segment.write(b'garbage\n[1]\n\0\0\0\n{"pid": 2}\n{"pid": 3, "torn')
    result = compact(tmp_path)
    assert (result.records, result.skipped_lines) == (2, 4)
    assert numbers(tmp_path) == [1, 2]
    assert Manifest.load(tmp_path).skipped_lines == 4


def test_a_segment_without_a_record_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "0-1.jsonl").touch()
    (tmp_path / "segments" / "0-2.jsonl").write_bytes(b"garbage\n")
    assert compact(tmp_path, grace_seconds=0).segments == 2
    assert parquet(tmp_path) == []
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == []


def test_much_is_compacted_in_groups(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path, f"0-{number + 1}.jsonl", number)
    assert compact(tmp_path, group_bytes=2 * len(line(0))).segments == 6
    assert len(parquet(tmp_path)) == 3
    assert numbers(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_compacting_again_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    compact(tmp_path)
    before = parquet(tmp_path)
    assert compact(tmp_path).segments == 0
    assert parquet(tmp_path) == before


def test_an_empty_store_is_compacted_to_a_view_without_rows(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    assert compact(tmp_path).records == 0
    assert numbers_in_view(tmp_path) == []


def test_where_there_is_no_store_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        compact(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_process_compacts_at_a_time(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    with lock_store(tmp_path) or pytest.fail("locked already"):
        assert not compact(tmp_path).ran
    assert compact(tmp_path).ran


def test_a_segment_that_cannot_be_read_does_not_hold_up_the_others(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, f"{number}-1.jsonl", number)
    script = """
import os, sys
from pathlib import Path
from fapilog.store.compact import compact
segments = Path(sys.argv[1]) / "segments"
os.chmod(segments / "1-1.jsonl", 0)
for path in (segments.parent, segments, segments / "0-1.jsonl", segments / "2-1.jsonl"):
    os.chown(path, 65534, 65534)
for path in segments.parent.parents[:-2]:
    path.chmod(0o755)
os.setuid(65534)
result = compact(segments.parent)
print(result.segments, result.problems)
"""
    if os.getuid() != 0:
        pytest.skip("needs another user")
    command = [sys.executable, "-c", script, str(tmp_path)]
    answer = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True).stdout
    assert answer.startswith("2 ['1-1.jsonl stays a segment: ")
    assert numbers(tmp_path) == [0, 1, 2]


def test_bounds_are_kept_when_they_are_given(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    assert compact(tmp_path, max_age_days=1, clock=lambda: 2e9).retired == 1
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == []


def test_what_a_killed_compaction_left_is_deleted_and_nothing_else_is(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    compact(tmp_path)
    (file,) = parquet(tmp_path)
    shutil.copy(file, file.with_name("20200101T000000-00000000.parquet"))
    theirs = [file.with_name(name) for name in ("notes.txt", "theirs.parquet", "theirs.parquet.tmp")]
    for path in theirs:
        shutil.copy(file, path)
    file.with_name("20200101T000000-00000000.parquet.tmp").touch()
    compact(tmp_path)
    assert sorted(parquet(tmp_path)) == sorted([file, *theirs])
    with LogStore(tmp_path) as store:
        assert list(store.rows("select pid from logs")) == [(1,)]
        assert [warning.partition(" is ")[0] for warning in store.warnings] == [repr(str(path)) for path in theirs]


def test_a_full_disk_leaves_the_segments_as_they_are(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        write(tmp_path, "0-1.jsonl", *range(3_000))
        filler = tmp_path / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            deque(map(file.write, repeat(b"x" * 4096)))
        os.truncate(filler, filler.stat().st_size - 16_384)
        with pytest.raises(StoreError, match="No space"):
            compact(tmp_path)
        assert numbers(tmp_path) == list(range(3_000))
        filler.unlink()
        assert compact(tmp_path).records == 3_000
        assert numbers(tmp_path) == list(range(3_000))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
