"""Faults F118 and F035 from end to end: what one process could not send, the next one does."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.programs import environment
from tests.receiver import Receiver

PROGRAM = """
import os, resource, sys, time
import fapilog

url, spool, count, pause, end, max_bytes = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5]), sys.argv[5], sys.argv[6]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

handle = fapilog.configure_logging(
    sinks=[url], spool_path=spool, access_log=False, shutdown_timeout_seconds=3, queue_max_bytes=int(max_bytes),
    http={"linger_seconds": 0.05, "timeout_seconds": 1, "circuit_breaker_timeout_seconds": 0.5},
)
fapilog.log.info("order", number=0)
handle.flush()
first = most = resident()
for number in range(1, count):
    fapilog.log.info("order", number=number, text="x" * 100)
    if number % 1000 == 0:
        most = max(most, resident())
        if pause:
            time.sleep(pause / 1000)
handle.flush(10)
stats = handle.stats().sinks["http"]
print({"growth": most - first, "spooled": stats.spooled, "delivered": stats.delivered, "dropped": dict(stats.dropped),
       "ambiguous": stats.ambiguous, "adopted": stats.adopted, "balanced": stats.balanced}, flush=True)
if end == "kill":
    os.kill(os.getpid(), 9)
if end == "stay":
    time.sleep(60)
"""


def start(
    receiver: Receiver, spool: Path, count: int, *, pause: int = 0, end: str = "end", max_bytes: int = 1 << 24
) -> Any:
    arguments = [sys.executable, "-W", "error", "-c", PROGRAM, receiver.url(), str(spool), str(count), str(pause), end]
    return subprocess.Popen(
        [*arguments, str(max_bytes)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: Any) -> tuple[dict[str, Any], str]:
    """Wait for a process, and return its figures and what it said."""
    out, err = process.communicate(timeout=120)
    return json.loads(re.sub(r"\b(True|False)\b", lambda found: found[0].lower(), out.replace("'", '"'))), err


def numbers(receiver: Receiver, instance: str) -> list[int]:
    return [int(each.partition("-")[2]) for each in receiver.report()["order"] if each.startswith(instance)]


@pytest.mark.parametrize("end", ["end", "kill"])
def test_f118_what_a_process_left_the_next_one_delivers_once_and_in_order(
    receiver: Receiver, tmp_path: Path, end: str
) -> None:
    receiver.refuse()
    first, said = finish(start(receiver, tmp_path, 5_000, end=end))
    assert (first["spooled"], first["dropped"], first["balanced"]) == (5_000, {}, True)
    assert ("spooled: http=5000" in said) is (end == "end")
    receiver.listen()
    second, said = finish(start(receiver, tmp_path, 10))
    assert (second["adopted"], second["dropped"], said) == (5_000, {}, "")
    order = list(dict.fromkeys(each.partition("-")[0] for each in receiver.report()["order"]))
    assert len(order) == 2
    assert numbers(receiver, order[0]) == list(range(1, 5_001))
    assert numbers(receiver, order[1]) == list(range(1, 11))
    assert not [path for path in (tmp_path / "http").iterdir() if path.is_dir()]


@pytest.mark.faults_long
def test_f118_a_process_killed_while_it_replays_loses_nothing_and_repeats_one_batch_at_most(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.refuse()
    finish(start(receiver, tmp_path, 30_000, end="kill"))
    receiver.listen()
    for _ in range(3):
        process = start(receiver, tmp_path, 1, end="stay")
        until = time.monotonic() + 20
        before = len(receiver.report()["order"])
        while len(receiver.report()["order"]) <= before and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
    last, _ = finish(start(receiver, tmp_path, 1))
    assert last["dropped"] == {}
    found = receiver.report()
    instance = found["order"][0].partition("-")[0]
    assert list(dict.fromkeys(numbers(receiver, instance))) == list(range(1, 30_001))
    twice = sum(count - 1 for count in found["records"][instance].values())
    assert twice <= 3 * 10_000


@pytest.mark.faults_long
def test_f118_answers_that_never_came_are_counted_and_repeats_are_no_more(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behave({"do": "silent", "keep": True})
    first, _ = finish(start(receiver, tmp_path, 500))
    assert first["spooled"] == 500
    receiver.behave()
    second, _ = finish(start(receiver, tmp_path, 1))
    assert (second["adopted"], second["dropped"]) == (500, {})
    found = receiver.report()
    instance = found["order"][0].partition("-")[0]
    counts = found["records"][instance]
    assert sorted(map(int, counts)) == list(range(1, 501))
    assert sum(counts.values()) - 500 <= first["ambiguous"] + 500  # one more may have been cut short by the end


def test_f035_memory_is_flat_while_the_far_end_is_away_for_the_whole_run(receiver: Receiver, tmp_path: Path) -> None:
    receiver.refuse()
    max_bytes = 8 << 20
    first, said = finish(start(receiver, tmp_path, 100_000, pause=5, end="end", max_bytes=max_bytes))
    assert (first["dropped"], first["spooled"]) == ({}, 100_000), said
    assert first["growth"] < max_bytes + (16 << 20), first
    receiver.listen()
    deadline = time.monotonic() + 60
    delivered = 0
    while delivered < 100_000 and time.monotonic() < deadline:
        finish(start(receiver, tmp_path, 1))
        delivered = len(receiver.report()["order"]) - 1
    instance = receiver.report()["order"][0].partition("-")[0]
    assert numbers(receiver, instance) == list(range(1, 100_001))
