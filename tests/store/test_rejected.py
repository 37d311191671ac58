import json
import os
from pathlib import Path
from typing import Any

import pytest

from fapilog.files.segment import list_segments
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.rejected import MAX_BYTES, REJECTED, Inspector, set_aside

GOOD = b'{"event":"good"}\n'


def segment(store: Path, content: bytes, name: str = "0-1.jsonl") -> Path:
    (store / "segments").mkdir(parents=True, exist_ok=True)
    path = store / "segments" / name
    path.write_bytes(content)
    return path


def rejected(store: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (store / REJECTED).read_text().splitlines()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD * 3, None),
        (GOOD + b"\n\n" + GOOD, None),
        (GOOD + b"Traceback (most recent call last):\n" + GOOD, "has 1 line that is no record, which was left out"),
        (b"plain text\n[1]\n" + GOOD, "has 2 lines that are no records, which were left out"),
        (GOOD + b'{"event":"\0\0\0\0"}\n', "has 1 line that is no record, which was left out"),
        (os.urandom(1_000).replace(b"\n", b"") + b"\n", "has 1 line that is no record, which was left out"),
    ],
)
def test_lines_that_are_no_records_are_left_out_with_a_warning(
    tmp_path: Path, content: bytes, said: str | None
) -> None:
    path = segment(tmp_path, content)
    with LogStore(tmp_path) as store:
        assert {event for (event,) in store.rows("select event from logs")} <= {"good"}
        assert store.warnings == ([] if said is None else [f"{str(path)!r} {said}"])
        assert store.search().warnings == tuple(store.warnings)


def test_each_line_is_counted_once_as_a_segment_grows_and_anew_in_another_of_its_name(tmp_path: Path) -> None:
    path, inspector = segment(tmp_path, b"one\n" + GOOD + b"half"), Inspector()
    assert (inspector.lines(path), inspector.lines(path)) == (1, 1)
    with path.open("ab") as file:
        file.write(b" a line\nthree\n" + GOOD)
    assert inspector.lines(path) == 3
    path.rename(path.with_name("0-0.jsonl"))
    segment(tmp_path, GOOD)
    assert inspector.lines(path) == 0
    assert inspector.lines(path.with_name("gone.jsonl")) == 0


def test_compaction_sets_aside_what_is_no_record(tmp_path: Path) -> None:
    segment(tmp_path, GOOD + b"not \xff a record\n" + GOOD + b'{"event":"ha')
    segment(tmp_path, GOOD, "1-1.jsonl")
    result = compact(tmp_path, clock=lambda: 1_800_000_000.0)
    assert (result.records, result.skipped_lines) == (3, 2)
    head = {"at": 1_800_000_000.0, "segment": "0-1.jsonl"}
    assert rejected(tmp_path) == [
        head | {"offset": len(GOOD), "size_bytes": 14, "text": "not \\xff a record"},
        head | {"offset": 2 * len(GOOD) + 15, "size_bytes": 12, "text": '{"event":"ha'},
    ]
    assert (tmp_path / REJECTED).stat().st_mode & 0o777 == 0o600


def test_a_store_of_records_alone_sets_nothing_aside(tmp_path: Path) -> None:
    segment(tmp_path, GOOD + b"{}\n")
    compact(tmp_path)
    assert not (tmp_path / REJECTED).exists()


def test_a_line_is_set_aside_once_though_a_compaction_is_begun_again(tmp_path: Path) -> None:
    segment(tmp_path, b"no record\n")
    segments = list_segments(tmp_path / "segments")
    for now in (1.0, 2.0):
        set_aside(tmp_path, segments, tmp_path / "segments", now=now)
    assert [each["at"] for each in rejected(tmp_path)] == [1.0]


def test_what_is_set_aside_takes_no_more_than_its_bound(tmp_path: Path) -> None:
    segment(tmp_path, b"".join(b"%d %s\n" % (number, b"x" * 10_000) for number in range(400)))
    set_aside(tmp_path, list_segments(tmp_path / "segments"), tmp_path / "segments", now=1.0)
    assert MAX_BYTES - 10_000 < (tmp_path / REJECTED).stat().st_size <= MAX_BYTES
    assert {len(each["text"]) for each in rejected(tmp_path)} == {4_096}
