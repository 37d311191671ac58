import errno
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fapilog.diagnostics import report
from fapilog.files.checked import checked
from fapilog.pipeline.spool import Spool
from fapilog.types import Record
from tests.faults import spooling

FUZZ_RUNS = int(os.environ.get("FUZZ_RUNS", "0"))  # 10 000 for the whole of it; 0: what fits in a few seconds
FUZZ_SECONDS = 3.0


class Story:
    """What the processes of one directory reported."""

    def __init__(self, path: Path) -> None:
        self.spooled: set[int] = set()
        self.synced: set[int] = set()
        self.deliveries: list[list[int]] = []
        self.ended: list[int] = []
        self.dropped = 0
        delivered: list[int] = []
        for line in path.read_text().splitlines():
            word, *rest = line.split()
            if word == "spooled":
                self.spooled |= set(map(int, rest))
            elif word == "synced":
                last = int(rest[0])  # the second process counts from 1 001
                self.synced |= {number for number in self.spooled if last // 1_000 * 1_000 <= number <= last}
            elif word == "delivered":
                delivered += map(int, rest)
            elif word == "dropped":
                self.dropped += int(rest[0])
            elif word == "ended":
                self.ended.append(int(rest[0]))
                self.deliveries.append(delivered)
                delivered = []

    @property
    def delivered(self) -> Counter[int]:
        return Counter(itertools.chain(*self.deliveries))


def crash(root: Path, point: str, action: str) -> list[Story]:
    subprocess.run(
        [sys.executable, "-m", "tests.faults.spooling", str(root), point, action],
        env=os.environ | {"FAPILOG_TESTING": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(spooling.__file__).parents[2],
        check=True,
        timeout=90,
    )
    return [Story(path) for path in sorted(root.glob("report*"))]


@pytest.mark.parametrize("action", ["exit", "kill"])
@pytest.mark.parametrize("point", spooling.POINTS)
def test_f118_a_crash_at_any_point_loses_nothing_that_was_synced(tmp_path: Path, point: str, action: str) -> None:
    stories = crash(tmp_path, point, action)
    assert len(stories) > 2, "the point is never reached"
    died = 137 if action == "exit" else -signal.SIGKILL
    for story in stories:
        assert set(story.ended[:2]) <= {0, died}
        assert story.ended[2] == 0
        assert story.synced <= set(story.delivered)
        assert set(story.delivered) <= set(range(1, 25)) | set(range(1_001, 1_025))
        assert all(found == sorted(set(found)) for found in story.deliveries[:2])
        assert sum(story.delivered.values()) - len(story.delivered) <= 2 * 2, (
            "only what was being delivered comes twice"
        )
    assert sum(story.ended[0] == died for story in stories) == len(stories) - 1
    assert any(story.ended[1] == died for story in stories), "no crash while recovering"


def test_f118_without_a_loss_of_power_nothing_that_was_spooled_is_lost(tmp_path: Path) -> None:
    for story in crash(tmp_path, "seg.append", "kill"):
        assert story.spooled <= set(story.delivered)


def test_a_spool_that_loses_what_it_was_given_would_be_found_out(tmp_path: Path) -> None:
    (story,) = crash(tmp_path, "seg.append", "lose")
    assert story.ended == [0, 0, 0]
    assert not story.synced <= set(story.delivered)


# F119


def numbers(found: list[Record]) -> list[int]:
    return [record.timestamp_ns for record in found]


def opened(directory: Path, **options: Any) -> Spool:
    return Spool(directory, **{"sink": "loki", "destination": "there", "max_age_seconds": 1e12, **options})


def recover(directory: Path) -> tuple[list[int], int, int]:
    """Drain as the next process: what came back, how many were adopted, how many were counted as damaged."""
    spool = opened(directory)
    adopted, found = spool.adopt(), []
    while batch := spool.read(7, 10**6):
        found += numbers(batch)
        spool.acknowledge(len(batch))
    stats = spool.stats()
    assert stats.taken_in == stats.delivered + sum(stats.dropped.values()) == adopted
    assert set(stats.dropped) <= {"spool_corrupt"}
    spool.close()
    return found, adopted, stats.dropped.get("spool_corrupt", 0)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Flip, zero, cut, insert, copy, move or swap bytes or whole lines somewhere in *data*."""
    start, end = sorted(chance.choices(range(len(data) + 1), k=2))
    if chance.random() < 0.7:
        end = min(end, start + chance.choice([1, 2, 9, 60, 200]))
    part, to = data[start:end], chance.randrange(len(data) + 1)
    lines = data.splitlines(keepends=True)
    one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
    swapped = list(lines)
    swapped[one], swapped[two] = lines[two], lines[one]
    rest = data[:start] + data[end:]
    return chance.choice(
        [
            data[:start] + bytes(byte ^ 1 << chance.randrange(8) for byte in part) + data[end:],
            data[:start] + bytes(len(part)) + data[end:],
            rest,
            data[:start],
            data[start:],
            data + part,
            data[:to] + part + data[to:],
            rest[:to] + part + rest[to:],
            data[:start] + chance.randbytes(len(part)) + data[end:],
            data[:to] + b"\n" * len(part) + data[to:],
            data[:to] + b"x" * chance.choice([100, 2_000_000]) + data[to:],
            b"".join(swapped),
            b"".join(lines[:one] + lines[two : two + 1] + lines[one:]),
            b"".join(chance.sample(lines, len(lines))),
        ]
    )


def test_f119_whatever_happens_to_the_bytes_the_good_lines_come_back_and_the_bad_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: None)
    monkeypatch.setattr(report, "write", lambda _line: None)
    dead = opened(tmp_path / "dead", segment_max_bytes=900, instance="0" * 16)
    for number in range(1, 61):
        dead.append([(20, number, b'{"event":"%b","n":%d}\n' % (b"e" * (number % 13), number))])
    dead.close()
    image = {path.relative_to(tmp_path / "dead"): path.read_bytes() for path in (tmp_path / "dead").rglob("*.*")}
    image[Path("loki") / ("0" * 16) / "lock"] = next((tmp_path / "dead").rglob("lock")).read_bytes()
    logs = sorted(path for path in image if path.suffix == ".log")
    assert len(logs) == 4
    seed = random.randrange(2**32)  # noqa: S311
    chance = random.Random(seed)  # noqa: S311
    until = time.monotonic() + FUZZ_SECONDS
    for run in itertools.count(1):
        if run > FUZZ_RUNS if FUZZ_RUNS else time.monotonic() > until:
            break
        changed = dict(image)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            victim = chance.choice(logs)
            changed[victim] = mutate(changed[victim] or b"\n", chance)
        directory = tmp_path / f"run{run}"
        for name, data in changed.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
        good = []
        for name in logs:
            whole = set(image[name].split(b"\n")[1:-1])
            good += [int(line.split(b" ")[1]) for line in whole & set(changed[name].split(b"\n"))]
        found, adopted, corrupt = recover(directory)
        assert found == sorted(good), f"seed {seed} run {run}"
        assert adopted == len(found) + corrupt
        assert not any(directory.rglob("*.log")), f"seed {seed} run {run}"


# F120


def rewritten_header(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        header, rest = data.split(b"\n", 1)
        assert old in header
        return checked(header[9:].replace(old, new)) + rest

    return change


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"journal 1", b"journal 0"), (b"journal 1", b"journal 2"), (b"loki ", b"http "), (b" 1 loki ", b" 1 loki 0")],
    ids=["older", "newer", "another sink", "another destination"],
)
def test_f120_what_is_not_for_us_is_kept_and_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], old: bytes, new: bytes
) -> None:
    dead = opened(tmp_path, segment_max_bytes=100)
    for number in range(1, 6):
        dead.append([(20, number, b"%050d\n" % number)])
    dead.close()
    segment = sorted(tmp_path.rglob("*.log"))[2]
    segment.write_bytes(rewritten_header(old, new)(segment.read_bytes()))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    spool = opened(tmp_path)
    assert [spool.adopt(), spool.adopt(), len(spool.read(10, 10**6))] == [0, 0, 0]
    assert capfd.readouterr().err.count("left alone") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    spool.close()


# F123


def test_f123_what_a_full_spool_and_old_age_cost_is_exact(tmp_path: Path) -> None:
    now = [1_000.0]
    spool = opened(tmp_path, max_bytes=20_000, max_age_seconds=300.0, clock=lambda: now[0])
    for number in range(1, 401):
        now[0] += 1.0
        spool.append([(20, int(now[0] * 1e9), b"%0100d\n" % number)])
        stats = spool.stats()
        assert stats.taken_in == sum(stats.dropped.values()) + stats.records == number
        assert stats.size_bytes <= 20_000
        assert stats.size_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.log"))
    full = spool.stats().dropped["spool_full"]
    now[0] += 250.0
    left = [int(record.line) for record in spool.read(1_000, 10**9)]
    assert left == list(range(350, 401))
    spool.acknowledge(len(left))
    assert spool.stats().dropped == {"spool_full": full, "too_old": 400 - full - len(left)}
    assert spool.records == 0
    spool.close()


# F125


def test_f125_a_spool_that_is_deleted_again_and_again_counts_what_was_there(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", segment_max_bytes=300)
    for turn in range(5):
        spool.append([(20, number, b"%050d\n" % number) for number in range(turn * 10, turn * 10 + 10)])
        spool.sync()
        assert spool.stats().dropped.get("spool_vanished", 0) == turn * 10
        subprocess.run(["rm", "-rf", tmp_path / "spool"], check=True)
    assert spool.read(100, 10**6) == []
    assert spool.stats().dropped == {"spool_vanished": 50}
    spool.append([(20, 99, b"99\n")])
    assert numbers(spool.read(100, 10**6)) == [99]
    spool.close()


def test_f125_a_directory_that_becomes_unwritable_is_an_error_until_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    spool = opened(tmp_path / "spool" / "deeper")
    with pytest.raises(OSError, match="Not a directory"):
        spool.append([(20, 1, b"1\n")])
    (tmp_path / "spool").unlink()
    spool.append([(20, 1, b"1\n")])
    assert numbers(spool.read(100, 10**6)) == [1]
    spool.close()


# Every call to the system fails once, and from then on


class Failing:
    """Counts the calls that can fail, and makes one of them fail, or all from that one on."""

    NAMES = (
        "open",
        "write",
        "pwrite",
        "pread",
        "fsync",
        "fdatasync",
        "ftruncate",
        "unlink",
        "mkdir",
        "rmdir",
        "scandir",
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.calls = self.first = self.last = 0
        self.code = code
        monkeypatch.setattr(os, "fsync", lambda _fd: None)
        monkeypatch.setattr(os, "fdatasync", lambda _fd: None)
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.first <= self.calls <= self.last:
                raise OSError(self.code, os.strerror(self.code))
            return function(*args, **keywords)

        return call

    def arm(self, first: int, last: float) -> None:
        self.calls, self.first, self.last = 0, first, int(min(last, 10**9))


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write", lambda _line: None)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE], ids=["ENOSPC", "EIO", "EMFILE"])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
def test_every_call_to_the_system_may_fail_and_every_record_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, forever: bool
) -> None:
    failing = Failing(monkeypatch, code)
    for nth in itertools.count(1):
        failing.arm(0, 0)
        directory = tmp_path / str(nth)
        dead = opened(directory, segment_max_bytes=150)
        for number in range(1, 7):
            dead.append([(20, number, b"%050d\n" % number)])
        dead.close()
        failing.arm(nth, float("inf") if forever else nth)
        taken, delivered, spool = set(range(1, 7)), list[int](), opened(directory, segment_max_bytes=150)
        for number in range(7, 15):
            if attempted(spool.append, [(20, number, b"%050d\n" % number)]):
                taken.add(number)
            if number % 2:
                attempted(spool.sync)
            if number % 3 == 0:
                attempted(spool.adopt)
            batch = attempted(spool.read, 3, 10**6)
            if isinstance(batch, list):
                now = spool.acknowledge(len(batch))
                delivered += numbers(batch[len(batch) - now :])
            stats = spool.stats()
            assert stats.taken_in == stats.delivered + sum(stats.dropped.values()) + stats.records
        spool.close()
        reached = failing.calls >= nth
        failing.arm(0, 0)
        lost = sum(spool.stats().dropped.values())
        found, _, corrupt = recover(directory)
        assert len(delivered) == len(set(delivered)), f"call {nth}"
        assert set(delivered) | set(found) <= taken, f"call {nth}"
        assert len(taken - set(delivered) - set(found)) <= lost + corrupt, f"call {nth}"
        assert spool.stats().delivered == len(delivered)
        if not reached:
            return


def attempted(function: Callable[..., Any], *args: Any) -> object:
    """Call it; False if the system failed it."""
    try:
        result = function(*args)
    except OSError:
        return False
    return True if result is None else result
