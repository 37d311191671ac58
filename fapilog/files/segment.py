"""Append whole lines to segments, each written by one process and safe to read at any moment.

A process holds a numbered *slot*, by a lock on ``<slot>.lock``, and appends to ``<slot>-<number>.jsonl``. When a
segment is full it goes on with the next number; nothing is ever renamed or written by two. A new process takes the
lowest free slot and continues its last segment, so there are as many files as processes run at once. If the last
owner died within a line, that segment is left as it is, its half line included, and the next number is begun:
a reader may be in the middle of it, so it must not shrink.
"""

import contextlib
import errno
import os
import re
import stat
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from fapilog import forks
from fapilog.diagnostics import report
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_DIRECTORY, PRIVATE_FILE, FileLock

DEFAULT_MAX_BYTES: Final = 4 * 1024 * 1024
"""Every query parses what is in segments, of all processes, so they are small."""

DEFAULT_MAX_AGE_SECONDS: Final = 86_400.0
MAX_SLOTS: Final = 10_000

_NAME: Final = re.compile(r"(\d+)-(\d+)\.jsonl", re.ASCII)
_CHUNK_BYTES: Final = 64 * 1024
_ROLL_RETRY_SECONDS: Final = 5.0
_WRITE_SECONDS: Final = 2.0


class Segment(NamedTuple):
    """One segment as it was found on disk."""

    slot: int
    number: int
    size_bytes: int
    modified: float
    """When it was last written, in seconds since the epoch."""

    @property
    def name(self) -> str:
        """The file's name within its directory."""
        return segment_name(self.slot, self.number)


def segment_name(slot: int, number: int) -> str:
    """Name the segment *number* of *slot*."""
    return f"{slot}-{number}.jsonl"


def is_segment(name: str) -> bool:
    """Whether a file of this *name* is a segment as this version writes them.

    A later version that writes others calls them ``<slot>-<number>.v<version>.jsonl``.
    """
    return _NAME.fullmatch(name) is not None


