"""Faults F069 to F085: a far end that refuses, hangs, drips, lies, or comes and goes."""

import contextlib
import logging
import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fapilog import log
from fapilog.runtime import Handle
from tests.faults import far_end
from tests.faults.far_end import figures, say, wait
from tests.receiver import Receiver


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fapilog.pipeline.sender.FIRST_DELAY_SECONDS", 0.05)


def service(url: str, spool: Path, /, **options: Any) -> AbstractContextManager[Handle]:
    """Log to *url*."""
    return far_end.service("http", spool, endpoint=url, **options)


def arrived(receiver: Receiver) -> list[int]:
    """The numbers of the records in order of their first arrival."""
    seen = dict.fromkeys(receiver.report()["order"])
    return [int(each.rpartition("-")[2]) for each in seen]


def copies(receiver: Receiver) -> int:
    """How many arrived more than once, each further time counted."""
    order = receiver.report()["order"]
    return len(order) - len(set(order))


def test_f069_a_refused_connection_is_tried_again_and_nothing_is_lost(receiver: Receiver, tmp_path: Path) -> None:
    receiver.refuse()
    with service(receiver.url(), tmp_path) as handle:
        say(100)
        assert wait(handle, lambda stats: stats.state == "down" and stats.spooled == 100).ambiguous == 0
        receiver.listen()
        back = time.monotonic()
        stats = wait(handle, lambda stats: stats.delivered == 100)
        assert time.monotonic() - back < 2
        assert (stats.state, stats.dropped) == ("up", {})
    assert arrived(receiver) == list(range(1, 101))
    assert copies(receiver) == 0


