"""Bring records to one sink: inbox, batch, write, try again, count.

Everything here runs on the worker's event loop, except a sink's plain functions, which run on a thread of their own.
"""

import asyncio
import inspect
import queue as queues
import random
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from fapilog.diagnostics import DropReason, report
from fapilog.encoding import text
from fapilog.errors import RetryableError, SinkClosedError
from fapilog.pipeline.ledger import SinkState, SinkStats
from fapilog.pipeline.queue import NEVER, Item, Queue
from fapilog.plugins import OPTIONS
from fapilog.settings import Level
from fapilog.types import LEVELS, TRACE, WARNING, Batch, Sink

LOCAL_LINGER_SECONDS: Final = 0.05
NETWORK_LINGER_SECONDS: Final = 1.0
_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 30.0


@dataclass(config=OPTIONS, kw_only=True, frozen=True)
class DeliveryOptions:
    """What the pipeline does for a sink; every sink has these options beside its own."""

    level: Level | None = None
    """The lowest level this sink gets; None means all that the logger keeps."""

    linger_seconds: NonNegativeFloat | None = None
    """How long a record may wait for others to share its batch; None means 0.05, 1 for a sink whose `write` is a
    coroutine, and 0 on a terminal."""

    batch_max_records: PositiveInt = 10_000
    """How many records one batch holds at most."""

    batch_max_bytes: PositiveInt = 1024 * 1024
    """How many bytes one batch holds at most; a single larger record is a batch of its own."""

    max_retry_attempts: NonNegativeInt = 5
    """How often a batch is tried again after the sink said that trying again may help."""


