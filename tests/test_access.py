import asyncio
import contextvars
import gc
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.testclient import TestClient

from fapilog import LoggingMiddleware, bind_request, configure_logging, get_trace_id, log, timed_operation
from fapilog.access import levels_of
from fapilog.context import MAX_WAITS, current_request, note_wait
from fapilog.errors import ConfigurationError
from fapilog.testing import Captured, CollectingSink, capture
from fapilog.types import CRITICAL, ERROR, INFO, WARNING

PARAMETERS = "secret=no&page=2"
UVLOOP_ERROR = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/status/{status}")
    async def answer(status: int) -> Response:
        return Response("body", status)

    @app.get("/health")
    async def health(status: int = 200, ask: bool = False) -> Response:
        if ask:
            log.info("asked", seen=get_trace_id())
        return Response("fine", status)

    @app.get("/health/broken")
    async def broken() -> None:
        raise RuntimeError("boom")

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type=request.headers.get("content-type"))

    return app


def ask(app: Any, path: str = "/status/200", *, method: str = "GET", **options: Any) -> Any:
    return TestClient(app, raise_server_exceptions=False).request(method, path, **options)


def one(logged: Captured) -> dict[str, Any]:
    found = [record for record in logged.records if record["logger"] == "fapilog.access"]
    assert len(found) == 1, found
    return found[0]


class TestRecord:
    @pytest.mark.parametrize(
        ("path", "options"),
        [
            ("/status/201", {}),
            ("/status/404", {"headers": {"user-agent": 'a "quoted" \\ agent\t1'}}),
            ("/status/500", {"headers": {"user-agent": "ä" * 2_000}}),
            ("/nowhere/%22%5C%0A%F0%9F%98%80", {}),
            ("/status/200?token=x&page=2", {}),
            ("/included/7", {}),
            ("/mounted/7", {}),
            ("/echo", {"method": "POST", "content": b"1234"}),
        ],
    )
    def test_the_quick_way_tells_what_the_long_way_does(self, app: FastAPI, path: str, options: dict[str, Any]) -> None:
        def answer(number: int) -> int:
            return number

        router, mounted = APIRouter(prefix="/included"), FastAPI()
        router.get("/{number}")(answer)
        mounted.get("/{number}")(answer)
        app.include_router(router)
        app.mount("/mounted", mounted)
        if "headers" in options:
            options = {**options, "headers": {"user-agent": options["headers"]["user-agent"].encode("latin-1")}}
        told = []
        for more in ({}, {"access_slow_ms": 1e9}):  # whoever asks for more than the usual gets it the long way
            with capture(app, **more) as logged:
                ask(app, path, **options)
                told.append(one(logged))
        plain, full = told
        assert plain.keys() == full.keys()
        own = {"timestamp", "duration_ms", "ttfb_ms", "trace_id", "span_id", "request_id", "id"}
        assert {key: value for key, value in plain.items() if key not in own} == {
            key: value for key, value in full.items() if key not in own
        }
        assert 0 <= plain["ttfb_ms"] <= plain["duration_ms"] < 10_000

    def test_a_name_that_is_secret_is_masked(self, app: FastAPI) -> None:
        with capture(app, redact_fields=["client_ip"]) as logged:
            ask(app)
            assert one(logged)["client_ip"] == "REDACTED"


