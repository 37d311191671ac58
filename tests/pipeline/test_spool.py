import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fapilog.diagnostics import report
from fapilog.errors import ConfigurationError
from fapilog.files.checked import checked
from fapilog.files.lock import FileLock
from fapilog.pipeline.spool import Spool
from fapilog.types import Record

BASE_NS = 1_700_000_000 * 10**9


def record(number: int, *, size: int = 0, seconds: float = 0.0) -> Record:
    filler = b"x" * size
    return Record(
        20 + number % 2 * 10, BASE_NS + int(seconds * 1e9) + number, b'{"n":%d,"f":"%b"}\n' % (number, filler)
    )


def records(first: int, last: int, *, size: int = 0) -> list[Record]:
    return [record(number, size=size) for number in range(first, last + 1)]


def spool(directory: Path, **options: Any) -> Spool:
    defaults: dict[str, Any] = {"sink": "loki", "destination": "http://loki:3100 tenant"}
    return Spool(directory, **defaults | {"clock": lambda: BASE_NS / 1e9} | options)


def left_by_a_dead_process(directory: Path, given: Sequence[Record], **options: Any) -> Path:
    """Spool what was given, as a process that is gone; return its directory."""
    dead = spool(directory, **options)
    dead.append(given)
    dead.close()
    return next(path for path in (directory / "loki").iterdir() if (path / "lock").exists())


def segments(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.log"))


def drain(from_: Spool, *, max_records: int = 1_000, max_bytes: int = 10**9) -> list[Record]:
    found = []
    while batch := from_.read(max_records, max_bytes):
        found += batch
        from_.acknowledge(len(batch))
        balance(from_)
    return found


def numbers(found: Sequence[Record]) -> list[int]:
    return [one.timestamp_ns - BASE_NS for one in found]


def balance(checked_spool: Spool) -> None:
    stats = checked_spool.stats()
    assert stats.taken_in == stats.delivered + sum(stats.dropped.values()) + stats.records


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(report, "write", lines.append)
    return lines


# What goes in comes out


def test_nothing_is_made_before_the_first_record(tmp_path: Path) -> None:
    empty = spool(tmp_path / "spool")
    assert empty.read(10, 1000) == []
    assert empty.adopt() == 0
    empty.sync()
    empty.append([])
    empty.close()
    assert not (tmp_path / "spool").exists()


def test_records_come_back_as_they_were_in_order(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 5))
    queue.append(records(6, 9))
    assert queue.read(100, 10**6) == records(1, 9)
    queue.close()


def test_records_are_read_again_until_they_are_acknowledged(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 5))
    assert queue.read(2, 10**6) == queue.read(2, 10**6) == records(1, 2)
    assert queue.acknowledge(1) == 1
    assert queue.read(2, 10**6) == records(2, 3)
    assert queue.records == 4
    queue.close()


def test_a_part_of_what_was_read_can_be_acknowledged_bit_by_bit(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 5))
    queue.read(5, 10**6)
    assert [queue.acknowledge(count) for count in (2, 0, 1)] == [2, 0, 1]
    assert queue.read(5, 10**6) == records(4, 5)
    queue.close()


def test_more_than_was_read_cannot_be_acknowledged(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 5))
    queue.read(2, 10**6)
    with pytest.raises(ValueError, match="2 were read"):
        queue.acknowledge(3)
    queue.close()


def test_reading_stops_at_bytes_but_gives_one_record_at_least(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3, size=100))
    size = len(record(1, size=100).line)
    assert len(queue.read(10, 2 * size)) == 2
    assert len(queue.read(10, 2 * size - 1)) == 1
    assert len(queue.read(10, 1)) == 1
    assert queue.acknowledge(1) == 1
    assert queue.read(10, 10**6) == records(2, 3, size=100)
    queue.close()


def test_records_of_several_segments_are_one_queue(tmp_path: Path) -> None:
    queue = spool(tmp_path, segment_max_bytes=300)
    deque(map(queue.append, ([one] for one in records(1, 40))), 0)
    assert len(segments(tmp_path)) > 5
    assert drain(queue, max_records=7) == records(1, 40)
    queue.close()


def test_any_bytes_without_a_line_feed_come_back_the_same(tmp_path: Path) -> None:
    odd = [Record(7, -5, bytes(set(range(256)) - {10}) + b"\n"), Record(50, 2**63, b"\n"), Record(0, 0, b" 1 2 3 \n")]
    queue = spool(tmp_path, clock=lambda: 0.0)
    queue.append(odd)
    assert queue.read(10, 10**6) == odd
    queue.close()


