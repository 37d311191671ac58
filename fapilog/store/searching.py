"""Find records page by page, without missing or doubling one while others are written."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from fapilog.errors import QueryError
from fapilog.store.conditions import Parameters, between, condition, needles
from fapilog.store.language import Comparison, Exists, Range, walk
from fapilog.store.models import LogQuery, LogRecord
from fapilog.store.schema import COLUMN_LIST, COLUMNS

Fetch: TypeAlias = Callable[..., list[tuple[Any, ...]]]
"""``fetch(statement, values, since=, until=, needles=)``: run a statement over `logs`, of which only that time is
needed, and of live lines only those with all *needles* in them."""

_NAMES: Final = (*(column.name for column in COLUMNS), "fields")
_OTHER_NAMES: Final = {
    "duration": "duration_ms",
    "error": "exception",
    "ip": "client_ip",
    "latency_ms": "duration_ms",
    "message": "event",
    "msg": "event",
    "name": "logger",
    "request": "request_id",
    "severity": "level",
    "span": "span_id",
    "status": "status_code",
    "time": "timestamp",
    "trace": "trace_id",
    "url": "path",
}
"""What people type for a column; fields of these names may be there as well."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_ROWS: Final = 50_000
"""How many records are looked at first for one page: about as many as DuckDB reads at once anyway."""

_ROWS_A_RECORD: Final = 10
_WIDER: Final = 16
_FIRST_SECOND: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds() + 1
_LAST_SECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH).total_seconds() - 1


class _Position(NamedTuple):
    """Where a page ended."""

    asked: str
    """A digest of the query: another one has other pages."""

    since: int | None
    """The bounds as they were for the first page, in microseconds since the epoch, as ``1h`` ago moves on."""

    until: int | None
    timestamp: int | None
    id: str | None

    seen: int
    """How many of the records with that timestamp and id were on pages so far: some have neither."""


class Stretch(NamedTuple):
    """Records that lie together in time, such as those of one Parquet file."""

    oldest: float
    """In seconds since the epoch, as is `newest`."""

    newest: float
    rows: int


def search(
    query: LogQuery, fetch: Fetch, *, now: datetime, stretches: Sequence[Stretch] = ()
) -> tuple[list[LogRecord], str | None]:
    """Find the records of one page, and the cursor of the next, or None.

    Args:
        query: What is wanted.
        fetch: Runs a statement over `logs`.
        now: What times such as ``1h`` are before.
        stretches: Where in time the records roughly are, if that is known; a page is quicker with it.
    """
    asked = _digest(query)
    since, until = query.bounds(now)
    position = None
    if query.cursor is not None:
        position = _decode(query.cursor, asked)
        since, until = _moment(position.since), _moment(position.until)
    parameters = Parameters()
    conditions = [condition(query.node(), parameters, now=now)]
    if since is not None or until is not None:
        conditions.append(between(since, until, parameters))
    if position is not None:
        conditions.append(_from_on(position, query.order, parameters))
    skip = 0 if position is None else position.seen
    wanted = query.limit + 1 + skip
    first = since if query.order == "oldest" else until
    if position is not None and position.timestamp is not None:
        first = _moment(position.timestamp)
    rows: list[tuple[Any, ...]] = []
    for edge in _edges(stretches, query.order, first, wanted):
        rows = _rows(conditions, parameters, query.order, wanted, edge, (since, until), fetch, needles(query.node()))
        if len(rows) == wanted:  # what is beyond the edge comes after all of them
            break
    rows = rows[skip:]
    records = records_of(rows[: query.limit])
    if len(rows) <= query.limit:
        return records, None
    last = _key(records[-1])
    seen = sum(_key(record) == last for record in records)
    if position is not None and seen == len(records) and last == (position.timestamp, position.id):
        seen += position.seen
    return records, _encode(_Position(asked, _micros(since), _micros(until), *last, seen))


def _rows(
    conditions: list[str],
    parameters: Parameters,
    order: str,
    limit: int,
    edge: datetime | None,
    bounds: tuple[datetime | None, datetime | None],
    fetch: Fetch,
    needles: Sequence[str] = (),
) -> list[tuple[Any, ...]]:
    """Fetch the first rows in *order*; of those up to *edge* alone, if there is one."""
    since, until = bounds
    values = parameters.values
    if edge is not None:
        conditions = [*conditions, f"timestamp {'>=' if order == 'newest' else '<='} ${len(values) + 1}"]
        values = [*values, edge.replace(tzinfo=None)]
        since = edge if order == "newest" and (since is None or since < edge) else since
        until = edge if order == "oldest" and (until is None or until > edge) else until
    return fetch(
        f"SELECT {COLUMN_LIST} FROM logs WHERE {' AND '.join(conditions)} ORDER BY {ordering(order)} LIMIT {limit}",  # noqa: S608 - values are bound
        values,
        since=since,
        until=until,
        needles=needles,
    )


def _edges(stretches: Sequence[Stretch], order: str, first: datetime | None, wanted: int) -> Iterator[datetime | None]:
    """Say up to where in time to look: first not far, as the page may be full by then, at last everywhere."""
    rows = max(_FIRST_ROWS, _ROWS_A_RECORD * wanted)
    while rows * 2 < sum(stretch.rows for stretch in stretches):
        edge = _edge(stretches, order, None if first is None else first.timestamp(), rows)
        if edge is None or not _FIRST_SECOND < edge < _LAST_SECOND:
            break
        yield _EPOCH + timedelta(seconds=edge)
        rows *= _WIDER
    yield None


