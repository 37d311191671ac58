"""Copies of the first bytes of a request's and a response's body, made while they pass."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from fapilog.masks import Masks

DEFAULT_TYPES: Final = (
    "application/json",
    "application/*+json",
    "application/xml",
    "application/x-www-form-urlencoded",
    "text/*",
)
DEFAULT_MAX_BYTES: Final = 4_096

_NEVER: Final = ("multipart/", "text/event-stream")
"""Files, and streams without an end."""


class BodyOptions:
    """Which bodies are copied, and how much of them."""

    def __init__(
        self,
        which: str,
        masks: Masks,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        types: Iterable[str] = DEFAULT_TYPES,
    ) -> None:
        """Copy bodies of *which*: request, response or both."""
        self.request = which in ("request", "both")
        self.response = which in ("response", "both")
        self.max_bytes = max_bytes
        self.masks = masks
        self._types = [kind.strip().lower() for kind in types]

    def media_type(self, headers: Iterable[Any]) -> str | None:
        """Return the media type that *headers* name, or None if such a body is not copied."""
        try:
            found: dict[bytes, bytes] = {name.lower(): value for name, value in headers if type(value) is bytes}
        except (AttributeError, TypeError, ValueError):  # no headers: for the server to refuse
            return None
        if found.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            return None
        kind = found.get(b"content-type", b"")[:256].partition(b";")[0].strip().lower().decode("latin-1")
        if not kind or kind.startswith(_NEVER) or not any(fnmatchcase(kind, wanted) for wanted in self._types):
            return None
        return kind


class BodyCopies:
    """Stands between the server and the rest, and hands on every message as it is."""

    def __init__(self, receive: Any, send: Any, scope: Mapping[str, Any], options: BodyOptions) -> None:
        self._receive = receive
        self._send = send
        self._options = options
        self._request = _Copy(options.max_bytes)
        self._response = _Copy(options.max_bytes)
        if options.request:
            self._request.kind = options.media_type(scope.get("headers") or ())

    async def receive(self) -> Any:
        """Hand on what the client sends."""
        message = await self._receive()
        if self._request.kind is not None and message["type"] == "http.request":
            self._request.add(message.get("body"))
        return message

    async def send(self, message: Any) -> None:
        """Hand on what the application sends."""
        if self._options.response:
            try:
                self._see(message)
            except (AttributeError, KeyError, TypeError):  # no message: for the server to refuse
                self._response.kind = None
        await self._send(message)

    def _see(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._response.kind = self._options.media_type(message["headers"])
        elif kind == "http.response.body" and self._response.kind is not None:
            self._response.add(message.get("body"))

    def add_to(self, fields: dict[str, Any]) -> None:
        """Add what was copied to the fields of a record."""
        for name, copy in (("request_body", self._request), ("response_body", self._response)):
            if copy.kind is not None and copy.size:
                fields[name] = self._options.masks.body(copy.kind, bytes(copy.head), copy.size)


class _Copy:
    """The beginning of one body."""

    __slots__ = ("_max_bytes", "head", "kind", "size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.kind: str | None = None  # None: it is not copied
        self.head = bytearray()
        self.size = 0

    def add(self, piece: bytes | None) -> None:
        if piece:
            room = self._max_bytes - len(self.head)
            if room > 0:
                self.head += piece[:room]
            self.size += len(piece)
