"""Remember one number across crashes, in a file with two slots.

The slots are written in turn and each carries a checksum, so that a crash within a write leaves the other one. They
are never extended, so that a full disk does not keep the number from moving.
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final, Self

from fapilog.failpoints import hit
from fapilog.files.checked import checked, text_of
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE

_SLOT_BYTES: Final = 64


class PositionFile:
    """A number on disk, moved by one process at a time."""

    def __init__(self, fd: int, turn: int, number: int) -> None:
        """Use `create` or `open`."""
        self._fd = fd
        self._turn = turn
        self.number = number
        """What is on disk."""

    @classmethod
    def create(cls, path: Path, number: int) -> Self:
        """Make the file, durable but for its name.

        Raises:
            OSError: It is there already, or cannot be made.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, PRIVATE_FILE)
        position = cls(fd, 0, -1)
        try:
            _write(fd, b" " * _SLOT_BYTES * 2, 0)
            position.move(number)
        except OSError:
            position.close()
            raise
        return position

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what is there; the number is -1 if it is missing or neither slot can be read.

        Raises:
            OSError: It cannot be opened.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, PRIVATE_FILE)
        with contextlib.suppress(OSError):
            data = os.pread(fd, _SLOT_BYTES * 2, 0)
            return cls(fd, *max(_slot(data[:_SLOT_BYTES]), _slot(data[_SLOT_BYTES:])))
        return cls(fd, 0, -1)

    def move(self, number: int) -> None:
        """Write *number* to the other slot and make it durable.

        Raises:
            OSError: It may or may not be on disk.
        """
        if number == self.number:
            return
        turn = self._turn + 1
        hit("ack.write")
        _write(self._fd, checked(b"%020d %020d" % (turn, number)).ljust(_SLOT_BYTES), turn % 2 * _SLOT_BYTES)
        hit("ack.write")
        getattr(os, "fdatasync", os.fsync)(self._fd)
        hit("ack.fsync")
        self._turn, self.number = turn, number

    def close(self) -> None:
        """Close the descriptor. Safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def _write(fd: int, data: bytes, offset: int) -> None:
    if os.pwrite(fd, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _slot(data: bytes) -> tuple[int, int]:
    text = text_of(data.partition(b"\n")[0])
    if text is None:
        return 0, -1
    turn, _, number = text.partition(b" ")
    return (int(turn), int(number)) if turn.isdigit() and number.isdigit() else (0, -1)
