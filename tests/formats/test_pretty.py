import re
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fapilog.encoding import encode, plain_fields
from fapilog.formats import MIN_WIDTH, Screen, escape, pretty
from fapilog.formats.pretty import Pretty
from fapilog.formats.screen import columns
from fapilog.types import LEVELS
from tests.formats.records import ACCESS, NAMED, RECORDS, line_of
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
BASKET = {"items": [{"sku": "green tea", "quantity": 2}, {"sku": "milk", "quantity": 1}], "customer": {"name": "Ann"}}
SEPARATORS = [0xAD, 0x61C, 0x2028, 0x2029, 0x200B, 0x200E, 0xFEFF, 0xE0041]
BIDI = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
FORGING = {chr(code) for code in [*range(32), *range(127, 160), *SEPARATORS, *BIDI]}
HOSTILE = st.text() | st.text(st.sampled_from("\x1b\n\r\u202e\u2028\x9b[2J a"))
WIDTHS = st.none() | st.integers(MIN_WIDTH, 200)


def shown(*, colour: bool = False, width: int | None = None, **fields: Any) -> str:
    return pretty(orjson.dumps({**BASE, **fields}), colour=colour, width=width)


def laid_out(width: int, **fields: Any) -> list[str]:
    """The lines of a record without time and level."""
    lines = shown(width=width, **fields).splitlines()
    assert all(columns(line) <= width for line in lines)
    return [lines[0][len("08:00:00.123 info     ") :], *lines[1:]]


# One line


def test_a_record_is_one_line_with_time_level_event_and_fields() -> None:
    assert re.fullmatch(r"\d\d:\d\d:00\.123 info     order placed {19}user=ann n=7\n", shown(user="ann", n=7))


def test_the_fields_of_records_with_short_events_begin_in_one_column() -> None:
    lines = [shown(event=event, n=7) for event in ("a", "order placed", "x" * 30, "über", "日本")]
    assert {columns(line.partition("n=7")[0]) for line in lines} == {len("08:00:00.123 info     ") + 31}


def test_an_event_that_is_longer_is_followed_by_its_fields() -> None:
    assert shown(event="x" * 40, n=7).endswith(f" {'x' * 40} n=7\n")


def test_what_is_the_same_on_every_line_is_left_out() -> None:
    assert shown(**STATIC) == shown()


def test_the_trace_id_is_shown_last_since_it_finds_the_rest() -> None:
    assert shown(trace_id="abc", n=7).endswith(" n=7 trace_id=abc\n")


def test_the_name_of_a_logger_is_shown_unless_it_is_everybody_s() -> None:
    assert shown(logger="shop.orders").endswith(" [shop.orders]\n")
    assert "[" not in shown()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ann", "ann"),
        ("/a/b?c", "/a/b?c"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "tea"', r'"say \"tea\""'),
        ('a\\" admin=true', r'"a\\\" admin=true"'),
        ("C:\\tea", "C:\\tea"),
        ("a\u00a0b", '"a\u00a0b"'),
        (7, "7"),
        (1.5, "1.5"),
        (None, "null"),
        (True, "true"),
        ({"x": [1, "é"]}, '{"x": [1, "é"]}'),
        ({"x": "\n"}, r'{"x": "\n"}'),
    ],
)
def test_text_that_would_not_be_seen_where_it_ends_is_quoted_and_other_values_are_json(value: Any, said: str) -> None:
    assert shown(field=value).endswith(f" field={said}\n")


def test_a_name_of_more_than_a_word_is_quoted_too() -> None:
    named: dict[str, Any] = {"a b": 1, "c.d": 2, "": 3}
    assert shown(**named).endswith(' "a b"=1 c.d=2 ""=3\n')


@pytest.mark.parametrize("level", list(LEVELS))
def test_colours_add_nothing_but_colour(level: str) -> None:
    fields: dict[str, Any] = {"user": "ann", "logger": "a", "basket": BASKET, "note": "word " * 40}
    for width in (None, 60, 100):
        plain = shown(level=level, width=width, **fields)
        coloured = shown(level=level, width=width, colour=True, **fields)
        assert coloured != plain
        assert ANSI.sub("", coloured) == plain


