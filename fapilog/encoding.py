r"""Turn any value into one line of strict JSON.

What a value becomes:

| value | in the record |
|---|---|
| str, int, float, bool, None | itself; NaN and infinities are null |
| an int of more than 64 bits | its digits as a string; of more than 4 300 digits ``<int 16610 bits>`` |
| str, int, float subclasses | the plain value |
| Enum | its value |
| datetime, date, time | RFC 3339 / ISO 8601; timedelta: seconds |
| UUID, Decimal, Path, IP addresses | their text |
| complex, Fraction, range, regular expression | their text |
| bytes, bytearray, memoryview | decoded as UTF-8, other bytes as ``\xNN`` |
| dict and other mappings | an object; keys become text, two keys of one text get ``_`` appended |
| list, tuple, set, frozenset, deque, `array.array`, views of a dict | an array |
| named tuple | an object of its fields; what `urllib.parse.urlsplit` and `urlparse` return: the URL |
| dataclass, attrs, pydantic, msgspec model | an object of its fields but for ``repr=False``, ``exclude=True`` |
| attrs field with a ``repr`` function | what that returns |
| pydantic root model | what it holds |
| field of pydantic with a serializer | what that returns; computed fields are there, too |
| pydantic model with a ``model_serializer`` | what that returns |
| pydantic ``SecretStr`` | ``**********``, also where a serializer opens it |
| `types.SimpleNamespace` | an object of its attributes |
| exception | ``ValueError: the message`` |
| class, function, module | its qualified name |
| numpy scalar | a number; datetime64 its text, timedelta64 seconds |
| numpy array of up to 1 000 items | nested arrays, objects if structured; larger: ``<ndarray float64 (1000, 50)>`` |
| pandas or polars frame | an object: ``type``, ``shape``, ``dtypes``, ``head``, ``tail`` (5 rows each, 20 columns) |
| pandas or polars series, pandas index | an object: ``type``, ``name``, ``shape``, ``dtype``, ``head``, ``tail`` |
| rows or items of pandas with texts as labels | ``head``, ``tail``: objects by label, below the name of the index |
| pandas ``NA``, ``NaT``, numpy ``NaT`` | null |
| Starlette's `Secret` | its `repr`, which hides it |
| polars lazy frame | ``<LazyFrame, not collected>`` |
| scipy sparse matrix or array | an object: ``type``, ``shape``, ``dtype``, ``nnz`` |
| torch tensor on the CPU of up to 1 000 items | nested arrays; any other ``<Tensor float32 (64, 3) cuda:0>`` |
| query of an ORM such as Django's | ``<QuerySet>``; the database is not asked |
| what `lazy` made | what its function returns; ``<lazy failed: ValueError>`` if it raises |
| what has a serializer | what the serializer returns; ``<serializer failed: ValueError>`` if it raises |
| anything else | `str(value)`; ``<unprintable Foo: ValueError>`` if that fails. Iterators are never consumed |

Cycles become ``<cycle>``, what is nested too deep ``<depth>``, what is cut off ends in ``<+N more>``, an object that is
cut has how many keys are missing in ``_more_keys``.
"""

import array
import collections
import contextlib
import datetime
import decimal
import enum
import ipaddress
import pathlib
import re
import types
import uuid
from collections import Counter, deque
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final
from urllib.parse import ParseResult, ParseResultBytes, SplitResult, SplitResultBytes

import orjson

from fapilog import arrays, models
from fapilog.diagnostics import report
from fapilog.excerpts import excerpt
from fapilog.serializers import Lazy, serializer_of

OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME

MAX_LINE_BYTES: Final = 256 * 1024
NOTES: Final = ("_truncated", "_coerced")
"""Fields that say what was lost of others."""

MAX_NOTES: Final = 32
"""How many entries each of them has at most."""

