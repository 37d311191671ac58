import asyncio
import contextvars
import gc
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from fapilog import configure_logging, get_logger, log
from fapilog.context import RequestContext, current_request
from fapilog.errors import ConfigurationError
from fapilog.pipeline.tail import Held, Tail
from fapilog.testing import CollectingSink, capture
from fapilog.types import DEBUG, TRACE


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/{outcome}")
    async def serve(outcome: str, background: BackgroundTasks, size: int = 3) -> Any:
        for number in range(size):
            log.debug("step", number=number)
            if number == 1:
                log.info("said at once")
        if outcome == "crashes":
            raise RuntimeError("no")
        if outcome == "slow":
            await asyncio.sleep(0.05)
        if outcome == "logs-an-error":
            log.error("oh")
        if outcome == "thread":
            await asyncio.to_thread(log.debug, "from a thread")
        if outcome == "background":
            background.add_task(log.error, "in the background")
        if outcome == "background-debug":
            background.add_task(log.debug, "in the background")
        if outcome in ("500", "404"):
            from fastapi.responses import PlainTextResponse

            return PlainTextResponse("x", int(outcome))
        return outcome

    @app.websocket("/ws")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        log.debug("step")
        if await socket.receive_text() == "crash":
            raise RuntimeError("no")
        await socket.close()

    return app


@contextmanager
def serving(**options: Any) -> Iterator[tuple[TestClient, Any]]:
    app = make_app()
    with capture(app, **{"level": "info", "tail_level": "debug", **options}) as logged:
        yield TestClient(app, raise_server_exceptions=False), logged


def steps(logged: Any) -> list[int]:
    return [record["number"] for record in logged.find_all(event="step")]


@pytest.mark.parametrize("outcome", ["crashes", "500", "logs-an-error", "background"])
def test_a_request_that_fails_or_logs_an_error_keeps_its_debug_records(outcome: str) -> None:
    with serving() as (client, logged):
        client.get(f"/{outcome}")
        assert steps(logged) == [0, 1, 2]
        assert logged.handle.stats().filtered == {}


@pytest.mark.parametrize("outcome", ["fine", "404", "slow"])
def test_one_that_goes_well_forgets_them_and_counts_them(outcome: str) -> None:
    with serving() as (client, logged):
        client.get(f"/{outcome}")
        assert logged.events == ["said at once", "request completed"]
        assert logged.handle.stats().filtered == {"tail": 3}


@pytest.mark.parametrize("setting", ["tail_slow_ms", "access_slow_ms"])
def test_one_that_is_slow_keeps_them(setting: str) -> None:
    with serving(**{setting: 30}) as (client, logged):
        client.get("/slow")
        client.get("/fine")
        assert steps(logged) == [0, 1, 2]
        assert logged.handle.stats().filtered == {"tail": 3}


def test_they_come_before_the_access_record_in_order_with_the_times_at_which_they_were_logged() -> None:
    with serving() as (client, logged):
        client.get("/500")
        records = logged.records
    assert [record["event"] for record in records] == ["said at once", "step", "step", "step", "request completed"]
    said, first, second, third, access = (record["timestamp"] for record in records)
    assert first <= second <= said <= third <= access
    assert len({record["trace_id"] for record in records}) == 1
    assert [record["level"] for record in records[1:4]] == ["debug"] * 3
    numbers = [int(record["id"].rpartition("-")[2]) for record in records]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_a_value_that_changes_later_is_kept_as_it_was_logged() -> None:
    app = FastAPI()

    @app.get("/")
    def serve() -> None:
        cart = ["tea"]
        log.debug("cart", cart=cart)
        cart.append("milk")
        raise ValueError

    with capture(app, level="info", tail_level="debug") as logged:
        TestClient(app, raise_server_exceptions=False).get("/")
        assert logged.find(event="cart")["cart"] == ["tea"]


def test_secrets_in_them_are_masked() -> None:
    app = FastAPI()

    @app.get("/")
    def serve() -> None:
        log.debug("login", password="canary", user={"token": "canary"})
        raise ValueError

    with capture(app, level="info", tail_level="debug") as logged:
        TestClient(app, raise_server_exceptions=False).get("/")
        assert logged.find(event="login")["password"] == "REDACTED"
        assert "canary" not in repr(logged.records)


def test_outside_of_a_request_nothing_is_held_back() -> None:
    with serving() as (_, logged):
        log.debug("no")
        assert not log.is_enabled_for(DEBUG)
        current_request.set(RequestContext({"trace_id": "1" * 32}))
        log.debug("no")
        log.error("x")
        assert logged.events == ["x"]
        assert logged.handle.stats().filtered == {"level": 2}


