import json
import os
import shutil
import subprocess
import sys
import zlib
from collections import deque
from itertools import repeat
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fapilog.errors import StoreError, StoreNotFoundError
from fapilog.files.segment import SegmentWriter
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.manifest import Manifest, lock_store
from fapilog.store.spill import connect


def line(number: int) -> bytes:
    record = {"timestamp": f"2096-11-20T08:{number // 60 % 60:02}:{number % 60:02}.000000Z", "pid": number, "k": "v"}
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
    assert file.name.startswith("20961120T080003-")
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


def test_a_view_whose_manifest_is_lost_fails_rather_than_show_nothing(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    compact(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(duckdb.Error, match="the manifest is missing; run fapilog compact"):
        numbers_in_view(tmp_path)
    compact(tmp_path)
    assert numbers_in_view(tmp_path) == [1]


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


def test_a_compaction_that_takes_long_writes_nothing_to_stdout(tmp_path: Path) -> None:
    with connect(tmp_path, "100MB") as connection:
        assert connection.execute("select current_setting('enable_progress_bar')").fetchall() == [(False,)]


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
    assert compact(tmp_path, max_age_days=1, clock=lambda: 5e9).retired == 1
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
        stays, no_view = compact(tmp_path).problems
        assert stays.startswith("0-1.jsonl stays a segment: ")
        assert no_view.startswith("there is no logs.duckdb until the next compaction: ")
        assert numbers(tmp_path) == list(range(3_000))
        filler.unlink()
        assert compact(tmp_path).records == 3_000
        assert numbers(tmp_path) == list(range(3_000))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


NOW = 1_795_132_800.0  # 2026-11-20


def dated(store: Path, name: str, *days: int, first: int = 0) -> None:
    (store / "segments").mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"timestamp": f"2026-11-{day:02}T08:00:00.000000Z", "pid": pid})
        for pid, day in enumerate(days, start=first)
    ]
    (store / "segments" / name).write_text("\n".join(lines) + "\n")


def days(store: Path) -> list[str]:
    return sorted(path.parent.name for path in parquet(store))


def test_each_day_has_a_directory_of_its_own(tmp_path: Path) -> None:
    dated(tmp_path, "0-1.jsonl", 18, 19, 18, 20)
    compact(tmp_path, clock=lambda: NOW)
    assert days(tmp_path) == ["date=2026-11-18", "date=2026-11-19", "date=2026-11-20"]
    with duckdb.connect() as database:
        files = database.read_parquet(f"{tmp_path}/parquet/*/*.parquet", hive_partitioning=True)
        found = files.project("date, pid").order("pid").fetchall()
    assert [(str(day), pid) for day, pid in found] == [
        ("2026-11-18", 0), ("2026-11-19", 1), ("2026-11-18", 2), ("2026-11-20", 3),
    ]  # fmt: skip
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == [0, 1, 2, 3]


def test_small_files_of_a_day_that_has_ended_become_one(tmp_path: Path) -> None:
    for number in range(3):
        dated(tmp_path, f"0-{number + 1}.jsonl", 19, 20, first=2 * number)
        result = compact(tmp_path, grace_seconds=0, clock=lambda: NOW)
    assert (result.merged, result.merged_records) == (2, 3)
    assert days(tmp_path) == ["date=2026-11-19"] + 3 * ["date=2026-11-20"]
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_a_day_that_has_not_ended_is_merged_when_it_is_in_many_pieces(tmp_path: Path) -> None:
    for number in range(8):
        dated(tmp_path, f"0-{number + 1}.jsonl", 20, first=number)
        compact(tmp_path, grace_seconds=0, clock=lambda: NOW)
    assert len(parquet(tmp_path)) == 1
    assert numbers(tmp_path) == list(range(8))


def test_a_damaged_file_is_not_merged(tmp_path: Path) -> None:
    for number in range(2):
        dated(tmp_path, f"0-{number + 1}.jsonl", 20, first=number)
        compact(tmp_path, clock=lambda: NOW)
    os.truncate(parquet(tmp_path)[0], 100)
    assert compact(tmp_path, clock=lambda: NOW + 86_400).merged == 0
    assert len(parquet(tmp_path)) == 2