class TestLevels:
    def test_they_follow_the_status(self) -> None:
        levels = levels_of({})
        assert [levels[status] for status in (100, 200, 304, 404, 499, 500, 599)] == [
            *[INFO] * 3,
            *[WARNING] * 2,
            *[ERROR] * 2,
        ]

    def test_a_status_wins_over_its_class(self) -> None:
        levels = levels_of({"404": INFO, "4xx": ERROR, "500": CRITICAL})
        assert [levels[status] for status in (400, 404, 500, 503)] == [ERROR, INFO, CRITICAL, ERROR]

    @pytest.mark.parametrize("value", ["404=info, 5xx=critical", '{"404": "info", "5XX": "critical"}'])
    def test_they_can_be_set_by_a_variable(self, app: FastAPI, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("FAPILOG_ACCESS_LEVELS", value)
        with capture(app) as logged:
            for status in (404, 403, 500):
                ask(app, f"/status/{status}")
        assert [record["level"] for record in logged.records] == ["info", "warning", "critical"]

    @pytest.mark.parametrize("value", ["600=info", "4x=info", "404=loud", "404", {"": "info"}, "{"])
    def test_what_is_no_status_or_level_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match="access_levels"):
            configure_logging(access_levels=value, sinks=[CollectingSink()])

    def test_only_errors_leaves_out_what_is_below_warning(self, app: FastAPI) -> None:
        with capture(app, access_only_errors=True) as logged:
            for status in (200, 302, 404, 500):
                ask(app, f"/status/{status}", follow_redirects=False)
        assert [record["status_code"] for record in logged.records] == [404, 500]

    def test_a_slow_request_is_a_warning(self, app: FastAPI) -> None:
        with capture(app, access_slow_ms=0.001, access_only_errors=True) as logged:
            ask(app)
        assert (one(logged)["level"], one(logged)["slow"]) == ("warning", True)

    def test_a_slow_error_stays_an_error_and_a_quick_request_is_not_slow(self, app: FastAPI) -> None:
        with capture(app, access_slow_ms=0.001) as logged:
            ask(app, "/status/500")
        assert (one(logged)["level"], one(logged)["slow"]) == ("error", True)
        with capture(app, access_slow_ms=60_000) as logged:
            ask(app)
        assert (one(logged)["level"], "slow" in one(logged)) == ("info", False)

    def test_a_slow_request_tells_what_it_waited_for(self, app: FastAPI) -> None:
        @app.get("/pay")
        def pay() -> None:  # in a thread
            for _ in range(2):
                with timed_operation("charge card"):
                    time.sleep(0.01)
            for number in range(9):
                with timed_operation(f"step {number}"):
                    pass

        with capture(app, access_slow_ms=15) as logged:
            ask(app, "/pay")
            ask(app)
        slow, quick = [record for record in logged.records if record["logger"] == "fapilog.access"]
        longest, *others = slow["waited_for"]
        assert (longest["name"], longest["count"], longest["duration_ms"] >= 20) == ("charge card", 2, True)
        assert len(others) == 4
        assert "waited_for" not in quick

    def test_a_slow_request_that_waited_for_nothing_known_does_not_say(self, app: FastAPI) -> None:
        with capture(app, access_slow_ms=0.001) as logged:
            ask(app)
        assert "waited_for" not in one(logged)

    def test_what_a_request_waited_for_is_not_remembered_without_end(self, app: FastAPI) -> None:
        @app.get("/busy")
        async def busy() -> int:
            for number in range(MAX_WAITS + 1):
                note_wait(f"step {number}", 0.01)
            request = current_request.get()
            assert request is not None
            return len(request.waits)

        with capture(app, access_slow_ms=0.001) as logged:
            assert ask(app, "/busy").json() == MAX_WAITS
        assert len(one(logged)["waited_for"]) == 5

    def test_a_stream_of_events_is_as_slow_as_its_head(self, app: FastAPI) -> None:
        @app.get("/events")
        async def events() -> StreamingResponse:
            async def ticks() -> AsyncIterator[bytes]:
                yield b"data: 1\n\n"
                await asyncio.sleep(0.3)

            return StreamingResponse(ticks(), media_type="text/event-stream")

        with capture(app, access_slow_ms=250) as logged:
            ask(app, "/events")
        assert one(logged)["duration_ms"] >= 250
        assert "slow" not in one(logged)


