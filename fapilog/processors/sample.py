"""Keep a share of the records.

By trace, a kept trace keeps all its records: the decision is a function of the trace id alone, the same as that of
OpenTelemetry's ``TraceIdRatioBased`` sampler: the lower 64 bits of the id against the share of 2^64.
https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased
"""

import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from fapilog.diagnostics import FilterReason
from fapilog.errors import ConfigurationError
from fapilog.processors.sieve import MAX_KEY, Sieve, Surroundings, atom, reader_of, seen
from fapilog.types import LEVEL_ALIASES, LEVEL_NAMES, LEVELS, Event

WHOLE: Final = 1 << 64
_LOWER: Final = WHOLE - 1

CALM: Final = 0.5
"""Up to this pressure nothing more is left out."""

LEAST: Final = 0.01
"""The share that is kept under the highest pressure."""


class Sample(Sieve):
    """Keep a share of the records, by trace, one by one, or by a field. Errors are kept unless asked otherwise."""

    def __init__(
        self,
        rate: float = 1.0,
        *,
        by: str | Callable[[Event], Any] = "trace",
        levels: Mapping[str, float] | None = None,
        errors: bool = False,
        adaptive: bool = False,
        draw: Callable[[], int] = lambda: random.getrandbits(64),
    ) -> None:
        """Decide once what each level's share is.

        Args:
            rate: The share that is kept, 0 to 1.
            by: ``trace``; ``record``, each by itself; the name of a field, such as ``user_id``; or a function of the
                record. Records of one trace, or with one value, are kept or left out together. Those without are
                decided one by one.
            levels: Shares of single levels, by name, in place of *rate*.
            errors: Whether errors, and records with an exception, may be left out too.
            adaptive: Whether less is kept while the queue is more than half full: the share falls to a hundredth.
            draw: Returns 64 random bits.

        Raises:
            ConfigurationError: A share is not between 0 and 1, or a level is unknown.
        """
        shares = dict.fromkeys(LEVEL_NAMES, share(rate, "rate"))
        for name, value in (levels or {}).items():
            level = LEVELS.get(LEVEL_ALIASES.get(str(name).lower(), str(name).lower()))
            if level is None:
                raise ConfigurationError(f"no level is called {name!r}; known: {', '.join(LEVELS)}")
            shares[level] = share(value, f"the rate of {name}")
        self.errors = errors
        self._bounds = {level: round(value * WHOLE) for level, value in shares.items()}
        self._place = _placing(by)
        self._adaptive = adaptive
        self._draw = draw
        self._pressure: Callable[[], float] = _none
        self._by_trace = by == "trace"
        self._last: tuple[Any, int] = (None, 0)
        """The last ids of a request and their place, as one value: other threads have others."""

    def attach(self, surroundings: Surroundings) -> None:
        """Learn how full the queue is."""
        if self._adaptive:
            self._pressure = surroundings.pressure

    def refuses(
        self, logger: str, level: int, event: Any, fields: dict[str, Any], ids: Mapping[str, Any]
    ) -> FilterReason | None:
        """Return ``sampled``, or ``pressure`` if it would be kept in calmer times."""
        bound = self._bounds[level]
        full = self._pressure() if self._adaptive else 0.0
        if bound == WHOLE and full <= CALM:
            return None
        last = self._last
        if last[0] is ids and "trace_id" not in fields:
            place = last[1]  # as within a request
        else:
            found = self._place(logger, level, event, fields, ids)
            place = self._draw() if found is None else found
            if self._by_trace and found is not None and ids is not fields and "trace_id" not in fields:
                self._last = ids, found
        if place >= bound:
            return "sampled"
        if full > CALM and place >= bound * max(LEAST, (1 - full) / (1 - CALM)):
            return "pressure"
        return None


def share(value: Any, what: str) -> float:
    """Return *value* if it is a share.

    Raises:
        ConfigurationError: If not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigurationError(f"{what} must be a number from 0 to 1, such as 0.1 for every tenth; got {value!r}")
    return value


def _placing(by: str | Callable[[Event], Any]) -> Callable[..., int | None]:
    """Return what finds the place of a record among all 2^64: None if chance is to decide."""
    if isinstance(by, str) and not by:
        raise ConfigurationError("by must be 'trace', 'record', the name of a field or a function; got ''")
    if by == "record":
        return lambda *_parts: None
    if by == "trace":
        return _in_trace
    if callable(by):
        function = by
        return lambda *parts: _hashed(function(seen(*parts)))
    read = reader_of(by)
    return lambda *parts: _hashed(read(*parts))


def _in_trace(_logger: str, _level: int, _event: Any, fields: Mapping[str, Any], ids: Mapping[str, Any]) -> int | None:
    trace_id = fields.get("trace_id") or ids.get("trace_id")
    if type(trace_id) is not str or len(trace_id) != 32:
        return None
    try:
        return int(trace_id[16:], 16)
    except ValueError:
        return None


def _hashed(value: Any) -> int | None:
    """Return where a value is, the same in every process."""
    if value is None:
        return None
    said = value if type(value) is str and len(value) <= MAX_KEY else repr(atom(value))
    return int.from_bytes(hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=8).digest()) & _LOWER


def _none() -> float:
    """Know of no pressure."""
    return 0.0
