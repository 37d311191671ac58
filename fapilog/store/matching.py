"""Say of one record whether it fits a query, as `fapilog.store.conditions` does in SQL for all of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import orjson

from fapilog.store.language import (
    COMPARE,
    LEVEL,
    METHOD,
    TIMESTAMP,
    And,
    Comparison,
    Exists,
    Node,
    Not,
    Or,
    Path,
    Range,
    Text,
    Value,
    level_named,
    levels_between,
    levels_that,
    number_of,
)
from fapilog.store.moments import comparison_span, range_span
from fapilog.store.schema import COLUMNS
from fapilog.store.splitting import parse_timestamp, split, text_of

Record: TypeAlias = Mapping[str, Any]
"""A record as it was logged: one flat object, whose values JSON can hold."""

Test: TypeAlias = Callable[[Record], bool]
TextTest: TypeAlias = Callable[[str], bool]

_TYPES: Final = {column.name: column.type for column in COLUMNS}


def matcher(node: Node, *, now: datetime | None = None) -> Test:
    """Make the function that says whether a record fits *node*.

    Args:
        node: The query.
        now: What times such as ``1h`` are before; None for this moment.
    """
    match node:
        case And(parts):
            tests = [matcher(part, now=now) for part in parts]
            return lambda record: all(test(record) for test in tests)
        case Or(parts):
            tests = [matcher(part, now=now) for part in parts]
            return lambda record: any(test(record) for test in tests)
        case Not(part):
            test = matcher(part, now=now)
            return lambda record: not test(record)
        case Text(value):
            return _text_test(value)
        case Exists(path):
            return lambda record: any(value is not None for value in _values(record, path))
        case Comparison(path) | Range(path):
            return _timestamp_test(node, now) if path == TIMESTAMP else _field_test(path, text_test(node))


def text_test(node: Comparison | Range) -> TextTest:
    """Make the function that says of a field's value, as text, whether it compares as *node* has it."""
    if isinstance(node, Range):
        return _range_test(node)
    path, sign, value = node.path, node.operator, node.value
    text = value.literal
    if path == LEVEL and text is not None and not (value.quoted and sign == "="):
        wanted = frozenset(levels_that(sign, level_named(text) or ""))
        return lambda found: found in wanted
    if path == METHOD and not value.quoted:
        value = Value(tuple(part.upper() for part in value.parts))
        text = value.literal
    if text is None:
        return lambda found: fits(found, value.parts)
    number = value.number
    compare = COMPARE[sign]
    if number is None:
        return lambda found: compare(found, text)
    if sign == "=":
        return lambda found: found == text or number_of(found) == number
    return lambda found: (other := number_of(found)) is not None and compare(other, number)


def fits(text: str, parts: tuple[str, ...]) -> bool:
    """Whether *text* is *parts* with anything between them."""
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        if (at := text.find(part, at, end)) < 0:
            return False
        at += len(part)
    return True


def fold(text: str) -> str:
    """Make one of upper and lower case, character by character, as DuckDB's ``lower`` does."""
    return text.lower() if text.isascii() else "".join([character.lower()[0] for character in text])


def _range_test(node: Range) -> TextTest:
    if node.path == LEVEL:
        wanted = frozenset(levels_between(node))
        return lambda found: found in wanted
    numbers = node.numbers
    if numbers is not None:
        least, most = numbers
        return lambda found: (number := number_of(found)) is not None and least <= number <= most
    low = "" if node.low is None else node.low.parts[0]
    high = None if node.high is None else node.high.parts[0]
    return lambda found: low <= found and (high is None or found <= high)


def _timestamp_test(node: Comparison | Range, now: datetime | None) -> Test:
    if isinstance(node, Range):
        begin, end = range_span(*node.texts, now=now)
    else:
        begin, end = comparison_span(node.operator, node.value.parts[0], now=now)

    def test(record: Record) -> bool:
        moment = parse_timestamp(record.get("timestamp"))
        return moment is not None and (begin is None or begin <= moment) and (end is None or moment < end)

    return test


def _text_test(value: Value) -> Test:
    plain = ("", *(fold(part) for part in value.parts), "")
    escaped = ("", *(fold(orjson.dumps(part)[1:-1].decode()) for part in value.parts), "")

    def test(record: Record) -> bool:
        columns, fields = split(record)
        event, exception = columns.get("event"), columns.get("exception")
        return (
            (event is not None and fits(fold(event), plain))
            or (exception is not None and fits(fold(orjson.dumps(exception).decode()), escaped))
            or fits(fold(orjson.dumps(fields).decode()), escaped)
        )

    return test


def _field_test(path: Path, test: TextTest) -> Test:
    kind = _TYPES.get(path[0]) if len(path) == 1 else None

    def compared(record: Record) -> bool:
        if kind is not None and kind != "JSON":
            columns, _ = split({path[0]: record.get(path[0])})
            if path[0] in columns:
                return test(text_of(columns[path[0]]))
        return any(
            test(text_of(each))
            for value in _values(record, path)
            for each in (value if isinstance(value, list) else [value])
            if each is not None and not isinstance(each, dict | list)
        )

    return compared


def _values(record: Record, path: Path) -> Iterator[Any]:
    """Give what *path* may mean: a field within fields, or one whose name has dots in it."""
    if len(path) > 1:
        yield record.get(".".join(path))
    value: Any = record.get(path[0])
    if len(path) > 1 and value is not None and _TYPES.get(path[0]) == "VARCHAR":
        value = _parsed(text_of(value))  # as the column has it
    for name in path[1:]:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and re.fullmatch("0|[1-9][0-9]{0,8}", name):
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return
    yield value


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
