"""The columns of the view `logs`, and the SQL that makes them from lines of JSON and from Parquet files.

A column of text holds any value, one that is no text as JSON. Any other column holds a value only if it fits;
everything else of the record, and a value that does not fit, is in `fields`. So no record, however odd, can fail a
query or be lost from one.
"""

import glob
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

ColumnType: TypeAlias = Literal["TIMESTAMP", "VARCHAR", "SMALLINT", "BIGINT", "DOUBLE", "JSON"]


class Column(NamedTuple):
    """One column of the view `logs`, taken from the field of the same name."""

    name: str
    type: ColumnType
    description: str


COLUMNS: Final = (
    Column("timestamp", "TIMESTAMP", "When it was logged, in UTC"),
    Column("level", "VARCHAR", "trace, debug, info, success, warning, error or critical"),
    Column("event", "VARCHAR", "The message"),
    Column("logger", "VARCHAR", "Name of the logger"),
    Column("id", "VARCHAR", "Unique: the process instance and a count without gaps"),
    Column("service", "VARCHAR", "Name of the service"),
    Column("env", "VARCHAR", "Its environment, such as production"),
    Column("version", "VARCHAR", "Its version"),
    Column("host", "VARCHAR", "The machine or container"),
    Column("pid", "BIGINT", "The process"),
    Column("trace_id", "VARCHAR", "The trace, 32 hex digits"),
    Column("span_id", "VARCHAR", "The span within the trace, 16 hex digits"),
    Column("parent_span_id", "VARCHAR", "The caller's span"),
    Column("request_id", "VARCHAR", "The request, as in the header X-Request-ID"),
    Column("method", "VARCHAR", "HTTP method of the request"),
    Column("path", "VARCHAR", "Path of the request, as it came"),
    Column("route", "VARCHAR", "Its route, such as /orders/{id}"),
    Column("status_code", "SMALLINT", "HTTP status of the response"),
    Column("duration_ms", "DOUBLE", "How long the request took, in milliseconds"),
    Column("request_bytes", "BIGINT", "Size of the request's body"),
    Column("response_bytes", "BIGINT", "Size of the response's body"),
    Column("client_ip", "VARCHAR", "Who asked"),
    Column("user_agent", "VARCHAR", "With which program"),
    Column("user_id", "VARCHAR", "The user it was done for"),
    Column("exception", "JSON", "type, message and stacktrace, if it failed"),
)
"""Every column but the last, `fields`, which is the rest of the record as one JSON object."""

MAX_LINE_BYTES: Final = 1024 * 1024
"""More than any record has, unless settings allow for it. Whoever can see to it asks for more where a line is longer;
DuckDB is quicker with less."""

VIEW_LINE_BYTES: Final = 16 * 1024 * 1024
"""The same for the view on disk, which cannot see to it: DuckDB's own default."""

COLUMN_LIST: Final = ", ".join([*(f'"{column.name}"' for column in COLUMNS), '"fields"'])

# Live lines: a query that may read any column pays for each of these by itself; the others are taken out together.
_OFTEN_ASKED: Final = frozenset({
    "timestamp", "level", "event", "logger", "service", "trace_id", "request_id", "route", "status_code", "duration_ms",
})  # fmt: skip
_TEXTS: Final = frozenset({"VARCHAR", "TIMESTAMP"})
"""The types of columns that are made from text; others from JSON as it was written."""

_FEW: Final = 8
"""Up to how many columns it is quicker to take them out of each line together."""

_CHECKED: Final = tuple(column for column in COLUMNS if column.type not in {"VARCHAR", "JSON"})
"""The columns that a value may not fit."""

_KNOWN: Final = "{" + ", ".join(f'"{column.name}": null' for column in COLUMNS) + "}"
_UTC: Final = "(?s)^(?:[^0]...|0(?:[^0]..|0(?:[^0].|0[^0])))-.*Z$"
_IS_RECORD: Final = "json LIKE '{%'"


