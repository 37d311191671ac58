import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fapilog.errors import QuerySyntaxError
from fapilog.files.segment import SegmentWriter
from fapilog.store import LogQuery, LogRecord, LogStore
from fapilog.store.compact import compact
from fapilog.store.follow import Follower, Run, _Seen


def line(number: int, instance: int = 0xAA, **fields: Any) -> bytes:
    moment = datetime.now(UTC) + timedelta(microseconds=1)
    record = {
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "id": f"{instance:016x}-{number}",
        "level": "info",
        "event": f"event {number}",
    }
    return json.dumps(record | fields).encode() + b"\n"


def append(store: Path, name: str, *lines: bytes) -> None:
    (store / "segments").mkdir(parents=True, exist_ok=True)
    with (store / "segments" / name).open("ab") as segment:
        segment.write(b"".join(lines))


def events(records: list[LogRecord]) -> list[str | None]:
    return [record.event for record in records]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    append(tmp_path, "0-1.jsonl", line(1), line(2), line(3))
    with LogStore(tmp_path) as opened:
        yield opened


def test_the_last_records_come_first_and_then_each_new_one(store: LogStore) -> None:
    tail = store.tail(last=2)
    append(store.path, "0-1.jsonl", line(4))
    append(store.path, "1-1.jsonl", line(1, 0xBB, event="other"))
    found = list(islice(tail, 4))
    append(store.path, "0-2.jsonl", line(5))
    found += islice(tail, 1)
    tail.close()  # type: ignore[attr-defined]
    assert events(found[-1:]) == ["event 5"]
    assert len({record.id for record in found}) == 5
    assert {"event 4", "other"} <= set(events(found))


def test_without_following_only_the_last_ones_come(store: LogStore) -> None:
    assert events(list(store.tail(last=2, follow=False))) == ["event 2", "event 3"]
    assert list(store.tail(last=0, follow=False)) == []


def test_only_what_a_query_finds_comes(store: LogStore) -> None:
    tail = store.tail('level:error OR "event 3"')
    append(store.path, "0-1.jsonl", line(4), line(5, level="error"), line(6, level="error", event="last"))
    assert events(list(islice(tail, 3))) == ["event 3", "event 5", "last"]
    with pytest.raises(QuerySyntaxError):
        store.tail("level:eror")


def test_a_time_range_holds_for_new_records_too(store: LogStore) -> None:
    tail = store.tail(LogQuery(since="2026-11-19"), last=0)
    append(store.path, "0-1.jsonl", line(4, timestamp="2026-11-18T00:00:00Z"), line(5, timestamp="soon"), line(6))
    assert events(list(islice(tail, 1))) == ["event 6"]
    assert events(list(store.tail(LogQuery(until="1d"), last=5, follow=False))) == ["event 4"]


def test_a_line_comes_when_it_is_whole(tmp_path: Path, store: LogStore) -> None:
    follower = follow(store)
    whole = line(4)
    append(tmp_path, "0-1.jsonl", whole[:20])
    assert follower.poll() == []
    append(tmp_path, "0-1.jsonl", whole[20:], b"no record\n", b"[1]\n", line(5))
    assert events(follower.poll()) == ["event 4", "event 5"]
    follower.close()


def test_what_a_writer_took_back_and_wrote_again_comes_once(tmp_path: Path, store: LogStore) -> None:
    follower = follow(store)
    size = (tmp_path / "segments" / "0-1.jsonl").stat().st_size
    append(tmp_path, "0-1.jsonl", line(4))
    assert events(follower.poll()) == ["event 4"]
    os.truncate(tmp_path / "segments" / "0-1.jsonl", size)
    assert follower.poll() == []
    append(tmp_path, "0-1.jsonl", line(4), line(5))
    assert events(follower.poll()) == ["event 5"]
    follower.close()


def test_what_was_not_read_before_its_segment_was_deleted_comes_all_the_same(tmp_path: Path, store: LogStore) -> None:
    follower = follow(store)
    append(tmp_path, "0-1.jsonl", line(4))
    compact(tmp_path, grace_seconds=0)
    append(tmp_path, "0-2.jsonl", line(5))
    compact(tmp_path, grace_seconds=0)
    append(tmp_path, "0-3.jsonl", line(6))
    assert list((tmp_path / "segments").glob("0-[12].jsonl")) == []
    assert events(follower.poll()) == ["event 4", "event 5", "event 6"]
    assert follower.poll() == []
    follower.close()


