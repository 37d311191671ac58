"""The worker: one thread with an event loop of its own, which takes records from the queue and fans them out.

It works before the application's loop exists, in synchronous code, and after that loop is gone. It starts with the
first record of a process, so a process that forks before it logs has no thread to lose.
"""

import asyncio
import contextlib
import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent import futures
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final, NamedTuple, TypeVar

from fapilog.context import OURSELVES, current_request
from fapilog.diagnostics import DropReason, report
from fapilog.errors import DurabilityError
from fapilog.failpoints import hit, survivors
from fapilog.forks import OfOneProcess
from fapilog.pipeline.delivery import Delivery, wait_for_event
from fapilog.pipeline.inbox import size_of
from fapilog.pipeline.ledger import DropSummary, FlushResult, SinkStats
from fapilog.pipeline.queue import GIVE_WAY_BYTES, NEVER, Direct, Item, Queue
from fapilog.pipeline.threads import make_loop, said

ALERTS_THREAD: Final = "fapilog-alerts"
"""The name of the thread on which a user is told of trouble, and may end or replace the logger."""

URGENT_BYTES: Final = 256 * 1024
"""This much in the queue ends the linger: memory stays small and warm."""

HAND_OVER_SECONDS: Final = 0.5
"""How long before the end of the time for closing the sinks are left, so that what they did not take can be spooled."""

ABORT_SECONDS: Final = 0.2
"""How long closing goes on when somebody asks a second time for the end."""

_GRACE_SECONDS: Final = 0.5
_TELL_SECONDS: Final = 1.0
_HERE_SECONDS: Final = 1.0
_HERE_IN_A_LOOP_SECONDS: Final = 0.1
"""How long a sink without a spool may take on the thread that logs, where no other can be started."""

_T = TypeVar("_T")
_PATIENCE_SECONDS: Final = 0.25
"""How soon is noticed that those who waited for a record to be on disk have given up."""

_RESTARTS: Final = 5
_RESTARTS_WITHIN_SECONDS: Final = 60.0