@pytest.mark.parametrize("line", [b"", b"no end", b"two\nlines\n", b"\n\n"])
def test_what_is_not_one_line_is_refused(tmp_path: Path, line: bytes) -> None:
    queue = spool(tmp_path)
    with pytest.raises(ValueError, match="line feed"):
        queue.append([record(1), Record(20, BASE_NS, line)])
    assert queue.records == 0


def test_records_can_be_appended_between_reading_and_acknowledging(tmp_path: Path) -> None:
    queue = spool(tmp_path, segment_max_bytes=200)
    queue.append(records(1, 4))
    assert queue.read(3, 10**6) == records(1, 3)
    queue.append(records(5, 9))
    assert queue.acknowledge(3) == 3
    assert drain(queue) == records(4, 9)
    queue.close()


def test_the_figures_are_exact(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    assert (queue.records, queue.size_bytes, queue.oldest_timestamp_ns) == (0, 0, None)
    queue.append(records(1, 5))
    queue.read(2, 10**6)
    queue.acknowledge(2)
    assert queue.records == 3
    assert queue.size_bytes == sum(path.stat().st_size for path in segments(tmp_path))
    assert queue.oldest_timestamp_ns == record(3).timestamp_ns
    stats = queue.stats()
    assert (stats.taken_in, stats.delivered, stats.records, stats.dropped) == (5, 2, 3, {})
    queue.close()


def test_a_spool_that_was_emptied_leaves_nothing_on_disk(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 5))
    assert drain(queue) == records(1, 5)
    assert segments(tmp_path) == []
    queue.append(records(6, 7))
    assert drain(queue) == records(6, 7)
    queue.close()
    assert list((tmp_path / "loki").iterdir()) == []


def test_a_closed_spool_says_so_and_keeps_its_figures(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 5))
    queue.close()
    queue.close()
    assert queue.records == 5
    for call in (lambda: queue.append(records(6, 6)), queue.sync, lambda: queue.read(1, 1), queue.adopt):
        with pytest.raises(OSError, match="closed"):
            call()


# Another process


def test_what_a_dead_process_left_comes_before_our_own(tmp_path: Path) -> None:
    left_by_a_dead_process(tmp_path, records(1, 3))
    queue = spool(tmp_path)
    queue.append(records(4, 6))
    assert queue.adopt() == 3
    assert drain(queue) == records(1, 6)
    queue.close()


def test_of_several_dead_processes_the_oldest_comes_first(tmp_path: Path) -> None:
    for instance, first in (("a" * 16, 5), ("b" * 16, 1), ("c" * 16, 9)):
        dead = spool(tmp_path, instance=instance)
        dead.append(records(first, first + 3))
        dead.close()
    queue = spool(tmp_path)
    assert queue.adopt() == 12
    assert queue.stats().adopted == {"a" * 16: 4, "b" * 16: 4, "c" * 16: 4}
    assert drain(queue) == records(1, 12)
    queue.close()


def test_what_was_acknowledged_does_not_come_again(tmp_path: Path) -> None:
    dead = spool(tmp_path, segment_max_bytes=150)
    for number in range(1, 10):
        dead.append([record(number)])
    dead.read(5, 10**6)
    dead.acknowledge(4)
    dead.close()
    queue = spool(tmp_path)
    assert queue.adopt() == 5
    assert drain(queue) == records(5, 9)
    queue.close()


def test_a_directory_is_removed_when_all_of_it_was_delivered(tmp_path: Path) -> None:
    path = left_by_a_dead_process(tmp_path, records(1, 3))
    queue = spool(tmp_path)
    queue.adopt()
    drain(queue)
    assert not path.exists()
    queue.close()


def test_an_adopted_spool_is_left_to_the_next_process(tmp_path: Path) -> None:
    left_by_a_dead_process(tmp_path, records(1, 3))
    second = spool(tmp_path)
    second.adopt()
    second.read(1, 1)
    second.acknowledge(1)
    second.append([record(4)])
    second.close()
    third = spool(tmp_path)
    assert third.adopt() == 3
    assert drain(third) == records(2, 4)
    third.close()


def test_the_spool_of_a_living_process_is_not_touched(tmp_path: Path) -> None:
    living, queue = spool(tmp_path), spool(tmp_path)
    living.append(records(1, 3))
    assert queue.adopt() == 0
    living.append(records(4, 4))
    assert living.read(10, 10**6) == records(1, 4)
    living.close()
    assert queue.adopt() == 4
    queue.close()


