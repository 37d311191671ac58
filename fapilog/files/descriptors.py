"""Descriptors that are open for a moment, and that a child forked in that moment does not keep."""

import contextlib
import os
from collections.abc import Iterator

from fapilog import forks

_open: set[int] = set()


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    """Close *fd* at the end of the block, and in a forked child: with it a lock of ours would outlive us."""
    _open.add(fd)
    try:
        yield fd
    finally:
        _open.discard(fd)  # before it is closed: its number may be another's a moment later
        os.close(fd)


def _close_inherited() -> None:
    inherited = list(_open)
    _open.clear()
    for fd in inherited:
        with contextlib.suppress(OSError):
            os.close(fd)


forks.in_child(_close_inherited)