class Worker(OfOneProcess):
    """Take records from one queue to its deliveries, in the background."""

    def __init__(
        self,
        queue: Queue,
        deliveries: Sequence[Delivery],
        *,
        block_timeout_seconds: float = 1.0,
        announce: Callable[[str | None, Mapping[DropReason, int], int, int], None] | None = None,
    ) -> None:
        """Serve *queue*; nothing runs before the first record.

        Args:
            queue: Where the records come from.
            deliveries: Where they go.
            block_timeout_seconds: How long the queue is held back for a sink whose inbox is full.
            announce: Called on the worker's thread when records were dropped and there is room again, with the name
                of the sink that lost them, None for the queue; how many by reason; and when the first and the last was.
        """
        self.queue = queue
        self.deliveries = tuple(deliveries)
        self.restarts = 0
        self._announce = announce
        self._block_timeout_seconds = block_timeout_seconds
        self._linger_seconds = min((delivery.linger_seconds for delivery in self.deliveries), default=0.0)
        self._hurried = 0
        self._taken: list[Item] = []
        self._taken_bytes = 0
        self._owed: list[Delivery] = []
        self._full_since = math.inf
        """Since when no inbox had room for anything, as far as is known."""
        self._told_at = -math.inf
        self._telling = False
        self._waiters: list[_Waiter] = []
        self._syncing: asyncio.Task[None] | None = None
        self._leaving: dict[Delivery, asyncio.Task[None]] = {}
        """Those that are being removed, and their tasks: handed nothing more, and not ended yet."""
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()  # a signal handler may log while this thread starts the worker
        self._starting_thread: int | None = None
        self._ended = False
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: set[Future[Any]] = set()
        """What others wait for and the loop has not begun."""
        self._failures: deque[float] = deque(maxlen=_RESTARTS)
        self._aborted = False
        self._abort = asyncio.Event()
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

    def make_durable(
        self, timeout_seconds: float, lost: AbstractSet[str | None] = frozenset(), since: int | None = None
    ) -> None:
        """Return when everything logged before this call is on disk at one sink at least.

        Callers that come while one fsync runs share the next one.

        Args:
            timeout_seconds: How long to wait.
            lost: Who has lost the record that matters, as `Queue.watch` notes it.
            since: How many records were accepted before it: a sink that was added later knows nothing of it.

        Raises:
            DurabilityError: If that is not known in time, or no sink can do it.
        """
        if not self._usable():
            raise DurabilityError("no worker runs that could bring the record to disk")
        waiter = _Waiter(lost, self.queue.accepted if since is None else since, Future())
        try:
            with self.queue.lock:
                self._waiters.append(waiter)
                if len(self._waiters) == 1:
                    self._loop.call_soon_threadsafe(self._begin_barrier)
        except RuntimeError as error:  # the loop was closed since it was asked for
            raise DurabilityError("logging has ended, so the record is not known to be on disk") from error
        try:
            durable = waiter.durable.result(timeout_seconds)
        except FutureTimeoutError as error:
            waiter.durable.cancel()
            raise DurabilityError(f"the record was not on disk within {timeout_seconds:g} s") from error
        if not durable:
            raise DurabilityError("no sink could bring the record to disk; name a file, the store, or a spooling sink")

    def flush(self, timeout_seconds: float, *, durable: bool = True, empty: bool = False) -> FlushResult:
        """Deliver everything accepted so far and, if *durable*, fsync it, waiting at most that long.

        What is safe in a spool need not be delivered, unless *empty* says that there may be no later chance.
        """
        if not self._usable():
            return self._result()
        try:
            flushing = self._submit(timeout_seconds, durable=durable, empty=empty)
            return flushing.result(timeout_seconds + _GRACE_SECONDS)
        except (FutureTimeoutError, futures.CancelledError, RuntimeError):  # or it was closed meanwhile
            return self._result()

    async def aflush(self, timeout_seconds: float, *, durable: bool = True, empty: bool = False) -> FlushResult:
        """Do what `flush` does without blocking the running event loop."""
        if not self._usable():
            return self._result()
        try:
            flushing = self._submit(timeout_seconds, durable=durable, empty=empty)
            # A sink may hold up the worker's loop itself, and somebody may close it meanwhile.
            await asyncio.wait({asyncio.wrap_future(flushing)}, timeout=timeout_seconds + _GRACE_SECONDS)
            return flushing.result(0)
        except (FutureTimeoutError, futures.CancelledError, RuntimeError):
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
            elif not self._thread.is_alive():
                self._give_up("worker_failed")
            return self._result()
        self._ended = True
        closing = self._run_there(lambda: self._close(timeout_seconds))
        try:
            deadline = time.monotonic() + timeout_seconds + 2 * _GRACE_SECONDS
            # In short steps: Python sees a signal that came just before a wait only after it.
            while not futures.wait([closing], _GRACE_SECONDS).done and time.monotonic() < deadline:
                pass
            result = closing.result(0)
        except FutureTimeoutError:
            report("the worker did not end in time; a sink is stuck")
            return self._result()
        assert self._thread is not None  # noqa: S101 - _usable saw it
        self._thread.join(_GRACE_SECONDS)
        return result

    def add(self, delivery: Delivery) -> None:
        """Give *delivery*, whose sink is open, every record that is logged from now on.

        Raises:
            RuntimeError: The worker has ended, or this is its thread or a sink's.
        """
        with self._starting:
            if not self._usable():
                self._require_unstarted()
                self._take_in(delivery)
                return
        delivery.reopen()
        try:
            self._ask(lambda: self._add(delivery), self._block_timeout_seconds)
        except BaseException:  # also of somebody who does not want to wait
            with contextlib.suppress(RuntimeError):
                self._run_there(lambda: self._give_back(delivery))
            raise

    def remove(self, delivery: Delivery, timeout_seconds: float) -> SinkStats:
        """Deliver what *delivery* was given, in that time, and close its sink; return what became of its records.

        Raises:
            RuntimeError: As `add`.
        """
        with self._starting:
            if not self._usable():
                self._require_unstarted()
                self._leave(delivery, self.queue.accepted)
                _close_unstarted(delivery)
                with self.queue.lock:
                    return delivery.stats()
        return self._ask(lambda: self._remove(delivery, timeout_seconds), self._block_timeout_seconds + timeout_seconds)

    def _ask(self, make: Callable[[], Coroutine[Any, Any, _T]], seconds: float) -> _T:
        """Run that on the worker's loop; a little more time than it should take is too much."""
        asked = self._run_there(make)
        try:
            return asked.result(seconds + 4 * _GRACE_SECONDS)
        except FutureTimeoutError:
            asked.cancel()
            raise RuntimeError("the worker does not answer") from None
        except futures.CancelledError:
            raise RuntimeError("logging has ended") from None

    def _require_unstarted(self) -> None:
        if _is_ours():
            raise RuntimeError("a sink cannot add or remove sinks while it writes")
        if self._ended or self._thread is not None:
            raise RuntimeError("logging has ended")

    def call_later(self, seconds: float, function: Callable[[], None]) -> bool:
        """Call *function* on the worker's thread after that time; return False if it does not run, and will not."""
        if self._thread is None or self._ended or self._loop.is_closed():
            return False
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, function, context=_own_context())
        except RuntimeError:  # it was closed between the question and the call
            return False
        return True

    def abort(self) -> None:
        """Have a flush or a close that runs end at once: what is not delivered is spooled or lost."""
        self._aborted = True
        if self._thread is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it was closed between the question and the call
                self._loop.call_soon_threadsafe(self._abort.set)

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
        return self._thread is not None and self._thread.is_alive() and not _is_ours()

    def _submit(self, timeout_seconds: float, *, durable: bool, empty: bool) -> Future[FlushResult]:
        return self._run_there(lambda: self._flush(timeout_seconds, durable=durable, empty=empty))

    def _run_there(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Run on the worker's loop what *make* returns. It is called there: what the loop never begins was never made.

        Raises:
            RuntimeError: The loop is closed.
        """
        asked: Future[_T] = Future()

        def begin() -> None:
            self._asked.discard(asked)
            task = self._loop.create_task(make())
            task.add_done_callback(lambda done: _pass_on(done, asked))

        self._asked.add(asked)  # first: the worker may end this very moment
        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            self._asked.discard(asked)
            raise
        if self._loop.is_closed():
            asked.cancel()
        return asked

    def _wake(self) -> None:
        """Let the worker look at the queue; called from any thread, and from signal handlers."""
        if self._thread is None:
            self._start()
        if self._thread is not None and not self._loop.is_closed():  # also if another thread has just started it
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
            try:
                self._loop = _own_context().run(make_loop)  # it logs that it was made
            except OSError as error:  # no more files; the next record tries again
                report(f"the worker cannot start ({said(error)}); records wait")
                self.queue.wake_at = 1
                return
            self._event = asyncio.Event()
            self._tasks = []  # those of an earlier time had another loop
            thread = threading.Thread(target=self._run, name="fapilog-worker", daemon=True)
            # The first task of the loop, so that whatever is submitted later finds the deliveries begun.
            self._pumping = self._loop.create_task(self._main(), context=_own_context())
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is ending
                report(f"the worker cannot start ({error}); records are delivered where they are logged")
                self._deliver_here()
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
                self._go_on(error)
        while left := asyncio.all_tasks(self._loop):  # again, for others may still ask for a flush
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()
        for asked in list(self._asked):  # it was too late to begin with these
            asked.cancel()

    def _go_on(self, error: BaseException) -> None:
        """Start anew what a fault has ended; after many faults in a short time do without the pump."""
        now = time.monotonic()
        ended = self._pumping.done()
        if ended and len(self._failures) == _RESTARTS and now - self._failures[0] < _RESTARTS_WITHIN_SECONDS:
            report(f"the worker failed again and is given up; records go to stderr from now on: {said(error)}")
            self._divert()
            self._pumping = self._loop.create_task(_until_cancelled(), context=_own_context())
            return
        report(f"the worker failed and goes on: {said(error)}", key="worker failed")
        self.restarts += 1
        self._failures.append(now)
        for task in self._tasks:  # or asyncio logs that nobody asked what ended it
            if task.done() and not task.cancelled():
                task.exception()
        self._tasks = [
            delivery.go_on() if task.done() else task
            for task, delivery in zip(self._tasks, self.deliveries, strict=False)  # it may have failed at the begin
        ]
        if ended:
            self._pumping = self._loop.create_task(self._resume(), context=_own_context())

    def _divert(self) -> None:
        """Send to stderr what is in the queue and whatever is logged from now on: it cannot be handed out."""
        if self.queue.heir is None:
            self.queue.heir = Direct(self.queue)
        self.queue.close()
        left = self._taken if self._owed else []
        more, _ = self.queue.take()
        for _level, _timestamp, line in left + more:  # written first: whoever sees them counted finds them there
            report.write_line(line)
        for delivery in self._owed:
            delivery.lose(left, "worker_failed")
        self._owed = []
        for delivery in self.deliveries:
            delivery.lose(more, "worker_failed")

    def _deliver_here(self) -> None:
        """Deliver on the calling thread, which may be running an event loop of its own."""
        self._pumping.cancel()
        around = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            self._loop.run_until_complete(self._once(_HERE_SECONDS if around is None else _HERE_IN_A_LOOP_SECONDS))
        except Exception as error:  # noqa: BLE001 - the caller only wanted to log
            report(f"records cannot be delivered where they are logged: {said(error)}", key="deliver here")
        finally:
            self._loop.close()
            asyncio._set_running_loop(around)

    async def _main(self) -> None:
        self._begin()
        await self._pump()

    def _begin(self) -> None:
        """Begin to deliver wherever that is not done yet."""
        for delivery in self.deliveries[len(self._tasks) :]:
            self._tasks.append(delivery.begin(self._linger_seconds))

    async def _pump(self) -> None:
        """Wait for a record, wait a little for more, take them all, hand them out; for ever.

        As long as there were any, the next are expected without being told of the first: to tell costs the thread that
        logs it a system call and a turn at the interpreter's lock.
        """
        expected = False
        while True:
            if not expected or not self._linger_seconds:
                self.queue.wake_at = 1
                if not self.queue.items:
                    await self._event.wait()
            self._event.clear()
            if self._linger_seconds and not self._hurried:
                self.queue.wake_at = URGENT_BYTES
                if self.queue.bytes < URGENT_BYTES:
                    await wait_for_event(self._event, self._linger_seconds)
                    self._event.clear()
            self.queue.behind = max((delivery.behind for delivery in self.deliveries), default=0)
            self.queue.wake_at = max(URGENT_BYTES, GIVE_WAY_BYTES - self.queue.behind)
            expected = bool(self.queue.items)
            await self._hand_out()

    async def _hand_out(self) -> None:
        """Hand out as much of what waits as every inbox has room for.

        Where the policy lets a log call wait, the rest stays in the queue, so that the log calls do wait. But not for a
        stuck sink: when there was no room at all for as long as a log call waits, each inbox keeps what it can.
        """
        while self.queue.items and self.queue.overflow in ("auto", "block"):
            rooms = [delivery.room for delivery in self.deliveries] or [(NEVER, NEVER)]
            if self._fan_out(min(room[0] for room in rooms), min(room[1] for room in rooms)):
                self._full_since = math.inf
                return
            # Of all who hand out, a flush beside the pump: what one of them could hand out is progress for each.
            self._full_since = min(self._full_since, time.monotonic())
            if time.monotonic() - self._full_since >= self._block_timeout_seconds:
                break
            await asyncio.sleep(0.005)
        self._full_since = math.inf
        self._fan_out()

    async def _resume(self) -> None:
        """Go on after a fault, at once the first time and then after a rest."""
        await asyncio.sleep(0.05 * 2.0 ** len(self._failures) if len(self._failures) > 1 else 0)
        await self._main()

    def _fan_out(self, max_records: int = NEVER, max_bytes: int = NEVER) -> bool:
        """Give every delivery what the queue holds, within bounds; return whether that was anything.

        Cut short by a fault of ours, it owes the rest and pays that first.
        """
        for delivery in self._owed[:]:
            delivery.accept(self._taken, self._taken_bytes)
            self._owed.remove(delivery)
        hit("worker.take")
        taken, self._taken_bytes = self.queue.take(max_records, max_bytes)
        self._taken = list(survivors("worker.hand_out", taken))
        count = len(self._taken)
        if count < len(taken):
            self._taken_bytes = size_of(self._taken)
        if count:
            self._owed = list(self.deliveries)
            alone = bool(self.queue.watched) and not any(delivery.keeps_all for delivery in self.deliveries)
            for delivery in self.deliveries:
                delivery.accept(self._taken, self._taken_bytes, vouches_alone=alone)
                self._owed.remove(delivery)
            self._taken = []  # or they would stay in memory until the next ones come
        self._tell_drops()
        return count > 0

    def _tell_drops(self, *, now: bool = False) -> None:
        """Have what was dropped told in a record once there is room again; once a second, unless it is *now*."""
        if self._announce is None:
            return
        losses: list[tuple[str | None, DropSummary]] = []
        roomy = all(each.has_room for each in self.deliveries if each.state == "up")
        if self.queue.summary.counts and roomy and not self.queue.pressed:
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
            with self.queue.lock:  # others note what they drop under it
                told = summary.take()
            self._announce(name, *told)

    def _tell_later(self) -> None:
        self._telling = False
        self._tell_drops()

    async def _add(self, delivery: Delivery) -> None:
        handing_out = self._loop.create_task(self._hand_out_until(self.queue.accepted))
        await self._wait_for(handing_out, self._block_timeout_seconds)  # what was logged before is for the others
        self._tasks.append(delivery.begin(self._linger_seconds))
        self._take_in(delivery)
        for each in self.deliveries:
            each.linger_after(self._linger_seconds)

    def _take_in(self, delivery: Delivery) -> None:
        """Hand to *delivery*, too, what is in the queue and what comes."""
        with self.queue.lock:
            delivery.join()
            self.deliveries += (delivery,)
        self._linger_seconds = min(each.linger_seconds for each in self.deliveries)

    async def _give_back(self, delivery: Delivery) -> None:
        """Be without *delivery* again."""
        if delivery in self.deliveries:
            await self._remove(delivery, 0.0)

    async def _remove(self, delivery: Delivery, timeout_seconds: float) -> SinkStats:
        deadline = time.monotonic() + timeout_seconds
        within = deadline - min(HAND_OVER_SECONDS, timeout_seconds / 2)
        last = self.queue.accepted
        await self._wait_for(self._loop.create_task(self._hand_out_until(last)), within - time.monotonic())
        task = self._leaving[delivery] = self._take_out(delivery, last)
        try:
            settling = self._loop.create_task(_settle(delivery, durable=True))
            await self._wait_for(settling, max(0.0, within - time.monotonic()))
            task.cancel()
            await asyncio.wait({task}, timeout=ABORT_SECONDS)
            ending = asyncio.ensure_future(delivery.end("sink_closed"))
            await asyncio.wait({ending}, timeout=max(0.0, deadline - time.monotonic()) + _GRACE_SECONDS)
            ending.cancel()
            await asyncio.wait({ending}, timeout=ABORT_SECONDS)
        finally:
            if not self._ended:  # else its end is waited for with that of the others
                del self._leaving[delivery]
        with self.queue.lock:
            return delivery.stats()

    def _take_out(self, delivery: Delivery, last: int) -> "asyncio.Task[None]":
        """Hand nothing more to *delivery*, which should have had the first *last* records; return its task."""
        at = self.deliveries.index(delivery)
        self._leave(delivery, last)
        if delivery in self._owed:
            self._owed.remove(delivery)
            delivery.lose(self._taken, "worker_failed")
        return self._tasks.pop(at)

    def _leave(self, delivery: Delivery, last: int) -> None:
        with self.queue.lock:
            delivery.leave(last)
            self.deliveries = tuple(each for each in self.deliveries if each is not delivery)
        self._linger_seconds = min((each.linger_seconds for each in self.deliveries), default=0.0)

    def _begin_barrier(self) -> None:
        if self._syncing is None or self._syncing.done():
            self._syncing = self._loop.create_task(self._reach_barriers())

    async def _reach_barriers(self) -> None:
        """Fsync everything accepted up to now, and again for those who came meanwhile."""
        while self._waiters:
            with self.queue.lock:
                waiters, self._waiters = self._waiters, []
            try:
                await self._reach(waiters)
            finally:
                for waiter in waiters:
                    if waiter not in self._waiters and not waiter.durable.done():
                        waiter.durable.set_result(False)

    async def _reach(self, waiters: "list[_Waiter]") -> None:
        """Tell each waiter as soon as one sink has on disk what it waits for.

        Those whom no sink has satisfied yet do not hold up who comes later: they wait with them for the next fsync.
        """
        await self._hand_out_until(self.queue.accepted)
        tasks = {asyncio.ensure_future(each.make_durable()): each for each in self.deliveries}
        left, answered = set(tasks), False
        try:
            while left:
                done, left = await asyncio.wait(left, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    answered = True
                    if task.exception() is None and task.result():
                        self._tell_waiters(waiters, tasks[task])
                if all(waiter.durable.done() for waiter in waiters):
                    return
                if left and answered and self._waiters:
                    with self.queue.lock:
                        self._waiters[:0] = [waiter for waiter in waiters if not waiter.durable.done()]
                    return
        finally:
            for task in tasks:  # of a sink that is stuck
                task.cancel()

    @staticmethod
    def _tell_waiters(waiters: "list[_Waiter]", delivery: Delivery) -> None:
        """Tell those whose record *delivery* has on disk."""
        for waiter in waiters:
            reached = waiter.lost.isdisjoint((delivery.name, None)) and delivery.given_from <= waiter.since
            if reached and not waiter.durable.done():
                with contextlib.suppress(futures.InvalidStateError):  # it gave up this very moment
                    waiter.durable.set_result(True)

    async def _flush(self, timeout_seconds: float, *, durable: bool = True, empty: bool = False) -> FlushResult:
        last = self.queue.accepted
        self._hurried += 1
        try:
            settling = self._loop.create_task(self._settle_all(last, durable=durable, empty=empty))
            await self._wait_for(settling, timeout_seconds)
        finally:
            self._hurried -= 1
        return self._result(since=last)

    async def _settle_all(self, last: int, *, durable: bool, empty: bool) -> None:
        """Return when the first *last* records are in memory alone no more, as `Delivery.settle` says, and on disk."""
        await self._hand_out_until(last)
        whom = (*self.deliveries, *self._leaving)
        await asyncio.gather(*(_settle(each, durable=durable, empty=empty) for each in whom))

    async def _hand_out_until(self, last: int) -> None:
        """Hand out the first *last* records."""
        while self.queue.taken < last and self.queue.items:
            try:
                await self._hand_out()
            except Exception as error:  # noqa: BLE001 - the pump meets the same fault and starts anew
                report(f"records cannot be handed out: {said(error)}", key="hand out")
                await asyncio.sleep(0.05)

    async def _wait_for(self, task: "asyncio.Task[None]", seconds: float) -> None:
        """Wait that long for *task*, or until somebody asks a second time for the end; then cut it short."""
        aborting = asyncio.ensure_future(self._abort.wait())
        await asyncio.wait({aborting, task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        aborting.cancel()
        if not task.cancel() and not task.cancelled() and (error := task.exception()) is not None:
            report(f"a flush failed: {said(error)}", key="flush")

    def _result(self, since: int | None = None) -> FlushResult:
        """Say what is in memory alone; of the first *since* accepted records, if that is given."""
        with self.queue.lock:
            waiting = len(self.queue.items) - (0 if since is None else self.queue.accepted - since)
            return FlushResult(
                pending={delivery.name: max(0, waiting + delivery.waiting) for delivery in self.deliveries},
                spooled={delivery.name: delivery.spooled for delivery in self.deliveries if delivery.spooled},
            )

    async def _close(self, timeout_seconds: float) -> FlushResult:
        within = time.monotonic() + timeout_seconds
        deadline = within - min(HAND_OVER_SECONDS, timeout_seconds / 2)
        await self._flush(max(0.0, deadline - time.monotonic()), empty=True)
        self._tell_drops(now=True)
        self.queue.close()  # what was logged while the flush ran is taken now; later records go to stderr
        await self._flush(max(0.05, deadline - time.monotonic()), empty=True)
        try:
            self._fan_out()  # what no inbox had room for until now
        except Exception as error:  # noqa: BLE001 - nobody comes after this who could do it
            report(f"records cannot be handed out: {said(error)}", key="hand out")
            self._divert()
        tasks = [*self._tasks, *self._leaving.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=ABORT_SECONDS)
        result = self._result()
        reason: DropReason = "shutdown_aborted" if self._aborted else "shutdown_timeout"
        ends = [asyncio.ensure_future(each.end(reason)) for each in (*self.deliveries, *self._leaving)]
        if ends:
            left = max(0.0, within - time.monotonic()) + _GRACE_SECONDS
            _, stuck = await asyncio.wait(ends, timeout=ABORT_SECONDS if self._aborted else left)
            for end in stuck:
                end.cancel()
            await asyncio.wait(ends, timeout=ABORT_SECONDS)
        self._loop.call_soon(self._pumping.cancel)
        return result

    async def _once(self, seconds: float) -> None:
        """Deliver what waits, on the calling thread: there is no other. What cannot be delivered in time waits on."""
        self._begin()
        self._fan_out()
        for delivery, task in zip(self.deliveries, self._tasks, strict=True):
            await delivery.deliver_here(task, seconds)

    def _give_up(self, reason: DropReason) -> None:
        """Count as lost whatever waits anywhere."""
        items, _ = self.queue.take()
        for delivery in self.deliveries:
            delivery.lose(items, reason)
            delivery.give_up(reason)

    def _close_unstarted(self) -> None:
        """Close the sinks of a worker that has no thread."""
        self._give_up("shutdown_timeout")
        for delivery in self.deliveries:
            _close_unstarted(delivery)


class _Waiter(NamedTuple):
    """Somebody who waits until a record is on disk."""

    lost: AbstractSet[str | None]
    """Who has lost the record."""

    since: int
    """How many records were accepted before it, at least."""

    durable: "Future[bool]"


def _is_ours() -> bool:
    """Whether the calling thread is one that the worker waits for: its own, or a sink's. Not that of the alerts."""
    return threading.current_thread().name.startswith("fapilog-") and threading.current_thread().name != ALERTS_THREAD


def _own_context() -> contextvars.Context:
    """Return a context in which nothing is recorded: what a sink logs must not come back to it for ever."""
    context = contextvars.Context()
    context.run(current_request.set, OURSELVES)
    return context


def _pass_on(task: "asyncio.Task[_T]", asked: Future[_T]) -> None:
    """Give *asked* what became of *task*, unless nobody waits any more."""
    with contextlib.suppress(futures.InvalidStateError):
        if task.cancelled():
            asked.cancel()
        elif (error := task.exception()) is not None:
            asked.set_exception(error)
        else:
            asked.set_result(task.result())


async def _until_cancelled() -> None:
    await asyncio.Event().wait()


def _close_unstarted(delivery: Delivery) -> None:
    """Close a sink that was never given anything."""
    closing = getattr(delivery.sink, "close", None)
    try:
        result = closing() if closing is not None else None
        if asyncio.iscoroutine(result):
            result.close()
    except Exception as error:  # noqa: BLE001 - one sink's trouble is not another's
        report(f"sink {delivery.name} cannot close: {type(error).__name__}: {error}")


async def _settle(delivery: Delivery, *, durable: bool, empty: bool = False) -> None:
    await delivery.settle(empty=empty)
    if durable:
        await delivery.sync()


def _nothing() -> None:
    """Do nothing: nobody wants to know."""
