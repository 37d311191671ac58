"""Compile a pattern of the user's for a filter, or refuse it if it could hold up a log call.

A pattern is taken apart, tried on the texts that are worst for it, and only ever used on the first `WINDOW` characters
of a value. Even so none is trusted: it is run by `fapilog.detectors.expressions`, which stops it.
"""

import fnmatch
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from fapilog.detectors.expressions import Expression, codes
from fapilog.errors import ConfigurationError

WINDOW: Final = 1_024
"""How many characters of a value a pattern is held against."""

MAX_PATTERN: Final = 4_096
TRIAL_SECONDS: Final = 0.005
_LENGTHS: Final = (*range(4, 32, 2), 48, 96, 192, 384, WINDOW)
_REPEATS: Final = frozenset({codes.MAX_REPEAT, codes.MIN_REPEAT})
_MISMATCH: Final = "\x00"
_EXAMPLES: Final = "a0 _-./@A:\n"


def compile_regex(pattern: str) -> Expression:
    """Return *pattern* compiled, for `WINDOW` characters at most.

    Raises:
        ConfigurationError: It is not a regular expression, or it takes too long on some text.
    """
    return _compile(pattern, pattern, "search")


def _compile(pattern: str, said: str, how: str) -> Expression:
    shown = f"{said[:100]!r}"
    if len(pattern) > MAX_PATTERN:
        raise ConfigurationError(f"the pattern {shown}… has {len(pattern)} characters; {MAX_PATTERN} are allowed")
    try:
        expression = Expression(pattern)
    except ValueError as error:
        raise ConfigurationError(f"the pattern {shown} is not a regular expression: {error}") from None
    if _is_nested(expression.tree) or _is_slow(getattr(expression, how), expression.tree):
        raise ConfigurationError(
            f"the pattern {shown} takes too long on some texts; repeat nothing that is itself repeated, as in (a+)+, "
            "and put nothing after .* that it could match too"
        )
    return expression


def compile_glob(pattern: str) -> Expression:
    """Return a glob, where ``*`` stands for anything and ``?`` for one character, as something to `match`.

    Raises:
        ConfigurationError: It takes too long on some text.
    """
    return _compile(fnmatch.translate(pattern), pattern, "match")


def _is_nested(tree: Any, *, repeated: bool = False) -> bool:
    """Tell whether something without an end is repeated without an end, and can be divided in several ways."""
    for code, argument in tree:
        if code in _REPEATS:
            _low, high, body = argument
            endless = high == codes.MAXREPEAT
            if endless and repeated and not _is_fenced(tree):
                return True
            if _is_nested(body, repeated=repeated or (endless or high > WINDOW)):
                return True
        elif any(_is_nested(part, repeated=repeated) for part in _parts(code, argument)):
            return True
    return False


def _is_fenced(tree: Any) -> bool:
    """Tell whether a repeated sequence has a literal of its own, which says where each repetition ends."""
    return any(code is codes.LITERAL for code, _ in tree) and len(tree) > 1


def _parts(code: Any, argument: Any) -> list[Any]:
    """Return the patterns that are inside an item of a pattern."""
    if code is codes.SUBPATTERN:
        return [argument[-1]]
    if code is codes.BRANCH:
        return list(argument[1])
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    if code is codes.ATOMIC_GROUP:
        return [argument]
    if code is codes.POSSESSIVE_REPEAT:
        return [argument[2]]
    return []


def _is_slow(tried: Callable[[str], Any], tree: Any) -> bool:
    """Try a pattern on the texts that are worst for it, short ones first. Only the time of this thread counts."""
    for before, repeated in {*_attacks(tree, ""), *(("", each) for each in _EXAMPLES)}:
        for length in _LENGTHS:
            said = (before + repeated * (length // len(repeated) + 1))[: WINDOW - 1] + _MISMATCH
            began = time.thread_time()
            try:
                tried(said)
            except TimeoutError:
                return True
            if time.thread_time() - began > TRIAL_SECONDS:
                return True
    return False


def _attacks(tree: Any, before: str) -> Iterator[tuple[str, str]]:
    """Yield for everything that may be repeated what comes before it, and itself once."""
    for code, argument in tree:
        if code in _REPEATS:
            once = _example(argument[2])
            if once and argument[1] > 1:
                yield before, once
            yield from _attacks(argument[2], before)
        else:
            for part in _parts(code, argument):
                yield from _attacks(part, before)
        before += _example([(code, argument)])


def _example(tree: Any) -> str:
    """Return a short text that a pattern matches, more or less."""
    said: str = "".join(_EXAMPLE.get(code, _no_example)(argument) for code, argument in tree)
    return said[:64]


def _no_example(_argument: Any) -> str:
    return ""


def _repeated(argument: Any) -> str:
    times: int = min(max(argument[0], 1), 8)
    return _example(argument[2]) * times


def _one_of(argument: Any) -> str:
    negated = any(code is codes.NEGATE for code, _ in argument)
    allowed = re.compile("[" + ("^" if negated else "") + "".join(map(_in_class, argument)) + "]")
    candidates = [*_EXAMPLES, *(chr(value) for code, value in argument if code is codes.LITERAL)]
    found: str = next((each for each in candidates if allowed.match(each)), "~")
    return found


def _in_class(item: tuple[Any, Any]) -> str:
    code, argument = item
    if code is codes.LITERAL:
        return re.escape(chr(argument))
    if code is codes.RANGE:
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    return _CATEGORIES.get(argument, "") if code is codes.CATEGORY else ""


_CATEGORIES: Final[dict[Any, str]] = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}
_EXAMPLE: Final[dict[Any, Callable[[Any], str]]] = {
    codes.LITERAL: chr,
    codes.NOT_LITERAL: lambda value: "b" if value == ord("a") else "a",
    codes.ANY: lambda _: "a",
    codes.IN: _one_of,
    codes.BRANCH: lambda argument: _example(argument[1][0]),
    codes.SUBPATTERN: lambda argument: _example(argument[-1]),
    codes.ATOMIC_GROUP: _example,
    codes.MAX_REPEAT: _repeated,
    codes.MIN_REPEAT: _repeated,
    codes.POSSESSIVE_REPEAT: _repeated,
}
