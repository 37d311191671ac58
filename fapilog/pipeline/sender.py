"""Hand a batch to a sink: in time, in parts where it must be, and say what became of each record."""

import asyncio
import inspect
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fapilog.diagnostics import DropReason, report
from fapilog.errors import BatchRejectedError, BatchTooLargeError, MisconfiguredError, RetryableError, SinkClosedError
from fapilog.failpoints import sabotaged
from fapilog.pipeline.ledger import Delays, SinkState
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.threads import SinkThread, said
from fapilog.types import Batch, Record, Sink

STALLED_AFTER_SECONDS: Final = 1.0
FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0


@dataclass
class Outcome:
    """What became of a batch: its first `processed` records are done with, the rest is as it was."""

    delivered: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    dead: list[Record] = field(default_factory=list)
    error: Exception | None = None
    """Why it stopped before the end; None if it did not."""

    in_doubt: int = 0
    """How many of the rest were sent without an answer, and may be there."""

    @property
    def processed(self) -> int:
        """How many records, counted from the oldest, are delivered or dropped."""
        return self.delivered + sum(self.dropped.values())

    def drop(self, records: Sequence[Record], reason: DropReason) -> None:
        """Give up on *records*."""
        self.dropped[reason] += len(records)
        self.dead += records


class Sender:
    """One sink and what is known of its far end: up, or down after so many failures."""

    thread: SinkThread
    """Where the sink runs; set when the worker begins."""

    def __init__(self, name: str, sink: Sink, options: DeliveryOptions) -> None:
        """Send through *sink*."""
        self.name = name
        self.state: SinkState = "up"
        self.delays = Delays()
        self.failures = 0
        """How often in a row it has failed, whichever batch it was."""
        self._tries = 0
        """How often the oldest batch has failed."""
        self._again: int | None = None
        """How many records that batch has; None if it has not failed."""
        self.write = sabotaged(sink.write)
        self._options = options
        self._coroutine = inspect.iscoroutinefunction(sink.write)

    @property
    def max_records(self) -> int:
        """How many records the next batch may have: one that failed is sent again as it was.

        Then a far end that may have it already can tell that it is the same.
        """
        return self._again or self._options.batch_max_records

    async def send(self, batch: Batch, failed: Exception | None = None) -> Outcome:
        """Write a batch, in parts if it must be; never raises.

        If the sink was given the batch already and raised *failed*, it is not asked again before that is heeded.
        """
        outcome = Outcome()
        parts = deque([batch])
        while parts:
            part = parts.popleft()
            try:
                await self._write(part, failed if part is batch else None)
            except BatchTooLargeError as error:
                self._split(part, parts, outcome, "too_large", error)
            except BatchRejectedError as error:
                if error.rejected is None:
                    self._split(part, parts, outcome, "rejected", error)
                else:
                    bad = [record for at, record in enumerate(part) if at in set(error.rejected)]
                    report(f"sink {self.name} rejected {len(bad)} records: {error}", key=f"rejected {self.name}")
                    outcome.drop(bad, "rejected")
                    outcome.delivered += len(part) - len(bad)
            except SinkClosedError:
                self.state = "closed"
                outcome.dropped["sink_closed"] += len(part) + sum(len(other) for other in parts)
                return outcome
            except (RetryableError, OSError) as error:
                outcome.error = error
                outcome.in_doubt = len(part) if getattr(error, "ambiguous", False) else 0
                self._tries += 1
                self._again = len(part)
                limit = self._options.max_retry_attempts
                if limit is not None and self._tries > limit:
                    report(f"sink {self.name} gave up on {len(part)} records: {said(error)}")
                    outcome.drop(list(part), "retries_exhausted")
                    self._forget()
                return outcome
            except Exception as error:  # noqa: BLE001 - whatever a sink raises, the others go on
                report(f"sink {self.name} lost {len(part)} records: {said(error)}", key=f"sink_error {self.name}")
                outcome.drop(list(part), "sink_error")
            else:
                outcome.delivered += len(part)
                self.succeed(part)
            self.failures = 0
            self._forget()
            self.state = "up"
        return outcome

    def succeed(self, batch: Batch) -> None:
        """Take note of a batch that was delivered."""
        self.delays = self.delays.observe(max(0.0, (time.time_ns() - batch[0].timestamp_ns) / 1e9))
        self.failures = 0
        self._forget()
        self.state = "up"

    def stall(self) -> None:
        """Take note of a `write` that blocks its thread, and name the sink."""
        self.state = "stalled"
        report(f"sink {self.name} is stuck in write(); its records wait", key=f"stalled {self.name}")

    async def _write(self, batch: Batch, failed: Exception | None) -> None:
        """Hand a batch to the sink: a coroutine within its time, a plain function however long it takes.

        One that blocks its thread is named. A coroutine that only waits for its far end does not.
        """
        if failed is not None:
            raise failed
        call = self.thread.call(self.write, batch)
        try:
            async with asyncio.timeout(self._options.write_timeout_seconds if self._coroutine else None) as limit:
                done, _ = await asyncio.wait({call}, timeout=STALLED_AFTER_SECONDS)
                if not done and not (self._coroutine and await self.thread.responds(call)):
                    self.stall()
                await call
        except TimeoutError as error:
            if not limit.expired():
                raise
            what = f"no answer within {self._options.write_timeout_seconds:g} s"
            raise RetryableError(what, ambiguous=True) from error
        finally:
            call.cancel()  # nobody waits for it any more

    def _split(self, part: Batch, parts: deque[Batch], outcome: Outcome, reason: DropReason, error: Exception) -> None:
        """Halve what was refused as a whole, until the culprit is alone."""
        if len(part) == 1:
            report(f"sink {self.name} does not take a record: {error}", key=f"{reason} {self.name}")
            outcome.drop(list(part), reason)
        else:
            middle = len(part) // 2
            parts.extendleft((part[middle:], part[:middle]))

    def _forget(self) -> None:
        """Begin with another batch."""
        self._tries = 0
        self._again = None

    def fail(self, error: Exception) -> None:
        """Count a failure; after enough of them in a row, or where somebody has to mend something, the sink is down."""
        self.failures += 1
        if self.failures >= self._options.circuit_breaker_threshold or isinstance(error, MisconfiguredError):
            self.state = "down"
        report(
            f"sink {self.name} {'is down' if self.state == 'down' else 'failed'}, to be tried again: {said(error)}",
            key=f"retry {self.name}",
        )

    def delay_seconds(self, error: Exception, chance: float) -> float:
        """Return how long to leave the sink alone after *error*; *chance*, from 0 to 1, keeps processes apart."""
        if self.state == "down":
            delay = self._options.circuit_breaker_timeout_seconds * (0.5 + 0.5 * chance)
        else:
            delay = chance * min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (self.failures - 1))
        return max(delay, getattr(error, "retry_after_seconds", None) or 0.0)