class Delivery:
    """One sink, its inbox, and the count of what became of its records."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        options: DeliveryOptions,
        queue: Queue,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Deliver to *sink* what it is given; counters are guarded by the lock of *queue*."""
        self.name = name
        self.sink = sink
        self.options = options
        self.level = LEVELS[options.level] if options.level else TRACE
        self._coroutine = inspect.iscoroutinefunction(sink.write)
        self.linger_seconds = _linger(sink, options, coroutine=self._coroutine)
        self.state: SinkState = "up"
        self._queue = queue
        self._chance = chance
        self._inbox: deque[Item] = deque()
        self._inbox_bytes = 0
        self._given = 0
        self._in_flight = 0
        self._delivered = 0
        self._routed_away = 0
        self._dropped: Counter[DropReason] = Counter()
        self._hurried = 0
        self._thread: _SinkThread | None = None

    def open(self) -> None:
        """Let the sink make sure that it can work.

        Raises:
            OSError, ConfigurationError: If it cannot.
        """
        opening = getattr(self.sink, "open", None)
        if opening is not None:
            opening()

    def reopen(self) -> None:
        """Do the same before the first record, when there is nobody left to raise to: a sink that cannot is closed."""
        try:
            self.open()
        except Exception as error:  # noqa: BLE001 - whatever a sink raises, the others go on
            report(f"sink {self.name} cannot start: {_said(error)}")
            self.state = "closed"

    # On the worker's loop

    def begin(self, worker_linger_seconds: float) -> asyncio.Task[None]:
        """Start delivering on the running loop; *worker_linger_seconds* were waited already."""
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._progress = asyncio.Event()
        self._wait_seconds = max(0.0, self.linger_seconds - worker_linger_seconds)
        if not self._coroutine:
            self._thread = _SinkThread(self.name, self._loop)
        return self._loop.create_task(self._run(), name=f"fapilog-{self.name}")

    @property
    def room(self) -> tuple[int, int]:
        """How many records and bytes the inbox has room for: an empty one for all that the queue can hold."""
        if self.state == "closed" or not self._inbox:
            return NEVER, NEVER
        return self._queue.max_records - len(self._inbox), self._queue.max_bytes - self._inbox_bytes

    def accept(self, items: list[Item]) -> None:
        """Take what the queue held, oldest first; leave out what the sink does not want or has no room for."""
        wanted = items if self.level <= TRACE else [item for item in items if item[0] >= self.level]
        kept, size = self._fit(wanted)
        with self._queue.lock:
            self._given += len(items)
            self._routed_away += len(items) - len(wanted)
            if self.state == "closed":
                self._dropped["sink_closed"] += len(wanted)
                return
            self._dropped["inbox_full"] += len(wanted) - len(kept)
            self._inbox.extend(kept)
            self._inbox_bytes += size
        self._arrived.set()

    async def settle(self) -> None:
        """Return when everything given so far was delivered or dropped."""
        target = self._given
        self.hurry(1)
        try:
            while self._finished() < target:
                self._progress.clear()
                await self._progress.wait()
        finally:
            self.hurry(-1)

    def hurry(self, change: int) -> None:
        """Skip the linger while somebody waits."""
        self._hurried += change
        self._arrived.set()

    async def sync(self) -> None:
        """Make durable what the sink accepted, if it can."""
        flushing = getattr(self.sink, "flush", None)
        if flushing is not None and self.state != "closed":
            try:
                await self._call(flushing)
            except Exception as error:  # noqa: BLE001 - whatever a sink raises, the others go on
                report(f"sink {self.name} cannot flush: {_said(error)}", key=f"flush {self.name}")

    async def end(self) -> None:
        """Drop what is left, counted, and close the sink."""
        with self._queue.lock:
            self._dropped["shutdown_timeout"] += len(self._inbox)
            self._inbox.clear()
            self._inbox_bytes = 0
            self.state = "closed"
        try:
            await self._call(self.sink.close)
        except Exception as error:  # noqa: BLE001 - as above
            report(f"sink {self.name} cannot close: {_said(error)}", key=f"close {self.name}")
        if self._thread is not None:
            self._thread.stop()

    def stats(self) -> SinkStats:
        """Return the counters; the queue's lock must be held."""
        queue = self._queue
        on_the_way = queue.taken - queue.evicted - self._given
        dropped = Counter(self._dropped)
        if queue.evicted:
            dropped["evicted"] += queue.evicted
        return SinkStats(
            state=self.state,
            accepted=queue.accepted,
            routed_away=self._routed_away,
            delivered=self._delivered,
            queued=len(queue.items) + on_the_way + len(self._inbox),
            in_flight=self._in_flight,
            dropped={reason: count for reason, count in dropped.items() if count},
        )

    def pending(self) -> int:
        """Return how many given records are neither delivered nor dropped."""
        return self._given - self._finished()

    def _finished(self) -> int:
        with self._queue.lock:
            return self._routed_away + self._delivered + sum(self._dropped.values())

    async def _run(self) -> None:
        while True:
            if not self._inbox:
                self._arrived.clear()
                await self._arrived.wait()
                if self._inbox:
                    await self._linger()
                continue
            batch = self._next_batch()
            await self._deliver(batch)
            self._progress.set()

    async def _linger(self) -> None:
        """Wait for company, unless somebody waits for the records or a batch is full."""
        if not self._wait_seconds:
            return
        until = self._loop.time() + self._wait_seconds
        while not self._hurried and len(self._inbox) < self.options.batch_max_records:
            left = until - self._loop.time()
            if left <= 0 or self._inbox_bytes >= self.options.batch_max_bytes:
                return
            self._arrived.clear()
            await wait_for_event(self._arrived, left)

    def _next_batch(self) -> Batch:
        with self._queue.lock:
            records: list[Item] = []
            size = 0
            while self._inbox and len(records) < self.options.batch_max_records:
                size += len(self._inbox[0][2])
                if records and size > self.options.batch_max_bytes:
                    break
                records.append(self._inbox.popleft())
            batch = Batch(records)
            self._inbox_bytes -= batch.size_bytes
            self._in_flight = len(batch)
            return batch

    async def _deliver(self, batch: Batch) -> None:
        """Write one batch and account for all of it, whatever happens."""
        reason: DropReason | None = "shutdown_timeout"  # what is true if this task is cancelled
        try:
            reason = await self._attempt(batch)
        finally:
            with self._queue.lock:
                self._in_flight = 0
                if reason is None:
                    self._delivered += len(batch)
                else:
                    self._dropped[reason] += len(batch)

    async def _attempt(self, batch: Batch) -> DropReason | None:
        for attempt in range(self.options.max_retry_attempts + 1):
            try:
                await self._call(self.sink.write, batch)
            except (RetryableError, OSError) as error:
                self.state = "retrying"
                report(f"sink {self.name} will be tried again: {_said(error)}", key=f"retry {self.name}")
                if attempt < self.options.max_retry_attempts:
                    await asyncio.sleep(self._delay(attempt))
            except SinkClosedError:
                with self._queue.lock:
                    self.state = "closed"
                    self._dropped["sink_closed"] += len(self._inbox)
                    self._inbox.clear()
                    self._inbox_bytes = 0
                return "sink_closed"
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and _cancelled():
                    raise
                report(f"sink {self.name} lost {len(batch)} records: {_said(error)}", key=f"sink_error {self.name}")
                return "sink_error"
            else:
                self.state = "up"
                return None
        report(f"sink {self.name} lost {len(batch)} records after {self.options.max_retry_attempts} retries")
        return "retries_exhausted"

    def _delay(self, attempt: int) -> float:
        """Return a random share of a doubling delay: with full jitter many processes do not come back at once."""
        return self._chance() * min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0**attempt)

    async def _call(self, function: Callable[..., Any], *args: Any) -> None:
        if inspect.iscoroutinefunction(function):
            await function(*args)
        elif self._thread is None:
            result = function(*args)
            if inspect.isawaitable(result):
                await result
        else:
            await self._thread.call(function, *args)

    def _fit(self, wanted: list[Item]) -> tuple[list[Item], int]:
        """Choose what there is room for, and its size; warnings and above first. ``drop_oldest`` makes room instead."""
        records = self._queue.max_records - len(self._inbox)
        room = self._queue.max_bytes - self._inbox_bytes
        size = sum([len(item[2]) for item in wanted])
        if (size <= room and len(wanted) <= records) or not self._inbox:
            return wanted, size
        report(f"sink {self.name} is too slow and records are dropped", key=f"inbox_full {self.name}")
        if self._queue.overflow == "drop_oldest":
            self._evict(size - room, len(wanted) - records)
            records = self._queue.max_records - len(self._inbox)
            room = self._queue.max_bytes - self._inbox_bytes
            wanted = wanted[-records:]
        kept: dict[int, Item] = {}
        for severe in (True, False):
            for position, item in enumerate(wanted):
                if (item[0] >= WARNING) is severe and len(item[2]) <= room and len(kept) < records:
                    room -= len(item[2])
                    kept[position] = item
        chosen = [kept[position] for position in sorted(kept)]
        return chosen, sum([len(item[2]) for item in chosen])

    def _evict(self, excess_bytes: int, excess: int) -> None:
        with self._queue.lock:
            while self._inbox and (excess_bytes > 0 or excess > 0):
                size = len(self._inbox.popleft()[2])
                self._inbox_bytes -= size
                excess_bytes -= size
                excess -= 1
                self._dropped["inbox_full"] += 1


