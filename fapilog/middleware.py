"""The ASGI middleware: where a request enters and leaves the logs.

It is the outermost layer, outside Starlette's own error handling, so that a 500 has its ids and its access record too.
Messages pass through as they are and when they come; only the head of a response gets two more headers.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, Token, copy_context
from typing import Any, Final

from fapilog.access import Access, ASGIApp, Clock, Header, Message, Receive, Scope, Send
from fapilog.context import (
    NOTHING,
    RequestContext,
    current_fields,
    current_request,
    current_scope,
    longest_waits,
    remember_request,
)
from fapilog.diagnostics import report, surface_bugs
from fapilog.errors import ConfigurationError
from fapilog.exchange import EXCHANGES, Answer, HttpExchange, WebSocketExchange, body_length, copied
from fapilog.identify import identify, read_headers
from fapilog.masks import Masks
from fapilog.processors.redact import Redact
from fapilog.recorder import LoggerName, slot
from fapilog.types import ERROR, WARNING

ACCESS_LOGGER: Final = LoggerName("fapilog.access")
_SCOPE_KEY: Final = "fapilog.request"
_settling: Final = threading.Lock()
_MARK: Final = "_fapilog_installed"
_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}
_REDACT: Final = Redact()
_MASKS: Final = Masks(_REDACT.matches)


class LoggingMiddleware:
    """Give every request its ids, lend them to every record, and write one access record when it is over.

    The ids are those of the active OpenTelemetry span, else of a valid inbound ``traceparent``, else new. The request
    id is a valid inbound ``X-Request-ID``, else the trace id. Both go back as ``x-request-id`` and ``traceresponse``,
    each unless the application has set that header itself. A request that is excluded from the access log has ids only
    if something asks for them: a record, `get_trace_id`, or a response that is not 2xx.

    Around an app that is wrapped already, in the same request, this does nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access_log: bool = True,
        access: Access | None = None,
        on_startup: Callable[[], None] | None = None,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Wrap *app*.

        Args:
            app: The ASGI application.
            access_log: Whether to write the access record. Ids and headers do not depend on it.
            access: What is told of a request, in place of the defaults and *access_log*. `configure_logging` sets it.
            on_startup: Called when the server opens the lifespan and once more when the app has started, since the
                app's own startup may change the logging set up before it. It should do no harm when called twice.
            on_shutdown: Awaited when the app's own shutdown has run, before the server hears of it. What it raises
                is reported on stderr, no more.
            clock: Returns seconds, never backwards.
        """
        self.app = app
        self.access = access or Access(
            masks=_MASKS, leaves=_REDACT.leaves, is_clean=_REDACT.scanner.is_clean, log=access_log
        )
        self.on_startup = on_startup
        self.on_shutdown = on_shutdown
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one websocket or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if kind not in EXCHANGES or _SCOPE_KEY in scope:
            await self.app(scope, receive, send)
            return
        access = self.access
        simple = access.simple
        refused_id = None
        if access.excluded(scope):
            if simple and kind == "http" and slot.recorder.tail is None:
                await self._pass_by(scope, receive, send)
                return
            request: RequestContext = _Unasked(self, scope)
            headers: Mapping[bytes, bytes] = _NO_HEADERS
            answer: Answer = request.answer  # type: ignore[attr-defined]
        else:
            headers = read_headers(scope)
            request, answer, refused_id = identify(headers)
        if simple:
            exchange = EXCHANGES[kind](receive, send, headers, answer, self.clock)
        else:
            if access.slow_ms is not None:
                request.waits = []
            exchange = _exchange(scope, receive, send, headers, answer, access, self.clock)
        scope[_SCOPE_KEY] = request
        # A server may start a request in the context of another one: from its last `send`, or from a callback that was
        # registered in it. What that one bound is none of ours.
        fields = current_fields.get()
        if current_request.get() is not None:
            current_fields.set(NOTHING)
        token = current_request.set(request)
        if slot.recorder.tail is not None:
            request.held = slot.recorder.tail.begin()
        try:
            if simple or access.drain is None:
                await self.app(scope, exchange.receive, exchange.send)
            else:
                await _drained(self.app, scope, request, exchange, access)
        except BaseException as error:
            remember_request(error, request)
            _log(scope, request, exchange, refused_id, error, access)
            if access.drain is not None and isinstance(error, Exception):
                await access.drain()
            raise
        else:
            _log(scope, request, exchange, refused_id, None, access)
            if not simple and access.drain is not None:
                await access.drain()
        finally:
            _leave(scope, token, fields)

    async def _pass_by(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of which nothing is told if it goes well."""
        scope[_SCOPE_KEY] = request = _PassedBy(self, scope, receive, send)
        fields = current_fields.get()
        if current_request.get() is not None:
            current_fields.set(NOTHING)
        token = current_request.set(request)
        try:
            await self.app(scope, request.receive, request.send)
        except BaseException as error:
            remember_request(error, request)
            _log(scope, request, request.watched(), None, error, self.access)
            request.exchange = None
            raise
        else:
            if request.exchange is not None or request.head is None:
                _log(scope, request, request.watched(), None, None, self.access)
                request.exchange = None  # they know each other, and would wait for the garbage collector
        finally:
            _leave(scope, token, fields)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            kind = message["type"]
            if kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._shut_down()
            await send(message)
            if kind == "lifespan.startup.complete":
                self._start_up()

        self._start_up()
        await self.app(scope, receive, watch)

    def _start_up(self) -> None:
        if self.on_startup is not None:
            try:
                self.on_startup()
            except Exception as error:  # noqa: BLE001 - the app starts with or without its logs
                report(f"cannot start logging with the application: {error!r}")

    async def _shut_down(self) -> None:
        if self.on_shutdown is not None:
            try:
                await self.on_shutdown()
            except Exception as error:  # noqa: BLE001 - the app ends with or without its logs
                report(f"cannot end logging with the application: {error!r}")


