"""How many coloured records for a person one thread writes, against structlog's `ConsoleRenderer` with the same fields.

Run it with ``python -m benchmarks.console``. Two processes take turns, round by round; each logs the same event with
five keywords to a file, until it is there. Exceptions are left out: both draw those with rich, which is what costs.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import timed
from benchmarks.turns import Player, serve, take_turns

RECORDS = 20_000
ROUNDS = 9


def log(info: Callable[..., Any], records: int) -> None:
    """Log that many records."""
    for i in range(records):
        info("order placed", order_id=i, sku="tea", quantity=2, price=12.5, express=True)


def ours(path: Path, records: int) -> float:
    """Return how many records a second fapilog writes to a file at *path*."""
    import fapilog

    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with fapilog.configure_logging(sinks=[{"type": "stdout", "fd": fd, "format": "pretty"}]) as handle:
            info = fapilog.get_logger("bench").info

            def work() -> None:
                log(info, records)
                handle.flush(60, durable=False)

            return records / timed(work)
    finally:
        os.close(fd)


def theirs(path: Path, records: int) -> float:
    """Return how many structlog writes, as set up in its own documentation for a console."""
    import structlog

    with path.open("w") as file:
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper("%H:%M:%S.%f", utc=False),
                structlog.dev.ConsoleRenderer(colors=True),
            ],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            logger_factory=structlog.PrintLoggerFactory(file),
            cache_logger_on_first_use=False,
        )
        info = structlog.get_logger("bench").bind().info
        return records / timed(lambda: log(info, records))


def play(side: Callable[[Path, int], float], records: int) -> float:
    """Play one round, and see that every record is there."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "console"
        took = side(path, records)
        written = path.read_bytes()
    assert written.count(b"\n") == records, f"not {records} records are in the file"
    assert written.count(b"\x1b[") > records
    return took


def compare(records: int = RECORDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Let the two take turns, and return records a second of each and the ratios round by round."""
    module = "benchmarks.console"
    with Player(module, "ours", str(records)) as one, Player(module, "theirs", str(records)) as two:
        turns = take_turns(one, two, rounds)
    return {
        "ours": statistics.median(first for first, _ in turns),
        "theirs": statistics.median(second for _, second in turns),
        "ratios": sorted(first / second for first, second in turns),
    }


def main() -> int:
    """Be a contestant if asked to; else let two take turns and print what they gave."""
    if len(sys.argv) > 1:
        os.environ["FORCE_COLOR"] = "1"
        os.environ.pop("NO_COLOR", None)
        side, records = {"ours": ours, "theirs": theirs}[sys.argv[1]], int(sys.argv[2])
        return serve(lambda: play(side, records))
    found = compare()
    ratios = found["ratios"]
    print(f"records a second, medians of {len(ratios)} rounds of {RECORDS:,}")
    print(f"  fapilog, format pretty       {found['ours']:>10,.0f}")
    print(f"  structlog, ConsoleRenderer   {found['theirs']:>10,.0f}")
    print(f"  fapilog writes {statistics.median(ratios):.2f} times as many ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
