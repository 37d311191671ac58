"""Find records page by page, without missing or doubling one while others are written."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from fapilog.errors import QueryError
from fapilog.store.conditions import Parameters, between, condition
from fapilog.store.models import LogQuery, LogRecord
from fapilog.store.schema import COLUMN_LIST, COLUMNS

Fetch: TypeAlias = Callable[..., list[tuple[Any, ...]]]
"""``fetch(statement, values, since=, until=)``: run a statement over `logs`, of which only that time is needed."""

_NAMES: Final = (*(column.name for column in COLUMNS), "fields")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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


def search(query: LogQuery, fetch: Fetch, *, now: datetime) -> tuple[list[LogRecord], str | None]:
    """Find the records of one page, and the cursor of the next, or None."""
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
    statement = (
        f"SELECT {COLUMN_LIST} FROM logs WHERE {' AND '.join(conditions)} ORDER BY {ordering(query.order)} "  # noqa: S608 - values are bound
        f"LIMIT {query.limit + 1 + skip}"
    )
    rows = fetch(statement, parameters.values, since=since, until=until)[skip:]
    records = records_of(rows[: query.limit])
    if len(rows) <= query.limit:
        return records, None
    last = _key(records[-1])
    seen = sum(_key(record) == last for record in records)
    if position is not None and seen == len(records) and last == (position.timestamp, position.id):
        seen += position.seen
    return records, _encode(_Position(asked, _micros(since), _micros(until), *last, seen))


def surroundings(record: str | LogRecord, fetch: Fetch, *, before: int, after: int) -> list[LogRecord]:
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
    around = [_neighbours(middle, order, count, fetch) for order, count in (("newest", before), ("oldest", after))]
    return [*around[0][::-1], middle, *around[1]]


def _neighbours(record: LogRecord, order: str, count: int, fetch: Fetch) -> list[LogRecord]:
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
    statement = (
        f"SELECT {COLUMN_LIST} FROM logs WHERE {' AND '.join(conditions)} ORDER BY {ordering(order)} "  # noqa: S608 - values are bound
        f"LIMIT {max(count, 0)}"
    )
    bounds = {"since": moment} if order == "oldest" else {"until": moment}
    return records_of(fetch(statement, parameters.values, **bounds))


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
