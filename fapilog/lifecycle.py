"""When a process ends and when it forks: what to call then, and how to be called at all.

* The normal end, `sys.exit`, an unhandled exception: `threading._register_atexit`, because in `atexit` itself CPython
  refuses new threads and name resolution; `atexit` after that, for what other exit functions still log.
* SIGTERM in a plain script reaches neither; a handler drains and raises the signal again.
* SIGTERM under a server reaches none of these: the end of the application's lifespan is the hook there.
* `os.fork`: the child begins anew.
"""

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from fapilog.diagnostics import report


def at_exit(drain: Callable[[], None], close: Callable[[], None]) -> None:
    """Call *drain* while threads can still do everything, and *close* when the interpreter is about to end."""
    register = getattr(threading, "_register_atexit", None)  # private: where it is gone, `close` does it all
    if register is not None:
        try:
            register(drain)
        except RuntimeError as error:  # the interpreter is ending already
            report(f"cannot drain at exit: {error}")
    atexit.register(close)


def after_fork(begin_anew: Callable[[], None]) -> None:
    """Call *begin_anew* in every forked child, before its own code runs."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=begin_anew)


def on_terminate(drain: Callable[[], None], busy: Callable[[], bool]) -> bool:
    """Have SIGTERM call *drain* before it ends the process, as it still does; return whether that could be arranged.

    A handler runs between any two steps of the main thread. When *busy* says that the main thread holds what *drain*
    waits for, it is let go on for a moment first.

    Only where SIGTERM would end the process at once: a handler of somebody else's, or a server's, is left alone.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return False

    def handle(signum: int, _frame: FrameType | None) -> Any:
        if busy() and _again_soon(signum):
            return
        signal.signal(signum, signal.SIG_DFL)  # a second signal ends the process without waiting
        try:
            drain()
        finally:
            os.kill(os.getpid(), signum)

    signal.signal(signal.SIGTERM, handle)
    return True


def _again_soon(signum: int) -> bool:
    """Send this process the signal once more in a millisecond; return False if there can be no thread to do it."""
    again = threading.Timer(0.001, os.kill, (os.getpid(), signum))
    again.daemon = True
    try:
        again.start()
    except RuntimeError:
        return False
    return True
