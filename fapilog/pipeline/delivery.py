"""Bring records to one sink: inbox, batch, attempt, wait, try again, spool, count.

One task of the worker's event loop does all of it, in order; the sink itself runs on a thread of its own. With a spool,
nothing stays in memory alone for longer than half a second while the far end does not answer, and what is on disk
goes before anything newer.
"""

import asyncio
import contextlib
import inspect
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import orjson

from fapilog.diagnostics import DropReason, report
from fapilog.errors import ConfigurationError
from fapilog.failpoints import hit
from fapilog.files.deadletters import DeadLetters
from fapilog.forks import OfOneProcess
from fapilog.pipeline.inbox import Inbox
from fapilog.pipeline.ledger import DropSummary, SinkState, SinkStats
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.queue import NEVER, Item, Queue
from fapilog.pipeline.sender import Outcome, Sender
from fapilog.pipeline.spool import Spool, SpoolStats
from fapilog.pipeline.threads import SinkThread, said
from fapilog.types import LEVELS, TRACE, Batch, Record, Sink

LOCAL_LINGER_SECONDS: Final = 0.05
NETWORK_LINGER_SECONDS: Final = 1.0
SPOOL_AFTER_SECONDS: Final = 0.5
"""How long a record may stay in memory alone while its sink does not answer."""

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
        self._closed = False
        self.summary = DropSummary()
        self._sender = Sender(name, sink, options)
        self._queue = queue
        self._chance = chance
        self._make_spool = make_spool
        self._dead_letters = dead_letters
        self._inbox = Inbox(queue.max_records, queue.max_bytes, queue.overflow)
        self._given = 0
        self._in_flight = 0
        self._moving = 0
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
        except Exception as error:  # noqa: BLE001 - whatever a sink raises, the others go on
            report(f"sink {self.name} cannot start: {said(error)}")
            self._closed = True

    # On the worker's loop

    def begin(self, worker_linger_seconds: float) -> "asyncio.Task[None]":
        """Start delivering on the running loop; *worker_linger_seconds* were waited already."""
        self._loop = asyncio.get_running_loop()
        self._nudge = asyncio.Event()
        """Tells the sender that there is something to look at."""
        self._arrived = asyncio.Event()
        """Tells the same to the keeper."""
        self._disk = asyncio.Lock()
        self._standing_back = False
        self._progress = asyncio.Event()
        self._wait_seconds = max(0.0, self.linger_seconds - worker_linger_seconds)
        self._thread = SinkThread(self.name)
        self._sender.thread = self._thread
        if self._make_spool is not None and not self._closed:
            self._spool = self._spool or self._make_spool()
            self._spool_thread = SinkThread(f"{self.name}-spool")
        return self.go_on()

    def go_on(self) -> "asyncio.Task[None]":
        """Start delivering, or start again after a fault that ended the task."""
        return self._loop.create_task(self._run(), name=f"fapilog-{self.name}")

    @property
    def state(self) -> SinkState:
        """What is known of the sink."""
        return "closed" if self._closed else self._sender.state

    @property
    def room(self) -> tuple[int, int]:
        """How many records and bytes log calls may send on, so that they wait for a sink that works but is slow.

        An empty inbox takes all that the queue can hold. A sink that is stuck, down or spooling holds up nobody.
        """
        if self.state != "up" or self._spool is not None or not self._inbox:
            return NEVER, NEVER
        return self._inbox.max_records - len(self._inbox), self._inbox.max_bytes - self._inbox.bytes

    @property
    def has_room(self) -> bool:
        """Whether the inbox is half empty again, or will take nothing more in any case."""
        return not self._closed and 2 * self._inbox.bytes < self._inbox.max_bytes

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
        return len(self._inbox) + self._moving + self._in_flight

    def accept(self, items: list[Item]) -> None:
        """Take what the queue held, oldest first; leave out what the sink does not want or has no room for."""
        wanted = self._wanted(items)
        kept, evicted = self._inbox.fit(wanted)
        with self._queue.lock:
            self._given += len(items)
            self._routed_away += len(items) - len(wanted)
            if self._closed:
                self._drop("sink_closed", len(wanted))
                return
            lost = len(wanted) - len(kept) + evicted
            self._inbox.evict(evicted)
            self._inbox.extend(kept)
            if lost:
                self._drop("inbox_full", lost)
        if lost:
            report(f"sink {self.name} is too slow and records are dropped", key=f"inbox_full {self.name}")
        self._nudge.set()
        self._arrived.set()

    def lose(self, items: list[Item], reason: DropReason) -> None:
        """Count as lost what the queue held and the worker cannot hand out."""
        wanted = self._wanted(items)
        with self._queue.lock:
            self._given += len(items)
            self._routed_away += len(items) - len(wanted)
            if wanted:
                self._drop(reason, len(wanted))

    def _wanted(self, items: list[Item]) -> list[Item]:
        wanted = items if self.level <= TRACE else [item for item in items if item[0] >= self.level]
        if self.options.filter is not None:
            wanted = [item for item in wanted if self._passes(self.options.filter, item)]
        return wanted

    async def settle(self) -> None:
        """Return when nothing given so far is in memory alone: it was delivered, dropped, or is safe in the spool."""
        target = self._given
        self.hurry(1)
        try:
            while self._given - self.waiting < target and not self._closed:
                self._progress.clear()
                await self._progress.wait()
        finally:
            self.hurry(-1)

    def hurry(self, change: int) -> None:
        """Skip every linger while somebody waits."""
        self._hurried += change
        self._nudge.set()
        self._arrived.set()

    async def make_durable(self) -> bool:
        """Bring everything given so far to disk, sending or spooling it; return whether all of it is there."""
        lost = sum(self._dropped.values())
        if not (hasattr(self.sink, "flush") or self._spool is not None):
            return False
        await self.settle()
        synced = await self.sync() or (self._spool is not None and not self._closed)
        return synced and sum(self._dropped.values()) == lost

    async def sync(self) -> bool:
        """Make durable what the sink accepted, if it can; return whether it is."""
        flushing = getattr(self.sink, "flush", None)
        if flushing is None or self._closed:
            return False
        hit("sink.flush")
        try:
            await self._thread.call(flushing)
        except Exception as error:  # noqa: BLE001 - whatever a sink raises, the others go on
            report(f"sink {self.name} cannot flush: {said(error)}", key=f"flush {self.name}")
            return False
        return True

    async def deliver_here(self, seconds: float) -> None:
        """Bring what waits to disk or to the sink on the calling thread, where no other can be started."""
        if self._spool is not None:
            await self.save()
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.settle()
                    await self.sync()

    async def save(self) -> None:
        """Bring to the spool, if there is one, what is in memory alone. Nothing else of this delivery may run."""
        if self._spool is None or self._closed or not self._inbox:
            return
        with self._queue.lock:
            items = self._inbox.take(self._inbox.max_records, self._inbox.max_bytes)
            self._moving = len(items)
        try:
            await self._to_spool(items, in_flight=False)
        finally:
            self._give_back_moving(items)

    def give_up(self, reason: DropReason) -> None:
        """Take nothing more, and count as lost what is in memory alone."""
        with self._queue.lock:
            self._ambiguous += self._in_flight
            self._close_inbox(reason)
            if self._in_flight:
                self._drop(reason, self._in_flight)
                self._in_flight = 0

    async def end(self) -> None:
        """Close the sink and the spool."""
        try:
            if self._spool is not None:
                await self._on_disk(self._spool.close)
            await self._thread.call(self.sink.close)
        except Exception as error:  # noqa: BLE001 - as above
            report(f"sink {self.name} cannot close: {said(error)}", key=f"close {self.name}")
        finally:  # also when a stuck sink used up the time for this
            self.stop()

    def stop(self) -> None:
        """Let the threads end."""
        self._thread.stop()
        if self._spool_thread is not None:
            self._spool_thread.stop()

    def stats(self) -> SinkStats:
        """Return the counters; the queue's lock must be held."""
        queue = self._queue
        on_the_way = queue.taken - queue.evicted - self._given
        dropped = Counter(self._dropped)
        dropped["evicted"] += queue.evicted
        return SinkStats(
            state=self.state,
            accepted=queue.accepted,
            adopted=self._adopted,
            routed_away=self._routed_away,
            delivered=self._delivered,
            queued=len(queue.items) + on_the_way + len(self._inbox) + self._moving,
            in_flight=self._in_flight,
            spooled=self._spooled,
            spooled_bytes=self._spooled_bytes,
            spool_oldest_ns=self._spool_oldest_ns,
            ambiguous=self._ambiguous,
            retries=self._retries,
            delays=self._sender.delays,
            inbox_bytes=self._inbox.bytes,
            dropped={reason: count for reason, count in dropped.items() if count},
        )

    # The sender, and the keeper of what cannot be sent

    async def _run(self) -> None:
        """Send, for ever. With a spool, a second task brings to disk what has to wait."""
        keeper = self._loop.create_task(self._keep()) if self._spool is not None else None
        try:
            if self._spool is not None and not self._has_looked:
                self._has_looked = True
                await self._adopt()
            while True:
                try:
                    await self._round()
                except Exception as error:  # noqa: BLE001 - a fault of ours must not end the delivery
                    report(f"the delivery to {self.name} failed and goes on: {said(error)}", key=f"run {self.name}")
                    await asyncio.sleep(_HURRIED_DELAY_SECONDS)
                self._progress.set()
        finally:
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait({keeper})

    async def _round(self) -> None:
        """Send one batch: from the spool while it holds anything, else from the inbox."""
        error: Exception | None = None
        if self._spooled:
            error = await self._send_spooled()
        elif not self._inbox or self._moving:
            self._nudge.clear()
            await self._nudge.wait()
            if not self._moving:
                await self._linger()
        else:
            with self._queue.lock:
                items = self._inbox.take(self.options.batch_max_records, self.options.batch_max_bytes)
                self._in_flight = len(items)
            try:
                error = await self._send(items)
            finally:  # also when a fault of ours, or the end, cuts this short
                with self._queue.lock:
                    self._inbox.give_back(items[len(items) - self._in_flight :])
                    self._in_flight = 0
        if self._sender.state == "closed":
            self._close_inbox("sink_closed")
        elif error is not None:
            await self._stand_back(error)

    async def _send(self, items: list[Item]) -> Exception | None:
        """Send records that are in memory; return why some have to stay there. Those are the last `_in_flight`."""
        attempt = asyncio.ensure_future(self._sender.send(Batch(items)))
        try:
            if self._spool is not None:
                done, _ = await asyncio.wait({attempt}, timeout=SPOOL_AFTER_SECONDS)
                if not done and await self._to_spool(items, in_flight=True):
                    # On disk now, whatever comes of the attempt; if it succeeds after all they are acknowledged there.
                    return await self._settle_spooled(await attempt)
            outcome = await attempt
        except asyncio.CancelledError:
            self._cut(attempt, len(items))
            raise
        rest = items[outcome.processed :]
        with self._queue.lock:
            if self._closed:  # too late, as in `_append`
                return outcome.error
            self._in_flight = len(rest)
            self._count(outcome)
        await self._bury(outcome)
        if rest and self._spool is not None:
            await self._to_spool(rest, in_flight=True)
        return outcome.error

    async def _send_spooled(self) -> Exception | None:
        items = await self._on_disk(self._read)
        if not items:
            return None
        attempt = asyncio.ensure_future(self._sender.send(Batch(items)))
        try:
            return await self._settle_spooled(await attempt)
        except asyncio.CancelledError:
            self._cut(attempt, len(items))
            raise

    def _cut(self, attempt: "asyncio.Future[Outcome]", count: int) -> None:
        """End an attempt that has not answered: each of its records may be there."""
        if not attempt.done():
            attempt.cancel()
            with self._queue.lock:
                self._ambiguous += count

    async def _settle_spooled(self, outcome: Outcome) -> Exception | None:
        """Acknowledge in the spool what an attempt has processed, then count it; return why it stopped, if it did."""
        await self._bury(outcome)
        await self._on_disk(self._acknowledge, outcome)
        return outcome.error

    async def _keep(self) -> None:
        """Bring what arrives to disk while it cannot be sent: behind what is there, or because the sink failed."""
        while True:
            try:
                await self._keep_arrivals()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end the keeping
                report(f"the spooling for {self.name} failed and goes on: {said(error)}", key=f"keep {self.name}")
                await asyncio.sleep(_HURRIED_DELAY_SECONDS)

    async def _keep_arrivals(self) -> None:
        while True:
            self._arrived.clear()
            if self._inbox and (self._spooled or self._standing_back) and not self._closed:
                if not self._hurried:
                    await asyncio.sleep(SPOOL_AFTER_SECONDS)
                with self._queue.lock:
                    items = self._inbox.take(self._inbox.max_records, self._inbox.max_bytes)
                    self._moving = len(items)
                kept = False
                try:
                    kept = await self._to_spool(items, in_flight=False)
                finally:
                    self._give_back_moving(items)
                self._progress.set()
                self._nudge.set()
                if not kept:
                    await asyncio.sleep(SPOOL_AFTER_SECONDS)
            else:
                await self._arrived.wait()

    def _give_back_moving(self, items: list[Item]) -> None:
        """Put back into the inbox what was to be spooled and was not."""
        with self._queue.lock:
            if self._moving:
                self._moving = 0
                self._inbox.give_back(items)

    async def _to_spool(self, items: list[Item], *, in_flight: bool) -> bool:
        """Append records to the spool and fsync them; return whether they are there, and no longer in memory alone."""
        try:
            await self._on_disk(self._append, items, in_flight)
        except (OSError, ConfigurationError) as error:
            report(f"sink {self.name} cannot spool: {said(error)}", key=f"spool {self.name}")
            return False
        return True

    async def _adopt(self) -> None:
        """Take over what processes that died have left for this sink."""
        try:
            await self._on_disk(self._take_over)
        except (OSError, ConfigurationError) as error:
            report(f"sink {self.name} cannot look at its spool: {said(error)}", key=f"spool {self.name}")

    async def _bury(self, outcome: Outcome) -> None:
        """Keep what no far end will take where a person can look at it."""
        if outcome.dead and self._dead_letters is not None and self._spool_thread is not None:
            try:
                await self._on_disk(self._dead_letters.append, outcome.dead)
            except OSError as error:
                report(f"sink {self.name} cannot keep dead letters: {said(error)}", key=f"dead {self.name}")

    async def _on_disk(self, function: Callable[..., Any], *args: Any) -> Any:
        assert self._spool_thread is not None  # noqa: S101 - only asked for with a spool
        async with self._disk:
            call = self._spool_thread.call(function, *args)
            try:
                return await asyncio.shield(call)
            except asyncio.CancelledError:
                await asyncio.wait({call})  # it cannot be undone, and what it did must be known
                call.cancelled() or call.exception()
                raise

    # On the spool's thread, one at a time; its figures are read before the lock is taken, for that may read the disk

    def _append(self, items: list[Item], in_flight: bool) -> None:
        assert self._spool is not None  # noqa: S101 - as above
        self._spool.append(items)
        self._spool.sync()
        stats = self._spool.stats()
        with self._queue.lock:
            if self._closed:  # too late: they have been counted as lost
                return
            if in_flight:
                self._in_flight = 0
            else:
                self._moving = 0
            self._carry_over(stats)

    def _acknowledge(self, outcome: Outcome) -> None:
        assert self._spool is not None  # noqa: S101 - as above
        still_there = self._spool.acknowledge(outcome.processed)
        stats = self._spool.stats()
        with self._queue.lock:
            # What the spool gave up meanwhile, to make room, is counted there though it was sent.
            self._delivered -= outcome.processed - still_there
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
        records = self._spool.read(self.options.batch_max_records, self.options.batch_max_bytes)
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
        self._spooled = stats.records
        self._spooled_bytes = stats.size_bytes
        self._spool_oldest_ns = stats.oldest_timestamp_ns

    def _close_inbox(self, reason: DropReason) -> None:
        with self._queue.lock:
            self._closed = True
            left = self._inbox.clear() + self._moving
            self._moving = 0
            if left:
                self._drop(reason, left)

    def _count(self, outcome: Outcome) -> None:
        self._delivered += outcome.delivered
        self._ambiguous += outcome.in_doubt
        for reason, count in outcome.dropped.items():
            self._drop(reason, count)

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
            if len(self._inbox) >= self.options.batch_max_records or self._inbox.bytes >= self.options.batch_max_bytes:
                return
            self._nudge.clear()
            await wait_for_event(self._nudge, left)

    def _drop(self, reason: DropReason, count: int) -> None:
        self._dropped[reason] += count
        self.summary.note(reason, count)

    def _passes(self, wanted: Callable[[dict[str, Any]], bool], item: Item) -> bool:
        try:
            return bool(wanted(orjson.loads(item[2])))
        except Exception as error:  # noqa: BLE001 - a filter that fails must not cost the record
            report(f"the filter of sink {self.name} failed and lets the record pass: {said(error)}")
            return True


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
