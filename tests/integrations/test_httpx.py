"""Calls through httpx to a real server on this machine."""

import asyncio
import builtins
import importlib
import itertools
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from starlette.responses import Response
from starlette.testclient import TestClient

from fapilog import LoggingMiddleware, bind_request, log
from fapilog.context import RequestContext, current_request
from fapilog.errors import MissingExtraError
from fapilog.integrations.httpx import AsyncTracingTransport, TracingTransport
from fapilog.testing import capture

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
IDS = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "request_id": "r-1", "trace_flags": "03"}


class Service:
    """A server that answers `/<status>` with that status, and remembers the headers it was sent."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append({name.lower(): value for name, value in self.headers.items()})
                status = int(self.path.partition("?")[0].rpartition("/")[2] or 200)
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/200")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


@pytest.fixture(scope="module")
def _service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


@pytest.fixture
def service(_service: Service) -> Service:
    _service.heard.clear()
    return _service


@pytest.fixture
def in_request() -> Iterator[RequestContext]:
    request = RequestContext(IDS, tracestate="rojo=1")
    token = current_request.set(request)
    yield request
    current_request.reset(token)


class Clock:
    """Every look at it is a quarter of a second after the last."""

    def __init__(self) -> None:
        self._looks = itertools.count()

    def __call__(self) -> float:
        return next(self._looks) / 4


def ask(url: str, **options: Any) -> httpx.Response:
    follow = options.pop("follow_redirects", False)
    with httpx.Client(transport=TracingTransport(**options), follow_redirects=follow) as client:
        return client.get(url)


def ask_async(url: str, **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=AsyncTracingTransport(**options)) as client:
            return await client.get(url)

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [ask, ask_async])


@both
@pytest.mark.usefixtures("in_request")
def test_a_call_tells_which_trace_and_request_it_is_part_of(service: Service, ask: Any) -> None:
    assert ask(service.url).status_code == 200
    (heard,) = service.heard
    version, trace_id, span_id, flags = heard["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE_ID, "03")
    assert span_id != SPAN_ID
    assert (heard["tracestate"], heard["x-request-id"]) == ("rojo=1", "r-1")


@both
def test_a_call_outside_a_request_begins_a_trace(service: Service, ask: Any) -> None:
    ask(service.url)
    ask(service.url)
    first, second = (heard["traceparent"].split("-")[1] for heard in service.heard)
    assert first != second
    assert service.heard[0]["x-request-id"] == first


@both
def test_calls_are_not_logged_unless_asked(service: Service, ask: Any) -> None:
    with capture() as logged:
        ask(service.url)
    assert [record for record in logged.records if record["logger"] == "fapilog.calls"] == []


@both
def test_a_logged_call_is_a_span_of_its_own_with_the_current_one_as_parent(
    service: Service, ask: Any, in_request: RequestContext
) -> None:
    with capture() as logged:
        bind_request(tenant="acme")
        ask(service.url + "/200", log_calls=True, clock=Clock())
        log.info("afterwards")
    record = logged.find(logger="fapilog.calls")
    assert (record["event"], record["level"]) == ("call completed", "info")
    assert (record["method"], record["url"], record["status_code"]) == ("GET", service.url + "/200", 200)
    assert record["duration_ms"] == 250
    assert (record["trace_id"], record["parent_span_id"], record["request_id"]) == (TRACE_ID, SPAN_ID, "r-1")
    assert record["span_id"] == service.heard[0]["traceparent"].split("-")[2]
    assert record["tenant"] == "acme"
    assert logged.find(event="afterwards")["span_id"] == SPAN_ID


@both
def test_the_ids_of_a_logged_call_outside_a_request_are_those_that_were_sent(service: Service, ask: Any) -> None:
    with capture() as logged:
        ask(service.url, log_calls=True)
    record = logged.find(logger="fapilog.calls")
    assert service.heard[0]["traceparent"] == f"00-{record['trace_id']}-{record['span_id']}-02"


@both
@pytest.mark.parametrize(("status", "level"), [(204, "info"), (304, "info"), (404, "warning"), (503, "error")])
def test_the_level_follows_the_status(service: Service, ask: Any, status: int, level: str) -> None:
    with capture() as logged:
        ask(f"{service.url}/{status}", log_calls=True)
    assert logged.find(logger="fapilog.calls")["level"] == level


@both
def test_a_call_that_fails_is_an_error_without_a_stack_and_the_error_goes_on(ask: Any) -> None:
    with capture() as logged, pytest.raises(httpx.ConnectError):
        ask("http://127.0.0.1:1/", log_calls=True)
    record = logged.find(logger="fapilog.calls")
    assert (record["event"], record["level"]) == ("call failed", "error")
    assert record["exception"].keys() == {"type", "message"}
    assert record["exception"]["type"] == "httpx.ConnectError"
    assert "status_code" not in record


def test_a_call_that_is_cancelled_says_so() -> None:
    class Never(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    async def run() -> None:
        async with httpx.AsyncClient(transport=AsyncTracingTransport(Never(), log_calls=True)) as client:
            async with asyncio.timeout(0.01):
                await client.get("http://never/")

    with capture() as logged, pytest.raises(TimeoutError):
        asyncio.run(run())
    record = logged.find(logger="fapilog.calls")
    assert (record["level"], record["cancelled"]) == ("warning", True)
    assert "exception" not in record


@pytest.mark.parametrize(
    ("asked", "logged_as"),
    [
        ("/200?token=s3cret&page=2", "/200?token&page"),
        ("/200#s3cret", "/200"),
        ("/200?", "/200"),
        ("/a%20b/200?na%20me=s3cret", "/a%20b/200?na%20me"),
    ],
)
def test_no_value_of_a_query_is_logged(service: Service, asked: str, logged_as: str) -> None:
    with capture() as logged:
        ask(service.url + asked, log_calls=True)
    assert logged.find(logger="fapilog.calls")["url"] == service.url + logged_as
    assert "s3cret" not in str(logged.records)


@both
def test_a_slow_request_tells_which_calls_it_waited_for_without_their_query(service: Service, ask: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(ask, f"{service.url}/200?token=s3cret")
        await Response("")(scope, receive, send)

    wrapped = LoggingMiddleware(app)
    with capture(wrapped, access_slow_ms=0.001) as logged:
        TestClient(wrapped).get("/")
    (wait,) = logged.find(logger="fapilog.access")["waited_for"]
    assert (wait["name"], wait["count"]) == (f"GET {service.url}/200", 1)
    assert wait["duration_ms"] > 0


def test_no_password_of_a_url_is_logged(service: Service) -> None:
    with capture() as logged:
        ask(service.url.replace("//", "//ada:s3cret@"), log_calls=True)
    assert logged.find(logger="fapilog.calls")["url"] == service.url + "/"
    assert "s3cret" not in str([record for record in logged.records if record["logger"] == "fapilog.calls"])


@pytest.mark.usefixtures("in_request")
def test_each_redirect_is_a_call_of_its_own(service: Service) -> None:
    ask(service.url + "/302", follow_redirects=True)
    first, second = (heard["traceparent"] for heard in service.heard)
    assert first != second
    assert first[:36] == second[:36]


@pytest.mark.usefixtures("in_request")
def test_headers_the_caller_copied_from_elsewhere_are_replaced(service: Service) -> None:
    with httpx.Client(transport=TracingTransport()) as client:
        client.get(service.url, headers={"Traceparent": f"00-{'1' * 32}-{'2' * 16}-00", "Tracestate": "stale=1"})
    assert service.heard[0]["traceparent"].split("-")[1] == TRACE_ID
    assert service.heard[0]["tracestate"] == "rojo=1"


def test_under_a_span_of_opentelemetry_that_span_is_the_one_that_is_told(service: Service) -> None:
    with capture() as logged, TracerProvider().get_tracer("tests").start_as_current_span("work") as span:
        ask(service.url, log_calls=True)
    span_id = f"{span.get_span_context().span_id:016x}"
    assert service.heard[0]["traceparent"].split("-")[2] == span_id
    assert logged.find(logger="fapilog.calls")["span_id"] == span_id


@both
def test_the_transport_that_was_wrapped_makes_the_calls_and_is_closed(ask: Any) -> None:
    seen: list[str] = []

    class Other(httpx.MockTransport):
        def close(self) -> None:
            seen.append("closed")

        async def aclose(self) -> None:
            seen.append("closed")

    transport = Other(lambda request: httpx.Response(418, headers={"seen": request.headers["traceparent"]}))
    assert ask("http://anywhere/", transport=transport).headers["seen"]
    assert seen == ["closed"]


def test_without_httpx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name == "httpx":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.delitem(sys.modules, "fapilog.integrations.httpx")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'fapilog\[httpx\]'"):
        importlib.import_module("fapilog.integrations.httpx")
