"""How many files that were put aside are kept, how old, and how large together."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from fapilog.errors import ConfigurationError
from fapilog.files.names import Member
from fapilog.files.quantities import parse_duration, parse_size

Retain: TypeAlias = Callable[[list[Path]], object]
"""Is given the files that were put aside, oldest first, and removes what it does not want to keep."""

RetentionRule: TypeAlias = str | int | timedelta | Retain

GRAMMAR: Final = (
    "write a count ('10 files'), an age ('7 days', '1 week, 3 days'), a total size ('2 GB'), 'module:function', "
    "or a list of these"
)
_COUNT: Final = re.compile(r"(\d{1,18})(?:\s*files?)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Retention:
    """All the rules of one log; a file is kept only if each of them keeps it."""

    count: int | None = None
    """How many files."""

    age_seconds: float | None = None
    """How long after it was last written to."""

    total_bytes: int | None = None
    """How many bytes all of them together, as they lie on disk."""

    asked: tuple[Retain, ...] = ()
    """Functions that remove files themselves."""

    @classmethod
    def parse(cls, given: RetentionRule | Sequence[RetentionRule] | None) -> "Retention | None":
        """Read what a user wrote; None and an empty list keep everything.

        Raises:
            ConfigurationError: A part of it is no rule; the message names it and what would be one.
        """
        rules = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
        counts: list[int] = []
        ages: list[float] = []
        sizes: list[int] = []
        asked: list[Retain] = []
        for rule in rules:
            if not _read(rule, counts, ages, sizes, asked):
                raise ConfigurationError(f"{rule!r} does not say what to keep; {GRAMMAR}")
        if not rules:
            return None
        return cls(min(counts, default=None), min(ages, default=None), min(sizes, default=None), tuple(asked))

    def expired(self, members: Sequence[Member], now: float) -> list[Member]:
        """Return those of *members*, given oldest first, that are not kept at *now*, in seconds since the epoch."""
        gone, total = [], 0
        for kept, member in enumerate(reversed(members)):
            total += member.status.st_size
            if (
                (self.count is not None and kept >= self.count)
                or (self.age_seconds is not None and now - member.status.st_mtime > self.age_seconds)
                or (self.total_bytes is not None and total > self.total_bytes)
            ):
                gone.append(member)
        return gone


def _read(rule: Any, counts: list[int], ages: list[float], sizes: list[int], asked: list[Retain]) -> bool:
    """Put one rule where it belongs; False if it is none."""
    if isinstance(rule, bool):
        return False
    if isinstance(rule, int):
        counts.append(rule)
        return rule >= 0
    if isinstance(rule, timedelta):
        ages.append(rule.total_seconds())
        return rule > timedelta()
    if callable(rule):
        asked.append(rule)
        return True
    if not isinstance(rule, str):
        return False
    if (found := _COUNT.fullmatch(rule.strip())) is not None:
        counts.append(int(found[1]))
    elif (age := parse_duration(rule)) is not None and age > timedelta():
        ages.append(age.total_seconds())
    elif (size := parse_size(rule)) is not None and rule.strip()[-1] in "bB":  # 1.5 alone is no count, and no byte
        sizes.append(size)
    else:
        return False
    return True
