import time

import pytest

from fapilog import log
from fapilog.detectors.patterns import pattern
from fapilog.errors import ConfigurationError
from fapilog.testing import capture


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("(a+)+$", "a repetition inside a repetition"),
        (r"(\w+\s?)*x", "a repetition inside a repetition"),
        ("([a-z]+[0-9]*)+x", "a repetition inside a repetition"),
        ("(.*)*x", "a repetition inside a repetition"),
        ("(?:(?:a|b)+)+c", "a repetition inside a repetition"),
        ("(a?){30}b", "a repetition inside a repetition"),
        ("(a|ab|b)*c", "alternatives that begin alike inside a repetition"),
        ("a*", "matches the empty text"),
        ("(", "is no regular expression"),
        ("a" * 1_001, "has 1001 characters"),
        (r"(?:x+x+){1,8}y", "takes more than 10 ms"),
    ],
)
def test_a_pattern_that_may_never_end_is_refused_at_once(source: str, fault: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=fault):
        pattern(source, "mine")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        (r"ORD-\d{6}", "x ORD-123456 y", ["ORD-123456"]),
        (r"(?i)sess-[a-z0-9]+", "SESS-a1 b", ["SESS-a1"]),
        (r"(?:\w+\.)+internal", "db.shop.internal", ["db.shop.internal"]),
        (r"(?:foo|far)+x", "foofarx", ["foofarx"]),
        (r"pin (?P<secret>\d+)", "pin 1234", ["1234"]),
        (r"(?>a+)b", "aab", ["aab"]),
        (r"(?:a++b)+", "abab", ["abab"]),
        (r"\b[A-Z]{2}\d{6}[A-D]\b", "AB123456C", ["AB123456C"]),
    ],
)
def test_a_pattern_that_is_safe_is_taken(source: str, text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in pattern(source, "mine").find(text)] == found


def test_a_quadratic_pattern_runs_on_windows_and_finds_what_lies_across_their_ends() -> None:
    detector = pattern(r"[\w.]+@[\w.]+\.\w+", "mail")
    for at in range(64, 400, 7):
        text = f"{'- ' * (at // 2)}ann@example.com{' -' * 2_000}"
        assert {text[start:end] for start, end in detector.find(text)} >= {"ann@example.com"}


def test_a_text_that_takes_too_long_is_masked_and_no_record_waits_for_it() -> None:
    with capture(redact_patterns={"xs": "x{1,9}" * 8 + "y"}) as captured:
        began = time.thread_time()
        log.info("a", text="x" * 30_000, good="to " + "x" * 9 + "y")
        took = time.thread_time() - began
        record = captured.records[0]
    assert took < 0.2
    assert record["good"] == "to <redacted:xs>"
    assert record["text"] == "<redaction failed>"