def test_only_what_is_at_least_the_tails_level_is_held_back() -> None:
    app = FastAPI()

    @app.get("/")
    def serve() -> None:
        log.trace("no")
        get_logger("quiet").info("yes")
        log.debug("yes")
        assert log.is_enabled_for(DEBUG)
        assert not log.is_enabled_for(TRACE)
        raise ValueError

    with capture(app, level="info", levels="quiet=error", tail_level="debug") as logged:
        TestClient(app, raise_server_exceptions=False).get("/")
        assert logged.events == ["yes", "yes", "request failed"]
        assert logged.handle.stats().filtered == {}


def test_what_the_standard_library_logs_is_held_back_too() -> None:
    app = FastAPI()

    @app.get("/")
    def serve() -> None:
        logging.getLogger("lib").debug("from a library")
        raise ValueError

    with capture(app, level="info", tail_level="debug") as logged:
        TestClient(app, raise_server_exceptions=False).get("/")
        assert "from a library" in logged.events


def test_records_of_a_thread_and_of_a_background_task_belong_to_the_request() -> None:
    with serving() as (client, logged):
        client.get("/thread")
        client.get("/background-debug")
        assert logged.handle.stats().filtered == {"tail": 3 + 1 + 3 + 1}


def test_the_oldest_go_when_there_are_too_many_and_are_counted() -> None:
    with serving(tail_max_records=5) as (client, logged):
        client.get("/500?size=12")
        assert steps(logged) == [7, 8, 9, 10, 11]
        assert logged.handle.stats().filtered == {"tail_full": 7}


def test_the_oldest_go_when_they_are_too_long() -> None:
    with serving(tail_max_bytes=1_000) as (client, logged):
        client.get("/500?size=12")
        kept = steps(logged)
        assert 1 <= len(kept) <= 6
        assert kept == list(range(12 - len(kept), 12))
        assert logged.handle.stats().filtered == {"tail_full": 12 - len(kept)}


def test_all_requests_together_hold_no_more_than_the_bound() -> None:
    with serving(tail_total_max_bytes=10) as (client, logged):
        client.get("/500")
        assert steps(logged) == []
        assert logged.handle.stats().filtered == {"tail_full": 3}


def test_without_the_access_log_it_works_the_same() -> None:
    with serving(access_log=False) as (client, logged):
        client.get("/fine")
        client.get("/500")
        assert logged.events == ["said at once"] * 2 + ["step"] * 3
        assert logged.handle.stats().filtered == {"tail": 3}


def test_a_request_without_an_access_record_forgets_them_if_it_goes_well_and_keeps_them_if_not() -> None:
    with serving(access_exclude="/fine,/crashes") as (client, logged):
        client.get("/fine")
        assert logged.events == ["said at once"]
        client.get("/crashes")
        assert steps(logged) == [0, 1, 2]
        assert logged.handle.stats().filtered == {"tail": 3}


def test_each_response_may_wait_for_its_delivery() -> None:
    with serving(flush="request") as (client, logged):
        client.get("/crashes")
        client.get("/500")
        client.get("/fine")
        client.get("/background-debug")
        assert steps(logged) == [0, 1, 2, 0, 1, 2]
        assert logged.handle.stats().filtered == {"tail": 3 + 3 + 1}


def test_a_websocket_keeps_them_if_it_fails_and_is_not_slow_for_being_open_long() -> None:
    with serving(tail_slow_ms=1) as (client, logged):
        with client.websocket_connect("/ws") as socket:
            time.sleep(0.02)
            socket.send_text("bye")
        assert "step" not in logged.events
        with suppress(RuntimeError), client.websocket_connect("/ws") as socket:
            socket.send_text("crash")
            socket.receive_text()
        assert logged.events.count("step") == 1


def test_in_a_span_of_opentelemetry_they_have_its_ids_and_belong_to_the_request() -> None:
    tracer = TracerProvider().get_tracer("test")
    app = FastAPI()

    @app.get("/")
    def serve() -> None:
        with tracer.start_as_current_span("inner") as span:
            log.debug("in the span", expected=f"{span.get_span_context().span_id:016x}")
            log.error("oh")

    with capture(app, level="info", tail_level="debug") as logged:
        TestClient(app).get("/")
        record = logged.find(event="in the span")
    assert record["span_id"] == record["expected"]


def test_filters_are_asked_about_them_and_sampling_is_not() -> None:
    with serving(sampling_rate=0, throttle_max_rate=1, dedupe_window_seconds=60, filter_drop="number=1") as (
        client,
        logged,
    ):
        client.get("/crashes")
        assert steps(logged) == [0, 2]
        assert logged.handle.stats().filtered == {"filter": 1, "sampled": 1}


