"""The bounded queue between the log calls and the worker, and the rules for when it is full."""

import asyncio
import itertools
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias

from fapilog.diagnostics import DropReason, report
from fapilog.forks import OfOneProcess
from fapilog.pipeline.ledger import DropSummary
from fapilog.types import INFO, WARNING

Overflow: TypeAlias = Literal["auto", "drop", "drop_oldest", "block", "sample"]
"""What happens when the queue is full.

* ``auto``: a thread that runs no event loop waits, up to the block timeout; an event loop never waits and drops as
  ``drop`` does.
* ``drop``: records below info are refused from 80 % full, below warning from 90 %, all others when truly full.
* ``drop_oldest``: the oldest records make room.
* ``block``: like ``auto``, but an event loop drops nothing before the queue is truly full.
* ``sample``: from 50 % full a falling share of the records below warning is kept.
"""

Item: TypeAlias = tuple[int, int, bytes]

NEVER: Final = 1 << 62
_PRESSURE: Final[dict[Overflow, float]] = {"auto": 0.8, "drop": 0.8, "drop_oldest": 1.0, "block": 1.0, "sample": 0.5}
GIVE_WAY_BYTES: Final = 512 * 1024
_GIVE_WAY_AGAIN_BYTES: Final = 256 * 1024
_GIVE_WAY_SECONDS: Final = 0.0002
"""When so much has piled up, and for each piece more, a thread that may wait rests so long: the sinks' threads come to
their turn, and what is in flight stays in the processor's cache."""

_LATE_BYTES: Final = 2 * 1024 * 1024
_LATE_SECONDS: Final = 0.001
"""When that was not enough, it rests so long: memory stays small however fast a loop logs."""

_NUMBER_BYTES: Final = 24
"""Room for the number, the quote, the brace and the newline that end a line."""


class Sequence:
    """Who wrote a record and which one it was: 64 random bits of this process, and a count without gaps."""

    def __init__(self) -> None:
        self.instance = os.urandom(8).hex()
        self.numbers = itertools.count(1)


