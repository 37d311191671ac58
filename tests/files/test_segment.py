import errno
import os
import resource
import signal
import subprocess
import sys
from collections import deque
from itertools import repeat
from pathlib import Path

import pytest

from fapilog.files.lock import FileLock
from fapilog.files.segment import SegmentWriter, hold_slot, list_segments, longest_line


def names(directory: Path) -> list[str]:
    return [segment.name for segment in list_segments(directory)]


def run_in_fork(task: object) -> None:
    """Run *task* in a forked child and see that it ended well."""
    assert callable(task)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            task()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_nothing_is_taken_before_the_first_block(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments")
    assert writer.slot is None
    assert writer.path is None
    assert not (tmp_path / "segments").exists()


def test_blocks_are_appended_to_one_segment(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"one\n")
    writer.append(b"two\nthree\n")
    assert (tmp_path / "0-1.jsonl").read_bytes() == b"one\ntwo\nthree\n"
    writer.close()


def test_files_are_private_to_their_owner(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments")
    writer.append(b"one\n")
    assert (tmp_path / "segments").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "segments").iterdir()} == {0o600}
    writer.close()


def test_a_full_segment_is_followed_by_the_next_number(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, max_bytes=10)
    for _ in range(3):
        writer.append(b"123456\n")
    assert names(tmp_path) == ["0-1.jsonl", "0-2.jsonl", "0-3.jsonl"]
    writer.close()


def test_a_block_larger_than_a_segment_is_written_whole(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, max_bytes=10)
    writer.append(b"x" * 100 + b"\n")
    assert (tmp_path / "0-1.jsonl").stat().st_size == 101
    writer.close()


def test_an_old_segment_is_followed_by_the_next_number(tmp_path: Path) -> None:
    now = 1_000_000.0
    for ages, expected in (((0, 59), ["0-1.jsonl"]), ((59, 60), ["0-1.jsonl", "0-2.jsonl"])):
        for age in ages:
            writer = SegmentWriter(tmp_path, max_age_seconds=60, clock=lambda: now + age)  # noqa: B023 - used at once
            writer.append(b"line\n")
            writer.close()
        assert names(tmp_path) == expected
    writer = SegmentWriter(tmp_path, max_age_seconds=60, clock=lambda: now)
    writer.append(b"line\n")
    now += 1_000
    writer.append(b"line\n")
    assert len(names(tmp_path)) == 4
    writer.close()


def test_writers_at_the_same_time_have_a_slot_each(tmp_path: Path) -> None:
    first, second = SegmentWriter(tmp_path), SegmentWriter(tmp_path)
    first.append(b"first\n")
    second.append(b"second\n")
    assert (first.slot, second.slot) == (0, 1)
    assert names(tmp_path) == ["0-1.jsonl", "1-1.jsonl"]
    first.close()
    second.close()


def test_the_next_writer_continues_the_segment_of_the_last(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        writer = SegmentWriter(tmp_path)
        writer.append(text)
        writer.close()
    assert names(tmp_path) == ["0-1.jsonl"]
    assert (tmp_path / "0-1.jsonl").read_bytes() == b"first\nsecond\n"


def test_a_segment_that_ends_within_a_line_is_left_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "0-4.jsonl").write_bytes(b"whole\nhal")
    writer = SegmentWriter(tmp_path)
    writer.append(b"next\n")
    assert (tmp_path / "0-4.jsonl").read_bytes() == b"whole\nhal"
    assert (tmp_path / "0-5.jsonl").read_bytes() == b"next\n"
    assert "ends within a line" in capfd.readouterr().err
    writer.close()


def test_a_sealed_segment_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "0-4.jsonl").write_bytes(b"compacted\n")
    writer = SegmentWriter(tmp_path, sealed={0: 4}.__getitem__)
    writer.append(b"next\n")
    assert (tmp_path / "0-4.jsonl").read_bytes() == b"compacted\n"
    assert writer.path == tmp_path / "0-5.jsonl"
    writer.close()