def test_a_query_holds_for_what_is_found_as_parquet(tmp_path: Path, store: LogStore) -> None:
    follower = store.follower("level:error")
    append(tmp_path, "0-2.jsonl", line(4), line(5, level="error"))
    compact(tmp_path, grace_seconds=0)
    assert events(follower.poll()) == ["event 5"]
    follower.close()


def test_what_was_there_before_does_not_come_as_parquet(tmp_path: Path, store: LogStore) -> None:
    follower = follow(store)
    compact(tmp_path, grace_seconds=0)
    assert follower.poll() == []
    follower.close()


def test_a_long_backlog_comes_in_parts(tmp_path: Path, store: LogStore) -> None:
    follower = follow(store)
    append(tmp_path, "0-1.jsonl", *(line(number, pad="x" * 1_000) for number in range(4, 9_004)))
    found: list[LogRecord] = []
    parts = 0
    while len(found) < 9_000:
        found += follower.poll()
        parts += 1
    assert parts == 3
    assert not follower.behind
    assert events(found) == [f"event {number}" for number in range(4, 9_004)]
    follower.close()


def test_each_record_comes_once_while_segments_roll_and_are_compacted(tmp_path: Path, store: LogStore) -> None:
    """Four writers with small segments, a compaction without any grace in a loop, and one that follows."""
    follower = follow(store)
    writers, records = 4, 600
    wanted = {f"{writer:016x}-{number}" for writer in range(writers) for number in range(1, records + 1)}
    stop = threading.Event()

    def write(instance: int) -> None:
        writer = SegmentWriter(tmp_path / "segments", max_bytes=3_000)
        for number in range(1, records + 1):
            writer.append(line(number, instance))
            time.sleep(random.random() / 500)  # noqa: S311 - so that they interleave
        writer.close()

    def shrink() -> None:
        while not stop.is_set():
            compact(tmp_path, grace_seconds=0)
            time.sleep(0.02)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    shrinking = threading.Thread(target=shrink)
    for thread in [*threads, shrinking]:
        thread.start()
    found: list[str | None] = []
    deadline = time.monotonic() + 60
    while len(found) < len(wanted) and time.monotonic() < deadline:
        found += [record.id for record in follower.poll()]
    for thread in threads:
        thread.join()
    stop.set()
    shrinking.join()
    found += [record.id for record in follower.poll()]
    follower.close()
    assert len(found) == len(set(found))
    assert set(found) == wanted


def test_the_records_of_another_process_come_soon(tmp_path: Path, store: LogStore) -> None:
    """How soon is measured by hand, as a busy machine stands still at times."""
    script = """
import sys, time
from fapilog import configure_logging, log
with configure_logging(sinks=[f"duckdb://{sys.argv[1]}"]):
    for number in range(5):
        log.info("from afar", n=number)
        time.sleep(0.05)
"""
    tail = store.tail("afar", last=0)
    with subprocess.Popen([sys.executable, "-c", script, tmp_path]) as process:
        numbers = [record.fields["n"] for record in islice(tail, 5)]
        assert process.wait(30) == 0
    assert numbers == list(range(5))


def test_closing_lets_go_of_the_files(store: LogStore) -> None:
    before = descriptors()
    tail = store.tail(last=0)
    assert len(descriptors()) > len(before)
    del tail
    assert descriptors() <= before


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def follow(store: LogStore) -> Follower:
    return store.follower()


@settings(deadline=None)
@given(st.lists(st.integers(0, 30)))
def test_what_was_seen_is_remembered_in_runs(counts: list[int]) -> None:
    seen, plain = _Seen(), set()
    for count in counts:
        assert seen.add(f"{7:016x}-{count}") == (count not in plain)
        plain.add(count)
    for first in range(31):
        for last in range(first, 31):
            assert seen.has(Run(f"{7:016x}", first, last)) == plain.issuperset(range(first, last + 1))


def test_very_many_gaps_take_no_more_memory_than_many() -> None:
    seen = _Seen()
    for count in range(0, 50_000, 2):
        assert seen.add(f"{7:016x}-{count}")
    firsts, lasts = seen._instances[f"{7:016x}"]
    assert len(firsts) == len(lasts) <= 10_001
    assert not seen.add(f"{7:016x}-49998")
