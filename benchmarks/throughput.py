"""Log many records to a file and wait until all of them are in it; fapilog and a peer take turns."""

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contestants import CONTESTANTS, OURS
from benchmarks.measure import Spread, timed
from benchmarks.turns import Player, serve, take_turns

WARM_UP: int = 2_000


def compare(peer: str, *, records: int, rounds: int) -> dict[str, Any]:
    """Return medians and spreads of both, in microseconds a record, and how many times as long the peer took."""
    number = f"--records={records}"
    with (
        Player("benchmarks.throughput", OURS, number) as ours,
        Player("benchmarks.throughput", peer, number) as theirs,
    ):
        played = take_turns(ours, theirs, rounds)
    ratios = [their["total_us"] / our["total_us"] for our, their in played]
    return {
        "ours_us": asdict(Spread.of([our["total_us"] for our, _ in played])),
        "theirs_us": asdict(Spread.of([their["total_us"] for _, their in played])),
        "ours_caller_us": asdict(Spread.of([our["caller_us"] for our, _ in played])),
        "theirs_caller_us": asdict(Spread.of([their["caller_us"] for _, their in played])),
        "ratio": asdict(Spread.of(ratios)),
        "ratios": ratios,
    }


def play(name: str, records: int) -> dict[str, float]:
    """Set a contestant up, warm it up, and time it.

    Returns:
        Microseconds a record: ``caller_us`` until the last call returned, ``total_us`` until all was in the file.

    Raises:
        AssertionError: Some records are not in its file; then its time means nothing.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        path = Path(directory) / "log.jsonl"
        with CONTESTANTS[name](path) as job:
            job.log(WARM_UP)
            job.finish()
            returned = 0.0

            def work() -> None:
                nonlocal returned
                began = time.perf_counter()
                job.log(records)
                returned = time.perf_counter() - began
                job.finish()

            total = timed(work)
            written = path.read_bytes().count(b"\n")
        assert written == records + WARM_UP, f"{written} of {records + WARM_UP} records are in the file"
    return {"caller_us": returned / records * 1e6, "total_us": total / records * 1e6}


def main() -> int:
    """Play rounds of one contestant when asked on stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--records", type=int, default=50_000)
    arguments = parser.parse_args()
    return serve(lambda: play(arguments.contestant, arguments.records))


if __name__ == "__main__":
    sys.exit(main())
