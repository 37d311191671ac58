import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fapilog.errors import StoreNotFoundError
from fapilog.store.compact import compact
from fapilog.store.manifest import Manifest
from fapilog.store.verify import Verification, verify


def line(number: int) -> bytes:
    record = {"timestamp": f"2026-11-20T08:00:{number:02}.000000Z", "id": f"a-{number}", "event": "e", "n": number}
    return json.dumps(record).encode() + b"\n"


def write(store: Path, name: str, *numbers: int) -> Path:
    (store / "segments").mkdir(parents=True, exist_ok=True)
    path = store / "segments" / name
    path.write_bytes(b"".join(map(line, numbers)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three records in one Parquet file, two in a live segment."""
    write(tmp_path, "0-1.jsonl", 1, 2, 3)
    compact(tmp_path)
    write(tmp_path, "0-2.jsonl", 4, 5)
    return tmp_path


def parquet(store: Path) -> Path:
    (file,) = (path for path in store.rglob("*.parquet"))
    return file


def said(result: Verification) -> list[str]:
    return [finding.problem for finding in result.problems]


def test_a_sound_store_has_no_problems(store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    result = verify(store)
    assert (result.ok, result.problems, result.notes) == (True, [], [])
    assert (result.records, result.parquet_files, result.segments) == (5, 1, 1)
    assert result.size_bytes == parquet(store).stat().st_size + (store / "segments" / "0-2.jsonl").stat().st_size
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_a_store_that_was_never_compacted_is_sound(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 1)
    assert verify(tmp_path).ok


def test_where_there_is_no_store_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        verify(tmp_path)


def test_a_missing_parquet_file_is_a_problem_and_its_records_counted(store: Path) -> None:
    parquet(store).unlink()
    assert said(verify(store)) == ["is missing, with 3 records"]


def test_a_parquet_file_that_was_cut_is_a_problem(store: Path) -> None:
    os.truncate(parquet(store), 100)
    (problem,) = said(verify(store))
    assert problem.startswith("has 100 bytes, not ")


def test_a_flipped_byte_within_a_value_is_a_problem(store: Path) -> None:
    with parquet(store).open("r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 60)
    assert said(verify(store)) == ["its bytes are not those that were written; it had 3 records"]


def test_any_flipped_bit_of_a_parquet_file_is_a_problem(store: Path) -> None:
    content = parquet(store).read_bytes()
    for position in range(0, len(content), 97):
        parquet(store).write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert not verify(store).ok, position


def test_what_cannot_be_read_of_a_file_whose_sum_nobody_took_is_a_problem(store: Path) -> None:
    with parquet(store).open("r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 60)
    manifest = Manifest.load(store)
    replace(manifest, parquet=(replace(manifest.parquet[0], crc32=None),)).save(store)
    (problem,) = said(verify(store))
    assert problem.startswith("cannot be read, with 3 records: ")


def test_a_flipped_byte_within_the_footer_is_a_problem(store: Path) -> None:
    with parquet(store).open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    assert said(verify(store)) == ["its footer is not the one that was written; it had 3 records"]


def test_a_parquet_file_with_other_records_than_the_manifest_says_is_a_problem(store: Path) -> None:
    manifest = Manifest.load(store)
    (file,) = manifest.parquet
    replace(manifest, parquet=(replace(file, rows=4, newest=None),)).save(store)
    rows, newest = said(verify(store))
    assert rows == "has 3 records, not 4 as the manifest says"
    assert newest == f"its newest record is of {file.newest}, not of None as the manifest says"


def test_a_manifest_that_was_changed_is_a_problem(store: Path) -> None:
    text = (store / "manifest.json").read_text().replace('"rows": 3', '"rows": 4')
    (store / "manifest.json").write_text(text)
    result = verify(store)
    assert [finding.path for finding in result.problems] == ["manifest.json"]
    assert "its checksum does not fit" in result.problems[0].problem


def test_lines_that_are_no_records_are_a_problem(store: Path) -> None:
    with (store / "segments" / "0-2.jsonl").open("ab") as file:
        file.write(b"garbage\n[1]\n" + line(6))
    result = verify(store)
    assert said(result) == ["2 lines are no records and are left out"]
    assert result.records == 6


def test_half_a_line_at_the_end_is_only_a_note(store: Path) -> None:
    with (store / "segments" / "0-2.jsonl").open("ab") as file:
        file.write(line(6)[:20])
    assert (verify(store).ok, verify(store).notes) == (True, [])  # it may be just being written
    os.utime(store / "segments" / "0-2.jsonl", (1_795_000_000, 1_795_000_000))
    result = verify(store)
    assert result.ok
    assert [(note.path, note.problem[:18]) for note in result.notes] == [("segments/0-2.jsonl", "ends within a line")]


def test_one_id_of_two_records_is_a_problem(store: Path) -> None:
    write(store, "1-1.jsonl", 2, 9)
    assert said(verify(store)) == ["1 id is that of several records: 'a-2'"]


def test_a_file_that_belongs_to_nothing_is_a_note(store: Path) -> None:
    path = parquet(store)
    stray = path.with_name("20261120T080000-00000000.parquet")
    stray.write_bytes(path.read_bytes())
    stray.with_name(stray.name + ".tmp").write_bytes(b"")
    result = verify(store)
    assert result.ok
    assert len(result.notes) == 2


def test_a_view_for_shells_that_is_damaged_is_a_problem(store: Path) -> None:
    (store / "logs.duckdb").write_bytes(b"nothing")
    (problem,) = verify(store).problems
    assert problem.path == "logs.duckdb"


def test_a_view_for_shells_that_is_missing_is_a_note(store: Path) -> None:
    (store / "logs.duckdb").unlink()
    result = verify(store)
    assert result.ok
    assert [note.path for note in result.notes] == ["logs.duckdb"]


def test_progress_ends_at_everything(store: Path) -> None:
    told: list[tuple[int, int]] = []
    verify(store, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 2
    assert told[-1][0] == told[-1][1]


def test_a_store_that_is_compacted_meanwhile_is_sound(tmp_path: Path) -> None:
    write(tmp_path, "0-1.jsonl", 0)
    done = threading.Event()

    def compact_again_and_again() -> None:
        try:
            for number in range(1, 6):
                write(tmp_path, f"0-{number + 1}.jsonl", number)
                compact(tmp_path)
        finally:
            done.set()

    thread = threading.Thread(target=compact_again_and_again)
    thread.start()
    looks: list[Verification] = []
    while not done.is_set() or not looks:
        looks.append(verify(tmp_path))
    thread.join()
    assert [look.problems for look in looks] == [[]] * len(looks)
    assert verify(tmp_path).records == 6
