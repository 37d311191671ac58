"""How long may be looked at one record."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MAX_SECONDS: Final = 0.025
"""How long, by the time of the thread; what is left then is withheld. A single text takes less than that again."""

_BETWEEN_LOOKS: Final = 4_096
_BETWEEN_LOOKS_AT_PATTERNS: Final = 256
"""After how many characters to look at the clock; sooner where patterns of the user's may take long for each."""

_COST: Final = 64
"""As how many characters a name or a text counts beside its own."""


class Budget(threading.local):
    """Until when the record that this thread looks at may take, and after how many characters to look at the clock.

    It is entered for each record. Within one another may be entered: a function of the user's may log while it is
    asked.
    """

    def __init__(self, *, patterns: bool) -> None:
        """Know whether there are *patterns* of the user's."""
        self._between = _BETWEEN_LOOKS_AT_PATTERNS if patterns else _BETWEEN_LOOKS
        self._until = math.inf
        self._left = math.inf
        self._before: list[tuple[float, float]] = []

    def __enter__(self) -> None:
        self._before.append((self._until, self._left))
        self._until, self._left = time.thread_time() + MAX_SECONDS, self._between

    def __exit__(self, *_error: object) -> None:
        self._until, self._left = self._before.pop()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Have no end within a block: what is looked at is no record."""
        before = self._until, self._left
        self._until = self._left = math.inf
        try:
            yield
        finally:
            self._until, self._left = before

    def spend(self, characters: int) -> None:
        """Count what is about to be looked at.

        Raises:
            TimeoutError: The time is over.
        """
        self._left -= characters + _COST
        if self._left < 0:
            if time.thread_time() > self._until:
                raise TimeoutError
            self._left = self._between
