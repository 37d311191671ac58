"""Hold back the low records of a request until it is known whether somebody will want to read them.

They are encoded where they were logged, as all records are. If the request fails, logs an error or is slow, they go
into the queue in order, with the times at which they were logged, before its access record. If not, they are
forgotten, and counted.

Nothing here takes a lock: a deque is safe without one, and each counter is read and written back in one step.
"""

from collections import Counter, deque
from contextlib import suppress
from typing import Any, Protocol

from fapilog.context import RequestContext, current_request
from fapilog.pipeline.queue import Item
from fapilog.types import DEBUG


class _Recorder(Protocol):
    """What makes the records."""

    queue: Any
    """Where those go that are kept; which queue that is may change."""

    filtered: Counter[str]
    """Where the others are counted."""


class Tail:
    """What all requests hold back, within one bound."""

    recorder: "_Recorder"
    """Whose records these are."""

    def __init__(
        self,
        level: int = DEBUG,
        *,
        slow_ms: float | None = None,
        max_records: int = 200,
        max_bytes: int = 64 * 1024,
        total_max_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        """Hold back what is at least *level*, and below that of its logger.

        Args:
            level: The lowest level.
            slow_ms: From how many milliseconds on a request is slow; None: never.
            max_records: How many records one request holds; the oldest go.
            max_bytes: How many bytes one request holds.
            total_max_bytes: How many bytes all requests hold together.
        """
        self.level = level
        self.slow_ms = slow_ms
        self.max_records = max_records
        self.max_bytes = max_bytes
        self.total_max_bytes = total_max_bytes
        self.bytes = 0

    def begin(self) -> "Held":
        """Return what a request holds, nothing yet."""
        return Held(self)

    def of(self, request: RequestContext | None) -> "Held | None":
        """Return what a request holds back for this very pipeline; None if that is nobody's to end."""
        held = None if request is None else request.held
        return held if type(held) is Held and held.tail is self else None

    def fail(self) -> None:
        """Remember that the current request has logged an error."""
        held = self.of(current_request.get())
        if held is not None:
            held.failed = True


class Held:
    """What one request holds back: it stands in for the queue until the request is over."""

    pressed = False

    def __init__(self, tail: Tail) -> None:
        """Hold nothing."""
        self.tail = tail
        self.failed = False
        """Whether an error was logged."""
        self.kept: bool | None = None
        """What became of it when the request was over."""
        self.items: deque[Item] = deque()
        self.bytes = 0

    def put(self, level: int, timestamp_ns: int, front: bytes) -> bool:
        """Hold back a record. One that comes after the end goes the way of the others."""
        tail, size = self.tail, len(front)
        if self.kept is None:
            if not (self._has_room(size) or self._make_room(size)):
                tail.recorder.filtered["tail_full"] += 1
                return False
            self.bytes += size
            tail.bytes += size
            self.items.append((level, timestamp_ns, front))
            if self.kept is not None:  # since it was asked
                self._settle()
            return True
        if self.kept:
            return bool(tail.recorder.queue.put(level, timestamp_ns, front))
        tail.recorder.filtered["tail"] += 1
        return False

    def put_parts(self, level: int, timestamp_ns: int, parts: list[bytes]) -> bool:
        """Do what `put` does with what *parts* are joined."""
        return self.put(level, timestamp_ns, b"".join(parts))

    def end(self, *, keep: bool) -> None:
        """Queue what is held back, or forget it: the request is over."""
        if self.kept is None or keep:
            self.kept = keep or self.failed
        self._settle()

    def _has_room(self, size: int) -> bool:
        tail = self.tail
        return (
            len(self.items) < tail.max_records
            and self.bytes + size <= tail.max_bytes
            and tail.bytes + size <= tail.total_max_bytes
        )

    def _make_room(self, size: int) -> bool:
        """Forget the oldest, as many as need be; return False if that is not enough."""
        try:
            self._forget(self.items.popleft(), "tail_full")
            while not self._has_room(size):
                self._forget(self.items.popleft(), "tail_full")
        except IndexError:  # nothing is left
            return self._has_room(size)
        return True

    def _settle(self) -> None:
        with suppress(IndexError):
            while True:
                item = self.items.popleft()
                if self.kept:
                    self._give_back(item)
                    self.tail.recorder.queue.put(*item)
                else:
                    self._forget(item, "tail")

    def _forget(self, item: Item, reason: str) -> None:
        self._give_back(item)
        self.tail.recorder.filtered[reason] += 1

    def _give_back(self, item: Item) -> None:
        size = len(item[2])
        self.bytes -= size
        self.tail.bytes -= size

    def __del__(self) -> None:
        """Forget what nobody has ended: its server was cancelled, or has lost it."""
        if self.items:
            self.kept = False
            self._settle()
