"""Shorten a line of JSON that is too long, so that it is still one object of JSON and says what was done."""

from typing import Any, Final

import orjson

MIN_LINE_BYTES: Final = 2_048
_KEPT: Final = (
    *("timestamp", "level", "event", "logger", "id", "service", "env", "version", "host", "pid"),
    *("trace_id", "span_id", "request_id"),
)
_MARK: Final = "_truncated"
_LEAST: Final = 64


def shorten(line: bytes, max_bytes: int) -> bytes:
    """Return *line*, of at most *max_bytes* bytes: long strings are cut first, then whole fields are left out.

    Args:
        line: A line of UTF-8, without the newline at its end. If it is no JSON object it is cut as text.
        max_bytes: At least `MIN_LINE_BYTES`.
    """
    if len(line) <= max_bytes:
        return line
    try:
        record = orjson.loads(line)
        if isinstance(record, dict):
            return _shortened(record, len(line), max_bytes)
    except (orjson.JSONDecodeError, RecursionError):
        pass
    return line[:max_bytes].decode("utf-8", "ignore").encode()


def _shortened(record: dict[str, Any], size_bytes: int, max_bytes: int) -> bytes:
    before = record.get(_MARK)
    size = before.get("bytes") if isinstance(before, dict) else None
    record[_MARK] = {"bytes": size if isinstance(size, int) else size_bytes}
    shortest = _cut(record, _LEAST)
    best = orjson.dumps(shortest)
    if len(best) > max_bytes:
        return _thinned(shortest, max_bytes)
    low, high = _LEAST, max_bytes
    while high - low > _LEAST:
        middle = (low + high) // 2
        tried = orjson.dumps(_cut(record, middle))
        if len(tried) <= max_bytes:
            low, best = middle, tried
        else:
            high = middle
    return best


def _thinned(record: dict[str, Any], max_bytes: int) -> bytes:
    """Leave out fields, the largest first, until the rest is short enough."""
    sizes = {name: len(orjson.dumps({name: value})) for name, value in record.items()}
    too_many = sum(sizes.values()) - max_bytes
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if too_many > 0 and name not in _KEPT and name != _MARK:
            del record[name]
            too_many -= sizes[name]
    shorter = orjson.dumps(record)
    if len(shorter) <= max_bytes:
        return shorter
    text = {name: record[name] for name in _KEPT if isinstance(record.get(name), str | int)}
    return orjson.dumps({**text, _MARK: record[_MARK]})


def _cut(value: Any, longest: int) -> Any:
    """Cut every string in *value*, names of fields included, to *longest* bytes of UTF-8."""
    if isinstance(value, str):
        if 4 * len(value) <= longest:
            return value
        encoded = value.encode()
        return value if len(encoded) <= longest else encoded[:longest].decode("utf-8", "ignore") + "…"
    if isinstance(value, dict):
        return {_cut(name, longest): _cut(each, longest) for name, each in value.items()}
    return [_cut(each, longest) for each in value] if isinstance(value, list) else value
