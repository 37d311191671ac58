"""Tell the services that httpx calls which trace and request they are in, and log the calls if asked.

https://www.python-httpx.org/advanced/transports/
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Self
from urllib.parse import quote

from fapilog.context import current_request, note_wait
from fapilog.diagnostics import report, surface_bugs
from fapilog.errors import MissingExtraError
from fapilog.logger import record
from fapilog.processors.exceptions import describe
from fapilog.trace import outgoing_call, tell
from fapilog.types import ERROR, INFO, WARNING

try:
    import httpx
except ImportError as error:
    raise MissingExtraError("fapilog.integrations.httpx", extra="httpx") from error

CALL_LOGGER: Final = "fapilog.calls"


class TracingTransport(httpx.BaseTransport):
    """A transport for `httpx.Client` that sends `traceparent`, `tracestate` and `X-Request-ID` with every call.

    Each redirect that is followed is a call of its own. Wrap only clients of services that may see these ids.
    """

    def __init__(
        self,
        transport: httpx.BaseTransport | None = None,
        *,
        log_calls: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Wrap *transport*.

        Args:
            transport: What makes the calls; a new `httpx.HTTPTransport` unless given.
            log_calls: Whether each call leaves a record of the logger ``fapilog.calls``, in a span of its own.
            clock: Returns seconds, never backwards.
        """
        self.transport = httpx.HTTPTransport() if transport is None else transport
        self.log_calls = log_calls
        self.clock = clock

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Make one call."""
        with _Call(request, log_calls=self.log_calls, clock=self.clock) as call:
            call.response = self.transport.handle_request(request)
        return call.response

    def close(self) -> None:
        """Close the transport that was wrapped."""
        self.transport.close()


class AsyncTracingTransport(httpx.AsyncBaseTransport):
    """What `TracingTransport` is, for `httpx.AsyncClient`."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        log_calls: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Wrap *transport*.

        Args:
            transport: What makes the calls; a new `httpx.AsyncHTTPTransport` unless given.
            log_calls: Whether each call leaves a record of the logger ``fapilog.calls``, in a span of its own.
            clock: Returns seconds, never backwards.
        """
        self.transport = httpx.AsyncHTTPTransport() if transport is None else transport
        self.log_calls = log_calls
        self.clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one call."""
        with _Call(request, log_calls=self.log_calls, clock=self.clock) as call:
            call.response = await self.transport.handle_async_request(request)
        return call.response

    async def aclose(self) -> None:
        """Close the transport that was wrapped."""
        await self.transport.aclose()


class _Call:
    """One call, from the headers that go with it to the head of the response."""

    response: httpx.Response

    def __init__(self, request: httpx.Request, *, log_calls: bool, clock: Callable[[], float]) -> None:
        self._request = request
        self._log_calls = log_calls
        self._clock = clock

    def __enter__(self) -> Self:
        self._ids = outgoing_call()
        tell(self._ids, self._request.headers)
        self._started = self._clock()
        return self

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        try:
            url = _without_values(self._request.url)
            duration = round((self._clock() - self._started) * 1000, 3)
            note_wait(f"{self._request.method} {url.partition('?')[0]}", duration)
            if self._log_calls:
                self._log(error, url, duration)
        except Exception as bug:
            if surface_bugs():
                raise
            report(f"cannot write the record of a call: {bug!r}", key="calls")

    def _log(self, error: BaseException | None, url: str, duration: float) -> None:
        """Write the record, with the ids that were sent.

        The stack of an error is not in it: the error goes on to the caller, who knows whether it matters.
        """
        fields: dict[str, Any] = {
            "method": self._request.method,
            "url": url,
            "duration_ms": duration,
        }
        level, event = ERROR, "call failed"
        if error is None:
            status = fields["status_code"] = self.response.status_code
            level, event = (INFO if status < 400 else WARNING if status < 500 else ERROR), "call completed"
        elif isinstance(error, asyncio.CancelledError):
            fields["cancelled"] = True
            level = WARNING
        else:
            described = describe(error)
            fields["exception"] = {"type": described["type"], "message": described["message"]}
        token = current_request.set(self._ids)
        try:
            record(CALL_LOGGER, level, event, fields)
        finally:
            current_request.reset(token)


def _without_values(url: httpx.URL) -> str:
    """Return *url* without user, password, fragment and the values of its query, any of which may be a secret."""
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    names = "&".join([quote(name) for name in url.params])
    return f"{url.scheme}://{url.netloc.decode('ascii')}{path}{'?' if names else ''}{names}"
