"""Sinks that come and go while others are written to."""

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fapilog import configure_logging, get_logger
from fapilog.errors import ConfigurationError
from fapilog.runtime import Handle
from fapilog.types import Batch
from tests.receiver import Receiver

log = get_logger("shop")


class Kept:
    """A sink that keeps what it is given."""

    name = "kept"

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.closed = 0

    def write(self, batch: Batch) -> None:
        self.numbers += [json.loads(line)["number"] for line in batch.lines]

    def close(self) -> None:
        self.closed += 1


class Stuck(Kept):
    """A sink that does not return from `write` until it is let go."""

    name = "stuck"

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, batch: Batch) -> None:
        self.entered.set()
        self.go.wait(60)


def say(numbers: Sequence[int]) -> None:
    for number in numbers:
        log.info("counted", number=number)


def in_file(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_bytes().splitlines()]


def assert_balanced(handle: Handle) -> None:
    stats = handle.stats()
    assert all(sink.balanced for sink in stats.sinks.values()), stats


@pytest.mark.parametrize("started", [False, True])
def test_an_added_sink_gets_what_is_logged_from_then_on(tmp_path: Path, started: bool) -> None:
    first, second = Kept(), tmp_path / "second.jsonl"
    with configure_logging(sinks=[first]) as handle:
        if started:
            say(range(5))
        assert handle.add_sink({"type": "file", "path": str(second)}, level="info") == "file"
        say(range(5, 10))
        assert handle.flush(30).ok
        assert handle.list_sinks() == ("kept", "file")
        assert_balanced(handle)
        stats = handle.stats()
        assert stats.sinks["file"].accepted == stats.sinks["file"].delivered == 5
        assert stats.sinks["kept"].delivered == stats.accepted == (10 if started else 5)
    assert in_file(second) == [5, 6, 7, 8, 9]
    assert first.numbers == list(range(0 if started else 5, 10))


@pytest.mark.parametrize("started", [False, True])
def test_a_removed_sink_has_what_was_logged_before_and_is_closed(started: bool) -> None:
    first, second = Kept(), Kept()
    with configure_logging(sinks=[first, second]) as handle:
        if started:
            say(range(100))
        stats = handle.remove_sink("kept-2")
        assert (stats.balanced, stats.delivered, stats.dropped) == (True, 100 if started else 0, {})
        assert second.closed == 1
        say(range(100, 110))
        assert handle.flush(30).ok
        assert handle.list_sinks() == tuple(handle.stats().sinks) == ("kept",)
        assert_balanced(handle)
    assert second.numbers == (list(range(100)) if started else [])
    assert first.numbers == list(range(0 if started else 100, 110))
    assert (first.closed, second.closed) == (1, 1)


def test_ids_are_names_and_one_that_is_taken_gets_a_number() -> None:
    with configure_logging(sinks=[Kept()]) as handle:
        assert handle.add_sink(Kept()) == "kept-2"
        assert handle.add_sink(Kept(), name="audit") == "audit"
        assert handle.add_sink(Kept(), name="audit") == "audit-2"
        handle.remove_sink("audit")
        assert handle.add_sink(Kept(), name="audit") == "audit"
        assert handle.list_sinks() == ("kept", "kept-2", "audit-2", "audit")


def test_the_last_sink_may_go_and_another_come() -> None:
    first, second = Kept(), Kept()
    with configure_logging(sinks=[first]) as handle:
        say([1])
        handle.remove_sink("kept")
        say([2])
        handle.add_sink(second)
        say([3])
        assert handle.flush(30).ok
    assert (first.numbers, second.numbers) == ([1], [3])


@pytest.mark.parametrize(
    ("sink", "options", "said"),
    [
        ("nothing-like-it", {}, "nothing-like-it"),
        ("file", {"path": "x.jsonl", "colour": "red"}, "colour"),
        ("file", {"path": "x.jsonl", "level": "loud"}, "loud"),
        ("file", {"path": "/proc/none/x.jsonl"}, "cannot start"),
        (7, {}, "int is not a sink"),
    ],
)
def test_a_sink_that_cannot_be_added_changes_nothing(sink: Any, options: dict[str, Any], said: str) -> None:
    kept = Kept()
    with configure_logging(sinks=[kept]) as handle:
        with pytest.raises(ConfigurationError, match=said):
            handle.add_sink(sink, **options)
        assert handle.list_sinks() == ("kept",)
        say([1])
    assert kept.numbers == [1]


def test_an_id_that_is_none_is_refused_with_those_there_are() -> None:
    with configure_logging(sinks=[Kept()]) as handle:
        with pytest.raises(ConfigurationError, match="no sink has the id 'file'; there is 'kept'"):
            handle.remove_sink("file")
        handle.remove_sink("kept")
        with pytest.raises(ConfigurationError, match="there is none"):
            handle.remove_sink("kept")


