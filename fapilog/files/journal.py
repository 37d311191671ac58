"""A directory of numbered records on disk, which outlives the process that writes it.

    <directory>/lock                    held by ``flock``, by its writer or by who took over from a dead one
    <directory>/position                the number of the first record that nobody needs any more is below this one
    <directory>/<serial>-<first>.log    segments: a header line, and records from number <first> on

What a segment looks like and how it is read is said in `fapilog.files.recover`. After a failed fsync, what may not be
on disk is written again to a new segment; the old one then ends where that begins, and need not be touched.
"""

import contextlib
import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from fapilog.diagnostics import report
from fapilog.failpoints import hit
from fapilog.files.checked import Numbered, numbered, record_of
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_DIRECTORY, PRIVATE_FILE, FileLock
from fapilog.files.position import PositionFile
from fapilog.files.recover import JournalSegment, find_segments, header, records_of, segment_name
from fapilog.files.segment import sync_directory


class Journal:
    """Append, read and let go of records. Not thread-safe: it has one caller at a time."""

    def __init__(self, path: Path, lock: FileLock, position: PositionFile, owner: bytes, number: int) -> None:
        """Use `create` or `take_over`."""
        self.path = path
        self.owner = owner
        self.segments: deque[JournalSegment] = deque()
        self.next = number
        """The number of the oldest record that is still needed."""
        self.end = number
        """The number after the newest record."""
        self._lock = lock
        self._position = position
        self._serial = 0
        self._fd = -1
        self._unsynced: list[bytes] = []
        self.synced_end = number
        """The number after the newest record that is durable."""
        self._new_names = self._new_place = True
        self._suspect = False

    @classmethod
    def create(cls, path: Path, owner: bytes) -> Self | None:
        """Begin an empty journal at *path*, or return None if that directory is there already.

        Raises:
            OSError: It cannot be made.
        """
        claim = _claim(path, 1)
        return claim and cls(path, *claim, owner, 1)

    @classmethod
    def take_over(cls, path: Path, owner: bytes) -> Self | None:
        """Hold the journal of a process that is dead, or return None if its process lives.

        Raises:
            ForeignJournalError: It is not for *owner*; nothing was changed.
            OSError: It cannot be read.
        """
        try:
            lock = FileLock.take(path / "lock")
        except FileNotFoundError:  # its last owner is just removing it
            return None
        if lock is None:
            return None
        try:
            segments, serial = find_segments(path, lock.fd, owner)
            position = PositionFile.open(path / "position")
        except BaseException:
            lock.release()
            raise
        journal = cls(path, lock, position, owner, max(position.number, segments[0].first if segments else 1))
        journal.segments.extend(segments)
        journal.end = journal.synced_end = max(journal.next, segments[-1].end if segments else 1)
        journal._serial = serial
        journal._new_names = journal._new_place = False
        return journal

    @property
    def records(self) -> int:
        """How many records are still needed, damaged ones included."""
        return self.end - self.next

    @property
    def size_bytes(self) -> int:
        """The size of all segments on disk."""
        return sum([segment.size_bytes for segment in self.segments])

    @property
    def unsynced_bytes(self) -> int:
        """How much is kept in memory until the next `sync`."""
        return sum(map(len, self._unsynced))

    @property
    def timestamp_ns(self) -> int:
        """When the oldest segment was begun; 0 if there is none."""
        return self.segments[0].timestamp_ns if self.segments else 0

    @property
    def writing(self) -> bool:
        """Whether the last segment can be appended to."""
        return self._fd >= 0

    def encode(self, records: Iterable[tuple[int, int, bytes]]) -> list[bytes]:
        """Make the lines for `append` of `(level, timestamp_ns, line)`."""
        return [numbered(number, *record) for number, record in enumerate(records, self.end)]

    def append(self, lines: Sequence[bytes], timestamp_ns: int, *, segment_max_bytes: int) -> None:
        """Write *lines*, which `encode` made, as a whole or not at all.

        Raises:
            OSError: Nothing of it is kept.
        """
        if self._suspect:
            self._rewrite()
        block = b"".join(lines)
        if self._fd >= 0 and self.segments[-1].size_bytes + len(block) > segment_max_bytes:
            self._seal()
        if self._fd < 0:
            self._begin(self.end, timestamp_ns)
        segment = self.segments[-1]
        try:
            if not hit("seg.append"):
                _write(self._fd, block)
            hit("seg.append")
        except BaseException:
            self._take_back(segment)
            raise
        segment.size_bytes += len(block)
        self.end += len(lines)
        segment.end = self.end
        self._unsynced.append(block)

    def sync(self) -> None:
        """Make durable all that was appended. What a failed fsync leaves in doubt is written to a new segment.

        Raises:
            OSError: It is not durable. It is kept in memory, and the next call writes it again.
        """
        if self._suspect:
            self._rewrite()
        elif self._unsynced or self._new_names:
            try:
                self._sync()
            except OSError:
                self._suspect = True
                self._rewrite()

    def unread(self) -> Iterator[tuple[JournalSegment, int, Numbered]]:
        """Read from `next` on: the segment, where in it the next line begins, and the record. What is bad is left out.

        Raises:
            FileNotFoundError: A segment is gone; the caller may `drop` it and go on.
            OSError: A segment cannot be opened now.
        """
        for segment in tuple(self.segments):
            number = max(self.next, segment.first)
            if number < segment.end:
                yield from records_of(segment, number)

    def release_below(self, number: int) -> None:
        """Let go of all records below *number*, and of the segments that are no longer needed.

        The position is on disk before a segment goes. If it cannot be written, the segments stay for now.
        """
        self.next = max(self.next, number)
        try:
            self._position.move(self.next)
        except OSError as error:
            report(f"cannot note in {str(self.path)!r} what was delivered: {error}", key=f"position {self.path}")
            return
        self._unlink_done()

    def drop(self, segment: JournalSegment) -> int:
        """Give up the oldest segment with all that is in it, and return how many records were lost.

        Its file goes even if the position cannot be noted: whoever takes over begins with the oldest file there is.
        """
        lost = max(0, segment.end - self.next)
        self.next = max(self.next, segment.end)
        with contextlib.suppress(OSError):
            self._position.move(self.next)
        self._unlink_done()
        return lost

    def is_intact(self) -> bool:
        """Whether the directory is still ours and at its place, and the open segment still has a name."""
        return self._lock.is_intact()

    def mend(self, path: Path) -> int | None:
        """Go on at *path* after the directory was deleted or taken away, and return how many records were lost.

        What was not yet durable is still in memory and comes along. None if *path* is there already.

        Raises:
            OSError: It cannot be made; nothing has changed.
        """
        number = max(self.next, self.synced_end)
        claim = _claim(path, number)
        if claim is None:
            return None
        lost = number - self.next
        self.forget()
        self.path = path
        self._lock, self._position = claim
        self.segments.clear()
        self.next = number
        self._serial = 0
        self._new_names = self._new_place = True
        self._suspect = self.synced_end < self.end
        return lost

    def close(self) -> None:
        """Give up the claim, so that the next process can take over; remove the directory if nothing is left in it."""
        if not self.records and self._lock.is_intact():
            self.release_below(self.end)
            self._leave()
            if not self.segments:
                _remove(self.path)
        self._leave()
        self._position.close()
        self._lock.release()

    def forget(self) -> None:
        """Close the descriptors and leave everything as it is: what a child does with its parent's."""
        self._leave()
        self._position.close()
        self._lock.forget()

    def _begin(self, number: int, timestamp_ns: int) -> None:
        """Open a new segment for the records from *number* on."""
        first_line = header(self.owner, timestamp_ns)
        path = self.path / segment_name(self._serial + 1, number)
        hit("seg.create")
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, PRIVATE_FILE)
        try:
            _write(fd, first_line)
            if not self._serial:
                os.pwrite(self._lock.fd, first_line, 0)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        hit("seg.create")
        self._serial += 1
        self._fd = fd
        self._new_names = True
        self.segments.append(
            JournalSegment(path, number, number, len(first_line), timestamp_ns, (number, len(first_line)))
        )

    def _sync(self) -> None:
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.segments[-1].path))
            hit("seg.fsync")
            getattr(os, "fdatasync", os.fsync)(self._fd)
            hit("seg.fsync")
        if self._new_names:
            self._sync_names()
        self._unsynced.clear()
        self.synced_end = self.end

    def _sync_names(self) -> None:
        hit("dir.fsync")
        sync_directory(self.path)
        if self._new_place:
            sync_directory(self.path.parent)
            sync_directory(self.path.parent.parent)
        hit("dir.fsync")
        self._new_names = self._new_place = False

    def _rewrite(self) -> None:
        """Write to a new segment what may not be on disk, and make that durable."""
        blocks = self._unsynced
        self._leave()
        if not blocks:
            self._sync_names()
            self._suspect = False
            return
        old = self.segments[-1] if self.segments else None
        first = record_of(blocks[0].partition(b"\n")[0])
        self._begin(self.synced_end, first.timestamp_ns if first else 0)
        new, ended = self.segments[-1], old.end if old else 0
        try:
            _write(self._fd, b"".join(blocks))
            if old:
                old.end = self.synced_end
            new.size_bytes += sum(map(len, blocks))
            new.end = self.end
            self._sync()
        except BaseException:
            if old:
                old.end = ended
            self.segments.pop()
            self._leave()
            with contextlib.suppress(OSError):
                new.path.unlink()
            raise
        self._suspect = False

    def _seal(self) -> None:
        hit("seg.seal")
        self.sync()
        self._leave()
        hit("seg.seal")

    def _take_back(self, segment: JournalSegment) -> None:
        """Cut the open segment back after a write that did not finish; if that fails too, go on in another one."""
        try:
            os.ftruncate(self._fd, segment.size_bytes)
        except OSError:
            self._suspect = True

    def _leave(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _unlink_done(self) -> None:
        gone = False
        if self.next >= self.end:
            self._leave()
            self._unsynced.clear()
            self.synced_end = self.end
            self._suspect = False
        while self.segments and self.segments[0].end <= self.next:
            segment = self.segments[0]
            try:
                hit("seg.unlink")
                segment.path.unlink(missing_ok=True)
                hit("seg.unlink")
            except OSError as error:
                report(f"cannot delete {str(segment.path)!r}, which is not needed any more: {error}", key="unlink")
                break
            self.segments.popleft()
            gone = True
        if gone:
            try:
                self._sync_names()
            except OSError:
                self._new_names = True  # a name that comes back is below the position, and goes again


def _claim(path: Path, number: int) -> tuple[FileLock, PositionFile] | None:
    """Make the directory of a journal and hold it; None if there is one."""
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY)
    except FileExistsError:
        return None
    try:
        lock = FileLock.take(path / "lock")
    except FileNotFoundError:  # another process saw it empty and removed it at once
        return None
    except OSError:
        with contextlib.suppress(OSError):
            path.rmdir()
        raise
    if lock is None:  # or is just about to
        return None
    try:
        return lock, PositionFile.create(path / "position", number)
    except OSError:
        _remove(path)
        lock.release()
        raise


def _remove(path: Path) -> None:
    """Remove the directory at *path* if nothing is left in it but what every journal has."""
    for name in ("position", "lock"):
        with contextlib.suppress(OSError):
            (path / name).unlink()
    with contextlib.suppress(OSError):  # something in it is not ours
        path.rmdir()


def _write(fd: int, block: bytes) -> None:
    written = os.write(fd, block)
    while written < len(block):
        written += os.write(fd, memoryview(block)[written:])
