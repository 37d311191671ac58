"""The access record: what is seen of one request or websocket while its messages pass.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from fapilog.routes import route_template
from fapilog.types import ERROR, INFO, WARNING

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]
Clock: TypeAlias = Callable[[], float]

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that left before there was an answer."""

_ANSWERED: Final = frozenset({b"x-request-id", b"traceresponse"})

# By name, for Starlette is not imported here: what its request and websocket raise when the client has left.
_CLIENT_LEFT: Final = frozenset({"ClientDisconnect", "WebSocketDisconnect"})


class HttpExchange:
    """One HTTP request and its response, counted as they pass."""

    # Defaults of the class, not slots filled one by one: most of these are never set.
    _headers: Iterable[Header] = ()
    _broken = 0
    """The `id` of the error that the connection broke with; the error itself would make a cycle."""

    ended: float | None = None
    """When the last byte of the body was sent."""

    left = False
    """Whether the client did not wait for it."""

    status: int | None = None
    request_bytes: int | None = None
    response_bytes = 0

    def __init__(
        self, receive: Receive, send: Send, headers: Mapping[bytes, bytes], answer: list[Header], clock: Clock
    ) -> None:
        self._receive = receive
        self._send = send
        self._answer = answer
        self._clock = clock
        self.headers = headers
        self.started = clock()

    async def receive(self) -> Message:
        """Hand on what the client sends."""
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            self.request_bytes = (self.request_bytes or 0) + len(message.get("body") or b"")
        elif kind == "http.disconnect" and self.ended is None:
            self.left = True
        return message

    async def send(self, message: Message) -> None:
        """Hand on what the application sends."""
        kind = message["type"]
        if kind == "http.response.start":
            message = _answering(message, self._answer)
            self.status = int(message["status"])  # it may be an `http.HTTPStatus`
            self._headers = message["headers"]
        try:
            await self._send(message)
        except OSError as error:
            self.left = True
            self._broken = id(error)
            raise
        if kind == "http.response.body":
            self.response_bytes += len(message.get("body") or b"")
            if not message.get("more_body", False):
                self.ended = self._clock()
        elif kind == "http.response.pathsend":  # the server sends the file
            self.response_bytes = _content_length(dict(self._headers))
            self.ended = self._clock()

    def outcome(self, scope: Scope, error: BaseException | None) -> tuple[int, str, dict[str, Any]]:
        """Return level, event and fields of the access record.

        A client that left is no failure of the service: the level follows the status then, `CLIENT_CLOSED_REQUEST` if
        there was none. A request that was cancelled, by the server or by a timeout, says so in place of a stack.
        """
        ended = self.ended
        headers = self.headers
        received = self.request_bytes
        if received is None:  # nobody has read the body
            received = _content_length(headers) if b"content-length" in headers else 0
        fields: dict[str, Any] = {
            "method": scope.get("method"),
            "path": scope.get("path"),
            "status_code": self.status,
            "duration_ms": round(((self._clock() if ended is None else ended) - self.started) * 1000, 3),
            "request_bytes": received,
            "response_bytes": self.response_bytes,
        }
        _describe(scope, headers, fields)
        if self.left:
            fields["disconnected"] = True
        if error is None and ended is not None:
            event = "request completed"
        elif self.left and (
            error is None
            or isinstance(error, asyncio.CancelledError)
            or id(error) == self._broken
            or type(error).__name__ in _CLIENT_LEFT
        ):
            event = "request disconnected"
            if self.status is None:
                fields["status_code"] = CLIENT_CLOSED_REQUEST
        else:
            if self.status is None:
                fields["status_code"] = 500  # which is what the server sends in this case
            return _blame(error, fields), "request failed", fields
        status = fields["status_code"]
        return (INFO if status < 400 else WARNING if status < 500 else ERROR), event, fields


