"""What the current request and the current context are, and the fields they lend to every record.

Two things travel in contextvars. The *request* is one object per request, shared by every task and thread that serves
it, so a field bound to it is seen by all of them. The *bound* fields follow the rules of contextvars: seen by what is
called from here, not by the caller nor by siblings.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any, Final

import orjson

NOTHING: Final[Mapping[str, Any]] = {}  # a plain dict: unpacking a MappingProxyType costs five times as much

MAX_WAITS: Final = 1_000
"""How many of the things that a request waits for are remembered."""

TOLD_WAITS: Final = 5
"""How many of them are told."""


class RequestContext:
    """One request, from the first byte in to the last byte out and its background tasks."""

    __slots__ = ("_ids", "bound", "encoded", "held", "tracestate", "waits", "within")

    encoded: bytes
    """The ids as they continue a JSON object: ``,"trace_id":"…"``."""

    within: "tuple[object, RequestContext | None] | None"
    """The last OpenTelemetry span seen in this request, and what the request looks like in it; None for as it is."""

    bound: dict[str, Any]
    """What `bind_request` added, from any thread: `dict.update` with string keys is one step."""

    held: Any
    """The records that wait for the end of the request, see `fapilog.pipeline.tail`; None if nothing is held back."""

    tracestate: str
    """What the tracing systems of our callers want to be passed on, as a header; empty if there is nothing."""

    waits: list[tuple[str, float]]
    """What was waited for and how many milliseconds, see `note_wait`; there only if somebody wants to know."""

    def __init__(self, ids: Mapping[str, str] | None, encoded: bytes | None = None, tracestate: str = "") -> None:
        """Begin a request with these ids; *encoded* is the same, and one of both may be left out."""
        self._ids = ids
        if encoded is None:
            encoded = b"," + orjson.dumps(ids)[1:-1] if ids else b""
        self.encoded = encoded
        self.tracestate = tracestate
        self.within = None
        self.held = None
        self.bound = {}

    @property
    def ids(self) -> Mapping[str, str]:
        """`trace_id`, `span_id`, `trace_flags`, `request_id` and, if the caller sent one, `parent_span_id`.

        Ours, so well formed. Most requests are never asked.
        """
        ids = self._ids
        if ids is None:
            ids = self._ids = orjson.loads(b"{%b}" % self.encoded[1:])
        return ids


OURSELVES: Final = RequestContext({})
"""Stands for the current request on the worker's and the sinks' threads: what is logged there is not recorded, or one
record would make another for ever."""

current_request: Final[ContextVar[RequestContext | None]] = ContextVar("fapilog_request", default=None)
current_scope: Final[ContextVar[MutableMapping[str, Any] | None]] = ContextVar("fapilog_scope", default=None)
"""The scope of the current request, or of the last one in this context; set only where records ask for the user."""

current_fields: Final[ContextVar[Mapping[str, Any]]] = ContextVar("fapilog_fields", default=NOTHING)


def bind_context(**fields: Any) -> Token[Mapping[str, Any]]:
    """Add *fields* to every record logged from here on, in this context and those made from it.

    Returns:
        A token; `current_fields.reset(token)` undoes the binding. `bound_context` does both.
    """
    return current_fields.set({**current_fields.get(), **fields})


def unbind_context(*names: str) -> None:
    """Take *names* out of the bound fields of this context. A name that is not bound is ignored."""
    current_fields.set({name: value for name, value in current_fields.get().items() if name not in names})


@contextmanager
def bound_context(**fields: Any) -> Iterator[None]:
    """Bind *fields* for the duration of a `with` block."""
    token = bind_context(**fields)
    try:
        yield
    finally:
        # A generator may end in another context than it began in, as FastAPI's synchronous dependencies do. What was
        # bound cannot be seen there, so there is nothing to undo.
        with suppress(ValueError):
            current_fields.reset(token)


@contextmanager
def pipeline_context(pipeline_id: str, execution_id: str | None = None, **fields: Any) -> Iterator[str]:
    """Bind ``pipeline_id``, ``execution_id`` and *fields* for the duration of a `with` block, as `bound_context` does.

    Args:
        pipeline_id: Which pipeline runs.
        execution_id: Which run of it this is; by default a new one, ``exec_`` and 12 hex digits.
        **fields: What else its records have in common.

    Yields:
        The id of the execution.
    """
    execution_id = f"exec_{uuid.uuid4().hex[:12]}" if execution_id is None else execution_id
    with bound_context(pipeline_id=pipeline_id, execution_id=execution_id, **fields):
        yield execution_id


def bind_request(**fields: Any) -> None:
    """Add *fields* to every later record of the current request, its access record included, from anywhere in it.

    Outside a request the fields are bound to the context instead, as `bind_context` does.
    """
    request = current_request.get()
    if request is None:
        bind_context(**fields)
    else:
        request.bound.update(fields)


def note_wait(name: str, milliseconds: float) -> None:
    """Note what the current request has waited for, if it is one that tells so when it was slow."""
    waits: list[tuple[str, float]] | None = getattr(current_request.get(), "waits", None)
    if waits is not None and len(waits) < MAX_WAITS:
        waits.append((name, milliseconds))


def longest_waits(waits: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Return what took longest of *waits*, those of one name together, as the access record tells it."""
    told: dict[str, dict[str, Any]] = {}
    for name, milliseconds in waits:
        wait = told.setdefault(name, {"name": name, "duration_ms": 0.0, "count": 0})
        wait["duration_ms"] = round(wait["duration_ms"] + milliseconds, 3)
        wait["count"] += 1
    return sorted(told.values(), key=lambda wait: -wait["duration_ms"])[:TOLD_WAITS]


def remember_request(error: BaseException, request: RequestContext) -> None:
    """Note on *error* which request it left, for whoever logs it when that request is no longer current."""
    with suppress(Exception):  # an exception class may refuse attributes
        error.__fapilog_request__ = request  # type: ignore[attr-defined]  # ours, put on theirs


def remembered_request(error: BaseException | None) -> RequestContext | None:
    """Return the request *error* left, or None if it left none."""
    request = getattr(error, "__fapilog_request__", None)
    return request if isinstance(request, RequestContext) else None
