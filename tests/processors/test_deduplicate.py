import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog import configure_logging, get_logger, log
from fapilog.context import RequestContext, current_request
from fapilog.errors import ConfigurationError
from fapilog.processors.deduplicate import Deduplicate
from fapilog.processors.sieve import Surroundings
from fapilog.testing import CollectingSink, capture
from fapilog.types import INFO


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_for(events: Any, count: int) -> Any:
    until = time.monotonic() + 5
    while len(events.records) < count and time.monotonic() < until:
        time.sleep(0.01)
    return events.records


def test_the_first_is_kept_and_the_others_are_told_when_the_time_is_over_without_another_call() -> None:
    with capture(dedupe_window_seconds=0.05) as logged:
        for number in range(5):
            log.info("same", number=number)
        first, told = wait_for(logged, 2)
    assert (first["number"], "repeated" in first) == (0, False)
    assert (told["event"], told["level"], told["logger"], told["repeated"]) == ("same", "info", "root", 4)
    assert first["timestamp"] <= told["first_repeated"] <= told["last_repeated"] <= told["timestamp"]
    assert "number" not in told


def test_after_the_time_it_begins_anew() -> None:
    clock = Clock()
    with capture(processors=[Deduplicate(10, clock=clock)]) as logged:
        log.info("same")
        log.info("same")
        clock.now += 10
        log.info("same")
        log.info("same")
        assert [record.get("repeated") for record in logged.records] == [None, 1, None]


def test_another_record_tells_what_is_over() -> None:
    clock = Clock()
    with capture(processors=[Deduplicate(10, clock=clock)]) as logged:
        log.info("a")
        log.info("a")
        log.info("b")
        clock.now += 10
        log.info("c")
        assert [(record["event"], record.get("repeated")) for record in logged.records] == [
            ("a", None),
            ("b", None),
            ("a", 1),
            ("c", None),
        ]


def test_what_was_said_once_is_never_told_again() -> None:
    with capture(dedupe_window_seconds=0.01) as logged:
        log.info("once")
        time.sleep(0.03)
        log.info("other")
    assert logged.events == ["once", "other"]


@pytest.mark.parametrize("end", ["close", "drain", "replace"])
def test_it_is_told_when_logging_ends(end: str) -> None:
    sink = CollectingSink()
    handle = configure_logging(sinks=[sink], dedupe_window_seconds=300)
    for _ in range(4):
        log.warning("same")
    if end == "close":
        handle.close()
    elif end == "drain":
        import asyncio

        async def lifespan() -> None:
            async with handle:
                pass

        asyncio.run(lifespan())
    else:
        configure_logging(sinks=[CollectingSink()])
    assert [record.get("repeated") for record in sink.records] == [None, 3]


def test_it_is_told_at_the_end_of_a_script(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = """
        from fapilog import configure_logging, log
        configure_logging(sinks=["file:///{path}"], dedupe_window_seconds=300)
        for _ in range(1000):
            log.info("same")
    """
    path = tmp_path / "log.jsonl"
    code = "\n".join(
        line.strip().replace("{path}", str(path)) if "for" not in line and "log.info" not in line else line[8:]
        for line in script.splitlines()
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, cwd=tmp_path)
    told = [orjson.loads(line).get("repeated") for line in path.read_bytes().splitlines()]
    assert told == [None, 999]


def test_alike_is_what_has_the_same_values_in_these_fields() -> None:
    with capture(dedupe_window_seconds=60) as logged:
        log.info("a", x=1)
        log.info("a", x=2)
        log.warning("a")
        get_logger("other").info("a")
        assert len(logged.records) == 3
    with capture(dedupe_window_seconds=60, dedupe_fields="x") as logged:
        log.info("a", x=1)
        log.info("b", x=1)
        log.info("c", x=2)
        assert logged.events == ["a", "c"]


def test_errors_are_kept_unless_asked_otherwise() -> None:
    for wanted, count in ((False, 4), (True, 2)):
        with capture(dedupe_window_seconds=60, dedupe_errors=wanted) as logged:
            log.error("same")
            log.error("same")
            log.info("same", exc_info=ValueError())
            log.info("same", exc_info=ValueError())
            assert len(logged.records) == count


def test_the_record_that_tells_has_the_ids_of_the_last_and_not_of_who_happens_to_log() -> None:
    clock = Clock()
    with capture(processors=[Deduplicate(10, clock=clock)]) as logged:
        for digit in "123":
            current_request.set(RequestContext({"trace_id": digit * 32, "span_id": digit * 16, "request_id": digit}))
            log.info("same")
        clock.now += 10
        current_request.set(RequestContext({"trace_id": "9" * 32}))
        log.info("other")
        told = logged.find(repeated=2)
    assert (told["trace_id"], told["span_id"], told["request_id"]) == ("3" * 32, "3" * 16, "3")


def test_with_no_room_to_remember_more_the_oldest_is_told_early() -> None:
    with capture(processors=[Deduplicate(10, max_keys=2)]) as logged:
        for event in "aabbc":
            log.info(event)
        assert [(record["event"], record.get("repeated")) for record in logged.records] == [
            ("a", None),
            ("b", None),
            ("a", 1),
            ("c", None),
        ]


def test_secrets_in_the_event_of_a_repetition_are_those_of_any_record() -> None:
    sink = CollectingSink()
    with configure_logging(sinks=[sink], dedupe_window_seconds=60, redact_fields="repeated"):
        log.info("same")
        log.info("same")
    assert sink.records[1]["repeated"] == "REDACTED"


def test_a_key_that_raises_keeps_the_record_and_marks_it() -> None:
    with capture(processors=[Deduplicate(60, key=lambda record: record["nosuch"])]) as logged:
        log.info("a")
        log.info("a")
        assert [record["_filter_error"] for record in logged.records] == ["Deduplicate raised KeyError: 'nosuch'"] * 2
        assert logged.handle.stats().failures == {"filter": 2}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 4)), max_size=60), st.integers(1, 3))
