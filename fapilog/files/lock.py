"""Claim a file for one process at a time, with `flock` on a sidecar that nobody else opens for reading."""

import contextlib
import errno
import os
import weakref
from pathlib import Path
from typing import Self

from fapilog import forks

try:
    import fcntl
except ImportError:  # not a POSIX system: the module can be imported, a lock cannot be taken
    fcntl = None  # type: ignore[assignment]

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW if os.name == "posix" else 0


class FileLock:
    """A lock this process holds until `release`, or until it ends in any way at all.

    A forked child inherits the descriptor but not the claim: the hook below closes its copy, so that the slot of a
    dead parent is free although its children live on.
    """

    def __init__(self, path: Path, fd: int) -> None:
        """Use `take`, which makes one only when the lock was got."""
        self.path = path
        self.fd = fd
        self._pid = os.getpid()
        _held.add(self)

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Lock the file at *path*, made if missing, or return None if another process has it.

        Raises:
            OSError: The file cannot be opened, or the system cannot lock it.
        """
        if fcntl is None:
            raise OSError(errno.ENOTSUP, "this system has no flock, which the store needs", str(path))
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, PRIVATE_FILE)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            except OSError as error:
                os.close(fd)
                raise OSError(error.errno, error.strerror, str(path)) from error
            lock = cls(path, fd)
            if lock.is_intact():
                return lock
            lock.release()  # somebody deleted the file while we waited for it: lock the one that is there now

    def is_intact(self) -> bool:
        """Whether the locked file is still the one at its path, so that others respect it."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.fd))
        except OSError:
            return False

    def release(self) -> None:
        """Let the next process have it. Safe to call twice, and in a child that only inherited it."""
        if self.fd >= 0 and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.forget()

    def forget(self) -> None:
        """Close the descriptor and leave the lock as it is: what a child does with its parent's."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_inherited() -> None:
    for lock in list(_held):
        lock.forget()


forks.in_child(_forget_inherited)
