"""The worker: one thread with an event loop of its own, which takes records from the queue and fans them out.

It works before the application's loop exists, in synchronous code, and after that loop is gone. It starts with the
first record of a process, so a process that forks before it logs has no thread to lose.
"""

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Final

from fapilog.context import OURSELVES, current_request
from fapilog.diagnostics import report
from fapilog.errors import DurabilityError
from fapilog.failpoints import hit
from fapilog.pipeline.delivery import Delivery, wait_for_event
from fapilog.pipeline.ledger import DropSummary, FlushResult
from fapilog.pipeline.queue import NEVER, Item, Queue

URGENT_BYTES: Final = 256 * 1024
"""This much in the queue ends the linger: memory stays small and warm."""

_GRACE_SECONDS: Final = 0.5
_QUICK_RESTARTS: Final = 5
_TELL_SECONDS: Final = 1.0


class Worker:
    """Take records from one queue to its deliveries, in the background."""

    def __init__(
        self,
        queue: Queue,
        deliveries: Sequence[Delivery],
        *,
        block_timeout_seconds: float = 1.0,
        announce: Callable[[str | None, DropSummary], None] | None = None,
    ) -> None:
        """Serve *queue*; nothing runs before the first record.

        Args:
            queue: Where the records come from.
            deliveries: Where they go.
            block_timeout_seconds: How long the queue is held back for a sink whose inbox is full.
            announce: Called on the worker's thread when records were dropped and there is room again, with the name
                of the sink that lost them, None for the queue.
        """
        self.queue = queue
        self.deliveries = tuple(deliveries)
        self.restarts = 0
        self._announce = announce
        self._block_timeout_seconds = block_timeout_seconds
        self._linger_seconds = min((delivery.linger_seconds for delivery in self.deliveries), default=0.0)
        self._hurried = 0
        self._taken: list[Item] = []
        self._owed: list[Delivery] = []
        self._told_at = -math.inf
        self._telling = False
        self._barrier: Future[bool] | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()  # a signal handler may log while this thread starts the worker
        self._starting_thread: int | None = None
        self._ended = False
        self.on_start: Callable[[], None] = _nothing
        """Called once, when the worker has started."""

    def attach(self) -> None:
        """Begin to listen to the queue; if something waits in it already, start."""
        self.queue.wake = self._wake
        with self.queue.lock:
            waiting = bool(self.queue.items)
            self.queue.wake_at = NEVER if waiting else 1
        if waiting:
            self._wake()

    def make_durable(self, timeout_seconds: float) -> None:
        """Return when everything logged before this call is on disk at one sink at least.

        Callers that come while one fsync runs share the next one.

        Raises:
            DurabilityError: If that is not known in time, or no sink can do it.
        """
        if not self._usable():
            raise DurabilityError("no worker runs that could bring the record to disk")
        with self.queue.lock:
            barrier = self._barrier
            if barrier is None:
                barrier = self._barrier = Future()
                self._loop.call_soon_threadsafe(self._begin_barrier)
        try:
            durable = barrier.result(timeout_seconds)
        except FutureTimeoutError as error:
            raise DurabilityError(f"the record was not on disk within {timeout_seconds:g} s") from error
        if not durable:
            raise DurabilityError("no sink could bring the record to disk; name a file, the store, or a spooling sink")

    def flush(self, timeout_seconds: float, *, durable: bool = True) -> FlushResult:
        """Deliver everything accepted so far and, if *durable*, fsync it, waiting at most that long."""
        if not self._usable():
            return self._result()
        try:
            return self._submit(timeout_seconds, durable=durable).result(timeout_seconds + _GRACE_SECONDS)
        except FutureTimeoutError:
            return self._result()

    async def aflush(self, timeout_seconds: float) -> FlushResult:
        """Do what `flush` does without blocking the running event loop."""
        if not self._usable():
            return self._result()
        try:
            async with asyncio.timeout(timeout_seconds + _GRACE_SECONDS):  # a sink may hold up the worker's loop itself
                return await asyncio.wrap_future(self._submit(timeout_seconds, durable=True))
        except TimeoutError:
            return self._result()

    def close(self, timeout_seconds: float) -> FlushResult:
        """Deliver what can be delivered in that time, count the rest as lost, close every sink and end the thread."""
        if self._thread is None:
            self.queue.close()  # so that no record comes between the question and the answer
        if self._ended or not self._usable():
            self._ended = True
            self.queue.close()
            if self._thread is None:
                self._close_unstarted()
            return self._result()
        self._ended = True
        closing = asyncio.run_coroutine_threadsafe(self._close(timeout_seconds), self._loop)
        try:
            result = closing.result(timeout_seconds + 2 * _GRACE_SECONDS)
        except FutureTimeoutError:
            report("the worker did not end in time; a sink is stuck")
            return self._result()
        assert self._thread is not None  # noqa: S101 - _usable saw it
        self._thread.join(_GRACE_SECONDS)
        return result

    def busy_here(self) -> bool:
        """Whether the calling thread is, below a signal handler, inside the queue or starting the worker."""
        return self.queue.held_here() or (self._thread is None and self._starting_thread == threading.get_ident())

    def join(self, timeout_seconds: float) -> None:
        """Wait until the thread has ended, if somebody else is closing it."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)

    def _usable(self) -> bool:
        """Whether there is a loop to ask; starts it if records wait for one."""
        if self._thread is None and not self._ended:
            with self._starting:  # another thread may be starting it this very moment
                if self.queue.items:
                    self._start()
        return (
            self._thread is not None
            and self._thread.is_alive()
            and not threading.current_thread().name.startswith("fapilog-")
        )

    def _submit(self, timeout_seconds: float, *, durable: bool) -> Future[FlushResult]:
        return asyncio.run_coroutine_threadsafe(self._flush(timeout_seconds, durable=durable), self._loop)

    def _wake(self) -> None:
        """Let the worker look at the queue; called from any thread, and from signal handlers."""
        if self._thread is None:
            self._start()
        elif not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._event.set)
            except RuntimeError:  # it was closed between the question and the call
                return

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None or self._ended:
                return
            self._starting_thread = threading.get_ident()
            for delivery in self.deliveries:
                delivery.reopen()
            self._loop = _own_context().run(asyncio.SelectorEventLoop)  # it logs that it was made
            self._event = asyncio.Event()
            thread = threading.Thread(target=self._run, name="fapilog-worker", daemon=True)
            # The first task of the loop, so that whatever is submitted later finds the deliveries begun.
            self._pumping = self._loop.create_task(self._main(), context=_own_context())
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is ending
                report(f"the worker cannot start ({error}); records are delivered where they are logged")
                self._pumping.cancel()
                self._loop.run_until_complete(self._once())
                self._loop.close()
                self.queue.wake_at = 1
            else:
                self._thread = thread
                self.on_start()
            finally:
                self._starting_thread = None

    def _run(self) -> None:
        """Run the loop until it is stopped; an error of ours starts it anew rather than end all logging."""
        asyncio.set_event_loop(self._loop)
        while not self._pumping.done():
            try:
                self._loop.run_until_complete(self._pumping)
            except asyncio.CancelledError:
                break
            except BaseException as error:  # noqa: BLE001 - nobody above could do anything about it
                report(f"the worker failed and goes on: {type(error).__name__}: {error}", key="worker failed")
                self.restarts += 1
                self._pumping = self._loop.create_task(self._resume(), context=_own_context())
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _main(self) -> None:
        self._begin()
        await self._pump()

    def _begin(self) -> None:
        self._one_barrier = asyncio.Lock()
        self._tasks = [delivery.begin(self._linger_seconds) for delivery in self.deliveries]

    async def _pump(self) -> None:
        """Wait for a record, wait a little for more, take them all, hand them out; for ever."""
        while True:
            self.queue.wake_at = 1
            if not self.queue.items:
                await self._event.wait()
            self._event.clear()
            if self._linger_seconds and not self._hurried:
                self.queue.wake_at = URGENT_BYTES
                if self.queue.bytes < URGENT_BYTES:
                    await wait_for_event(self._event, self._linger_seconds)
                    self._event.clear()
            self.queue.wake_at = NEVER
            await self._hand_out()

    async def _hand_out(self) -> None:
        """Hand out as much of what waits as every inbox has room for.

        Where the policy lets a log call wait, the rest stays in the queue, so that the log calls do wait. But not for a
        stuck sink: when there was no room at all for as long as a log call waits, each inbox keeps what it can.
        """
        until = time.monotonic() + self._block_timeout_seconds
        while self.queue.items and self.queue.overflow in ("auto", "block"):
            rooms = [delivery.room for delivery in self.deliveries] or [(NEVER, NEVER)]
            if self._fan_out(min(room[0] for room in rooms), min(room[1] for room in rooms)):
                return
            if time.monotonic() >= until:
                break
            await asyncio.sleep(0.005)
        self._fan_out()

    async def _resume(self) -> None:
        """Go on after a fault, at once the first times and then at a walking pace."""
        await asyncio.sleep(0 if self.restarts < _QUICK_RESTARTS else 1.0)
        await self._pump()

    def _fan_out(self, max_records: int = NEVER, max_bytes: int = NEVER) -> bool:
        """Give every delivery what the queue holds, within bounds; return whether that was anything.

        Cut short by a fault of ours, it owes the rest and pays that first.
        """
        for delivery in self._owed[:]:
            delivery.accept(self._taken)
            self._owed.remove(delivery)
        hit("worker.take")
        self._taken, _ = self.queue.take(max_records, max_bytes)
        if self._taken:
            self._owed = list(self.deliveries)
            for delivery in self.deliveries:
                delivery.accept(self._taken)
                self._owed.remove(delivery)
        self._tell_drops()
        return bool(self._taken)

    def _tell_drops(self, *, now: bool = False) -> None:
        """Have what was dropped told in a record once there is room again; once a second, unless it is *now*."""
        if self._announce is None:
            return
        losses: list[tuple[str | None, DropSummary]] = []
        if self.queue.summary.counts and not self.queue.pressed:
            losses.append((None, self.queue.summary))
        losses += [(each.name, each.summary) for each in self.deliveries if each.summary.counts and each.has_room]
        if not losses:
            return
        left = self._told_at + _TELL_SECONDS - time.monotonic()
        if left > 0 and not now:
            if not self._telling:
                self._telling = True
                self._loop.call_later(left, self._tell_later)
            return
        self._told_at = time.monotonic()
        for name, summary in losses:
            self._announce(name, summary)

    def _tell_later(self) -> None:
        self._telling = False
        self._tell_drops()

    def _begin_barrier(self) -> None:
        with self.queue.lock:
            barrier, self._barrier = self._barrier, None
        if barrier is not None:
            self._syncing = self._loop.create_task(self._reach(barrier))

    async def _reach(self, barrier: "Future[bool]") -> None:
        """Fsync everything accepted up to now; one barrier after the other, so that late comers share the next."""
        async with self._one_barrier:
            self._fan_out()
            tasks = [asyncio.ensure_future(delivery.make_durable()) for delivery in self.deliveries]
            for done in asyncio.as_completed(tasks):
                if await done:
                    break
            else:
                barrier.set_result(False)
                return
        barrier.set_result(True)

    async def _flush(self, timeout_seconds: float, *, durable: bool = True) -> FlushResult:
        deadline = time.monotonic() + timeout_seconds
        last = self.queue.accepted
        self._hurried += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    while self.queue.taken < last and self.queue.items:
                        await self._hand_out()
            targets = [asyncio.ensure_future(_settle(delivery, durable=durable)) for delivery in self.deliveries]
            if targets:
                _, late = await asyncio.wait(targets, timeout=max(0.0, deadline - time.monotonic()))
                for task in late:
                    task.cancel()
        finally:
            self._hurried -= 1
        return self._result(since=last)

    def _result(self, since: int | None = None) -> FlushResult:
        """Say what is in memory alone; of the first *since* accepted records, if that is given."""
        with self.queue.lock:
            waiting = len(self.queue.items) - (0 if since is None else self.queue.accepted - since)
            return FlushResult(
                pending={delivery.name: max(0, waiting + delivery.waiting) for delivery in self.deliveries},
                spooled={delivery.name: delivery.spooled for delivery in self.deliveries if delivery.spooled},
            )

    async def _close(self, timeout_seconds: float) -> FlushResult:
        deadline = time.monotonic() + timeout_seconds
        await self._flush(timeout_seconds)
        self._tell_drops(now=True)
        self.queue.close()  # what was logged while the flush ran is taken now; later records go to stderr
        await self._flush(max(0.05, deadline - time.monotonic()))
        self._fan_out()  # what no inbox had room for until now
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        result = self._result()
        ends = [asyncio.ensure_future(delivery.end()) for delivery in self.deliveries]
        if ends:
            await asyncio.wait(ends, timeout=_GRACE_SECONDS)
        self._loop.call_soon(self._pumping.cancel)
        return result

    async def _once(self) -> None:
        """Deliver what waits, on the calling thread: there is no other."""
        self._begin()
        self._fan_out()
        await asyncio.gather(*(_settle(delivery, durable=True) for delivery in self.deliveries))
        for task in self._tasks:
            task.cancel()

    def _close_unstarted(self) -> None:
        """Close the sinks of a worker that never had anything to do."""
        for delivery in self.deliveries:
            closing = getattr(delivery.sink, "close", None)
            try:
                result = closing() if closing is not None else None
                if asyncio.iscoroutine(result):
                    result.close()
            except Exception as error:  # noqa: BLE001 - one sink's trouble is not another's
                report(f"sink {delivery.name} cannot close: {type(error).__name__}: {error}")


def _own_context() -> contextvars.Context:
    """Return a context in which nothing is recorded: what a sink logs must not come back to it for ever."""
    context = contextvars.Context()
    context.run(current_request.set, OURSELVES)
    return context


async def _settle(delivery: Delivery, *, durable: bool) -> None:
    await delivery.settle()
    if durable:
        await delivery.sync()


def _nothing() -> None:
    """Do nothing: nobody wants to know."""
