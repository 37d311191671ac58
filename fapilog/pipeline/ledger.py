"""What became of every record: exact integers, read in one consistent snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fapilog.diagnostics import DropReason

SinkState: TypeAlias = Literal["up", "retrying", "closed"]


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The records of one sink. At every moment `accepted` is the sum of the other numbers."""

    state: SinkState
    accepted: int
    """Admitted to the queue."""

    routed_away: int
    """Not wanted by this sink: below its level."""

    delivered: int
    queued: int
    """Waiting: in the queue, or in this sink's inbox."""

    in_flight: int
    """Handed to the sink, which has not answered yet."""

    dropped: Mapping[DropReason, int]

    @property
    def balanced(self) -> bool:
        """Whether every accepted record is somewhere."""
        known = self.routed_away + self.delivered + self.queued + self.in_flight + sum(self.dropped.values())
        return known == self.accepted


@dataclass(frozen=True, slots=True)
class Stats:
    """One snapshot of the whole pipeline."""

    instance: str
    """Who writes: the first part of every record's ``id``."""

    accepted: int
    """Admitted to the queue and numbered."""

    filtered: Mapping[str, int]
    """Taken out on purpose, by a processor."""

    dropped: Mapping[DropReason, int]
    """Refused at the door, before a number was given."""

    queue_records: int
    queue_bytes: int
    sinks: Mapping[str, SinkStats]

    @property
    def lost(self) -> int:
        """How many times a record did not reach a sink that wanted it; a sink that has closed wants none."""
        return sum(self.dropped.values()) + sum(
            count for sink in self.sinks.values() for reason, count in sink.dropped.items() if reason != "sink_closed"
        )


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What a flush achieved, by sink."""

    pending: Mapping[str, int]
    """How many of the records accepted before the flush are still on their way to each sink; 0 means delivered."""

    @property
    def ok(self) -> bool:
        """Whether everything accepted before the flush was delivered or accounted for."""
        return not any(self.pending.values())