def test_an_import_of_very_many_days_makes_no_file_for_each(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    lines = [json.dumps({"timestamp": f"{2000 + each}-03-07T08:00:00Z", "pid": each}) for each in range(401)]
    (tmp_path / "segments" / "0-1.jsonl").write_text("\n".join(lines) + "\n")
    compact(tmp_path, clock=lambda: NOW)
    assert 40 <= len(parquet(tmp_path)) <= 42
    assert numbers(tmp_path) == list(range(401))


def test_times_beyond_any_calendar_are_kept(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    stamps = [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "290000-01-01 00:00:00Z",
        "infinityZ",
        "-infinityZ",
        "x",
        None,
    ]
    lines = [json.dumps({"timestamp": stamp, "pid": each}) for each, stamp in enumerate(stamps)]
    (tmp_path / "segments" / "0-1.jsonl").write_text("\n".join(lines) + "\n")
    assert compact(tmp_path, clock=lambda: NOW).problems == []
    assert numbers(tmp_path) == list(range(len(stamps)))


def test_a_store_of_the_first_layout_is_read_and_continued(tmp_path: Path) -> None:
    dated(tmp_path, "0-1.jsonl", 18, 19)
    compact(tmp_path, clock=lambda: NOW)
    flat = tmp_path / "parquet" / "20261118T080000-0123abcd.parquet"
    old, newer = sorted(parquet(tmp_path))
    with duckdb.connect() as database:
        note = {"generation": 1, "segments": {"0-1.jsonl": 106}, "file": {"rows": 2, "oldest": 1.0, "newest": 2.0}}
        database.execute(
            f"copy (from read_parquet(['{old}', '{newer}'], hive_partitioning = false) order by timestamp) to '{flat}' "
            f"(format parquet, kv_metadata {{fapilog: '{json.dumps(note)}'}})"
        )
    shutil.rmtree(old.parent)
    shutil.rmtree(newer.parent)
    file = {"name": flat.name, "rows": 2, "size_bytes": flat.stat().st_size, "oldest": 1.0, "newest": 2.0}
    body = {
        "format": 1, "generation": 1, "parquet": [file], "view_generation": 1, "oldest_view": 0, "skipped_lines": 0,
        "retired": [{"name": "segments/0-1.jsonl", "at": NOW, "generation": 1}], "sealed": {"0": 1},
    }  # fmt: skip
    body["checksum"] = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    assert numbers(tmp_path) == [0, 1]
    dated(tmp_path, "0-2.jsonl", 20, first=2)
    assert compact(tmp_path, clock=lambda: NOW).problems == []
    assert numbers(tmp_path) == numbers_in_view(tmp_path) == [0, 1, 2]
    (tmp_path / "manifest.json").unlink()
    with LogStore(tmp_path) as store:
        assert list(store.rows("select pid from logs order by pid")) == [(0,), (1,), (2,)]


def test_a_manifest_of_a_later_version_is_read_around_and_never_overwritten(tmp_path: Path) -> None:
    dated(tmp_path, "0-1.jsonl", 20)
    compact(tmp_path, clock=lambda: NOW)
    body = json.loads((tmp_path / "manifest.json").read_text())
    del body["checksum"]
    body |= {"format": 99, "parquet": "elsewhere"}
    body["checksum"] = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    with LogStore(tmp_path) as store:
        assert list(store.rows("select pid from logs")) == [(0,)]
        assert "knows up to 2" in store.warnings[0]
    with pytest.raises(StoreError, match="knows up to 2"):
        compact(tmp_path, clock=lambda: NOW)
    assert json.loads((tmp_path / "manifest.json").read_text()) == body


def test_files_of_a_later_version_are_left_out_with_a_warning(tmp_path: Path) -> None:
    dated(tmp_path, "0-1.jsonl", 20)
    dated(tmp_path, "0-2.v2.jsonl", 20, first=7)
    compact(tmp_path, clock=lambda: NOW)
    (file,) = parquet(tmp_path)
    later = file.with_name("20261120T080000-00000000.parquet")
    with duckdb.connect() as database:
        note = json.dumps({"format": 99, "generation": 1, "segments": {}, "file": {}})
        database.execute(f"copy (from '{file}') to '{later}' (format parquet, kv_metadata {{fapilog: '{note}'}})")
    (tmp_path / "manifest.json").unlink()
    with LogStore(tmp_path) as store:
        assert list(store.rows("select pid from logs")) == [(0,)]
        assert f"of a later version and left out: date=2026-11-20/{later.name}" in store.warnings[0]
        assert "0-2.v2.jsonl' is no file of this version" in store.warnings[1]
    compact(tmp_path, clock=lambda: NOW)
    assert numbers_in_view(tmp_path) == [0]
    assert later.exists()


def test_a_segment_that_ends_within_a_line_is_read_up_to_there_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    with (tmp_path / "segments" / "0-1.jsonl").open("ab") as segment:
        segment.write(b'{"pid": 2, "torn')
    os.utime(tmp_path / "segments" / "0-1.jsonl", (0, 0))
    with LogStore(tmp_path) as store:
        assert list(store.rows("select pid from logs")) == [(1,)]
        assert "0-1.jsonl' ends within a line, which was left out" in store.warnings[0]


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(range(256)) * 50, b"PAR1" * 100, b"[" * 5_000])
def test_a_foreign_segment_fails_no_query_and_no_compaction(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    (tmp_path / "segments" / "1-1.jsonl").write_bytes(content)
    with LogStore(tmp_path) as store:
        assert list(store.rows("select pid from logs")) == [(1,)]
    assert compact(tmp_path).problems == []
    assert numbers(tmp_path) == [1]


def test_one_field_of_several_kinds_and_keys_that_differ_by_case_survive_a_merge(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"n": 1, "amount": 7, "Amount": "x"},
        {"n": 2, "amount": "seven", "aMount": [1]},
        {"n": 3, "amount": {"of": 7}, "status_code": "teapot", "Status_Code": 418},
        {"n": 4, "amount": None, "EVENT": True},
    ]
    (tmp_path / "segments").mkdir()
    for number, record in enumerate(records, start=1):
        stamped = {"timestamp": "2026-11-19T08:00:00Z", "event": "odd", **record}
        (tmp_path / "segments" / f"0-{number}.jsonl").write_text(json.dumps(stamped) + "\n")
        compact(tmp_path, clock=lambda: NOW)
    assert len(Manifest.load(tmp_path).parquet) == 1
    with LogStore(tmp_path) as store:
        rows = list(store.rows("select event, fields from logs order by (fields->>'n')::int"))
    assert [event for event, _ in rows] == ["odd"] * 4
    assert [json.loads(fields) for _, fields in rows] == records
