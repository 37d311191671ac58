"""Turn a query into a condition of SQL over the view `logs`, with every value bound as a parameter.

A condition is NULL rather than false where a field is missing: both leave the record out, and without a ``coalesce``
DuckDB can use its statistics. Only `Not` makes a plain false of it.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fapilog.store.language import (
    LEVEL,
    METHOD,
    NUMBER,
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
)
from fapilog.store.matching import fold
from fapilog.store.moments import comparison_span, range_span
from fapilog.store.schema import COLUMNS

_TYPES: Final = {column.name: column.type for column in COLUMNS}
_NUMERIC: Final = ("BIGINT", "DOUBLE", "SMALLINT")
_WORDS: Final = re.compile(r"[A-Za-z_ -]{3,}")
"""Text that is the same in a line and in what DuckDB makes of it, unlike numbers and what stands between values."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.-]+")


class Parameters:
    """The values of one statement, in the order of ``$1``, ``$2`` and so on."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def bind(self, value: Any) -> str:
        """Add *value* and return what stands for it in the statement."""
        if isinstance(value, datetime) and value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)  # as the column has it
        self.values.append(value)
        return f"${len(self.values)}"


def condition(node: Node, parameters: Parameters, *, now: datetime | None = None) -> str:
    """Write *node* as a condition over the columns of `logs`.

    Args:
        node: The query.
        parameters: Where its values are added.
        now: What times such as ``1h`` are before; None for this moment.
    """
    match node:
        case And(()):
            return "true"
        case And(parts):
            return "(" + " AND ".join(condition(part, parameters, now=now) for part in parts) + ")"
        case Or(parts):
            return "(" + " OR ".join(condition(part, parameters, now=now) for part in parts) + ")"
        case Not(part):
            return f"({condition(part, parameters, now=now)} IS NOT TRUE)"
        case Text(value):
            return _anywhere(value, parameters)
        case Exists(path):
            return _exists(path, parameters)
        case Comparison(path) | Range(path):
            if path == TIMESTAMP:
                return _time(node, parameters, now)
            return _compared(path, node, parameters)


def needles(node: Node) -> list[str]:
    """Return texts that are in the line of every record of which *node* holds, in upper or lower case."""
    match node:
        case And(parts):
            return [needle for part in parts for needle in needles(part)]
        case Text(value):
            return [max(words, key=len) for part in value.parts if (words := _WORDS.findall(part))]
        case Comparison(path) | Range(path) | Exists(path) if path[0] not in _TYPES and _is_plain(path[-1]):
            return [f'{path[-1]}"']
    return []


def between(begin: datetime | None, end: datetime | None, parameters: Parameters) -> str:
    """Write that a record is not older than *begin* and older than *end*; None for no bound."""
    bounds = [f"timestamp >= {parameters.bind(begin)}"] if begin is not None else []
    bounds += [f"timestamp < {parameters.bind(end)}"] if end is not None else []
    return "(" + " AND ".join(bounds or ["timestamp IS NOT NULL"]) + ")"


def _time(node: Comparison | Range, parameters: Parameters, now: datetime | None) -> str:
    if isinstance(node, Range):
        return between(*range_span(*node.texts, now=now), parameters)
    return between(*comparison_span(node.operator, node.value.parts[0], now=now), parameters)


def _anywhere(value: Value, parameters: Parameters) -> str:
    plain = ("", *(fold(part) for part in value.parts), "")
    escaped = ("", *(fold(orjson.dumps(part)[1:-1].decode()) for part in value.parts), "")
    tests = [_alike("event", plain, parameters)]
    tests += [_alike(f"CAST({column} AS VARCHAR)", escaped, parameters) for column in ("exception", "fields")]
    return "(" + " OR ".join(tests) + ")"


def _alike(text: str, parts: tuple[str, ...], parameters: Parameters) -> str:
    if any(re.search(r"[\\%_]", part) for part in parts):
        return _like(f"lower({text})", parts, parameters)
    return f"{text} ILIKE {parameters.bind('%'.join(parts))}"  # quicker than lower(), but takes no escape at that speed


def _exists(path: Path, parameters: Parameters) -> str:
    places = [f"({base}->>{parameters.bind(_pointer(names))}) IS NOT NULL" for base, names in _places(path)]
    if len(path) == 1 and path[0] in _TYPES:
        places.insert(0, f'"{path[0]}" IS NOT NULL')
    return "(" + " OR ".join(places) + ")"


def _compared(path: Path, node: Comparison | Range, parameters: Parameters) -> str:
    kind = _TYPES.get(path[0]) if len(path) == 1 else None
    if kind == "VARCHAR":
        return _test(f'"{path[0]}"', node, parameters)
    if kind in _NUMERIC:
        column = f'"{path[0]}"'
        inside = f"({column} IS NULL AND {_within('fields', path, node, parameters)})"
        return f"({_test(column, node, parameters, number=True)} OR {inside})"
    if kind == "JSON":
        return _within(path[0], (), node, parameters)
    places = [_within(base, names, node, parameters) for base, names in _places(path)]
    return "(" + " OR ".join(places) + ")"


def _places(path: Path) -> list[tuple[str, Path]]:
    """Where *path* may be: each a column of JSON and the names within it."""
    if len(path) == 1:
        return [("fields", path)]
    places: list[tuple[str, Path]] = [("fields", (".".join(path),))]
    if path[0] == "exception":
        places.append(("exception", path[1:]))
        return places
    if _TYPES.get(path[0]) == "VARCHAR":
        places.append((f'TRY_CAST("{path[0]}" AS JSON)', path[1:]))
    places.append(("fields", path))
    return places


def _within(base: str, names: Path, node: Comparison | Range, parameters: Parameters) -> str:
    """Compare what is at *names* in the column *base* of JSON: one value, or any in an array of them."""
    place = parameters.bind(_pointer(names)) if names else "'$'"
    kind = f"json_type({base}, {place})"
    alone = _test(f"({base}->>{place})", node, parameters)
    item = _test("json_extract_string(item, '$')", node, parameters)
    items = f"json_extract(json_extract({base}, {place}), '$[*]')"
    some = f"len(list_filter({items}, lambda item: json_type(item) NOT IN ('OBJECT', 'ARRAY') AND {item})) > 0"
    found = f"CASE {kind} WHEN 'ARRAY' THEN {some} WHEN 'OBJECT' THEN false ELSE {alone} END"
    if names and _is_plain(names[-1]):
        # Most records do not have the field, and a search for its name is much quicker than reading JSON.
        return f"(contains(CAST({base} AS VARCHAR), {parameters.bind(chr(34) + names[-1] + chr(34))}) AND {found})"
    return f"({found})"


def _test(text: str, node: Comparison | Range, parameters: Parameters, *, number: bool = False) -> str:
    """Compare *text*, an expression for a field as text, or with *number* a column of numbers."""
    as_number = text if number else _number(text)
    as_text = f"CAST({text} AS VARCHAR)" if number else text
    if isinstance(node, Range):
        return _in_range(as_text, as_number, node, parameters)
    sign, value = node.operator, node.value
    literal = value.literal
    if node.path == LEVEL and literal is not None and not (value.quoted and sign == "="):
        return _one_of(text, levels_that(sign, level_named(literal) or ""), parameters)
    if node.path == METHOD and not value.quoted:
        value = Value(tuple(part.upper() for part in value.parts))
        literal = value.literal
    if literal is None:
        return _like(as_text, value.parts, parameters)
    if value.number is None:
        return f"{as_text} {sign} {parameters.bind(literal)}"
    compared = f"{as_number} {sign} {parameters.bind(value.number)}"
    return f"({text} = {parameters.bind(literal)} OR {compared})" if sign == "=" and not number else compared


def _in_range(text: str, number: str, node: Range, parameters: Parameters) -> str:
    if node.path == LEVEL:
        return _one_of(text, levels_between(node), parameters)
    if node.numbers is not None:
        least, most = node.numbers
        return f"({number} BETWEEN {parameters.bind(least)} AND {parameters.bind(most)})"
    bounds = [f"{text} >= {parameters.bind(node.low.parts[0])}"] if node.low is not None else []
    bounds += [f"{text} <= {parameters.bind(node.high.parts[0])}"] if node.high is not None else []
    return "(" + " AND ".join(bounds) + ")"


def _one_of(text: str, names: list[str], parameters: Parameters) -> str:
    return f"{text} IN ({', '.join(map(parameters.bind, names))})" if names else "false"


def _number(text: str) -> str:
    return f"CASE WHEN regexp_full_match({text}, '{NUMBER.pattern}') THEN TRY_CAST({text} AS DOUBLE) END"


def _like(text: str, parts: tuple[str, ...], parameters: Parameters) -> str:
    match parts:
        case ("", part, ""):
            return f"contains({text}, {parameters.bind(part)})"
        case (part, ""):
            return f"starts_with({text}, {parameters.bind(part)})"
        case ("", part):
            return f"ends_with({text}, {parameters.bind(part)})"
    pattern = "%".join(re.sub(r"[\\%_]", r"\\\g<0>", part) for part in parts)
    return f"{text} LIKE {parameters.bind(pattern)} ESCAPE '\\'"


def _is_plain(name: str) -> bool:
    """Whether a key of this *name* is written so in JSON, and is no index of an array."""
    return _PLAIN_KEY.fullmatch(name) is not None and not name.isdigit()


def _pointer(names: Path) -> str:
    """Write *names* as a JSON pointer, see https://www.rfc-editor.org/rfc/rfc6901 ."""
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