def test_a_record_that_is_to_be_durable_is_not_held_back() -> None:
    app = FastAPI()

    @app.get("/")
    def serve() -> None:
        log.debug("not kept", durable=True)
        raise ValueError

    with capture(app, level="info", tail_level="debug") as logged:
        TestClient(app, raise_server_exceptions=False).get("/")
        assert logged.events == ["request failed"]


def test_configuring_anew_while_a_request_runs_loses_nothing_it_holds() -> None:
    second = CollectingSink()
    app = FastAPI()

    @app.get("/")
    def serve() -> None:
        log.debug("before")
        configure_logging(sinks=[second], level="info", tail_level="debug")
        log.debug("after")
        log.info("said")
        raise ValueError

    first = CollectingSink()
    configure_logging(app, sinks=[first], level="info", tail_level="debug")
    TestClient(app, raise_server_exceptions=False).get("/")
    from fapilog.runtime import flush

    flush()
    assert [record["event"] for record in second.records] == ["said", "before", "request failed"]


def test_what_a_request_holds_that_nobody_ends_is_forgotten_with_it_and_counted() -> None:
    with serving() as (_, logged):
        from fapilog.recorder import slot

        tail = slot.recorder.tail
        assert tail is not None

        def abandoned() -> None:
            request = RequestContext({"trace_id": "1" * 32})
            request.held = tail.begin()
            current_request.set(request)
            log.debug("never told")
            assert tail.bytes > 0

        contextvars.Context().run(abandoned)
        gc.collect()
        assert tail.bytes == 0
        assert logged.handle.stats().filtered == {"tail": 1}


def test_many_requests_at_once_each_keep_their_own() -> None:
    with serving() as (client, logged):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: client.get("/500" if number % 2 else "/fine"), range(60)))
        by_trace = Counter(record["trace_id"] for record in logged.find_all(event="step"))
        failed = {record["trace_id"] for record in logged.find_all(status_code=500)}
        stats = logged.handle.stats()
    assert by_trace == dict.fromkeys(failed, 3)
    assert len(failed) == 30
    assert stats.filtered == {"tail": 90}


class Recorder:
    """What stands behind a tail here: a queue that takes everything."""

    def __init__(self) -> None:
        self.filtered: Counter[str] = Counter()
        self.queue = self
        self.taken: list[bytes] = []

    def put(self, _level: int, _timestamp_ns: int, front: bytes) -> bool:
        self.taken.append(front)
        return True


@given(st.lists(st.integers(0, 40), max_size=50), st.booleans(), st.integers(1, 10), st.integers(1, 100))
def test_whatever_is_put_in_is_kept_or_counted_and_the_bounds_hold(
    sizes: list[int], keep: bool, max_records: int, max_bytes: int
) -> None:
    recorder = Recorder()
    tail = Tail(max_records=max_records, max_bytes=max_bytes, total_max_bytes=60)
    tail.recorder = recorder
    held = tail.begin()
    for size in sizes:
        held.put(DEBUG, 1, b"x" * size)
        assert len(held.items) <= max_records
        assert held.bytes == tail.bytes == sum(len(item[2]) for item in held.items) <= min(max_bytes, 60)
    held.end(keep=keep)
    assert len(recorder.taken) + recorder.filtered.total() == len(sizes)
    assert (held.bytes, tail.bytes) == (0, 0)
    assert held.put(DEBUG, 1, b"late") is keep


def test_threads_that_log_while_the_request_ends_lose_nothing() -> None:
    for keep in (True, False):
        recorder = Recorder()
        tail = Tail(max_records=50)
        tail.recorder = recorder
        held: Held = tail.begin()
        start = threading.Barrier(4)

        def use(held: Held = held, start: threading.Barrier = start) -> None:
            start.wait()
            for _ in range(2_000):
                held.put(DEBUG, 1, b"x")

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        start.wait()
        held.end(keep=keep)
        for thread in threads:
            thread.join()
        held.end(keep=False)
        assert len(recorder.taken) + recorder.filtered.total() == 6_000
        assert (held.bytes, tail.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tail_level": "loud"}, "tail_level: got 'loud'; known: trace"),
        ({"tail_max_records": 0}, "tail_max_records: Input should be greater than 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        configure_logging(**options)


def test_under_a_real_uvicorn() -> None:
    app = make_app()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with capture(app, level="info", tail_level="debug") as logged:
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until = time.monotonic() + 10
            while not server.started and time.monotonic() < until:
                time.sleep(0.01)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                assert client.get("/fine").status_code == 200
                failed = client.get("/crashes")
        finally:
            server.should_exit = True
            thread.join(10)
        assert steps(logged) == [0, 1, 2]
        assert {record["trace_id"] for record in logged.find_all(event="step")} == {failed.headers["x-request-id"]}
        events = logged.events
        assert events.index("request failed") > max(at for at, event in enumerate(events) if event == "step")
