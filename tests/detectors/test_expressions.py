import contextlib
import random
import re
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import pytest

from fapilog.detectors.expressions import Expression
from fapilog.detectors.patterns import pattern
from fapilog.errors import ConfigurationError
from fapilog.processors.patterns import WINDOW, compile_regex

Used: TypeAlias = Callable[[str], Iterable[Any]]

HARMFUL = [
    (r"(?:\w{1,16}\s?){1,6}ID", "a"),
    (r"(?:\w{1,8}[ -]?){1,8}END", "a"),
    ("a?" * 28 + "a" * 28, "a"),
    (r"(?:ж\w|\wж)+!", "ж"),
    (r"(?:[A-Z0-9]{1,5}-?){2,8}#", "A"),
    (r"(?i)(?:abc|ABC)+!", "abc"),
    (r"(?i)(?:password|PASSWORD)+!", "password"),
    (r"(?:foo|foobar|barfoo|bar)+!", "foobar"),
    (r"(?:a?){30}a{30}", "a"),
    (r"(a+)+$", "a"),
    (r"(x+x+)+y", "x"),
    (r"(a{1,40})\1{1,8}b", "a"),
    (r"x{1,9}" * 8 + "y", "x"),
    (r"(?=(a{1,8}){1,8}!)a", "a"),
    (r"\w*\w*\w*!", "a"),
    (r"(?s)a.*?b", "a"),
]
"""Patterns that Python's engine takes a power of two, or of the length, for; and what to repeat for that."""

ATOMS = ("a", "b", "ab", r"\w", r"\d", ".", "[ab]", "[^b]", r"\s", "ж", "-", r"\b", "!", "é", "{", "a{e}", "[{a]")
UNITS = ("a", "b", "ab", "aab", "ж", "aж", "1", "a b ", "-", "{e}")


def seconds(used: Used, *texts: str) -> float:
    """Return how long the slowest of some texts takes: the shorter of two times, for other processes disturb."""
    slowest = 0.0
    for text in texts:
        took = []
        for _ in range(2):
            began = time.thread_time()
            with contextlib.suppress(TimeoutError):
                list(used(text))
            took.append(time.thread_time() - began)
        slowest = max(slowest, min(took))
    return slowest


def for_redaction(source: str) -> Used:
    return pattern(source, "mine").find


def for_a_filter(source: str) -> Used:
    expression = compile_regex(source)
    return lambda text: [expression.search(text[:WINDOW])]


def made_up(chance: random.Random, depth: int) -> str:
    """Return a pattern in which repetitions and alternatives are inside each other."""
    if not depth:
        return chance.choice(ATOMS)
    kind = chance.random()
    if kind < 0.35:
        return "".join(made_up(chance, depth - 1) for _ in range(chance.randint(2, 4)))
    if kind < 0.55:
        return "(?:" + "|".join(made_up(chance, depth - 1) for _ in range(chance.randint(2, 3))) + ")"
    if kind < 0.9:
        return f"(?:{made_up(chance, depth - 1)})" + chance.choice(["*", "+", "?", "{1,6}", "{2,8}", "{1,40}", "*?"])
    return f"(?={made_up(chance, depth - 1)})"


@pytest.mark.parametrize(("source", "unit"), HARMFUL)
def test_no_pattern_holds_up_a_log_call_or_the_configuration(source: str, unit: str) -> None:
    texts = [(unit * 40_000)[:length] + end for length in (60, 200, 1_000, 32_767) for end in ("", "!")]
    assert seconds(Expression(source).spans, *texts) < 0.1
    for compiling in (for_redaction, for_a_filter):
        began = time.thread_time()
        try:
            used = compiling(source)
        except ConfigurationError:
            continue
        finally:
            assert time.thread_time() - began < 5
        assert seconds(used, *texts) < 0.1


def test_whatever_pattern_is_made_up_ends_soon() -> None:
    chance = random.Random(7)  # noqa: S311 - the same each time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for _ in range(150):
            source = made_up(chance, chance.randint(2, 5))
            try:
                expression = Expression(source)
            except ValueError:
                continue
            unit = chance.choice(UNITS)
            texts = [(unit * length)[: length - 1] + chance.choice("!\0a") for length in (30, 256, 32_768)]
            assert seconds(expression.spans, *texts) < 0.1, source


def test_both_engines_find_the_same() -> None:
    chance = random.Random(11)  # noqa: S311 - likewise
    compared = 0
    for _ in range(2_000):
        source = made_up(chance, chance.randint(1, 3))
        try:
            expression = Expression(source)
        except ValueError:
            continue
        text = "".join(chance.choice(UNITS) for _ in range(3))[:8] + "!"
        expected = [match.span() for match in re.finditer(source, text)]
        for quick in (0, 1_000):
            expression._quick = quick
            assert list(expression.spans(text, seconds=5)) == expected, (source, text)
        compared += 1
    assert compared > 1_000


def test_matches_that_are_each_quick_have_no_more_time_than_one() -> None:
    with pytest.raises(TimeoutError):
        list(Expression(r"b|a[^#]*#").spans("ba" * 16_000))


@pytest.mark.parametrize(
    "source", [r"id{e}", r"{a}", r"[{}]+", r"\{x\}", r"a{,2}b", r"a{2}", r"\N{EM DASH}{1,2}x", "a{}"]
)
def test_a_brace_means_what_it_means_to_python(source: str) -> None:
    for text in ("id{e} ix", "{a}", "{}", "{x}", "aab", "——x", "a{}"):
        expression = Expression(source)
        expression._quick = 0
        assert list(expression.spans(text)) == [match.span() for match in re.finditer(source, text)]


def test_a_class_that_only_one_engine_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no classes such as"):
        Expression("[x[:alpha:]]")
