"""Turn an object that any program logged into a record of ours: its names, its level, its time.

A field is found by the name it is mapped from, else by those that other libraries give it. What is no field of ours
stays as it is; a name that only fapilog gives, such as ``id``, gets ``_`` appended, as in a log call.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from fapilog.errors import ConfigurationError
from fapilog.types import LEVEL_ALIASES, LEVELS, RESERVED_FIELDS, nearest_level

EpochUnit: TypeAlias = Literal["auto", "s", "ms", "us", "ns"]
LevelNumbers: TypeAlias = Literal["python", "syslog", "pino", "otel"]

_OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "timestamp": ("timestamp", "@timestamp", "time", "ts", "datetime", "asctime"),
        "level": ("level", "levelname", "level_name", "log_level", "severity", "severity_text", "lvl", "log.level"),
        "event": ("event", "message", "msg"),
        "logger": ("logger", "logger_name", "loggerName", "log.logger"),
        "exception": ("exception", "exc_info"),
    }
)
"""What a field may be called where nothing is mapped, the likeliest first."""

_LEVEL_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in LEVELS}
    | dict(LEVEL_ALIASES)
    | {"verbose": "debug", "information": "info", "notice": "info", "ok": "success", "err": "error", "severe": "error"}
    | {"alert": "critical", "crit": "critical", "emerg": "critical", "emergency": "critical", "panic": "critical"}
    | {"t": "trace", "d": "debug", "i": "info", "w": "warning", "e": "error", "f": "critical", "c": "critical"}
)

_SYSLOG: Final = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
_PINO: Final = ((60, "critical"), (50, "error"), (40, "warning"), (30, "info"), (20, "debug"))
_OTEL: Final = ((21, "critical"), (17, "error"), (13, "warning"), (9, "info"), (5, "debug"))
_UNITS: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_OUR_ID: Final = re.compile(r"[0-9a-f]{16}-\d{1,19}", re.ASCII)
_ERROR_LINE: Final = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?", re.ASCII)
_CLOCK: Final = re.compile(r"[Tt ]\d\d", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NotARecordError(ValueError):
    """A line cannot become a record; the text says why."""


@dataclass(kw_only=True)
class Translator:
    """How the lines of one program become records."""

    names: Mapping[str, str] = field(default_factory=dict)
    """By the name of a field of ours, what the program calls it; dots lead into objects, as in ``http.route``."""

    constants: Mapping[str, Any] = field(default_factory=dict)
    """Fields that every record gets which does not have them, such as ``service``."""

    level_numbers: LevelNumbers = "python"
    """Whose numbers the levels are, where they are numbers."""

    epoch: EpochUnit = "auto"
    """The unit of times that are numbers; ``auto`` takes it from their size, which is right from 1973 to 5138."""

    zone: tzinfo = UTC
    """The time zone of times that do not say theirs."""

    unknown_levels: Counter[str] = field(default_factory=Counter, init=False)
    """Levels nobody knows, by how many records have them; these became ``info``, with theirs in ``level_``."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigurationError: It says what is wrong.
        """
        for name, source in self.names.items():
            if not name or not source:
                raise ConfigurationError(f"got the mapping {f'{name}={source}'!r}; write field=name, such as event=msg")
        for value, known in ((self.level_numbers, get_args(LevelNumbers)), (self.epoch, get_args(EpochUnit))):
            if value not in known:
                raise ConfigurationError(f"got {value!r}; known: {', '.join(known)}")

    def record(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a program *said* as a record, without an id if the program gave none.

        Raises:
            NotARecordError: It has no time, or one that cannot be understood.
        """
        rest = dict(said)
        made = {
            "timestamp": self._time(self._take(rest, "timestamp")),
            "level": self._level(rest),
            "event": _text(self._take(rest, "event")),
            "logger": _text(self._take(rest, "logger")) or "imported",
        }
        if (exception := _exception(self._take(rest, "exception"))) is not None:
            made["exception"] = exception
        for name in self.names:
            if name not in _OTHER_NAMES and (value := self._take(rest, name)) is not None:
                made[name] = _text(value) if name == "id" else value
        if "id" not in self.names and _is_our_id(rest.get("id")):
            made["id"] = rest.pop("id")
        for name in ("service", "env", "version", "host", "pid"):
            if name in rest and isinstance(rest[name], int if name == "pid" else str):
                made.setdefault(name, rest.pop(name))
        for name, value in rest.items():
            made[_free(name, made, rest)] = value
        for name, value in self.constants.items():
            made.setdefault(name, value)
        return made

    def _take(self, rest: dict[str, Any], name: str) -> Any:
        """Take the field *name* out of *rest*, or return None if it has none."""
        sources = (self.names[name],) if name in self.names else _OTHER_NAMES.get(name, ())
        for source in sources:
            if rest.get(source) is not None:
                return rest.pop(source)
            if "." in source and (found := _take_within(rest, source.split("."))) is not None:
                return found
        return None

    def _time(self, value: Any) -> str:
        match value:
            case None:
                known = self.names.get("timestamp") or ", ".join(_OTHER_NAMES["timestamp"])
                raise NotARecordError(f"it has no time; looked for {known}")
            case bool():
                pass
            case int() | float():
                return self._since_epoch(value)
            case str():
                said = value.strip()
                if re.fullmatch(r"-?\d+(\.\d+)?", said, re.ASCII):
                    return self._since_epoch(float(said) if "." in said else int(said[:30]))
                with contextlib.suppress(ValueError, OverflowError):
                    if _CLOCK.search(said):
                        moment = datetime.fromisoformat(said)
                        return _utc(moment if moment.tzinfo else moment.replace(tzinfo=self.zone))
        raise NotARecordError(f"its time is {_shown(value)}; ISO 8601, or seconds, ms, us or ns since 1970 would do")

    def _since_epoch(self, number: float) -> str:
        unit = _unit(abs(number)) if self.epoch == "auto" else self.epoch
        try:
            # Whole numbers stay whole: as a float, nanoseconds would be off by hundreds.
            scaled = number * 1_000_000
            microseconds = scaled // _UNITS[unit] if isinstance(scaled, int) else round(scaled / _UNITS[unit])
            return _utc(_EPOCH + timedelta(microseconds=microseconds))
        except (ValueError, OverflowError):
            raise NotARecordError(f"its time is {_shown(number)}, which is no time in {unit} since 1970") from None

    def _level(self, rest: dict[str, Any]) -> str:
        value = self._take(rest, "level")
        if isinstance(value, str):
            name = value.strip().lower()
            if (known := _LEVEL_NAMES.get(name)) is not None:
                return known
            if not name.lstrip("-").isdecimal() or len(name) > 9:
                return self._unknown(rest, value)
            value = int(name)
        if value is None:
            return "info"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self._unknown(rest, value)
        if (found := self._level_of(value)) is None:
            return self._unknown(rest, value)
        return found

    def _level_of(self, number: float) -> str | None:
        match self.level_numbers:
            case "syslog":
                return _SYSLOG[int(number)] if number in range(8) else None
            case "pino":
                return next((name for least, name in _PINO if number >= least), "trace")
            case "otel":
                return next((name for least, name in _OTEL if number >= least), "trace") if number > 0 else None
        nearest = nearest_level(int(number)) if number > 0 else 0
        return next((name for name, level in LEVELS.items() if level == nearest), None)

    def _unknown(self, rest: dict[str, Any], value: Any) -> str:
        self.unknown_levels[_shown(value)] += 1
        rest["level_"] = value
        return "info"