class WebSocketExchange:
    """One websocket, from the handshake to the close."""

    __slots__ = (
        "_answer",
        "_broken",
        "_clock",
        "_receive",
        "_send",
        "close_code",
        "ended",
        "headers",
        "started",
        "status",
    )

    def __init__(
        self, receive: Receive, send: Send, headers: Mapping[bytes, bytes], answer: list[Header], clock: Clock
    ) -> None:
        self._receive = receive
        self._send = send
        self._answer = answer
        self._clock = clock
        self.headers = headers
        self.started = clock()
        self._broken = 0
        self.ended: float | None = None
        self.status: int | None = None  # of the handshake
        self.close_code: int | None = None

    async def receive(self) -> Message:
        """Hand on what the client sends."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect" and self.ended is None:
            self.close_code = message.get("code", 1005)
            self.ended = self._clock()
        return message

    async def send(self, message: Message) -> None:
        """Hand on what the application sends."""
        kind = message["type"]
        if kind in ("websocket.accept", "websocket.http.response.start"):
            self.status = 101 if kind == "websocket.accept" else message.get("status")
            message = _answering(message, self._answer)
        try:
            await self._send(message)
        except OSError as error:
            self._broken = id(error)
            raise
        if kind == "websocket.close" and self.ended is None:
            if self.status is None:
                self.status = 403  # which is how a server refuses
            else:
                self.close_code = message.get("code", 1000)
            self.ended = self._clock()

    def outcome(self, scope: Scope, error: BaseException | None) -> tuple[int, str, dict[str, Any]]:
        """Return level, event and fields of the access record.

        `status_code` is that of the handshake: 101 when the websocket was accepted, else what refused it.
        """
        ended = self.ended
        status = self.status
        fields: dict[str, Any] = {
            "path": scope.get("path"),
            "status_code": status,
            "duration_ms": round(((self._clock() if ended is None else ended) - self.started) * 1000, 3),
        }
        if self.close_code is not None:
            fields["close_code"] = self.close_code
        _describe(scope, self.headers, fields)
        if error is None or id(error) == self._broken or type(error).__name__ in _CLIENT_LEFT:
            return (INFO if status is not None and status < 400 else WARNING), "websocket closed", fields
        if status is None:
            fields["status_code"] = 500
        return _blame(error, fields), "websocket failed", fields


def _describe(scope: Scope, headers: Mapping[bytes, bytes], fields: dict[str, Any]) -> None:
    """Add what may be missing: the route taken, the peer as the server knows it, and what the client calls itself."""
    route = route_template(scope)
    if route is not None:
        fields["route"] = route
    client = scope.get("client")
    if client and client[0]:
        fields["client_ip"] = client[0]
    agent = headers.get(b"user-agent")
    if agent is not None:
        fields["user_agent"] = agent.decode("latin-1")


def _blame(error: BaseException | None, fields: dict[str, Any]) -> int:
    """Add why the application did not answer, and return the level. A cancellation has no stack worth reading."""
    if isinstance(error, asyncio.CancelledError):
        fields["cancelled"] = True
        return WARNING
    if error is not None:
        fields["exc_info"] = error
    return ERROR


def _answering(message: Message, answer: list[Header]) -> Message:
    """Return *message* with the headers of *answer*, but for those that the application has set itself."""
    headers = message.get("headers") or ()
    for name, _ in headers:
        if name.lower() in _ANSWERED:
            names = {name.lower() for name, _ in headers}
            answer = [header for header in answer if header[0] not in names]
            break
    return {**message, "headers": [*headers, *answer]}


def _content_length(headers: Mapping[bytes, bytes]) -> int:
    """Return the length that *headers* announce, or 0."""
    length = headers.get(b"content-length", b"")
    return int(length) if len(length) < 20 and length.isdigit() else 0


EXCHANGES: Final[Mapping[str, type[HttpExchange] | type[WebSocketExchange]]] = {
    "http": HttpExchange,
    "websocket": WebSocketExchange,
}
"""What to look at, by the type of the scope."""
