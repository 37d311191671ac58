"""W3C Trace Context: read `traceparent` and `tracestate`, draw ids, ask OpenTelemetry for its own, tell others ours.

https://www.w3.org/TR/trace-context-2/
"""

import os
import re
import sys
from binascii import hexlify
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from fapilog import forks
from fapilog.context import OURSELVES, RequestContext, current_request

Headers: TypeAlias = MutableMapping[str, str] | list[tuple[str, str]]
"""The headers of an outgoing call, as one client or another wants them."""

MAX_HEADER_LENGTH: Final = 256
"""A longer `traceparent` is not looked at."""

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The trace id was drawn at random, all of it. Set on the traces that begin here."""

MAX_MEMBERS: Final = 32
"""A `tracestate` with more members is no `tracestate`."""

MAX_STATE_LENGTH: Final = 512
"""How much of a `tracestate` is passed on: what the recommendation asks for at least, and no more, since a client
could have it repeated in every call that its request causes."""

MAX_STATE_READ: Final = 8 * 1024
"""A longer `tracestate` is not looked at."""

SDK: Final = "opentelemetry.sdk.trace"
"""The module that makes spans. While it is not loaded nothing else has to be asked."""

_DEFINED_FLAGS: Final = SAMPLED | RANDOM
FLAGS: Final = ("00", "01", "02", "03")
"""The flags as the header has them."""

_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_MEMBER: Final = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_LARGE_MEMBER: Final = 128
_CARRIED: Final = frozenset({"traceparent", "tracestate", "x-request-id"})
_BLOCK_BYTES: Final = 24 * 80
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_OUTSIDE: Final = RequestContext({})
"""Remembers the last span that was seen outside of any request."""


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A position in a trace: which trace, which span, and whether it is sampled."""

    trace_id: str
    """32 lower-case hex digits, not all zero."""

    span_id: str
    """16 lower-case hex digits, not all zero."""

    flags: int = RANDOM
    """`SAMPLED` and `RANDOM`; the recommendation defines no others."""

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """Read a `traceparent`, or return None if the recommendation says to ignore it and start anew.

        Versions above 00 are read as far as 00 goes; what they add, and flags nobody has defined yet, is left out.
        """
        if len(header) > MAX_HEADER_LENGTH:
            return None
        match = _TRACEPARENT.fullmatch(header)
        if match is None:
            return None
        version, trace_id, span_id, flags, more = match.groups()
        if more is not None and version == "00":
            return None
        return cls(trace_id, span_id, int(flags, 16) & _DEFINED_FLAGS)

    @classmethod
    def start(cls) -> Self:
        """Begin a new trace with new ids."""
        return cls(*new_ids())

    def child(self) -> Self:
        """Return a new span of the same trace."""
        return type(self)(self.trace_id, new_ids()[1], self.flags)

    def format(self) -> str:
        """Return the value of a `traceparent` header, version 00. A `traceresponse` looks the same."""
        return f"00-{self.trace_id}-{self.span_id}-{FLAGS[self.flags]}"


def parse_tracestate(header: str) -> str | None:
    """Return what to pass on of a `tracestate`, or None if the recommendation says to drop it.

    One member that is none spoils all of it. The order stays; of two members with the same key the first, which is the
    later one in time, is kept; empty members go. What is longer than `MAX_STATE_LENGTH` loses whole members: those of
    more than 128 characters first, then others, from the end.
    """
    if len(header) > MAX_STATE_READ:
        return None
    parts = [part.strip(" \t") for part in header.split(",")]
    members = [part for part in parts if part]
    if len(members) > MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return None
    latest: dict[str, str] = {}
    for member in members:
        latest.setdefault(member.partition("=")[0], member)
    kept = list(latest.values())
    length = sum(map(len, kept)) + len(kept) - 1
    for threshold in (_LARGE_MEMBER, 0):
        for member in kept[::-1]:
            if length <= MAX_STATE_LENGTH:
                break
            if len(member) > threshold:
                kept.remove(member)
                length -= len(member) + 1
    return ",".join(kept)


# Every `pop` of a list is one step, so two threads never get the same entry. A thread that finds the list empty adds
# random bytes of its own; when two do, there are more, and that is all.
_ids: Final[list[tuple[bytes, bytes]]] = []


def new_ids() -> tuple[str, str]:
    """Return a trace id and a span id: 32 and 16 random hex digits, neither all zero."""
    trace_id, span_id = drawn_ids()
    return trace_id.decode(), span_id.decode()


def drawn_ids() -> tuple[bytes, bytes]:
    """Return the same as bytes, as headers and lines want them."""
    try:
        return _ids.pop()
    except IndexError:
        drawn = hexlify(os.urandom(_BLOCK_BYTES))
        fresh = [(drawn[at : at + 32], drawn[at + 32 : at + 48]) for at in range(0, len(drawn), 48)]
        fresh = [ids for ids in fresh if ids[0] != _NO_TRACE and ids[1] != _NO_SPAN]
        _ids.extend(fresh[1:])
        return fresh[0] if fresh else drawn_ids()


