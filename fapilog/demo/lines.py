"""What comes out of the shop's stdout: every line is counted, a readable share of them is shown."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from fapilog.formats import pretty

LINES_A_SECOND: Final = 3.0
"""How many routine lines are shown, and how many of problems."""

WHOLE_LINES: Final = 2


class Lines:
    """Takes the lines of a stdout, from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, write: Callable[[str], None] = print) -> None:
        """Show lines through *write*, as many as *clock* allows."""
        self.ids: Counter[str] = Counter()
        """The id of every record, and how often it came."""

        self.pids: set[int] = set()
        """The processes that wrote records."""

        self.others = 0
        """Lines that are no record."""

        self.leaks = 0
        """Lines that hold one of the secrets."""

        self.shown = 0
        self.secrets: tuple[bytes, ...] = ()
        self.quiet = threading.Event()
        """When set, lines are counted only."""

        self._clock = clock
        self._write = write
        self._allowances = {False: (0.0, clock()), True: (0.0, clock())}

    def __call__(self, line: bytes) -> None:
        """Count one line, and perhaps show it."""
        self.leaks += any(secret in line for secret in self.secrets)
        try:
            record: dict[str, Any] = json.loads(line)
            self.ids[record["id"]] += 1
            self.pids.add(record["pid"])
        except (ValueError, KeyError, TypeError):
            self.others += 1
            self._show(line.decode("utf-8", "replace").rstrip())
            return
        if self.quiet.is_set() or not self._may_show(record.get("level") in ("warning", "error", "critical")):
            return
        self.shown += 1
        self._show(line.decode().rstrip() if self.shown <= WHOLE_LINES else short(line, record))

    def _show(self, text: str) -> None:
        try:
            self._write(text)
        except BrokenPipeError:  # the reader, such as head, has what it wanted; the server must not wait for it
            self.quiet.set()

    def _may_show(self, problem: bool) -> bool:
        allowance, last = self._allowances[problem]
        now = self._clock()
        allowance = min(LINES_A_SECOND, allowance + (now - last) * LINES_A_SECOND)
        self._allowances[problem] = (allowance - (allowance >= 1), now)
        return allowance >= 1


def short(line: bytes, record: dict[str, Any]) -> str:
    """Return a record as one line for a person, after the process it came from; of an exception only what it says."""
    shown = pretty(line, colour=sys.stdout.isatty()).splitlines()
    return f"{record['pid']} {shown[0]}" + (f"\n    {shown[-1].strip()}" if len(shown) > 1 else "")
