"""Which ids a request has: those of the active OpenTelemetry span, else those it came with, else new ones.

https://www.w3.org/TR/trace-context-2/
"""

from collections.abc import Mapping
from typing import Final

from fapilog.access import Header, Scope
from fapilog.context import RequestContext
from fapilog.recorder import slot
from fapilog.trace import FLAGS, RANDOM, TraceParent, active_span, drawn_ids, new_ids, parse_tracestate

MAX_REQUEST_ID_LENGTH: Final = 128
_REQUEST_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
_TRACE_ID: Final = b',"trace_id":"'
_SPAN_ID: Final = b'","span_id":"'
_REQUEST_ID: Final = b'","request_id":"'
_RANDOM_FLAGS: Final = b'","trace_flags":"02"'


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the request headers by name.

    Of those that decide ids, trace headers that come twice are joined, which no `traceparent` survives, and a request
    id is left out. Headers that are no pairs are none.
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


def identify(headers: Mapping[bytes, bytes]) -> tuple[RequestContext, list[Header], str | None]:
    """Return the request with its ids, the headers that tell them to the client, and the request id it was refused."""
    active = active_span()
    inbound = headers.get(b"traceparent")
    asked = headers.get(b"x-request-id")
    if active is None and inbound is None and not asked:
        return _begin()
    tracestate: str | None = ""
    if active is not None:
        span, parent_id = active
        trace_id, span_id, flags = span.trace_id, span.span_id, span.flags
    else:
        trace_id, span_id = new_ids()
        flags, parent_id = RANDOM, None
        if inbound is not None:
            caller = TraceParent.parse(inbound.strip(b" \t").decode("latin-1")) if type(inbound) is bytes else None
            if caller is not None:
                trace_id, parent_id, flags = caller.trace_id, caller.span_id, caller.flags
                if type(state := headers.get(b"tracestate")) is bytes:
                    tracestate = parse_tracestate(state.decode("latin-1"))
            if caller is None or tracestate is None:
                slot.recorder.invalid_traces += 1
    request_id, refused_id = trace_id, None
    if asked and type(asked) is bytes:
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


def _begin() -> tuple[RequestContext, list[Header], str | None]:
    """Return the same for a request that comes without ids, as most do, in half the time."""
    trace_id, span_id = drawn_ids()
    encoded = b"".join((_TRACE_ID, trace_id, _SPAN_ID, span_id, _REQUEST_ID, trace_id, _RANDOM_FLAGS))
    answer = [(b"x-request-id", trace_id), (b"traceresponse", b"".join((b"00-", trace_id, b"-", span_id, b"-02")))]
    return RequestContext(None, encoded), answer, None
