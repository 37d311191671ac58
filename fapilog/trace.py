"""W3C Trace Context: read and write `traceparent`, draw new ids, ask OpenTelemetry for its own.

https://www.w3.org/TR/trace-context-2/
"""

import os
import re
import sys
from dataclasses import dataclass
from typing import Final, Self

from fapilog import forks

MAX_HEADER_LENGTH: Final = 256
"""A longer `traceparent` is not looked at."""

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The trace id was drawn at random, all of it. Set on the traces that begin here."""

_DEFINED_FLAGS: Final = SAMPLED | RANDOM
FLAGS: Final = ("00", "01", "02", "03")
"""The flags as the header has them."""

_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_BLOCK_BYTES: Final = 24 * 80
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


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


# Every `pop` of a list is one step, so two threads never get the same entry. A thread that finds the list empty adds
# random bytes of its own; when two do, there are more, and that is all.
_ids: Final[list[tuple[str, str]]] = []


def new_ids() -> tuple[str, str]:
    """Return a trace id and a span id: 32 and 16 random hex digits, neither all zero."""
    try:
        return _ids.pop()
    except IndexError:
        drawn = os.urandom(_BLOCK_BYTES).hex()
        fresh = [(drawn[at : at + 32], drawn[at + 32 : at + 48]) for at in range(0, len(drawn), 48)]
        fresh = [ids for ids in fresh if ids[0] != _NO_TRACE and ids[1] != _NO_SPAN]
        _ids.extend(fresh[1:])
        return fresh[0] if fresh else new_ids()


# A forked child would hand out the ids its parent is about to use.
forks.in_child(_ids.clear)


def active_span() -> tuple[TraceParent, str | None] | None:
    """Return the active OpenTelemetry span and the id of its parent, or None if there is none or it has no ids.

    OpenTelemetry is asked only if its SDK is loaded or somebody has set a provider: FastAPI loads the bare API in any
    program, where no span has ids.
    """
    otel = sys.modules.get("opentelemetry.trace")
    if otel is None or (
        "opentelemetry.sdk.trace" not in sys.modules and getattr(otel, "_TRACER_PROVIDER", True) is None
    ):
        return None
    span = otel.get_current_span()
    context = span.get_span_context()
    if not context.is_valid:
        return None
    parent = getattr(span, "parent", None)  # spans of the SDK have it, the API does not ask for it
    return (
        TraceParent(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags & _DEFINED_FLAGS),
        None if parent is None else f"{parent.span_id:016x}",
    )
