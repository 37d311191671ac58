"""Figures of several rounds, and what they say together."""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Spread:
    """The middle of some figures, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """Sum up at least one figure."""
        return cls(statistics.median(figures), min(figures), max(figures))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}}-{self.high:{spec}})"


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the figure that *share* of the *ordered* ones do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds *work* takes, starting without garbage of earlier work."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_fresh_process(module: str, *arguments: str) -> Any:
    """Run ``python -m module`` and return the JSON it prints; a contestant's global state ends with its process."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, cwd=ROOT, timeout=600, check=True
    )
    return json.loads(done.stdout)
