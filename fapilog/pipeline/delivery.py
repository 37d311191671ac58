"""Bring records to one sink: inbox, batch, attempt, wait, try again, spool, count.

A task of the worker's event loop, the sender, does all of it, in order; the sink itself runs on a thread of its own.
Where there is a filter, a task of its own asks it before the inbox. With a spool there is one more task, the keeper.
What is in memory alone for 0.3 s while the far end does not answer, or fills a quarter of the inbox, it brings to disk,
oldest first: the batch that is being sent, then the inbox. What is on disk goes before anything newer.
"""

import asyncio
import contextlib
import inspect
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any, Final

from fapilog.diagnostics import DropReason, report
from fapilog.failpoints import hit
from fapilog.files.deadletters import DeadLetters
from fapilog.forks import OfOneProcess
from fapilog.pipeline.inbox import Inbox, size_of
from fapilog.pipeline.ledger import DropSummary, SinkState, SinkStats, SpoolStats
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.queue import NEVER, Item, Queue
from fapilog.pipeline.sender import STALLED_AFTER_SECONDS, Outcome, Sender
from fapilog.pipeline.sift import Sift
from fapilog.pipeline.spool import Spool
from fapilog.pipeline.threads import SinkThread, ordinary, said
from fapilog.types import LEVELS, TRACE, Batch, Record, Sink

LOCAL_LINGER_SECONDS: Final = 0.05
NETWORK_LINGER_SECONDS: Final = 0.5
LOCAL_BATCH_BYTES: Final = 256 * 1024
NETWORK_BATCH_BYTES: Final = 1024 * 1024
SPOOL_AFTER_SECONDS: Final = 0.3
"""How long a record may stay in memory alone while its sink does not answer."""

SPOOL_BYTES: Final = 2 * 1024 * 1024
"""How much of the inbox is brought to disk with one fsync."""

_HURRIED_DELAY_SECONDS: Final = 0.05


