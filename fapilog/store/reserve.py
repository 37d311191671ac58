"""Keep room for the next manifest, so that a full disk does not keep the store from making room on it.

A file is set aside while there is space; when there is none left, the new content is written over what it holds and it
is renamed. Only the holder of the store's lock may. Where a file system puts elsewhere what is written over, this does
not help.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE
from fapilog.files.segment import DEFAULT_MAX_BYTES, sync_directory

RESERVE: Final = "reserve"
_BLOCK_BYTES: Final = 64 * 1024
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether *error* says that the disk, or somebody's share of it, is full."""
    return error.errno in _FULL


def has_room(store: Path) -> bool:
    """Whether a process could still begin a segment in *store*."""
    return shutil.disk_usage(store).free >= DEFAULT_MAX_BYTES


def keep_reserve(store: Path, size_bytes: int = 1) -> None:
    """Set aside room for *size_bytes*, as far as there is any."""
    wanted = -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
    with contextlib.suppress(OSError):
        fd = os.open(store / RESERVE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | OPEN_FLAGS, PRIVATE_FILE)
        try:
            missing = wanted - os.fstat(fd).st_size
            while missing > 0:
                missing -= os.write(fd, bytes(missing))  # zeros: a hole would take no room
        finally:
            os.close(fd)


def replace_from_reserve(store: Path, name: str, content: bytes) -> bool:
    """Give the file *name* of *store* new *content* in one step, in the room that was set aside; False without it."""
    try:
        fd = os.open(store / RESERVE, os.O_RDWR | OPEN_FLAGS)
    except FileNotFoundError:
        return False
    with os.fdopen(fd, "r+b") as file:
        if os.fstat(fd).st_size < len(content):
            return False
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(fd)
    (store / RESERVE).replace(store / name)
    sync_directory(store)
    return True