class TestExcluded:
    def test_a_probe_that_succeeds_leaves_nothing(self, app: FastAPI) -> None:
        with capture(app) as logged:
            headers = ask(app, "/health").headers
        assert logged.records == []
        assert "x-request-id" not in headers

    def test_one_that_does_not_has_everything(self, app: FastAPI) -> None:
        with capture(app) as logged:
            response = ask(app, "/health?status=503", headers={"x-request-id": "probe-1", "user-agent": "kubelet"})
        access = one(logged)
        assert (access["status_code"], access["level"], access["user_agent"]) == (503, "error", "kubelet")
        assert response.headers["x-request-id"] == access["request_id"] == "probe-1"
        assert response.headers["traceresponse"].split("-")[1] == access["trace_id"]

    def test_one_that_raises_has_its_stack(self, app: FastAPI) -> None:
        with capture(app) as logged:
            response = ask(app, "/health/broken")
        access = one(logged)
        assert access["exception"]["message"] == "boom"
        assert response.headers["x-request-id"] == access["request_id"]

    def test_whoever_asks_for_its_ids_gets_them_and_so_does_the_client(self, app: FastAPI) -> None:
        with capture(app) as logged:
            response = ask(app, "/health?ask=1", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
        record = logged.find(event="asked")
        assert record["seen"] == record["trace_id"] == response.headers["x-request-id"] == "a" * 32
        assert record["parent_span_id"] == "b" * 16

    def test_a_span_that_began_in_it_does_not_give_it_its_ids(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            with TracerProvider().get_tracer("tests").start_as_current_span("inner"):
                log.info("inside")
            log.info("behind")
            await Response("", 500)(scope, receive, send)

        wrapped = LoggingMiddleware(app)
        with capture(wrapped) as logged:
            response = ask(wrapped, "/health", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
        inside, behind, access = logged.records
        assert inside["trace_id"] != "a" * 32
        assert inside["request_id"] == behind["trace_id"] == access["trace_id"] == "a" * 32
        assert access["parent_span_id"] == "b" * 16
        assert response.headers["traceresponse"].split("-")[2] == behind["span_id"] == access["span_id"]

    def test_a_task_that_listens_while_the_body_is_sent_costs_no_byte_of_the_record(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await asyncio.gather(send({"type": "http.response.body", "body": b"four"}), receive())
            await asyncio.sleep(0.05)
            raise RuntimeError("boom")

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(_message: Any) -> None:
            await asyncio.sleep(0)

        wrapped = LoggingMiddleware(app)
        with capture(wrapped) as logged, pytest.raises(RuntimeError):
            asyncio.run(wrapped({"type": "http", "path": "/health", "headers": []}, receive, send))
        access = one(logged)
        assert (access["event"], access["response_bytes"]) == ("request failed", 4)
        assert access["duration_ms"] < 50

    def test_what_fails_behind_an_answer_that_went_well_is_told(self, app: FastAPI) -> None:
        @app.get("/ready")
        async def ready(tasks: BackgroundTasks) -> str:
            tasks.add_task(fail)
            return "four"

        async def fail() -> None:
            await asyncio.sleep(0.05)
            raise RuntimeError("boom")

        with capture(app) as logged:
            ask(app, "/ready")
        access = one(logged)
        assert (access["event"], access["status_code"], access["response_bytes"]) == ("request failed", 200, 6)
        assert access["duration_ms"] < 50

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_stream_is_watched_to_its_end(self, app: FastAPI, fails: bool) -> None:
        @app.get("/metrics")
        async def metrics() -> StreamingResponse:
            async def chunks() -> AsyncIterator[bytes]:
                yield b"1234"
                if fails:
                    raise RuntimeError("boom")

            return StreamingResponse(chunks())

        with capture(app) as logged:
            ask(app, "/metrics")
        told = [(each["event"], each["status_code"], each["response_bytes"]) for each in logged.records]
        assert told == ([("request failed", 200, 4)] if fails else [])

    @pytest.mark.parametrize("path", ["/health", "/other"])
    @pytest.mark.parametrize("error", [BrokenPipeError("gone"), UVLOOP_ERROR], ids=["OSError", "uvloop"])
    @pytest.mark.parametrize("sent", [0, 1])
    def test_a_client_that_leaves_is_told(self, sent: int, error: Exception, path: str) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.body" or not sent:
                raise error

        async def receive() -> Any:
            raise AssertionError("nobody asks")

        wrapped = LoggingMiddleware(Response("fine"))
        with capture(wrapped) as logged, pytest.raises(type(error)):
            asyncio.run(wrapped({"type": "http", "path": path, "headers": []}, receive, send))
        assert (one(logged)["event"], one(logged)["status_code"]) == ("request disconnected", 200)

    @pytest.mark.parametrize("path", ["/health", "/other"])
    def test_any_other_error_of_a_server_is_a_failure(self, path: str) -> None:
        async def send(_message: Any) -> None:
            raise RuntimeError("Expected ASGI message 'http.response.body'")

        async def receive() -> Any:
            raise AssertionError("nobody asks")

        wrapped = LoggingMiddleware(Response("fine"))
        with capture(wrapped) as logged, pytest.raises(RuntimeError):
            asyncio.run(wrapped({"type": "http", "path": path, "headers": []}, receive, send))
        assert (one(logged)["event"], "disconnected" in one(logged)) == ("request failed", False)

    @pytest.mark.parametrize("path", ["/health", "/other"])
    def test_a_request_leaves_nothing_to_the_garbage_collector(self, path: str) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await Response("fine")(scope, receive, send)

        async def send(_message: Any) -> None:
            return None

        async def receive() -> Any:
            return {"type": "http.request"}

        async def serve() -> int:
            scope = {"type": "http", "path": path, "root_path": "", "method": "GET", "headers": []}
            await wrapped(dict(scope), receive, send)
            gc.collect()
            gc.disable()
            try:
                for _ in range(50):
                    await wrapped(dict(scope), receive, send)
                return gc.collect()
            finally:
                gc.enable()

        wrapped = LoggingMiddleware(app)
        with capture(wrapped):
            assert asyncio.run(serve()) < 50

    def test_what_is_excluded_is_a_setting(self, app: FastAPI) -> None:
        with capture(app, access_exclude="/status/*, OPTIONS") as logged:
            ask(app, "/status/204")
            ask(app, "/health")
            ask(app, "/nowhere", method="OPTIONS")
        assert [(record["path"], record["status_code"]) for record in logged.records] == [
            ("/health", 200),
            ("/nowhere", 404),
        ]

    def test_an_entry_that_is_none_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="access_exclude: 'no path' is neither"):
            configure_logging(access_exclude=["no path"], sinks=[CollectingSink()])

    def test_a_websocket_that_is_excluded_and_accepted_leaves_nothing(self, app: FastAPI) -> None:
        @app.websocket("/live")
        async def live(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.close()

        with capture(app) as logged, TestClient(app).websocket_connect("/live"):
            pass
        assert logged.records == []


class TestClientAndUser:
    def test_a_trusted_proxy_says_who_the_client_is(self, app: FastAPI) -> None:
        headers = {"x-forwarded-for": "1.1.1.1, 203.0.113.7"}
        with capture(app, trusted_proxies="10.0.0.0/8") as logged:
            TestClient(app, client=("10.0.0.9", 1)).get("/status/200", headers=headers)
            TestClient(app, client=("192.0.2.1", 1)).get("/status/200", headers=headers)
        assert [record["client_ip"] for record in logged.records] == ["203.0.113.7", "192.0.2.1"]

    def test_nobody_is_trusted_unless_named(self, app: FastAPI) -> None:
        with capture(app) as logged:
            TestClient(app, client=("127.0.0.1", 1)).get("/status/200", headers={"x-forwarded-for": "1.1.1.1"})
        assert one(logged)["client_ip"] == "127.0.0.1"

    def test_a_proxy_that_is_none_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="trusted_proxies: 'nginx' is neither"):
            configure_logging(trusted_proxies=["nginx"], sinks=[CollectingSink()])

    def test_the_user_an_authenticating_middleware_found_is_named(self, app: FastAPI) -> None:
        class Backend(AuthenticationBackend):
            async def authenticate(self, conn: Any) -> Any:
                name = conn.headers.get("x-user")
                return (AuthCredentials(["authenticated"]), SimpleUser(name)) if name else None

        app.add_middleware(AuthenticationMiddleware, backend=Backend())
        with capture(app) as logged:
            ask(app, headers={"x-user": "ann"})
            ask(app)
        assert [record.get("user_id") for record in logged.records] == ["ann", None]

    @pytest.mark.parametrize(
        ("user", "user_id"),
        [
            ("ann", "ann"),
            (7, "7"),
            (SimpleNamespace(is_authenticated=True, identity="", id=7), "7"),
            (SimpleNamespace(is_authenticated=False, id=7), None),
            (SimpleNamespace(id=7), None),
            (None, None),
        ],
    )
    def test_what_a_middleware_left_in_the_scope_is_read_with_care(self, user: Any, user_id: str | None) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["user"] = user
            await Response("")(scope, receive, send)

        wrapped = LoggingMiddleware(app)
        with capture(wrapped) as logged:
            ask(wrapped)
        assert one(logged).get("user_id") == user_id

    def test_a_function_of_the_users_is_asked_when_the_request_is_over(self, app: FastAPI) -> None:
        with capture(app, user=lambda scope: scope["path_params"]["status"]) as logged:
            ask(app, "/status/204")
        assert one(logged)["user_id"] == "204"

    def test_a_function_that_fails_costs_the_user_and_not_the_record(
        self, app: FastAPI, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with capture(app, user=lambda scope: scope["nothing"]) as logged:
            ask(app)
        assert "user_id" not in one(logged)
        assert "raised KeyError('nothing')" in capfd.readouterr().err

    def test_what_was_bound_to_the_request_wins(self, app: FastAPI) -> None:
        @app.get("/bound")
        async def bound() -> None:
            bind_request(user_id="bound")

        with capture(app, user=lambda _scope: "asked") as logged:
            ask(app, "/bound")
        assert one(logged)["user_id"] == "bound"
        assert "user_id_" not in one(logged)


class TestHeadersAndBodies:
    def test_no_header_and_no_body_is_told_by_default(self, app: FastAPI) -> None:
        with capture(app) as logged:
            ask(app, "/echo", method="POST", json={"t0ps3cret": 1}, headers={"authorization": "t0ps3cret"})
        assert "t0ps3cret" not in str(logged.records)

    def test_headers_that_are_named_are(self, app: FastAPI) -> None:
        named = {"access_headers": "x-*,authorization", "access_response_headers": ["content-type", "x-request-id"]}
        with capture(app, **named) as logged:
            ask(app, headers={"x-one": "1", "authorization": "Bearer t0ps3cret", "x-two-token": "t0ps3cret"})
        access = one(logged)
        assert access["request_headers"] == {
            "x-one": "1",
            "authorization": "REDACTED",
            "x-two-token": "REDACTED",
        }
        assert access["response_headers"] == {"x-request-id": access["request_id"]}

    def test_bodies_are_told_as_what_they_are_with_secrets_masked(self, app: FastAPI) -> None:
        with capture(app, access_bodies="both") as logged:
            response = ask(app, "/echo", method="POST", json={"name": "ann", "deep": [{"password": "t0ps3cret"}]})
        access = one(logged)
        assert (
            access["request_body"]
            == access["response_body"]
            == {
                "name": "ann",
                "deep": [{"password": "REDACTED"}],
            }
        )
        assert response.json()["deep"][0]["password"] == "t0ps3cret"

    def test_a_body_is_cut_and_the_application_gets_it_whole(self, app: FastAPI) -> None:
        with capture(app, access_bodies="request", access_body_max_bytes=10) as logged:
            response = ask(app, "/echo", method="POST", content=b"x" * 100_000, headers={"content-type": "text/plain"})
        access = one(logged)
        assert access["request_body"] == f"{'x' * 10}<+99990 more>"
        assert "response_body" not in access
        assert len(response.content) == 100_000

    @pytest.mark.parametrize(
        "headers",
        [
            {"content-type": "multipart/form-data; boundary=x"},
            {"content-type": "text/event-stream"},
            {"content-type": "application/octet-stream"},
            {"content-type": "text/plain", "content-encoding": "gzip"},
            {},
        ],
    )
    def test_files_streams_and_what_is_unreadable_are_never_told(self, app: FastAPI, headers: dict[str, str]) -> None:
        types = ["*/*", "*"] if "octet" not in str(headers) else ["text/*"]
        with capture(app, access_bodies="request", access_body_types=types) as logged:
            ask(app, "/echo", method="POST", content=b"t0ps3cret", headers=headers)
        assert "t0ps3cret" not in str(logged.records)

    def test_an_upload_reaches_the_application(self, app: FastAPI) -> None:
        with capture(app, access_bodies="both") as logged:
            assert len(ask(app, "/echo", method="POST", files={"file": b"x" * 3_000_000}).content) > 3_000_000
        assert "request_body" not in one(logged)

    def test_a_body_that_nobody_reads_is_not_read(self, app: FastAPI) -> None:
        with capture(app, access_bodies="both") as logged:
            ask(app, "/nowhere", method="POST", json={"a": 1})
        assert "request_body" not in one(logged)


class TestAddedHeaders:
    def test_they_are_chosen(self, app: FastAPI) -> None:
        with capture(app, add_headers="X-Request-ID,server-timing,x-response-time-ms"):
            headers = ask(app).headers
        assert "x-request-id" in headers
        assert "traceresponse" not in headers
        assert headers["server-timing"] == f"app;dur={headers['x-response-time-ms']}"
        assert 0 < float(headers["x-response-time-ms"]) < 10_000

    def test_none_at_all_leaves_every_message_the_very_object_it_is(self) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(start)

        async def send(message: Any) -> None:
            sent.append(message)

        wrapped = LoggingMiddleware(app)
        with capture(wrapped, add_headers=""):
            asyncio.run(wrapped({"type": "http", "path": "/", "headers": []}, send, send))  # type: ignore[arg-type]
        assert sent[0] is start

    def test_a_middleware_follows_the_next_configuration(self, app: FastAPI) -> None:
        with capture(app, add_headers=[]):
            assert "x-request-id" not in ask(app).headers
        with capture(app):
            assert "x-request-id" in ask(app).headers


class TestFlush:
    def test_everything_is_delivered_before_the_response_ends(self, app: FastAPI) -> None:
        @app.get("/work")
        async def work(background: BackgroundTasks) -> str:
            log.info("working")
            background.add_task(log.info, "later")
            return "done"

        sink = CollectingSink()
        delivered: list[Any] = []

        async def send(message: Any) -> None:
            delivered.append((message["type"], [record["event"] for record in sink.records]))

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": "/work", "query_string": b"", "headers": []}
        with configure_logging(app, sinks=[sink], flush="request"):
            contextvars.Context().run(asyncio.run, app(scope, receive, send))
            assert [record["event"] for record in sink.records] == ["working", "request completed", "later"]
        assert delivered[-1] == ("http.response.body", ["working", "request completed"])
        assert sink.records[1]["response_bytes"] == 6

    def test_a_failure_after_the_response_is_told_too(self, app: FastAPI) -> None:
        @app.get("/work")
        async def work(background: BackgroundTasks) -> None:
            def fail() -> None:
                raise RuntimeError("boom")

            background.add_task(fail)

        with capture(app, flush="request") as logged:
            ask(app, "/work")
        assert logged.events == ["request completed", "request failed"]
        assert logged.records[1]["exception"]["message"] == "boom"
        completed, failed = logged.records
        for field in ("response_bytes", "duration_ms", "ttfb_ms"):
            assert completed[field] == failed[field]

    def test_a_sink_that_is_stuck_holds_a_response_up_for_no_longer_than_it_may(self, app: FastAPI) -> None:
        import threading

        free = threading.Event()

        class Stuck(CollectingSink):
            def write(self, batch: Any, /) -> None:
                free.wait(10)

        with configure_logging(app, sinks=[Stuck()], flush="request", flush_timeout_seconds=0.05):
            assert ask(app).status_code == 200
            free.set()


class TestAfterTheLifespan:
    def test_a_record_of_a_request_waits_for_nothing(self, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[str] = []
        with configure_logging(app, sinks=[CollectingSink()]) as handle:
            with TestClient(app):
                pass
            with monkeypatch.context() as patched:
                patched.setattr(handle._runtime.worker, "flush", lambda *_, **__: waits.append("waited"))
                ask(app)
                assert waits == []
                log.info("the server says goodbye")
                assert waits == ["waited"]


class TestBadInput:
    @pytest.mark.parametrize("options", [{}, {"access_headers": "*", "trusted_proxies": "*", "access_bodies": "both"}])
    @pytest.mark.parametrize(
        "header",
        [
            ("x-request-id", b"x" * 5_000),
            ("x-request-id", b"\x1b[31mred\r\nset-cookie: a=b"),
            ("user-agent", b"evil\r\nx: y\x00\xff"),
            ("x-forwarded-for", b", ".join([b"1.2.3.4"] * 1_000)),
            ("traceparent", b"0" * 1_000_000),
            ("content-type", b"\xff\xfe; charset=\r\n"),
            ("content-length", b"-five"),
        ],
    )
    def test_a_header_is_never_reflected_and_always_one_valid_record(
        self, header: tuple[str, bytes], options: dict[str, Any]
    ) -> None:
        name, value = header
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"x", "more_body": False}

        wrapped = LoggingMiddleware(Response("ok"))
        path = b"/\xff\xfe".decode("utf-8", "surrogateescape")
        scope = {"type": "http", "path": path, "query_string": b"a=\xff\r\n", "headers": [(name.encode(), value)]}
        with capture(wrapped, **options) as logged:
            asyncio.run(wrapped(scope, receive, send))
        access = one(logged)
        assert access["event"] == "request completed"
        assert all(value not in each and b"\r" not in each for _, each in sent[0]["headers"])

    @pytest.mark.parametrize("options", [{}, {"flush": "request"}, {"access_bodies": "both"}])
    @pytest.mark.parametrize("left_at", range(4))
    def test_a_client_may_leave_at_every_moment(self, left_at: int, options: dict[str, Any]) -> None:
        steps: list[str] = []

        def step() -> None:
            if len(steps) == left_at:
                raise BrokenPipeError("gone")
            steps.append("step")

        async def send(message: Any) -> None:
            step()

        async def receive() -> Any:
            if len(steps) >= left_at:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            await send({"type": "http.response.body", "body": b"2"})

        wrapped = LoggingMiddleware(app)
        with capture(wrapped, **options) as logged:
            try:
                asyncio.run(wrapped({"type": "http", "path": "/", "headers": []}, receive, send))
            except BrokenPipeError:
                assert left_at < 3
        told_before = options.get("flush") == "request" and left_at == 2
        assert one(logged)["event"] == ("request completed" if left_at == 3 or told_before else "request disconnected")


class TestWebSocket:
    def test_messages_and_bytes_are_counted_each_way(self, app: FastAPI) -> None:
        @app.websocket("/chat")
        async def chat(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())
            await websocket.send_bytes(b"123")
            await websocket.send_text("ä")
            await websocket.close(4_000)

        with capture(app) as logged, TestClient(app).websocket_connect(f"/chat?{PARAMETERS}") as websocket:
            websocket.send_text("hello")
            assert [websocket.receive_text(), websocket.receive_bytes(), websocket.receive_text()] == [
                "hello",
                b"123",
                "ä",
            ]
        access = one(logged)
        assert (access["request_messages"], access["request_bytes"]) == (1, 5)
        assert (access["response_messages"], access["response_bytes"]) == (3, 10)
        assert (access["status_code"], access["close_code"], access["scheme"]) == (101, 4_000, "ws")
        assert 0 < access["ttfb_ms"] <= access["duration_ms"]
        assert access["query"] == "secret=REDACTED&page=2"


EVERYTHING: dict[str, Any] = {
    "access_bodies": "both",
    "access_headers": "*",
    "access_response_headers": "*",
    "trusted_proxies": "*",
    "access_slow_ms": 1,
    "access_exclude": ["/quiet/", "DELETE"],
    "add_headers": "x-request-id,traceresponse,x-response-time-ms,server-timing",
}

ODD = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.binary(max_size=5), st.just({}), st.just([None]))
MESSAGES = st.lists(
    st.one_of(
        ODD,
        st.fixed_dictionaries(
            {"type": st.sampled_from(["http.response.start", "http.response.body", "http.response.pathsend", "x"])},
            optional={
                "status": st.one_of(ODD, st.sampled_from([200, 404, 503])),
                "headers": st.one_of(
                    ODD, st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=3)
                ),
                "body": st.one_of(ODD, st.binary(max_size=9)),
                "more_body": st.booleans(),
            },
        ),
    ),
    max_size=5,
)
SCOPES = st.fixed_dictionaries(
    {"type": st.just("http")},
    optional={
        "path": st.one_of(ODD, st.sampled_from(["/quiet/x", "/health"])),
        "root_path": ODD,
        "query_string": st.one_of(ODD, st.binary(max_size=30)),
        "headers": st.one_of(
            st.none(),
            st.lists(
                st.tuples(
                    st.sampled_from(
                        b"x-forwarded-for content-type x-request-id traceparent tracestate user-agent".split()
                    ),
                    st.one_of(ODD, st.binary(max_size=30)),
                ),
                max_size=4,
            ),
        ),
        "client": st.one_of(ODD, st.tuples(ODD, st.integers())),
        "method": ODD,
        "user": ODD,
        "scheme": ODD,
    },
)


class RefusedError(Exception):
    """The server does not take a message."""


def test_a_header_that_is_no_pair_costs_the_record_nothing() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": "0"})

    async def send(_message: Any) -> None:
        return None

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    middleware = LoggingMiddleware(app)
    with capture(middleware, access_response_headers=["*"]) as logged:
        asyncio.run(middleware({"type": "http"}, receive, send))
    assert logged.events == ["request failed"]


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["default", "everything"])
def test_whatever_is_sent_reaches_the_server_in_order_and_no_error_is_ours(options: dict[str, Any]) -> None:
    @settings(max_examples=150, deadline=None)
    @given(SCOPES, MESSAGES, st.integers(0, 6))
    def check(scope: dict[str, Any], messages: list[Any], refuses_at: int) -> None:
        sent: list[Any] = []

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            for message in messages:
                await send(message)

        async def send(message: Any) -> None:
            if len(sent) == refuses_at:
                raise RefusedError
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        wrapped = LoggingMiddleware(app)
        wrapped.access = access
        before = len(logged.records)
        try:
            contextvars.Context().run(asyncio.run, wrapped(dict(scope), receive, send))
        except RefusedError:
            assert len(messages) > refuses_at
        else:
            assert len(messages) <= refuses_at
        for one, other in zip(sent, messages, strict=False):
            if one is not other:
                assert {**one, "headers": None} == {**other, "headers": None}
                assert one["headers"][: len(other.get("headers") or [])] == list(other.get("headers") or [])
        assert len(logged.records) - before <= 1

    middleware = LoggingMiddleware(check)  # type: ignore[arg-type]
    with capture(middleware, **options) as logged:
        access = middleware.access
        check()
