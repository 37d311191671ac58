"""Open the file of a log, or say what is there instead; and note in it when it was begun."""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from fapilog.errors import ConfigurationError
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE

_BEGUN: Final = "user.fapilog.begun"
_FIRST_BYTES: Final = 64 * 1024
_FIRST_LINES: Final = 16
_FLAGS: Final = (
    os.O_RDWR
    | os.O_APPEND
    | os.O_CREAT
    | OPEN_FLAGS
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO without a reader must fail, not hang the start
)
_KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


def open_at(path: Path, directory: int) -> int:
    """Open the file at *path* in its *directory*, which is open, for appending; it is made if missing.

    Raises:
        OSError: It cannot be opened; the error names the whole path.
    """
    try:
        try:
            return os.open(path.name, _FLAGS, PRIVATE_FILE, dir_fd=directory)
        except PermissionError:  # it may be one that we can write to but not read
            return os.open(path.name, _FLAGS & ~os.O_RDWR | os.O_WRONLY, PRIVATE_FILE, dir_fd=directory)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def explain(path: Path) -> None:
    """Say of a path that is no regular file what it is, and of a directory above it that is none.

    Raises:
        ConfigurationError: It is something else.
    """
    for above in path.parents:
        if os.path.lexists(above):
            if not os.path.isdir(above):  # noqa: PTH112 - which never raises
                kind = _kind(above) or "a file"
                raise ConfigurationError(f"{str(above)!r} is {kind}; {path.name!r} needs a directory") from None
            break
    if (what := _kind(path)) is not None:
        raise ConfigurationError(f"{str(path)!r} is {what}; give the path of a regular file") from None


def _kind(path: Path) -> str | None:
    """Say what is at a path; None if that is a regular file, or cannot be seen."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return next((kind for is_one, kind in _KINDS if is_one(mode)), None)


def begun(fd: int) -> float:
    """Return when a file was begun: as was noted, or as its first record says, or else when it was changed last.

    Others may write to the file and to the note, so a time that has not been yet, or is none, is not believed.
    """
    now = time.time()
    return next((at for at in _said_begun(fd) if 0 <= at <= now), now)


def _said_begun(fd: int) -> Iterator[float]:
    with contextlib.suppress(OSError, AttributeError, ValueError):
        yield float(os.getxattr(fd, _BEGUN))
    with contextlib.suppress(OSError):
        for line in os.pread(fd, _FIRST_BYTES, 0).splitlines()[:_FIRST_LINES]:
            with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
                yield datetime.fromisoformat(orjson.loads(line)["timestamp"]).timestamp()
    found = os.fstat(fd)
    if found.st_size:
        yield found.st_mtime


def note_begun(fd: int, at: float) -> None:
    """Note beside the content of a file when it was begun, where the file system keeps such notes."""
    with contextlib.suppress(OSError, AttributeError):  # a file system or a system without attributes
        os.setxattr(fd, _BEGUN, repr(at).encode())
