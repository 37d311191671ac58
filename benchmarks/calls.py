"""Time single log calls: what the thread that logs waits for, and how bad the worst of them are."""

import argparse
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

from benchmarks.contestants import CONTESTANTS, OURS
from benchmarks.measure import percentile
from benchmarks.turns import Player, serve, take_turns


def compare(peer: str, *, calls: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the percentiles of both over all rounds, in microseconds."""
    number = f"--calls={calls}"
    with Player("benchmarks.calls", OURS, number) as ours, Player("benchmarks.calls", peer, number) as theirs:
        played = take_turns(ours, theirs, rounds)
    return {
        OURS: summary(sorted(chain.from_iterable(ours for ours, _ in played))),
        peer: summary(sorted(chain.from_iterable(theirs for _, theirs in played))),
    }


def summary(ordered: list[float]) -> dict[str, float]:
    """Return mean and percentiles of ordered nanoseconds in microseconds."""
    return {
        "mean_us": sum(ordered) / len(ordered) / 1e3,
        "p50_us": percentile(ordered, 0.50) / 1e3,
        "p99_us": percentile(ordered, 0.99) / 1e3,
        "p999_us": percentile(ordered, 0.999) / 1e3,
        "max_us": ordered[-1] / 1e3,
    }


def play(name: str, calls: int) -> list[int]:
    """Return how long each call took, in nanoseconds, the clock included."""
    clock = time.perf_counter_ns
    taken = [0] * calls
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as directory,
        CONTESTANTS[name](Path(directory) / "log") as job,
    ):
        one = job.one
        for i in range(2_000):
            one(i)
        job.finish()
        for i in range(calls):
            began = clock()
            one(i)
            taken[i] = clock() - began
        job.finish()
    return taken


def main() -> int:
    """Play rounds of one contestant when asked on stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--calls", type=int, default=30_000)
    arguments = parser.parse_args()
    return serve(lambda: play(arguments.contestant, arguments.calls))


if __name__ == "__main__":
    sys.exit(main())
