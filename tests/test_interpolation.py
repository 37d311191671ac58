import logging
import time
from collections import defaultdict
from typing import Any

import pytest

from fapilog import log
from fapilog.capture.records import RecordHandler
from fapilog.interpolation import interpolated
from fapilog.testing import capture

TOO_MUCH = [
    ("%999999999d", (1,), "a width or precision is larger than 32768"),
    ("%*d", (999_999_999, 1), "a width or precision is larger than 32768"),
    ("%*d", (-999_999_999, 1), "a width or precision is larger than 32768"),
    ("%.999999999f", (1.0,), "a width or precision is larger than 32768"),
    ("%.*f", (999_999_999, 1.0), "a width or precision is larger than 32768"),
    ("%d %5.99999999d", (1, 1), "a width or precision is larger than 32768"),
    ("%(a(b(c)))-99999999d", ({"a(b(c))": 1},), "a width or precision is larger than 32768"),
    ("%20000d%20000d", (1, 1), "a width or precision is larger than 32768"),
    ("%(a)s" * 300, ({"a": "x" * 30_000},), "more than 256 conversions"),
    ("x" * 40_000 + "%d", (1,), "an event of 40002 characters is not formatted"),
]


@pytest.mark.parametrize("stdlib", [False, True])
@pytest.mark.parametrize(("event", "args", "why"), TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_a_format_that_would_make_very_much_is_kept_as_it_is(
    event: str, args: tuple[Any, ...], why: str, stdlib: bool
) -> None:
    with capture() as captured:
        began = time.thread_time()
        if stdlib:
            RecordHandler().handle(logging.LogRecord("shop", logging.ERROR, "f", 1, event, args, None))
        else:
            log.info(event, *args)
        took = time.thread_time() - began
        record = captured.records[0]
    assert why in record["_format_error"]
    assert record["event"][:1_000] == event[:1_000]
    assert "_args" in record
    assert took < 0.1


@pytest.mark.parametrize(
    ("event", "args"),
    [
        ("%5d|%-5s|%05.1f|%%", (1, "a", 2.5)),
        ("%*d", (5, 123_456_789)),
        ("%% %.*f %s", (2, 1.5, 999_999_999)),
        ("%(a)5d %(b c)s 2026", ({"a": 1, "b c": 2},)),
        ("in 2026: %s", (99_999_999,)),
        ("%1000d", (1,)),
        ("%s", (defaultdict(list, a=[1]),)),
        ("%s %r", (ValueError("x"), b"y")),
    ],
)
def test_an_ordinary_format_means_what_it_means_to_python(event: str, args: tuple[Any, ...]) -> None:
    assert interpolated(event, args) == event % (args[0] if isinstance(args[0], dict) and "(" in event else args)
