"""The columns of the view `logs`, and the SQL that makes them from lines of JSON and from Parquet files.

A column holds a value only if it fits; everything else of the record, and a value that does not fit, is in `fields`.
So no record, however odd, can fail a query or be lost from one.
"""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from fapilog.types import RESERVED_FIELDS

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

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""More than any record has, and DuckDB's own default."""

COLUMN_LIST: Final = ", ".join([*(f'"{column.name}"' for column in COLUMNS), '"fields"'])

# A line is parsed once for all columns: `texts` and `raws` hold each column's value as text and as JSON, by position.
_PATHS: Final = "[" + ", ".join(f"'{column.name}'" for column in COLUMNS) + "]"


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


def records_query(lines: str) -> str:
    """Select the columns of `logs` from *lines*, a query that gives `json`."""
    columns = ", ".join(f'{_value(column, index)} AS "{column.name}"' for index, column in enumerate(COLUMNS, start=1))
    return (
        f"SELECT {columns}, {_fields()} AS fields FROM (SELECT json, json->>{_PATHS} AS texts, json->{_PATHS} AS raws "  # noqa: S608 - built from constants
        f"FROM ({lines}) WHERE json IS NOT NULL AND json LIKE '{{%')"
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


def utc_timestamp(text: str) -> str:
    """Turn the SQL expression *text* into a TIMESTAMP, which has no zone, if it says that it is in UTC."""
    return f"CASE WHEN {text} LIKE '%Z' THEN TRY_CAST({text} AS TIMESTAMP) END"


def _value(column: Column, index: int) -> str:
    text, raw = f"texts[{index}]", f"raws[{index}]"
    match column.type:
        case "JSON":
            return f"CASE WHEN {text} IS NOT NULL THEN {raw} END"
        case "TIMESTAMP":
            return utc_timestamp(text)
        case "DOUBLE":
            return f"TRY_CAST(CAST({raw} AS VARCHAR) AS DOUBLE)"
        case "VARCHAR":
            if column.name in RESERVED_FIELDS:  # fapilog sets them, to text
                return text
            return f"CASE WHEN NOT ({_is_nested(raw)}) THEN {text} END"
        case _:
            whole = f"TRY_CAST(CAST({raw} AS VARCHAR) AS {column.type})"
            return f"CASE WHEN {whole} = TRY_CAST(CAST({raw} AS VARCHAR) AS DOUBLE) THEN {whole} END"


def _is_nested(raw: str) -> str:
    return f"{raw} LIKE '{{%' OR {raw} LIKE '[%'"


def _fields() -> str:
    """Take out of the record what its columns hold, and put back what did not fit."""
    known = ", ".join(f'"{column.name}": null' for column in COLUMNS)
    rest = f"CAST(json_merge_patch(json, '{{{known}}}') AS VARCHAR)"
    members, misfits = [f"NULLIF({rest}[2:-2], '')"], []
    for index, column in enumerate(COLUMNS, start=1):
        misfit = f"texts[{index}] IS NOT NULL AND ({_value(column, index)}) IS NULL"
        if column.type != "JSON" and not (column.type == "VARCHAR" and column.name in RESERVED_FIELDS):
            misfits.append(f"({misfit})")
            members.append(f"CASE WHEN {misfit} THEN '\"{column.name}\":' || CAST(raws[{index}] AS VARCHAR) END")
    mended = "'{' || concat_ws(',', " + ", ".join(members) + ") || '}'"
    return f"CAST(CASE WHEN {' OR '.join(misfits)} THEN {mended} ELSE {rest} END AS JSON)"
