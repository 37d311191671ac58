"""Time single log calls: what the thread that logs waits for, and how bad the worst of them are."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.contestants import Contestant, fapilog, structlog_bare
from benchmarks.measure import percentile


def latencies(contestant: Contestant, calls: int) -> list[float]:
    """Return how long each call took, in microseconds, the clock included."""
    clock = time.perf_counter_ns
    taken = [0] * calls
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory, contestant(Path(directory) / "log") as job:
        one = job.one
        for i in range(2_000):
            one(i)
        job.finish()
        for i in range(calls):
            began = clock()
            one(i)
            taken[i] = clock() - began
        job.finish()
    return [each / 1e3 for each in taken]


def main() -> int:
    """Time fapilog and bare structlog in turns and print their percentiles as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"fapilog": [], "structlog + orjson, bare": []}
    for number in range(arguments.rounds):
        turns = [("fapilog", fapilog), ("structlog + orjson, bare", structlog_bare)]
        for name, contestant in turns if number % 2 else reversed(turns):
            found[name] += latencies(contestant, arguments.calls)
    summary = {}
    for name, taken in found.items():
        ordered = sorted(taken)
        summary[name] = {
            "mean_us": sum(ordered) / len(ordered),
            "p50_us": percentile(ordered, 0.50),
            "p99_us": percentile(ordered, 0.99),
            "p999_us": percentile(ordered, 0.999),
            "max_us": ordered[-1],
        }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