def test_the_name_of_the_process_is_that_of_its_directory_unless_it_is_taken(tmp_path: Path) -> None:
    first, second = spool(tmp_path, instance="0123456789abcdef"), spool(tmp_path, instance="0123456789abcdef")
    first.append(records(1, 1))
    second.append(records(2, 2))
    names = [path.name for path in (tmp_path / "loki").iterdir()]
    assert len(names) == 2
    assert "0123456789abcdef" in names
    first.close()
    second.close()


def test_another_sink_or_destination_gets_nothing(tmp_path: Path, complaints: list[str]) -> None:
    path = left_by_a_dead_process(tmp_path, records(1, 3))
    before = {file: file.read_bytes() for file in path.iterdir()}
    assert spool(tmp_path, sink="http").adopt() == 0
    assert complaints == []
    other = spool(tmp_path, destination="http://loki:3100 another tenant")
    assert [other.adopt(), other.adopt()] == [0, 0]
    assert len(complaints) == 1
    assert "are left alone" in complaints[0]
    assert str(path) in complaints[0]
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    queue = spool(tmp_path)
    assert queue.adopt() == 3
    queue.close()


def test_the_destination_itself_is_not_on_disk(tmp_path: Path) -> None:
    path = left_by_a_dead_process(tmp_path, records(1, 3), destination="http://user:hunter2@loki:3100")
    assert not any(b"hunter2" in file.read_bytes() for file in path.iterdir())


def test_another_version_is_left_alone_with_one_line(tmp_path: Path, complaints: list[str]) -> None:
    path = left_by_a_dead_process(tmp_path, records(1, 3))
    header, rest = segments(path)[0].read_bytes().split(b"\n", 1)
    segments(path)[0].write_bytes(checked(header[9:].replace(b"journal 1", b"journal 2")) + rest)
    before = segments(path)[0].read_bytes()
    queue = spool(tmp_path)
    assert [queue.adopt(), queue.adopt()] == [0, 0]
    assert len(complaints) == 1
    assert "another version (layout 2)" in complaints[0]
    assert segments(path)[0].read_bytes() == before


def test_no_more_is_adopted_than_fits(tmp_path: Path) -> None:
    for first in (1, 11, 21):
        dead = spool(tmp_path)
        dead.append(records(first, first + 9, size=100))
        dead.close()
    size = segments(tmp_path)[0].stat().st_size
    queue = spool(tmp_path, max_bytes=2 * size + 100)
    assert queue.adopt() == 20
    assert queue.adopt() == 0
    assert drain(queue) == records(1, 20, size=100)
    assert queue.adopt() == 10
    assert drain(queue) == records(21, 30, size=100)
    assert queue.stats().dropped == {}
    queue.close()


def test_the_name_of_a_sink_cannot_leave_the_directory(tmp_path: Path) -> None:
    for name in ("../../up", "..", "a/b", ".hidden", "with space"):
        queue = spool(tmp_path / "spool", sink=name)
        queue.append(records(1, 1))
        queue.close()
        again = spool(tmp_path / "spool", sink=name)
        assert again.adopt() == 1
        again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]
    assert all(path.parent.parent.parent == tmp_path / "spool" for path in segments(tmp_path))


# Fork


