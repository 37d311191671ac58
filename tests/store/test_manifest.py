import json
import zlib
from pathlib import Path

import pytest

from fapilog.files.segment import Segment
from fapilog.store.manifest import (
    DamagedManifestError,
    Manifest,
    NewerManifestError,
    ParquetFile,
    lock_store,
    replace_file,
)

FILE = ParquetFile(name="a.parquet", rows=3, size_bytes=400, oldest=1.25, newest=None)


def test_a_store_that_was_never_compacted_has_an_empty_manifest(tmp_path: Path) -> None:
    assert Manifest.load(tmp_path) == Manifest()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    manifest = Manifest(parquet=(FILE,), skipped_lines=7).without([Segment(3, 9, 100, 0.0)], [], now=12.5)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert (tmp_path / "manifest.json").stat().st_mode & 0o777 == 0o600


def test_what_is_retired_is_no_longer_live_and_its_slot_is_sealed(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    for name in ("0-1.jsonl", "0-2.jsonl", "1-1.jsonl"):
        (tmp_path / "segments" / name).touch()
    first, second, _ = Manifest().live_segments(tmp_path)
    manifest = Manifest(parquet=(FILE,)).without([second], [FILE], now=1.0).without([first], [], now=2.0)
    assert [segment.name for segment in manifest.live_segments(tmp_path)] == ["1-1.jsonl"]
    assert manifest.sealed == {"0": 2}
    assert manifest.parquet == ()
    assert [(entry.name, entry.at, entry.generation) for entry in manifest.retired] == [
        ("segments/0-2.jsonl", 1.0, 1),
        ("parquet/a.parquet", 1.0, 1),
        ("segments/0-1.jsonl", 2.0, 2),
    ]


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    Manifest(parquet=(FILE,)).without([Segment(0, 1, 100, 0.0)], [], now=1.0).save(tmp_path)
    path = tmp_path / "manifest.json"
    content = path.read_bytes()
    manifest = Manifest.load(tmp_path)
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            assert Manifest.load(tmp_path) == manifest  # a space became another, say
        except DamagedManifestError:
            continue


def test_a_manifest_of_another_version_is_not_guessed_at(tmp_path: Path) -> None:
    Manifest().save(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    del content["checksum"]
    content |= {"format": 99}
    content["checksum"] = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(NewerManifestError, match=r"json. has format 99, and this version of fapilog knows up to 2"):
        Manifest.load(tmp_path)


def test_a_missing_manifest_beside_parquet_files_is_damage(tmp_path: Path) -> None:
    (tmp_path / "parquet").mkdir()
    (tmp_path / "parquet" / "20261120T080000-0123abcd.parquet").touch()
    with pytest.raises(DamagedManifestError, match="is missing"):
        Manifest.load(tmp_path)


def test_one_process_at_a_time_changes_the_store(tmp_path: Path) -> None:
    lock = lock_store(tmp_path)
    assert lock is not None
    assert lock_store(tmp_path) is None
    lock.release()
    with lock_store(tmp_path) or pytest.fail("still locked"):
        pass


def test_a_half_written_file_beside_the_old_one_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "file.tmp").write_text("from a killed process")
    (tmp_path / "file").write_text("old")
    replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
