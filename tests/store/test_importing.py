import gzip
import io
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fapilog.errors import StoreError
from fapilog.files.lock import FileLock
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.foreign import Translator
from fapilog.store.importing import LONGEST_LINE_BYTES, import_lines

WHEN = "2026-11-20T08:00:00Z"


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def events(store: Path) -> list[str]:
    with LogStore(store) as opened:
        return [event for (event,) in opened.rows("select event from logs order by event")]


def test_lines_become_records_of_a_store_that_is_made(tmp_path: Path) -> None:
    source = write(tmp_path / "app.log", {"time": WHEN, "msg": "paid", "level": 40, "order": {"id": 7}})
    result = import_lines(tmp_path / "store", [source])
    assert (result.records, result.duplicates, result.rejected, result.without_id) == (1, 0, 0, 1)
    with LogStore(tmp_path / "store") as store:
        (row,) = store.rows("select event, level, fields ->> '$.order.id', length(id) from logs")
    assert row == ("paid", "error", "7", 18)
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    assert (tmp_path / "store" / ".gitignore").read_text() == "*\n"


def test_records_with_ids_are_imported_once(tmp_path: Path) -> None:
    lines = [{"time": 1795161600 + number, "msg": f"e{number}", "uid": f"u{number}"} for number in range(20)]
    source = write(tmp_path / "app.log", *lines, lines[3])
    by_uid = Translator(names={"id": "uid"})
    first = import_lines(tmp_path / "store", [source], translator=by_uid)
    assert (first.records, first.duplicates) == (20, 1)
    compact(tmp_path / "store")
    more = write(tmp_path / "more.log", *lines, {"time": 1795161650, "msg": "e99", "uid": "u99"})
    again = import_lines(tmp_path / "store", [source, more], translator=by_uid)
    assert (again.records, again.duplicates) == (1, 41)
    assert len(events(tmp_path / "store")) == 21


def test_equal_lines_without_ids_are_all_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "app.log", *[{"time": WHEN, "msg": "beat"}] * 3)
    assert import_lines(tmp_path / "store", [source]).without_id == 3
    assert events(tmp_path / "store") == ["beat"] * 3


def test_bad_lines_are_counted_and_kept_aside_with_their_numbers(tmp_path: Path) -> None:
    bad = ["{half", "[1]", '{"event": "no time"}', "7", "\\xff", "[" * 100_000]
    source = write(tmp_path / "app.log", "", {"time": WHEN, "msg": "good"}, *bad, "  ", {"time": WHEN, "msg": "last"})
    with source.open("ab") as file:
        file.write(b'{"time": "\xff"}\n')
    result = import_lines(tmp_path / "store", [source], rejects=tmp_path / "aside.jsonl")
    assert events(tmp_path / "store") == ["good", "last"]
    assert result.rejected == len(bad) + 1
    aside = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert [entry["line"] for entry in aside] == [3, 4, 5, 6, 7, 8, 11]
    assert [entry["text"] for entry in aside][:3] == bad[:3]
    assert aside[1]["problem"] == "it is JSON, but list, not an object"
    assert aside[-1]["text"] == '{"time": "\\xff"}'
    assert {entry["source"] for entry in aside} == {str(source)}
    assert stat.S_IMODE((tmp_path / "aside.jsonl").stat().st_mode) == 0o600
    assert [(each.line, each.problem) for each in result.problems] == [(e["line"], e["problem"]) for e in aside]


def test_without_bad_lines_nothing_is_put_aside(tmp_path: Path) -> None:
    import_lines(tmp_path / "store", [write(tmp_path / "a.log", {"time": WHEN})], rejects=tmp_path / "aside.jsonl")
    assert not (tmp_path / "aside.jsonl").exists()


def test_what_was_put_aside_before_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "aside.jsonl").write_text("before")
    with pytest.raises(FileExistsError):
        import_lines(tmp_path / "store", [write(tmp_path / "a.log", "bad")], rejects=tmp_path / "aside.jsonl")
    assert (tmp_path / "aside.jsonl").read_text() == "before"


def test_a_line_of_many_megabytes_is_bad_and_the_next_is_read(tmp_path: Path) -> None:
    long = b'{"time": "' + b"x" * (2 * LONGEST_LINE_BYTES) + b'"}\n'
    stream = io.BytesIO(long + json.dumps({"time": WHEN, "msg": "next"}).encode() + b"\n")
    result = import_lines(tmp_path / "store", [stream])
    assert events(tmp_path / "store") == ["next"]
    assert [(each.source, each.line, each.problem) for each in result.problems] == [
        ("-", 1, "it is longer than 8,388,608 bytes")
    ]


