"""Append to a file that any number of processes share, and put it aside when it is due.

Whoever writes holds `flock` on the file itself, and only then looks whether the path still leads to it. Whoever puts
the file aside holds the same lock. So nothing is ever written to a file that was put aside, two rotations never meet,
and a process that sits idle with an old file open is in nobody's way. There is no lock file to be left behind.
"""

import contextlib
import errno
import math
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from fapilog import forks
from fapilog.diagnostics import report
from fapilog.errors import BatchTooLargeError, ConfigurationError
from fapilog.failpoints import hit
from fapilog.files.descriptors import closing
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_DIRECTORY
from fapilog.files.names import Names, claim_aside
from fapilog.files.opening import begun, explain, note_begun, open_at
from fapilog.files.rotation import Rotation

try:
    import fcntl
except ImportError:  # Windows: files there are not shared, nor put aside
    fcntl = None  # type: ignore[assignment]

RETRY_SECONDS: Final = 5.0
"""How long a file that could not be put aside is appended to before that is tried again."""

_DIRECTORY_FLAGS: Final = os.O_RDONLY | OPEN_FLAGS | getattr(os, "O_DIRECTORY", 0)
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class SharedFile:
    """The file at one path, as one process uses it. All but `sync` is called by one thread at a time."""

    def __init__(
        self,
        names: Names,
        *,
        rotation: Rotation | None = None,
        header: Callable[[Path], str | bytes] | None = None,
        footer: Callable[[Path], str | bytes] | None = None,
        put_aside: Callable[[], None] | None = None,
        settle: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare to append without touching anything.

        Args:
            names: Where the file is and what it is called.
            rotation: When it is put aside.
            header: Gives the text a new file begins with; called with its path.
            footer: Gives the text a file ends with when it is put aside; called with its path.
            put_aside: Called after this process has put the file aside.
            settle: Takes an open file that others have put aside, brings it to disk and closes it.
        """
        self._names = names
        self._rotation = rotation or Rotation()
        self._header = header
        self._footer = footer
        self._put_aside = put_aside
        self._settle = settle
        self._rotates = self._rotation.is_set
        self._fd: int | None = None
        self._inode = self._device = -1
        self._path = ""
        self._directory: Path | None = None
        self._end = -1
        """Where our own last write ended; at any other size of the file, somebody else has written."""
        self._locks = fcntl is not None
        self._due = math.inf
        self._stale_at = math.inf
        self._not_before = 0.0
        self._suspect = False
        """Whether the file may have lost what was written to it, as an fsync has failed."""
        self._guard = threading.Lock()
        """Held while the descriptor is closed, or copied by another thread."""
        self._syncing = threading.Lock()
        """Held during `sync`, so that nobody takes what another thread is still at for done."""
        self.dirty = False
        """Whether anything was written since the last `sync`."""
        self.left_behind = False
        """Whether a file was put aside with something in it that was not brought to disk."""
        _open_files.add(self)

    # Opening

    def open(self) -> None:
        """See that the file can be appended to, and hold it open.

        Raises:
            OSError: It cannot.
            ConfigurationError: Something that is no regular file is there, or files cannot be put aside here.
        """
        if self._fd is not None:
            return
        try:
            self._open()
            if self._rotates:
                self._check_rotation()
        except OSError:
            self.close()
            explain(self.path)
            raise

    @property
    def path(self) -> Path:
        """The path that is written to now."""
        return Path(self._path) if self._path else self._names.current()

    @property
    def directory(self) -> Path:
        """The directory of the log, with every symbolic link in it followed once, when it was first opened."""
        if self._directory is None:
            parent = self._names.current().parent
            parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            self._directory = parent.resolve()
        return self._directory

    def open_directory(self) -> int:
        """Open the directory; it must not have become a symbolic link since.

        Raises:
            OSError: It cannot be opened.
        """
        return os.open(self.directory, _DIRECTORY_FLAGS)

    def _open(self) -> None:
        """Open the path of now, made with its directory if missing."""
        directory = self.directory
        directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        now = time.time()
        path = directory / self._names.current(datetime.fromtimestamp(now).date()).name
        self._stale_at = _midnight_after(now) if self._names.dated else math.inf
        with closing(self.open_directory()) as at:
            fd = open_at(path, at)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self._fd, self._path, self._end = fd, str(path), -1
        self._inode, self._device = found.st_ino, found.st_dev
        if self._rotation.times:
            self._due = self._rotation.due(begun(fd))

    def _check_rotation(self) -> None:
        if fcntl is None:
            raise ConfigurationError("this system has no flock, which rotation needs; leave rotation out")
        assert self._fd is not None  # noqa: S101 - was just opened
        self._lock()
        self._unlock()
        if not self._locks:
            raise ConfigurationError(
                f"no file at {self._path!r} can be locked, which rotation needs; leave rotation out"
            )
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.directory))

    # Writing

    def write(self, payload: bytes, *, divisible: bool, durable: bool = False) -> None:
        """Append whole lines, all of them or none.

        Args:
            payload: The lines.
            divisible: Whether it can be given again in smaller parts, if it does not fit into a file.
            durable: Whether to bring them to the disk itself before returning.

        Raises:
            OSError: The disk does not take them; then nothing of them is left in the file.
            BatchTooLargeError: No file may become as large as this.
        """
        limit = self._rotation.max_bytes
        if limit is not None and divisible and len(payload) > limit:
            raise BatchTooLargeError(f"{len(payload)} bytes do not fit into a file of {limit}")
        while True:
            size = self._take()
            try:
                while size and (self._suspect or self._rotates) and self._is_due(size, payload) and self._rotate(size):
                    size = self._take()
                there = self._append(payload, size, durable=durable)
            finally:
                if self._locks and self._fd is not None:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
            if there:
                return

    def _take(self) -> int:
        """Lock the file that the path leads to now, opened again if it has become another; return its size."""
        if time.time() >= self._stale_at:
            self._leave()
        for _ in range(1_000):
            if self._fd is None:
                self._open()
            if self._locks:
                self._lock()
            try:
                there = os.lstat(self._path)
            except OSError as error:
                if error.errno not in _GONE:
                    self._unlock()
                    raise
            else:
                if there.st_ino == self._inode and there.st_dev == self._device:
                    return there.st_size
            self._leave()
        raise OSError(errno.EAGAIN, "the file is replaced faster than it can be opened", self._path)

    def _is_there(self) -> bool:
        """Whether the path leads to the file that is open."""
        try:
            there = os.lstat(self._path)
        except OSError:
            return False
        return there.st_ino == self._inode and there.st_dev == self._device

    def _append(self, payload: bytes, size: int, *, durable: bool) -> bool:
        """Write to the locked file; return whether it is still in a directory then."""
        fd = self._fd
        assert fd is not None  # noqa: S101 - _take opened it
        if size == 0:
            payload = self._begin(fd) + payload
        elif size != self._end and not _ends_a_line(fd, size):  # a process was killed within its write
            payload = b"\n" + payload
        written = 0
        try:
            hit("file.write")
            while written < len(payload):  # more than once only when the disk is nearly full
                written += os.write(fd, payload[written:] if written else payload)
                if written < len(payload):
                    hit("file.write.rest")
            if durable:
                self._fsync(fd)
        except OSError:
            if written:
                self._cut_back(fd, size, written)
            raise
        self._end = size + written
        self.dirty = not durable
        return os.fstat(fd).st_nlink > 0

    def _cut_back(self, fd: int, size: int, written: int) -> None:
        """Take a part of a batch out again, unless somebody who does not lock has appended behind it meanwhile."""
        if os.fstat(fd).st_size == size + written:
            os.ftruncate(fd, size)

    def _begin(self, fd: int) -> bytes:
        """Note that the empty file begins now, and return what it begins with."""
        self._suspect = False
        if self._rotation.times:
            now = time.time()
            note_begun(fd, now)
            self._due = self._rotation.due(now)
        return _text(self._header, self._path)

    # Putting aside

    def _is_due(self, size: int, payload: bytes) -> bool:
        rules = self._rotation
        if (
            self._suspect
            or (rules.max_bytes is not None and size + len(payload) > rules.max_bytes)
            or time.time() >= self._due
        ):
            return True
        return any(self._asks(function, payload) for function in rules.asked)

    def _asks(self, function: Callable[..., bool], payload: bytes) -> bool:
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123 - so that its name is text
                return bool(function(payload.decode("utf-8", "replace"), file))
        except Exception as error:  # noqa: BLE001 - whatever it raises, the records are written
            if self._is_there():  # else somebody has moved it a moment ago
                report(f"the rotation function of {self._path!r} failed: {error!r}", key=f"rotation {self._path}")
            return False

    def _rotate(self, size: int) -> bool:
        """Put the locked file aside; return False where that cannot be done, and the file is appended to as it is.

        Where it returns true, the path leads elsewhere now.
        """
        if time.monotonic() < self._not_before:
            return False
        fd = self._fd
        assert fd is not None  # noqa: S101 - _take opened it
        try:
            self._move_away(fd, size)
        except OSError as error:
            if error.errno in _GONE and not self._is_there():  # somebody has moved it a moment ago
                return True
            self._not_before = time.monotonic() + RETRY_SECONDS
            report(f"cannot rotate {self._path!r}, which is appended to: {error}", key=f"rotate {self._path}")
            return False
        self._not_before = 0.0
        self._suspect = False
        with self._guard:
            self.left_behind = self.left_behind or self.dirty
            self.dirty = False
            self._fd = None
        os.close(fd)
        if self._put_aside is not None:
            self._put_aside()
        return True

    def _move_away(self, fd: int, size: int) -> None:
        """Give the file a name that was free. An empty file holds that name first, so nothing is ever overwritten."""
        name = os.path.basename(self._path)  # noqa: PTH119 - hot where files are small
        with closing(self.open_directory()) as at:
            target, claimed = claim_aside(name, at)
            with closing(claimed):  # so that there is a descriptor left for the new file
                try:
                    hit("file.rotate.claimed")
                    footer = _text(self._footer, self._path)
                    if footer:
                        self._add_footer(fd, size, footer)
                    hit("file.rotate.footer")
                    os.rename(name, target, src_dir_fd=at, dst_dir_fd=at)
                except OSError:
                    with contextlib.suppress(OSError):
                        os.unlink(target, dir_fd=at)
                    raise
            hit("file.rotate.moved")

    def _add_footer(self, fd: int, size: int, footer: bytes) -> None:
        written = 0
        try:
            while written < len(footer):
                written += os.write(fd, footer[written:])
        except OSError:
            self._cut_back(fd, size, written)
            raise

    # Durability

    def sync(self) -> None:
        """Bring what was written to the disk itself, in every file it is in; from any thread.

        Raises:
            OSError: The disk has failed, and what was written since the last time may be lost. The next `write` begins
                a new file, since the same one would be reported whole from now on.
        """
        with self._syncing:
            with self._guard:
                fd = os.dup(self._fd) if self._fd is not None and self.dirty else None
                self.dirty = False
                behind, self.left_behind = self.left_behind, False
            if fd is not None:
                with closing(fd):
                    self._fsync(fd)
            if behind:
                self._sync_members()

    def _fsync(self, fd: int) -> None:
        try:
            hit("file.sync")
            os.fsync(fd)
        except OSError:
            self._suspect = True
            raise

    def _sync_members(self) -> None:
        with closing(self.open_directory()) as at:
            for member in self._names.members(at):
                if member.stamp and not member.compression:  # what is compressed was brought to disk before
                    with contextlib.suppress(FileNotFoundError), closing(_open_for_reading(member.name, at)) as fd:
                        os.fsync(fd)

    # Letting go

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def forget(self) -> None:
        """Close in a forked child what its parent has open, or the lock of a parent that is killed would live on."""
        self._guard, self._syncing = threading.Lock(), threading.Lock()
        self.dirty = self.left_behind = False
        with contextlib.suppress(OSError):
            self.close()

    def _leave(self) -> None:
        """Let go of a file that somebody else has put aside, moved or deleted."""
        with self._guard:
            fd, self._fd = self._fd, None
            dirty, self.dirty = self.dirty, False
        if fd is None:
            return
        try:
            if self._locks:
                fcntl.flock(fd, fcntl.LOCK_UN)
            if dirty and os.fstat(fd).st_nlink:
                if self._settle is not None:
                    self._settle(os.dup(fd))
                else:
                    os.fsync(fd)
        except OSError as error:
            report(f"cannot bring {self._path!r} to disk, which was moved: {error}", key=f"fsync {self._path}")
        finally:
            os.close(fd)

    def _lock(self) -> None:
        assert self._fd is not None  # noqa: S101 - asked for an open file only
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._locks = False  # a file system without locks

    def _unlock(self) -> None:
        if self._locks and self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)


_open_files: "weakref.WeakSet[SharedFile]" = weakref.WeakSet()


def _forget_inherited() -> None:
    for file in list(_open_files):
        file.forget()


forks.in_child(_forget_inherited)


def _open_for_reading(name: str, directory: int) -> int:
    return os.open(name, os.O_RDONLY | OPEN_FLAGS, dir_fd=directory)


def _ends_a_line(fd: int, size: int) -> bool:
    try:
        return os.pread(fd, 1, size - 1) == b"\n"
    except OSError:  # one that we cannot read
        return True


def _text(function: Callable[[Path], str | bytes] | None, path: str) -> bytes:
    """Return the lines a user's function gives; none if it fails, for the records matter more."""
    if function is None:
        return b""
    try:
        given = function(Path(path))
        text = given.encode() if isinstance(given, str) else bytes(given)
    except Exception as error:  # noqa: BLE001 - as said
        report(f"the header or footer of {path!r} failed: {error!r}", key=f"header {path}")
        return b""
    return text if text.endswith(b"\n") or not text else text + b"\n"


def _midnight_after(moment: float) -> float:
    day = datetime.fromtimestamp(moment).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1)).timestamp()
