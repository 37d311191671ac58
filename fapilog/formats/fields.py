"""Sort the fields of a record: those that another system has a name for, and the rest.

A field is given such a name only if its value has the type which that system expects there. Any other value, such as a
``status_code`` that is text, stays among the rest, so that no record is refused at the far end for one odd field.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final, TypeAlias, TypeVar

import orjson

Check: TypeAlias = Callable[[Any], bool]
Names: TypeAlias = Mapping[str, tuple[str, Check]]
"""By our name: the dotted name of the other system, and what its value must be."""

ACCESS: Final = frozenset(
    {"method", "path", "query", "route", "status_code", "scheme", "http_version", "client_ip", "user_agent"}
    | {"request_bytes", "response_bytes"}
)
"""Fields that mean what their names say on the access record alone; on any other they are the user's."""

_Severity = TypeVar("_Severity", str, int)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HEX_32: Final = re.compile(r"[0-9a-f]{32}")
_HEX_16: Final = re.compile(r"[0-9a-f]{16}")
_HEX_2: Final = re.compile(r"[0-9a-f]{2}")


def is_text(value: Any) -> bool:
    """Tell whether *value* is text."""
    return type(value) is str


def is_integer(value: Any) -> bool:
    """Tell whether *value* is a whole number of at most 64 bits, sign included."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_number(value: Any) -> bool:
    """Tell whether *value* is a number."""
    return type(value) in (int, float)


def is_duration(value: Any) -> bool:
    """Tell whether *value* is milliseconds that fit into nanoseconds of 64 bits."""
    return type(value) in (int, float) and 0 <= value < 9e12


def is_status(value: Any) -> bool:
    """Tell whether *value* is a status of HTTP."""
    return type(value) is int and 100 <= value <= 599


def is_address(value: Any) -> bool:
    """Tell whether *value* is an IP address."""
    if type(value) is not str or "%" in value:  # a zone, which no index of addresses takes
        return False
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def is_trace_id(value: Any) -> bool:
    """Tell whether *value* is the id of a trace."""
    return type(value) is str and _HEX_32.fullmatch(value) is not None


def is_span_id(value: Any) -> bool:
    """Tell whether *value* is the id of a span."""
    return type(value) is str and _HEX_16.fullmatch(value) is not None


def is_flags(value: Any) -> bool:
    """Tell whether *value* is the flags of a trace."""
    return type(value) is str and _HEX_2.fullmatch(value) is not None


CHECKS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("pid", "code_line", "request_bytes", "response_bytes"), is_integer),
    "status_code": is_status,
    "client_ip": is_address,
    "trace_id": is_trace_id,
    "span_id": is_span_id,
}
"""What the value of a field must be that is no text."""


def named(names: Mapping[str, str], **checks: Check) -> Names:
    """Return what the other system calls our fields, with what each value must be: what *checks* or `CHECKS` says."""
    return {name: (other, checks.get(name, CHECKS.get(name, is_text))) for name, other in names.items()}


def severity(level: Any, severities: Mapping[str, _Severity], unknown: _Severity) -> _Severity:
    """Return what the other system has for a level."""
    return severities.get(level, unknown) if type(level) is str else unknown


def parse(line: bytes) -> dict[str, Any]:
    """Return the record of a canonical line."""
    record: dict[str, Any] = orjson.loads(line)
    return record


def dump(made: dict[str, Any]) -> bytes:
    """Return *made* as a line of JSON."""
    return orjson.dumps(made, None, orjson.OPT_APPEND_NEWLINE)


def is_access(record: Mapping[str, Any]) -> bool:
    """Tell whether this is the access record of a request."""
    return record.get("logger") == "fapilog.access" and "path" in record


def take(record: dict[str, Any], names: Names) -> list[tuple[str, Any]]:
    """Take the fields that fit out of *record*, and return them under their other names."""
    access = is_access(record)
    taken = []
    for name in [name for name in record if name in names]:
        if access or name not in ACCESS:
            other, fits = names[name]
            value = record[name]
            if fits(value):
                taken.append((other, value))
                del record[name]
    return taken


def take_exception(record: dict[str, Any], names: tuple[str, str, str]) -> dict[str, str]:
    """Take type, message and stack of an exception out of *record*, and return those it has under these *names*.

    Only text is taken; what else the record says of the exception stays in it.
    """
    exception = record.get("exception")
    if type(exception) is not dict:
        return {}
    rest = dict(exception)
    found = {
        theirs: rest.pop(ours)
        for ours, theirs in zip(("type", "message", "stacktrace"), names, strict=True)
        if type(rest.get(ours)) is str
    }
    if rest:
        record["exception"] = rest
    else:
        del record["exception"]
    return found


def nest(into: dict[str, Any], dotted: str, value: Any) -> None:
    """Put *value* below the objects that *dotted* names."""
    *above, last = dotted.split(".")
    for part in above:
        into = into.setdefault(part, {})
    into[last] = value


def take_nested(record: dict[str, Any], names: Names, exception: tuple[str, str, str]) -> dict[str, Any]:
    """Take what has a name out of *record*, an exception too, and return it as the objects that the names describe."""
    made: dict[str, Any] = {}
    for name, value in take(record, names):
        nest(made, name, value)
    for name, said in take_exception(record, exception).items():
        nest(made, name, said)
    return made


def add_rest(into: dict[str, Any], rest: Iterable[tuple[str, Any]], reserved: frozenset[str] = frozenset()) -> None:
    """Put fields into *into*; under their names with ``_`` appended, again if taken, where the name has a meaning.

    The empty name, which several systems refuse, becomes ``_``.
    """
    for key, value in rest:
        name = key or "_"
        while name in into or name in reserved:
            name += "_"
        into[name] = value


def nanoseconds(timestamp: Any) -> int | None:
    """Return an RFC 3339 timestamp as nanoseconds since the epoch, None if it is none."""
    try:
        since = datetime.fromisoformat(timestamp) - _EPOCH
    except (TypeError, ValueError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def duration_ns(milliseconds: float) -> int:
    """Return milliseconds as whole nanoseconds."""
    return round(milliseconds * 1_000_000)
