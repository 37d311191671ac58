"""What is asked of the store and what it answers, as pydantic models."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fapilog.store.language import (
    LEVEL,
    METHOD,
    Comparison,
    Exists,
    Node,
    Not,
    Path,
    Range,
    Text,
    Value,
    all_of,
    any_of,
    level_named,
)
from fapilog.store.moments import parse_moment
from fapilog.store.parser import parse, parse_path, parse_value
from fapilog.store.schema import COLUMNS
from fapilog.store.splitting import split
from fapilog.types import LEVELS

MAX_LIMIT: Final = 100_000

_FROZEN: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
_NAMES: Final = tuple(column.name for column in COLUMNS)
_STATUS: Final = re.compile(r"(>=?|<=?)?[0-9]+|[0-9]+\.\.[0-9]*|\.\.[0-9]+")
_STATUS_CLASS: Final = {f"{digit}xx": f"{digit}00..{digit}99" for digit in range(1, 6)}


class LogRecord(BaseModel):
    """One record of the store. What it does not have is None."""

    model_config = _FROZEN

    id: str | None = None
    """Unique: the process instance and a count without gaps."""

    timestamp: datetime | None = None
    """When it was logged, in UTC."""

    level: str | None = None
    event: str | None = None
    """The message."""

    logger: str | None = None
    service: str | None = None
    env: str | None = None
    version: str | None = None
    host: str | None = None
    pid: int | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    request_id: str | None = None
    method: str | None = None
    path: str | None = None
    route: str | None = None
    status_code: int | None = None
    duration_ms: float | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    client_ip: str | None = None
    user_agent: str | None = None
    user_id: str | None = None
    exception: Any = None
    """``{"type": …, "message": …, "stacktrace": …}`` if something failed."""

    fields: dict[str, Any] = Field(default_factory=dict)
    """Everything else that was logged, and what did not fit its place above."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "LogRecord":
        """Make the record of a row of the view `logs`."""
        timestamp, fields = row["timestamp"], _load(row["fields"])
        if not isinstance(timestamp, datetime):  # a year that Python does not know comes as text
            timestamp = None
        values = {
            **row,
            "timestamp": None if timestamp is None else timestamp.replace(tzinfo=UTC),
            "exception": _load(row["exception"]),
            "fields": fields if isinstance(fields, dict) else {},
        }
        return cls.model_construct(set(values), **values)

    @classmethod
    def of_flat(cls, record: Mapping[str, Any]) -> "LogRecord":
        """Make the record of what was logged, one flat object: the opposite of `flat`."""
        columns, fields = split(record)
        return cls.model_construct({*columns, "fields"}, **columns, fields=fields)

    def row(self) -> dict[str, Any]:
        """The record as a row of the view `logs`: `exception` and `fields` as JSON, the time in UTC without zone."""
        row = {name: getattr(self, name) for name in (*_NAMES, "fields")}
        row["timestamp"] = None if self.timestamp is None else self.timestamp.astimezone(UTC).replace(tzinfo=None)
        row["exception"] = None if self.exception is None else _dump(self.exception)
        row["fields"] = _dump(self.fields)
        return row

    def flat(self) -> dict[str, Any]:
        """The record as it was logged: one object without what it does not have, the timestamp as text."""
        flat = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        if self.timestamp is not None:
            flat["timestamp"] = self.timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return flat | self.fields


def _query_text(text: str) -> str:
    parse(text)
    return text


def _moment(value: Any) -> Any:
    match value:
        case str():
            parse_moment(value)
        case datetime(tzinfo=None):
            return value.replace(tzinfo=UTC)
    return value


def _level(text: str) -> str:
    level = level_named(text)
    if level is None:
        raise ValueError(f"no level is called {text!r}; known: {', '.join(LEVELS)}")
    return level


def _status(value: Any) -> Any:
    if isinstance(value, str):
        value = _STATUS_CLASS.get(value.lower(), value)
        if _STATUS.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no status; write 404, >=500, 500..599 or 5xx")
    return value


def _fields(fields: dict[str, Any]) -> dict[str, Any]:
    for name, wanted in fields.items():
        _field(parse_path(name), wanted)
    return fields


Moment = Annotated[datetime | timedelta | str, BeforeValidator(_moment)]
"""A time: a datetime (in UTC if it has no zone), how long ago, or a text such as ``1h``, ``today``, ``2026-11-20``."""


