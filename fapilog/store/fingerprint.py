"""Group errors that are the same but for numbers, ids and names in them."""

from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

from fapilog.store.conditions import Parameters, between, condition
from fapilog.store.language import LEVEL, Comparison, Value, all_of
from fapilog.store.models import LogQuery, LogRecord
from fapilog.store.schema import COLUMN_LIST, literal
from fapilog.store.searching import Fetch, records_of

FRAMES: Final = 3
"""How many of the innermost frames tell one error from another."""

_PATHS: Final = ", ".join(
    ["'$.type'", "'$.message'"]
    + [f"'$.stack[#-{back}].{part}'" for back in range(FRAMES, 0, -1) for part in ("file", "function")]
)
_MESSAGE_CHARACTERS: Final = 500
_VARYING: Final = (
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|0[xX][0-9a-fA-F]+"
    r"|\b[0-9a-fA-F]{16,}\b|\B'[^']*'\B|\"[^\"]*\"|[0-9]+(?:[.:,][0-9]+)*"
)
"""What differs between two errors that are the same: uuids, hexadecimal numbers and ids, quoted text, numbers."""


class ErrorGroup(BaseModel):
    """Errors with one fingerprint."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    fingerprint: str
    """16 hex digits, made of `type`, `message` and `frames`; the same in every store."""

    type: str | None
    """The class of the exception; None if none was logged."""

    message: str | None
    """The message of the exception, else the event, with ``*`` for what varies, such as numbers and quoted text."""

    frames: list[str]
    """The innermost frames of the exception, the innermost last, such as ``pay.py:charge``; empty without one."""

    count: int
    first_seen: datetime | None
    last_seen: datetime | None
    example: LogRecord
    """The newest of them."""


def errors(query: LogQuery, fetch: Fetch, *, now: datetime, limit: int) -> list[ErrorGroup]:
    """Group what *query* finds at level error and above, most frequent first."""
    since, until = query.bounds(now)
    parameters = Parameters()
    where = condition(all_of(Comparison(LEVEL, ">=", Value(("error",))), query.node()), parameters, now=now)
    if since is not None or until is not None:
        where += f" AND {between(since, until, parameters)}"
    # The exception is parsed once for all that is taken from it, and what is alike is put together before more is done.
    message = f"left(coalesce(found[2], event), {_MESSAGE_CHARACTERS})"
    frames = ", ".join(f"parse_filename(places[{at}]) || ':' || places[{at + 1}]" for at in range(1, 2 * FRAMES, 2))
    rows = fetch(
        "SELECT left(md5(to_json([type, message, frames::VARCHAR])::VARCHAR), 16), type, message, frames, "  # noqa: S608 - values are bound
        "sum(n)::BIGINT AS total, min(oldest), max(newest), arg_max(name, newest), arg_max(event, newest), "
        "arg_max(level, newest) FROM ("
        f"SELECT type, message, list_filter([{frames}], lambda frame: frame IS NOT NULL) AS frames, * FROM ("
        f"SELECT found[1] AS type, regexp_replace({message}, {literal(_VARYING)}, '*', 'g') AS message, "
        "found[3:] AS places, count(*) AS n, min(timestamp) AS oldest, max(timestamp) AS newest, "
        "arg_max(id, timestamp) AS name, arg_max(event, timestamp) AS event, arg_max(level, timestamp) AS level FROM ("
        f"SELECT timestamp, id, event, level, json_extract_string(exception, [{_PATHS}]) AS found "
        f"FROM logs WHERE {where}) GROUP BY found[1], 2, found[3:])) "
        f"GROUP BY type, message, frames ORDER BY total DESC, max(newest) DESC, message LIMIT {int(limit)}",
        parameters.values,
        since=since,
        until=until,
    )
    examples = _examples([row[7] for row in rows if row[7] is not None], [row[6] for row in rows if row[6]], fetch)
    return [
        ErrorGroup(
            fingerprint=fingerprint,
            type=kind,
            message=message,
            frames=frames or [],
            count=count,
            first_seen=first and first.replace(tzinfo=UTC),
            last_seen=last and last.replace(tzinfo=UTC),
            example=examples.get(identity)
            or LogRecord(id=identity, timestamp=last and last.replace(tzinfo=UTC), event=event, level=level),
        )
        for fingerprint, kind, message, frames, count, first, last, identity, event, level in rows
    ]


def _examples(ids: list[str], moments: list[datetime], fetch: Fetch) -> dict[str | None, LogRecord]:
    if not ids or not moments:
        return {}
    parameters = Parameters()
    begin, end = min(moments).replace(tzinfo=UTC), max(moments).replace(tzinfo=UTC)
    names = ", ".join(map(parameters.bind, ids))
    times = ", ".join(map(parameters.bind, moments))
    statement = f"SELECT {COLUMN_LIST} FROM logs WHERE timestamp IN ({times}) AND id IN ({names})"  # noqa: S608 - values are bound
    return {record.id: record for record in records_of(fetch(statement, parameters.values, since=begin, until=end))}