def test_a_forked_child_has_an_empty_spool_and_the_parent_keeps_its_own(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert queue.records == 0
            assert queue.adopt() == 0
            queue.append(records(10, 11))
            assert queue.read(10, 10**6) == records(10, 11)
            queue.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    queue.append(records(4, 4))
    assert queue.read(10, 10**6) == records(1, 4)
    assert queue.adopt() == 2
    queue.close()


def test_a_fork_without_hooks_is_noticed_at_the_next_call(tmp_path: Path) -> None:
    script = f"""
import ctypes, os
from pathlib import Path
from fapilog.pipeline.spool import Spool
queue = Spool(Path({str(tmp_path)!r}), sink="loki", destination="there")
queue.append([(20, 1, b"parent\\n")])
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    queue.append([(20, 1, b"child\\n")])
    os._exit(0 if queue.records == 1 else 1)
assert os.waitpid(pid, 0)[1] == 0
queue.append([(20, 2, b"parent\\n")])
assert queue.records == 2
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert len(segments(tmp_path)) == 2


def test_the_spool_of_a_dead_parent_is_free_while_its_child_lives(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from fapilog.pipeline.spool import Spool
queue = Spool(Path({str(tmp_path)!r}), sink="loki", destination="http://loki:3100 tenant", max_age_seconds=1e9)
queue.append([(20, 1, b"parent\\n")])
if os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()
os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        assert process.wait(timeout=30) == 0
        queue = spool(tmp_path)
        assert queue.adopt() == 1
        queue.close()
        process.stdin.close()


# Limits


def test_the_oldest_segment_makes_room_and_its_records_are_counted(tmp_path: Path) -> None:
    queue = spool(tmp_path, max_bytes=4_000)
    for number in range(1, 101):
        queue.append([record(number, size=50)])
        assert queue.size_bytes <= 4_000
        balance(queue)
    lost = queue.stats().dropped["spool_full"]
    assert 0 < lost < 80
    assert drain(queue) == records(lost + 1, 100, size=50)
    assert queue.stats().dropped == {"spool_full": lost}
    queue.close()


def test_what_is_adopted_makes_room_before_our_own(tmp_path: Path) -> None:
    left_by_a_dead_process(tmp_path, records(1, 10, size=100))
    queue = spool(tmp_path, max_bytes=4_000)
    queue.adopt()
    for number in range(11, 31):
        queue.append([record(number, size=100)])
    assert queue.stats().dropped == {"spool_full": 10}
    assert drain(queue) == records(11, 30, size=100)
    queue.close()


def test_a_record_that_makes_room_while_it_is_being_sent_is_counted_once(tmp_path: Path) -> None:
    queue = spool(tmp_path, max_bytes=4_000)
    queue.append(records(1, 4, size=100))
    assert len(queue.read(4, 10**6)) == 4
    for number in range(5, 60):
        queue.append([record(number, size=100)])
    assert queue.acknowledge(4) == 0
    assert queue.stats().delivered == 0
    balance(queue)
    queue.close()


def test_of_a_batch_that_is_larger_than_the_spool_the_newest_are_kept(tmp_path: Path) -> None:
    queue = spool(tmp_path, max_bytes=4_000)
    queue.append(records(1, 100, size=100))
    kept = drain(queue)
    assert kept == records(101 - len(kept), 100, size=100)
    assert queue.stats().dropped == {"spool_full": 100 - len(kept)}
    queue.close()


def test_a_record_that_can_never_fit_is_counted_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append([record(1), record(2, size=2 * 1024 * 1024), record(3)])
    assert drain(queue) == [record(1), record(3)]
    assert queue.stats().dropped == {"spool_full": 1}
    queue.close()


def test_records_that_are_too_old_are_left_out_and_counted(tmp_path: Path) -> None:
    now = [BASE_NS / 1e9]
    queue = spool(tmp_path, max_age_seconds=100, clock=lambda: now[0])
    queue.append([record(number, seconds=10 * number) for number in range(1, 21)])
    now[0] += 205
    kept = drain(queue, max_records=3)
    assert kept == [record(number, seconds=10 * number) for number in range(11, 21)]
    assert queue.stats().dropped == {"too_old": 10}
    queue.append([record(21, seconds=210)])
    now[0] += 10_000
    assert queue.read(10, 10**6) == []
    assert (queue.records, queue.stats().dropped) == (0, {"too_old": 11})
    queue.close()


def test_segments_that_are_too_old_go_without_being_read(tmp_path: Path) -> None:
    dead = spool(tmp_path, segment_max_bytes=1)
    for number in range(1, 6):
        dead.append([record(number, seconds=10 * number)])
    dead.close()
    queue = spool(tmp_path, max_age_seconds=100, clock=lambda: BASE_NS / 1e9 + 145)
    queue.adopt()
    assert len(segments(tmp_path)) == 2
    assert queue.stats().dropped == {"too_old": 3}
    assert drain(queue) == [record(5, seconds=50)]
    assert queue.stats().dropped == {"too_old": 4}
    queue.close()


def test_what_is_not_synced_is_bounded_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    queue = spool(tmp_path, sync_bytes=1_000)
    for number in range(1, 101):
        queue.append([record(number, size=100)])
    assert 10 <= len(synced) <= 20
    queue.close()


# Damage


def damaged(
    tmp_path: Path, change: Callable[[list[bytes]], Sequence[bytes]], *, count: int = 6
) -> tuple[list[int], int]:
    """Change the lines of what a dead process left; return which records come back, and how many are counted."""
    path = left_by_a_dead_process(tmp_path, records(1, count))
    segment = segments(path)[0]
    segment.write_bytes(b"".join(change(segment.read_bytes().splitlines(keepends=True))))
    queue = spool(tmp_path)
    queue.adopt()
    found = numbers(drain(queue))
    assert set(queue.stats().dropped) <= {"spool_corrupt"}
    queue.close()
    assert list((tmp_path / "loki").iterdir()) == []
    return found, queue.stats().dropped.get("spool_corrupt", 0)


def test_a_flipped_byte_costs_one_line(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines[:3], lines[3].replace(b"n", b"m"), *lines[4:]]) == (
        [1, 2, 4, 5, 6],
        1,
    )


def test_a_torn_tail_costs_one_line(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines[:6], lines[6][:20]]) == ([1, 2, 3, 4, 5], 1)


def test_a_tail_that_lacks_only_its_line_feed_is_whole(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines[:6], lines[6][:-1]]) == ([1, 2, 3, 4, 5, 6], 0)


def test_zeros_at_the_end_are_one_line(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines[:5], bytes(5_000_000)]) == ([1, 2, 3, 4], 1)


def test_lost_line_feeds_cost_the_lines_they_joined(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines[:2], lines[2][:-1], lines[3][:-1], *lines[4:]]) == ([1, 5, 6], 3)


def test_lines_that_are_missing_are_counted(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [lines[0], *lines[3:]]) == ([3, 4, 5, 6], 2)


def test_a_line_that_is_there_twice_is_one_record(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines, *lines[2:4], lines[1]]) == ([1, 2, 3, 4, 5, 6], 0)


def test_lines_in_another_order_are_read_in_theirs(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [lines[0], *reversed(lines[1:])]) == ([1, 2, 3, 4, 5, 6], 0)


def test_garbage_between_lines_costs_nothing_else(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines[:3], os.urandom(9).hex().encode(), b"\n", *lines[3:]])[0] == [
        *range(1, 7)
    ]


def test_a_segment_without_its_header_is_read(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: lines[1:]) == ([1, 2, 3, 4, 5, 6], 0)
    assert damaged(tmp_path, lambda lines: lines[1:], count=1) == ([1], 0)


def test_a_wild_header_costs_nothing_else(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [b"\xff" * 50 + b"\n", *lines[1:]]) == ([1, 2, 3, 4, 5, 6], 0)


def test_a_segment_that_is_all_garbage_is_counted_by_its_lines(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [b"garbage\n"] * 4) == ([], 3)
    assert damaged(tmp_path, lambda lines: []) == ([], 0)


def test_a_number_that_cannot_be_is_not_believed(tmp_path: Path) -> None:
    assert damaged(tmp_path, lambda lines: [*lines, checked(b"99999999999 20 1 {}")]) == ([1, 2, 3, 4, 5, 6], 1)


def test_the_newest_record_is_found_before_a_long_damage(tmp_path: Path) -> None:
    for damage in (b"x" * 2_000_000 + b"\n", b"\n" * 300_000):
        found, lost = damaged(tmp_path, lambda lines: [*lines, damage, lines[1]])  # noqa: B023
        assert found == [1, 2, 3, 4, 5, 6]
        assert lost == damage.count(b"\n")


def test_a_long_segment_is_adopted_by_its_tail(tmp_path: Path) -> None:
    left_by_a_dead_process(tmp_path, records(1, 1_500, size=1_000))
    queue = spool(tmp_path)
    assert queue.adopt() == 1_500
    assert len(drain(queue)) == 1_500
    queue.close()


def test_a_spool_of_which_no_header_is_left_is_left_alone(tmp_path: Path, complaints: list[str]) -> None:
    path = left_by_a_dead_process(tmp_path, records(1, 3))
    segments(path)[0].write_bytes(segments(path)[0].read_bytes()[1:])
    (path / "lock").write_bytes(b"")
    assert spool(tmp_path).adopt() == 0
    assert "no header in it can be read" in complaints[0]
    assert segments(path)


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(128), b"9" * 128])
def test_a_lost_position_sends_records_again_rather_than_losing_them(tmp_path: Path, content: bytes) -> None:
    dead = spool(tmp_path)
    dead.append(records(1, 5))
    dead.read(2, 10**6)
    dead.acknowledge(2)
    dead.close()
    next(tmp_path.rglob("position")).write_bytes(content)
    queue = spool(tmp_path)
    assert queue.adopt() == 5
    assert drain(queue) == records(1, 5)
    queue.close()


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path: Path) -> None:
    path = left_by_a_dead_process(tmp_path, records(1, 3))
    with segments(path)[0].open("ab") as file:
        file.write(b"2147483648 " * 3_000_000)
    queue = spool(tmp_path)
    tracemalloc.start()
    try:
        queue.adopt()
        found = drain(queue)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == records(1, 3)
    assert queue.stats().dropped == {"spool_corrupt": 1}
    assert peak < 8 * 1024 * 1024
    queue.close()


# The disk


class Disk:
    """Makes calls to the system fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: dict[str, int] = {}
        for name in ("write", "fdatasync", "fsync", "ftruncate", "open", "unlink", "pwrite"):
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            if name in self.failing:
                raise OSError(self.failing[name], os.strerror(self.failing[name]))
            return function(*args, **keywords)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.failing.clear()


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_call_that_fails_keeps_nothing_and_can_be_made_again(tmp_path: Path, disk: Disk, code: int) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    disk.failing["write"] = code
    with pytest.raises(OSError, match=os.strerror(code)):
        queue.append(records(4, 6))
    assert queue.stats().taken_in == 3
    disk.failing.clear()
    queue.append(records(4, 6))
    assert drain(queue) == records(1, 6)
    queue.close()


def test_a_short_write_is_cut_back_to_whole_lines(tmp_path: Path) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    whole = segments(tmp_path)[0].read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, before[1]))
        with pytest.raises(OSError, match="too large"):
            queue.append(records(4, 9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert segments(tmp_path)[0].read_bytes() == whole
    queue.append(records(4, 9))
    assert drain(queue) == records(1, 9)
    queue.close()


def test_a_tail_that_cannot_be_cut_back_is_not_read(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) > 100:
            return write(fd, bytes(data)[:100])
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "write", half)
    disk.failing["ftruncate"] = errno.EIO
    with pytest.raises(OSError, match="broken"):
        queue.append(records(90, 99))
    monkeypatch.setattr(os, "write", write)
    queue.append(records(4, 6))
    assert queue.read(100, 10**6) == records(1, 6)
    queue.close()
    again = spool(tmp_path)
    assert again.adopt() == 6
    assert drain(again) == records(1, 6)
    again.close()


def test_what_an_fsync_left_in_doubt_is_written_to_another_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    queue.sync()
    queue.append(records(4, 6))
    suspect = segments(tmp_path)[0]
    synced: list[int] = []

    def fails_once(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        if len(synced) == 1:
            raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(os, "fdatasync", fails_once)
    queue.sync()
    assert synced[0] == suspect.stat().st_ino
    assert synced[1] == segments(tmp_path)[1].stat().st_ino
    suspect.write_bytes(b"".join(suspect.read_bytes().splitlines(keepends=True)[:4]))  # what the disk had
    assert drain(queue) == records(1, 6)
    queue.close()


def test_an_fsync_that_keeps_failing_is_told_and_nothing_is_lost(tmp_path: Path, disk: Disk) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    disk.failing["fdatasync"] = errno.EIO
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            queue.sync()
        with pytest.raises(OSError, match="Input/output"):
            queue.append(records(8, 9))
    assert queue.read(10, 10**6) == records(1, 3)
    disk.failing.clear()
    queue.append(records(4, 5))
    queue.sync()
    assert drain(queue) == records(1, 5)
    assert queue.stats().taken_in == 5
    queue.close()


def test_a_full_disk_costs_the_oldest_segment(tmp_path: Path, complaints: list[str]) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=False).returncode == 0
    if not mounted:
        pytest.skip("needs the right to mount")
    queue = spool(tmp_path / "spool", segment_max_bytes=8_192)
    try:
        for number in range(1, 201):
            queue.append([record(number, size=1_000)])
            queue.sync()
            balance(queue)
        lost = queue.stats().dropped["spool_enospc"]
        assert 0 < lost < 190
        assert drain(queue, max_records=10) == records(lost + 1, 200, size=1_000)
        assert any("spool_enospc" in line for line in complaints)
    finally:
        queue.close()
        subprocess.run(["umount", tmp_path], check=True)


def test_a_position_that_cannot_be_written_keeps_the_segments(
    tmp_path: Path, disk: Disk, complaints: list[str]
) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    queue.read(3, 10**6)
    disk.failing["pwrite"] = errno.EIO
    assert queue.acknowledge(3) == 3
    assert "cannot note" in complaints[0]
    assert segments(tmp_path)
    assert queue.read(3, 10**6) == []
    disk.failing.clear()
    queue.append(records(4, 4))
    assert drain(queue) == records(4, 4)
    assert segments(tmp_path) == []
    queue.close()


def test_a_segment_that_cannot_be_deleted_is_not_read_again(tmp_path: Path, disk: Disk, complaints: list[str]) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    disk.failing["unlink"] = errno.EROFS
    assert drain(queue) == records(1, 3)
    assert "cannot delete" in complaints[0]
    queue.append(records(4, 4))
    disk.failing.clear()
    assert drain(queue) == records(4, 4)
    assert segments(tmp_path) == []
    queue.close()


def test_a_segment_goes_only_after_the_position_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    queue.sync()
    queue.read(3, 10**6)
    calls: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*args: Any, **keywords: Any) -> Any:
            calls.append(name)
            return function(*args, **keywords)

        return call

    for name in ("pwrite", "fdatasync", "unlink", "fsync"):
        monkeypatch.setattr(os, name, noted(name))
    queue.acknowledge(3)
    assert calls == ["pwrite", "fdatasync", "unlink", "fsync"]
    queue.close()