def list_segments(directory: Path) -> list[Segment]:
    """Find the segments in *directory*, in order of slot and number. A missing directory has none."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if (match := _NAME.fullmatch(entry.name)) is None:
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append(Segment(int(match[1]), int(match[2]), status.st_size, status.st_mtime))
    return sorted(found)


def longest_line(path: Path, size_bytes: int, *, at_least: int) -> int:
    """Say how long a line of the segment at *path* may be, if one may be longer than *at_least* bytes; else *at_least*.

    No writer makes such lines. A power cut does, where it leaves zeros in place of what was written last.
    """
    if size_bytes <= at_least:
        return at_least
    window = at_least // 2  # a longer line covers one of these as a whole
    with path.open("rb") as file:
        for start in range(0, size_bytes - window + 1, window):
            chunks = range(start, start + window, _CHUNK_BYTES)
            if not any(b"\n" in os.pread(file.fileno(), min(_CHUNK_BYTES, window), offset) for offset in chunks):
                return size_bytes
    return at_least


def is_torn(path: Path, segment: Segment) -> bool:
    """Whether the *segment* at *path* ends within a line and has done so for longer than a write takes."""
    if time.time() - segment.modified < _WRITE_SECONDS or not segment.size_bytes:
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        return os.pread(file.fileno(), 1, segment.size_bytes - 1) != b"\n"
    return False


def hold_slot(directory: Path, slot: int) -> FileLock | None:
    """Keep every process from writing in *slot* while the lock is held, or return None if one does now."""
    path = directory / f"{slot}.lock"
    try:
        return FileLock.take(path)
    except PermissionError:
        if path.exists():  # another user's slot
            return None
        raise


class SegmentWriter:
    """Append blocks of whole lines for this process. Not thread-safe: it has one caller at a time.

    Slot and segment are taken by the first `append`, so a process that only prepares its workers holds none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS,
        sealed: Callable[[int], int | None] = lambda _slot: 0,
        opened: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to write in *directory* without touching it.

        Args:
            directory: Where segments and slot locks are; made when first needed.
            max_bytes: How large a segment may grow before the next one is begun. A larger block gets one of its own.
            max_age_seconds: How long after a segment was begun the next one is, so that a service that logs little does
                not keep its oldest records as long as it runs.
            sealed: The highest number of a slot that must not be written again, as readers were told to leave it out;
                None if that is not known, and then the slot's last segment is not continued.
            opened: Called after a segment was taken into use, such as to tidy up older ones.
            clock: Gives the time, in seconds since the epoch.
        """
        self.directory = directory
        self._max_bytes = max_bytes
        self._max_age_seconds = max_age_seconds
        self._sealed = sealed
        self._opened = opened
        self._clock = clock
        self._began = 0.0
        self._lock: FileLock | None = None
        self._fd = -1
        self._path = directory
        self._slot = -1
        self._unsynced = self._unsynced_name = False
        self._sync_error: OSError | None = None
        self._roll_again_at = 0.0
        self._pid = os.getpid()
        _writers.add(self)

    @property
    def slot(self) -> int | None:
        """The slot this process holds, or None before the first `append`."""
        return self._slot if self._lock is not None else None

    @property
    def path(self) -> Path | None:
        """The segment that is appended to, or None before the first `append`."""
        return self._path if self._fd >= 0 else None

    def append(self, block: bytes) -> None:
        """Write *block*, which ends in a newline, as a whole or not at all.

        Raises:
            OSError: Nothing of the block is kept, and it can be given again.
        """
        if self._pid != os.getpid():  # a fork that ran no hooks
            self.forget()
        size = self._ready_for(len(block))
        written = 0
        try:
            while written < len(block):
                written += os.write(self._fd, memoryview(block)[written:] if written else block)
        except BaseException:
            self._take_back(size)
            raise
        self._unsynced = True

    def flush(self) -> None:
        """Make durable all that was appended.

        Raises:
            OSError: It is unknown what reached the disk. The next block begins a new segment.
        """
        if self._fd < 0 or self._pid != os.getpid():
            return
        error, self._sync_error = self._sync_error, None
        if error is not None:
            raise error
        try:
            self._sync()
        except OSError:
            self._leave_segment()
            raise

    def close(self) -> None:
        """Give the slot back. Safe to call twice; a later `append` takes one again."""
        if self._pid == os.getpid() and self._lock is not None:
            lock, self._lock = self._lock, None
            self._leave_segment()
            lock.release()
        else:
            self.forget()

    def forget(self) -> None:
        """Drop what a fork left here: close the copies of the parent's descriptors, and leave its lock alone."""
        if self._lock is not None:
            self._lock.forget()
        self._lock = None
        self._leave_segment()
        self._pid = os.getpid()

    def _ready_for(self, length: int) -> int:
        """Have a segment open with room for *length* bytes, and return its size."""
        size = self._current_size()
        if size is None:
            if self._lock is not None and not self._lock.is_intact():  # the directory was deleted or moved away
                self._lock.release()
                self._lock = None
            if self._lock is None:
                self._take_slot()
            else:
                self._begin_next(self._lock)
            size = os.fstat(self._fd).st_size
            self._opened()
        full = size + length > self._max_bytes or self._is_old(self._began)
        if size and full and time.monotonic() >= self._roll_again_at:
            size = self._roll(self._lock, size) if self._lock is not None else size
        return size

    def _current_size(self) -> int | None:
        """The size of the open segment, or None if there is none or it is no longer at its path."""
        if self._fd < 0 or self._lock is None:
            return None
        with contextlib.suppress(OSError):
            opened = os.fstat(self._fd)
            if os.path.samestat(self._path.stat(), opened) and self._lock.is_intact():
                return opened.st_size
        self._leave_segment()
        return None

    def _take_slot(self) -> None:
        self.directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        for slot in range(MAX_SLOTS):
            if (lock := hold_slot(self.directory, slot)) is not None:
                break
        else:
            raise OSError(errno.EBUSY, f"all {MAX_SLOTS} slots are taken", str(self.directory))
        self._slot = slot
        try:
            self._continue_or_begin(lock)
        except BaseException:
            lock.release()
            raise
        self._lock = lock

    def _continue_or_begin(self, lock: FileLock) -> None:
        last = max((found for found in list_segments(self.directory) if found.slot == self._slot), default=None)
        sealed = self._sealed(self._slot)
        number, began = self._noted(lock)
        if last is None or sealed is None or last.number <= sealed:
            return self._begin_next(lock)
        if last.number != number:
            began = self._clock()
        if last.size_bytes < self._max_bytes and not self._is_old(began):
            path = self.directory / last.name
            try:
                fd = os.open(path, os.O_RDWR | os.O_APPEND | OPEN_FLAGS)
            except PermissionError:  # another user ran the service before
                return self._begin_next(lock)
            size = os.fstat(fd).st_size
            if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
                self._fd, self._path, self._began = fd, path, began
                return None
            os.close(fd)
            report(f"{str(path)!r} ends within a line, its writer was killed; that line is left out of queries")
        return self._begin_next(lock)

    def _is_old(self, began: float) -> bool:
        return abs(self._clock() - began) >= self._max_age_seconds  # a clock may be set back, too

    def _noted(self, lock: FileLock) -> tuple[int, float]:
        """Read from the lock's file which number the slot had last, and when that segment was begun."""
        try:
            number, began = os.pread(lock.fd, 64, 0).splitlines()[0].split()
            return int(number), float(began)
        except (ValueError, IndexError):
            return 0, 0.0

    def _begin_next(self, lock: FileLock) -> None:
        """Open a segment under a number this slot never had, as readers may still leave out the old ones."""
        began = self._clock()
        numbers = [found.number for found in list_segments(self.directory) if found.slot == self._slot]
        number = max([*numbers, self._noted(lock)[0], self._sealed(self._slot) or 0]) + 1
        os.pwrite(lock.fd, b"%d %d\n" % (number, began), 0)
        path = self.directory / segment_name(self._slot, number)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, PRIVATE_FILE)
        self._leave_segment()
        self._fd, self._path, self._began = fd, path, began
        self._unsynced_name = True

    def _roll(self, lock: FileLock, size: int) -> int:
        """Begin the next segment and return its size; if it cannot be had, go on in this one for a while."""
        try:
            self._sync()
        except OSError as error:
            self._sync_error = error  # the next flush tells: it can no longer vouch for this segment
        try:
            self._begin_next(lock)
        except OSError as error:
            self._roll_again_at = time.monotonic() + _ROLL_RETRY_SECONDS
            report(f"cannot begin a new segment, going on in {str(self._path)!r}: {error}")
            return size
        self._opened()
        return 0

    def _sync(self) -> None:
        if self._unsynced:
            getattr(os, "fdatasync", os.fsync)(self._fd)
            self._unsynced = False
        if self._unsynced_name:
            sync_directory(self.directory)
            self._unsynced_name = False

    def _take_back(self, size: int) -> None:
        """Cut the open segment back to *size* after a write that did not finish."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            report(f"{str(self._path)!r} may hold part of a batch that will be written again: {error}")
            self._leave_segment()

    def _leave_segment(self) -> None:
        fd, self._fd = self._fd, -1
        self._unsynced = self._unsynced_name = False
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def sync_directory(directory: Path) -> None:
    """Make durable which names *directory* has."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | OPEN_FLAGS)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_writers: weakref.WeakSet[SegmentWriter] = weakref.WeakSet()


def _forget_inherited() -> None:
    for writer in list(_writers):
        writer.forget()


forks.in_child(_forget_inherited)
