"""Time what default redaction does to a clean record: five keywords, two of them short strings.

These are the looks that a log call takes, in the same order, at records made before; going through them is subtracted.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Spread
from fapilog.recorder import slot

EVENT = "order placed"
BATCH = 250
"""How many records there are at a time: few, as a program has them, so that they are in the processor's cache."""

Look = Callable[[list[dict[str, Any]]], None]


def measure(*, records: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds a record: of the names, and in all where texts come again and where each is new."""
    looks: dict[str, tuple[Look, bool]] = {
        "names_us": (look_at_names, False),
        "again_us": (look_at_everything, False),
        "new_us": (look_at_everything, True),
    }
    slot.recorder._learn(record(0, "tea"))  # as the first record of these names does
    found: dict[str, list[float]] = {key: [] for key in looks}
    for number in range(rounds + 1):
        for key, (look, is_new) in looks.items():
            took = play(look, records, f" {number}" if is_new else "")
            if number:  # after one that does not count
                found[key].append(took)
    return {key: asdict(Spread.of(figures)) for key, figures in found.items()}


def play(look: Look, records: int, new: str) -> float:
    """Return the microseconds that *look* takes for a record more than to go through it."""
    clock, took = time.perf_counter_ns, 0
    gc.collect()
    gc.disable()
    try:
        for first in range(0, records, BATCH):
            batch = [record(at, f"tea{new} {at}" if new else "tea") for at in range(first, first + BATCH)]
            go_through(batch)
            began = clock()
            go_through(batch)
            gone = clock()
            look(batch)
            took += clock() - gone - (gone - began)
    finally:
        gc.enable()
    return took / (-(-records // BATCH) * BATCH) / 1e3


def record(number: int, text: str) -> dict[str, Any]:
    """Return the fields of one record."""
    return {"order_id": number, "sku": text, "quantity": 2, "price": 12.5, "shelf": f"b {text}"}


def go_through(records: list[dict[str, Any]]) -> None:
    """Go through the records and their values, and no more."""
    for fields in records:
        for value in fields.values():
            kind = type(value)
            if kind is str:
                pass


def look_at_names(records: list[dict[str, Any]]) -> None:
    """Look at the names of each record."""
    are_safe = slot.recorder._are_safe
    for fields in records:
        if not are_safe(fields):
            raise AssertionError(f"{fields} is not clean")
        for value in fields.values():
            kind = type(value)
            if kind is str:
                pass


def look_at_everything(records: list[dict[str, Any]]) -> None:
    """Look at the names, the event and the texts of each record."""
    recorder = slot.recorder
    are_safe, seen, is_clean, short = recorder._are_safe, recorder._seen, recorder._is_clean, recorder._glance
    for fields in records:
        if (EVENT not in seen and not is_clean(EVENT)) or not are_safe(fields):
            raise AssertionError(f"{EVENT} {fields} is not clean")
        for value in fields.values():
            kind = type(value)
            if kind is str and (len(value) > short or (value not in seen and not is_clean(value))):
                raise AssertionError(f"{value} is not clean")


def main() -> int:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print(json.dumps(measure(records=arguments.records, rounds=arguments.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
