"""Read a log back: its lines from the first to the last, its end, and what is written to it from now on.

What was put aside is part of it, compressed or not.
"""

import contextlib
import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fapilog.files.compression import damages, open_log
from fapilog.files.names import SUFFIXES, Member, Names

POLL_SECONDS: Final = 0.2
_CHUNK_BYTES: Final = 64 * 1024


def whole(path: Path) -> Iterator[bytes]:
    """Yield every line of the log at *path*, with what was put aside of it, oldest first.

    Raises:
        OSError: A file cannot be read.
    """
    for member in _rotated(path).values():
        yield from lines(_there(path.parent / member.name))
    with contextlib.suppress(FileNotFoundError):
        yield from lines(path)


def lines(path: Path) -> Iterator[bytes]:
    """Yield every line of one file, each ending in a line feed, decompressed as the end of its name says.

    Raises:
        OSError: It cannot be read.
    """
    try:
        with open_log(path) as file:
            for line in file:
                yield line if line.endswith(b"\n") else line + b"\n"
    except damages() as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise OSError(f"{str(path)!r} is damaged: {error}") from None


def last(path: Path, count: int) -> list[bytes]:
    """Return the last *count* lines of the log at *path*, from what was put aside too if the file has fewer.

    Raises:
        OSError: A file cannot be read.
    """
    found = _last_of(path, count)
    return _last_of_rotated(path, count - len(found)) + found


def _last_of_rotated(path: Path, count: int) -> list[bytes]:
    found: list[bytes] = []
    for member in reversed(_rotated(path).values()):
        if len(found) >= count:
            break
        with contextlib.suppress(FileNotFoundError):
            found = _last_of(_there(path.parent / member.name), count - len(found)) + found
    return found


def follow(
    path: Path, count: int, *, pause: Callable[[], object] = lambda: time.sleep(POLL_SECONDS)
) -> Iterator[bytes]:
    """Yield the last *count* lines of the log at *path*, then each new one, for ever, through every rotation.

    Raises:
        OSError: A file cannot be read.
    """
    known, file = _open_current(path)
    rest = b""
    try:
        yield from _last_of_open(path, file, count)
        while True:
            if file is not None:
                while piece := file.read(_CHUNK_BYTES):
                    *whole_lines, rest = (rest + piece).split(b"\n")
                    yield from (line + b"\n" for line in whole_lines)
                if os.fstat(file.fileno()).st_size < file.tell():  # truncated
                    file.seek(0)
                    rest = b""
                if _is_at(path, file):
                    pause()
                    continue
                if piece := rest + file.read():  # what was written between the last look and the rotation
                    yield from _ended(piece)
                rest = b""
            before, inode = known, 0 if file is None else os.fstat(file.fileno()).st_ino
            if file is not None:
                file.close()
            known, file = _open_current(path)
            new = [member for stamp, member in known.items() if stamp not in before]
            for member in _not_yet_read(new, inode):
                with contextlib.suppress(FileNotFoundError):
                    yield from lines(_there(path.parent / member.name))
            if file is None:
                pause()
    finally:
        if file is not None:
            file.close()


def _open_current(path: Path) -> tuple[dict[str, Member], io.FileIO | None]:
    """Open the file at *path*, and say what was put aside before it."""
    while True:
        known = _rotated(path)
        try:
            file = io.FileIO(path)
        except FileNotFoundError:
            return known, None
        if _rotated(path).keys() == known.keys():
            return known, file
        file.close()


def _last_of_open(path: Path, file: io.FileIO | None, count: int) -> list[bytes]:
    """Return the last whole lines of the log, and leave *file* behind them."""
    if file is None:
        return _last_of_rotated(path, count)
    size = os.fstat(file.fileno()).st_size
    found = _before(file.fileno(), size, count + 1)  # the last may be half a line
    if found and not found[-1].endswith(b"\n"):
        size -= len(found.pop())
    file.seek(size)
    found = found[-count:] if count > 0 else []
    return _last_of_rotated(path, count - len(found)) + found


def _not_yet_read(new: list[Member], inode: int) -> list[Member]:
    """Leave out of what was put aside meanwhile the file that was read while it was the current one."""
    if not inode or not new:
        return new
    if any(member.status.st_ino == inode and not member.compression for member in new):
        return [member for member in new if member.compression or member.status.st_ino != inode]
    return new[1:] if new[0].compression else new


def _is_at(path: Path, file: io.FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _rotated(path: Path) -> dict[str, Member]:
    """Return what was put aside by its stamp, oldest first."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return {}
    try:
        members = Names(path, literal=True).members(directory)
    finally:
        os.close(directory)
    rotated = [each for each in members if each.stamp and not each.unfinished and each.status.st_size]
    # The plain file comes last of its stamp, so that it is the one that counts.
    return {each.stamp: each for each in sorted(rotated, key=lambda each: (each.stamp, not each.compression))}


def _there(path: Path) -> Path:
    """Return *path*, or its compressed copy if somebody has compressed it a moment ago."""
    if path.exists():
        return path
    compressed = (path.with_name(path.name + suffix) for suffix in SUFFIXES.values())
    return next((each for each in compressed if each.exists()), path)


def _last_of(path: Path, count: int) -> list[bytes]:
    """Return the last lines of one file."""
    if count <= 0:
        return []
    if path.suffix in SUFFIXES.values():
        return list(deque(lines(path), count))
    with path.open("rb") as file:
        found = _before(file.fileno(), os.fstat(file.fileno()).st_size, count)
        return [line if line.endswith(b"\n") else line + b"\n" for line in found]


def _before(fd: int, end: int, count: int) -> list[bytes]:
    """Return the last lines before *end*, reading no more than they need."""
    text, at = b"", end
    while at > 0 and text.count(b"\n") <= count:
        start = max(0, at - max(_CHUNK_BYTES, len(text)))
        text = os.pread(fd, at - start, start) + text
        at = start
    *whole_lines, rest = text.split(b"\n")
    return [*(line + b"\n" for line in whole_lines), *([rest] if rest else [])][-count:]


def _ended(text: bytes) -> list[bytes]:
    """Split into lines; half a line at the end becomes a whole one."""
    return [line + b"\n" for line in text.removesuffix(b"\n").split(b"\n")]