OWN_KEYS: Final = 32
"""How many fields a record may have beyond its limit, for those that fapilog puts there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a value is kept."""

    record: int = MAX_LINE_BYTES
    """Bytes of a line. Values are given up from about this size on: characters, and `_VALUE_COST` for each value."""

    string: int = 32 * 1024
    """Characters of a text, or bytes."""

    depth: int = 8
    keys: int = 256
    items: int = 1_000

    def tight(self, share: int = 256) -> "Limits":
        """Return what holds for each value of a record that would be too long with these limits.

        A text then has a *share* of the record.
        """
        string = max(self.record // share, 64)
        return Limits(
            self.record, min(self.string, string), min(self.depth, 4), min(self.keys, 64), min(self.items, 32)
        )


_VALUE_COST: Final = 32
_FRAME_COST: Final = 8 * 1024
LIMITS: Final = Limits()

_HEAD: Final = (
    *("timestamp", "level", "event", "logger"),
    *("trace_id", "span_id", "parent_span_id", "trace_flags", "request_id"),
)
"""What is left of an event that nothing else makes short enough."""

_SHARES: Final = (256, 2_048)
"""What share of a record a text may have when the record is too long, and when it still is."""

_TIGHT_STACK: Final = 8 * 1024
_MAX_KEY: Final = 256
_MAX_PATH: Final = 256
_NAMED: Final = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)
_TRIES: Final = 10
_SEQUENCES: Final = (list, tuple, set, frozenset, deque, array.array, collections.UserList)
_VIEWS: Final = (KeysView, ValuesView, ItemsView)
_URLS: Final = (SplitResult, SplitResultBytes, ParseResult, ParseResultBytes)
_BYTES: Final = (bytes, bytearray, memoryview)

_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE: Final = re.compile("[\ud800-\udfff]")

# Read past a metaclass, whose own `__qualname__` may do anything.
_QUALNAME: Final = type.__dict__["__qualname__"].__get__


def encode(event: Mapping[str, Any], limits: Limits = LIMITS, *, reserve: int = 0) -> bytes:
    """Encode an event of plain values as one JSON object, without a newline.

    Strings that are not valid Unicode get U+FFFD, and an event longer than `limits.record` less *reserve* bytes is cut
    inside its values.
    """
    try:
        body = orjson.dumps(event, None, OPTIONS)
    except TypeError:  # a lone surrogate
        event = _strings(event)
        try:
            body = orjson.dumps(event, None, OPTIONS)
        except TypeError:  # an integer beyond 64 bits: nobody has made the values plain
            event = _mended(event, limits)
            body = orjson.dumps(event, None, OPTIONS)
    room = limits.record - reserve
    if len(body) <= room:
        return body
    for share in _SHARES:
        tighter = limits.tight(share)
        shorter = _shortened(event, replace(tighter, keys=limits.keys), len(body))
        tight = orjson.dumps(shorter, None, OPTIONS)
        if len(tight) <= room:
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


def plain_fields(
    fields: Mapping[str, Any], limits: Limits = LIMITS, failures: "Counter[str] | None" = None
) -> dict[str, Any]:
    """Return the fields of a record as plain values, at most `limits.keys` of them beside fapilog's own.

    Where something was cut, ``_truncated`` says how long it was, by the path of the field: characters, bytes, items or
    keys. Where a value became one of another type, ``_coerced`` says what it was.

    Args:
        fields: What to make plain.
        limits: How much to keep. If all of it would be too much, less is kept of each field.
        failures: Counts, by ``lazy`` and ``serializer``, what raised.
    """
    walk = _Walk(limits, 1)
    kept = _top(fields, walk, limits)
    for share in _SHARES:
        if walk.left > 0:
            break
        walk = _Walk(limits.tight(share), 1, walk)
        kept = _top(fields, walk, limits)
    if walk.truncated:
        _note(kept, "_truncated", walk.truncated)
    if walk.coerced:
        _note(kept, "_coerced", walk.coerced)
    if failures is not None and walk.failed:
        failures.update(walk.failed)
    return kept


def text(value: Any, limit: int = LIMITS.string) -> str:
    """Return `str(value)`, cut to *limit* characters, or a marker if the value cannot say."""
    try:
        said, length = excerpt(value, limit)
        return said if length <= limit else f"{said[:limit]}<+{length - min(len(said), limit)} more>"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a value may raise SystemExit from __str__ and must not end the app
        return models.unprintable(type(value), error)


def cut(said: str, limit: int = LIMITS.string) -> str:
    """Cut a string to *limit* characters and say how many are missing."""
    return said if len(said) <= limit else f"{said[:limit]}<+{len(said) - limit} more>"