def test_everything_said_is_kept_or_told(said: list[tuple[str, float]], max_keys: int) -> None:
    clock = Clock()
    told: Counter[str] = Counter()
    sieve = Deduplicate(3, max_keys=max_keys, clock=clock)

    def tell(_logger: str, _level: int, event: str, fields: dict[str, Any]) -> None:
        told[event] += fields["repeated"]

    sieve.attach(Surroundings(tell, lambda *_: False, lambda: 0.0))
    for event, pause in said:
        clock.now += pause
        if sieve.refuses("x", INFO, event, {}, {}) is None:
            told[event] += 1
    sieve.finish()
    assert told == Counter(event for event, _ in said)


def test_a_configuration_that_fails_takes_nothing_from_the_one_that_runs() -> None:
    sieve = Deduplicate(60)
    sink = CollectingSink()
    with configure_logging(sinks=[sink], processors=[sieve]):
        log.info("same")
        log.info("same")
        with pytest.raises(ConfigurationError):
            configure_logging(print, sinks=[CollectingSink()], processors=[sieve])
    assert [record.get("repeated") for record in sink.records] == [None, 1]


def test_the_same_object_loses_nothing_in_the_next_configuration() -> None:
    sieve = Deduplicate(60)
    first, second = CollectingSink(), CollectingSink()
    configure_logging(sinks=[first], processors=[sieve])
    log.info("same")
    log.info("same")
    with configure_logging(sinks=[second], processors=[sieve]):
        log.info("same")
        log.info("same")
    assert sum(record.get("repeated", 1) for record in first.records + second.records) == 4


def test_threads_lose_nothing() -> None:
    sink = CollectingSink()
    with configure_logging(sinks=[sink], dedupe_window_seconds=0.005) as handle:

        def use() -> None:
            for number in range(2_000):
                log.info(f"event {number % 7}")

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(record.get("repeated", 1) for record in sink.records) == 8_000
    stats = handle.stats()
    assert stats.filtered["duplicate"] == sum(record.get("repeated", 0) for record in sink.records)


def test_used_outside_of_a_pipeline_the_next_record_tells() -> None:
    import structlog

    clock = Clock()
    sieve = Deduplicate(10, clock=clock)
    assert sieve(None, "info", {"event": "a", "level": "info"})
    with pytest.raises(structlog.DropEvent):
        sieve(None, "info", {"event": "a", "level": "info"})
    clock.now += 10
    assert sieve(None, "info", {"event": "b", "level": "info"})["_repeated"] == {"a": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_tell_what_its_parent_has_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with configure_logging(sinks=[{"type": "file", "path": str(path)}], dedupe_window_seconds=60) as handle:
        log.info("same")
        log.info("same")
        child = os.fork()
        if child == 0:
            log.info("child")
            handle.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    told = Counter(
        (record["event"], record.get("repeated")) for record in map(orjson.loads, path.read_bytes().splitlines())
    )
    assert told == {("same", None): 1, ("child", None): 1, ("same", 1): 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window_seconds": 0}, "window_seconds must be above 0; got 0"),
        ({"max_keys": -1}, "max_keys must be above 0; got -1"),
    ],
)
def test_a_number_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Deduplicate(**options)
    assert str(caught.value) == said
