"""Regular expressions of users, run so that none can hold up a log call, whatever it is and whatever the text.

Python's engine goes back and tries again, holds the interpreter while it does, and cannot be stopped. So it runs only
what cannot take long by its structure: the number of ways in which an expression can match, from each place of a text,
is bounded from above. Everything else is run by `regex`, which reads the same expressions, stops when its time is over,
and is quick for most of what Python is slow for. https://github.com/mrabarnett/mrab-regex
"""

import re
import time
import warnings
from collections.abc import Iterator
from typing import Any, Final

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the module is private, and has said so since 3.11
    from re import _constants as codes  # type: ignore[attr-defined]  # private, but the only parser there is
    from re import _parser as parser  # type: ignore[attr-defined]  # likewise

__all__ = ["LIMIT_SECONDS", "MAX_STEPS", "Expression", "codes", "inside"]

LIMIT_SECONDS: Final = 0.010
"""How long an expression may take for one text. `regex` looks at the clock now and then: it may be twice as much.
The time is that of the process, in which other threads may run."""

MAX_STEPS: Final = 500_000
"""What Python's engine may have to do at the most, in comparisons of some 10 ns."""

_LENGTHS: Final = (32_768, 4_096, 1_024, 512, 256, 128, 64, 32)
_REPEATS: Final = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_SINGLE: Final = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)
_NAMED_CLASS: Final = re.compile(r"\[:\^?[A-Za-z]+:\]")
_BRACE: Final = re.compile(r"\\N\{[^}]*\}|\\.|\{(?!\d+\}|\d*,\d*\})", re.DOTALL)


class Expression:
    """A regular expression, as Python's `re` reads it."""

    def __init__(self, source: str) -> None:
        """Compile *source*.

        Raises:
            ValueError: It is no regular expression, with the reason.
        """
        import regex  # noqa: PLC0415 - only who has patterns waits for it

        if _NAMED_CLASS.search(source):
            raise ValueError(r"there are no classes such as [:alpha:]; write \[ for the bracket itself")
        try:
            self.compiled = re.compile(source)
            self.tree: Any = parser.parse(source)
            # A brace that repeats nothing is one, and not what `regex` calls fuzzy.
            escaped = _BRACE.sub(lambda found: rf"\{found[0]}" if found[0] == "{" else found[0], source)
            self._watched = regex.compile(escaped, regex.V0)
        except (re.error, regex.error, OverflowError, RecursionError, FutureWarning) as error:
            raise ValueError(str(error)) from None
        self.pattern = source
        self._quick = next((length for length in _LENGTHS if _steps(self.tree, length) <= MAX_STEPS), 0)

    def spans(
        self,
        text: str,
        group: int | str = 0,
        *,
        start: int = 0,
        end: int | None = None,
        seconds: float = LIMIT_SECONDS,
    ) -> Iterator[tuple[int, int]]:
        """Yield where each match, or its *group*, begins and ends; (-1, -1) where the group has no part in it.

        Raises:
            TimeoutError: It takes longer than *seconds*.
        """
        end = len(text) if end is None else end
        found: Any
        if end - start <= self._quick:
            found = self.compiled.finditer(text, start, end)
        else:
            found = self._watched.finditer(text, pos=start, endpos=end, timeout=seconds)
        until = time.thread_time() + seconds
        for count, match in enumerate(found, 1):  # its time may begin anew with each match
            if count % 64 == 0 and time.thread_time() > until:
                raise TimeoutError
            yield match.span(group)

    def search(self, text: str, *, seconds: float = LIMIT_SECONDS) -> bool:
        """Tell whether it matches anywhere.

        Raises:
            TimeoutError: It takes longer than *seconds*.
        """
        if len(text) <= self._quick:
            return self.compiled.search(text) is not None
        return self._watched.search(text, timeout=seconds) is not None

    def match(self, text: str, *, seconds: float = LIMIT_SECONDS) -> bool:
        """Tell whether it matches at the beginning.

        Raises:
            TimeoutError: It takes longer than *seconds*.
        """
        if len(text) <= self._quick:
            return self.compiled.match(text) is not None
        return self._watched.match(text, timeout=seconds) is not None


def _steps(tree: Any, length: int) -> int:
    """Return what Python's engine can have to do at the most for a text of that length, or more than `MAX_STEPS`."""
    return length * _ways(tree, length) * _size(tree, length)


def _ways(tree: Any, length: int) -> int:
    """Return in how many ways a pattern can match at one place, or a number above `MAX_STEPS`."""
    ways = 1
    for code, argument in tree:
        if code in _REPEATS:
            once, most = _ways(argument[2], length), min(argument[1], length)
            if once == 1:
                ways *= max(most - argument[0], 0) + 1
            else:
                total, rounds = 0, 0
                while rounds <= most and total <= MAX_STEPS:
                    total += once**rounds
                    rounds += 1
                ways *= max(total, 1)
        elif code is codes.BRANCH:
            ways *= sum(_ways(branch, length) for branch in argument[1])
        elif code in (codes.GROUPREF, codes.GROUPREF_EXISTS, codes.GROUPREF_IGNORE):
            return MAX_STEPS + 1
        else:
            for inner in inside(argument):
                ways *= _ways(inner, length)
        if ways > MAX_STEPS:
            return MAX_STEPS + 1
    return ways


def _size(tree: Any, length: int) -> int:
    """Return how many steps one way of matching has at the most."""
    size = 1
    for code, argument in tree:
        size += 1
        if code in _REPEATS:
            if len(argument[2]) != 1 or argument[2][0][0] not in _SINGLE:
                size += min(argument[1], length) * _size(argument[2], length)
        else:
            size += sum(_size(inner, length) for inner in inside(argument))
        if size > MAX_STEPS:
            break
    return size


def inside(argument: Any) -> Iterator[Any]:
    """Yield the patterns inside the argument of an operation."""
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for each in argument:
            yield from inside(each)
