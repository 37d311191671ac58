"""A service whose one sink writes to a far end that misbehaves."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fapilog import configure_logging, log
from fapilog.pipeline.ledger import SinkStats
from fapilog.runtime import Handle

QUICK: dict[str, Any] = {
    "linger_seconds": 0.02,
    "timeout_seconds": 0.4,
    "circuit_breaker_threshold": 3,
    "circuit_breaker_timeout_seconds": 0.4,
}


@contextmanager
def service(sink: str, spool: Path, /, **options: Any) -> Iterator[Handle]:
    """Log to a sink of that type; at the end the account is exact."""
    with configure_logging(
        sinks=[{"type": sink, **QUICK, **options}], spool_path=spool, access_log=False, shutdown_timeout_seconds=2
    ) as handle:
        yield handle
    stats = figures(handle)
    assert stats.balanced
    assert (stats.queued, stats.in_flight) == (0, 0)


def figures(handle: Handle) -> SinkStats:
    """Return the figures of the one sink."""
    (stats,) = handle.stats().sinks.values()
    return stats


def wait(handle: Handle, is_so: Callable[[SinkStats], Any], seconds: float = 30.0) -> SinkStats:
    """Wait until its figures are as asked; at every moment they are balanced."""
    until = time.monotonic() + seconds
    while not is_so(stats := figures(handle)):
        assert time.monotonic() < until, stats
        assert stats.balanced, stats
        time.sleep(0.01)
    return stats


def say(count: int, first: int = 1, **fields: Any) -> None:
    """Log so many records, numbered from *first* on."""
    for number in range(first, first + count):
        log.info("order", number=number, **fields)
