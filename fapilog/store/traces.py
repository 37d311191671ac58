"""Put the records of one trace together: in order, and by span, each within its parent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fapilog.store.conditions import Parameters, between
from fapilog.store.models import LogRecord
from fapilog.store.schema import COLUMN_LIST
from fapilog.store.searching import Fetch, ordering, records_of

MAX_RECORDS = 10_000
"""How many records of one trace or request are read."""

_ACCESS = "fapilog.access"


@dataclass
class Span:
    """One step of a trace, such as a request as one service saw it."""

    span_id: str | None
    """None for the records of the trace that belong to no span."""

    parent_span_id: str | None
    records: list[LogRecord] = field(default_factory=list)
    """What was logged in it, in order."""

    children: "list[Span]" = field(default_factory=list)
    """The spans it called, in order of their beginning."""

    @property
    def access(self) -> LogRecord | None:
        """The access record, if the span is a request."""
        return next((record for record in self.records if record.logger == _ACCESS), None)

    @property
    def service(self) -> str | None:
        """The service it ran in."""
        return next((record.service for record in self.records if record.service), None)

    @property
    def start(self) -> datetime | None:
        """When it began: a request's beginning, else its first record."""
        moments = [record.timestamp for record in self.records if record.timestamp is not None]
        access = self.access
        if access is not None and access.timestamp is not None and access.duration_ms is not None:
            moments.append(access.timestamp - timedelta(milliseconds=access.duration_ms))
        return min(moments, default=None)

    @property
    def end(self) -> datetime | None:
        """When it logged last."""
        return max((record.timestamp for record in self.records if record.timestamp is not None), default=None)

    @property
    def duration_ms(self) -> float | None:
        """How long the request took; of another span, the time from its first record to its last."""
        if self.access is not None and self.access.duration_ms is not None:
            return self.access.duration_ms
        if self.start is None or self.end is None:
            return None
        return (self.end - self.start) / timedelta(milliseconds=1)


@dataclass(frozen=True)
class Trace:
    """The records of one trace."""

    trace_id: str
    records: list[LogRecord]
    """All of them in order; empty if there is no such trace."""

    spans: list[Span]
    """Those that no other span of the trace called, each with what it called."""

    warnings: tuple[str, ...] = ()
    """What had to be left out, such as a damaged file; empty if nothing."""

    def walk(self) -> Iterator[tuple[int, Span]]:
        """Give every span after its parent, with how deep it is; 0 for those in `spans`."""
        waiting = [(0, span) for span in reversed(self.spans)]
        while waiting:
            depth, span = waiting.pop()
            yield depth, span
            waiting += [(depth + 1, child) for child in reversed(span.children)]


def records_with(
    column: str, value: str, fetch: Fetch, *, since: datetime | None, until: datetime | None
) -> list[LogRecord]:
    """Find the records whose *column* is *value*, oldest first, and one more than `MAX_RECORDS` if there are."""
    parameters = Parameters()
    conditions = [f'"{column}" = {parameters.bind(value)}']
    if since is not None or until is not None:
        conditions.append(between(since, until, parameters))
    statement = (
        f"SELECT {COLUMN_LIST} FROM logs WHERE {' AND '.join(conditions)} ORDER BY {ordering('oldest')} "  # noqa: S608 - values are bound
        f"LIMIT {MAX_RECORDS + 1}"
    )
    return records_of(fetch(statement, parameters.values, since=since, until=until))


def nest(records: list[LogRecord]) -> list[Span]:
    """Sort *records* into spans, and the spans into each other."""
    spans: dict[str | None, Span] = {}
    for record in records:
        span = spans.setdefault(record.span_id, Span(record.span_id, record.parent_span_id))
        span.records.append(record)
        span.parent_span_id = span.parent_span_id or record.parent_span_id
    roots = []
    for span in sorted(spans.values(), key=_beginning):
        parent = spans.get(span.parent_span_id) if span.parent_span_id is not None else None
        if parent is None or _leads_to(parent, span, spans):
            roots.append(span)
        else:
            parent.children.append(span)
    return roots


def _beginning(span: Span) -> tuple[bool, datetime]:
    start = span.start
    return start is None, datetime.max if start is None else start.replace(tzinfo=None)


def _leads_to(span: Span, wanted: Span, spans: dict[str | None, Span]) -> bool:
    """Whether *wanted* is *span* or above it in what the records say: then it cannot be below it as well."""
    seen = set()
    here: Span | None = span
    while here is not None and here.span_id not in seen:
        if here is wanted:
            return True
        seen.add(here.span_id)
        here = spans.get(here.parent_span_id) if here.parent_span_id is not None else None
    return False
