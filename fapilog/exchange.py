"""What is seen of one request or websocket while its messages pass.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final, TypeAlias

import orjson

from fapilog.access import (
    ADDED_HEADERS,
    PLAIN_RECORD,
    Access,
    Clock,
    Header,
    Message,
    Receive,
    Scope,
    Send,
    describe,
    tell_more,
)
from fapilog.bodies import BodyCopies, BodyOptions
from fapilog.types import ERROR, WARNING

Answer: TypeAlias = list[Header] | Callable[[int | None], list[Header]]
"""The headers to add to a response, or what returns them when its status is known."""

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that left before there was an answer."""

# ASGI wants the names in lower case. What applications write all the same is this; asking each name costs more.
_ANSWERED: Final = frozenset(
    spelling.encode() for name in ADDED_HEADERS for spelling in (name, name.title(), name.upper())
) | {b"X-Request-ID", b"TraceResponse", b"X-Response-Time-ms"}

_NAME: Final = itemgetter(0)
_dumps: Final = orjson.dumps
_MAX_PLAIN_PATH: Final = 1_024

# By name, for neither Starlette nor trio is imported here: what is raised when the client has left, or time is up.
_CLIENT_LEFT: Final = frozenset({"ClientDisconnect", "WebSocketDisconnect"})
_CANCELLED: Final = "Cancelled"
_UVLOOP_CLOSED: Final = "; the handler is closed"


