"""One connection to one server, and one request after the other over it.

Without an answer: what fails before the body is sent is a `RetryableError`, what fails after is one that is
``ambiguous``, and a TLS handshake that is refused, by them or by us, is a `MisconfiguredError`.
"""

import asyncio
import importlib
import os
import ssl
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Self, TypeAlias

import httpcore

from fapilog.errors import CredentialsError, MisconfiguredError, RetryableError
from fapilog.transport.answer import Answer, retry_after
from fapilog.transport.options import Url
from fapilog.transport.resolver import Resolver, is_address

RESPONSE_MAX_BYTES: Final = 64 * 1024
_ADDRESS_TIMEOUT_SECONDS: Final = 2.0
_KEEPALIVE_SECONDS: Final = 30.0

Headers: TypeAlias = list[tuple[bytes, bytes]]


class _Network(httpcore.AsyncNetworkBackend):
    """Connect to an address that our own resolver found; the name stays in ``Host`` and in the TLS handshake."""

    def __init__(self, resolver: Resolver, timeout_seconds: float) -> None:
        self._resolver = resolver
        self._timeout_seconds = timeout_seconds
        self._sockets = httpcore.AnyIOBackend()
        self._last: list[str] = []
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers, beginning with the one that did last time."""
        addresses = await self._addresses(host, port)
        each = min(_ADDRESS_TIMEOUT_SECONDS, self._timeout_seconds / len(addresses))
        self._last = []
        for address in addresses:
            within = each if address != addresses[-1] else timeout
            try:
                self._stream = await self._sockets.connect_tcp(address, port, within, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if address == addresses[-1]:
                    raise
            else:
                self._last = [address]
                break
        assert self._stream is not None  # noqa: S101 - or the last address has raised
        return self._stream

    async def close(self) -> None:
        """Close the socket made last: httpcore forgets it if it is cancelled in a TLS handshake."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await self._resolver.addresses(host, port)
        except OSError as error:
            if self._last:  # where it was a moment ago is better than nowhere
                return self._last
            raise _UnknownHostError(error.strerror or str(error)) from error
        return sorted(found, key=lambda address: address not in self._last)


class _UnknownHostError(Exception):
    """A name has no address."""


class _Body:
    """The body of one request, which knows whether any of it was sent."""

    def __init__(self, content: bytes) -> None:
        self.begun = False
        self._content = content

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.begun:
            raise StopAsyncIteration
        self.begun = True
        return self._content


_FAILURES: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.ConnectionNotAvailable,
    _UnknownHostError,
    OSError,
)
_graveyard: Final[list[Any]] = []
"""Connections of another process or of an event loop that is gone: closing them would reach into theirs."""


