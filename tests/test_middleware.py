import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace as otel
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from fapilog import bind_context, bind_request, get_trace_id, log
from fapilog.context import current_fields, current_request, remembered_request
from fapilog.errors import ConfigurationError
from fapilog.middleware import LoggingMiddleware, install
from fapilog.pipeline.queue import Queue, Sequence
from fapilog.recorder import Recorder, slot
from fapilog.types import TRACE

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"

Messages = list[dict[str, Any]]


class Logged:
    """What was logged since the last look."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._seen: list[dict[str, Any]] = []

    @property
    def records(self) -> list[dict[str, Any]]:
        self._seen += [json.loads(line) for _, _, line in self._queue.take()[0]]
        return self._seen

    @property
    def access(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["logger"] == "fapilog.access"]

    def one(self) -> dict[str, Any]:
        assert len(self.access) == 1, self.access
        return self.access[0]

    def event(self, event: str) -> dict[str, Any]:
        found = [record for record in self.records if record["event"] == event]
        assert len(found) == 1, found
        return found[0]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    queue = Queue(Sequence())
    monkeypatch.setattr(slot, "recorder", Recorder(queue, level=TRACE))
    return Logged(queue)


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install(app, LoggingMiddleware)
    return app


def ask(app: Any, path: str = "/", *, method: str = "GET", **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return contextvars.Context().run(asyncio.run, run())


def scope_of(path: str = "/", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], **more}


def call(app: Any, scope: dict[str, Any], *inbound: dict[str, Any], broken_after: int = 1_000) -> Messages:
    """Call an ASGI application as a server would; return what it sent."""
    waiting = list(inbound)
    sent: Messages = []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.get_running_loop().create_future()
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        if len(sent) >= broken_after:
            raise OSError("the connection is gone")
        sent.append(message)

    contextvars.Context().run(asyncio.run, app(scope, receive, send))
    return sent


def answering(*bodies: bytes, status: int = 200, headers: Any = ()) -> Callable[..., Awaitable[None]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies) - 1})

    return app


async def failing(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("boom")


class TestIds:
    def test_every_record_of_a_request_has_its_ids_and_the_response_tells_them(
        self, app: FastAPI, logged: Logged
    ) -> None:
        @app.get("/")
        async def root() -> None:
            log.info("inside")

        headers = ask(app).headers
        inside, access = logged.event("inside"), logged.one()
        ids = {name: inside[name] for name in ("trace_id", "span_id", "request_id")}
        assert ids.items() <= access.items()
        assert headers["x-request-id"] == ids["request_id"] == ids["trace_id"]
        assert headers["traceresponse"] == f"00-{ids['trace_id']}-{ids['span_id']}-02"
        assert "parent_span_id" not in access

    def test_a_trace_goes_on_with_a_span_of_its_own(self, logged: Logged) -> None:
        response = ask(LoggingMiddleware(answering(b"")), headers={"traceparent": TRACEPARENT})
        access = logged.one()
        assert access["trace_id"] == TRACE_ID
        assert access["parent_span_id"] == SPAN_ID
        assert access["span_id"] != SPAN_ID
        assert response.headers["traceresponse"] == f"00-{TRACE_ID}-{access['span_id']}-01"

    def test_white_space_around_a_traceparent_is_no_part_of_it(self, logged: Logged) -> None:
        call(LoggingMiddleware(answering(b"")), scope_of(headers=[(b"traceparent", f"\t {TRACEPARENT} ".encode())]))
        assert logged.one()["trace_id"] == TRACE_ID

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"traceparent", TRACEPARENT.upper().encode())],
            [(b"traceparent", TRACEPARENT.encode() + b"-" + b"x" * 1_000_000)],
            [(b"traceparent", b"\xff\x00\r\n")],
            [(b"traceparent", TRACEPARENT.encode()), (b"traceparent", TRACEPARENT.encode())],
        ],
    )
    def test_a_traceparent_that_is_not_one_begins_a_new_trace(
        self, logged: Logged, headers: list[tuple[bytes, bytes]]
    ) -> None:
        call(LoggingMiddleware(answering(b"")), scope_of(headers=headers))
        access = logged.one()
        assert access["trace_id"].lower() != TRACE_ID
        assert "parent_span_id" not in access
        assert TRACEPARENT.upper() not in json.dumps(access)

    def test_a_request_id_of_the_client_is_kept_and_returned(self, logged: Logged) -> None:
        response = ask(LoggingMiddleware(answering(b"")), headers={"x-request-id": "order-7.a_B"})
        access = logged.one()
        assert response.headers["x-request-id"] == access["request_id"] == "order-7.a_B"
        assert access["trace_id"] != "order-7.a_B"
        assert "inbound_request_id" not in access

    @pytest.mark.parametrize(
        ("inbound", "kept"),
        [
            (b"../../etc/passwd", "../../etc/passwd"),
            (b"a b", "a b"),
            (b'{"a":1}', '{"a":1}'),
            (b"evil\r\nx-evil: x", r"evil\r\nx-evil: x"),
            (b"\x1b[31mred", r"\x1b[31mred"),
            ("🐎".encode(), r"\xf0\x9f\x90\x8e"),
            (b"x" * 129, "x" * 128),
            (b"\x00" * 1_000_000, r"\x00" * 32),
        ],
    )
    def test_any_other_request_id_is_replaced_and_kept_readable(
        self, logged: Logged, inbound: bytes, kept: str
    ) -> None:
        sent = call(LoggingMiddleware(answering(b"")), scope_of(headers=[(b"x-request-id", inbound)]))
        access = logged.one()
        assert access["request_id"] == access["trace_id"]
        assert access["inbound_request_id"] == kept
        assert dict(sent[0]["headers"])[b"x-request-id"] == access["trace_id"].encode()

    def test_two_request_ids_are_none(self, logged: Logged) -> None:
        headers = [(b"x-request-id", b"one"), (b"x-request-id", b"two")]
        call(LoggingMiddleware(answering(b"")), scope_of(headers=headers))
        access = logged.one()
        assert access["request_id"] == access["trace_id"]

    def test_the_ids_of_an_active_opentelemetry_span_win(self, logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(otel, "_TRACER_PROVIDER", otel.NoOpTracerProvider())
        context = otel.SpanContext(int(TRACE_ID, 16), int(SPAN_ID, 16), is_remote=False)

        async def traced(scope: Any, receive: Any, send: Any) -> None:
            with otel.use_span(otel.NonRecordingSpan(context)):
                await LoggingMiddleware(answering(b""))(scope, receive, send)

        ask(traced, headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
        access = logged.one()
        assert (access["trace_id"], access["span_id"]) == (TRACE_ID, SPAN_ID)

    def test_headers_that_the_application_sends_itself_are_left_and_not_doubled(self, logged: Logged) -> None:
        own = [(b"X-Request-ID", b"mine"), (b"content-type", b"text/plain")]
        sent = call(LoggingMiddleware(answering(b"", headers=own)), scope_of())
        assert [name for name, _ in sent[0]["headers"]] == [b"X-Request-ID", b"content-type", b"traceresponse"]
        assert sent[0]["headers"][0] == (b"X-Request-ID", b"mine")

    def test_a_response_that_is_sent_again_and_again_does_not_collect_headers(self, app: FastAPI) -> None:
        response = PlainTextResponse("always the same")
        app.add_route("/", lambda _request: response)
        seen = [ask(app).headers["x-request-id"] for _ in range(3)]
        assert len(set(seen)) == 3
        assert [name for name, _ in response.raw_headers] == [b"content-length", b"content-type"]

    def test_a_500_has_its_ids_and_its_handler_sees_them(self, app: FastAPI, logged: Logged) -> None:
        @app.exception_handler(Exception)
        async def handle(request: Request, error: Exception) -> JSONResponse:
            log.error("handled")
            return JSONResponse({"trace_id": get_trace_id()}, 500)

        @app.get("/")
        async def root() -> None:
            raise RuntimeError("boom")

        response = ask(app)
        assert response.status_code == 500
        assert (
            response.json()["trace_id"]
            == response.headers["x-request-id"]
            == logged.event("handled")["trace_id"]
            == logged.one()["trace_id"]
        )

    def test_an_error_remembers_the_request_it_left(self) -> None:
        with pytest.raises(RuntimeError) as caught:
            call(LoggingMiddleware(failing), scope_of())
        request = remembered_request(caught.value)
        assert request is not None
        assert len(request.ids["trace_id"]) == 32

    def test_an_error_that_can_remember_nothing_goes_on_unchanged(self) -> None:
        class NarrowError(Exception):
            __slots__ = ()

            def __setattr__(self, name: str, value: Any) -> None:
                raise TypeError("no attributes here")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise NarrowError

        with pytest.raises(NarrowError):
            call(LoggingMiddleware(app), scope_of())


class TestAccessRecord:
    def test_it_says_what_happened(self, app: FastAPI, logged: Logged) -> None:
        @app.post("/orders/{order_id}")
        async def order(order_id: int, request: Request) -> str:
            await request.body()
            return "ok"

        ask(app, "/orders/7?token=secret&page=2", method="POST", content=b"12345", headers={"user-agent": "test/1"})
        access = logged.one()
        assert 0 < access.pop("ttfb_ms") <= access.pop("duration_ms")
        assert {name: access[name] for name in access.keys() - {"timestamp", "id", "pid", "trace_id", "span_id"}} == {
            "level": "info",
            "event": "request completed",
            "logger": "fapilog.access",
            "request_id": access["trace_id"],
            "trace_flags": "02",
            "method": "POST",
            "path": "/orders/7",
            "query": "token=REDACTED&page=2",
            "route": "/orders/{order_id}",
            "status_code": 200,
            "scheme": "http",
            "http_version": "1.1",
            "request_bytes": 5,
            "response_bytes": 4,
            "client_ip": "127.0.0.1",
            "user_agent": "test/1",
        }

    @pytest.mark.parametrize(
        ("status", "level"), [(200, "info"), (304, "info"), (404, "warning"), (499, "warning"), (503, "error")]
    )
    def test_its_level_follows_the_status(self, logged: Logged, status: int, level: str) -> None:
        ask(LoggingMiddleware(answering(b"", status=status)))
        assert (logged.one()["status_code"], logged.one()["level"]) == (status, level)

    def test_it_can_be_left_out_and_the_ids_stay(self, logged: Logged) -> None:
        assert "x-request-id" in ask(LoggingMiddleware(answering(b""), access_log=False)).headers
        assert logged.records == []

    def test_an_error_goes_on_unchanged_and_is_in_it(self, logged: Logged) -> None:
        with pytest.raises(RuntimeError, match=r"^boom$"):
            call(LoggingMiddleware(failing), scope_of())
        access = logged.one()
        assert (access["event"], access["level"], access["status_code"]) == ("request failed", "error", 500)
        assert (access["exception"]["type"], access["exception"]["message"]) == ("RuntimeError", "boom")
        assert "in failing" in access["exception"]["stacktrace"]

    def test_an_error_after_the_response_has_begun_keeps_its_status(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            raise RuntimeError("too late")

        with pytest.raises(RuntimeError):
            call(LoggingMiddleware(app), scope_of())
        access = logged.one()
        assert (access["event"], access["level"], access["status_code"]) == ("request failed", "error", 200)

    def test_an_application_that_does_not_answer_has_failed(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            return

        call(LoggingMiddleware(app), scope_of())
        access = logged.one()
        assert (access["event"], access["level"], access["status_code"]) == ("request failed", "error", 500)
        assert "exception" not in access

    def test_an_http_exception_is_an_answer_and_no_failure(self, app: FastAPI, logged: Logged) -> None:
        @app.get("/")
        async def root() -> None:
            raise HTTPException(418)

        ask(app)
        assert (logged.one()["event"], logged.one()["status_code"]) == ("request completed", 418)

    def test_the_duration_ends_with_the_last_byte_and_not_with_the_background_task(self, logged: Logged) -> None:
        now = 0.0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal now
            await send({"type": "http.response.start", "status": 200})
            for more in (True, True, False):
                now += 1
                await send({"type": "http.response.body", "body": b"x", "more_body": more})
            now += 100
            bind_request(emailed=True)

        call(LoggingMiddleware(app, clock=lambda: now), scope_of())
        access = logged.one()
        assert (access["duration_ms"], access["response_bytes"], access["emailed"]) == (3_000.0, 3, True)

    def test_a_streamed_response_is_passed_on_piece_by_piece(self, app: FastAPI, logged: Logged) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"piece"
                await asyncio.sleep(0.01)

        @app.get("/")
        async def root() -> StreamingResponse:
            return StreamingResponse(pieces())

        assert ask(app).text == "piece" * 3
        assert logged.one()["response_bytes"] == 15
        assert logged.one()["duration_ms"] >= 20

    def test_a_body_that_nobody_reads_counts_as_announced(self, logged: Logged) -> None:
        ask(LoggingMiddleware(answering(b"")), method="POST", content=b"12345")
        assert logged.one()["request_bytes"] == 5

    @pytest.mark.parametrize("length", [b"-1", b"1e3", b"", b"9" * 5_000, "٣".encode()])
    def test_a_length_that_is_no_number_counts_as_nothing(self, logged: Logged, length: bytes) -> None:
        call(LoggingMiddleware(answering(b"")), scope_of(headers=[(b"content-length", length)]))
        assert logged.one()["request_bytes"] == 0

    def test_a_body_in_pieces_is_counted_and_reaches_the_application_whole(self, app: FastAPI, logged: Logged) -> None:
        @app.post("/")
        async def root(request: Request) -> int:
            return len(await request.body())

        pieces = [{"type": "http.request", "body": b"x" * 1_000, "more_body": left > 0} for left in reversed(range(50))]
        sent = call(app, scope_of(method="POST"), *pieces)
        assert sent[1]["body"] == b"50000"
        assert logged.one()["request_bytes"] == 50_000

    def test_a_file_that_the_server_sends_counts_as_announced(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1234")]})
            await send({"type": "http.response.pathsend", "path": "/some/file"})

        call(LoggingMiddleware(app), scope_of())
        assert (logged.one()["response_bytes"], logged.one()["event"]) == (1_234, "request completed")

    def test_what_is_bound_to_the_request_is_on_it(self, app: FastAPI, logged: Logged) -> None:
        @app.get("/")
        async def root() -> None:
            bind_request(user_id=7)

        ask(app)
        assert logged.one()["user_id"] == 7

    def test_a_bound_field_with_a_name_of_ours_is_kept_under_another(self, app: FastAPI, logged: Logged) -> None:
        @app.get("/")
        async def root() -> None:
            bind_request(path="/mine", status_code="mine", status_code_="also mine")
            bind_context(method="mine")
            log.info("inside")

        ask(app)
        access, inside = logged.one(), logged.event("inside")
        assert (access["path"], access["status_code"], access["method"]) == ("/", 200, "GET")
        assert (access["path_"], access["status_code_"], access["status_code__"]) == ("/mine", "also mine", "mine")
        assert access["method_"] == "mine"
        assert (inside["path"], inside["method"]) == ("/mine", "mine")

    def test_an_int_enum_as_status_is_a_number(self, app: FastAPI, logged: Logged) -> None:
        from http import HTTPStatus

        ask(LoggingMiddleware(answering(b"", status=HTTPStatus.NOT_FOUND)))
        assert logged.one()["status_code"] == 404


class TestClientThatLeaves:
    def test_in_the_middle_of_a_stream_is_no_failure(self, app: FastAPI, logged: Logged) -> None:
        async def forever() -> AsyncIterator[bytes]:
            while True:
                yield b"tick"
                await asyncio.sleep(0)

        @app.get("/")
        async def root() -> StreamingResponse:
            return StreamingResponse(forever())

        call(app, scope_of(), {"type": "http.disconnect"})
        access = logged.one()
        assert (access["event"], access["level"], access["status_code"]) == ("request disconnected", "info", 200)
        assert access["disconnected"] is True
        assert "exception" not in access

    def test_so_that_sending_fails_is_logged_once_and_without_a_stack(self, app: FastAPI, logged: Logged) -> None:
        @app.get("/")
        async def root() -> StreamingResponse:
            return StreamingResponse(iter([b"a", b"b", b"c"]))

        scope = scope_of(asgi={"spec_version": "2.4"})
        with pytest.raises(ClientDisconnect):
            call(app, scope, broken_after=2)
        access = logged.one()
        assert (access["event"], access["disconnected"]) == ("request disconnected", True)
        assert "exception" not in access

    def test_before_there_was_an_answer_has_the_status_499(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()

        call(LoggingMiddleware(app), scope_of(), {"type": "http.disconnect"})
        access = logged.one()
        assert (access["event"], access["level"], access["status_code"]) == ("request disconnected", "warning", 499)

    def test_does_not_hide_an_error_of_the_application(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            raise ConnectionRefusedError("the database")

        with pytest.raises(ConnectionRefusedError):
            call(LoggingMiddleware(app), scope_of(), {"type": "http.disconnect"})
        access = logged.one()
        assert (access["event"], access["disconnected"]) == ("request failed", True)
        assert access["exception"]["message"] == "the database"

    def test_after_the_response_has_not_left_early(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answering(b"done")(scope, receive, send)
            await receive()

        call(LoggingMiddleware(app), scope_of(), {"type": "http.disconnect"})
        assert logged.one()["event"] == "request completed"
        assert "disconnected" not in logged.one()

    def test_and_a_request_that_is_cancelled_says_so(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            call(LoggingMiddleware(app), scope_of())
        access = logged.one()
        assert (access["event"], access["level"], access["cancelled"]) == ("request failed", "warning", True)
        assert "exception" not in access


class TestRoute:
    @pytest.fixture
    def app(self) -> FastAPI:
        async def endpoint() -> None:
            """Answer anything."""

        async def plain(_request: Request) -> PlainTextResponse:
            return PlainTextResponse("plain")

        inner = APIRouter(prefix="/inner/{inner}")
        inner.get("/deep/{deep}")(endpoint)
        router = APIRouter(prefix="/router")
        router.get("/x/{x}")(endpoint)
        router.add_route("/plain/{p}", plain)
        router.include_router(inner)
        child = FastAPI()
        child.get("/c/{c}")(endpoint)
        child.include_router(router, prefix="/included")
        app = FastAPI()
        app.get("/files/{name:path}")(endpoint)
        app.add_route("/plain/{p}", plain)
        app.include_router(router, prefix="/api")
        app.mount("/7/{tenant}", child)
        app.mount("/t/{tenant}", child)
        app.mount("/nested/{a}", Starlette(routes=[Mount("/again", routes=[Route("/{b}", plain)])]))
        app.mount("/static", answering(b"file"))
        install(app, LoggingMiddleware)
        return app

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/files/a/b", "/files/{name}"),
            ("/plain/1", "/plain/{p}"),
            ("/docs", "/docs"),
            ("/api/router/x/1", "/api/router/x/{x}"),
            ("/api/plain/1", "/api/plain/{p}"),
            ("/api/router/inner/1/deep/2", "/api/router/inner/{inner}/deep/{deep}"),
            ("/t/7/c/7", "/t/{tenant}/c/{c}"),
            ("/7/7/c/7", "/7/{tenant}/c/{c}"),
            ("/t/7/included/router/x/1", "/t/{tenant}/included/router/x/{x}"),
            ("/t/7/nothing", "/t/{tenant}/{path}"),
            ("/nested/1/again/2", "/nested/{a}/again/{b}"),
            ("/static/a.css", "/static/{path}"),
        ],
    )
    def test_it_is_the_whole_template(self, app: FastAPI, logged: Logged, path: str, route: str) -> None:
        ask(app, path)
        assert logged.one()["route"] == route
        assert logged.one()["path"] == path

    def test_it_does_not_depend_on_where_a_proxy_has_put_the_application(self, app: FastAPI, logged: Logged) -> None:
        for path in ("/proxy/t/7/c/1", "/proxy/api/router/x/1", "/proxy/plain/1"):
            call(app, scope_of(path, root_path="/proxy"))
        assert [access["route"] for access in logged.access] == [
            "/t/{tenant}/c/{c}",
            "/api/router/x/{x}",
            "/plain/{p}",
        ]

    def test_it_is_absent_where_nothing_matched(self, app: FastAPI, logged: Logged) -> None:
        ask(app, "/nowhere")
        assert logged.one()["status_code"] == 404
        assert "route" not in logged.one()

    def test_a_method_that_is_not_allowed_has_the_route_all_the_same(self, app: FastAPI, logged: Logged) -> None:
        ask(app, "/api/router/x/1", method="DELETE")
        assert (logged.one()["status_code"], logged.one()["route"]) == (405, "/api/router/x/{x}")

    def test_starlette_tells_it_too(self, logged: Logged) -> None:
        async def plain(_request: Request) -> PlainTextResponse:
            return PlainTextResponse("plain")

        app = Starlette(routes=[Route("/s/{s:int}", plain), Mount("/m", routes=[Route("/{x}", plain)])])
        install(app, LoggingMiddleware)
        ask(app, "/s/1")
        ask(app, "/m/1")
        assert [access["route"] for access in logged.access] == ["/s/{s}", "/m/{x}"]


class TestContext:
    def test_a_thousand_requests_at_once_see_only_their_own_fields(self, app: FastAPI, logged: Logged) -> None:
        threads = ThreadPoolExecutor(4)

        def dependency(number: int) -> None:
            bind_request(from_sync_dependency=number)

        async def async_dependency(number: int) -> None:
            bind_request(from_async_dependency=number)
            bind_context(in_context=number)

        @app.get("/{number}", dependencies=[Depends(dependency), Depends(async_dependency)])
        async def root(number: int, background: BackgroundTasks) -> None:
            background.add_task(log.info, "in background", number=number)
            await asyncio.sleep(0)
            log.info("in handler", number=number)
            context = contextvars.copy_context()
            await asyncio.get_running_loop().run_in_executor(
                threads, context.run, lambda: log.info("in thread", number=number)
            )
            if number % 10 == 0:
                raise RuntimeError("every tenth")

        async def run() -> None:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await asyncio.gather(
                    *[client.get(f"/{number}", headers={"x-request-id": str(number)}) for number in range(1_000)]
                )

        asyncio.run(run())
        threads.shutdown()
        assert len(logged.records) == 1_000 * 2 + 1_000 + 900
        for record in logged.records:
            own = record.get("number", int(record["path"][1:]) if "path" in record else None)
            assert record["request_id"] == str(own)
            assert record["from_sync_dependency"] == record["from_async_dependency"] == own
            assert record["in_context"] == own
        assert len({record["trace_id"] for record in logged.records}) == 1_000

    def test_background_tasks_log_and_bind_within_the_request(self, app: FastAPI, logged: Logged) -> None:
        def later() -> None:
            bind_request(mailed=True)
            log.info("later")

        @app.get("/")
        async def root(background: BackgroundTasks) -> None:
            background.add_task(later)

        ask(app)
        assert logged.event("later")["trace_id"] == logged.one()["trace_id"]
        assert logged.one()["mailed"] is True

    def test_middleware_of_the_user_sees_the_ids_even_base_http_middleware(self, app: FastAPI, logged: Logged) -> None:
        async def around(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
            log.info("before")
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=around)

        @app.get("/")
        async def root() -> None:
            bind_request(user_id=7)

        ask(app)
        assert logged.event("before")["trace_id"] == logged.one()["trace_id"]
        assert logged.one()["user_id"] == 7
        assert logged.one()["route"] == "/"

    @pytest.mark.parametrize("inner", [answering(b""), failing])
    def test_a_request_leaves_nothing_behind(self, inner: Any, logged: Logged) -> None:
        async def binding(scope: Any, receive: Any, send: Any) -> None:
            bind_context(leak=True)
            bind_request(leak=True)
            await inner(scope, receive, send)

        async def run() -> None:
            try:
                await LoggingMiddleware(binding)(scope_of(), _never, _nowhere)
            except RuntimeError:
                log.info("failed")
            log.info("after")

        asyncio.run(run())
        assert "leak" not in logged.event("after")
        assert "trace_id" not in logged.event("after")

    def test_a_request_that_starts_inside_another_sees_nothing_of_it(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            log.info(scope["path"])
            if scope["path"] == "/outer":
                bind_context(leak=True)
                bind_request(leak=True)
                await asyncio.create_task(LoggingMiddleware(app)(scope_of("/inner"), _never, _nowhere))
                log.info("outer again")
            await answering(b"")(scope, receive, send)

        call(LoggingMiddleware(app), scope_of("/outer"))
        assert "leak" not in logged.event("/inner")
        assert logged.event("outer again")["trace_id"] == logged.event("/outer")["trace_id"]
        assert len({access["trace_id"] for access in logged.access}) == 2

    def test_what_was_bound_around_the_application_is_seen_in_it(self, logged: Logged) -> None:
        async def outer(scope: Any, receive: Any, send: Any) -> None:
            bind_context(tenant="a")
            await LoggingMiddleware(answering(b""))(scope, receive, send)

        call(outer, scope_of())
        assert logged.one()["tenant"] == "a"

    def test_a_request_that_is_thrown_away_half_way_raises_nothing(self, logged: Logged) -> None:
        async def forever(scope: Any, receive: Any, send: Any) -> None:
            await receive()

        suspended: Any = _Suspended
        running: Any = LoggingMiddleware(forever)(scope_of(), suspended, _nowhere)
        contextvars.Context().run(running.send, None)
        running.close()
        assert logged.one()["event"] == "request failed"
        assert current_request.get() is None
        assert not current_fields.get()


async def _never() -> dict[str, Any]:
    raise AssertionError("nothing to receive")


async def _nowhere(message: Any) -> None:
    """Send nothing."""


class _Suspended:
    def __await__(self) -> Iterator[Any]:
        yield


class TestWhatServersAndClientsDo:
    @pytest.mark.parametrize(
        "scope",
        [
            {"type": "http"},
            {"type": "http", "headers": None, "client": None, "path": None, "method": None},
            {"type": "http", "headers": iter([(b"user-agent", b"once")])},
            {"type": "http", "headers": ((b"user-agent", b"tuple"),)},
            {"type": "http", "headers": [(b"user-agent", b"\xff\xfe\x00")], "client": ("", 0)},
            {"type": "http", "headers": [("not", "bytes", "nor", "a", "pair")]},
            {"type": "http", "headers": [b"x"]},
            {"type": "http", "headers": [], "method": "FOO\r\n", "path": "/\x00\ud800\x1b[31m"},
        ],
    )
    def test_a_strange_scope_is_served_and_logged(self, logged: Logged, scope: dict[str, Any]) -> None:
        sent = call(LoggingMiddleware(answering(b"ok")), scope)
        assert sent[1] == {"type": "http.response.body", "body": b"ok", "more_body": False}
        assert logged.one()["event"] == "request completed"

    def test_headers_that_can_be_read_once_reach_the_application(self, logged: Logged) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert list(scope["headers"]) == [(b"user-agent", b"once")]
            await answering(b"")(scope, receive, send)

        call(LoggingMiddleware(app), scope_of(headers=iter([(b"user-agent", b"once")])))
        assert logged.one()["user_agent"] == "once"

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"traceparent", b"x-request-id", b"user-agent", b"content-length"]), st.binary()
            ),
            max_size=6,
        )
    )
    def test_no_headers_whatever_cost_a_request_its_answer(self, headers: list[tuple[bytes, bytes]]) -> None:
        sent = call(LoggingMiddleware(answering(b"ok")), scope_of(headers=headers))
        answered = dict(sent[0]["headers"])
        assert set(answered[b"x-request-id"]) <= set(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
        )
        assert len(answered[b"traceresponse"]) == 55

    def test_every_message_but_the_head_passes_as_the_very_object_it_is(self, logged: Logged) -> None:
        messages: Messages = [
            {"type": "http.response.debug", "info": {}},
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.push", "path": "/x"},
            {"type": "http.response.body", "body": b"a", "more_body": True},
            {"type": "http.response.body", "body": b"b"},
            {"type": "http.response.trailers", "headers": []},
        ]
        inbound = {"type": "http.request", "body": b"", "more_body": False}
        received: Messages = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            received.append(await receive())
            for message in messages:
                await send(message)

        sent = call(LoggingMiddleware(app), scope_of(), inbound)
        assert received[0] is inbound
        assert [one is other for one, other in zip(sent, messages, strict=True)] == [True, False] + [True] * 4
        assert messages[1] == {"type": "http.response.start", "status": 200, "headers": []}

    def test_a_scope_of_another_type_passes_through(self, logged: Logged) -> None:
        call(LoggingMiddleware(answering(b"x")), {"type": "something.new"})
        assert logged.records == []

    def test_a_bug_in_the_record_does_not_cost_the_request(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
        sent = call(LoggingMiddleware(answering(b"ok")), scope_of(fastapi=42))
        assert sent[1]["body"] == b"ok"
        assert "cannot write the access record" in capfd.readouterr().err

    def test_a_wrapped_application_inside_another_is_logged_once(self, app: FastAPI, logged: Logged) -> None:
        child = FastAPI()
        install(child, LoggingMiddleware)
        child.add_middleware(LoggingMiddleware)
        app.mount("/child", child)
        ask(LoggingMiddleware(app), "/child/docs")
        assert logged.one()["path"] == "/child/docs"


class TestWebSocket:
    @pytest.fixture
    def app(self) -> FastAPI:
        app = FastAPI()

        @app.websocket("/ws/{room}")
        async def room(websocket: WebSocket, room: str) -> None:
            await websocket.accept()
            log.info("in room")
            bind_request(room=room)
            if await websocket.receive_text() == "fail":
                raise RuntimeError("boom")
            await websocket.close(4_001)

        @app.websocket("/echo")
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept()
            while True:
                await websocket.send_text(await websocket.receive_text())

        install(app, LoggingMiddleware)
        return app

    def test_it_has_ids_and_a_record_when_it_is_closed(self, app: FastAPI, logged: Logged) -> None:
        with TestClient(app).websocket_connect("/ws/blue", headers={"traceparent": TRACEPARENT}) as websocket:
            websocket.send_text("bye")
            accepted: Any = dict(websocket.extra_headers or [])
        access = logged.one()
        assert (access["event"], access["level"]) == ("websocket closed", "info")
        assert (access["status_code"], access["close_code"]) == (101, 4_001)
        assert (access["route"], access["room"]) == ("/ws/{room}", "blue")
        assert access["trace_id"] == logged.event("in room")["trace_id"] == TRACE_ID
        assert accepted[b"x-request-id"] == TRACE_ID.encode()
        assert access["duration_ms"] > 0

    def test_an_error_in_it_is_on_the_record(self, app: FastAPI, logged: Logged) -> None:
        def fail() -> None:
            with TestClient(app).websocket_connect("/ws/blue") as websocket:
                websocket.send_text("fail")
                websocket.receive_text()

        with pytest.raises(RuntimeError):
            fail()
        access = logged.one()
        assert (access["event"], access["level"]) == ("websocket failed", "error")
        assert access["exception"]["message"] == "boom"

    def test_a_client_that_closes_it_is_no_failure(self, app: FastAPI, logged: Logged) -> None:
        def leave() -> None:
            with TestClient(app).websocket_connect("/echo") as websocket:
                websocket.send_text("one")
                assert websocket.receive_text() == "one"
                websocket.close(1_001)

        with pytest.raises(WebSocketDisconnect):
            leave()
        access = logged.one()
        assert (access["event"], access["level"], access["close_code"]) == ("websocket closed", "info", 1_001)

    def test_one_that_is_refused_has_the_status_403(self, app: FastAPI, logged: Logged) -> None:
        with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect("/nowhere"):
            pass
        access = logged.one()
        assert (access["event"], access["level"], access["status_code"]) == ("websocket closed", "warning", 403)


class TestLifespan:
    def test_logging_starts_before_and_after_the_application_and_ends_after_it(self) -> None:
        told: list[str] = []

        @asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
            told.append("application starts")
            yield
            told.append("application ends")

        async def drain() -> None:
            told.append("drain")

        app = FastAPI(lifespan=lifespan)
        install(app, lambda inner: LoggingMiddleware(inner, on_startup=lambda: told.append("start"), on_shutdown=drain))
        with TestClient(app):
            told.append("serving")
        assert told == ["start", "application starts", "start", "serving", "application ends", "drain"]

    def test_it_ends_after_an_application_whose_shutdown_fails(self) -> None:
        told: list[str] = []

        @asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
            yield
            raise RuntimeError("boom")

        async def drain() -> None:
            told.append("drain")

        app = FastAPI(lifespan=lifespan)
        install(app, lambda inner: LoggingMiddleware(inner, on_shutdown=drain))
        with pytest.raises(RuntimeError, match="boom"), TestClient(app):
            pass
        assert told == ["drain"]

    def test_what_fails_in_logging_is_said_and_does_not_stop_the_application(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def start() -> None:
            raise RuntimeError("no start")

        async def drain() -> None:
            raise RuntimeError("no end")

        app = FastAPI()
        install(app, lambda inner: LoggingMiddleware(inner, on_startup=start, on_shutdown=drain))
        with TestClient(app) as client:
            assert client.get("/docs").status_code == 200
        said = capfd.readouterr().err
        assert "no start" in said
        assert "no end" in said


class TestInstall:
    def test_an_application_is_wrapped_once(self, app: FastAPI, logged: Logged) -> None:
        assert install(app, LoggingMiddleware) is False
        ask(app, "/docs")
        assert len(logged.access) == 1

    def test_it_is_the_outermost_layer_of_middleware_added_before_and_after(self, logged: Logged) -> None:
        app = FastAPI()
        app.add_middleware(_Around, name="before")
        assert install(app, LoggingMiddleware) is True
        app.add_middleware(_Around, name="after")
        ask(app, "/docs")
        assert logged.event("before")["trace_id"] == logged.event("after")["trace_id"] == logged.one()["trace_id"]

    def test_a_stack_that_is_built_already_is_wrapped_in_place(self, logged: Logged) -> None:
        app = FastAPI()
        ask(app, "/docs")
        assert install(app, LoggingMiddleware) is True
        ask(app, "/docs")
        assert len(logged.access) == 1

    def test_a_stack_that_is_built_again_is_wrapped_again(self, app: FastAPI, logged: Logged) -> None:
        ask(app, "/docs")
        app.middleware_stack = None
        ask(app, "/docs")
        assert len(logged.access) == 2

    def test_one_that_wraps_itself_counts_as_wrapped(self) -> None:
        assert install(LoggingMiddleware(FastAPI()), LoggingMiddleware) is False

    def test_what_is_no_starlette_application_is_told_how_to_be_wrapped(self) -> None:
        with pytest.raises(ConfigurationError, match=r"wrap it with app = fapilog\.LoggingMiddleware\(app\)$"):
            install(answering(b""), LoggingMiddleware)

    def test_an_application_stays_as_it_was_if_the_middleware_cannot_be_made(self) -> None:
        def make(_app: Any) -> Any:
            raise RuntimeError("cannot")

        app = FastAPI()
        app.middleware_stack = before = app.build_middleware_stack()
        with pytest.raises(RuntimeError):
            install(app, make)
        assert app.middleware_stack is before
        assert install(app, LoggingMiddleware) is True


class _Around:
    def __init__(self, app: Any, name: str) -> None:
        self.app = app
        self.name = name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        log.info(self.name)
        await self.app(scope, receive, send)