def test_reading_can_be_tried_again_when_no_file_can_be_opened(tmp_path: Path, disk: Disk) -> None:
    queue = spool(tmp_path)
    queue.append(records(1, 3))
    disk.failing["open"] = errno.EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        queue.read(10, 10**6)
    disk.failing.clear()
    assert drain(queue) == records(1, 3)
    queue.close()


# What others do to the directory


def remove(path: Path) -> None:
    subprocess.run(["rm", "-rf", path], check=True)


def test_a_deleted_directory_is_made_again_and_what_was_there_is_counted(tmp_path: Path, complaints: list[str]) -> None:
    queue = spool(tmp_path / "spool")
    queue.append(records(1, 5))
    queue.sync()
    queue.read(2, 10**6)
    queue.acknowledge(2)
    remove(tmp_path / "spool")
    queue.append(records(6, 8))
    assert queue.stats().dropped == {"spool_vanished": 3}
    assert "was deleted; 3 records were lost" in complaints[0]
    assert drain(queue) == records(6, 8)
    queue.close()


def test_what_was_not_synced_survives_the_deletion_of_the_directory(tmp_path: Path) -> None:
    queue = spool(tmp_path / "spool")
    queue.append(records(1, 5))
    queue.sync()
    queue.append(records(6, 8))
    remove(tmp_path / "spool")
    queue.sync()
    assert queue.stats().dropped == {"spool_vanished": 5}
    queue.close()
    again = spool(tmp_path / "spool")
    assert again.adopt() == 3
    assert drain(again) == records(6, 8)
    again.close()