def _leave(scope: Scope, token: Token[RequestContext | None], fields: Mapping[str, Any]) -> None:
    """Make the context what it was before the request."""
    scope.pop(_SCOPE_KEY, None)
    try:
        current_request.reset(token)
        if current_fields.get() is not fields:
            current_fields.set(fields)
    except ValueError:  # closed from another context, by the garbage collector
        pass


def _exchange(
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: Mapping[bytes, bytes],
    answer: Answer,
    access: Access,
    clock: Clock,
) -> HttpExchange | WebSocketExchange:
    """Return what watches one request, where the settings ask for more than the usual."""
    if access.lends_user:
        current_scope.set(scope)
    if isinstance(answer, list):
        answer = _chosen(answer, access, clock, clock())
    if access.bodies is not None and scope["type"] == "http":
        return copied(receive, send, headers, answer, clock, scope, access.bodies)
    return EXCHANGES[scope["type"]](receive, send, headers, answer, clock)


async def _drained(
    app: ASGIApp,
    scope: Scope,
    request: RequestContext,
    exchange: HttpExchange | WebSocketExchange,
    access: Access,
) -> None:
    """Serve a request, and write its record and deliver everything before the last of its response is sent."""

    async def send(message: Message) -> None:
        if type(exchange) is HttpExchange and not exchange.told and exchange.ends(message):
            exchange.end_with(message)
            _log(scope, request, exchange, None, None, access)
            exchange.told = True
            await access.drain()  # type: ignore[misc]
            seen = exchange.response_bytes, exchange.ended
            await exchange.send(message)
            exchange.response_bytes, exchange.ended = seen  # or the message would count twice, and the wait too
        else:
            await exchange.send(message)

    await app(scope, exchange.receive, send)


