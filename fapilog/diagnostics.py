"""What fapilog says about itself: one line on stderr, never through its own pipeline.

The same complaint comes at most once in 30 seconds, with the number of times it was held back.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

DropReason: TypeAlias = Literal[
    "early_full",
    "queue_full",
    "block_timeout",
    "evicted",
    "sampled_under_pressure",
    "inbox_full",
    "too_large",
    "rejected",
    "sink_error",
    "sink_closed",
    "retries_exhausted",
    "shutdown_timeout",
    "shutdown_aborted",
    "worker_failed",
    "spool_full",
    "spool_enospc",
    "spool_corrupt",
    "spool_vanished",
    "too_old",
    "encoding_failed",
    "closed",
]
"""Why a record was lost. The list is closed: each reason is a label of a metric."""

FilterReason: TypeAlias = Literal[
    "level",
    "filter",
    "sampled",
    "pressure",
    "throttled",
    "duplicate",
    "tail",
    "tail_full",
    "processor",
    "own_thread",
    "recursion",
]
"""Why a record was left out on purpose, before it was given a number. Closed too, and a label of a metric."""

QUIET_SECONDS: Final = 30.0
_MAX_KEYS: Final = 1_000


class Reporter:
    """Write complaints to stderr, each kind at most once in `QUIET_SECONDS`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, fd: int = 2) -> None:
        self._clock = clock
        self._fd = fd
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, int]] = {}
        self.scrub: Callable[[str], str] = str
        """Takes secrets out of what is written; set by what knows how."""

    def __call__(self, message: str, *, key: str | None = None) -> None:
        """Say *message* unless something with the same *key* (default: the message) was said a moment ago."""
        kind = key or message
        now = self._clock()
        if not self._lock.acquire(timeout=0.1):  # called from a signal handler that interrupted this very function
            return
        try:
            said, held_back = self._last.get(kind, (None, 0))
            if said is not None and now - said < QUIET_SECONDS:
                self._last[kind] = (said, held_back + 1)
                return
            if len(self._last) >= _MAX_KEYS:
                self._last.clear()
            self._last[kind] = (now, 0)
        finally:
            self._lock.release()
        self.write(message + (f" ({held_back} more like it)" if held_back else ""))

    def write(self, message: str) -> None:
        """Write one line at once, without counting."""
        try:
            message = self.scrub(message)
        except Exception:  # noqa: BLE001 - what cannot be looked at must not be said
            message = "<redaction failed>"
        line = "fapilog: " + message.replace("\n", " ").replace("\r", " ") + "\n"
        self.write_line(line.encode("utf-8", "backslashreplace"))

    def write_line(self, line: bytes) -> None:
        """Write a finished line, such as a record that has nowhere else to go."""
        if self._fd == 2 and sys.__stderr__ is None:  # its number was given to a file of somebody's
            return
        try:
            os.write(self._fd, line)
        except OSError:  # stderr is closed or full: there is nobody left to tell
            return

    def reset(self) -> None:
        """Forget what was said, in a forked child and between tests."""
        self._lock = threading.Lock()
        self._last.clear()


report: Final = Reporter()


def surface_bugs() -> bool:
    """Whether fapilog's own bugs should reach the caller: only under a running pytest."""
    return "PYTEST_CURRENT_TEST" in os.environ and "pytest" in sys.modules