class LogQuery(BaseModel):
    """Which records are wanted. All that is given must hold; an empty one wants the newest records there are.

    In `service`, `logger`, `route` and `fields`, ``*`` stands for any text.
    """

    model_config = _FROZEN

    query: Annotated[str, AfterValidator(_query_text)] = ""
    """A query in the query language, such as ``level:error route:/orders/*``."""

    text: str | None = Field(default=None, min_length=1)
    """Text that is somewhere in the event, the exception or the fields, in upper or lower case."""

    level: Annotated[str, AfterValidator(_level)] | None = None
    """The lowest level that is wanted: this one and those above it."""

    service: str | None = Field(default=None, min_length=1)
    logger: str | None = Field(default=None, min_length=1)
    since: Moment | None = None
    """The first moment that is wanted."""

    until: Moment | None = None
    """The first moment that is no longer wanted."""

    trace_id: str | None = None
    span_id: str | None = None
    request_id: str | None = None
    route: str | None = Field(default=None, min_length=1)
    method: str | None = Field(default=None, min_length=1)
    status: Annotated[int | str, BeforeValidator(_status)] | None = None
    """A status of HTTP, or a comparison such as ``>=500``, ``500..599`` or ``5xx``."""

    min_duration_ms: float | None = Field(default=None, allow_inf_nan=False)
    max_duration_ms: float | None = Field(default=None, allow_inf_nan=False)
    fields: Annotated[dict[str, Any], AfterValidator(_fields)] = Field(default_factory=dict)
    """By the path of a field, such as ``user.plan``, what it must be: text as it stands after the colon in the query
    language (``pro``, ``>5``, ``1..9``, ``*``), a number, True, False, None for absent, or a list of which one fits."""

    order: Literal["newest", "oldest"] = "newest"
    """Which come first."""

    limit: int = Field(default=100, ge=1, le=MAX_LIMIT)
    """How many records a page has at most."""

    cursor: str | None = None
    """`Page.next_cursor` of the page before; the rest of the query must be the same."""

    def node(self) -> Node:
        """Everything but the time range, order and page as one tree of the query language."""
        parts = [parse(self.query)]
        if self.text is not None:
            parts.append(Text(Value((self.text,), quoted=True)))
        if self.level is not None:
            parts.append(Comparison(LEVEL, ">=", Value((self.level,))))
        exact = {"trace_id": self.trace_id, "span_id": self.span_id, "request_id": self.request_id}
        parts += [_equal((name,), value) for name, value in exact.items() if value is not None]
        patterns = {"service": self.service, "logger": self.logger, "route": self.route}
        parts += [_pattern((name,), value) for name, value in patterns.items() if value is not None]
        if self.method is not None:
            parts.append(_equal(METHOD, self.method.upper()))
        if self.status is not None:
            parts.append(_field(("status_code",), self.status))
        if self.min_duration_ms is not None or self.max_duration_ms is not None:
            bounds = (
                None if ms is None else Value((_number(ms),)) for ms in (self.min_duration_ms, self.max_duration_ms)
            )
            parts.append(Range(("duration_ms",), *bounds))
        parts += [_field(parse_path(name), wanted) for name, wanted in self.fields.items()]
        return all_of(*parts)

    def bounds(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        """`since` and `until` in UTC, with *now* as what they are before."""
        return _resolve(self.since, now), _resolve(self.until, now)


def _resolve(moment: datetime | timedelta | str | None, now: datetime) -> datetime | None:
    match moment:
        case str():
            return parse_moment(moment, now=now)
        case timedelta():
            return now - moment
        case _:
            return moment


def _equal(path: Path, text: str) -> Node:
    return Comparison(path, "=", Value((text,), quoted=True))


def _pattern(path: Path, text: str) -> Node:
    parts = tuple(text.split("*"))
    return Exists(path) if not any(parts) else Comparison(path, "=", Value(parts, quoted=len(parts) == 1))


def _field(path: Path, wanted: Any) -> Node:
    match wanted:
        case None:
            return Not(Exists(path))
        case bool():
            return _equal(path, "true" if wanted else "false")
        case int() | float():
            return Comparison(path, "=", Value((_number(wanted),)))
        case str():
            return parse_value(path, wanted) if wanted else _equal(path, "")
        case list() | tuple() if wanted:
            first, *others = (_field(path, each) for each in wanted)
            return any_of(first, *others)
    raise ValueError(f"a field cannot be compared with {wanted!r}; write text, a number, true, false, null, or a list")


def _number(value: float) -> str:
    text = repr(value)
    if text.lstrip("-") in ("inf", "nan"):
        raise ValueError(f"a field is never {text}")
    return text


def _load(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # deeper or stranger than orjson takes
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()