class _SinkThread:
    """A thread that runs a sink's plain functions one at a time, and answers on the event loop."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: queues.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], asyncio.Future[None]] | None] = (
            queues.SimpleQueue()
        )
        self._running = True
        try:
            threading.Thread(target=self._run, name=f"fapilog-{name}", daemon=True).start()
        except RuntimeError:  # no more threads at all, or the interpreter is ending: the loop's thread does it
            self._running = False

    def call(self, function: Callable[..., Any], *args: Any) -> Awaitable[None]:
        """Run `function(*args)` on the thread; the returned future has its outcome."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._running:
            self._calls.put((function, args, future))
        else:
            self._answer(future, _outcome(function, args))
        return future

    def stop(self) -> None:
        """Let the thread end after its current call."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, args, future = call
            error = _outcome(function, args)
            try:
                self._loop.call_soon_threadsafe(self._answer, future, error)
            except RuntimeError:  # the loop was closed while the sink was stuck; nobody waits any more
                return

    @staticmethod
    def _answer(future: asyncio.Future[None], error: BaseException | None) -> None:
        if future.done():  # cancelled at the deadline
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> BaseException | None:
    try:
        function(*args)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a sink must not end its thread
        # A future refuses StopIteration, and SystemExit in one would end the loop.
        return error if isinstance(error, Exception) and not isinstance(error, StopIteration) else _ForeignError(error)
    return None


class _ForeignError(Exception):
    """Stands in for what a sink raised that is no ordinary exception."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(_said(error))


def _cancelled() -> bool:
    """Tell a cancellation that we asked for from a `CancelledError` that a sink let out."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _linger(sink: Sink, options: DeliveryOptions, *, coroutine: bool) -> float:
    if options.linger_seconds is not None:
        return options.linger_seconds
    default = getattr(sink, "default_linger_seconds", None)
    if isinstance(default, int | float):
        return float(default)
    return NETWORK_LINGER_SECONDS if coroutine else LOCAL_LINGER_SECONDS


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for *event*, at most that long."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


def _said(error: BaseException) -> str:
    return f"{'' if isinstance(error, _ForeignError) else type(error).__name__ + ': '}{text(error, 500)}"
