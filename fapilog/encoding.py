r"""Turn any value into one line of strict JSON.

What a value becomes:

| value | in the record |
|---|---|
| str, int, float, bool, None | itself; NaN and infinities are null |
| an int of more than 64 bits | its digits as a string; of more than 4 300 digits ``<int 16610 bits>`` |
| str, int, float subclasses | the plain value; an Enum its value |
| datetime, date, time | RFC 3339 / ISO 8601; timedelta: seconds |
| UUID, Decimal, Path, IP addresses | their text |
| bytes, bytearray, memoryview | decoded as UTF-8, other bytes as ``\\xNN`` |
| dict and other mappings | an object; keys become text, two keys of one text get ``_`` appended |
| list, tuple, set, frozenset, deque | an array |
| dataclass, attrs, pydantic model | an object of its fields |
| numpy scalar, array of up to 1 000 items | number, array; a larger array ``<ndarray float64 (1000, 50)>`` |
| exception | ``ValueError: the message`` |
| class, function, module | its qualified name |
| anything else | `str(value)`; ``<unprintable Foo: ValueError>`` if that fails. Iterators are never consumed |

Cycles become ``<cycle>``, what is nested too deep ``<depth>``, what is cut off ends in ``<+N more>``.
"""

import datetime
import decimal
import enum
import ipaddress
import pathlib
import types
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME

PLAIN_TYPES: Final = frozenset({str, int, float, bool, type(None)})
"""Types orjson writes as they are. A flat record of these skips everything else in this module."""

MAX_LINE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a value is kept."""

    string: int = 32 * 1024
    depth: int = 8
    keys: int = 256
    items: int = 1_000
    total: int = 4 * 1024 * 1024
    """Characters in all, counting `_VALUE_COST` for each value."""


_VALUE_COST: Final = 128
LIMITS: Final = Limits()
_TIGHT: Final = Limits(string=1_024, depth=4, keys=64, items=32)

_HEAD: Final = (
    *("timestamp", "level", "event", "logger"),
    *("trace_id", "span_id", "parent_span_id", "trace_flags", "request_id"),
)
"""What is left of an event that nothing else makes short enough."""

_AS_TEXT: Final = (
    uuid.UUID,
    decimal.Decimal,
    pathlib.PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_NAMED: Final = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_BYTES: Final = (bytes, bytearray, memoryview)


def encode(event: Mapping[str, Any]) -> bytes:
    """Encode an event of plain values as one JSON object, without a newline.

    Strings that are not valid Unicode get U+FFFD, and an event longer than 256 KiB is cut inside its values.
    """
    try:
        body = orjson.dumps(event, None, OPTIONS)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        body = orjson.dumps(_mended(event, LIMITS), None, OPTIONS)
    if len(body) <= MAX_LINE_BYTES:
        return body
    shorter = {**_mended(event, _TIGHT), "_truncated": {"bytes": len(body)}}
    tight = orjson.dumps(shorter, None, OPTIONS)
    if len(tight) <= MAX_LINE_BYTES:
        return tight
    head = {name: shorter[name] for name in _HEAD if name in shorter}
    return orjson.dumps({**head, "_truncated": {"bytes": len(body)}}, None, OPTIONS)


def encode_text(value: str) -> bytes:
    """Encode one string as JSON, quotes included."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate
        return orjson.dumps(_strings(value))


def plain(value: Any, limits: Limits = LIMITS) -> Any:
    """Return *value* as dicts, lists, strings, numbers, booleans and None, whatever it is. Never raises."""
    return _plain(value, _Walk(limits), 0, ())


def plain_fields(fields: Mapping[str, Any], limits: Limits = LIMITS) -> dict[str, Any]:
    """Return the fields of a record as plain values, at most `limits.keys` of them."""
    return _object(fields.items(), len(fields), _Walk(limits), 0, ())


def text(value: Any, limit: int = LIMITS.string) -> str:
    """Return `str(value)`, cut to *limit* characters, or a marker if the value cannot say."""
    try:
        said = str(value)
        return cut(said if type(said) is str else str.__str__(said), limit)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a value may raise SystemExit from __str__ and must not end the app
        return f"<unprintable {type(value).__qualname__}: {type(error).__name__}>"


def cut(said: str, limit: int = LIMITS.string) -> str:
    """Cut a string to *limit* characters and say how many are missing."""
    return said if len(said) <= limit else f"{said[:limit]}<+{len(said) - limit} more>"