class Delivery(OfOneProcess):
    """One sink, its inbox and its spool, and the count of what became of its records."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        options: DeliveryOptions,
        queue: Queue,
        *,
        make_spool: Callable[[], Spool] | None = None,
        dead_letters: DeadLetters | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Deliver to *sink* what it is given; counters are guarded by the lock of *queue*."""
        self.name = name
        self.sink = sink
        self.options = options
        self.level = LEVELS[options.level] if options.level else TRACE
        self.linger_seconds = _linger_seconds(sink, options)
        default = NETWORK_BATCH_BYTES if inspect.iscoroutinefunction(sink.write) else LOCAL_BATCH_BYTES
        self._batch_max_bytes = options.batch_max_bytes or getattr(sink, "default_batch_max_bytes", None) or default
        self._closed = self._ended = False
        self.summary = DropSummary()
        self._sender = Sender(name, sink, options)
        self._queue = queue
        self._chance = chance
        self._make_spool = make_spool
        self._dead_letters = dead_letters
        self._inbox = self._door = Inbox(queue.max_records, queue.max_bytes, queue.overflow)
        """Behind the filter, if there is one, and in front of it."""
        self._sift: Sift | None = None
        if options.filter is not None:
            self._door = Inbox(queue.max_records, queue.max_bytes, queue.overflow)
            self._sift = Sift(name, options.filter, self._door, queue.lock)
        self._given = 0
        self._joined = (0, 0)
        """How many records had left the queue, and how many of them were evicted, when this began to be given any."""
        self._left: tuple[int, int] | None = None
        """The same of when it was given the last; None as long as there may be more."""
        self._held: list[Item] = []
        """The batch that is being sent, as long as it is in memory alone."""
        self._moving: list[Item] = []
        """What is being written to the spool, behind the batch that is held."""
        self._spooled = 0
        self._spooled_bytes = 0
        self._spool_oldest_ns: int | None = None
        self._spool_dropped: Counter[DropReason] = Counter()
        self._adopted = 0
        self._has_looked = False
        self._delivered = 0
        self._routed_away = 0
        self._ambiguous = 0
        self._retries = 0
        self._dropped: Counter[DropReason] = Counter()
        self._spool: Spool | None = None
        self._spool_thread: SinkThread | None = None
        self._hurried = 0

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
            starting = getattr(self.sink, "start", None)
            if starting is not None:
                starting()
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - whatever a sink raises, the others go on
            report(f"sink {self.name} cannot start: {said(error)}")
            self._closed = True

    def join(self) -> None:
        """Count from here on: what has left the queue until now is no business of this sink's. The lock is held."""
        self._joined = self._queue.taken, self._queue.evicted
        self._given = self._queue.taken - self._queue.evicted

    def leave(self, last: int) -> None:
        """Count up to here: nothing more will be given. The lock is held.

        What is among the first *last* records and still in the queue is lost to this sink.
        """
        missed = max(0, last - max(self._queue.taken, self._joined[0]))
        self._left = self._queue.taken + missed, self._queue.evicted
        self._given += missed
        if missed:
            self._drop("sink_closed", missed)

    @property
    def given_from(self) -> int:
        """Before which record, counted from the first that was accepted, nothing was given to this sink."""
        return self._joined[0]

    # On the worker's loop

    def begin(self, worker_linger_seconds: float) -> "asyncio.Task[None]":
        """Start delivering on the running loop; *worker_linger_seconds* were waited already."""
        self._loop = asyncio.get_running_loop()
        self._nudge = asyncio.Event()
        """Tells the sender that there is something to look at."""
        self._arrived = asyncio.Event()
        """Tells the same to the keeper."""
        self._disk = asyncio.Lock()
        """Held by whoever changes the spool, or settles a batch that the keeper may be writing to it."""
        self._standing_back = False
        self._began = self._loop.time()
        """When the sink was given the batch it has now, or had last."""
        self._since = 0.0
        """When the oldest of what is in memory alone began to wait for the far end."""
        self._disk_works = True
        self._vouches_alone = False
        """Whether no other sink has on disk what somebody waits for."""
        self._progress = asyncio.Event()
        self.linger_after(worker_linger_seconds)
        self._streams = self._make_spool is None and not inspect.iscoroutinefunction(self.sink.write)
        self._cut_short = False
        if self._sift is not None:
            self._sift.begin()
        self._thread = SinkThread(self.name)
        self._sender.thread = self._thread
        if self._make_spool is not None and not self._closed:
            self._spool = self._spool or self._make_spool()
            self._spool_thread = SinkThread(f"{self.name}-spool")
        return self.go_on()

    def linger_after(self, worker_linger_seconds: float) -> None:
        """Wait for more only as long as the worker has not waited already."""
        self._wait_seconds = max(0.0, self.linger_seconds - worker_linger_seconds)

    def go_on(self) -> "asyncio.Task[None]":
        """Start delivering, or start again after what ended the task."""
        return self._loop.create_task(self._run(), name=f"fapilog-{self.name}")

    def _take_back(self) -> None:
        """Put what was being sent or spooled back before the inbox."""
        with self._queue.lock:
            self._inbox.give_back(self._held + self._moving)
            self._held, self._moving = [], []
            if self._sift is not None:
                self._sift.take_back()

    @property
    def state(self) -> SinkState:
        """What is known of the sink."""
        return "closed" if self._closed else self._sender.state

    @property
    def room(self) -> tuple[int, int]:
        """How many records and bytes log calls may send on, so that they wait for a sink that works but is slow.

        An empty inbox takes all that the queue can hold. A sink that is stuck or down holds up nobody; with a spool
        it is the disk that has to keep up.
        """
        working = self._works if self._spool is None else self._disk_works and not self._closed
        working = working and (self._sift is None or not self._sift.hangs)
        if not working or not (self._inbox or self._door):
            return NEVER, NEVER
        share = 1 if self._spool is None else 2  # the disk is at work from a quarter on, so memory need not fill up
        fullest = max(self._inbox, self._door, key=lambda inbox: inbox.fill)
        return fullest.max_records // share - len(fullest), fullest.max_bytes // share - fullest.bytes

    @property
    def _works(self) -> bool:
        """Whether the sink takes what it is given, as far as is known: no attempt has failed, none goes on for long."""
        hangs = bool(self._held) and not self._streams and self._loop.time() - self._began > STALLED_AFTER_SECONDS
        return self.state == "up" and not self._sender.failures and not hangs

    @property
    def behind(self) -> int:
        """How many bytes wait for a sink that works."""
        return self._inbox.bytes if self.state == "up" else 0

    @property
    def has_room(self) -> bool:
        """Whether the inbox is half empty again, or will take nothing more in any case."""
        return not (self._closed or self._inbox.is_filled(2) or self._door.is_filled(2))

    @property
    def fill(self) -> float:
        """How full the inbox is, 0 to 1; of one that takes nothing more, 0."""
        return 0.0 if self._closed else min(1.0, max(self._inbox.fill, self._door.fill))

    @property
    def _answers(self) -> bool:
        """Whether the far end takes what it is sent, as far as is known."""
        late = self._loop.time() - self._began > STALLED_AFTER_SECONDS
        return not (self._closed or self._standing_back or late)

    @property
    def spools(self) -> bool:
        """Whether records can wait on disk."""
        return self._spool is not None

    @property
    def spooled(self) -> int:
        """How many records wait on disk."""
        return self._spooled

    @property
    def waiting(self) -> int:
        """How many records are in memory alone."""
        return self._lined_up + len(self._held)

    @property
    def _lined_up(self) -> int:
        """How many records are in memory and not being sent."""
        return len(self._inbox) + len(self._moving) + (0 if self._sift is None else len(self._sift))

    @property
    def keeps_all(self) -> bool:
        """Whether this sink can bring to disk whatever it is given, and works, as far as is known."""
        takes_all = self.level <= TRACE and self._sift is None
        return takes_all and hasattr(self.sink, "flush") and self._works

    @property
    def _owes_disk(self) -> bool:
        """Whether records must be in the spool before they are sent: what an answer vouches for is on no disk here."""
        waited_for = self._vouches_alone and bool(self._queue.watched)
        return waited_for and self._spool is not None and self._disk_works

    def accept(self, items: list[Item], size: int, *, vouches_alone: bool = False) -> None:
        """Take what the queue held, oldest first; leave out what the sink does not want or has no room for.

        *size* is the `size_of` all. A sink that *vouches_alone* for a durable record spools it first.
        """
        self._vouches_alone = vouches_alone
        wanted = self._wanted(items)
        if wanted is not items:
            size = size_of(wanted)
        with self._queue.lock:
            self._given += len(items)
            self._routed_away += len(items) - len(wanted)
            if self._closed:
                self._drop("sink_closed", len(wanted))
                self._queue.note_lost(None, self.name)
                return
            lost = self._put(self._door, items, wanted, size)
        self._tell_arrival(lost=lost)

    def _put(self, inbox: Inbox, items: list[Item], wanted: list[Item], size: int) -> bool:
        """Put into *inbox* what of *items* is *wanted*; return whether any was lost. The lock is held."""
        lost = inbox.put(wanted, size, waited_for=self.room != (NEVER, NEVER))
        for reason, gone in lost.items():
            self._drop(reason, len(gone))
        if self._queue.watched and (lost or len(wanted) < len(items)):
            there = set(map(id, wanted))
            away = (item for item in items if id(item) not in there)
            self._queue.note_lost(chain(away, *lost.values()), self.name)
        return bool(lost)

    def _tell_arrival(self, *, lost: bool) -> None:
        if lost:
            report(f"sink {self.name} is too slow and records are dropped", key=f"inbox_full {self.name}")
        self._nudge.set()
        self._arrived.set()
        if self._sift is not None:
            self._sift.arrived.set()

    async def _sift_portion(self) -> None:
        """Bring what the filter keeps into the inbox."""
        assert self._sift is not None  # noqa: S101 - only called where there is one
        self._let_in(await self._sift.judge())

    def _let_in(self, wanted: list[Item]) -> None:
        """Put into the inbox what is *wanted* of what the filter was asked about last."""
        assert self._sift is not None  # noqa: S101 - as above
        with self._queue.lock:
            judged = self._sift.judged()
            if self._closed:  # and all of them were counted
                return
            self._routed_away += len(judged) - len(wanted)
            lost = self._put(self._inbox, judged, wanted, size_of(wanted))
        self._tell_arrival(lost=lost)

    def lose(self, items: list[Item], reason: DropReason) -> None:
        """Count as lost what the queue held and the worker cannot hand out; no filter is asked."""
        wanted = self._wanted(items)
        with self._queue.lock:
            self._given += len(items)
            self._routed_away += len(items) - len(wanted)
            if wanted:
                self._drop(reason, len(wanted))
                self._queue.note_lost(None, self.name)

    def _wanted(self, items: list[Item]) -> list[Item]:
        return items if self.level <= TRACE else [item for item in items if item[0] >= self.level]

    async def settle(self, *, empty: bool = False) -> None:
        """Return when nothing given so far is in memory alone: it was delivered, dropped, or is safe in the spool.

        If *empty*, go on until nothing is left in the spool either, as long as the far end takes it.
        """
        target = self._given
        self.hurry(1)
        try:
            while self._given - self.waiting < target and not self._closed:
                self._progress.clear()
                await self._progress.wait()
            while empty and self._spooled and self._answers:
                self._progress.clear()
                await wait_for_event(self._progress, _HURRIED_DELAY_SECONDS)
        finally:
            self.hurry(-1)

    def hurry(self, change: int) -> None:
        """Skip every linger while somebody waits."""
        self._hurried += change
        self._nudge.set()
        self._arrived.set()

    async def make_durable(self) -> bool:
        """Bring everything given so far to disk, sending or spooling it; return whether that could be done.

        What was lost on the way, or was sent without having been spooled, is not on disk: the queue knows, if it is
        watched.
        """
        if not (hasattr(self.sink, "flush") or self._spool is not None):
            return False
        await self.settle()
        return await self.sync() or (self._spool is not None and not self._closed)

    async def sync(self) -> bool:
        """Make durable what the sink accepted, if it can; return whether it is."""
        flushing = getattr(self.sink, "flush", None)
        if flushing is None or self._closed:
            return False
        try:
            hit("sink.flush")
            await self._thread.call(flushing)
        except Exception as error:  # noqa: BLE001 - whatever a sink raises, the others go on
            report(f"sink {self.name} cannot flush: {said(error)}", key=f"flush {self.name}")
            return False
        return True

    async def deliver_here(self, task: "asyncio.Task[None]", seconds: float) -> None:
        """Bring what waits to the spool, or to the sink, on the calling thread, where no other can be started."""
        if self._spool is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.settle()
                    await self.sync()
        task.cancel()
        await asyncio.wait({task})
        self._take_back()
        while self._spool is not None and not self._closed and (self._inbox or self._door):
            if not self._inbox:  # so that it takes all
                self._let_in(await self._sift.judge())  # type: ignore[union-attr]  # else the door is the inbox
            elif not await self._spool_portion():
                break
        self._stop_threads()

    def give_up(self, reason: DropReason) -> None:
        """Take nothing more, and count as lost what is in memory alone."""
        self._close_inbox(reason)

    async def end(self, reason: DropReason) -> None:
        """Leave in the spool what is left, or count it as lost for *reason*, and close the sink and the spool."""
        if self._ended:
            return
        self._ended = True
        try:
            await self._leave_rest(reason)
            await self._thread.call(self.sink.close)
        except Exception as error:  # noqa: BLE001 - as above
            report(f"sink {self.name} cannot close: {said(error)}", key=f"close {self.name}")
        finally:  # also when a stuck sink used up the time for this
            self._stop_threads()
            self._progress.set()  # whoever waits for it need not

    def _stop_threads(self) -> None:
        self._thread.stop()
        if self._sift is not None:
            self._sift.stop()
        if self._spool_thread is not None:
            self._spool_thread.stop()

    def stats(self) -> SinkStats:
        """Return the counters; the queue's lock must be held."""
        queue = self._queue
        taken, evicted = self._left or (queue.taken, queue.evicted)
        waiting = 0 if self._left else len(queue.items)
        dropped = Counter(self._dropped)
        dropped["evicted"] += evicted - self._joined[1]
        return SinkStats(
            state=self.state,
            accepted=taken + waiting - self._joined[0],
            adopted=self._adopted,
            routed_away=self._routed_away,
            delivered=self._delivered,
            queued=waiting + taken - evicted - self._given + self._lined_up,
            in_flight=len(self._held),
            spooled=self._spooled,
            spooled_bytes=self._spooled_bytes,
            spool_oldest_ns=self._spool_oldest_ns,
            ambiguous=self._ambiguous,
            retries=self._retries,
            unformatted=self._figure("unformatted"),
            label_capped=self._figure("label_capped"),
            delays=self._sender.delays,
            inbox_bytes=self._inbox.bytes + (0 if self._sift is None else self._door.bytes),
            dropped={reason: count for reason, count in dropped.items() if count},
        )

    def _figure(self, name: str) -> int:
        """Return what the sink itself counts."""
        try:
            return int(getattr(self.sink, name, 0))
        except Exception as error:  # noqa: BLE001 - as above
            report(f"sink {self.name} cannot tell {name}: {said(error)}", key=f"{name} {self.name}")
            return 0

    # The sender, and the keeper of what cannot be sent

    async def _run(self) -> None:
        """Send, for ever, beginning with what an earlier task has left. With a spool, the keeper runs beside it."""
        if self._spool is not None and (self._held or self._moving):
            await self._on_disk(_nothing)  # it may still be writing them down
        self._take_back()
        steps = [self._keep] if self._spool is not None else []
        if self._sift is not None:
            steps.append(self._sift_portion)
        beside = {self._loop.create_task(self._again_and_again(step)) for step in steps}
        try:
            if self._spool is not None and not self._has_looked:
                self._has_looked = True
                await self._adopt()
            await self._again_and_again(self._round)
        finally:
            for task in beside:
                task.cancel()
            if beside:
                await asyncio.wait(beside)

    async def _again_and_again(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take one step after the other until the sink is closed; a fault of ours must not end the delivery."""
        while not self._closed:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - as said
                report(f"the delivery to {self.name} failed and goes on: {said(error)}", key=f"run {self.name}")
                await asyncio.sleep(_HURRIED_DELAY_SECONDS)
            self._progress.set()

    async def _round(self) -> None:
        """Send one batch: from the spool while it holds anything, else from the inbox."""
        if self._spooled:
            records = await self._on_disk(self._read)
            await self._send(Batch(records))
        elif not self._inbox or self._moving:
            self._nudge.clear()
            await self._nudge.wait()
            if not self._moving:
                await self._linger()
        elif self._owes_disk:
            await self._spool_portion()
        else:
            with self._queue.lock:
                self._held = self._inbox.take(self._sender.max_records, self._batch_max_bytes)
            if not self._sender.failures:
                self._since = self._loop.time()
            self._arrived.set()
            try:
                failed = await self._stream() if self._streams else None
                if self._held:
                    await self._send(Batch(self._held), failed)
            except Exception:
                with self._queue.lock:
                    self._inbox.give_back(self._held)
                    self._held = []
                raise

    async def _stream(self) -> Exception | None:
        """Write batch after batch on the sink's thread; what it raised is returned, and that batch left in `_held`.

        Under load every way between two threads costs a turn at the interpreter's lock, five milliseconds, in which
        the inbox grows by half a megabyte.
        """
        call = self._thread.call(self._write_all)
        try:
            while not call.done():
                before = self._delivered
                await asyncio.wait({call}, timeout=STALLED_AFTER_SECONDS)
                if not call.done() and self._delivered == before:
                    self._sender.stall()
                self._progress.set()
        except asyncio.CancelledError:
            with self._queue.lock:
                self._cut_short = True
                self._ambiguous += len(self._held)
            raise
        failed: Exception | None = call.result()
        return failed

    async def _write_all(self) -> Exception | None:
        """Write what is held and then the inbox, until it is empty or the sink raises; on the sink's thread."""
        while self._held:
            batch = Batch(self._held)
            try:
                writing = self._sender.write(batch)
                if inspect.isawaitable(writing):  # of a function that is no coroutine function and returns one's call
                    await writing
            except BaseException as error:  # noqa: BLE001 - the sender knows what each means
                return ordinary(error)
            with self._queue.lock:
                if self._cut_short:  # it was stuck, and counted as lost meanwhile
                    return None
                self._delivered += len(batch)
                self._held = self._inbox.take(self.options.batch_max_records, self._batch_max_bytes)
            self._sender.succeed(batch)
            if self._hurried:
                self._loop.call_soon_threadsafe(self._progress.set)
        return None

    async def _send(self, batch: Batch, failed: Exception | None = None) -> None:
        """Send a batch, or take *failed* for the answer; count what became of it; stand back if it was cut short."""
        if not batch:
            return
        held = bool(self._held)
        self._began = self._loop.time()
        try:
            outcome = await self._sender.send(batch, failed)
            await self._bury(outcome)
            if self._spool is None:
                self._settle_held(outcome)
            else:
                async with self._disk:  # the keeper may be writing down what is held
                    if self._held:
                        self._settle_held(outcome)
                    else:
                        await self._spool_thread_call(self._acknowledge, outcome, batch if held else None)
        except asyncio.CancelledError:
            with self._queue.lock:
                self._ambiguous += len(batch)  # cut short, and perhaps there
            raise
        if self._sender.state == "closed":
            self._close_inbox("sink_closed")
        elif outcome.error is not None:
            await self._stand_back(outcome.error)

    def _settle_held(self, outcome: Outcome) -> None:
        """Count what became of a batch that was in memory all the time; the rest is the first of the inbox again."""
        with self._queue.lock:
            held, self._held = self._held, []
            self._inbox.give_back(held[outcome.processed :])
            self._count(outcome)
            if self._spool is not None and not hasattr(self.sink, "flush"):  # it was sent and is on no disk here
                self._queue.note_lost(held[: outcome.processed], self.name)

    async def _keep(self) -> None:
        """Wait until something must go to disk, and bring it there."""
        self._arrived.clear()
        seconds = self._seconds_until_spooled()
        if seconds is None:
            await self._arrived.wait()
        elif seconds > 0:
            await wait_for_event(self._arrived, seconds)
        elif not await self._spool_portion():
            await asyncio.sleep(SPOOL_AFTER_SECONDS)

    def _seconds_until_spooled(self) -> float | None:
        """How long what is in memory may stay there alone; None if there is no need to bring it to disk."""
        if not (self._held or self._inbox):
            return None
        if self._inbox.is_filled(4) or self._owes_disk:
            return 0.0
        behind = self._spooled > 0 or self._standing_back
        if not (self._held or behind):
            return None
        if behind and self._hurried:
            return 0.0
        return max(0.0, self._since + SPOOL_AFTER_SECONDS - self._loop.time())

    async def _spool_portion(self) -> bool:
        """Bring to disk what is held and the oldest of the inbox; return whether that could be done."""
        async with self._disk:
            with self._queue.lock:
                self._moving = self._inbox.take(self._inbox.max_records, SPOOL_BYTES)
            try:
                await self._spool_thread_call(self._append)
            except Exception as error:  # noqa: BLE001 - whatever it is, the records stay in memory
                report(f"sink {self.name} cannot spool: {said(error)}", key=f"spool {self.name}")
                with self._queue.lock:
                    self._inbox.give_back(self._moving)
                    self._moving = []
                self._disk_works = False
            else:
                self._disk_works = True
        self._since = self._loop.time()
        self._nudge.set()
        return self._disk_works

    async def _leave_rest(self, reason: DropReason) -> None:
        """Bring to disk what is left; what cannot be is lost. What the disk was doing goes on, and comes first."""
        try:
            if self._spool is not None:
                await self._on_disk(_nothing)
                while not self._closed and (self._held or self._moving or self._inbox):
                    with self._queue.lock:
                        self._inbox.give_back(self._moving)
                        self._moving = []
                    if not await self._spool_portion():
                        break
                await self._on_disk(self._spool.close)
        finally:  # also when a stuck disk used up the time for this
            self._close_inbox(reason)

    async def _adopt(self) -> None:
        """Take over what processes that died have left for this sink."""
        try:
            await self._on_disk(self._take_over)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, what is new goes on
            report(f"sink {self.name} cannot look at its spool: {said(error)}", key=f"spool {self.name}")

    async def _bury(self, outcome: Outcome) -> None:
        """Keep what no far end will take where a person can look at it."""
        if outcome.dead and self._dead_letters is not None and self._spool_thread is not None:
            try:
                await self._on_disk(self._dead_letters.append, outcome.dead)
            except OSError as error:
                report(f"sink {self.name} cannot keep dead letters: {said(error)}", key=f"dead {self.name}")

    async def _on_disk(self, function: Callable[..., Any], *args: Any) -> Any:
        async with self._disk:
            return await self._spool_thread_call(function, *args)

    def _spool_thread_call(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        assert self._spool_thread is not None  # noqa: S101 - only asked for with a spool
        return self._spool_thread.call(function, *args)

    # On the spool's thread, one at a time; its figures are read before the lock is taken, for that may read the disk

    def _append(self) -> None:
        """Write down what is held and what is moving, and fsync it: only then is it no longer in memory alone."""
        assert self._spool is not None  # noqa: S101 - as above
        items = self._held + self._moving
        if not items:
            return
        self._spool.append(items)
        self._spool.sync()
        stats = self._spool.stats()
        with self._queue.lock:
            if not self._closed:  # else it was counted as lost meanwhile
                self._held, self._moving = [], []
                self._carry_over(stats)

    def _acknowledge(self, outcome: Outcome, held: Batch | None) -> None:
        """Let go of what a batch has done with: the one that was read last, or one that was *held* when it was sent."""
        assert self._spool is not None  # noqa: S101 - as above
        count = outcome.processed
        if held is not None and count:  # of it the spool may have given up a part, to make room
            done = set(held.lines[:count])
            there = self._spool.read(count, held.size_bytes)
            count = next((at for at, record in enumerate(there) if record.line not in done), len(there))
        missing = outcome.processed - self._spool.acknowledge(count)
        stats = self._spool.stats()
        with self._queue.lock:
            # What the spool gave up meanwhile is counted there, though it was sent.
            self._delivered -= missing
            self._count(outcome)
            self._carry_over(stats)

    def _take_over(self) -> None:
        assert self._spool is not None  # noqa: S101 - as above
        adopted = self._spool.adopt()
        stats = self._spool.stats()
        with self._queue.lock:
            self._adopted += adopted
            self._carry_over(stats)

    def _read(self) -> list[Record]:
        assert self._spool is not None  # noqa: S101 - as above
        records = self._spool.read(self._sender.max_records, self._batch_max_bytes)
        stats = self._spool.stats()
        with self._queue.lock:
            self._carry_over(stats)
        return records

    def _carry_over(self, stats: SpoolStats) -> None:
        """Take the spool's figures, and count what it gave up by itself; the lock is held."""
        for reason, count in stats.dropped.items():
            if count > self._spool_dropped[reason]:
                self._drop(reason, count - self._spool_dropped[reason])
                self._spool_dropped[reason] = count
                self._queue.note_lost(None, self.name)  # which ones is not known
        self._spooled = stats.records
        self._spooled_bytes = stats.size_bytes
        self._spool_oldest_ns = stats.oldest_timestamp_ns

    def _close_inbox(self, reason: DropReason) -> None:
        with self._queue.lock:
            self._closed = True
            left = self.waiting
            self._inbox.clear()
            self._held, self._moving = [], []
            if self._sift is not None:
                self._sift.judged()
                self._door.clear()
            if left:
                self._drop(reason, left)
                self._queue.note_lost(None, self.name)

    def _count(self, outcome: Outcome) -> None:
        self._delivered += outcome.delivered
        self._ambiguous += outcome.in_doubt
        for reason, count in outcome.dropped.items():
            self._drop(reason, count)
        if outcome.dropped:
            self._queue.note_lost(None if "sink_closed" in outcome.dropped else outcome.dead, self.name)

    async def _stand_back(self, error: Exception) -> None:
        """Leave the sink alone for a while. Without a spool, somebody who waits for the records shortens it."""
        self._sender.fail(error)
        with self._queue.lock:
            self._retries += 1
        until = self._loop.time() + self._sender.delay_seconds(error, self._chance())
        self._standing_back = True
        self._arrived.set()
        self._progress.set()
        try:
            while (left := until - self._loop.time()) > 0:
                if self._hurried and self._spool is None:
                    await asyncio.sleep(min(left, _HURRIED_DELAY_SECONDS))
                    return
                self._nudge.clear()
                await wait_for_event(self._nudge, left)
        finally:
            self._standing_back = False

    async def _linger(self) -> None:
        """Wait for company, unless somebody waits for the records or a batch is full."""
        until = self._loop.time() + self._wait_seconds
        while (left := until - self._loop.time()) > 0 and not self._hurried:
            if len(self._inbox) >= self.options.batch_max_records or self._inbox.bytes >= self._batch_max_bytes:
                return
            self._nudge.clear()
            await wait_for_event(self._nudge, left)

    def _drop(self, reason: DropReason, count: int) -> None:
        self._dropped[reason] += count
        self.summary.note(reason, count)


def _linger_seconds(sink: Sink, options: DeliveryOptions) -> float:
    if options.linger_seconds is not None:
        return float(options.linger_seconds)
    default = getattr(sink, "default_linger_seconds", None)
    if isinstance(default, int | float):
        return float(default)
    return NETWORK_LINGER_SECONDS if inspect.iscoroutinefunction(sink.write) else LOCAL_LINGER_SECONDS


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for *event*, at most that long."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


def _nothing() -> None:
    """Do nothing, after what was begun before it."""
