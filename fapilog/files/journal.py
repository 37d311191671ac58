"""A directory of numbered records on disk, which outlives the process that writes it.

    <directory>/lock                    held by ``flock``, by its writer or by who took over from a dead one
    <directory>/position                the number of the first record that nobody needs any more is below this one
    <directory>/<serial>-<first>.log    segments: a header line, and records from number <first> on

Every record has a number, counted without gaps from 1, in a line that carries a checksum (`fapilog.files.checked`). So
whatever happens to a segment, it is known how many records it had, which of them can still be read, and where each
stands in the order; a line that is found twice is one record. A segment ends where the next one begins, whatever else
is in it: after a failed fsync what may not be on disk is written again to a new segment, and the old one need not be
touched.

The header is ``crc32 SP fapilog-journal SP 1 SP owner SP timestamp_ns LF``: the version of this layout, what the
records are for, and when the first of them was logged. The lock file holds a copy.
"""

import contextlib
import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fapilog.diagnostics import report
from fapilog.failpoints import hit
from fapilog.files.checked import OVERHEAD_BYTES, Numbered, checked, numbered, record_of, scan, text_of
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_DIRECTORY, PRIVATE_FILE, FileLock
from fapilog.files.position import PositionFile
from fapilog.files.segment import sync_directory

_LAYOUT: Final = b"fapilog-journal"
_VERSION: Final = b"1"
_NAME: Final = re.compile(r"(\d{1,9})-(\d{1,18})\.log", re.ASCII)
_HEADER_BYTES: Final = 4096
_TAIL_BYTES: Final = 256 * 1024
_USUAL_BYTES: Final = 16 * 1024 * 1024
_LEAST_LINE_BYTES: Final = OVERHEAD_BYTES + len("1 5 0 ")


class ForeignJournalError(Exception):
    """The journal holds something else than what was asked for, or was written by another version."""


@dataclass(slots=True)
class Segment:
    """One file of a journal: the records from number `first` up to, not including, `end`."""

    path: Path
    first: int
    end: int
    size_bytes: int
    timestamp_ns: int
    """When the first record was logged."""

    known: tuple[int, int]
    """A number, and where in the file its record is."""


class Journal:
    """Append, read and let go of records. Not thread-safe: it has one caller at a time."""

    def __init__(self, path: Path, lock: FileLock, position: PositionFile, owner: bytes, number: int) -> None:
        """Use `create` or `take_over`."""
        self.path = path
        self.owner = owner
        self.segments: deque[Segment] = deque()
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
            segments, serial = _load(path, lock, owner)
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

    def unread(self) -> Iterator[tuple[Segment, int, Numbered]]:
        """Read from `next` on: the segment, where in it the next line begins, and the record. What is bad is left out.

        Raises:
            FileNotFoundError: A segment is gone; the caller may `drop` it and go on.
            OSError: A segment cannot be opened now.
        """
        for segment in tuple(self.segments):
            number = max(self.next, segment.first)
            if number < segment.end:
                yield from _records(segment, number)

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

    def drop(self, segment: Segment) -> int:
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
                for name in ("position", "lock"):
                    with contextlib.suppress(OSError):
                        (self.path / name).unlink()
                with contextlib.suppress(OSError):  # not empty: something in it is not ours
                    self.path.rmdir()
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
        header = checked(b"%b %b %b %d" % (_LAYOUT, _VERSION, self.owner, timestamp_ns))
        path = self.path / f"{self._serial + 1:06}-{number:012}.log"
        hit("seg.create")
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, PRIVATE_FILE)
        try:
            _write(fd, header)
            if not self._serial:
                os.pwrite(self._lock.fd, header, 0)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        hit("seg.create")
        self._serial += 1
        self._fd = fd
        self._new_names = True
        self.segments.append(Segment(path, number, number, len(header), timestamp_ns, (number, len(header))))

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

    def _take_back(self, segment: Segment) -> None:
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
        lock = FileLock.take(path / "lock")
    except (FileExistsError, FileNotFoundError):  # or another process saw it empty and removed it at once
        if path.parent.is_dir():
            return None
        raise
    if lock is None:
        return None
    try:
        return lock, PositionFile.create(path / "position", number)
    except OSError:
        with contextlib.suppress(OSError):
            lock.path.unlink()
            path.rmdir()
        lock.release()
        raise


