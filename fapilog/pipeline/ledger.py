"""What became of every record: exact integers, read in one consistent snapshot."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from fapilog.diagnostics import DropReason

SinkState: TypeAlias = Literal["up", "down", "stalled", "closed"]

DELAY_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Upper bounds of the delivery delay histogram, in seconds; what is above the last counts in one more."""


class DropSummary:
    """What was dropped since it was last told, so that one record can tell it."""

    def __init__(self) -> None:
        self.counts: Counter[DropReason] = Counter()
        self.first_ns = 0
        self.last_ns = 0

    def note(self, reason: DropReason, count: int) -> None:
        """Add *count* records, dropped now."""
        self.last_ns = time.time_ns()
        if not self.counts:
            self.first_ns = self.last_ns
        self.counts[reason] += count

    def take(self) -> tuple[dict[DropReason, int], int, int]:
        """Return counts by reason and when the first and the last was, and begin anew; the pipeline's lock is held."""
        taken = dict(self.counts), self.first_ns, self.last_ns
        self.counts.clear()
        return taken


@dataclass(frozen=True, slots=True)
class Delays:
    """How long records were on their way, from the log call to the sink's answer: one observation for each batch."""

    counts: tuple[int, ...] = (0,) * (len(DELAY_BUCKETS) + 1)
    """Batches per bucket of `DELAY_BUCKETS`, not cumulative."""

    total_seconds: float = 0.0
    """The sum of all observations."""

    def observe(self, seconds: float) -> "Delays":
        """Return these delays with one more."""
        at = bisect_left(DELAY_BUCKETS, seconds)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return Delays(counts, self.total_seconds + seconds)


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The records of one sink. At every moment `accepted` and `adopted` are the sum of what became of them."""

    state: SinkState
    """Up; down: it failed often and is probed now and then; stalled: it does not return; closed: for good."""

    accepted: int
    """Admitted to the queue."""

    routed_away: int
    """Not wanted by this sink: below its level, or refused by its filter."""

    delivered: int
    queued: int
    """Waiting: in the queue, or in this sink's inbox."""

    in_flight: int
    """Handed to the sink, which has not answered yet."""

    dropped: Mapping[DropReason, int]
    inbox_bytes: int = 0
    """Size of the records in this sink's inbox, which has the bounds of the queue."""

    adopted: int = 0
    """Taken over from the spools of processes that died."""

    spooled: int = 0
    """On disk, waiting for the far end; one that is being sent from there is among them."""

    spooled_bytes: int = 0
    spool_oldest_ns: int | None = None
    """When the oldest spooled record was logged, in nanoseconds since the epoch; None if none is spooled."""

    ambiguous: int = 0
    """Records sent without an answer, counted each time: each may be at the far end once more than it should."""

    retries: int = 0
    """Batches tried again."""

    unformatted: int = 0
    """Records written as JSON because the sink's format could not hold them."""

    label_capped: int = 0
    """Records sent with ``__other__`` for a label, since there were too many values of it, or too many streams."""

    delays: Delays = field(default_factory=Delays)

    @property
    def balanced(self) -> bool:
        """Whether every record is somewhere, once."""
        known = self.routed_away + self.delivered + self.queued + self.in_flight + self.spooled
        return known + sum(self.dropped.values()) == self.accepted + self.adopted


@dataclass(frozen=True, slots=True)
class Stats:
    """One snapshot of the whole pipeline."""

    instance: str
    """Who writes: the first part of every record's ``id``."""

    accepted: int
    """Admitted to the queue and numbered."""

    filtered: Mapping[str, int]
    """Taken out on purpose, by reason."""

    dropped: Mapping[DropReason, int]
    """Refused at the door, before a number was given."""

    queue_records: int
    queue_bytes: int
    sinks: Mapping[str, SinkStats]
    queue_max_records: int = 0
    queue_max_bytes: int = 0
    worker_restarts: int = 0
    """How often the worker failed and went on."""

    trace_invalid: int = 0
    """Requests whose `traceparent` or `tracestate` was none, and was ignored."""

    failures: Mapping[str, int] = field(default_factory=dict)
    """Code of the user's that raised while a record was made, by what it was; the record was kept."""

    schema_mismatches: int = 0
    """Records that did not fit the schema of their event, and were kept."""

    redacted: Mapping[str, int] = field(default_factory=dict)
    """How often something was taken out of a record, by the rule that did."""

    late_direct: int = 0
    """Logged when the pipeline had ended, or could not go on, and written straight to stderr."""

    @property
    def lost(self) -> int:
        """How many times a record did not reach a sink that wanted it; a sink that has closed wants none."""
        return sum(self.dropped.values()) + sum(
            count for sink in self.sinks.values() for reason, count in sink.dropped.items() if reason != "sink_closed"
        )


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """The figures of one spool. At every moment `taken_in` is the sum of `delivered`, `dropped` and `records`."""

    records: int
    """Waiting on disk."""

    size_bytes: int
    """The size of all segments on disk."""

    oldest_timestamp_ns: int | None
    """When the oldest waiting record was logged."""

    taken_in: int
    """Appended or adopted."""

    adopted: Mapping[str, int]
    """Taken over from dead processes, by the name of their directory; part of `taken_in`."""

    delivered: int
    dropped: Mapping[DropReason, int]


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What a flush achieved, by sink."""

    pending: Mapping[str, int]
    """How many of the records accepted before the flush are still on their way to each sink; 0 means that all were
    delivered, spooled and fsynced, or counted as dropped."""

    spooled: Mapping[str, int] = field(default_factory=dict)
    """How many records wait on disk for each sink whose far end is down."""

    @property
    def ok(self) -> bool:
        """Whether nothing accepted before the flush is in memory alone."""
        return not any(self.pending.values())