def _log(
    scope: Scope,
    request: RequestContext,
    exchange: HttpExchange | WebSocketExchange,
    refused_id: str | None,
    error: BaseException | None,
    access: Access,
) -> None:
    """Write the access record, if there is to be one, behind what was held back. An error of ours stays here."""
    try:
        recorder, bound, held = slot.recorder, current_fields.get(), request.held
        if (
            access.plain
            and error is None
            and type(request) is RequestContext
            and not (bound or request.bound or refused_id or held or exchange.told)
        ):
            encoded = exchange.plain_record(scope, access)
            if encoded is not None:
                level = access.levels.get(exchange.status, ERROR)  # type: ignore[arg-type]  # there is one
                if recorder.level > level or recorder.emit_encoded(
                    ACCESS_LOGGER, level, "request completed", encoded, request.encoded
                ):
                    return
        if not access.log and held is None:
            return
        if isinstance(request, _Unasked):
            if error is None and _went_well(exchange.status):
                if held is not None:
                    held.end(keep=False)
                return
            _, _, refused_id, exchange.headers = request.settle()
        level, event, fields = exchange.outcome(scope, error, access)
        if held is not None:
            slow_ms = held.tail.slow_ms
            waited = exchange.waited(fields) if slow_ms is not None else 0.0
            failed = level >= ERROR or event.endswith("failed") or (fields["status_code"] or 0) >= 500
            held.end(keep=failed or "slow" in fields or (slow_ms is not None and waited >= slow_ms))
            if not access.log:
                return
        if recorder.level > level or (access.only_errors and level < WARNING):
            return
        if exchange.told and event != "request failed":  # before the end of the response
            return
        if refused_id:
            fields["inbound_request_id"] = refused_id
        waits = getattr(request, "waits", None) if "slow" in fields else None
        if waits:
            fields["waited_for"] = longest_waits(waits)
        if bound or request.bound:
            _keep_bound_fields({**request.bound, **bound}, fields)
        elif access.flat and not waits and recorder.emit_flat(ACCESS_LOGGER, level, event, fields, request.encoded):
            return
        recorder.emit(ACCESS_LOGGER, level, event, (), NOTHING, fields)
    except Exception as bug:
        if surface_bugs():
            raise
        report(f"cannot write the access record: {bug!r}", key="access record")


def _when_settled(name: str) -> Any:
    """Return a property that is what the settled request has under that name.

    A ``__getattr__`` would do the same, and make every other look into the object three times as slow.
    """
    return property(
        lambda self: getattr(self.settle()[0], name), lambda self, value: setattr(self.settle()[0], name, value)
    )


class _Unasked(RequestContext):
    """A request that has no ids until something asks for them, which at a health check nothing does."""

    __slots__ = ("_arrived", "_middleware", "_scope", "_settled", "_started")

    _arrived: Context
    """The context in which the request came: an OpenTelemetry span that began since is not its own."""

    _ids, encoded, tracestate, within = map(_when_settled, ("_ids", "encoded", "tracestate", "within"))

    def __init__(self, middleware: LoggingMiddleware, scope: Scope) -> None:
        self._middleware = middleware
        self._scope = scope
        self._started = middleware.clock()
        self._arrived = copy_context()
        self._settled: tuple[RequestContext, list[Header], str | None, Mapping[bytes, bytes]] | None = None
        self.bound = {}
        self.held = None

    def settle(self) -> tuple[RequestContext, list[Header], str | None, Mapping[bytes, bytes]]:
        """Return ids, headers to answer with, a request id that was refused, and the headers of the request."""
        if self._settled is None:
            headers = read_headers(self._scope)
            settled = (*self._arrived.copy().run(identify, headers), headers)  # a context has room for one at a time
            with _settling:  # of two threads that come here, the first counts
                self._settled = self._settled or settled
        return self._settled

    def answer(self, status: int | None) -> list[Header]:
        """Return the headers to add to the response."""
        if self._settled is None and _went_well(status):
            return []
        answer = _chosen(self.settle()[1], self._middleware.access, self._middleware.clock, self._started)
        return answer if isinstance(answer, list) else answer(status)