class _Walk:
    """The making plain of one value: how much of it may still be kept, where we are, and what there is to note.

    The other limits bound each container. A few lists that hold each other many times pass them all, and still stand
    for a thousand million items.
    """

    __slots__ = ("coerced", "depth", "failed", "left", "limits", "made", "path", "truncated")

    def __init__(self, limits: Limits, depth: int = 0, before: "_Walk | None" = None) -> None:
        self.limits = limits
        self.depth = limits.depth + depth
        self.left = limits.record
        self.path: list[Any] = [""] * (self.depth + 1)
        self.truncated: dict[str, int] = {}
        self.coerced: dict[str, str] = {}
        self.made: dict[int, tuple[Lazy, Any]] = {} if before is None else before.made
        """What lazy values became: each is asked once, however often it comes."""
        self.failed: list[str] = [] if before is None else [what for what in before.failed if what == "lazy"]

    def cut(self, said: str, depth: int) -> str:
        limit = self.limits.string
        if len(said) <= limit:
            return said
        self.note_length(len(said), depth)
        return f"{said[:limit]}<+{len(said) - limit} more>"

    def note_length(self, length: int, depth: int) -> None:
        if len(self.truncated) < MAX_NOTES:
            self.truncated[self._where(depth)] = length

    def note_type(self, was: str, depth: int) -> None:
        if len(self.coerced) < MAX_NOTES:
            self.coerced[self._where(depth)] = was

    def _where(self, depth: int) -> str:
        return cut(".".join(map(str, self.path[:depth])), _MAX_PATH)


def _top(fields: Mapping[str, Any], walk: _Walk, limits: Limits) -> dict[str, Any]:
    kept = _object(fields.items(), len(fields), walk, 0, (), limits.keys + OWN_KEYS)
    more = kept.get("_more_keys")
    if type(more) is int:
        walk.truncated["keys"] = len(kept) - 1 + more
    return kept


def _note(kept: dict[str, Any], name: str, notes: Mapping[str, Any]) -> None:
    """Put our notes under *name*; a field of the user's that has it gets ``_`` appended."""
    if name in kept:
        other = f"{name}_"
        while other in kept:
            other += "_"
        kept[other] = kept.pop(name)
    kept[name] = notes