class HttpExchange:
    """One HTTP request and its response, counted as they pass."""

    # Defaults of the class, not slots filled one by one: most of these are never set.
    _broken = 0
    """The `id` of the error that the connection broke with; the error itself would make a cycle."""

    answered: float | None = None
    """When the head of the response was sent."""

    ended: float | None = None
    """When the last byte of the body was sent."""

    left = False
    """Whether the client did not wait for it."""

    status: int | None = None
    response_headers: Iterable[Header] = ()
    request_bytes: int | None = None
    response_bytes = 0
    bodies: BodyCopies | None = None
    told = False
    """Whether the access record has been written, before the end of the response."""

    def __init__(
        self, receive: Receive, send: Send, headers: Mapping[bytes, bytes], answer: Answer, clock: Clock
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
        """Hand on what the application sends. What is no message is for the server to refuse."""
        try:
            kind = message["type"]
            if kind == "http.response.start" and self.status is None:
                status = message["status"]
                self.status = status = status if type(status) is int else int(status)  # such as an `http.HTTPStatus`
                added = self._answer
                if type(added) is not list:
                    added = added(status)  # type: ignore[operator]
                headers = message.get("headers")
                if type(headers) is list and added and _ANSWERED.isdisjoint(map(_NAME, headers)):
                    headers = headers + added  # as `_answering`, at once
                    message = {**message, "headers": headers}
                elif added or type(headers) is not list:
                    message = _answering(message, added)
                    headers = message["headers"]
                self.response_headers = headers
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            kind = None
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            self.broke(error)
            raise
        if kind == "http.response.body":
            try:  # noqa: SIM105 - to suppress it takes time
                self.response_bytes += len(message.get("body") or b"")
            except TypeError:  # what is no body, and yet was taken by the server
                pass
            if not message.get("more_body"):
                self.ended = self._clock()
        elif kind == "http.response.start":
            self.answered = self._clock()
        elif kind == "http.response.pathsend":  # the server sends the file
            self.end_with(message)

    def begun(self, head: Message) -> None:
        """Take note of a head that was sent before, it is not known when."""
        self.status = int(head["status"])
        headers = head.get("headers")
        self.response_headers = headers if isinstance(headers, list | tuple) else ()

    def broke(self, error: Exception) -> None:
        """Take note of an error of the server's, which may say that the connection is gone."""
        if _is_of_connection(error):
            self.left = True
            self._broken = id(error)

    def ends(self, message: Message) -> bool:
        """Tell whether *message* is the last of the response."""
        kind = _kind(message)
        if kind == "http.response.body":
            return not bool(message.get("more_body", False))
        return bool(kind == "http.response.pathsend")

    def end_with(self, message: Message) -> None:
        """See the last message of the response."""
        if message["type"] == "http.response.pathsend":
            self.response_bytes = _content_length(dict(self.response_headers))
        else:
            self.response_bytes += body_length(message)
        self.ended = self._clock()

    def plain_record(self, scope: Scope, access: Access) -> bytes | None:
        """Return the fields of a request like most, encoded, in less than half the time that a dict of them takes.

        Returns:
            None if it has anything else to tell.
        """
        started, answered, ended, headers = self.started, self.answered, self.ended, self.headers
        route = scope.get("route")
        if (
            ended is None
            or answered is None
            or route is None
            or self.left
            or self.request_bytes
            or scope.get("query_string")
            or "user" in scope
            or "app_root_path" in scope  # mounted
            or "fastapi" in scope  # of an included router
            or b"content-length" in headers
        ):
            return None
        try:
            path = scope["path"]
            if type(path) is not str or len(path) > _MAX_PLAIN_PATH or not access.is_clean(path):
                return None
            spelled = access.spelled
            return PLAIN_RECORD % (
                access.kinds[scope["method"], scope["scheme"], scope["http_version"], route.path_format],
                _dumps(path),
                self.status,
                (ended - started) * 1e3,
                self.response_bytes,
                (answered - started) * 1e3,
                spelled[scope["client"][0]],
                spelled[headers[b"user-agent"]],
            )
        except (AttributeError, IndexError, KeyError, TypeError):  # odd, or without a client or a user agent
            return None

    def outcome(self, scope: Scope, error: BaseException | None, access: Access) -> tuple[int, str, dict[str, Any]]:
        """Return level, event and fields of the access record.

        A client that left is no failure of the service: the level follows the status then, `CLIENT_CLOSED_REQUEST` if
        there was none. A request that was cancelled, by the server or by a timeout, says so in place of a stack.
        """
        started, answered, ended, status = self.started, self.answered, self.ended, self.status
        headers = self.headers
        received = self.request_bytes
        if received is None:  # nobody has read the body
            received = _content_length(headers) if b"content-length" in headers else 0
        duration = (self._clock() if ended is None else ended) - started
        fields: dict[str, Any] = {
            "method": scope.get("method"),
            "path": scope.get("path"),
            "status_code": status,
            "duration_ms": int(duration * 1e6 + 0.5) / 1e3,  # a third of what round() takes
            "request_bytes": received,
            "response_bytes": self.response_bytes,
            "scheme": scope.get("scheme"),
            "http_version": scope.get("http_version"),
        }
        if answered is not None:
            fields["ttfb_ms"] = int((answered - started) * 1e6 + 0.5) / 1e3
        describe(scope, headers, fields, access)
        if access.tells_more:
            tell_more(scope, headers, self.response_headers, fields, access)
        if self.bodies is not None:
            self.bodies.add_to(fields)
        if self.left:
            fields["disconnected"] = True
        if error is None and ended is not None:
            event = "request completed"
        elif self.left and (
            error is None
            or _is_cancellation(error)
            or id(error) == self._broken
            or type(error).__name__ in _CLIENT_LEFT
        ):
            event = "request disconnected"
            if status is None:
                fields["status_code"] = status = CLIENT_CLOSED_REQUEST
        else:
            if status is None:
                fields["status_code"] = 500  # which is what the server sends in this case
            return _blame(error, fields), "request failed", fields
        level = access.levels.get(status, ERROR)  # type: ignore[arg-type]
        if access.slow_ms is not None and self.waited(fields) >= access.slow_ms:
            fields["slow"] = True
            level = max(level, WARNING)
        return level, event, fields

    def waited(self, fields: Mapping[str, Any]) -> float:
        """Return how long the client waited. A stream of events is there when it begins, and need not end."""
        if any(name == b"content-type" and b"text/event-stream" in value for name, value in self.response_headers):
            return float(fields.get("ttfb_ms", 0.0))
        return float(fields["duration_ms"])


class WebSocketExchange:
    """One websocket, from the handshake to the close."""

    _broken = 0
    answered: float | None = None
    ended: float | None = None
    status: int | None = None
    """Of the handshake."""

    told = False

    close_code: int | None = None
    response_headers: Iterable[Header] = ()
    request_messages = 0
    request_bytes = 0
    response_messages = 0
    response_bytes = 0

    def __init__(
        self, receive: Receive, send: Send, headers: Mapping[bytes, bytes], answer: Answer, clock: Clock
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
        if kind == "websocket.receive":
            self.request_messages += 1
            self.request_bytes += _size(message)
        elif kind == "websocket.disconnect" and self.ended is None:
            self.close_code = message.get("code", 1005)
            self.ended = self._clock()
        return message

    async def send(self, message: Message) -> None:
        """Hand on what the application sends. What is no message is for the server to refuse."""
        kind = _kind(message)
        starts = kind in ("websocket.accept", "websocket.http.response.start") and self.status is None
        if starts:
            try:
                self.status = status = 101 if kind == "websocket.accept" else int(message["status"])
                answer = self._answer
                message = _answering(message, answer if type(answer) is list else answer(status))  # type: ignore[operator]
                self.response_headers = message["headers"]
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                starts = False
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            if _is_of_connection(error):
                self._broken = id(error)
            raise
        if kind == "websocket.send":
            self.response_messages += 1
            self.response_bytes += _size(message)
        elif starts:
            self.answered = self._clock()
        elif kind == "websocket.close" and self.ended is None:
            if self.status is None:
                self.status = 403  # which is how a server refuses
            else:
                self.close_code = message.get("code", 1000)
            self.ended = self._clock()

    def plain_record(self, scope: Scope, access: Access) -> bytes | None:
        """Return None: what a websocket has to tell is told field by field."""
        return None

    def outcome(self, scope: Scope, error: BaseException | None, access: Access) -> tuple[int, str, dict[str, Any]]:
        """Return level, event and fields of the access record.

        `status_code` is that of the handshake: 101 when the websocket was accepted, else what refused it.
        """
        started, answered, ended, status = self.started, self.answered, self.ended, self.status
        fields: dict[str, Any] = {
            "path": scope.get("path"),
            "status_code": status,
            "duration_ms": round(((self._clock() if ended is None else ended) - started) * 1000, 3),
            "request_messages": self.request_messages,
            "request_bytes": self.request_bytes,
            "response_messages": self.response_messages,
            "response_bytes": self.response_bytes,
            "scheme": scope.get("scheme"),
            "http_version": scope.get("http_version"),
        }
        if answered is not None:
            fields["ttfb_ms"] = round((answered - started) * 1000, 3)
        if self.close_code is not None:
            fields["close_code"] = self.close_code
        describe(scope, self.headers, fields, access)
        if access.tells_more:
            tell_more(scope, self.headers, self.response_headers, fields, access)
        if error is None or id(error) == self._broken or type(error).__name__ in _CLIENT_LEFT:
            return (WARNING if status is None else access.levels.get(status, ERROR)), "websocket closed", fields
        if status is None:
            fields["status_code"] = 500
        return _blame(error, fields), "websocket failed", fields

    def waited(self, _fields: Mapping[str, Any]) -> float:
        """Return how long the client waited, which is 0: a websocket is no slower for being open long."""
        return 0.0


def copied(
    receive: Receive,
    send: Send,
    headers: Mapping[bytes, bytes],
    answer: Answer,
    clock: Clock,
    scope: Scope,
    options: BodyOptions,
) -> HttpExchange:
    """Return an exchange whose bodies are copied as they pass."""
    copies = BodyCopies(receive, send, scope, options)
    exchange = HttpExchange(copies.receive, copies.send, headers, answer, clock)
    exchange.bodies = copies
    return exchange


def _blame(error: BaseException | None, fields: dict[str, Any]) -> int:
    """Add why the application did not answer, and return the level. A cancellation has no stack worth reading."""
    if error is not None and _is_cancellation(error):
        fields["cancelled"] = True
        return WARNING
    if error is not None:
        fields["exc_info"] = error
    return ERROR


def _is_of_connection(error: Exception) -> bool:
    """Tell whether a server could not send because the client has left; uvloop says so in a RuntimeError."""
    if isinstance(error, OSError):
        return True
    said = error.args[0] if error.args else None
    return type(said) is str and said.endswith(_UVLOOP_CLOSED)


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError) or type(error).__name__ == _CANCELLED


def _answering(message: Message, answer: list[Header]) -> Message:
    """Return *message* with the headers of *answer*, but for those that the application has set itself."""
    headers = [*(message.get("headers") or ())]
    if not _ANSWERED.isdisjoint(map(_NAME, headers)):
        names = {name.lower() for name, _ in headers}
        answer = [header for header in answer if header[0] not in names]
    headers += answer
    message = dict(message)
    message["headers"] = headers
    return message


def _kind(message: Message) -> Any:
    """Return the type of a message, or None if it is none."""
    try:
        return message["type"]
    except (KeyError, TypeError, IndexError):
        return None


def body_length(message: Message) -> int:
    """Return how many bytes of a body a message has; 0 of what is no body, and yet was taken by the server."""
    try:
        return len(message.get("body") or b"")
    except TypeError:
        return 0


def _size(message: Message) -> int:
    """Return how many bytes a websocket's message has; 0 of what is none, and yet was taken by the server."""
    said = message.get("text")
    try:
        if said is None:
            return len(message.get("bytes") or b"")
        return len(said) if said.isascii() else len(said.encode("utf-8", "surrogatepass"))
    except (AttributeError, TypeError):
        return 0


def _content_length(headers: Mapping[bytes, bytes]) -> int:
    """Return the length that *headers* announce, or 0."""
    length = headers.get(b"content-length")
    return int(length) if type(length) is bytes and len(length) < 20 and length.isdigit() else 0


EXCHANGES: Final[Mapping[str, type[HttpExchange] | type[WebSocketExchange]]] = {
    "http": HttpExchange,
    "websocket": WebSocketExchange,
}
"""What to look at, by the type of the scope."""
