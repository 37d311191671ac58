"""Say which columns of `logs` a statement reads, so that nothing else is taken out of live lines.

DuckDB binds an expression of each column of a view before it drops what nobody reads, and takes each field out of a
line by itself. That is most of what live segments cost a query that reads two or three columns.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import duckdb

from fapilog.store.schema import COLUMNS
from fapilog.store.views import VIEWS

_NAMES: Final = frozenset(column.name for column in COLUMNS) | {"fields"}
_EXPRESSIONS: Final = frozenset(
    {"BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"}
    | {"LAMBDA", "OPERATOR", "PARAMETER", "SUBQUERY", "TYPE", "WINDOW"}
)
_SOURCES: Final = frozenset({"BASE_TABLE", "EMPTY", "JOIN", "SUBQUERY"})
_ORDER_BY_ALL: Final = {"class": "STAR", "columns": True, "expr": None}


class _AllOfThemError(Exception):
    """A column may be read that is not named."""


def needed_columns(connection: duckdb.DuckDBPyConnection, statement: str) -> frozenset[str] | None:
    """Return the names of the columns of `logs` that *statement* may read, or None if that may be any."""
    ((text,),) = connection.execute("SELECT json_serialize_sql(CAST($1 AS VARCHAR))", [statement]).fetchall()
    tree = json.loads(text)
    if tree.get("error"):  # whatever it is, DuckDB says what is wrong with it
        return None
    try:
        return _named(list(_nodes(tree)))
    except _AllOfThemError:
        return None


def _named(nodes: list[dict[str, Any]]) -> frozenset[str]:
    names: set[str] = set()
    ctes = {entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())}
    tables = {"logs", *ctes} - VIEWS.keys()
    rows = tables | {node["alias"].lower() for node in nodes if node.get("alias") and "class" not in node}
    for node in nodes:
        if "class" in node:
            if node["class"] not in _EXPRESSIONS:  # such as *
                raise _AllOfThemError
            parts = [part.lower() for part in node.get("column_names", ())]
            if parts and parts[-1] in rows:
                raise _AllOfThemError
            names.update(parts)
        elif "query_location" in node and "type" in node:
            if (
                node["type"] not in _SOURCES
                or node.get("column_name_alias")
                or node.get("ref_type") == "NATURAL"
                or (node["type"] == "BASE_TABLE" and node["table_name"].lower() not in tables)
            ):
                raise _AllOfThemError
            names.update(name.lower() for name in node.get("using_columns", ()))
    return frozenset(names & _NAMES)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Give every object in *tree* but the ALL of ORDER BY ALL, which are the columns that are selected."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            ordered = value.get("type") == "ORDER_MODIFIER"
            waiting += [each for name, each in value.items() if not (ordered and name == "orders")]
            waiting += [
                each
                for each in (value["orders"] if ordered else ())
                if not _ORDER_BY_ALL.items() <= {"expr": None, **each["expression"]}.items()
            ]
        elif isinstance(value, list):
            waiting += value
