"""Append records to a file as JSON lines."""

import os
import stat
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from pydantic.dataclasses import dataclass

from fapilog.errors import ConfigurationError
from fapilog.plugins import OPTIONS
from fapilog.types import Batch

try:
    import fcntl
except ImportError:  # Windows: files there are not shared
    fcntl = None  # type: ignore[assignment]

_FLAGS = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO without a reader must fail, not hang the start
)


@dataclass(config=OPTIONS, kw_only=True)
class FileSink:
    """Append each record as one line of JSON to a regular file, which any number of processes may share."""

    path: Path
    """The file. It is created with mode 0600, its directory with 0700; a symbolic link is not followed."""

    _fd: int | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        # The working directory may change later, and each fork and each rotation opens the path again.
        self.path = self.path.expanduser().absolute()

    def open(self) -> None:
        """Open the file, and end a line that an earlier process left torn.

        Raises:
            OSError: If it cannot be opened for appending.
            ConfigurationError: If it is not a regular file.
        """
        if self._fd is not None:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, _FLAGS, 0o600)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise ConfigurationError(f"{str(self.path)!r} is not a regular file; give the path of one")
        self._fd = fd
        if _is_alone(fd):
            size = os.fstat(fd).st_size
            if size and _last_byte(self.path, size) != b"\n":
                os.write(fd, b"\n")
        _share(fd)

    def write(self, batch: Batch) -> None:
        """Append all lines of *batch*. If the file was moved or deleted since, a new one is made.

        Raises:
            OSError: If the disk does not take them; then nothing of the batch is left in the file.
        """
        self._follow()
        self._append(batch.payload)

    def flush(self) -> None:
        """Make everything written durable."""
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _follow(self) -> None:
        """Open the path again if it no longer leads to the open file, as after a rotation by somebody else."""
        if self._fd is not None:
            ours = os.fstat(self._fd)
            try:
                there = self.path.stat(follow_symlinks=False)
                if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                    return
            except FileNotFoundError:
                pass
            self.close()
        self.open()

    def _append(self, payload: bytes) -> None:
        assert self._fd is not None  # noqa: S101 - _follow opened it
        written = 0
        try:
            while written < len(payload):  # more than once only when the disk is nearly full
                written += os.write(self._fd, payload[written:] if written else payload)
        except OSError:
            if written:
                self._cut_back(written)
            raise

    def _cut_back(self, written: int) -> None:
        """Take a part of a batch out again, unless another process has appended behind it meanwhile."""
        assert self._fd is not None  # noqa: S101 - as above
        end = os.lseek(self._fd, 0, os.SEEK_CUR)
        if os.fstat(self._fd).st_size == end:
            os.ftruncate(self._fd, end - written)


def _is_alone(fd: int) -> bool:
    """Tell whether no other sink has this file open, and keep it so until `_share` is called.

    The end of a file that another process is just writing to looks torn and is not.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _share(fd: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_SH)  # waits while another sink looks at the end of the file, no longer


def _last_byte(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1)
