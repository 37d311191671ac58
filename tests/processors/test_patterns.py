import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.errors import ConfigurationError
from fapilog.processors.patterns import MAX_PATTERN, WINDOW, compile_glob, compile_regex

SLOW = [
    r"(a+)+$",
    r"(a*)*$",
    r"(?:a+)+b",
    r"(a|a)*$",
    r"(a|aa)+$",
    r"(.*)*x",
    r"(\w+\s?)*$",
    r"^(\w+\s?)*$",
    r"([a-zA-Z]+)*1",
    r"(x+x+)+y",
    r"prefix(a+)+$",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(\d+)+!",
    r"(.+)+@(.+)+",
    r"((a{1,40}){1,40}){1,40}c",
    r"(?=(a+)+$)b",
    r"q(?:(?:r+)*)*$",
]
"""Patterns that Python needs a power of two for, and that stay slow."""

FAST = [
    r"^cache (hit|miss)$",
    r"^/(health|ready|live)(/|$)",
    r"\d{3}-\d{4}",
    r"[a-z]+@[a-z]+\.com",
    r"^\w+ \w+ \w+$",
    r"^(\d+\.){3}\d+$",
    r"^(?:[a-z]+,)*[a-z]+$",
    r"error|warning|critical",
    r"(?i)^get /static/.*\.(css|js|png)$",
    r"timeout after \d+(\.\d+)?s",
    r"^[^:]+: .*$",
    r"(?<!not )found",
    r"a++b",
    r"(?>a+)b",
    r"(\w)\1",
    r"",
    r"ž+",
    r"[^\s\"]{2,64}",
    r"x{2,}",
    r"(a|b|ab)*c",
    r"\s+\s+\s+x",
    r"\d+\d+\d+x",
]


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_that_takes_long_on_some_text_is_refused_and_that_soon(pattern: str) -> None:
    began = time.perf_counter()
    with pytest.raises(
        ConfigurationError, match="takes too long on some texts; repeat nothing that is itself repeated"
    ):
        compile_regex(pattern)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("pattern", FAST)
def test_an_ordinary_pattern_is_taken_as_it_is(pattern: str) -> None:
    assert compile_regex(pattern).pattern == pattern


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?P<x>a)(?P<x>b)", "a{2,1}", "\\"])
def test_what_is_no_regular_expression_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a regular expression: "):
        compile_regex(pattern)


def test_a_pattern_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"has {MAX_PATTERN + 1} characters; {MAX_PATTERN} are allowed"):
        compile_regex("a" * (MAX_PATTERN + 1))


@given(st.text("ab*?[]!", max_size=12), st.text("ab", max_size=12))
def test_a_glob_means_what_it_means_for_file_names(glob: str, said: str) -> None:
    assert bool(compile_glob(glob).match(said)) == fnmatch.fnmatchcase(said, glob)


@given(st.text(r"ab.*+?()|[]\d", max_size=10), st.text("ab", min_size=1, max_size=3))
def test_whatever_is_taken_is_quick_on_a_long_text(pattern: str, unit: str) -> None:
    try:
        compiled = compile_regex(pattern)
    except ConfigurationError:
        return
    said = (unit * WINDOW)[: WINDOW - 1] + "!"
    began = time.thread_time()
    compiled.search(said)
    assert time.thread_time() - began < 0.25, re.escape(pattern)