def _load(path: Path, lock: FileLock, owner: bytes) -> tuple[list[Segment], int]:
    """Find the segments in *path*, and the highest serial number, from names and headers alone."""
    found: list[tuple[int, int, Path, int]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            status = entry.stat(follow_symlinks=False)
            if match and stat.S_ISREG(status.st_mode):
                found.append((int(match[2]), int(match[1]), path / entry.name, status.st_size))
    found.sort()
    begun = _header(os.pread(lock.fd, _HEADER_BYTES, 0), owner)
    segments: list[Segment] = []
    readable = begun is not None
    for first, _, name, size in found:
        fd = os.open(name, os.O_RDONLY | OPEN_FLAGS)
        try:
            timestamp_ns = _header(os.pread(fd, _HEADER_BYTES, 0), owner)
            if name == found[-1][2]:
                end = _end_of_last(fd, first, size)
        finally:
            os.close(fd)
        readable = readable or timestamp_ns is not None
        if timestamp_ns is None:
            timestamp_ns = segments[-1].timestamp_ns if segments else begun or 0
        if segments:
            segments[-1].end = first
        segments.append(Segment(name, first, first, size, timestamp_ns, (first, 0)))
    if segments:
        segments[-1].end = end
        if not readable:
            raise ForeignJournalError("no header in it can be read")
    return segments, max([serial for _, serial, _, _ in found], default=0)


def _header(data: bytes, owner: bytes) -> int | None:
    """Return when the first record was logged, or None if the header is damaged."""
    text = text_of(data.partition(b"\n")[0])
    if text is None:
        return None
    layout, _, rest = text.partition(b" ")
    version, _, rest = rest.partition(b" ")
    whose, _, timestamp_ns = rest.rpartition(b" ")
    if layout != _LAYOUT:  # a record, after the header was cut out
        return None
    if version != _VERSION:
        raise ForeignJournalError(f"it was written by another version (layout {version.decode(errors='replace')})")
    if whose != owner:
        raise ForeignJournalError(f"it is for {whose.decode(errors='replace')!r}, this is {owner.decode()!r}")
    return int(timestamp_ns) if timestamp_ns.isdigit() else None


def _end_of_last(fd: int, first: int, size: int) -> int:
    """Return the number after the last record that was begun in a segment of which only the beginning is known."""
    end = _end_if_whole(fd, first, size) if size > _TAIL_BYTES else None
    if end is not None:
        return end
    limit = first + max(size, _USUAL_BYTES) // _LEAST_LINE_BYTES  # more do not fit, whatever a line says
    end, bad = first, 0
    for place, line in scan(fd):
        record = record_of(line)
        if record is not None and first <= record.number < limit:
            if record.number >= end:
                end, bad = record.number + 1, 0
        elif place:  # what comes first is the header
            bad += 1
    return end + bad


def _end_if_whole(fd: int, first: int, size: int) -> int | None:
    """Return the same, many times faster, if the last line is good and has the number that the count of lines gives."""
    lines = 0
    for offset in range(0, size, _TAIL_BYTES):
        lines += os.pread(fd, _TAIL_BYTES, offset).count(b"\n")
    data = os.pread(fd, _TAIL_BYTES, size - _TAIL_BYTES)
    record = record_of(data[:-1].rpartition(b"\n")[2]) if data.endswith(b"\n") else None
    end = first + lines - 1  # one of them is the header
    return end if record is not None and record.number == end - 1 else None


def _records(segment: Segment, number: int) -> Iterator[tuple[Segment, int, Numbered]]:
    """Read the records of *segment* from *number* on; where lines are missing, look for them in the whole file."""
    fd = os.open(segment.path, os.O_RDONLY | OPEN_FLAGS)
    try:
        for place, line in scan(fd, segment.known[1] if segment.known[0] <= number else 0):
            record = record_of(line)
            if record is None or record.number < number:
                continue
            if record.number != number:
                break
            number += 1
            yield segment, place + len(line) + 1, record
            if number == segment.end:
                return
        yield from _sorted_records(fd, segment, number)
    except OSError as error:
        if error.errno != errno.EIO:  # where the disk is broken, the rest is as lost as if it were not there
            raise
    finally:
        os.close(fd)


def _sorted_records(fd: int, segment: Segment, number: int) -> Iterator[tuple[Segment, int, Numbered]]:
    places: dict[int, tuple[int, int]] = {}
    for place, line in scan(fd):
        record = record_of(line)
        if record is not None and number <= record.number < segment.end:
            places.setdefault(record.number, (place, len(line)))
    for found in sorted(places):
        place, length = places[found]
        record = record_of(os.pread(fd, length, place))
        if record is not None:
            yield segment, place + length + 1, record


def _write(fd: int, block: bytes) -> None:
    written = os.write(fd, block)
    while written < len(block):
        written += os.write(fd, memoryview(block)[written:])