def test_no_segment_is_continued_when_it_is_not_known_what_is_sealed(tmp_path: Path) -> None:
    (tmp_path / "0-4.jsonl").write_bytes(b"perhaps compacted\n")
    writer = SegmentWriter(tmp_path, sealed=lambda slot: None)
    writer.append(b"next\n")
    assert writer.path == tmp_path / "0-5.jsonl"
    writer.close()


def test_a_number_is_never_used_again_though_its_file_is_gone(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        writer = SegmentWriter(tmp_path)
        writer.append(b"line\n")
        writer.close()
        assert writer.path is None
        (tmp_path / f"0-{number}.jsonl").unlink()


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"before\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        with pytest.raises(OSError, match="too large") as caught:
            writer.append(b"y" * 100 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "0-1.jsonl").read_bytes() == b"before\n"
    writer.append(b"after\n")
    assert (tmp_path / "0-1.jsonl").read_bytes() == b"before\nafter\n"
    writer.close()


def test_a_full_disk_takes_whole_blocks_or_nothing_and_recovers(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=False).returncode == 0
    if not mounted:
        pytest.skip("needs the right to mount")
    writer = SegmentWriter(tmp_path / "segments")
    block = b"z" * 999 + b"\n"
    try:
        with pytest.raises(OSError, match="No space left"):
            deque(map(writer.append, repeat(block * 7, 100)))
        content = (tmp_path / "segments" / "0-1.jsonl").read_bytes()
        assert len(content) % (len(block) * 7) == 0
        writer.append(block)
        assert (tmp_path / "segments" / "0-1.jsonl").read_bytes() == content + block
    finally:
        writer.close()
        subprocess.run(["umount", tmp_path], check=True)


def test_writing_goes_on_where_it_is_when_the_next_segment_cannot_be_had(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    writer = SegmentWriter(tmp_path, max_bytes=10)
    writer.append(b"123456\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        writer.append(b"789012\n")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (tmp_path / "0-1.jsonl").read_bytes() == b"123456\n789012\n"
    assert "cannot begin a new segment" in capfd.readouterr().err
    writer.close()


def test_a_deleted_segment_is_followed_by_a_new_one(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"one\n")
    (tmp_path / "0-1.jsonl").unlink()
    writer.append(b"two\n")
    assert (tmp_path / "0-2.jsonl").read_bytes() == b"two\n"
    writer.close()


def test_a_directory_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments")
    writer.append(b"one\n")
    (tmp_path / "segments").rename(tmp_path / "old")
    writer.append(b"two\n")
    assert (tmp_path / "old" / "0-1.jsonl").read_bytes() == b"one\n"
    assert (tmp_path / "segments" / "0-1.jsonl").read_bytes() == b"two\n"
    with FileLock.take(tmp_path / "old" / "0.lock") or pytest.fail("the old slot is still held"):
        writer.close()


def test_a_deleted_lock_does_not_let_two_write_one_segment(tmp_path: Path) -> None:
    first, second = SegmentWriter(tmp_path), SegmentWriter(tmp_path)
    first.append(b"first\n")
    (tmp_path / "0.lock").unlink()
    second.append(b"second\n")
    first.append(b"first\n")
    assert (first.slot, second.slot) == (1, 0)
    first.close()
    second.close()


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "0.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        SegmentWriter(tmp_path).append(b"one\n")
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_only_regular_files_with_our_names_are_segments(tmp_path: Path) -> None:
    for name in ("0-1.jsonl", "x-1.jsonl", "0-1.jsonl.bak", "none.jsonl", "0.lock"):
        (tmp_path / name).touch()
    (tmp_path / "0-2.jsonl").mkdir()
    (tmp_path / "0-3.jsonl").symlink_to(tmp_path / "0-1.jsonl")
    assert names(tmp_path) == ["0-1.jsonl"]
    assert list_segments(tmp_path / "missing") == []


def test_segments_are_listed_by_number_and_not_by_letter(tmp_path: Path) -> None:
    for name in ("10-1.jsonl", "2-10.jsonl", "2-9.jsonl"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["2-9.jsonl", "2-10.jsonl", "10-1.jsonl"]


@pytest.mark.parametrize(
    ("before", "zeros", "found"), [(90, 0, 16), (20, 5, 16), (7, 17, 27), (0, 40, 43), (30, 33, 66)]
)
def test_a_line_of_zeros_longer_than_any_record_is_noticed(before: int, zeros: int, found: int, tmp_path: Path) -> None:
    path = tmp_path / "0-1.jsonl"
    path.write_bytes(b"\n" * before + b"\0" * zeros + b"}\n\n")
    assert longest_line(path, path.stat().st_size, at_least=16) == found


def test_a_held_slot_is_not_written_in(tmp_path: Path) -> None:
    slot = hold_slot(tmp_path, 0)
    assert slot is not None
    writer = SegmentWriter(tmp_path)
    writer.append(b"one\n")
    assert writer.slot == 1
    assert hold_slot(tmp_path, 1) is None
    slot.release()
    writer.close()
    assert hold_slot(tmp_path, 1) is not None


def test_flush_is_allowed_before_anything_was_written(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.flush()
    writer.append(b"one\n")
    writer.flush()
    writer.close()
    writer.close()


def test_a_forked_child_writes_to_a_slot_of_its_own(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"parent\n")

    def child() -> None:
        writer.append(b"child\n")
        assert writer.slot == 1

    run_in_fork(child)
    writer.append(b"parent\n")
    assert (tmp_path / "0-1.jsonl").read_bytes() == b"parent\nparent\n"
    assert (tmp_path / "1-1.jsonl").read_bytes() == b"child\n"
    writer.close()


def test_a_fork_without_hooks_is_noticed_at_the_next_write(tmp_path: Path) -> None:
    script = f"""
import ctypes, os
from pathlib import Path
from fapilog.files.segment import SegmentWriter
writer = SegmentWriter(Path({str(tmp_path)!r}))
writer.append(b"parent\\n")
libc = ctypes.PyDLL(None)
pid = libc.fork()
if pid == 0:
    writer.append(b"child\\n")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
writer.append(b"parent\\n")
assert writer.slot == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert (tmp_path / "0-1.jsonl").read_bytes() == b"parent\nparent\n"
    assert (tmp_path / "1-1.jsonl").read_bytes() == b"child\n"


def test_the_slot_of_a_dead_parent_is_free_while_its_child_lives(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from fapilog.files.segment import SegmentWriter
writer = SegmentWriter(Path({str(tmp_path)!r}))
writer.append(b"parent\\n")
if os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        assert process.wait(timeout=30) == 0
        slot = hold_slot(tmp_path, 0)
        assert slot is not None
        slot.release()
        assert process.stdin is not None
        process.stdin.close()


def test_another_program_inherits_no_lock(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"one\n")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as process:
        writer.close()
        assert hold_slot(tmp_path, 0) is not None
        assert process.stdin is not None
        process.stdin.close()


def fail(*arguments: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_after_a_failed_flush_a_new_segment_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"perhaps lost\n")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            writer.flush()
    writer.append(b"next\n")
    writer.flush()
    assert names(tmp_path) == ["0-1.jsonl", "0-2.jsonl"]
    writer.close()


def test_a_segment_that_could_not_be_synced_before_the_next_is_told_by_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SegmentWriter(tmp_path, max_bytes=1)
    writer.append(b"perhaps lost\n")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        writer.append(b"next\n")
    with pytest.raises(OSError, match="Input/output"):
        writer.flush()
    writer.flush()
    writer.close()


def test_a_half_written_block_that_cannot_be_taken_back_ends_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    writer = SegmentWriter(tmp_path)
    writer.append(b"before\n")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        patched.setattr(os, "ftruncate", fail)
        patched.setattr("fapilog.files.segment.report", said.append)
        with pytest.raises(OSError, match="Input/output"):
            writer.append(b"half\n")
    assert "may hold part of a batch" in said[0]
    writer.append(b"half\n")
    assert (tmp_path / "0-2.jsonl").read_bytes() == b"half\n"
    writer.close()


def test_a_system_without_locks_is_told_which_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fapilog.files.lock.fcntl", None)
    with pytest.raises(OSError, match="no flock"):
        SegmentWriter(tmp_path).append(b"one\n")
