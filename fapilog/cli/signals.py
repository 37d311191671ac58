"""End soon when asked to, also while DuckDB is at work and Python cannot answer a signal."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Final, NoReturn

from fapilog.cli.terminal import INTERRUPTED, TERMINATED

PATIENCE_SECONDS: Final = 2.0
_terminated: list[bool] = []
_SHOW_CURSOR: Final = "\x1b[?25h\n"


def watch() -> None:
    """From now on, end this process on SIGINT and SIGTERM: in order if that is quick, else without."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGTERM, _end)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_force, args=(read,), name="fapilog-signals", daemon=True).start()


def stop_watching() -> None:
    """Leave signals to the command, which takes its time over them."""
    with contextlib.suppress(ValueError):  # not in the main thread, where nothing watches either
        signal.set_wakeup_fd(-1)


def code_of(error: RuntimeError) -> int | None:
    """Return the exit code if *error* is what DuckDB makes of a signal's exception, else None."""
    if str(error) != "Query interrupted":
        return None
    return TERMINATED if _terminated else INTERRUPTED


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    _terminated.append(True)
    raise SystemExit(TERMINATED)


def _force(read: int) -> None:
    while (number := os.read(read, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
        pass
    time.sleep(PATIENCE_SECONDS)
    if sys.stderr.isatty():  # a progress bar has hidden the cursor
        sys.stderr.write(_SHOW_CURSOR)
        sys.stderr.flush()
    os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)