def _edge(stretches: Sequence[Stretch], order: str, first: float | None, rows: int) -> float | None:
    """Say up to where there are about so many *rows* from *first* on; None if there are fewer in all."""
    sign = 1 if order == "oldest" else -1  # towards older records, time is taken to run backwards
    spans = sorted(
        (
            min(sign * stretch.oldest, sign * stretch.newest),
            max(sign * stretch.oldest, sign * stretch.newest),
            stretch.rows,
        )
        for stretch in stretches
    )
    for begin, end, count in spans:
        start = begin if first is None else max(begin, sign * first)
        if start > end:
            continue
        share = (end - start) / (end - begin) if end > begin else 1.0
        if count * share >= rows:
            return sign * (start + (end - start) * rows / (count * share))
        rows -= int(count * share)
    return None


def hints(query: LogQuery) -> list[str]:
    """Say which columns may have been meant by the fields that *query* asks for."""
    paths = (node.path for node in walk(query.node()) if isinstance(node, Comparison | Range | Exists))
    meant = {path[0]: _OTHER_NAMES[path[0]] for path in paths if len(path) == 1 and path[0] in _OTHER_NAMES}
    return [
        f"nothing was found; what fapilog logs as {right!r} is not called {name!r}" for name, right in meant.items()
    ]


def surroundings(
    record: str | LogRecord, fetch: Fetch, *, before: int, after: int, stretches: Sequence[Stretch] = ()
) -> list[LogRecord]:
    """Find the records of the same process around one, in order, that one included."""
    name = record.id if isinstance(record, LogRecord) else record
    moment = record.timestamp if isinstance(record, LogRecord) else None
    found = records_of(
        fetch(
            f"SELECT {COLUMN_LIST} FROM logs WHERE id = $1{' AND timestamp = $2' if moment else ''} LIMIT 1",  # noqa: S608 - values are bound
            [name, moment.replace(tzinfo=None)] if moment else [name],
            since=moment,
            until=moment,
        )
        if name
        else []
    )
    if not found or found[0].timestamp is None:
        raise QueryError(f"there is no record with the id {name!r}")
    (middle,) = found
    earlier = _neighbours(middle, "newest", max(before, 0), fetch, stretches)
    later = _neighbours(middle, "oldest", max(after, 0), fetch, stretches)
    return [*earlier[::-1], middle, *later]


def _neighbours(
    record: LogRecord, order: str, count: int, fetch: Fetch, stretches: Sequence[Stretch]
) -> list[LogRecord]:
    assert record.id is not None  # noqa: S101 - it was found by it
    moment, instance = record.timestamp, record.id.rpartition("-")[0] + "-"
    position = _Position("", None, None, _micros(moment), record.id, 0)
    parameters = Parameters()
    conditions = [
        f"starts_with(id, {parameters.bind(instance)})",
        "timestamp IS NOT NULL",
        _from_on(position, order, parameters),
        f"timestamp {'<=' if order == 'newest' else '>='} {parameters.bind(moment)}",
        f"id <> {parameters.bind(record.id)}",
    ]
    rows: list[tuple[Any, ...]] = []
    for edge in _edges(stretches, order, moment, count):
        bounds = (None, moment) if order == "newest" else (moment, None)
        rows = _rows(conditions, parameters, order, count, edge, bounds, fetch)
        if len(rows) == count:
            break
    return records_of(rows)


def records_of(rows: Sequence[tuple[Any, ...]]) -> list[LogRecord]:
    """Make records of rows that have all columns of `logs`."""
    return [LogRecord.of_row(dict(zip(_NAMES, row, strict=True))) for row in rows]


def ordering(order: str) -> str:
    """Order by time; within a microsecond by id, whose count has no leading zeros; what has neither, by all it has."""
    way = "DESC" if order == "newest" else "ASC"
    return ", ".join(f"{key} {way} NULLS LAST" for key in ("timestamp", "length(id)", "id", "event", "fields"))


def _from_on(position: _Position, order: str, parameters: Parameters) -> str:
    """Write that a record is at *position* or comes after it."""
    sign = "<" if order == "newest" else ">"
    same_id = "id IS NULL"
    if position.id is not None:
        name = parameters.bind(position.id)
        same_id = (
            f"(id IS NULL OR length(id) {sign} length({name}) OR (length(id) = length({name}) AND id {sign}= {name}))"
        )
    if position.timestamp is None:
        return f"(timestamp IS NULL AND {same_id})"
    moment = parameters.bind(_moment(position.timestamp))
    return f"(timestamp IS NULL OR timestamp {sign} {moment} OR (timestamp = {moment} AND {same_id}))"


def _digest(query: LogQuery) -> str:
    text = query.model_dump_json(exclude={"cursor", "limit"})
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _encode(position: _Position) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(position))).rstrip(b"=").decode()


def _decode(cursor: str, asked: str) -> _Position:
    try:
        position = _Position(*orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))))
        moments = [_moment(number) for number in (position.since, position.until, position.timestamp)]
    except (ValueError, TypeError, OverflowError, binascii.Error):
        moments = None
    if moments is None or not (isinstance(position.id, str | None) and str(position.seen).isdigit()):
        raise QueryError(f"{cursor[:100]!r} is no cursor; use the next_cursor of a page")
    if position.asked != asked:
        raise QueryError("this cursor is of another query; page through with the one that began, limit aside")
    return position


def _key(record: LogRecord) -> tuple[int | None, str | None]:
    return _micros(record.timestamp), record.id


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)