def test_a_deletion_is_noticed_when_reading(tmp_path: Path) -> None:
    path = left_by_a_dead_process(tmp_path / "spool", records(1, 3))
    queue = spool(tmp_path / "spool")
    queue.adopt()
    queue.append(records(4, 6))
    queue.sync()
    remove(path)
    assert queue.read(10, 10**6) == records(4, 6)
    assert queue.stats().dropped == {"spool_vanished": 3}
    remove(tmp_path / "spool")
    assert queue.read(10, 10**6) == []
    assert queue.acknowledge(0) == 0
    assert queue.stats().dropped == {"spool_vanished": 6}
    balance(queue)
    queue.close()


def test_records_that_vanish_while_they_are_being_sent_are_counted_once(tmp_path: Path) -> None:
    queue = spool(tmp_path / "spool")
    queue.append(records(1, 3))
    queue.sync()
    queue.append(records(4, 6))
    assert len(queue.read(5, 10**6)) == 5
    remove(tmp_path / "spool")
    queue.append(records(7, 7))
    assert queue.acknowledge(5) == 2
    assert drain(queue) == records(6, 7)
    assert queue.stats().dropped == {"spool_vanished": 3}
    queue.close()


def test_a_deleted_segment_costs_only_its_synced_records(tmp_path: Path) -> None:
    queue = spool(tmp_path, segment_max_bytes=200)
    for number in range(1, 9):
        queue.append([record(number)])
    queue.sync()
    open_segment = segments(tmp_path)[-1]
    queue.append([record(9)])
    open_segment.unlink()
    segments(tmp_path)[0].unlink()
    kept = numbers(drain(queue))
    assert kept[-1] == 9
    assert len(kept) + queue.stats().dropped["spool_vanished"] == 9
    assert kept == sorted(kept)
    queue.close()


