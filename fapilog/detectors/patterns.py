r"""Regular expressions of users: read, checked, tried on what is worst for them, and run within bounds.

One with a repetition inside a repetition, or alternatives that begin alike inside one, is refused; so is one that takes
more than 10 ms for a short text that was made to be the worst for it. One that takes more than proportional time is run
on windows of 4 KiB, 1 KiB or 256 characters, each half over the last: the longest for which no such text takes more
than 10 ms. What is longer than half a window is then found only if it lies well. Whatever is taken is run by
`fapilog.detectors.expressions`: a text that takes more than 10 ms in all is masked.

google-re2 is linear, but has another meaning of ``\w`` and ``\b`` beyond ASCII, where a secret would be missed.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from fapilog.detectors import Detector, Span
from fapilog.detectors.expressions import LIMIT_SECONDS, Expression, codes
from fapilog.detectors.expressions import inside as _inside
from fapilog.errors import ConfigurationError

TRIAL_SECONDS: Final = 0.010
WINDOWS: Final = (256, 1_024, 4_096)
MAX_LENGTH: Final = 1_000
_REPEATS: Final = (codes.MAX_REPEAT, codes.MIN_REPEAT)
_POSSESSIVE: Final = (codes.POSSESSIVE_REPEAT, codes.ATOMIC_GROUP)
_SIZES: Final = (12, 16, 18, 20, 22, 24, 26, 28, 30, 48, 96, 192, 256, 384, 1_024)
_MAX_ATTACKS: Final = 24


@functools.lru_cache(maxsize=256)
def pattern(source: str, name: str) -> Detector:
    """Return a detector of what *source* matches: its group called ``secret`` if it has one, or all of it.

    Raises:
        ConfigurationError: It is no regular expression, matches the empty text, or may take exponential time.
    """
    where = f"the pattern {name!r}"
    if len(source) > MAX_LENGTH:
        raise ConfigurationError(f"{where} has {len(source)} characters; at most {MAX_LENGTH} are taken")
    try:
        expression = Expression(source)
    except ValueError as error:
        raise ConfigurationError(f"{where} is no regular expression: {error}") from None
    if expression.tree.getwidth()[0] == 0:
        raise ConfigurationError(f"{where} matches the empty text; say what there must be at least")
    found = fault(expression)
    if found:
        raise ConfigurationError(f"{where} {found}")
    window = _window(expression)
    group = "secret" if "secret" in expression.compiled.groupindex else 0

    def find(text: str) -> Iterable[Span]:
        if window is None or len(text) <= window:
            return [span for span in expression.spans(text, group) if span[0] >= 0]
        found: set[Span] = set()
        until = time.thread_time() + LIMIT_SECONDS
        for start in range(0, len(text) - window // 2, window // 2):
            left = until - time.thread_time()
            if left <= 0:
                raise TimeoutError
            found.update(expression.spans(text, group, start=start, end=min(start + window, len(text)), seconds=left))
        return sorted(span for span in found if span[0] >= 0)

    return Detector(name, 1.0, find)


def fault(expression: Expression) -> str | None:
    """Return why an expression may take very long for a short text, and what to do; None if it does not."""
    said = _fault(expression.tree)
    if said:
        return f"may take exponential time: {said}; write it without, or possessively (`a++`)"
    if _window(expression) == 0:
        return (
            f"takes more than {TRIAL_SECONDS * 1000:.0f} ms for a short text; "
            "bound its repetitions, or anchor it to what must be there"
        )
    return None


@functools.lru_cache(maxsize=256)
def _window(expression: Expression) -> int | None:
    """Return how much text a pattern may be given at once: None for any, 0 for none."""
    attacks = list(itertools.islice(_attacks(expression.tree), _MAX_ATTACKS))
    slow = False
    for size in _SIZES:
        if any(_seconds(expression, attack(size), enough=TRIAL_SECONDS) > TRIAL_SECONDS for attack in attacks):
            if size <= WINDOWS[0]:
                return 0
            slow = True
            break
    if not slow and not any(_is_superlinear(expression, attack) for attack in attacks):
        return None
    taken = 0
    for window in WINDOWS:
        if any(_seconds(expression, attack(window), enough=TRIAL_SECONDS) > TRIAL_SECONDS for attack in attacks):
            break
        taken = window
    return taken


def _seconds(expression: Expression, text: str, *, enough: float = 0.0) -> float:
    """Return the shortest of three times, or the first that is short *enough*; what takes very long is stopped."""
    best = 1e9
    for _ in range(3):
        began = time.thread_time()
        try:
            for _span in expression.spans(text, seconds=2 * TRIAL_SECONDS):
                pass
        except TimeoutError:
            return 1e9
        best = min(best, time.thread_time() - began)
        if best < enough:
            break
    return best


def _is_superlinear(expression: Expression, attack: Callable[[int], str]) -> bool:
    """Tell whether eight times the text takes more than twenty times as long."""
    long = _seconds(expression, attack(4_096))
    return long > 200e-6 and long > 20 * _seconds(expression, attack(512))


def _fault(tree: Any, *, repeated: bool = False) -> str | None:
    """Return what makes a pattern ambiguous inside a repetition, or None."""
    for code, argument in tree:
        fault = None
        if code in _REPEATS:
            many = argument[1] is codes.MAXREPEAT or argument[1] > 8
            if repeated and argument[0] != argument[1]:
                return "a repetition inside a repetition"
            fault = _fault(argument[2], repeated=repeated or (many and not _is_delimited(argument[2])))
            if fault is None and many:
                fault = _ambiguous(argument[2])
        elif code not in _POSSESSIVE:
            fault = next(filter(None, (_fault(each, repeated=repeated) for each in _inside(argument))), None)
        if fault:
            return fault
    return None


def _ambiguous(tree: Any) -> str | None:
    """Return a fault if what is repeated has alternatives of which two may match the same."""
    items = _unwrapped(tree)
    for code, argument in items:
        if code is codes.BRANCH and len(items) == 1:
            branches = [_unwrapped(branch) for branch in argument[1]]
            for at, one in enumerate(branches):
                for other in branches[at + 1 :]:
                    if all(first & second for first, second in zip(_sets(one), _sets(other), strict=False)):
                        return "alternatives that begin alike inside a repetition"
    return None


def _is_delimited(tree: Any) -> bool:
    """Tell whether each round of a repetition has a character that is nowhere else in it: it divides in one way."""
    items = _unwrapped(tree)
    for at, item in enumerate(items):
        if item[0] in (codes.LITERAL, codes.IN, codes.NOT_LITERAL):
            others = set().union(*[_letters(other, every=True) for other in items[:at] + items[at + 1 :]])
            if not _letters(item) & others:
                return True
    return False


def _unwrapped(tree: Any) -> list[Any]:
    items = list(tree)
    while len(items) == 1 and items[0][0] is codes.SUBPATTERN:
        items = list(items[0][1][3])
    return items


def _sets(items: list[Any]) -> list[set[str]]:
    return [_letters(item) for item in items]


def _letters(item: Any, *, every: bool = False) -> set[str]:
    """Return which of some characters an operation can begin with, or with *every*: can hold."""
    code, argument = item
    if code is codes.LITERAL:
        return {chr(argument)}
    if code is codes.NOT_LITERAL:
        return set(_SOME) - {chr(argument)}
    if code is codes.ANY:
        return set(_SOME)
    if code is codes.IN:
        return _members(argument)
    if code in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
        return set()
    found: set[str] = set()
    for tree in _inside(argument):
        for each in list(tree) if every else list(tree)[:1]:
            found |= _letters(each, every=every)
    return found or set(_SOME)


def _members(members: Any) -> set[str]:
    found: set[str] = set()
    negated = False
    for code, argument in members:
        if code is codes.NEGATE:
            negated = True
        elif code is codes.LITERAL:
            found.add(chr(argument))
        elif code is codes.RANGE:
            found.update(letter for letter in _SOME if argument[0] <= ord(letter) <= argument[1])
            found.add(chr(argument[0]))
        elif code is codes.CATEGORY:
            found.update(filter(_CATEGORIES[argument], _SOME))
    return set(_SOME) - found if negated else found


def _attacks(tree: Any) -> Iterator[Callable[[int], str]]:
    """Make texts that begin as the pattern asks, repeat one of its repetitions, and then do not end as it asks."""
    for before, body in _repetitions(tree, ""):
        for start in {before, ""}:
            yield lambda size, start=start, body=body: (start + body * size)[:size] + "\0"  # type: ignore[misc]  # mypy loses the defaults of a lambda
        if before:
            yield lambda size, body=before + body: (body * size)[:size] + "\0"  # type: ignore[misc]


def _repetitions(tree: Any, before: str) -> Iterator[tuple[str, str]]:
    for item in tree:
        code, argument = item
        if code in _REPEATS and (argument[1] is codes.MAXREPEAT or argument[1] > 16):
            letters = sorted(_letters(argument[2][0]))
            for letter in letters[:: max(1, len(letters) // 3)]:
                yield before, letter
            yield before, _sample(argument[2]) or "a"
        for inner in _inside(argument):
            yield from _repetitions(inner, before)
        before += _sample([item])


def _sample(tree: Any) -> str:
    """Return a text such as a pattern matches."""
    said = ""
    for item in tree:
        code, argument = item
        if code in _REPEATS or code is codes.POSSESSIVE_REPEAT:
            said += _sample(argument[2]) * max(1, min(argument[0], 64))
        elif code is codes.BRANCH:
            said += _sample(argument[1][0])
        elif code in (codes.AT, codes.ASSERT, codes.ASSERT_NOT, codes.GROUPREF):
            continue
        elif code in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN):
            said += min(_letters(item) - {"\n"}, default="a")
        else:
            said += "".join(_sample(inner) for inner in _inside(argument))
    return said


_SOME: Final = "".join(map(chr, range(32, 127))) + "\n\té"
_CATEGORIES: Final[Mapping[Any, Callable[[str], bool]]] = {
    codes.CATEGORY_DIGIT: str.isdigit,
    codes.CATEGORY_NOT_DIGIT: lambda letter: not letter.isdigit(),
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_NOT_SPACE: lambda letter: not letter.isspace(),
    codes.CATEGORY_WORD: lambda letter: letter.isalnum() or letter == "_",
    codes.CATEGORY_NOT_WORD: lambda letter: not (letter.isalnum() or letter == "_"),
}
