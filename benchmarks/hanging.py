"""How long a log call takes at worst while one sink hangs, against the same program without that sink.

Run it with ``python -m benchmarks.hanging``. Two processes take turns, round by round; each logs from an event loop,
in bursts of 100 records every 5 ms, to a file, and one of them to a sink that never returns as well.
"""

import asyncio
import gc
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import fapilog
from benchmarks.turns import Player, serve, take_turns

BURSTS = 200
BURST = 100


class Hanging:
    """A sink whose `write` does not return."""

    name = "hanging"

    def write(self, _batch: Any, /) -> None:
        """Wait for ever."""
        threading.Event().wait()

    def close(self) -> None:
        """Have nothing to close."""


async def burst_after_burst() -> list[int]:
    """Log, and return how many nanoseconds each call took."""
    took = []
    clock = time.perf_counter_ns
    for _ in range(BURSTS):
        for number in range(BURST):
            began = clock()
            fapilog.log.info("order placed", order_id=number, customer="alice", total=12.5, items=3, paid=True)
            took.append(clock() - began)
        await asyncio.sleep(0.005)
    return took


def play() -> dict[str, float]:
    """Play one round."""
    gc.collect()
    took = sorted(asyncio.run(burst_after_burst()))
    at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: took[min(len(took) - 1, int(len(took) * share))] / 1_000 for name, share in at.items()}


def main() -> int:
    """Be a contestant if asked to; else let two take turns and print what they gave."""
    if len(sys.argv) > 1:
        sinks: list[Any] = ["file", *([Hanging()] if sys.argv[1] == "hanging" else [])]
        with tempfile.TemporaryDirectory() as directory:
            fapilog.configure_logging(
                sinks=sinks, file={"path": Path(directory) / "app.log"}, shutdown_timeout_seconds=0.1
            )
            play()  # to be warm, and to let the sink hang
            return serve(play)
    with Player("benchmarks.hanging", "alone") as alone, Player("benchmarks.hanging", "hanging") as hanging:
        turns = take_turns(alone, hanging, 9)
    print(f"microseconds a log call, median of {len(turns)} rounds of {BURSTS * BURST:,} calls")
    for name in ("p50", "p99", "p99.9", "max"):
        before, after = (statistics.median(turn[side][name] for turn in turns) for side in (0, 1))
        print(f"  {name:<6} alone {before:>9.1f}   beside a sink that hangs {after:>9.1f}   {after / before:.2f} times")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