def test_a_directory_that_was_moved_away_is_left_to_others(tmp_path: Path) -> None:
    queue = spool(tmp_path / "spool")
    queue.append(records(1, 3))
    queue.sync()
    (tmp_path / "spool").rename(tmp_path / "moved")
    queue.append(records(4, 5))
    assert queue.read(10, 10**6) == records(4, 5)
    other = spool(tmp_path / "moved")
    assert other.adopt() == 3
    assert drain(other) == records(1, 3)
    other.close()
    queue.close()


def test_files_are_private_to_their_owner(tmp_path: Path) -> None:
    queue = spool(tmp_path / "spool")
    queue.append(records(1, 1))
    made = [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    queue.close()


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "loki").symlink_to(tmp_path)
    for name, why in (("file", "not a directory"), ("link", "a symbolic link"), ("ours", "a symbolic link")):
        queue = spool(tmp_path / name)
        with pytest.raises(ConfigurationError, match=why):
            queue.append(records(1, 1))
        queue.close()
    assert (tmp_path / "file").read_text() == "theirs"


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs the right to give a directory away")
    (tmp_path / "loki").mkdir()
    os.chown(tmp_path / "loki", 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        spool(tmp_path).append(records(1, 1))


def test_a_place_where_nothing_can_be_made_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match="/proc/self/spool"):
        spool(Path("/proc/self/spool")).append(records(1, 1))