def _take_within(rest: dict[str, Any], path: list[str]) -> Any:
    """Take a value out of an object within *rest*, and the object too if that leaves it empty."""
    inner = rest.get(path[0])
    if len(path) == 1:
        return rest.pop(path[0], None)
    if not isinstance(inner, dict):
        return None
    inner = dict(inner)
    found = _take_within(inner, path[1:])
    if found is not None:
        if inner:
            rest[path[0]] = inner
        else:
            del rest[path[0]]
    return found


def _free(name: str, made: Mapping[str, Any], rest: Mapping[str, Any]) -> str:
    """Append ``_`` to a name that is taken, or that only fapilog gives."""
    free = name
    while free in made or free in RESERVED_FIELDS or (free != name and free in rest):
        free += "_"
    return free


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _unit(size: float) -> Literal["s", "ms", "us", "ns"]:
    if size < 1e11:
        return "s"
    if size < 1e14:
        return "ms"
    return "us" if size < 1e17 else "ns"


def _is_our_id(value: Any) -> bool:
    return isinstance(value, str) and _OUR_ID.fullmatch(value) is not None


def _exception(value: Any) -> Any:
    """Make of a traceback that is one text what fapilog makes of an exception."""
    if not isinstance(value, str):
        return value or None
    lines = [line for line in value.splitlines() if line.strip()]
    if not lines:
        return None
    found = _ERROR_LINE.fullmatch(lines[-1].strip())
    kind, message = (found[1], found[2] or "") if found else (None, lines[-1].strip())
    return {"type": kind, "message": message, "stacktrace": value}


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else _shown(value)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