def test_what_is_recorded_follows_the_levels_of_the_sinks() -> None:
    severe, chatty = Kept(), Kept()
    with configure_logging(sinks=[], level="debug") as handle:
        handle.add_sink(severe, level="error")
        log.debug("counted", number=1)
        assert handle.stats().accepted == 0
        handle.add_sink(chatty, name="chatty", level="debug")
        log.debug("counted", number=2)
        handle.remove_sink("chatty")
        log.debug("counted", number=3)
        assert handle.stats().accepted == 1
    assert (severe.numbers, chatty.numbers) == ([], [2])


def test_a_sink_added_by_this_handle_is_gone_with_the_next_configuration() -> None:
    first, second = Kept(), Kept()
    with configure_logging(sinks=[first]) as handle:
        handle.add_sink(second)
        say([1])
        with configure_logging(sinks=[Kept()]) as after:
            say([2])
            assert after.list_sinks() == ("kept",)
            with pytest.raises(ConfigurationError, match="logging has ended"):
                handle.add_sink(Kept())
            with pytest.raises(ConfigurationError, match="logging has ended"):
                handle.remove_sink("kept")
    assert (first.numbers, second.numbers, second.closed) == ([1], [1], 1)


def test_a_sink_cannot_change_the_sinks_while_it_writes() -> None:
    said: list[str] = []

    class Meddler(Kept):
        def write(self, batch: Batch) -> None:
            super().write(batch)
            try:
                handle.remove_sink("kept")
            except ConfigurationError as error:
                said.append(str(error))

    meddler = Meddler()
    with configure_logging(sinks=[meddler]) as handle:
        say([1])
        assert handle.flush(30).ok
    assert said == ["sink 'kept' cannot be removed: a sink cannot add or remove sinks while it writes"]
    assert meddler.numbers == [1]


def test_a_stuck_sink_holds_up_neither_those_that_come_nor_its_own_end(capfd: pytest.CaptureFixture[str]) -> None:
    stuck, kept = Stuck(), Kept()
    with configure_logging(sinks=[stuck], block_timeout_seconds=0.1) as handle:
        say(range(3))
        assert stuck.entered.wait(30)
        handle.add_sink(kept)
        say(range(3, 6))
        began = time.monotonic()
        stats = handle.remove_sink("stuck", timeout_seconds=0.2)
        assert time.monotonic() - began < 30
        assert stats.balanced
        assert stats.dropped == {"sink_closed": 6}
        assert "sink stuck was removed; lost: sink_closed=6; spooled: 0" in capfd.readouterr().err
        stuck.go.set()
        assert handle.flush(30).ok
        assert_balanced(handle)
    assert kept.numbers == [3, 4, 5]


def test_what_a_far_end_that_is_away_has_not_taken_stays_in_the_spool(receiver: Receiver, tmp_path: Path) -> None:
    receiver.refuse()
    options = {"endpoint": receiver.url(), "linger_seconds": 0.01}
    with configure_logging(sinks=[], spool_path=tmp_path / "spool") as handle:
        handle.add_sink({"type": "http", "name": "far", **options})
        say(range(10))
        stats = handle.remove_sink("far", timeout_seconds=1)
        assert (stats.spooled, stats.balanced, stats.dropped) == (10, True, {})
        receiver.listen()
        handle.add_sink({"type": "http", "name": "far", **options})
        say(range(10, 12))
        assert handle.flush(30).ok
        deadline = time.monotonic() + 30
        while handle.stats().sinks["far"].spooled and time.monotonic() < deadline:
            time.sleep(0.05)
        sink = handle.stats().sinks["far"]
        assert (sink.adopted, sink.delivered, sink.balanced) == (10, 12, True)


def test_a_forked_child_writes_to_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "added.jsonl"
    with configure_logging(sinks=[]) as handle:
        handle.add_sink({"type": "file", "path": str(path)})
        handle.add_sink({"type": "file", "path": str(tmp_path / "gone.jsonl")}, name="gone")
        say([1])
        handle.remove_sink("gone")
        assert handle.flush(30).ok
        pid = os.fork()
        if pid == 0:
            say([2])
            os._exit(0 if handle.flush(30).ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert sorted(in_file(path)) == [1, 2]


def test_sinks_that_come_and_go_under_load_cost_the_others_nothing() -> None:
    steady, ended = Kept(), threading.Event()
    logged = [0, 0, 0, 0]

    def work(number: int) -> None:
        while not ended.is_set():
            log.info("counted", number=4 * logged[number] + number)
            logged[number] += 1
            time.sleep(0.0002)

    with configure_logging(sinks=[steady]) as handle:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        passing = []
        for _ in range(20):
            sink = Kept()
            name = handle.add_sink(sink, name="passing")
            time.sleep(0.01)
            assert_balanced(handle)
            stats = handle.remove_sink(name, 30)
            assert stats.balanced
            assert stats.delivered == stats.accepted == len(sink.numbers)
            passing.append(sink)
        ended.set()
        for thread in threads:
            thread.join(30)
        assert handle.flush(30).ok
        assert_balanced(handle)
    assert sorted(steady.numbers) == sorted(4 * at + number for number in range(4) for at in range(logged[number]))
    assert all(sink.closed == 1 for sink in passing)
    seen = [number for sink in passing for number in sink.numbers]
    assert seen
    assert len(set(seen)) == len(seen)
