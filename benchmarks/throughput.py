"""Log many records to a file, fapilog and one peer taking turns, until all of them are in it."""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.contestants import PEERS, Contestant, MissingPeerError, fapilog
from benchmarks.measure import Spread, timed

WARM_UP: int = 2_000


@dataclass(frozen=True)
class Round:
    """What one contestant took for all its records, in microseconds a record."""

    total: float
    """From the first call until everything was in the file."""

    caller: float
    """From the first call until the last one returned."""


@dataclass(frozen=True)
class Pair:
    """Rounds of both, in the order they ran, and what they say."""

    ours: list[Round]
    theirs: list[Round]

    def summary(self) -> dict[str, object]:
        """Return medians, spreads, and the ratio of each round."""
        ratios = [their.total / our.total for our, their in zip(self.ours, self.theirs, strict=True)]
        return {
            "ours_us": asdict(Spread.of([each.total for each in self.ours])),
            "theirs_us": asdict(Spread.of([each.total for each in self.theirs])),
            "ours_caller_us": asdict(Spread.of([each.caller for each in self.ours])),
            "theirs_caller_us": asdict(Spread.of([each.caller for each in self.theirs])),
            "ratio": asdict(Spread.of(ratios)),
            "ratios": ratios,
        }


def run(contestant: Contestant, records: int) -> Round:
    """Set one contestant up, warm it up, and time it.

    Raises:
        AssertionError: Some records are not in its file; then its time means nothing.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        path = Path(directory) / "log.jsonl"
        with contestant(path) as job:
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
        return Round(total / records * 1e6, returned / records * 1e6)


def compare(theirs: Contestant, *, records: int, rounds: int) -> Pair:
    """Let both take turns; who begins changes each round."""
    pair = Pair([], [])
    for number in range(rounds + 1):
        turns = [(fapilog, pair.ours), (theirs, pair.theirs)]
        for contestant, results in turns if number % 2 else reversed(turns):
            result = run(contestant, records)
            if number:  # the first round only warms up
                results.append(result)
    return pair


def main() -> int:
    """Compare fapilog with the peer named on the command line and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    try:
        pair = compare(PEERS[arguments.peer], records=arguments.records, rounds=arguments.rounds)
    except MissingPeerError as error:
        print(json.dumps({"skipped": f"{error} is not installed"}))
    else:
        print(json.dumps(pair.summary()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
