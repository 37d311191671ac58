import logging
import os
import random
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from fapilog import configure_logging, log
from fapilog.context import RequestContext, current_request
from fapilog.errors import ConfigurationError
from fapilog.processors.sample import LEAST, WHOLE, Sample
from fapilog.processors.sieve import Surroundings
from fapilog.testing import capture
from fapilog.types import DEBUG, ERROR, INFO, LEVEL_NAMES, WARNING, Event

TRACE_IDS = st.integers(1, 2**128 - 1)


def keeps(sample: Sample, trace_id: int, level: int = INFO) -> bool:
    return sample.refuses("x", level, "e", {}, {"trace_id": f"{trace_id:032x}"}) is None


@settings(max_examples=1_000)
@given(TRACE_IDS, st.floats(0, 1))
def test_a_trace_is_kept_exactly_when_opentelemetry_samples_it(trace_id: int, rate: float) -> None:
    theirs = TraceIdRatioBased(rate).should_sample(None, trace_id, "span").decision
    assert keeps(Sample(rate), trace_id) == (theirs is not Decision.DROP)


@given(st.floats(0, 1), st.integers(-2, 2), st.integers(0, 2**64 - 1))
def test_it_is_so_at_the_very_bound_too(rate: float, offset: int, upper: int) -> None:
    lower = min(max(round(rate * WHOLE) + offset, 0), WHOLE - 1)
    trace_id = (upper << 64 | lower) or 1
    theirs = TraceIdRatioBased(rate).should_sample(None, trace_id, "span").decision
    assert keeps(Sample(rate), trace_id) == (theirs is not Decision.DROP)


@given(TRACE_IDS, st.floats(0, 1), st.floats(0, 1))
def test_a_trace_that_a_smaller_share_keeps_a_larger_one_keeps_too(trace_id: int, one: float, other: float) -> None:
    less, more = sorted([one, other])
    assert keeps(Sample(more), trace_id) >= keeps(Sample(less), trace_id)


def test_a_trace_keeps_all_its_records_or_none() -> None:
    kept = Counter[str]()
    with capture(sampling_rate=0.5) as logged:
        for _ in range(200):
            ids = {"trace_id": f"{random.getrandbits(128) or 1:032x}"}
            token = current_request.set(RequestContext(ids))
            log.info("one")
            log.debug("two", value=object())
            log.warning("three")
            current_request.reset(token)
        kept.update(record["trace_id"] for record in logged.records)
        stats = logged.handle.stats()
    assert set(kept.values()) == {3}
    assert 50 < len(kept) < 150
    assert stats.filtered == {"sampled": 600 - stats.accepted}


def test_a_request_is_kept_with_its_access_record_or_not_at_all() -> None:
    app = FastAPI()

    @app.get("/{number}")
    def serve(number: int) -> int:
        log.info("served")
        logging.getLogger("library").info("helped")
        if number == 7:
            raise HTTPException(500)
        return number

    with capture(app, sampling_rate=0.5, sampling_levels="warning=0") as logged:
        client = TestClient(app)
        for number in range(60):
            client.get(f"/{number}")
        kept = Counter(record["trace_id"] for record in logged.records)
        failed = logged.find(status_code=500)["trace_id"]
    assert kept.pop(failed) in (1, 3)
    assert set(kept.values()) == {3}
    assert 10 < len(kept) < 50


def test_a_trace_id_of_the_users_own_decides() -> None:
    with capture(sampling_rate=0.5) as logged:
        for _ in range(20):
            log.info("kept", trace_id="0" * 31 + "1")
            log.info("left out", trace_id="f" * 32)
    assert logged.events == ["kept"] * 20


