"""When a process ends: what to call then, and how to be called at all.

* The normal end, `sys.exit`, an unhandled exception: `threading._register_atexit`, because in `atexit` itself CPython
  refuses new threads and name resolution; `atexit` after that, for what other exit functions still log.
* The end of a child of `multiprocessing`, which calls neither in some versions: a finalizer of that package.
* SIGTERM and SIGHUP in a plain script reach none of these; a handler drains and raises the signal again.
* SIGTERM under a server: the end of the application's lifespan is the hook there.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from fapilog import forks
from fapilog.diagnostics import report

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def at_exit(drain: Callable[[], None], close: Callable[[], None]) -> None:
    """Call *drain* while threads can still do everything, and *close* when the interpreter is about to end."""
    register = getattr(threading, "_register_atexit", None)  # private: where it is gone, `close` does it all
    if register is not None:
        try:
            register(drain)
        except RuntimeError as error:  # the interpreter is ending already
            report(f"cannot drain at exit: {error}")
    atexit.register(close)


class ChildFinalizer:
    """Call something at the end of a process that `multiprocessing` made: it leaves by `os._exit`."""

    def __init__(self, drain: Callable[[], None]) -> None:
        """Call *drain*."""
        self._drain = drain
        self._pid: int | None = None

    def register(self) -> None:
        """Have it called, if this is such a process or becomes one. Costs nothing where the package is not loaded."""
        multiprocessing, util = sys.modules.get("multiprocessing"), sys.modules.get("multiprocessing.util")
        if multiprocessing is None or util is None or self._pid == os.getpid():
            return
        self._pid = os.getpid()
        if multiprocessing.parent_process() is not None:
            util.Finalize(None, self._drain, exitpriority=10)
        else:  # a child that imports the program has not been told yet what it is, and then forgets its finalizers
            util.register_after_fork(self, ChildFinalizer._in_child)

    def _in_child(self) -> None:
        self._pid = None
        self.register()


def on_terminate(drain: Callable[[], None], busy: Callable[[], bool]) -> bool:
    """Have SIGTERM and SIGHUP call *drain* before they end the process, as they still do; return whether one will.

    A handler runs between any two steps of the main thread. When *busy* says that the main thread holds what *drain*
    waits for, it is let go on for a moment first. A second signal calls *drain* again, inside the first call, and a
    third ends the process without waiting.

    Only where a signal would end the process at once: a handler of somebody else's, or a server's, is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    ours = [signum for signum in SIGNALS if signal.getsignal(signum) == signal.SIG_DFL]
    calls = 0

    def handle(signum: int, _frame: FrameType | None) -> Any:
        nonlocal calls
        forks.look()
        if busy() and _again_soon(signum):
            return
        calls += 1
        if calls > 1:
            for each in ours:
                signal.signal(each, signal.SIG_DFL)
        try:
            drain()
        finally:
            if signal.getsignal(signum) is handle:
                signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    for signum in ours:
        signal.signal(signum, handle)
    return bool(ours)


def _again_soon(signum: int) -> bool:
    """Send this process the signal once more in a millisecond; return False if there can be no thread to do it."""
    again = threading.Timer(0.001, os.kill, (os.getpid(), signum))
    again.daemon = True
    try:
        again.start()
    except RuntimeError:
        return False
    return True
