"""The child process of `fapilog.store.sandbox`: answer one foreign query, with no way to anything but the store.

It is run as a script, not imported, so that it starts quickly and holds nothing of the service: it knows what it is
told on its standard input, and leaves when that ends.
"""

import contextlib
import json
import os
import resource
import sys
import threading
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

TABLE_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
"""What may stand in FROM beside the views."""

REFUSED_FUNCTIONS: Final = frozenset(
    {"current_setting", "getenv", "getvariable", "nextval", "currval", "sleep_ms", "write_log", "query", "query_table"}
)

_SLACK_BYTES: Final = 384 * 1024 * 1024
"""What threads and the allocator of DuckDB reserve without using it."""


class Refused(Exception):  # noqa: N818 - it says what it is to the parent
    """The query asks for what it may not have."""


def main() -> None:
    """Read the job, answer it on standard output, one JSON object a line."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    sys.path[:] = job["sys_path"]
    try:
        _answer(job)
    except Refused as error:
        _tell({"error": str(error), "kind": "refused"})
    except MemoryError:
        _tell({"error": "", "kind": "memory"})
    sys.stdout.buffer.flush()
    os._exit(0)  # whatever DuckDB's threads still do


def _answer(job: dict[str, Any]) -> None:
    import duckdb  # noqa: PLC0415 - only now is it known where it is

    _tell({"ready": True})
    sys.stdout.buffer.flush()  # the time begins
    try:
        connection = _connect(duckdb, job)
        _limit(job)
        _check(connection, job["query"], frozenset(job["views"]))
        _run(connection, job)
    except duckdb.OutOfMemoryException:
        _tell({"error": "", "kind": "memory"})
    except duckdb.Error as error:
        _tell({"error": str(error), "kind": "query", "type": type(error).__name__})


def _connect(duckdb: Any, job: dict[str, Any]) -> Any:
    connection = duckdb.connect(":memory:", config=job["config"])
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")  # it would go to standard output
    connection.execute(f"SET allowed_paths = {_literals(job['paths'])}")
    connection.execute("SET enable_external_access = false")
    for name, query in job["views"].items():
        connection.execute(f"CREATE VIEW {name} AS {query}")  # ours, not the asker's
    connection.execute("SET lock_configuration = true")
    return connection


def _literals(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _limit(job: dict[str, Any]) -> None:
    """Have the kernel hold the bounds that DuckDB may not."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_seconds"], job["cpu_seconds"]))
    with contextlib.suppress(OSError, ValueError):  # where there is no /proc there is DuckDB's own limit
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a script that imports little
            used = int(file.read().split()[0]) * resource.getpagesize()
        most = used + job["memory_bytes"] + _SLACK_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _check(connection: Any, query: str, views: frozenset[str]) -> None:
    """Refuse what is not one SELECT over the views.

    DuckDB refuses it too, as external access is off and the configuration locked: this is the first of two walls,
    and the one that says why.
    """
    ((text,),) = connection.execute("SELECT json_serialize_sql(CAST($1 AS VARCHAR))", [query]).fetchall()
    tree = json.loads(text)
    if tree.get("error"):
        message = str(tree.get("error_message", ""))
        if tree.get("error_type") == "parser":
            raise Refused(message)
        raise Refused("a query is one SELECT statement; the store is only read here")
    if len(tree["statements"]) != 1:
        raise Refused(f"a query is one SELECT statement, not {len(tree['statements'])}")
    nodes, known = list(_nodes(tree)), set(views)
    for node in nodes:
        known |= {
            entry["key"].lower() for entry in node.get("cte_map", {}).get("map", []) if entry["key"].isidentifier()
        }
    for node in nodes:
        _check_node(node, known)


def _check_node(node: dict[str, Any], known: set[str]) -> None:
    kind = node.get("type")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise Refused(f"the function {name!r} is not for queries from outside")
    elif kind == "BASE_TABLE":
        name = str(node.get("table_name", ""))
        schema = node.get("catalog_name") or node.get("schema_name")
        if name.lower() not in known or schema:
            name = f"{schema}.{name}" if schema else name
            raise Refused(f"there is no table {name!r} for queries from outside; known: {', '.join(sorted(known))}")
    elif kind in ("SHOW_REF", "COLUMN_DATA"):
        raise Refused("a query is one SELECT statement; the store is only read here")
    name = str(node.get("function_name", "")).lower()
    if name in REFUSED_FUNCTIONS:
        raise Refused(f"the function {name!r} is not for queries from outside")


def _nodes(tree: Any) -> Any:
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _run(connection: Any, job: dict[str, Any]) -> None:
    query = job["query"].rstrip().rstrip(";")
    relation = connection.sql(query, params=job["params"])
    columns, types = list(relation.columns), [str(kind) for kind in relation.types]
    numbers = [f"c{number}" for number in range(len(columns))]
    values = ", ".join(
        f"CAST({number} AS TIMESTAMP) AS {number}" if kind == "TIMESTAMP WITH TIME ZONE" else number
        for number, kind in zip(numbers, types, strict=True)
    )
    connection.execute(
        f"SELECT {values} FROM (\n{query}\n) AS q({', '.join(numbers)}) LIMIT {job['max_rows'] + 1}",  # noqa: S608 - it was checked
        job["params"],
    )
    _tell({"columns": columns, "types": [kind.replace(" WITH TIME ZONE", "") for kind in types]})
    rows = size = 0
    while chunk := connection.fetchmany(200):
        for row in chunk:
            line = _line(row)
            size += len(line)
            if rows == job["max_rows"] or size > job["max_bytes"]:
                _tell({"end": "rows" if rows == job["max_rows"] else "bytes"})
                return
            rows += 1
            sys.stdout.buffer.write(line + b"\n")
    _tell({"end": None})


def _line(row: Any) -> bytes:
    try:
        text = json.dumps(row, default=_plain, ensure_ascii=False, allow_nan=False)
    except ValueError:  # an infinite number, or none
        text = json.dumps(
            json.loads(json.dumps(row, default=_plain), parse_constant=lambda _: None), ensure_ascii=False
        )
    return text.encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case set() | frozenset():
            return list(value)
        case _:
            return str(value)


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