class _Walk:
    """The making plain of one value, and how much of it may still be kept.

    The other limits bound each container. A few lists that hold each other many times pass them all, and still stand
    for a thousand million items.
    """

    __slots__ = ("left", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.total


def _mended(event: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Make every string valid Unicode; `_plain` does not look, since nearly all are."""
    mended: dict[str, Any] = _strings(plain_fields(event, limits))
    return mended


def _strings(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if kind is dict:
        mended: dict[str, Any] = {}
        for key, item in value.items():
            name = _strings(key)
            while name in mended:
                name += "_"
            mended[name] = _strings(item)
        return mended
    if kind is list:
        return [_strings(item) for item in value]
    return value


def _plain(value: Any, walk: "_Walk", depth: int, above: tuple[int, ...]) -> Any:
    kind = type(value)
    walk.left -= _VALUE_COST
    if kind is str:
        walk.left -= min(len(value), walk.limits.string)
        return cut(value, walk.limits.string)
    if kind is bool or value is None:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _big(value)
    if kind is float:
        return value if value - value == 0 else None
    try:
        made = _other(value, kind, walk, depth, above)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a value's own code must not reach the caller
        return f"<unprintable {kind.__qualname__}: {type(error).__name__}>"
    if type(made) is str:
        walk.left -= len(made)
    return made


def _other(value: Any, kind: type, walk: "_Walk", depth: int, above: tuple[int, ...]) -> Any:
    if issubclass(kind, enum.Enum):
        return _plain(value.value, walk, depth + 1, above)
    for base, convert in _CONVERTERS:
        if issubclass(kind, base):
            return convert(value)
    items = _fields(value, kind)
    if items is None and not issubclass(kind, _SEQUENCES):
        return _numpy(value, kind, walk, depth, above)
    if id(value) in above:
        return "<cycle>"
    if depth >= walk.limits.depth:
        return "<depth>"
    above = (*above, id(value))
    if items is not None:
        return _object(items.items(), len(items), walk, depth + 1, above)
    kept: list[Any] = []
    for item, _ in zip(value, range(walk.limits.items), strict=False):
        if walk.left <= 0:
            break
        kept.append(_plain(item, walk, depth + 1, above))
    if len(value) > len(kept):
        kept.append(f"<+{len(value) - len(kept)} more>")
    return kept


def _fields(value: Any, kind: type) -> Mapping[Any, Any] | None:
    """Return what an object is made of if it is a mapping, a dataclass, or a pydantic or attrs model."""
    if issubclass(kind, Mapping):
        return value  # type: ignore[no-any-return]  # narrowed through its type: isinstance would call `__class__`
    names = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "__dataclass_fields__", None)
    if names is None:
        attributes = getattr(kind, "__attrs_attrs__", None)
        if attributes is None:
            return None
        names = [attribute.name for attribute in attributes]
    return {name: getattr(value, name, None) for name in names}


def _object(items: Any, size: int, walk: "_Walk", depth: int, above: tuple[int, ...]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for (key, item), _ in zip(items, range(walk.limits.keys), strict=False):
        if walk.left <= 0:
            break
        name = key if type(key) is str and len(key) <= 256 else _name(key)
        while name in kept:
            name += "_"
        kept[name] = _plain(item, walk, depth, above)
    if size > len(kept):
        kept["_more_keys"] = size - len(kept)
    return kept


def _name(key: Any) -> str:
    """Return a key as text. A long one keeps its end too: what follows may have to see that it ends in ``_token``."""
    said = text(plain(key) if issubclass(type(key), (str, enum.Enum, *_BYTES)) else key)
    return said if len(said) <= 256 else f"{said[:192]}<+{len(said) - 256} more>{said[-64:]}"


def _numpy(value: Any, kind: type, walk: "_Walk", depth: int, above: tuple[int, ...]) -> Any:
    """Unpack numpy scalars and arrays, known by their module so that numpy need not be imported."""
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype") and hasattr(value, "tolist"):
        if value.size > walk.limits.items:
            return f"<{kind.__name__} {value.dtype} {tuple(value.shape)}>"
        unpacked = value.tolist()
        if type(unpacked) is not kind:
            return _plain(unpacked, walk, depth, above)
    return text(value, walk.limits.string)


def _big(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than sys.set_int_max_str_digits allows
        return f"<int {value.bit_length()} bits>"


def _decoded(value: bytes | bytearray | memoryview) -> str:
    head = bytes(value[: LIMITS.string])
    said = head.decode("utf-8", "backslashreplace")
    return said if len(value) <= len(head) else f"{said}<+{len(value) - len(head)} more>"


def _named(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or text(value)
    return f"{module}.{name}" if module and module != "builtins" else str(name)


def _plain_exception(value: BaseException) -> str:
    return f"{type(value).__qualname__}: {text(value)}"


_CONVERTERS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...]] = (
    (str, lambda value: cut(str.__str__(value))),
    (int, lambda value: plain(int.__index__(value))),
    (float, lambda value: plain(float.__float__(value))),
    (_BYTES, _decoded),
    ((datetime.datetime, datetime.date, datetime.time), lambda value: value.isoformat()),
    (datetime.timedelta, lambda value: value.total_seconds()),
    (_AS_TEXT, text),
    (BaseException, _plain_exception),
    (_NAMED, _named),
)
