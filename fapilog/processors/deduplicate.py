"""Say the same thing once in a while, and how often it was said."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fapilog.diagnostics import FilterReason
from fapilog.encoding import text
from fapilog.errors import ConfigurationError
from fapilog.processors.sieve import Key, Sieve, Surroundings, Tell, key_maker

_PAUSE_SECONDS: Final = 0.01
"""How soon after another it may be looked again what is over."""


class _Count(int):
    """How often something was repeated, on a record that tells it: that one is never taken for a repetition."""


@dataclass(slots=True)
class _Seen:
    """A record that was let pass, and those like it that were not."""

    logger: str
    level: int
    event: str
    until: float
    count: int = 0
    ids: Mapping[str, Any] = field(default_factory=dict)
    first: float = 0.0
    last: float = 0.0


class Deduplicate(Sieve):
    """Keep the first of the records that are alike, and count the others until a time is over.

    Then one more record with the same event, level and logger says in ``repeated`` how many there were, in
    ``first_repeated`` and ``last_repeated`` when, and has the ids of the last. It comes when the time is over, or the
    pipeline ends, or there is no room to remember more. Errors are kept unless asked otherwise.
    """

    def __init__(
        self,
        window_seconds: float = 300.0,
        *,
        key: Key = ("event", "level", "logger"),
        errors: bool = False,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Hold back for *window_seconds* what is alike.

        Args:
            window_seconds: For how long, from the record that is kept.
            key: The field, fields or function whose values make records alike.
            errors: Whether errors, and records with an exception, are held back too.
            max_keys: How many are remembered; the oldest is told early when there are more.
            clock: Returns seconds, never backwards.
            wall: Returns seconds since the epoch.

        Raises:
            ConfigurationError: A number is not above 0.
        """
        for name, value in (("window_seconds", window_seconds), ("max_keys", max_keys)):
            if not value > 0:
                raise ConfigurationError(f"{name} must be above 0; got {value!r}")
        self.errors = errors
        self._window = window_seconds
        self._key = key_maker(key)
        self._max_keys = max_keys
        self._clock = clock
        self._wall = wall
        self._seen: OrderedDict[Any, _Seen] = OrderedDict()
        """By key, in the order in which their time is over."""
        self._lock = threading.RLock()  # a signal handler may log while its own thread holds it
        self._tell: Tell | None = None
        self._later: Callable[[float, Callable[[], None]], bool] = _never
        self._is_due = False
        self._pid = os.getpid()

    def attach(self, surroundings: Surroundings) -> None:
        """Learn how to tell what was held back, and when."""
        self._lock = threading.RLock()  # in a forked child a thread that is gone may have held it
        if self._pid != os.getpid():  # what the parent has counted it tells itself
            self._seen, self._pid = OrderedDict(), os.getpid()
        self._tell, self._later, self._is_due = surroundings.tell, surroundings.later, False

    def refuses(
        self, logger: str, level: int, event: Any, fields: dict[str, Any], ids: Mapping[str, Any]
    ) -> FilterReason | None:
        """Return ``duplicate`` for what was said within the time."""
        if "repeated" in fields and type(fields["repeated"]) is _Count:
            return None
        key = self._key(logger, level, event, fields, ids)
        now = self._clock()
        over: list[_Seen] = []
        with self._lock:
            if self._seen and next(iter(self._seen.values())).until <= now:
                over = self._take(now)
            known = self._seen.get(key)
            if known is None:
                while len(self._seen) >= self._max_keys:
                    over.append(self._seen.popitem(last=False)[1])
                self._seen[key] = _Seen(str(logger), level, text(event, 1_000), now + self._window)
            else:
                known.last = self._wall()
                if not known.count:
                    known.first = known.last
                known.count += 1
                known.ids = _ids_of(fields) if ids is fields else ids
        if over:
            self._tell_of(over, fields)
        if known is None:
            return None
        if not self._is_due:
            self._is_due = self._later(max(_PAUSE_SECONDS, known.until - now), self._look)
        return "duplicate"

    def finish(self) -> None:
        """Tell of everything that was held back up to now."""
        with self._lock:
            over = list(self._seen.values())
            self._seen.clear()
        self._tell_of(over)

    def _look(self) -> None:
        """Tell what is over, and come again if something else is held back."""
        with self._lock:
            now = self._clock()
            over = self._take(now)
            until = next((each.until for each in self._seen.values() if each.count), None)
        self._is_due = until is not None and self._later(max(_PAUSE_SECONDS, until - now), self._look)
        self._tell_of(over)

    def _take(self, now: float) -> list[_Seen]:
        """Forget and return those whose time is over; the lock is held."""
        over = []
        while self._seen:
            key, oldest = next(iter(self._seen.items()))
            if oldest.until > now:
                break
            del self._seen[key]
            over.append(oldest)
        return over

    def _tell_of(self, over: list[_Seen], fields: dict[str, Any] | None = None) -> None:
        for each in over:
            if not each.count:
                continue
            told = {
                "repeated": _Count(each.count),
                "first_repeated": _rfc3339(each.first),
                "last_repeated": _rfc3339(each.last),
                **_ids_of(each.ids),
            }
            if self._tell is not None:
                self._tell(each.logger, each.level, each.event, told)
            elif fields is not None:  # used outside of a pipeline: the next record says it
                fields["_repeated"] = {**fields.get("_repeated", {}), each.event: each.count}


def _ids_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("trace_id", "span_id", "request_id") if name in fields}


def _never(_seconds: float, _function: Callable[[], None]) -> bool:
    """Have no way to be called later."""
    return False


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