class Client:
    """Send one request after the other to one server."""

    def __init__(
        self,
        url: Url,
        *,
        timeout_seconds: float,
        tls: ssl.SSLContext | None = None,
        proxy: Url | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """Send to *url*, each request within that time, all told; through *proxy* if there is one."""
        self._url = url
        self._target = httpcore.URL(
            scheme=url.scheme.encode(),
            host=url.host.encode(),
            port=url.port,
            target=(url.path + (f"?{url.query}" if url.query else "")).encode(),
        )
        self._timeout_seconds = timeout_seconds
        self._tls = tls
        self._proxy = proxy
        self._resolver = resolver or Resolver()
        self._network = _Network(self._resolver, timeout_seconds)
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        importlib.import_module("anyio._backends._asyncio")  # anyio would do it with the first request

    def start(self) -> None:
        """Start the thread that looks names up, while threads can be started."""
        peer = self._proxy or self._url
        if not is_address(peer.host):
            self._resolver.start()

    async def send(self, method: str, headers: Headers, content: bytes) -> Answer:
        """Send one request and return the answer, whatever its status.

        Raises:
            RetryableError: There was none.
        """
        answer: Answer | None = None
        body = _Body(content)
        headers = [(b"Host", self._url.authority.encode()), *headers, (b"Content-Length", b"%d" % len(content))]
        try:
            async with asyncio.timeout(self._timeout_seconds), self._request(method, headers, body) as response:
                known = {name.lower(): value for name, value in response.headers}
                answer = Answer(self._url.origin, response.status, retry_after(known))
                read, complete = await _read(response)
                return answer._replace(body=read, complete=complete)
        except _FAILURES as error:
            await self._drop()
            if answer is not None:  # it was cut while it was read, and says enough
                return answer
            raise self._failed(error, sent=body.begun) from None
        except BaseException:
            await self._drop()
            raise

    async def close(self) -> None:
        """Close the connection and end the resolver's thread. Safe to call twice."""
        await self._drop()
        self._resolver.stop()

    def _request(self, method: str, headers: Headers, body: _Body) -> AbstractAsyncContextManager[httpcore.Response]:
        self._disown()
        if self._pool is None:
            self._loop = asyncio.get_running_loop()
            self._pool = self._make_pool()
        return self._pool.stream(method, self._target, headers=headers, content=body)

    def _disown(self) -> None:
        """Let go of what another process or another event loop made, without touching it."""
        forked = self._pid != os.getpid()
        if forked or (self._pool is not None and self._loop is not asyncio.get_running_loop()):
            _graveyard.append((self._pool, self._loop, self._network, self._resolver))
            self._pool = None
        if forked:
            self._pid = os.getpid()
            self._resolver = Resolver()
            self._network = _Network(self._resolver, self._timeout_seconds)

    def _make_pool(self) -> httpcore.AsyncConnectionPool:
        settings: dict[str, Any] = {
            "ssl_context": self._tls,
            "network_backend": self._network,
            "max_connections": 2,
            "max_keepalive_connections": 1,
            "keepalive_expiry": _KEEPALIVE_SECONDS,
        }
        if self._proxy is None:
            return httpcore.AsyncConnectionPool(**settings)
        proxy = self._proxy
        return httpcore.AsyncHTTPProxy(
            proxy_url=httpcore.URL(
                scheme=proxy.scheme.encode(), host=proxy.host.encode(), port=proxy.port, target=b"/"
            ),
            proxy_auth=(proxy.username, proxy.password or "") if proxy.username else None,
            **settings,
        )

    async def _drop(self) -> None:
        """Close the connection; the next request begins with a name to look up."""
        self._disown()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()
            await self._network.close()

    def _failed(self, error: Exception, *, sent: bool) -> RetryableError:
        """Say what failed, in our own words: those of a library may quote what was sent."""
        origin = self._url.origin
        refused = _handshake_refused(error)
        if refused is not None:
            return MisconfiguredError(f"{origin}: TLS failed: {refused}")
        if isinstance(error, httpcore.ProxyError):
            status = str(error)[:3]
            if status == "407":
                return CredentialsError(f"the proxy to {origin} does not accept the credentials")
            return RetryableError(f"the proxy to {origin} answered {status if status.isdecimal() else 'nonsense'}")
        if isinstance(error, _UnknownHostError):
            return RetryableError(f"cannot look up {(self._proxy or self._url).host!r}: {error}")
        if not sent:
            late = isinstance(error, TimeoutError)
            why = f"within {self._timeout_seconds:g} s" if late else f"({_reason(error)})"
            return RetryableError(f"cannot connect to {origin} {why}")
        if isinstance(error, TimeoutError):
            why = f"did not answer within {self._timeout_seconds:g} s"
        elif isinstance(error, httpcore.ProtocolError) and "disconnected" not in str(error):
            why = "answered something that is not HTTP"
        else:
            why = "closed the connection before it answered"
        return RetryableError(f"{origin} {why}", ambiguous=True)


async def _read(response: httpcore.Response) -> tuple[bytes, bool]:
    """Read an answer's body up to the bound, and tell whether that was all."""
    read = bytearray()
    async for chunk in response.aiter_stream():
        read += chunk[: RESPONSE_MAX_BYTES - len(read)]
        if len(read) >= RESPONSE_MAX_BYTES:
            return bytes(read), False
    return bytes(read), True


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__ or error
    return found


_CUT: Final = (
    ssl.SSLEOFError,
    ssl.SSLSyscallError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLZeroReturnError,
)


def _handshake_refused(error: BaseException) -> str | None:
    """Say why TLS was refused, by them or by us; None if it was not, or only cut."""
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return each.verify_message
        if isinstance(each, ssl.SSLError) and not isinstance(each, _CUT):
            return (each.reason or "handshake failed").lower().replace("_", " ")
    return None


def _reason(error: BaseException) -> str:
    """Name the system's error at the bottom of *error*."""
    numbers = [each.errno for each in _chain(error) if isinstance(each, OSError) and each.errno]
    return os.strerror(numbers[-1]).lower() if numbers else "the connection was closed"