class Queue(OfOneProcess):
    """Encoded records on their way to the worker, bounded by number and by bytes.

    One re-entrant lock guards this and every counter of the pipeline, so that one snapshot of all of them is
    consistent. It is held for less than a microsecond by a log call. It is re-entrant because a signal handler or a
    finaliser may log while this very thread holds it; such code runs between two bytecodes, and no statement below
    calls anything between reading a counter and writing it back.
    """

    def __init__(
        self,
        sequence: Sequence,
        *,
        max_records: int = 100_000,
        max_bytes: int = 16 * 1024 * 1024,
        overflow: Overflow = "auto",
        block_timeout_seconds: float = 1.0,
        drop_reason: DropReason = "queue_full",
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Make an empty queue that numbers its records from *sequence*."""
        self.lock = threading.RLock()
        self.sequence = sequence
        self._numbers = sequence.numbers
        self.max_records = max_records
        self.max_bytes = max_bytes
        self.overflow = overflow
        self.block_timeout_seconds = block_timeout_seconds
        self.items: deque[Item] = deque()
        self.bytes = 0
        self.taken = 0
        """How many records have left the queue, evicted ones included."""
        self.closed = False
        self.heir: Queue | Direct | None = None
        """Where a record goes that comes after the closing: the log call began before the queue was replaced."""
        self.late = 0
        """How many records went straight to stderr."""
        self.pressed = False
        """Whether a record must pass the overflow policy: the queue is filling up, or closed."""
        self.dropped: Counter[DropReason] = Counter()
        self.evicted = 0
        self.watched: dict[bytes, list[set[str | None]]] = {}
        """Records that somebody waits for, by their line up to the number, and who has lost them (None: the queue)."""
        self.summary = DropSummary()
        self.behind = 0
        """How many bytes a sink that works had still to write when the worker looked last."""
        self.wake_at = NEVER
        """`wake` is called when this many bytes are waiting, and again when a thread is to give way."""
        self.wake: Callable[[], None] = _nobody
        self._drop_reason = drop_reason
        self._clock = clock
        self._chance = chance
        self._room = threading.Condition(self.lock)
        self._waiting = 0
        self._pressure_records = int(max_records * _PRESSURE[overflow])
        self._pressure_bytes = int(max_bytes * _PRESSURE[overflow])

    @property
    def accepted(self) -> int:
        """How many records were admitted so far."""
        return self.taken + len(self.items)

    @property
    def fill(self) -> float:
        """How full it is, 0 to 1; read without the lock."""
        return max(self.bytes / self.max_bytes, len(self.items) / self.max_records)

    def put(self, level: int, timestamp_ns: int, front: bytes) -> bool:
        """Number a record and queue it; return False if it was dropped, and count why.

        Args:
            level: Its severity.
            timestamp_ns: When it was logged.
            front: Its line up to the number: a JSON object whose last field, the ``id``, is still open.
        """
        with self.lock:
            if self.pressed and not self._admit(level, len(front) + _NUMBER_BYTES):
                heir = self.heir if self.closed else None
                return heir is not None and heir.put(level, timestamp_ns, front)
            line = b'%b%d"}\n' % (front, next(self._numbers))
            size = len(line)
            self.bytes = size = self.bytes + size
            self.items.append((level, timestamp_ns, line))
            if size >= self._pressure_bytes or len(self.items) >= self._pressure_records:
                self.pressed = True
            if size < self.wake_at:
                return True
            self.wake_at = max(GIVE_WAY_BYTES - self.behind, size + _GIVE_WAY_AGAIN_BYTES)
        self._wake(size)
        return True

    def put_parts(self, level: int, timestamp_ns: int, parts: list[bytes]) -> bool:
        """Do what `put` does with what *parts* are joined, in less time if there is no pressure."""
        with self.lock:
            pressed = self.pressed
            if not pressed:
                parts.append(b'%d"}\n' % next(self._numbers))
                line = b"".join(parts)
                size = len(line)
                self.bytes = size = self.bytes + size
                self.items.append((level, timestamp_ns, line))
                if size >= self._pressure_bytes or len(self.items) >= self._pressure_records:
                    self.pressed = True
                if size < self.wake_at:
                    return True
                self.wake_at = max(GIVE_WAY_BYTES - self.behind, size + _GIVE_WAY_AGAIN_BYTES)
        if pressed:
            return self.put(level, timestamp_ns, b"".join(parts))
        self._wake(size)
        return True

    def _wake(self, size: int) -> None:
        self.wake()
        waiting = size + self.behind
        if waiting >= GIVE_WAY_BYTES and self.overflow in ("auto", "block") and not _must_not_wait():
            time.sleep(_GIVE_WAY_SECONDS if waiting < _LATE_BYTES else _LATE_SECONDS)

    def refuses(self, level: int) -> bool:
        """Tell, before a record is encoded, whether the policy drops it, and count it. Asked only under pressure."""
        with self.lock:
            return not (self._admit(level, 0) or (self.closed and self.heir is not None))

    def take(self, max_records: int = NEVER, max_bytes: int = NEVER) -> tuple[list[Item], int]:
        """Remove and return what waits, oldest first, as far as these bounds allow, and its size in bytes."""
        fresh: deque[Item] = deque()
        with self.lock:
            if len(self.items) <= max_records and self.bytes <= max_bytes:
                # No call between reading and writing back: a finaliser that logs would run in it.
                taken, size = self.items, self.bytes
                self.items, self.bytes = fresh, 0
            else:
                taken, size = fresh, 0
                while len(taken) < max_records and size + len(self.items[0][2]) <= max_bytes:
                    size += len(self.items[0][2])
                    taken.append(self.items.popleft())
                self.bytes -= size
            self.pressed = self.closed or self._is_pressed()
            count = len(taken)
            self.taken += count
            if self._waiting:
                self._room.notify_all()
        return list(taken), size

    def watch(self, front: bytes) -> set[str | None]:
        """Begin to note who loses the record that `put` is going to be given as *front*."""
        lost: set[str | None] = set()
        with self.lock:
            self.watched.setdefault(front, []).append(lost)
        return lost

    def unwatch(self, front: bytes, lost: set[str | None]) -> None:
        """Note it no longer."""
        with self.lock:
            self.watched[front] = [each for each in self.watched[front] if each is not lost]
            if not self.watched[front]:
                del self.watched[front]

    def note_lost(self, items: Iterable[Item] | None, name: str | None) -> None:
        """Tell those who wait that *name* will not deliver these, None for any; the lock is held."""
        if self.watched:
            fronts = self.watched if items is None else {item[2][: item[2].rfind(b"-") + 1] for item in items}
            for front in fronts:
                for lost in self.watched.get(front, ()):
                    lost.add(name)

    def held_here(self) -> bool:
        """Whether the calling thread holds the lock: what a signal handler has to know before it waits for others."""
        return bool(self._room._is_owned())  # type: ignore[attr-defined]  # private: there is no other way to ask

    def close(self) -> None:
        """Refuse every further record as ``closed``."""
        with self.lock:
            self.closed = self.pressed = True
            self._room.notify_all()

    def _is_pressed(self) -> bool:
        return self.bytes >= self._pressure_bytes or len(self.items) >= self._pressure_records

    def _fill(self, size: int) -> float:
        return max((self.bytes + size) / self.max_bytes, (len(self.items) + 1) / self.max_records)

    def _admit(self, level: int, size: int) -> bool:
        """Apply the overflow policy; the lock is held."""
        if self.closed:
            return self._drop("closed")
        may_wait = self.overflow in ("auto", "block") and self.block_timeout_seconds > 0 and not _must_not_wait()
        fill = self._fill(size)
        if fill > 1:
            if self.overflow == "drop_oldest" and size <= self.max_bytes:
                return self._evict(size)
            return (may_wait and self._wait_for_room(size)) or self._drop(
                "block_timeout" if may_wait else self._drop_reason
            )
        if may_wait or self.overflow in ("drop_oldest", "block"):
            return True
        if self.overflow == "sample":
            asked = size > 0 or level >= WARNING  # chance is asked once for each record, before it has a size
            return asked or self._chance() < 2 * (1 - fill) or self._drop("sampled_under_pressure")
        allowed = 0 if fill < 0.8 else INFO if fill < 0.9 else WARNING
        return level >= allowed or self._drop(self._drop_reason)

    def _wait_for_room(self, size: int) -> bool:
        until = self._clock() + self.block_timeout_seconds
        self._waiting += 1
        try:
            while self._fill(size) > 1 and not self.closed:
                self.wake_at = NEVER
                self.wake()
                left = until - self._clock()
                if left <= 0 or not self._room.wait(left):
                    return self._fill(size) <= 1 and not self.closed
            return not self.closed
        finally:
            self._waiting -= 1

    def _evict(self, size: int) -> bool:
        while self.items and self._fill(size) > 1:
            item = self.items.popleft()
            self.bytes -= len(item[2])
            self.note_lost((item,), None)
            self.taken += 1
            self.evicted += 1
            self.summary.note("evicted", 1)
        return True

    def _drop(self, reason: DropReason) -> bool:
        if self.closed and self.heir is not None:
            return False
        self.dropped[reason] += 1
        self.summary.note(reason, 1)
        return False


class Detour:
    """A queue that does something else with a record; everything but `put` is the real queue's."""

    def __init__(self, queue: Queue) -> None:
        """Stand before *queue*."""
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def put(self, level: int, timestamp_ns: int, front: bytes) -> bool:
        """Number a record and queue it."""
        return self._queue.put(level, timestamp_ns, front)

    def put_parts(self, level: int, timestamp_ns: int, parts: list[bytes]) -> bool:
        """Do what `put` does with what *parts* are joined."""
        return self.put(level, timestamp_ns, b"".join(parts))


class Direct(Detour):
    """Stands in for a queue whose pipeline has ended, or cannot go on: each record goes straight to stderr.

    It takes no lock: at the very end of the interpreter a thread may be stopped for ever while it holds one.
    """

    pressed = False

    def __init__(self, queue: Queue) -> None:
        """Number records on, and count them, for *queue*."""
        super().__init__(queue)
        self._count = itertools.count(queue.late + 1)

    def put(self, level: int, timestamp_ns: int, front: bytes) -> bool:
        """Number a record and write it at once."""
        report.write_line(b'%b%d"}\n' % (front, next(self._queue.sequence.numbers)))
        self._queue.late = next(self._count)
        return True


def _nobody() -> None:
    """Wake nobody: no worker is attached yet."""


def _must_not_wait() -> bool:
    return asyncio._get_running_loop() is not None or threading.current_thread().name.startswith("fapilog-")
