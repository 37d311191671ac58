"""Notice that this process is a child of the one it was, and begin anew in it.

`os.fork` calls hooks. A library that forks in C calls none; there the next log call notices. It looks at a page of
memory that the kernel gives to a child filled with zeros, which costs a tenth of asking for the process id:
https://man7.org/linux/man-pages/man2/madvise.2.html, ``MADV_WIPEONFORK``.
"""

import mmap
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

from fapilog.failpoints import hit

_MADV_WIPEONFORK: Final = 18


class _Mark(Protocol):
    """Something whose first item is true in the process that set it, and in no other."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class _ProcessId:
    """The same for a system that does not wipe memory on fork."""

    def __init__(self) -> None:
        self._pid = -1

    def __getitem__(self, index: int, /) -> int:
        return self._pid == os.getpid()

    def __setitem__(self, index: int, value: int, /) -> None:
        self._pid = os.getpid()


class OfOneProcess:
    """Something with threads, locks and open files, which is of no use in any other process."""

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a {name} belongs to one process and cannot be pickled; call configure_logging in the other")

    def __reduce_ex__(self, protocol: Any, /) -> NoReturn:
        self.__reduce__()


def in_child(begin_anew: Callable[[], None]) -> None:
    """Call *begin_anew* in every forked child, before its own code runs or with its first log call."""
    _hooks.append(begin_anew)


def begin_anew() -> None:
    """Become a process of its own."""
    same_process[0] = 1
    if hit("forks.begin_anew"):
        return
    for hook in _hooks:
        try:
            hook()
        except Exception:  # noqa: BLE001 - the child must run, and what follows must still be done
            sys.excepthook(*sys.exc_info())


def look() -> None:
    """Begin anew if this process is a child that has not done so."""
    if not same_process[0]:
        begin_anew()


def _wiped_on_fork() -> _Mark:
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):
        return _ProcessId()
    return memoryview(page)


_hooks: Final[list[Callable[[], None]]] = []

same_process: Final = _wiped_on_fork() if sys.platform == "linux" else _ProcessId()
"""Its first item is 0 in a child that has not begun anew yet. For the log call, which has no time for a function."""

same_process[0] = 1
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=begin_anew)