# A forked child would hand out the ids its parent is about to use.
forks.in_child(_ids.clear)


def active_span() -> tuple[TraceParent, str | None] | None:
    """Return the active OpenTelemetry span and the id of its parent, or None if there is none or it has no ids."""
    span = _span()
    if span is None:
        return None
    context = span.get_span_context()
    flags = context.trace_flags & _DEFINED_FLAGS
    return TraceParent(f"{context.trace_id:032x}", f"{context.span_id:016x}", flags), _parent_id(span)


def _span() -> Any:
    """Return the active span, or None.

    OpenTelemetry is asked only if its SDK is loaded or somebody has set a provider: FastAPI loads the bare API in any
    program, where no span has ids.
    """
    otel = sys.modules.get("opentelemetry.trace")
    if otel is None or (SDK not in sys.modules and getattr(otel, "_TRACER_PROVIDER", True) is None):
        return None
    span = otel.get_current_span()
    return span if span.get_span_context().is_valid else None


def _parent_id(span: Any) -> str | None:
    parent = getattr(span, "parent", None)  # spans of the SDK have it, the API does not ask for it
    return None if parent is None else f"{parent.span_id:016x}"


def in_active_span(request: RequestContext | None) -> RequestContext | None:
    """Return *request* with the ids of the active OpenTelemetry span, if there is one: within a request or outside."""
    if request is OURSELVES:
        return request
    span = _span()
    if span is None:
        return request
    context = span.get_span_context()
    keeper = _OUTSIDE if request is None else request
    seen = keeper.within  # read once: other threads may see other spans
    if seen is None or seen[0] is not context:
        seen = keeper.within = context, _within(span, context, request)
    return seen[1] or request


def _within(span: Any, context: Any, request: RequestContext | None) -> RequestContext | None:
    """Return *request* as it looks in *span*; None if that is as it is, because the span is its own."""
    span_id = f"{context.span_id:016x}"
    ids = {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": span_id,
        "trace_flags": FLAGS[context.trace_flags & _DEFINED_FLAGS],
    }
    parent_id = _parent_id(span)
    if parent_id is not None:
        ids["parent_span_id"] = parent_id
    if request is None:
        return RequestContext(ids)
    if request.ids.get("span_id") == span_id:
        return None
    if "request_id" in request.ids:
        ids["request_id"] = request.ids["request_id"]
    within = RequestContext(ids)
    within.bound = request.bound
    return within


def get_trace_id() -> str | None:
    """Return the trace id, 32 hex digits, of the active OpenTelemetry span, else of the current request, else None."""
    request = in_active_span(current_request.get())
    return None if request is None else request.ids.get("trace_id")


def outgoing_call() -> RequestContext:
    """Return the ids of a call that is about to be made: a new span, whose parent is the current one.

    Under an active OpenTelemetry span they are those of that span, as OpenTelemetry itself would send them: a span that
    was made up here is missing where OpenTelemetry's spans are collected. Outside a request a trace begins.
    """
    request = current_request.get()
    within = in_active_span(request)
    if within is None or "trace_id" not in within.ids:
        trace_id, span_id = new_ids()
        return RequestContext({"trace_id": trace_id, "span_id": span_id, "trace_flags": FLAGS[RANDOM]})
    span = _span()
    if span is not None:
        within.tracestate = span.get_span_context().trace_state.to_header()
        return within
    call = RequestContext(
        {**within.ids, "span_id": new_ids()[1], "parent_span_id": within.ids["span_id"]},
        tracestate=within.tracestate,
    )
    call.bound = within.bound
    return call


def tell(call: RequestContext, headers: Headers) -> None:
    """Put the ids of *call* into *headers*, in place of any that are there."""
    ids = call.ids
    carried = {
        "traceparent": f"00-{ids['trace_id']}-{ids['span_id']}-{ids.get('trace_flags', '00')}",
        "x-request-id": ids.get("request_id", ids["trace_id"]),
    }
    if call.tracestate:
        carried["tracestate"] = call.tracestate
    if isinstance(headers, list):
        headers[:] = [header for header in headers if header[0].lower() not in _CARRIED]
        headers.extend(carried.items())
    else:
        for name in {name for name in headers if name.lower() in _CARRIED}:
            del headers[name]
        headers.update(carried)


def inject(headers: Headers) -> Mapping[str, str]:
    """Put `traceparent`, `tracestate` and `X-Request-ID` into the headers of a call to another service.

    Call it once for each call: each has a span id of its own. Those that are in *headers* already, in any case, are
    replaced. Outside a request each call begins a trace, so that what it causes can still be found together.

    Args:
        headers: Any mutable mapping, such as a dict or the headers of a request of httpx, requests or aiohttp; or a
            list of pairs of `str`.

    Returns:
        The ids of the call as a record has them: `trace_id`, `span_id`, `trace_flags`, and in a request
        `parent_span_id` and `request_id`.
    """
    call = outgoing_call()
    tell(call, headers)
    return call.ids
