"""The vocabulary: what a level, an event, a record, a batch, a processor and a sink are."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

TRACE: Final = 5
DEBUG: Final = 10
INFO: Final = 20
SUCCESS: Final = 25
WARNING: Final = 30
ERROR: Final = 40
CRITICAL: Final = 50

LEVELS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "trace": TRACE,
        "debug": DEBUG,
        "info": INFO,
        "success": SUCCESS,
        "warning": WARNING,
        "error": ERROR,
        "critical": CRITICAL,
    }
)
"""Every level by name, lowest first. The numbers are the standard library's, with loguru's two in between."""

LEVEL_NAMES: Final[Mapping[int, str]] = MappingProxyType({number: name for name, number in LEVELS.items()})
LEVEL_ALIASES: Final[Mapping[str, str]] = MappingProxyType({"warn": "warning", "fatal": "critical"})


def nearest_level(level: int) -> int:
    """Return the highest of `LEVELS` that is not above *level*, or the lowest of all."""
    return level if level in LEVEL_NAMES else max([number for number in LEVEL_NAMES if number < level], default=TRACE)


RESERVED_FIELDS: Final = frozenset(
    {"timestamp", "level", "event", "logger", "id", "service", "env", "version", "host", "pid"}
)
"""Fields only fapilog sets. A user's field of that name is kept with ``_`` appended."""

RELATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cause": "The above exception was the direct cause of the following exception:",
        "context": "During handling of the above exception, another exception occurred:",
    }
)
"""What the ``relation`` of a cause says of it and of the exception that it led to, in Python's own words."""

Event: TypeAlias = dict[str, Any]
"""What processors see: the event text under ``event`` and every field, before encoding."""

Processor: TypeAlias = Callable[[Any, str, Event], Event]
"""structlog's protocol: `(logger, method_name, event)` returns the event, or raises `structlog.DropEvent`."""


class Record(NamedTuple):
    """One log record, encoded. It can no longer change."""

    level: int
    """Severity, one of `LEVELS`."""

    timestamp_ns: int
    """When it was logged, in nanoseconds since the epoch."""

    line: bytes
    """The record as one line of JSON in UTF-8, ending in a newline."""


class Batch(Sequence[Record]):
    """Records for one sink, oldest first. It cannot be changed, so no sink can harm another's."""

    __slots__ = ("_records",)

    def __init__(self, records: Sequence[tuple[int, int, bytes]]) -> None:
        """Take `(level, timestamp_ns, line)` tuples, or `Record`s, which are the same."""
        self._records = tuple(records)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return map(Record._make, self._records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Batch(self._records[index])
        return Record._make(self._records[index])

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} records, {self.size_bytes} bytes>"

    @property
    def size_bytes(self) -> int:
        """Length of all lines together, in bytes."""
        return sum([len(record[2]) for record in self._records])

    @property
    def timestamps_ns(self) -> list[int]:
        """When each was logged, in nanoseconds since the epoch."""
        return [record[1] for record in self._records]

    @property
    def lines(self) -> list[bytes]:
        """The encoded lines, each ending in a newline."""
        return [record[2] for record in self._records]

    @property
    def payload(self) -> bytes:
        """All lines as one block of bytes, for a sink that writes them as they are."""
        return b"".join([record[2] for record in self._records])


class Sink(Protocol):
    """Somewhere finished records go.

    A sink never buffers, retries, locks or filters: the pipeline hands it one batch at a time, in order, and does
    the waiting. When `write` returns, the batch is delivered; when it raises, none of it is, unless the error says
    which part.

    `write` may be a coroutine function, which runs on the worker's event loop and must not block it, or a plain
    function, which gets a thread of its own. `close` likewise. A sink may also have:

    * ``open(self) -> None``: make sure it can work, called before the first record of a process and again in a
      forked child; it raises `OSError` or `ConfigurationError` if the sink cannot start;
    * ``start(self) -> None``: make the threads it needs, called after `open` and just before the worker starts: at
      the interpreter's end none can be made;
    * ``flush(self) -> None``: make durable (fsync) what `write` accepted;
    * ``unformatted``: how many records it wrote in another form than it was asked to.
    """

    def write(self, batch: Batch, /) -> Awaitable[None] | None:
        """Deliver *batch*, or raise a `fapilog.errors.DeliveryError`; an `OSError` counts as a `RetryableError`."""

    def close(self) -> Awaitable[None] | None:
        """Release what the sink holds. Safe to call twice."""