def test_a_level_has_a_colour_of_its_own() -> None:
    beginnings = {level: shown(level=level, colour=True).partition(level)[0] for level in LEVELS}
    assert len(set(beginnings.values())) == len(LEVELS)


# Time


def test_the_time_is_that_of_the_local_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    try:
        for zone, hour in (("UTC0", "08:00"), ("CET-1", "09:00"), ("IST-5:30", "13:30"), ("UTC0", "08:00")):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert shown().startswith(f"{hour}:00.123 info"), zone
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.integers(0, 999_999))
def test_the_second_that_is_remembered_is_that_of_the_record(moment: datetime, microsecond: int) -> None:
    writer = Pretty()
    for each in (moment, moment.replace(microsecond=microsecond)):
        said = each.replace(tzinfo=UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        local = each.replace(tzinfo=UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        assert writer.text(orjson.dumps({**BASE, "timestamp": said})).startswith(f"{local} ")


def test_a_timestamp_of_another_zone_is_not_taken_for_the_one_before() -> None:
    writer = Pretty()
    first = writer.text(orjson.dumps(BASE))
    other = writer.text(orjson.dumps({**BASE, "timestamp": "2026-11-20T08:00:00.123456+05:00"}))
    assert first[:2] != other[:2]


@pytest.mark.parametrize("timestamp", ["yesterday", "\x1b[2J", None, "", 7, "9999-12-31T23:59:59.999999Z", "x" * 100])
@pytest.mark.parametrize("width", [None, MIN_WIDTH])
def test_a_timestamp_that_is_none_is_shown_as_it_is(timestamp: object, width: int | None) -> None:
    text = shown(timestamp=timestamp, width=width, level="of somebody else's" * 9)
    assert "order placed" in text
    assert "\x1b" not in text
    assert all(len(line) <= MIN_WIDTH for line in text.splitlines()) or width is None


# Requests


def access(**fields: Any) -> str:
    """The line of an access record, without time and level."""
    record = {"method": "GET", "path": "/orders/7", "status_code": 200, "duration_ms": 12.34, **fields}
    return shown(logger="fapilog.access", **{"event": "request completed", **record}).partition("info     ")[2]


def test_an_access_record_is_shown_as_a_request() -> None:
    assert access() == "GET /orders/7 200 12.3 ms\n"
    assert access(user_agent="curl", scheme="http", http_version="1.1", ttfb_ms=3.0, request_bytes=0, route="/") == (
        "GET /orders/7 200 12.3 ms\n"
    )


def test_what_else_is_of_use_comes_after_the_request() -> None:
    assert access(client_ip="10.0.0.8", user_id="ann", slow=True) == (
        "GET /orders/7 200 12.3 ms      client_ip=10.0.0.8 user_id=ann slow=true\n"
    )


def test_a_query_belongs_to_the_path() -> None:
    assert access(query="full=1&key=***") == "GET /orders/7?full=1&key=*** 200 12.3 ms\n"


def test_how_a_request_ended_is_said_if_it_did_not_end_well() -> None:
    assert access(event="request failed", status_code=500) == "GET /orders/7 500 12.3 ms request failed\n"


def test_a_websocket_has_no_method() -> None:
    record: dict[str, Any] = {"path": "/chat", "status_code": 101, "event": "websocket closed", "close_code": 1000}
    assert shown(logger="fapilog.access", **record).endswith(" WS /chat 101                   close_code=1000\n")


def test_a_path_cannot_pretend_to_be_an_answer() -> None:
    assert access(path="/ 200 1.0 ms") == 'GET "/ 200 1.0 ms" 200 12.3 ms\n'
    assert access(path="/\n\x1b[2J") == 'GET "/\\x0a\\x1b[2J" 200 12.3 ms\n'


@pytest.mark.parametrize("odd", [None, {"a": 1}, "x", -1, 10**6, True])
def test_an_access_record_of_odd_values_is_shown_all_the_same(odd: Any) -> None:
    for name in ("method", "path", "status_code", "duration_ms", "query", "event"):
        assert access(**{name: odd}).count("\n") == 1


def test_the_fields_of_a_request_are_the_user_s_on_any_other_record() -> None:
    fields: dict[str, Any] = {"method": "GET", "path": "/a", "status_code": 200, "user_agent": "curl"}
    assert shown(logger="mine", **fields).endswith("method=GET path=/a status_code=200 user_agent=curl [mine]\n")


def test_the_status_of_a_request_has_the_colour_of_its_class() -> None:
    record: dict[str, Any] = {"method": "GET", "path": "/", "logger": "fapilog.access"}
    shows = [shown(status_code=status, colour=True, **record) for status in (200, 404, 500)]
    found = [re.search(r"(\x1b\[\d+m)\d{3}\x1b", text) for text in shows]
    assert len({match[1] for match in found if match}) == 3


# Wrapping


def test_what_does_not_fit_goes_on_below_and_indented() -> None:
    margin = " " * 20  # a third of the screen, where that is less than time and level take
    assert laid_out(60, user="ann", order_id=1234567, sku="green tea") == [
        "order placed",
        margin + "user=ann order_id=1234567",
        margin + 'sku="green tea"',
    ]


def test_a_long_value_is_wrapped_between_words_and_what_follows_goes_on_there() -> None:
    lines = laid_out(80, note="word " * 24, after=1)
    assert len(lines) == 4
    assert all(line.startswith(" " * 22) for line in lines[1:])
    assert lines[1].strip().startswith('note="word word')
    assert lines[-1].endswith(' " after=1')
    assert "".join(line.removeprefix(" " * 24) for line in lines[2:]).count("word") + lines[1].count("word") == 24


def test_a_word_that_is_longer_than_a_line_is_cut_where_the_line_ends() -> None:
    lines = laid_out(80, token="x" * 200)
    assert "".join(line.strip() for line in lines[1:]) == "token=" + "x" * 200


def test_wide_characters_are_counted_as_they_are_shown() -> None:
    lines = laid_out(80, note="日本" * 60)
    assert "".join(line.strip() for line in lines[1:]) == "note=" + "日本" * 60


def test_a_long_event_is_wrapped() -> None:
    lines = laid_out(60, event="word " * 20, n=1)
    assert len(lines) == 3
    assert lines[-1].endswith(" n=1")


def test_a_nested_value_that_does_not_fit_has_each_part_on_a_line_of_its_own() -> None:
    margin = " " * 22
    assert laid_out(80, basket=BASKET) == [
        "order placed",
        margin + "basket={",
        margin + '  "items": [',
        margin + '    {"sku": "green tea", "quantity": 2},',
        margin + '    {"sku": "milk", "quantity": 1}',
        margin + "  ],",
        margin + '  "customer": {"name": "Ann"}',
        margin + "}",
    ]


def test_plain_values_of_a_list_stand_side_by_side() -> None:
    margin = " " * 22
    values = [*range(1_000, 1_020), "two words", "x" * 60, None, True]
    assert laid_out(80, order=values) == [
        "order placed",
        margin + "order=[",
        margin + "  1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008,",
        margin + "  1009, 1010, 1011, 1012, 1013, 1014, 1015, 1016, 1017,",
        margin + '  1018, 1019, "two words",',
        margin + '  "' + "x" * 55,
        margin + "    " + 'xxxxx", null, true',
        margin + "]",
    ]


def test_a_nested_value_that_fits_stays_on_one_line() -> None:
    assert laid_out(200, basket=BASKET) == [
        "order placed" + " " * 19 + 'basket={"items": [{"sku": "green tea", "quantity": 2}, '
        '{"sku": "milk", "quantity": 1}], "customer": {"name": "Ann"}}'
    ]


def test_without_a_width_nothing_is_wrapped() -> None:
    assert shown(note="word " * 1_000, basket=[BASKET] * 100).count("\n") == 1


@pytest.mark.parametrize("record", NAMED)
@pytest.mark.parametrize("width", [None, MIN_WIDTH, 80, 300])
def test_every_known_record_can_be_shown(record: dict[str, Any], width: int | None) -> None:
    text = pretty(line_of(record), colour=False, width=width)
    assert text.endswith("\n")
    assert all(columns(line) <= (width or 10**6) for line in text.splitlines())


# Exceptions and stacks; what they look like is in test_tracebacks.py


def test_an_exception_is_shown_below_its_line() -> None:
    text = shown(exception={"type": "ValueError", "message": "no", "stacktrace": "Traceback:\n  here\nValueError: no"})
    assert text.splitlines()[1:] == ["    Traceback:", "      here", "    ValueError: no"]
    assert shown(exception={"type": "ValueError", "message": "no"}).splitlines()[1] == "    ValueError: no"


def test_a_stack_that_was_asked_for_is_shown_below_too() -> None:
    assert shown(stack="one\n  two").splitlines()[1:] == ["    one", "      two"]


def test_an_exception_or_stack_that_is_none_is_a_field() -> None:
    assert shown(exception="no", stack=[1]).endswith(" exception=no stack=[1]\n")


def test_a_failed_request_is_shown_with_its_exception() -> None:
    lines = pretty(line_of(ACCESS), colour=False).splitlines()
    assert "GET /orders/7?full=1 500 12.3 ms request failed" in lines[0]
    assert lines[-1] == "    shop.errors.OutOfStock: no tea"


# Hostile text


@pytest.mark.parametrize(
    ("said", "safe"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\u202e", "\\u202e"),
        ("\u2028", "\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("\x9b2J", "\\x9b2J"),
        ("é🐎", "é🐎"),
    ],
)
def test_what_could_move_the_cursor_is_shown_escaped(said: str, safe: str) -> None:
    assert escape(said) == safe
    named: dict[str, Any] = {said: 1}
    for width in (None, 80):
        assert safe in shown(event=said, width=width)
        assert safe in shown(field=said, width=width)
        assert safe in shown(**named, width=width)
        assert safe in shown(logger=said, width=width)
        assert safe in shown(level=said, width=width)


def check(text: str, width: int | None, colour: bool) -> list[str]:
    """See that a record is only where it may be, and return its lines."""
    if colour:
        text = ANSI.sub("", text)
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    assert not set("".join(lines)) & FORGING
    assert not [line for line in lines[1:] if not line.startswith("    ")]
    if width is not None:
        assert max(min(columns(line), cell_len(line)) for line in lines) <= width  # rich has a table of its own
    return lines


@given(st.dictionaries(HOSTILE, ANYTHING | HOSTILE), HOSTILE, HOSTILE, WIDTHS, st.booleans())
def test_no_record_whatever_forges_a_line_or_a_colour(
    fields: dict[str, object], event: str, logger: str, width: int | None, colour: bool
) -> None:
    line = encode(plain_fields({**fields, **BASE, "event": event, "logger": logger, "exception": None, "stack": None}))
    lines = check(pretty(line, colour=colour, width=width), width, colour)
    assert width is not None or len(lines) == 1


@given(RECORDS, WIDTHS, st.booleans())
def test_no_access_record_whatever_does(record: dict[str, Any], width: int | None, colour: bool) -> None:
    line = line_of({**record, "exception": None, "stack": None})
    lines = check(pretty(line, colour=colour, width=width), width, colour)
    assert width is not None or len(lines) == 1


def test_what_pretty_writes_is_utf_8_whatever_the_record_says() -> None:
    assert Pretty(Screen())(orjson.dumps({**BASE, "event": "é"})).decode().rstrip().endswith("é")
