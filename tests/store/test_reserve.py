import subprocess
from collections import deque
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.deletions import read_deletions
from fapilog.store.directory import make_store
from fapilog.store.manifest import DATABASE, Manifest, lock_store
from fapilog.store.reserve import RESERVE, keep_reserve, replace_from_reserve
from fapilog.store.retain import Bounds, Retention, cleanup, retain

LINE = b'{"timestamp":"2026-11-%02dT08:00:00.000000Z","event":"x"}\n'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path], check=False).returncode:
        pytest.skip("needs the right to mount")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        deque(map(file.write, repeat(b"x" * 4096)))


def segment(store: Path, name: str, day: int) -> int:
    return (store / "segments" / name).write_bytes(LINE % day * 1_000)


def records(store: Path) -> int:
    with LogStore(store) as opened:
        ((count,),) = opened.rows("select count(*) from logs")
        assert opened.warnings == []
        return int(count)


def test_a_full_disk_does_not_stop_retention(disk: Path) -> None:
    store = disk / "logs"
    make_store(store)
    size, *_ = [segment(store, f"0-{day}.jsonl", day) for day in (17, 18, 19)]
    fill(disk)
    assert retain(store, Bounds(max_bytes=2 * size, max_age_days=None)) == Retention(1, 0)
    assert records(store) == 2_000
    assert retain(store, Bounds(max_bytes=size, max_age_days=None), grace_seconds=0) == Retention(1, 2)
    assert records(store) == 1_000
    assert [each.file for each in read_deletions(store)] == ["segments/0-17.jsonl", "segments/0-18.jsonl"]


def test_a_full_disk_does_not_stop_cleanup(disk: Path) -> None:
    store = disk / "logs"
    make_store(store)
    for number, day in enumerate((18, 19), start=1):
        segment(store, f"0-{number}.jsonl", day)
        compact(store, grace_seconds=0)
    segment(store, "0-3.jsonl", 20)
    fill(disk)
    result = cleanup(store, max_age_days=None, max_records=1_000, max_bytes=None, grace_seconds=0)
    assert ([each.reason for each in result.expired], result.deleted) == (["records", "records"], 2)
    assert records(store) == 1_000


def test_a_compaction_on_a_full_disk_leaves_the_segments_and_the_view(disk: Path) -> None:
    store = disk / "logs"
    make_store(store)
    segment(store, "0-1.jsonl", 18)
    compact(store, grace_seconds=0)
    segment(store, "0-2.jsonl", 19)
    fill(disk)
    result = compact(store, grace_seconds=0)
    assert len(result.problems) == 1
    assert result.problems[0].startswith("0-2.jsonl stays a segment: ")
    assert (store / DATABASE).exists()
    assert records(store) == 2_000


def test_a_view_that_is_behind_goes_at_once_where_the_disk_is_full(disk: Path) -> None:
    store = disk / "logs"
    make_store(store)
    segment(store, "0-1.jsonl", 18)
    compact(store, grace_seconds=0)
    segment(store, "0-2.jsonl", 19)
    fill(disk)
    assert retain(store, Bounds(max_records=1_000), grace_seconds=0) == Retention(1, 1)
    assert not (store / DATABASE).exists()
    assert records(store) == 1_000


def test_there_is_a_reserve_of_twice_what_the_manifest_needs(tmp_path: Path) -> None:
    make_store(tmp_path / "logs")
    reserve = tmp_path / "logs" / RESERVE
    assert (reserve.stat().st_size, reserve.stat().st_mode & 0o777) == (65_536, 0o600)
    Manifest(sealed={str(slot): 1 for slot in range(6_000)}).save(tmp_path / "logs")
    assert reserve.stat().st_size == 196_608


def test_the_reserve_becomes_the_file_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    assert not replace_from_reserve(tmp_path, "file", b"new"), "there is no reserve"
    keep_reserve(tmp_path)
    assert not replace_from_reserve(tmp_path, "file", b"n" * 65_537)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert replace_from_reserve(tmp_path, "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / RESERVE).exists()


def test_a_process_that_starts_leaves_the_reserve_alone_while_another_writes_it(tmp_path: Path) -> None:
    with lock_store(tmp_path) or pytest.fail("locked already"):
        make_store(tmp_path)
    assert not (tmp_path / RESERVE).exists()


def test_a_reserve_that_a_killed_process_had_begun_to_write_is_filled_up_and_used(tmp_path: Path) -> None:
    (tmp_path / RESERVE).write_bytes(b'{"format"')
    keep_reserve(tmp_path, 70_000)
    assert (tmp_path / RESERVE).stat().st_size == 131_072
    assert replace_from_reserve(tmp_path, "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
