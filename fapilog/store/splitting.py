"""Split one record into the columns of `logs` and the rest, as `fapilog.store.schema` does in SQL for all of them."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fapilog.store.schema import COLUMNS, Column

_BITS: Final = {"SMALLINT": 15, "BIGINT": 63}
_NAMES: Final = frozenset(column.name for column in COLUMNS)


def split(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the columns hold of *record*, without those that hold nothing, and what is in `fields`."""
    columns, misfits = {}, {}
    for column in COLUMNS:
        if (given := record.get(column.name)) is not None:
            value = _fitting(given, column)
            if value is None:
                misfits[column.name] = given
            else:
                columns[column.name] = value
    return columns, {name: value for name, value in record.items() if name not in _NAMES} | misfits


def text_of(value: Any) -> str:
    """Write a value of JSON as text: a string is itself, all else is written as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def parse_timestamp(text: Any) -> datetime | None:
    """Return the time that the field `timestamp` says, or None if it is not a time in UTC."""
    if not isinstance(text, str) or not text.endswith("Z"):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _fitting(value: Any, column: Column) -> Any:
    """Return *value* as *column* holds it, or None if it does not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match column.type:
        case "JSON":
            return value
        case "TIMESTAMP":
            return parse_timestamp(value)
        case "DOUBLE":
            return float(value) if number else None
        case "VARCHAR":
            return text_of(value)
        case kind:
            fits = number and math.isfinite(value) and value == int(value) and -(2 ** _BITS[kind]) <= value
            return int(value) if fits and value < 2 ** _BITS[kind] else None