def test_what_json_does_not_have_and_programs_write_is_kept_readable(tmp_path: Path) -> None:
    line = f'{{"time": "{WHEN}", "nan": NaN, "half": "\\ud800", "big": 123456789012345678901234567890}}'
    import_lines(tmp_path / "store", [write(tmp_path / "a.log", line)])
    with LogStore(tmp_path / "store") as store:
        ((fields,),) = store.rows("select fields from logs")
    kept = json.loads(fields)
    assert (kept["nan"], kept["half"], kept["big"]) == (None, "\ufffd", "123456789012345678901234567890")


def test_a_record_has_the_bounds_of_a_logged_one(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    lines = [{"time": WHEN, "msg": "long", "x": "y" * 1_000_000}, {"time": WHEN, "msg": "deep", "x": deep}]
    import_lines(tmp_path / "store", [write(tmp_path / "a.log", *lines)])
    with LogStore(tmp_path / "store") as store:
        rows: dict[str, int] = dict(store.rows("select event, length(fields) from logs"))
    assert rows.keys() == {"long", "deep"}
    assert max(rows.values()) < 300_000


def test_compressed_files_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.log.gz", "wt", encoding="utf-8-sig") as file:
        file.write(json.dumps({"time": WHEN, "msg": "packed"}) + "\r\n")
    assert import_lines(tmp_path / "store", [tmp_path / "a.log.gz"]).records == 1
    assert events(tmp_path / "store") == ["packed"]


def test_a_file_that_is_damaged_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps({"time": WHEN, "msg": "packed"}).encode() * 1000)
    (tmp_path / "a.log.gz").write_bytes(whole[: len(whole) // 2])
    good = write(tmp_path / "good.log", {"time": WHEN, "msg": "good"})
    with pytest.raises(OSError, match="is damaged"):
        import_lines(tmp_path / "store", [good, tmp_path / "a.log.gz"])
    assert events(tmp_path / "store") == []


def test_each_record_is_processed_before_it_is_written(tmp_path: Path) -> None:
    source = write(tmp_path / "a.log", {"time": WHEN, "msg": "x", "password": "hunter2"})
    import_lines(tmp_path / "store", [source], process=lambda event: {**event, "password": "masked"})
    written = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*.jsonl"))
    assert b"masked" in written
    assert b"hunter2" not in written


def test_a_dry_run_says_what_would_be_and_touches_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "a.log", *[{"time": WHEN, "msg": f"e{n}", "uid": n % 15} for n in range(20)], "bad")
    result = import_lines(tmp_path / "store", [source], translator=Translator(names={"id": "uid"}), dry_run=True)
    assert (result.records, result.duplicates, result.rejected) == (15, 5, 1)
    assert [json.loads(line)["event"] for line in result.examples] == [f"e{n}" for n in range(10)]
    assert not (tmp_path / "store").exists()


def test_two_imports_at_once_do_not_double_records(tmp_path: Path) -> None:
    source = write(tmp_path / "a.log", {"time": WHEN})
    import_lines(tmp_path / "store", [source])
    lock = FileLock.take(tmp_path / "store" / "import.lock")
    assert lock is not None
    with pytest.raises(StoreError, match=r"another import into .* is running"):
        import_lines(tmp_path / "store", [source])
    lock.release()
    assert import_lines(tmp_path / "store", [source]).records == 1


def test_progress_ends_at_the_size_of_the_files(tmp_path: Path) -> None:
    source = write(tmp_path / "a.log", *[{"time": WHEN}] * 25_000)
    told: list[tuple[int, int]] = []
    import_lines(tmp_path / "store", [source], progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) == 3
    assert told[-1] == (source.stat().st_size, source.stat().st_size)


def test_nothing_is_left_beside_what_was_imported(tmp_path: Path) -> None:
    import_lines(tmp_path / "store", [write(tmp_path / "a.log", {"time": WHEN})])
    assert {path.name for path in _files(tmp_path / "store")} == {
        *(".gitignore", "import.lock", "store.lock", "reserve", "0.lock", "0-1.jsonl"),
    }


def _files(directory: Path) -> Iterable[Path]:
    return [Path(root) / name for root, _, names in os.walk(directory) for name in names]
