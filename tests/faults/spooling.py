"""Processes that spool and die: started by the tests in a process of its own, which forks one after another.

Each of them writes what it knows to a file before it goes on, so that its own end cannot take it back. A loss of power
is a death after which files are cut to the size, and directories to the names, that they had at their last fsync.
"""

import contextlib
import itertools
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Final

from fapilog import failpoints
from fapilog.pipeline.spool import Spool

POINTS: Final = (
    "seg.create",
    "seg.append",
    "seg.fsync",
    "seg.seal",
    "ack.write",
    "ack.fsync",
    "seg.unlink",
    "dir.fsync",
)
ROUNDS: Final = 8
PER_ROUND: Final = 3
WATCHDOG_SECONDS: Final = 20


class Report:
    """What a process knew: ``spooled``, ``synced`` and ``delivered``, with numbers, and what it fsynced."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, word: str, *details: object) -> None:
        os.write(self.fd, " ".join([word, *map(str, details)]).encode() + b"\n")

    def fsync(self, fd: Any) -> None:
        """Note what is durable from now on. Nothing else is needed: only the process dies, not the machine."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_dir():
            self.say("names", path, *[entry.name for entry in path.iterdir()])
        else:
            self.say("size", path, os.fstat(fd).st_size)


def opened(directory: Path) -> Spool:
    return Spool(directory, sink="loki", destination="there", segment_max_bytes=400, max_age_seconds=1e12)


def deliver(spool: Spool, report: Report, count: int) -> bool:
    batch = spool.read(count, 10**6)
    report.say("delivered", *[int(record.line) for record in batch])
    spool.acknowledge(len(batch))
    return bool(batch)


def work(directory: Path, report: Report, first: int) -> None:
    """Adopt what is there, spool more, deliver some of it."""
    os.fsync = os.fdatasync = report.fsync
    spool = opened(directory)
    spool.adopt()
    for number in range(first, first + ROUNDS * PER_ROUND, PER_ROUND):
        batch = range(number, number + PER_ROUND)
        with contextlib.suppress(OSError):
            spool.append([(20, one, b"%040d\n" % one) for one in batch])
            report.say("spooled", *batch)
        if number % 2:
            spool.sync()
            report.say("synced", number + PER_ROUND - 1)
        deliver(spool, report, 2)
    spool.close()


def drain(directory: Path, report: Report) -> None:
    spool = opened(directory)
    while spool.adopt():
        while deliver(spool, report, 5):
            continue
    report.say("dropped", sum(spool.stats().dropped.values()))
    spool.close()


def fork(spec: str, task: object, *arguments: object) -> int:
    """Run *task* in a child with failpoints, and return how it ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        signal.alarm(WATCHDOG_SECONDS)
        failpoints.arm(spec)
        assert callable(task)
        task(*arguments)
        status = 0
    finally:
        os._exit(status)


def lose_power(directory: Path, report_path: Path) -> None:
    """Leave on disk only what was synced."""
    names: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for line in report_path.read_text().splitlines():
        word, *details = line.split()
        if word == "names":
            names[details[0]] = details[1:]
        elif word == "size":
            sizes[details[0]] = int(details[1])
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.name not in names.get(str(path.parent), []):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.suffix == ".log":
            os.truncate(path, min(path.stat().st_size, sizes.get(str(path), 0)))


def run(root: Path, point: str, action: str) -> None:
    """Crash at the first hit of *point*, the second, … until the work ends before; then again while recovering."""
    others = itertools.cycle(POINTS)
    for hit in itertools.count(1):
        directory, report_path = root / f"spool{hit}", root / f"report{hit}"
        report = Report(report_path)
        status = fork(f"{point}:{action}:{hit}", work, directory, report, 1)
        report.say("ended", status)
        if action == "exit" and status == 137:
            lose_power(directory, report_path)
        again = fork(f"{next(others)}:{action}:{1 + hit % 5}", work, directory, report, 1_001)
        report.say("ended", again)
        report.say("ended", fork("", drain, directory, report))
        if status == 0:
            return


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
