"""Ask a user's filter which records a sink is to have, on a thread of its own.

Whatever it does, it holds up its own sink alone: what it has not judged waits in a line that is bounded as an inbox is.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

import orjson

from fapilog.diagnostics import report
from fapilog.pipeline.inbox import Inbox
from fapilog.pipeline.queue import NEVER, Item
from fapilog.pipeline.sender import STALLED_AFTER_SECONDS
from fapilog.pipeline.threads import SinkThread, said

_PORTION: Final = 1_000


class Sift:
    """What waits for the filter of one sink."""

    def __init__(
        self, name: str, keeps: Callable[[dict[str, Any]], object], inbox: Inbox, lock: threading.RLock
    ) -> None:
        """Keep what *keeps* says of a parsed record; what waits stands in *inbox*, which is changed under *lock*."""
        self.inbox = inbox
        self._name = name
        self._keeps = keeps
        self._lock = lock
        self._judging: list[Item] = []
        self._began = 0.0

    def __len__(self) -> int:
        return len(self.inbox) + len(self._judging)

    @property
    def hangs(self) -> bool:
        """Whether the filter has had the same records for a while."""
        return bool(self._judging) and self._loop.time() - self._began > STALLED_AFTER_SECONDS

    def begin(self) -> None:
        """Start on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = SinkThread(f"{self._name}-filter")
        self.arrived = asyncio.Event()

    async def judge(self) -> list[Item]:
        """Wait for records, ask the filter about some, and return those that pass; `judged` gives all of them."""
        while not self.inbox:
            self.arrived.clear()
            await self.arrived.wait()
        with self._lock:
            self._judging = self.inbox.take(_PORTION, NEVER)
        self._began = self._loop.time()
        call = self._thread.call(self._passing, self._judging)
        done, _ = await asyncio.wait({call}, timeout=STALLED_AFTER_SECONDS)
        if not done:
            report(f"the filter of sink {self._name} is stuck; its records wait", key=f"filter {self._name}")
        passing: list[Item] = await call
        return passing

    def judged(self) -> list[Item]:
        """Return what the filter was asked about last, and hold it no longer; the lock is held."""
        judged, self._judging = self._judging, []
        return judged

    def _passing(self, items: list[Item]) -> list[Item]:
        """Return those of *items* that the filter keeps."""
        return [item for item in items if self._passes(item)]

    def take_back(self) -> None:
        """Put what a cancelled `judge` was at back in the line; the lock is held."""
        self.inbox.give_back(self.judged())

    def stop(self) -> None:
        """Let the thread end after its current call."""
        self._thread.stop()

    def _passes(self, item: Item) -> bool:
        try:
            return bool(self._keeps(orjson.loads(item[2])))
        except BaseException as error:  # noqa: BLE001 - a filter that fails must not cost the record, nor its thread
            report(f"the filter of sink {self._name} failed and lets the record pass: {said(error)}")
            return True
