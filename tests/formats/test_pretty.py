import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.encoding import encode, plain_fields
from fapilog.formats import escape, pretty
from fapilog.types import LEVELS
from tests.test_encoding import ANYTHING

ANSI = re.compile(r"\x1b\[[0-9;]*m")
BASE = {"timestamp": "2026-11-20T08:00:00.123456Z", "level": "info", "event": "order placed", "logger": "root"}
STATIC: dict[str, Any] = {
    "service": "s",
    "env": "e",
    "version": "v",
    "host": "h",
    "pid": 1,
    "id": "i-1",
    "span_id": "x",
}


def shown(*, colour: bool = False, **fields: Any) -> str:
    return pretty(orjson.dumps({**BASE, **fields}), colour=colour)


def test_a_record_is_one_line_with_time_level_event_and_fields() -> None:
    assert re.fullmatch(r"\d\d:\d\d:00\.123 info     order placed user=ann n=7\n", shown(user="ann", n=7))


def test_what_is_the_same_on_every_line_is_left_out() -> None:
    assert shown(**STATIC) == shown()


def test_the_trace_id_is_shown_since_it_finds_the_rest() -> None:
    assert "trace_id=abc" in shown(trace_id="abc")


def test_the_name_of_a_logger_is_shown_unless_it_is_everybody_s() -> None:
    assert shown(logger="shop.orders").endswith(" [shop.orders]\n")
    assert "[" not in shown()


def test_text_with_spaces_is_quoted_and_other_values_are_json() -> None:
    assert shown(a="two words", b="", c='q"', d={"x": [1]}, e=None).endswith(
        'a="two words" b="" c="q\\"" d={"x":[1]} e=null\n'
    )


def test_an_exception_is_shown_below_its_line() -> None:
    text = shown(exception={"type": "ValueError", "message": "no", "stacktrace": "Traceback:\n  here\nValueError: no"})
    assert text.splitlines()[1:] == ["    Traceback:", "      here", "    ValueError: no"]
    assert shown(exception={"type": "ValueError", "message": "no"}).splitlines()[1] == "    ValueError: no"


def test_a_stack_that_was_asked_for_is_shown_below_too() -> None:
    assert shown(stack="one\ntwo").splitlines()[1:] == ["    one", "    two"]


def test_an_access_record_is_shown_as_a_request() -> None:
    access: dict[str, Any] = {
        "method": "GET",
        "path": "/a",
        "status_code": 200,
        "duration_ms": 12.34,
        "user_agent": "curl",
    }
    assert shown(logger="fapilog.access", **access).endswith("info     GET /a 200 12.3 ms\n")
    assert shown(logger="mine", **access).endswith("user_agent=curl [mine]\n")


@pytest.mark.parametrize("level", list(LEVELS))
def test_colours_add_nothing_but_colour(level: str) -> None:
    plain = shown(level=level, user="ann", logger="a")
    coloured = shown(level=level, user="ann", logger="a", colour=True)
    assert coloured != plain
    assert ANSI.sub("", coloured) == plain


@pytest.mark.parametrize("timestamp", ["yesterday", "\x1b[2J", None])
def test_a_timestamp_that_is_none_is_shown_as_it_is(timestamp: object) -> None:
    assert "order placed" in shown(timestamp=timestamp)


@pytest.mark.parametrize(
    ("said", "safe"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\u202e", "\\u202e"),
        ("\u2028", "\\u2028"),
        ("é🐎", "é🐎"),
    ],
)
def test_what_could_move_the_cursor_is_shown_escaped(said: str, safe: str) -> None:
    assert escape(said) == safe
    assert safe in shown(event=said)
    assert safe in shown(field=said)
    named: dict[str, Any] = {said: 1}
    assert safe in shown(**named)
    assert safe in shown(logger=said)


@given(st.dictionaries(st.text(), ANYTHING), st.text())
def test_no_record_whatever_forges_a_line_or_a_colour(fields: dict[str, object], event: str) -> None:
    line = encode(plain_fields({**fields, **BASE, "event": event, "exception": None, "stack": None}))
    text = pretty(line, colour=False)
    assert text.count("\n") == 1
    assert not set(text[:-1]) & {chr(code) for code in [*range(32), *range(127, 160), 0x2028, 0x202E]}