def _shortened(event: Mapping[str, Any], limits: Limits, length: int) -> dict[str, Any]:
    """Return an event whose line was *length* bytes with these limits, an exception without its frames."""
    exception, notes = event.get("exception"), event.get("_truncated")
    left_out = ("exception", "_truncated")
    shorter = _mended({name: value for name, value in event.items() if name not in left_out}, limits)
    if type(exception) is dict:
        stack = exception.get("stacktrace")
        shorter["exception"] = _mended(
            {name: value for name, value in exception.items() if name in ("type", "message", "module")}, limits
        )
        if type(stack) is str:
            shorter["exception"]["stacktrace"] = _strings(middle_cut(stack, min(_TIGHT_STACK, limits.record // 16)))
    elif exception is not None:
        shorter["exception"] = _mended({"": exception}, limits)[""]
    made = shorter.pop("_truncated", None)
    shorter["_truncated"] = {
        **(made if type(made) is dict else {}),
        **(notes if type(notes) is dict else {}),
        "bytes": length,
    }
    return shorter


def middle_cut(said: str, limit: int) -> str:
    """Cut a text to *limit* characters in its middle, so that its beginning and its end stay."""
    if len(said) <= limit:
        return said
    half = limit // 2
    return f"{said[:half]}\n<+{len(said) - 2 * half} more>\n{said[-half:]}"


def _mended(event: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Make every string valid Unicode; `_plain` does not look, since nearly all are."""
    mended: dict[str, Any] = _strings(plain_fields(event, limits))
    return mended


def _strings(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _LONE.sub("\ufffd", _PAIR.sub(_joined, value))
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


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _plain(value: Any, walk: _Walk, depth: int, above: tuple[int, ...]) -> Any:
    kind = type(value)
    walk.left -= _VALUE_COST
    if kind is str:
        said = walk.cut(value, depth)
        walk.left -= len(said)
        return said
    if kind is bool or value is None:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _big(value, walk, depth)
    if kind is float:
        return _number(value, walk, depth)
    try:
        made = _other(value, kind, walk, depth, above)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a value's own code must not reach the caller
        return models.unprintable(kind, error)
    if type(made) is str:
        walk.left -= len(made)
    return made


def _other(value: Any, kind: type, walk: _Walk, depth: int, above: tuple[int, ...]) -> Any:
    if kind is dict or kind is list:
        return _contained(value, value if kind is dict else None, walk, depth, above)
    inside = _unfolded(value, kind, walk)
    if inside is not value:
        if id(value) in above:
            return "<cycle>"
        return "<depth>" if len(above) > 2 * walk.depth else _plain(inside, walk, depth, (*above, id(value)))
    for base, convert in _CONVERTERS:
        if issubclass(kind, base):
            return convert(value, walk, depth)
    members = models.members(value, kind)
    if members is None and not issubclass(kind, _SEQUENCES) and not issubclass(kind, _VIEWS):
        return _summary(value, kind, walk, depth, above)
    return _contained(value, members, walk, depth, above)


def _contained(value: Any, members: Mapping[Any, Any] | None, walk: _Walk, depth: int, above: tuple[int, ...]) -> Any:
    """Return an object of *members*, or an array if there are none."""
    if id(value) in above:
        return "<cycle>"
    if depth >= walk.depth:
        return "<depth>"
    above = (*above, id(value))
    if members is None:
        return _array(value, walk, depth, above)
    return _object(members.items(), len(members), walk, depth, above, walk.limits.keys)


def _first(items: Iterable[Any], most: int) -> list[Any]:
    """Return the first *most* of *items* as they are at one moment, though another thread may be changing them."""
    for _ in range(_TRIES):
        with contextlib.suppress(RuntimeError):  # they changed after the iterator was made and before it was used
            return list(islice(items, most))
    return list(islice(items, most))


def _array(value: Any, walk: _Walk, depth: int, above: tuple[int, ...]) -> list[Any]:
    longest, path = walk.limits.string, walk.path
    kept: list[Any] = []
    for item in _first(value, walk.limits.items):
        if walk.left <= 0:
            break
        kind = type(item)  # the commonest values are not worth a call
        if kind is str and len(item) <= longest:
            walk.left -= _VALUE_COST + len(item)
            kept.append(item)
        elif (
            kind is bool
            or item is None
            or (kind is int and -(2**63) <= item < 2**64)
            or (kind is float and item - item == 0)
        ):
            walk.left -= _VALUE_COST
            kept.append(item)
        else:
            path[depth] = len(kept)
            kept.append(_plain(item, walk, depth + 1, above))
    if len(value) > len(kept):
        walk.note_length(len(value), depth)
        kept.append(f"<+{len(value) - len(kept)} more>")
    return kept


def _object(
    members: Iterable[tuple[Any, Any]], size: int, walk: _Walk, depth: int, above: tuple[int, ...], most: int
) -> dict[str, Any]:
    longest, path = walk.limits.string, walk.path
    kept: dict[str, Any] = {}
    for key, item in _first(members, most):
        if walk.left <= 0:
            break
        name = key if type(key) is str and len(key) <= _MAX_KEY else _name(key)
        while name in kept:
            name += "_"
        walk.left -= len(name)
        kind = type(item)
        if kind is str and len(item) <= longest:
            walk.left -= _VALUE_COST + len(item)
            kept[name] = item
        elif kind is int and -(2**63) <= item < 2**64:
            walk.left -= _VALUE_COST
            kept[name] = item
        else:
            path[depth] = name
            kept[name] = _plain(item, walk, depth + 1, above)
    if size > len(kept):
        if depth:
            walk.note_length(size, depth)
        more, earlier = size - len(kept), kept.pop("_more_keys", 0)
        kept["_more_keys"] = more + earlier if type(earlier) is int else more
    return kept


def _unfolded(value: Any, kind: type, walk: _Walk) -> Any:
    """Return what stands for a value: what its serializer or its function returns, or its value if it is an enum."""
    serializer = serializer_of(kind)
    if serializer is not None:
        made = _serialized(value, serializer, walk)
        if made is not value:
            return made
    if kind is Lazy:
        return _evaluated(value, walk)
    if issubclass(kind, enum.Enum):
        return value.value
    if models.says_itself(kind):
        return models.said(value, kind)
    return value.root if getattr(kind, "__pydantic_root_model__", False) is True else value


def _serialized(value: Any, serializer: Callable[[Any], Any], walk: _Walk) -> Any:
    try:
        return serializer(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a user's serializer raises must not cost the record
        walk.failed.append("serializer")
        name = cut(str(getattr(serializer, "__qualname__", _QUALNAME(type(serializer)))), 200)
        said = f"the serializer {name} raised {type(error).__name__}: {text(error, 200)}; the record is kept"
        report(said, key=f"serializer {name}")
        return f"<serializer failed: {cut(type(error).__name__, 200)}>"


def _evaluated(value: Lazy, walk: _Walk) -> Any:
    if id(value) in walk.made:
        return walk.made[id(value)][1]
    try:
        made = value.function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a user's function raises must not cost the record
        walk.failed.append("lazy")
        report(f"a lazy value raised {type(error).__name__}: {text(error, 200)}; the record is kept", key="lazy")
        made = f"<lazy failed: {cut(type(error).__name__, 200)}>"
    walk.made[id(value)] = (value, made)
    return made


def _name(key: Any) -> str:
    """Return a key as text. A long one keeps its end too: what follows may have to see that it ends in ``_token``."""
    kind = type(key)
    if issubclass(kind, enum.Enum):
        key = key._value_
        kind = type(key)
    if issubclass(kind, str):
        said = key if kind is str else str.__str__(key)
    elif issubclass(kind, _BYTES):
        whole = bytes(key)
        shown = whole if len(whole) <= _MAX_KEY else whole[:192] + b"<+%d more>" % (len(whole) - 256) + whole[-64:]
        said = shown.decode("utf-8", "backslashreplace")
    else:
        said = text(plain(key) if kind is int else key)
    return said if len(said) <= _MAX_KEY else f"{said[:192]}<+{len(said) - 256} more>{said[-64:]}"


def _summary(value: Any, kind: type, walk: _Walk, depth: int, above: tuple[int, ...]) -> Any:
    """Return what an array or a frame becomes, or the text of what is nothing we know."""
    made = arrays.summary(value, kind, walk.limits.items)
    if made is arrays.NOTHING:
        walk.note_type(str(value), depth)
        return None
    if made is not arrays.UNKNOWN:
        if type(made) is dict:  # reading a frame takes long for what it says
            walk.left -= _FRAME_COST
        return _plain(made, walk, depth, above)
    if arrays.is_query(kind):
        return f"<{cut(_QUALNAME(kind), 200)}>"
    said = repr(value) if arrays.hides_itself(kind) else str(value)
    return walk.cut(said if type(said) is str else str.__str__(said), depth)


def _big(value: int, walk: _Walk, depth: int) -> str:
    walk.note_type("int", depth)
    try:
        said = str(value)
    except ValueError:  # more digits than sys.set_int_max_str_digits allows
        said = f"<int {value.bit_length()} bits>"
    walk.left -= len(said)
    return said


def _decoded(value: Any, walk: _Walk, depth: int) -> str:
    limit = walk.limits.string
    length = value.nbytes if type(value) is memoryview else len(value)
    if type(value) is memoryview and length > limit:
        if not value.c_contiguous:
            return f"<memoryview of {length} bytes>"
        value = value.cast("B")
    head = bytes(value[:limit]) if length > limit else bytes(value)
    said = head.decode("utf-8", "backslashreplace")
    if length > limit:
        walk.note_length(length, depth)
        said = f"{said}<+{length - limit} more>"
    return said


def _moment(value: Any, walk: _Walk, depth: int) -> str | None:
    said: str = value.isoformat()
    if said == "NaT":  # of pandas, which is a datetime too
        walk.note_type(said, depth)
        return None
    return said


def _digits(value: Any, walk: _Walk, depth: int) -> Any:
    number = int.__index__(value)
    return number if -(2**63) <= number < 2**64 else _big(number, walk, depth)


def _number(value: Any, walk: _Walk, depth: int) -> float | None:
    number = float.__float__(value)
    if number - number == 0:
        return number
    walk.note_type("Infinity" if number > 0 else "-Infinity" if number < 0 else "NaN", depth)
    return None


def _qualified(value: Any, walk: _Walk, depth: int) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or text(value)
    return walk.cut(f"{module}.{name}" if module and module != "builtins" else str(name), depth)


def _subtext(value: Any, walk: _Walk, depth: int) -> str:
    said, length = excerpt(value, walk.limits.string)
    if length == len(said):
        return said
    walk.note_length(length, depth)
    return f"{said}<+{length - len(said)} more>"


def _exception(value: Any, walk: _Walk, depth: int) -> str:
    return walk.cut(f"{_QUALNAME(type(value))}: {text(value, walk.limits.string)}", depth)


def _said(value: Any, walk: _Walk, depth: int) -> str:
    return walk.cut(str(value), depth)


_CONVERTERS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any, _Walk, int], Any]], ...]] = (
    (str, _subtext),
    (int, _digits),
    (float, _number),
    (_BYTES, _decoded),
    ((datetime.datetime, datetime.date, datetime.time), _moment),
    (datetime.timedelta, lambda value, _walk, _depth: value.total_seconds()),
    (
        (
            uuid.UUID,
            decimal.Decimal,
            pathlib.PurePath,
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Network,
            ipaddress.IPv6Network,
        ),
        _said,
    ),
    (_URLS, lambda value, walk, depth: _plain(value.geturl(), walk, depth, ())),
    (BaseException, _exception),
    (_NAMED, _qualified),
)