@pytest.mark.parametrize("trace_id", [None, "", "xyz", "z" * 32, 7, "f" * 31])
def test_records_without_a_trace_are_decided_one_by_one(trace_id: Any) -> None:
    draws = iter([0, WHOLE - 1, WHOLE // 2 - 1, WHOLE // 2])
    sample = Sample(0.5, draw=lambda: next(draws))
    fields = {} if trace_id is None else {"trace_id": trace_id}
    assert [sample.refuses("x", INFO, "e", fields, {}) for _ in range(4)] == [None, "sampled", None, "sampled"]


def test_record_by_record_the_share_is_about_right() -> None:
    with capture(sampling_rate=0.2, sampling_by="record") as logged:
        for _ in range(2_000):
            log.info("x", trace_id="f" * 32)
        stats = logged.handle.stats()
    assert 300 < stats.accepted < 500
    assert stats.accepted + stats.filtered["sampled"] == 2_000


@pytest.mark.parametrize("by", ["user_id", lambda record: record["user_id"]], ids=["field", "function"])
def test_records_of_one_value_are_kept_together_in_every_process(by: Any) -> None:
    one, other = Sample(0.5, by=by), Sample(0.5, by=by)
    for user_id in [*range(50), "ann", "x" * 1_000, "žluťoučký", None, 1.5, ("a", 1)]:
        first = one.refuses("x", INFO, "e", {"user_id": user_id}, {})
        if user_id is not None:
            assert other.refuses("y", DEBUG, "f", {"user_id": user_id, "more": 1}, {}) == first
    kept = [user for user in range(1_000) if one.refuses("x", INFO, "e", {"user_id": user}, {}) is None]
    assert 400 < len(kept) < 600
    assert kept[:3] == [user for user in range(1_000) if _known_share(user) < 0.5][:3]


def test_a_value_is_decided_alike_in_another_process() -> None:
    script = """
        from fapilog.processors.sample import Sample
        sample = Sample(0.5, by="value")
        for value in ["ann", 7, ("a", 1), "x" * 1000, *range(50)]:
            print(sample.refuses("x", 20, "e", {"value": value}, {}))
    """
    runs = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert {"None", "sampled"} == set(runs[0].split())


def _known_share(value: object) -> float:
    """Say where a value is among all, as it must stay from release to release: services of two versions agree."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest()) / WHOLE


def test_each_level_may_have_a_share_of_its_own() -> None:
    with capture(sampling_rate=0, sampling_levels="debug=1,WARN=1") as logged:
        for level in LEVEL_NAMES.values():
            log.log(level, level)
    assert logged.events == ["debug", "warning", "error", "critical"]


def test_errors_and_exceptions_are_kept_unless_asked_otherwise() -> None:
    def everything() -> None:
        log.error("error")
        log.critical("critical")
        log.warning("exception", exc_info=ValueError("x"))
        log.info("described", exception={"type": "X"})
        log.info("none", exc_info=None)
        log.info("none", exc_info=False)

    with capture(sampling_rate=0) as logged:
        everything()
    assert logged.events == ["error", "critical", "exception", "described"]
    with capture(sampling_rate=0, sampling_errors=True) as logged:
        everything()
    assert logged.events == []
    assert logged.handle.stats().filtered == {"sampled": 6}


def test_durable_records_are_never_sampled(tmp_path: Any) -> None:
    sink = {"type": "file", "path": str(tmp_path / "log.jsonl")}
    with configure_logging(sinks=[sink], sampling_rate=0, sampling_errors=True) as handle:
        log.info("one", durable=True)
        log.audit("two")
        assert handle.stats().accepted == 2


def test_the_share_falls_as_the_queue_fills_and_only_then() -> None:
    full = 0.0
    sample = Sample(adaptive=True, by="record")
    sample.attach(Surroundings(lambda *_: None, lambda *_: False, lambda: full))

    def shares(level: int) -> float:
        kept = 0
        for _ in range(4_000):
            with suppress(structlog.DropEvent):
                sample(None, "", {"event": "e", "level": LEVEL_NAMES[level]})
                kept += 1
        return kept / 4_000

    for full, share in [(0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (0.9, 0.2), (1.0, LEAST), (3.0, LEAST)]:
        assert shares(WARNING) == pytest.approx(share, abs=0.05), full
        assert shares(ERROR) == 1.0
    assert shares(INFO) > 0


def test_what_is_left_out_for_the_pressure_alone_is_told_apart() -> None:
    sample = Sample(0.5, adaptive=True)
    sample.attach(Surroundings(lambda *_: None, lambda *_: False, lambda: 1.0))
    reasons = Counter(sample.refuses("x", INFO, "e", {}, {}) for _ in range(2_000))
    assert 800 < reasons["sampled"] < 1_200
    assert 800 < reasons["pressure"] < 1_200


def test_the_pressure_is_that_of_the_queue_behind_it() -> None:
    with configure_logging(sinks=[], sampling_adaptive=True, queue_maxsize=100, queue_overflow="drop_oldest") as handle:
        queue = handle._runtime.queue
        queue.wake = lambda: None  # no worker takes anything
        for _ in range(1_000):
            log.info("x")
        stats = handle.stats()
        assert 50 <= queue.fill * 100 <= 100
        assert stats.filtered["pressure"] == 1_000 - stats.accepted > 700
        queue.take()


def test_a_function_that_raises_has_no_say_and_the_record_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(record: Event) -> Any:
        raise SystemExit(record["event"])

    with capture(processors=[Sample(0, by=broken)]) as logged:
        log.info("kept")
        assert logged.records[0]["_filter_error"] == "Sample raised SystemExit: kept"
        assert logged.handle.stats().failures == {"filter": 1}
    assert "processor Sample raised SystemExit" in capfd.readouterr().err


@pytest.mark.parametrize("rate", [1.5, -0.1, "ten", True, None, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"rate must be a number from 0 to 1, such as 0\.1 for every tenth; got"
    ):
        Sample(rate)
    with pytest.raises(ConfigurationError) as caught:
        configure_logging(sampling_rate=rate)
    assert str(caught.value) == f"sampling_rate: got {rate!r}; write a number from 0 to 1, such as 0.1 for every tenth"


@pytest.mark.parametrize("by", ["", "  "])
def test_what_to_sample_by_must_have_a_name(by: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sampling_by: got .*; write trace, record, or the name of a field"):
        configure_logging(sampling_by=by)


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no level is called 'loud'; known: trace, debug"):
        Sample(levels={"loud": 0.5})
    with pytest.raises(ConfigurationError, match="got 'loud'; known: trace, debug"):
        configure_logging(sampling_levels="loud=0.5")


def test_as_an_ordinary_processor_it_decides_the_same() -> None:
    sample = Sample(0.5)
    for lower, kept in (("0" * 15 + "1", True), ("f" * 16, False)):
        event = {"event": "x", "level": "info", "logger": "y", "trace_id": "a" * 16 + lower}
        with capture(processors=[lambda _logger, _name, event: event, sample]) as logged:
            log.info("x", trace_id=event["trace_id"])
        assert logged.events == (["x"] if kept else [])
        assert logged.handle.stats().filtered == ({} if kept else {"sampled": 1})
