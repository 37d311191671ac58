"""The level of each logger: by the most specific name that was set, and changed while the program runs.

A name stands for the logger of that name and for all below it: ``shop`` for ``shop`` and ``shop.db``, ``shop.*`` only
for what is below ``shop``. Each logger is decided once and then looked up.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fapilog.errors import ConfigurationError
from fapilog.types import TRACE

ALL: Final = ""
"""The name that stands for every logger: the level itself."""

MAX_LOGGERS: Final = 10_000
"""How many loggers are remembered; a program that makes up more names has them decided again."""


def _checked(name: str) -> str:
    """Return the name of a logger, or of all below one, as it is meant.

    Raises:
        ConfigurationError: It is neither.
    """
    said = name.strip()
    stem = said.removesuffix(".*")
    if not stem or "*" in stem or any(not part for part in stem.split(".")):
        raise ConfigurationError(
            f"levels: got {name!r} for a logger; write its dotted name, such as 'uvicorn', or 'shop.*' for those below "
            "'shop'"
        )
    return said


def decide(rules: Mapping[str, int], name: str) -> int:
    """Return the level of the logger *name*: that of the longest name in *rules* that stands for it."""
    level = rules.get(name)
    above = name
    while level is None and above:
        above = above.rpartition(".")[0]
        level = rules.get(f"{above}.*") if above else None
        if level is None:
            level = rules.get(above)
    return rules[ALL] if level is None else level


class Table(dict[str, int]):
    """The level of every logger that was met."""

    def __init__(self, rules: Mapping[str, int], floor: int) -> None:
        super().__init__()
        self._rules = rules
        self._floor = floor

    def __missing__(self, name: str) -> int:
        """Decide about a logger that was not met before."""
        if len(self) >= MAX_LOGGERS:
            self.clear()
        # The name as it was given: a logger has one object for it, and identity is found without comparing.
        self[name] = level = max(decide(self._rules, str.__str__(name)), self._floor)
        return level


class _Passing(Table):
    """A table that is over at some time. That is noticed when it is asked, so that nothing has to wait for it."""

    def __init__(self, rules: Mapping[str, int], floor: int, levels: "Levels", until: float) -> None:
        super().__init__(rules, floor)
        self._levels = levels
        self._until = until

    def __getitem__(self, name: str) -> int:
        """Return the level of a logger as it is at this moment."""
        if self._levels.clock() >= self._until:
            self._levels.look()
            return self._levels.of(name)
        return super().__getitem__(name)


@dataclass(frozen=True)
class _Passed:
    """A level that was set for some time."""

    level: int
    until: float


class Levels:
    """Which level each logger has now. What it says is read without a lock; a change makes a new table.

    A level that was set for some time goes back with the first log call after it, at whatever level: until then calls
    at the lower of both levels are let through to where that is noticed.
    """

    def __init__(
        self,
        level: int,
        loggers: Mapping[str, int] | None = None,
        *,
        floor: int = TRACE,
        held: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with what the settings say.

        Args:
            level: The level of a logger that is not among *loggers*.
            loggers: Levels by name.
            floor: What is below it is wanted nowhere, because of the levels of the sinks.
            held: The lowest level of the records that a request holds back; None if none does.
            clock: Returns seconds, never backwards.

        Raises:
            ConfigurationError: One of *loggers* is not the name of a logger.
        """
        self.clock = clock
        self.follow: Callable[[], None] = _nothing
        """Called with each change, one at a time: who reads what follows reads the last one last."""

        self.on_change: Callable[[], None] = _nothing
        """Called after a change, on the thread that made or noticed it."""

        self._settings = {**{_checked(name): each for name, each in (loggers or {}).items()}, ALL: level}
        self._changes: dict[str, int] = {}
        self._passing: dict[str, _Passed] = {}
        self._floor = floor
        self._held = held
        self._lock = threading.RLock()
        self._decide()

    lowest: int
    """Below this level nothing is recorded, whatever the logger."""

    default: int
    """The lowest level of a logger that nobody has named; what a logger outside of ours should let through."""

    named: Mapping[str, int]
    """The levels that were set for loggers, and for those below one, by name."""

    table: Table | None
    """The level of each logger; None if all have `lowest`."""

    def of(self, name: str) -> int:
        """Return the lowest level that is recorded of that logger."""
        table = self.table
        return self.lowest if table is None else table[name]

    def set(self, level: int | None, logger: str | None = None, for_seconds: float | None = None) -> None:
        """Set a level; None goes back to what the settings say.

        Raises:
            ConfigurationError: If the name or the time cannot be used.
        """
        name = ALL if logger is None else _checked(logger)
        is_number = isinstance(for_seconds, int | float) and not isinstance(for_seconds, bool)
        if for_seconds is not None and not (is_number and 0 < for_seconds < math.inf):
            raise ConfigurationError(f"for_seconds must be a number above 0, or None for good; got {for_seconds!r}")
        with self._lock:
            self._passing.pop(name, None)
            if level is None:
                self._changes.pop(name, None)
            elif for_seconds is None:
                self._changes[name] = level
            else:
                self._passing[name] = _Passed(level, self.clock() + for_seconds)
            self._decide()
            self.follow()
        self.on_change()

    def set_floor(self, floor: int) -> None:
        """Take over what the sinks want now: what is below *floor* is wanted nowhere."""
        with self._lock:
            self._floor = floor
            self._decide()
            self.follow()
        self.on_change()

    def look(self) -> None:
        """End what was set for a time that is over."""
        with self._lock:
            now = self.clock()
            over = [name for name, passed in self._passing.items() if passed.until <= now]
            for name in over:
                del self._passing[name]
            if over:
                self._decide()
                self.follow()
        if over:
            self.on_change()

    def take_over(self, other: "Levels") -> None:
        """Make the changes that were made there. *other* is left as it is, and its lock alone: this may be a fork."""
        self._changes, self._passing = dict(other._changes), dict(other._passing)
        self._decide()
        self.follow()
        self.on_change()

    def _decide(self) -> None:
        """Make what is read from what was set."""
        lasting = {**self._settings, **self._changes}
        rules = {**lasting, **{name: passed.level for name, passed in self._passing.items()}}
        # While something passes, calls must come that are below it but not below what comes after.
        both = [rules, lasting] if self._passing else [rules]
        default = min(each[ALL] for each in both)
        if self._held is not None:
            default = min(default, self._held)
        lowest = min(default, *(level for each in both for level in each.values()))
        if self._passing:
            until = min(passed.until for passed in self._passing.values())
            table: Table | None = _Passing(rules, self._floor, self, until)
        elif len(rules) > 1 or self._held is not None:
            table = Table(rules, self._floor)
        else:
            table = None
        self.table, self.default, self.lowest = table, max(default, self._floor), max(lowest, self._floor)
        self.named = {
            name: max(min(each[name] for each in both if name in each), self._floor) for name in rules if name != ALL
        }


def _nothing() -> None:
    """Tell nobody."""
