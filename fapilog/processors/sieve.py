"""What may leave a record out before any work is done on it.

A sieve is an ordinary processor. Where it stands before every processor of another kind, the recorder asks it early:
before a time is read, the event is made and values are made plain, so that a record it leaves out costs little, and one
it lets pass still goes the short way.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from fapilog.diagnostics import FilterReason, report
from fapilog.encoding import Limits, plain
from fapilog.serializers import value_of
from fapilog.types import ERROR, INFO, LEVEL_NAMES, LEVELS, Event, Processor

Tell: TypeAlias = Callable[[str, int, str, dict[str, Any]], None]
"""Record something on a sieve's own account: logger, level, event, fields. No sieve is asked about it."""

Key: TypeAlias = str | Iterable[str] | Callable[[Event], Any]
"""What records have in common: the name of a field or several, or a function of the record."""

Reader: TypeAlias = Callable[[str, int, Any, Mapping[str, Any], Mapping[str, Any]], Any]
"""What is asked about a record: it is given its logger, level, event, fields and ids."""

MAX_KEY: Final = 256
"""How many characters of a value are kept to tell it from others."""

_BEGINNING: Final = Limits(string=1_024, depth=2, keys=16, items=16)
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})


class Refused(structlog.DropEvent):
    """A record is left out, for a reason that is counted."""

    def __init__(self, reason: FilterReason) -> None:
        super().__init__(reason)
        self.reason = reason


class RuleFailed(Exception):  # noqa: N818 - it carries a decision
    """A function of the user's raised *error*, and the rules beside it have decided: *reason*, or None to keep."""

    def __init__(self, error: BaseException, reason: FilterReason | None) -> None:
        super().__init__(str(type(error)))
        self.error = error
        self.reason = reason


@dataclass(frozen=True)
class Surroundings:
    """What a sieve may use of the pipeline it belongs to."""

    tell: Tell
    later: Callable[[float, Callable[[], None]], bool]
    """Call a function after so many seconds, on a thread of the pipeline; returns False if there is none now."""

    pressure: Callable[[], float]
    """How full the queue, or the fullest inbox of a sink, is: 0 to 1."""


class Sieve:
    """A processor that decides which records are kept, and says why one is not."""

    errors = False
    """Whether it is asked about errors, and records with an exception, or these are kept anyway."""

    def refuses(
        self, logger: str, level: int, event: Any, fields: dict[str, Any], ids: Mapping[str, Any]
    ) -> FilterReason | None:
        """Return why a record is left out, or None if it is kept. It may add to *fields*."""
        raise NotImplementedError

    def attach(self, surroundings: Surroundings) -> None:
        """Begin to work in a pipeline, or anew in that of a forked child."""

    def finish(self) -> None:
        """Tell what is still to be told: logging ends."""

    def __call__(self, logger: Any, method_name: str, event: Event) -> Event:
        """Return *event*, or raise `structlog.DropEvent`."""
        level = level_of(event)
        kept = event.get("audit") is True or (not self.errors and (level >= ERROR or is_exception(event)))
        if not kept:
            try:
                reason = self.refuses(str(event.get("logger", "")), level, event.get("event"), event, event)
            except RuleFailed as failed:
                reason = failed.reason
                if reason is None:
                    raise failed.error from None
                report(f"a rule raised {type(failed.error).__name__}; the others go on", key="rule failed")
            if reason is not None:
                raise Refused(reason)
        return event


def level_of(event: Event) -> int:
    """Return the level of an event as other processors left it."""
    name = event.get("level")
    return LEVELS.get(name, INFO) if type(name) is str else INFO


def leading(processors: Iterable[Processor]) -> tuple[tuple[Sieve, ...], tuple[Processor, ...]]:
    """Return the sieves that come before every other processor, and the rest."""
    given = tuple(processors)
    first = next((at for at, each in enumerate(given) if not isinstance(each, Sieve)), len(given))
    return tuple(each for each in given[:first] if isinstance(each, Sieve)), given[first:]


def is_exception(fields: Mapping[str, Any]) -> bool:
    """Tell whether a record has an exception. The value itself is not asked, for it may be anything."""
    if "exc_info" in fields:
        given = fields["exc_info"]
        if given is not None and given is not False:
            return True
    return "exception" in fields


def seen(logger: str, level: int, event: Any, fields: Mapping[str, Any], ids: Mapping[str, Any]) -> Event:
    """Return a record as a function of the user's sees it."""
    return {**ids, **fields, "event": event, "level": LEVEL_NAMES[level], "logger": str(logger)}


def reader_of(name: str) -> Reader:
    """Return what reads the value of a field by its name; None where a record has none."""
    if name == "event":
        return lambda _logger, _level, event, _fields, _ids: value_of(event)
    if name == "logger":
        return lambda logger, _level, _event, _fields, _ids: str(logger)
    if name == "level":
        return lambda _logger, level, _event, _fields, _ids: LEVEL_NAMES[level]
    return lambda _logger, _level, _event, fields, ids: value_of(fields[name] if name in fields else ids.get(name))


def key_maker(key: Key) -> Reader:
    """Return a function of a record's parts that returns something short and hashable."""
    if callable(key):
        function = key
        return lambda logger, level, event, fields, ids: atom(function(seen(logger, level, event, fields, ids)))
    names = (key,) if isinstance(key, str) else tuple(key)
    if names == ("event",):
        return lambda _logger, _level, event, _fields, _ids: atom(value_of(event))
    if names == ("event", "level", "logger"):  # the usual ones, in half the time
        return lambda logger, level, event, _fields, _ids: (atom(value_of(event)), level, logger)
    readers = [reader_of(name) for name in names]
    return lambda *parts: tuple([atom(reader(*parts)) for reader in readers])


def atom(value: Any) -> Any:
    """Return something short that stands for *value* in a dict."""
    if type(value) is not str:
        if type(value) in _ATOMS:
            return value
        value = f"{type(value).__qualname__} {said(value)}"
    # Not its hash: that takes long for a long text, and is another one in every process.
    return value if len(value) <= MAX_KEY else (value[: MAX_KEY // 2], value[-MAX_KEY // 2 :], len(value))


def said(value: Any) -> str:
    """Return as text what the record would have of a value, or the beginning of it, whatever the value is."""
    if value is True or value is False:
        return "true" if value else "false"
    made = plain(value, _BEGINNING)
    return made if type(made) is str else str(made)