def part_of(logs: str, since: datetime | None, until: datetime | None) -> str:
    """Return *logs* without what is older than *since* or not older than *until*; None is no bound."""
    bounds = [
        f"timestamp {sign} TIMESTAMP '{moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"
        for sign, moment in ((">=", since), ("<", until))
        if moment is not None
    ]
    return f"SELECT * FROM ({logs}) WHERE {' AND '.join(bounds)}" if bounds else logs  # noqa: S608 - two times


def literal(text: str) -> str:
    """Quote *text* as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def file_literal(path: Path) -> str:
    """Quote *path* for a function of DuckDB that would take ``*`` or ``[`` in it for a pattern."""
    return literal(glob.escape(str(path)))


def lines_query(files: str, *, max_line_bytes: int = MAX_LINE_BYTES) -> str:
    """Select `json`, NULL for what is none, and `filename` of every line in *files*, an SQL string or list of them.

    A line longer than *max_line_bytes* fails the query; DuckDB sets aside twice as much memory in each of its threads.
    """
    return (
        f"SELECT json, filename FROM read_json_objects({files}, format = 'newline_delimited', ignore_errors = true, "  # noqa: S608 - file names are quoted above
        f"filename = true, compression = 'none', maximum_object_size = {max_line_bytes})"
    )


def live_query(lines: str, needed: Collection[str] | None = None, needles: Iterable[str] = ()) -> str:
    """Select the columns of `logs` from *lines*, a query that gives `json`, each as late as it can be.

    Where few are *needed*, those are taken out of a line together, and the others are NULL. Lines that do not have all
    *needles* in them, in upper or lower case, may be left out.
    """
    # One SELECT, in which DuckDB does once what is written twice: in two, no condition would come before the parsing.
    few = needed is not None and len(needed) <= _FEW and "fields" not in needed
    asked = [column for column in COLUMNS if not few or needed is None or column.name in needed]
    together = [column for column in asked if few or column.name not in _OFTEN_ASKED]
    texts = [column for column in together if column.type in _TEXTS]
    columns = []
    for column in COLUMNS:
        if column not in asked:
            columns.append(f'CAST(NULL AS {column.type}) AS "{column.name}"')
        elif column in texts:
            columns.append(_named(column, _one_of("->>", column, texts), "", once=True))
        elif column in together:
            raw = _one_of("->", column, [each for each in together if each not in texts])
            columns.append(_named(column, "", f"CAST({raw} AS VARCHAR)", once=True))
        else:
            raw = f"CAST(json->'{column.name}' AS VARCHAR)"
            columns.append(_named(column, f"(json->>'{column.name}')", raw, once=True))
    checks = []
    for column in _CHECKED:
        checked = _one_of("->", column, _CHECKED)
        raw = f"CAST({checked} AS VARCHAR)"
        value = _value(column, f"({checked}->>'$')", raw, once=True)
        checks.append((column, raw, f"({raw} <> 'null' AND ({value}) IS NULL)"))
    fields = "CAST(NULL AS JSON)" if few else _fields(checks)
    where = " AND ".join([_IS_RECORD, *(f"CAST(json AS VARCHAR) ILIKE {literal(f'%{text}%')}" for text in needles)])
    return f"SELECT {', '.join(columns)}, {fields} AS fields FROM ({lines}) WHERE {where}"  # noqa: S608 - quoted


def _one_of(arrow: str, column: Column, columns: Sequence[Column]) -> str:
    """Take *column* out of a line with one parsing for all *columns*."""
    paths = ", ".join(f"'{each.name}'" for each in columns)
    return f"(json{arrow}[{paths}])[{columns.index(column) + 1}]"


def table_query(lines: str) -> str:
    """Select the same, quicker where all of it is wanted, and `is_record`: whether the line was a record at all."""
    values = ", ".join(_named(column, *_of_parsed(column)) for column in COLUMNS)
    names = ", ".join(f'"{column.name}"' for column in COLUMNS)
    checks = [
        (
            column,
            f"CAST(json->'{column.name}' AS VARCHAR)",
            f"({_of_parsed(column)[1]} <> 'null' AND \"{column.name}\" IS NULL)",
        )
        for column in _CHECKED
    ]
    return (
        f"SELECT {names}, {_fields(checks)} AS fields, is_record FROM ("  # noqa: S608 - built from constants
        f"SELECT {values}, parsed, json, is_record FROM (SELECT json, {_parsed()} AS parsed, "
        f"coalesce({_IS_RECORD}, false) AS is_record FROM ({lines})))"
    )


def parquet_query(files: Iterable[Path]) -> str:
    """Select the columns of `logs` from Parquet *files*."""
    names = ", ".join(file_literal(path) for path in files)
    return f"SELECT {COLUMN_LIST} FROM read_parquet([{names}], hive_partitioning = false)"  # noqa: S608 - quoted


def empty_query() -> str:
    """Select the columns of `logs` and no row, for a store where nothing was written yet."""
    columns = ", ".join(f'CAST(NULL AS {column.type}) AS "{column.name}"' for column in COLUMNS)
    return f"SELECT {columns}, CAST(NULL AS JSON) AS fields WHERE false"


def logs_query(sources: Sequence[str]) -> str:
    """Select the columns of `logs` from all *sources*, which are queries made here."""
    return " UNION ALL ".join(sources or [empty_query()])


def _utc_timestamp(text: str, *, once: bool) -> str:
    """Turn the SQL expression *text* into a TIMESTAMP, which has no zone, if it says that it is in UTC.

    A year that Python does not know is none: a reader could not take it. With *once* the text is evaluated once, as
    DuckDB does each of several in a condition; without it is quicker where that costs nothing.
    """
    if once:
        return f"TRY_CAST(regexp_extract({text}, '{_UTC}') AS TIMESTAMP)"
    return f"CASE WHEN {text} LIKE '____-%Z' AND {text} NOT LIKE '0000%' THEN TRY_CAST({text} AS TIMESTAMP) END"


def _parsed() -> str:
    """Parse a line once for all columns: text where the column is made from text, else JSON as it was written."""
    types = ", ".join(f'"{column.name}": "{"VARCHAR" if column.type in _TEXTS else "JSON"}"' for column in COLUMNS)
    return f"json_transform(json, '{{{types}}}')"


def _of_parsed(column: Column) -> tuple[str, str]:
    value = f"struct_extract(parsed, '{column.name}')"
    return value, f"CAST({value} AS VARCHAR)"


def _named(column: Column, text: str, raw: str, *, once: bool = False) -> str:
    return f'{_value(column, text, raw, once=once)} AS "{column.name}"'


def _value(column: Column, text: str, raw: str, *, once: bool = False) -> str:
    match column.type:
        case "VARCHAR":
            return text
        case "JSON":
            return f"CAST(NULLIF({raw}, 'null') AS JSON)"
        case "TIMESTAMP":
            return _utc_timestamp(text, once=once)
        case "DOUBLE":
            return f"TRY_CAST({raw} AS DOUBLE)"
        case _:
            whole = f"TRY_CAST({raw} AS {column.type})"
            return f"CASE WHEN {whole} = TRY_CAST({raw} AS DOUBLE) THEN {whole} END"


def _fields(checks: Sequence[tuple[Column, str, str]]) -> str:
    """Take out of the record what its columns hold, and put back what did not fit: column, JSON and when that is."""
    rest = f"CAST(json_merge_patch(json, '{_KNOWN}') AS VARCHAR)"
    members = [f"NULLIF({rest}[2:-2], '')"]
    members += [f"CASE WHEN {misfit} THEN '\"{column.name}\":' || {raw} END" for column, raw, misfit in checks]
    return "CAST('{' || concat_ws(',', " + ", ".join(members) + ") || '}' AS JSON)"
