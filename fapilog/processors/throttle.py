"""Keep only so many records of a kind in a time: a bucket of tokens for each key.

https://en.wikipedia.org/wiki/Token_bucket
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from fapilog.diagnostics import FilterReason
from fapilog.errors import ConfigurationError
from fapilog.processors.sieve import Key, Sieve, Surroundings, key_maker


class Throttle(Sieve):
    """Let a number of records with one key pass in a time; the next one that passes says how many did not.

    Each key has a bucket that holds *burst* tokens and is filled evenly; a record takes one. Errors pass in any case,
    and take none, unless asked otherwise.
    """

    def __init__(
        self,
        max_rate: float = 100.0,
        *,
        window_seconds: float = 60.0,
        key: Key = "event",
        burst: float | None = None,
        errors: bool = False,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Let *max_rate* records of a key pass in *window_seconds*.

        Args:
            max_rate: How many.
            window_seconds: In what time.
            key: The field, fields or function whose values have a bucket each; no field at all: one for everything.
            burst: How many may come at once; None means *max_rate*, and one at least.
            errors: Whether errors, and records with an exception, are counted and held back too.
            max_keys: How many keys are remembered; the one not met for longest is forgotten, and begins anew.
            clock: Returns seconds, never backwards.

        Raises:
            ConfigurationError: A number is not above 0.
        """
        for name, value in (("max_rate", max_rate), ("window_seconds", window_seconds), ("max_keys", max_keys)):
            if not value > 0:
                raise ConfigurationError(f"{name} must be above 0; got {value!r}")
        if burst is not None and burst < 1:
            raise ConfigurationError(f"burst must be 1 at least, or nothing would ever pass; got {burst!r}")
        self.errors = errors
        self._per_second = max_rate / window_seconds
        self._burst = max(1.0, max_rate if burst is None else burst)
        self._key = key_maker(key)
        self._max_keys = max_keys
        self._clock = clock
        self._buckets: OrderedDict[Any, list[float]] = OrderedDict()
        """For each key: tokens, when they were counted, and how many records were held back since one passed."""
        self._lock = threading.RLock()  # a signal handler may log while its own thread holds it

    def attach(self, surroundings: Surroundings) -> None:
        """Make a fresh lock: in a forked child a thread that is gone may have held it."""
        self._lock = threading.RLock()

    def refuses(
        self, logger: str, level: int, event: Any, fields: dict[str, Any], ids: Mapping[str, Any]
    ) -> FilterReason | None:
        """Return ``throttled`` if the bucket is empty."""
        key = self._key(logger, level, event, fields, ids)
        now = self._clock()
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is None:
                while len(self._buckets) >= self._max_keys:
                    self._buckets.popitem(last=False)
                bucket = self._buckets[key] = [self._burst, now, 0]
            else:
                self._buckets.move_to_end(key)
            tokens = bucket[0] + (now - bucket[1]) * self._per_second
            tokens = min(tokens, self._burst)
            if tokens < 1:
                bucket[:] = tokens, now, bucket[2] + 1
                return "throttled"
            held_back = bucket[2]
            bucket[:] = tokens - 1, now, 0
        if held_back:
            fields["_throttled"] = int(held_back)
        return None