class _PassedBy(_Unasked):
    """The same, which sees the messages of its request by itself.

    Of an answer that goes well nothing is told, so there is little to see. Whatever may end in another way, or comes
    in parts, gets an `HttpExchange` that sees the rest.
    """

    __slots__ = ("_ended", "_receive", "_send", "_sent", "exchange", "head")

    def __init__(self, middleware: LoggingMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._middleware = middleware
        self._scope = scope
        self._started = middleware.clock()
        self._arrived = copy_context()
        self._settled = None
        self.bound = {}
        self.held = None
        self._receive = receive
        self._send = send
        self.exchange: HttpExchange | None = None
        self.head: Message | None = None
        self._ended: float | None = None

    async def receive(self) -> Message:
        """Hand on what the client sends."""
        return await self.watched().receive()

    async def send(self, message: Message) -> None:
        """Hand on what the application sends. What is no message is for the server to refuse."""
        head = self.head
        if self.exchange is None:
            try:
                kind = message["type"]
                if head is None:
                    usual = kind == "http.response.start" and 200 <= message["status"] < 300 and self._settled is None
                else:
                    usual = kind == "http.response.body" and not message.get("more_body") and self._ended is None
            except (AttributeError, KeyError, TypeError):
                usual = False
            if usual:
                if head is None:
                    self.head = message
                try:
                    await self._send(message)
                except (OSError, RuntimeError) as error:
                    self.watched().broke(error)
                    raise
                if head is not None:
                    self._sent = body_length(message)
                    self._ended = self._middleware.clock()
                    if self.exchange is not None:  # made meanwhile, by a task that listens for the client
                        self._tell(self.exchange)
                return
        await self.watched().send(message)

    def watched(self) -> HttpExchange:
        """Return what sees the rest of the messages, and knows what has passed."""
        if self.exchange is None:
            exchange = HttpExchange(self._receive, self._send, _NO_HEADERS, self.answer, self._middleware.clock)
            exchange.started = self._started
            if self.head is not None:
                exchange.begun(self.head)
            if self._ended is not None:
                self._tell(exchange)
            self.exchange = exchange
        return self.exchange

    def _tell(self, exchange: HttpExchange) -> None:
        exchange.response_bytes = self._sent
        exchange.ended = self._ended


def _went_well(status: int | None) -> bool:
    return status is not None and (200 <= status < 300 or status == 101)


def _chosen(answer: list[Header], access: Access, clock: Clock, started: float) -> Answer:
    """Return the headers of *answer* that are to be added, and those that tell the time."""
    kept = [header for header in answer if header[0] in access.added]
    if not access.times:
        return kept

    def timed(_status: int | None) -> list[Header]:
        elapsed = b"%.3f" % ((clock() - started) * 1000)
        told = [(b"x-response-time-ms", elapsed), (b"server-timing", b"app;dur=" + elapsed)]
        return kept + [header for header in told if header[0] in access.added]

    return timed


def _keep_bound_fields(bound: Mapping[str, Any], fields: dict[str, Any]) -> None:
    """Give what the user has bound under the name of an access field another name, on this record alone.

    Whose request it is, the user knows best.
    """
    if "user_id" in bound:
        fields.pop("user_id", None)
    for name, value in bound.items():
        if name in fields:
            kept = name + "_"
            while kept in fields or kept in bound:
                kept += "_"
            fields[kept] = value


def install(app: Any, make: Callable[[ASGIApp], ASGIApp]) -> bool:
    """Put what *make* returns around all that *app*, a Starlette or FastAPI application, has for middleware.

    If the stack is built already, because the application has started, it is wrapped in place.

    Returns:
        False if *app* has been wrapped before; it is not wrapped twice.

    Raises:
        ConfigurationError: *app* is not such an application.
    """
    if isinstance(app, LoggingMiddleware) or getattr(app, _MARK, False):
        return False
    build = getattr(app, "build_middleware_stack", None)
    if build is None or not hasattr(app, "middleware_stack"):
        raise ConfigurationError(
            f"{app!r} is not a Starlette or FastAPI application; wrap it with app = fapilog.LoggingMiddleware(app)"
        )
    if app.middleware_stack is not None:
        app.middleware_stack = make(app.middleware_stack)
    app.build_middleware_stack = lambda: make(build())
    setattr(app, _MARK, True)
    return True
