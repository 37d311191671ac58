"""Find what is secret or personal in a name or a text. Nothing here changes a value; `fapilog.processors.redact` does.

A detector never raises, and takes time in proportion to the length of what it reads.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""Where something begins in a text, and where it ends."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of thing that is looked for in texts."""

    name: str
    """The rule, as masks, counters and `explain` name it."""

    confidence: float
    """How sure it is that what it finds is of its kind, from 0 to 1: 0.99 has a fixed prefix or a check digit, 0.9 a
    strict form, less may be something else now and then."""

    find: Callable[[str], Iterable[Span]]
    """Return what it finds, first to last."""

    literals: tuple[str, ...] = ()
    """A text without any of these holds nothing of the kind; none: it may hold one in any case."""

    def may_be_in(self, text: str) -> bool:
        """Tell whether it is worth to look."""
        return not self.literals or holds(text, self.literals)


def holds(text: str, parts: Iterable[str]) -> bool:
    """Tell whether one of *parts* is in a text."""
    for part in parts:  # noqa: SIM110 - a generator, or a map, takes twice the time
        if part in text:
            return True
    return False