def test_what_is_not_ours_in_the_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "loki" / ("f" * 16)).parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "loki" / ("f" * 16)).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "loki" / ("e" * 16)).write_text("theirs")
    (tmp_path / "loki" / "notes").mkdir()
    assert spool(tmp_path).adopt() == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert list((tmp_path / "loki" / "notes").iterdir()) == []


def test_a_dead_process_that_left_nothing_leaves_no_directory(tmp_path: Path) -> None:
    (tmp_path / "loki" / ("a" * 16)).mkdir(parents=True)
    assert spool(tmp_path).adopt() == 0
    assert list((tmp_path / "loki").iterdir()) == []


def test_a_stranger_in_a_directory_keeps_it_but_not_its_records(tmp_path: Path) -> None:
    path = left_by_a_dead_process(tmp_path, records(1, 3))
    (path / "stranger.log").write_text("theirs")
    queue = spool(tmp_path)
    queue.adopt()
    assert drain(queue) == records(1, 3)
    assert [file.name for file in path.iterdir()] == ["stranger.log"]
    queue.close()


def test_a_deleted_lock_does_not_let_two_write_one_spool(tmp_path: Path) -> None:
    first, second = spool(tmp_path), spool(tmp_path)
    first.append(records(1, 3))
    first.sync()
    next(tmp_path.rglob("lock")).unlink()
    assert second.adopt() == 3
    first.append(records(4, 5))
    assert first.read(10, 10**6) == records(4, 5)
    assert drain(second) == records(1, 3)
    with FileLock.take(tmp_path / "probe") or pytest.fail("cannot lock"):
        first.close()
    second.close()


# Whatever happens


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 6)),
        st.tuples(st.just("read"), st.integers(1, 8)),
        st.tuples(st.just("acknowledge"), st.integers(0, 8)),
        st.tuples(st.sampled_from(["sync", "reopen", "die", "adopt"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.sampled_from([900, 2_500, 10**6]), st.sampled_from([60, 300, 10**6]))
def test_records_come_back_once_and_in_order_or_are_counted(
    operations: list[tuple[str, int]], max_bytes: int, segment_max_bytes: int
) -> None:
    def opened() -> Spool:
        return spool(Path(directory), max_bytes=max_bytes, segment_max_bytes=segment_max_bytes, sync_bytes=500)

    with tempfile.TemporaryDirectory() as directory:
        queue, written, dropped, delivered = opened(), 0, 0, list[int]()
        read: list[Record] = []
        for name, count in [*operations, ("reopen", 0)]:
            if name == "append":
                queue.append(records(written + 1, written + count))
                written += count
            elif name == "read":
                read = queue.read(count, 300)
            elif name == "acknowledge":
                batch, read = read[:count], read[count:]
                still_there = queue.acknowledge(len(batch))
                delivered += numbers(batch[len(batch) - still_there :])
            elif name == "sync":
                queue.sync()
            elif name == "adopt":
                queue.adopt()
            else:
                dropped += sum(queue.stats().dropped.values())
                queue.close() if name == "reopen" else queue.forget()
                queue, read = opened(), []
                queue.adopt()
            balance(queue)
        left = numbers(drain(queue))
        while queue.adopt():
            left += numbers(drain(queue))
        dropped += sum(queue.stats().dropped.values())
        queue.close()
    assert delivered == sorted(set(delivered))
    assert left == sorted(set(left))
    assert not set(delivered) & set(left)
    assert len(delivered) + len(left) + dropped == written


def test_a_full_spool_is_bounded_whatever_is_appended(tmp_path: Path) -> None:
    queue = spool(tmp_path, max_bytes=5_000)
    deque(map(queue.append, repeat(records(1, 7, size=90), 50)), 0)
    assert sum(path.stat().st_size for path in segments(tmp_path)) == queue.size_bytes <= 5_000
    balance(queue)
    queue.close()
