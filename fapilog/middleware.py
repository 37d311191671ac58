"""The ASGI middleware: where a request enters and leaves the logs.

It is the outermost layer, outside Starlette's own error handling, so that a 500 has its ids and its access record too.
Messages pass through as they are and when they come; only the head of a response gets two more headers.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fapilog.access import (
    EXCHANGES,
    ASGIApp,
    Clock,
    Header,
    HttpExchange,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketExchange,
)
from fapilog.context import NOTHING, RequestContext, current_fields, current_request, remember_request
from fapilog.diagnostics import report, surface_bugs
from fapilog.errors import ConfigurationError
from fapilog.logger import LoggerName, slot
from fapilog.trace import FLAGS, RANDOM, TraceParent, active_span, new_ids, parse_tracestate

ACCESS_LOGGER: Final = LoggerName("fapilog.access")
MAX_REQUEST_ID_LENGTH: Final = 128
_REQUEST_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
_SCOPE_KEY: Final = "fapilog.request"
_MARK: Final = "_fapilog_installed"


class LoggingMiddleware:
    """Give every request its ids, lend them to every record, and write one access record when it is over.

    The ids are those of the active OpenTelemetry span, else of a valid inbound ``traceparent``, else new. The request
    id is a valid inbound ``X-Request-ID``, else the trace id. Both go back as ``x-request-id`` and ``traceresponse``,
    each unless the application has set that header itself.

    Around an app that is wrapped already, in the same request, this does nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access_log: bool = True,
        on_startup: Callable[[], None] | None = None,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Wrap *app*.

        Args:
            app: The ASGI application.
            access_log: Whether to write the access record. Ids and headers do not depend on it.
            on_startup: Called when the server opens the lifespan and once more when the app has started, since the
                app's own startup may change the logging set up before it. It should do no harm when called twice.
            on_shutdown: Awaited when the app's own shutdown has run, before the server hears of it. What it raises
                is reported on stderr, no more.
            clock: Returns seconds, never backwards.
        """
        self.app = app
        self.access_log = access_log
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
        headers = _read_headers(scope)
        request, answer, refused_id = _identify(headers)
        exchange = EXCHANGES[kind](receive, send, headers, answer, self.clock)
        scope[_SCOPE_KEY] = request
        # A server may start a request in the context of another one: from its last `send`, or from a callback that was
        # registered in it. What that one bound is none of ours.
        fields = current_fields.get()
        if current_request.get() is not None:
            current_fields.set(NOTHING)
        token = current_request.set(request)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            remember_request(error, request)
            if self.access_log:
                _log(scope, request, exchange, refused_id, error)
            raise
        else:
            if self.access_log:
                _log(scope, request, exchange, refused_id, None)
        finally:
            scope.pop(_SCOPE_KEY, None)
            try:
                current_request.reset(token)
                if current_fields.get() is not fields:
                    current_fields.set(fields)
            except ValueError:  # closed from another context, by the garbage collector
                pass

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


def _log(
    scope: Scope,
    request: RequestContext,
    exchange: HttpExchange | WebSocketExchange,
    refused_id: str | None,
    error: BaseException | None,
) -> None:
    """Write the access record. An error of ours stays here."""
    try:
        level, event, fields = exchange.outcome(scope, error)
        recorder = slot.recorder
        if recorder.level > level:
            return
        if refused_id:
            fields["inbound_request_id"] = refused_id
        bound = current_fields.get()
        if bound or request.bound:
            _keep_bound_fields({**request.bound, **bound}, fields)
        recorder.emit(ACCESS_LOGGER, level, event, (), NOTHING, fields)
    except Exception as bug:
        if surface_bugs():
            raise
        report(f"cannot write the access record: {bug!r}", key="access record")


def _read_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the request headers by name.

    Of those that decide ids, trace headers that come twice are joined, which no `traceparent` survives, and a request
    id is left out.
    """
    pairs = scope.get("headers") or ()
    if type(pairs) is not list and type(pairs) is not tuple:
        pairs = scope["headers"] = list(pairs)  # whatever can be read only once would be lost to the application
    try:
        headers: dict[bytes, bytes] = dict(pairs)
        if len(headers) != len(pairs):
            names = [name for name, _ in pairs]
            for name in (b"traceparent", b"tracestate"):
                if names.count(name) > 1:
                    headers[name] = b",".join([value for each, value in pairs if each == name])
            if names.count(b"x-request-id") > 1:
                del headers[b"x-request-id"]
    except (TypeError, ValueError):  # not pairs, or names that cannot be one
        return {}
    return headers


def _identify(headers: Mapping[bytes, bytes]) -> tuple[RequestContext, list[Header], str | None]:
    """Return the request with its ids, the headers that tell them to the client, and the request id it was refused."""
    active = active_span()
    inbound = headers.get(b"traceparent")
    tracestate: str | None = ""
    if active is not None:
        span, parent_id = active
        trace_id, span_id, flags = span.trace_id, span.span_id, span.flags
    else:
        trace_id, span_id = new_ids()
        flags, parent_id = RANDOM, None
        if inbound is not None:
            caller = TraceParent.parse(inbound.strip(b" \t").decode("latin-1"))
            if caller is not None:
                trace_id, parent_id, flags = caller.trace_id, caller.span_id, caller.flags
                if b"tracestate" in headers:
                    tracestate = parse_tracestate(headers[b"tracestate"].decode("latin-1"))
            if caller is None or tracestate is None:
                slot.recorder.invalid_traces += 1
    request_id, refused_id = trace_id, None
    asked = headers.get(b"x-request-id")
    if asked:
        if len(asked) <= MAX_REQUEST_ID_LENGTH and not asked.translate(None, _REQUEST_ID_BYTES):
            request_id = asked.decode("ascii")
        else:
            escaped = asked[:MAX_REQUEST_ID_LENGTH].decode("latin-1").encode("unicode_escape")
            refused_id = escaped[:MAX_REQUEST_ID_LENGTH].decode("ascii")
    told = FLAGS[flags]
    ids = {"trace_id": trace_id, "span_id": span_id, "request_id": request_id, "trace_flags": told}
    # No character of an id needs escaping, and this takes a third of what the encoder does.
    encoded = f',"trace_id":"{trace_id}","span_id":"{span_id}","request_id":"{request_id}","trace_flags":"{told}"'
    if parent_id is not None:
        ids["parent_span_id"] = parent_id
        encoded += f',"parent_span_id":"{parent_id}"'
    answer = [
        (b"x-request-id", request_id.encode()),
        (b"traceresponse", f"00-{trace_id}-{span_id}-{told}".encode()),
    ]
    return RequestContext(ids, encoded.encode(), tracestate or ""), answer, refused_id


def _keep_bound_fields(bound: Mapping[str, Any], fields: dict[str, Any]) -> None:
    """Give what the user has bound under the name of an access field another name, on this record alone."""
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