def test_f070_a_connection_that_is_never_made_ends_in_time(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # the backlog is full, and what comes now is not answered
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        with service(f"http://127.0.0.1:{listening.getsockname()[1]}/", tmp_path) as handle:
            say(5)
            began = time.monotonic()
            stats = wait(handle, lambda stats: stats.retries >= 2)
            assert time.monotonic() - began < 3
            assert (stats.ambiguous, stats.dropped) == (0, {})


def test_f071_an_answer_that_never_comes_is_ambiguous_and_the_same_bytes_are_sent_again(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.behave({"do": "silent", "keep": True, "times": 2})
    with service(receiver.url(), tmp_path) as handle:
        say(10)
        stats = wait(handle, lambda stats: stats.delivered == 10)
        assert stats.ambiguous == 20
    assert arrived(receiver) == list(range(1, 11))
    assert copies(receiver) == 20 <= stats.ambiguous
    assert len({request["headers"]["idempotency-key"] for request in receiver.report()["requests"]}) == 1


@pytest.mark.parametrize("spool", [True, False])
def test_f071_a_batch_has_one_key_however_often_it_is_sent_and_whatever_comes_meanwhile(
    receiver: Receiver, tmp_path: Path, spool: bool
) -> None:
    receiver.behave({"do": "accept", "times": 1}, {"do": "status", "status": 502, "keep": True, "times": 3})
    with service(receiver.url(), tmp_path, spool=spool) as handle:
        for number in range(200):
            say(1, number)
            time.sleep(0.005)
        stats = wait(handle, lambda stats: stats.delivered == 200)
    requests = receiver.report()["requests"]
    assert len([request for request in requests if request["status"] == 502]) == 3
    batches = {request["headers"]["idempotency-key"]: request["records"] for request in requests}
    assert sum(batches.values()) == 200  # so no record had two keys
    assert copies(receiver) == stats.ambiguous > 0


def test_f071_an_answer_after_the_deadline_is_ambiguous(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behave({"do": "late", "seconds": 0.8, "times": 1})
    with service(receiver.url(), tmp_path) as handle:
        say(10)
        stats = wait(handle, lambda stats: stats.delivered == 10)
    assert copies(receiver) <= stats.ambiguous == 10


@pytest.mark.parametrize("does", ["reset", "garbage"])
def test_f071_an_answer_that_is_cut_or_is_none_is_ambiguous(receiver: Receiver, tmp_path: Path, does: str) -> None:
    receiver.behave({"do": does, "keep": True, "times": 1})
    with service(receiver.url(), tmp_path) as handle:
        say(10)
        stats = wait(handle, lambda stats: stats.delivered == 10)
    assert copies(receiver) == stats.ambiguous == 10


def test_f072_an_answer_that_drips_is_cut_at_the_deadline(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behave({"do": "drip", "seconds": 0.1, "times": 1})
    with service(receiver.url(), tmp_path) as handle:
        say(10)
        began = time.monotonic()
        stats = wait(handle, lambda stats: stats.delivered == 10)
        assert time.monotonic() - began < 3
        assert stats.ambiguous == 10


@pytest.mark.parametrize("does", ["flood", "drip_body"])
def test_f072_a_body_without_end_is_not_read(receiver: Receiver, tmp_path: Path, does: str) -> None:
    receiver.behave({"do": does, "times": 1})
    with service(receiver.url(), tmp_path) as handle:
        say(10)
        began = time.monotonic()
        stats = wait(handle, lambda stats: stats.delivered == 10)
        assert time.monotonic() - began < 3
    assert (copies(receiver), stats.dropped) == (0, {})


@pytest.mark.parametrize(
    "status", [401, *(pytest.param(each, marks=pytest.mark.faults_long) for each in (403, 404, 301))]
)
def test_f077_what_somebody_has_to_mend_keeps_the_records_and_is_asked_seldom(
    receiver: Receiver, tmp_path: Path, status: int
) -> None:
    receiver.behave({"do": "status", "status": status, "headers": {"Location": receiver.url("/elsewhere")}})
    with service(receiver.url(), tmp_path, circuit_breaker_threshold=1_000) as handle:
        say(10)
        stats = wait(handle, lambda stats: stats.state == "down" and stats.spooled == 10)
        time.sleep(1)
        assert len(receiver.report()["requests"]) <= 8  # every 0.2 to 0.4 s
        receiver.behave()
        stats = wait(handle, lambda stats: stats.delivered == 10)
        assert (stats.state, stats.dropped) == ("up", {})
    assert copies(receiver) == 0


@pytest.mark.parametrize(
    "status",
    [429, 500, *(pytest.param(each, marks=pytest.mark.faults_long) for each in (408, 425, 502, 503, 504, 520))],
)
def test_f078_what_may_succeed_later_is_tried_again(receiver: Receiver, tmp_path: Path, status: int) -> None:
    receiver.behave({"do": "status", "status": status, "times": 2})
    with service(receiver.url(), tmp_path) as handle:
        say(10)
        stats = wait(handle, lambda stats: stats.delivered == 10)
        assert (stats.retries, stats.dropped) == (2, {})
        assert stats.ambiguous == (20 if status >= 500 and status != 503 else 0)
    assert arrived(receiver) == list(range(1, 11))


@pytest.mark.parametrize(("value", "least"), [("1", 0.9), ("-1", 0.0), ("abc", 0.0), ("", 0.0)])
def test_f078_retry_after_is_heeded_where_it_makes_sense(
    receiver: Receiver, tmp_path: Path, value: str, least: float
) -> None:
    receiver.behave({"do": "status", "status": 503, "headers": {"Retry-After": value}, "times": 1})
    with service(receiver.url(), tmp_path) as handle:
        say(1)
        wait(handle, lambda stats: stats.delivered == 1)
    first, second = [request["at"] for request in receiver.report()["requests"]]
    assert least <= second - first < least + 1.5


def test_f079_a_batch_that_is_too_large_is_split_until_it_is_not(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behave({"do": "limit", "bytes": 5_000})
    with service(receiver.url(), tmp_path, linger_seconds=0.3) as handle:
        say(200)
        log.info("huge", text="x" * 6_000)
        say(10, 201)
        stats = wait(handle, lambda stats: stats.delivered == 210)
        assert stats.dropped == {"too_large": 1}
    assert arrived(receiver) == [*range(1, 201), *range(202, 212), 212], "the last tells of the one that was lost"
    assert b'"huge"' in (tmp_path / "dead" / "http.jsonl").read_bytes()


def test_f081_what_the_transport_itself_logs_is_not_sent(receiver: Receiver, tmp_path: Path) -> None:
    with service(receiver.url(), tmp_path, level="debug") as handle:
        logging.getLogger().setLevel(logging.DEBUG)
        try:
            log.info("order")
            wait(handle, lambda stats: stats.delivered >= 1)
            time.sleep(0.3)
        finally:
            logging.getLogger().setLevel(logging.WARNING)
        assert figures(handle).delivered == 1
    assert len(receiver.report()["requests"]) == 1


def test_f084_a_far_end_that_flaps_gets_everything_once_and_in_order(receiver: Receiver, tmp_path: Path) -> None:
    with service(receiver.url(), tmp_path) as handle:
        number = 1
        for _ in range(3):
            for step in (receiver.refuse, receiver.listen):
                step()
                until = time.monotonic() + 0.5
                while time.monotonic() < until:
                    say(5, number)
                    number += 5
                    time.sleep(0.005)
        stats = wait(handle, lambda stats: stats.delivered == number - 1)
        assert stats.dropped == {}
    assert arrived(receiver) == list(range(1, number))
    assert copies(receiver) <= stats.ambiguous


def test_f085_a_trickle_is_delivered_within_the_linger_over_one_connection(receiver: Receiver, tmp_path: Path) -> None:
    with service(receiver.url(), tmp_path, linger_seconds=0.2) as handle:
        for _ in range(10):
            log.info("order")
            time.sleep(0.1)
        stats = wait(handle, lambda stats: stats.delivered == 10)
    found = receiver.report()
    assert len(found["requests"]) <= 7
    assert found["connections"] == 1
    assert stats.delays.total_seconds / sum(stats.delays.counts) < 0.5
