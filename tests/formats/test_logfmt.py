import json
import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.records import ACCESS, BASE, NAMED, ORDER, RECORDS, canonical, formatted

FORGING = {chr(code) for code in [*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E, 0x2066, 0x200B, 0xFEFF]}
PAIR = re.compile(r'([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s="]*)(?: |$)')


def read(line: str) -> dict[str, Any]:
    """Read a line as a reader of logfmt does; in a bare word see a number, true, false or null."""
    pairs: dict[str, Any] = {}
    at = 0
    while at < len(line):
        match = PAIR.match(line, at)
        assert match is not None, line[at:]
        name = "" if match[1] == "%" else unquote(match[1], errors="strict")
        assert name not in pairs
        pairs[name] = _value(match[2])
        at = match.end()
    return pairs


def _value(said: str) -> Any:
    if said.startswith('"'):
        return json.loads(said)
    try:
        return json.loads(said)
    except ValueError:
        return said


def logfmt(record: dict[str, Any]) -> str:
    return formatted("logfmt", record).decode()[:-1]


def test_a_record_is_pairs_in_the_order_of_the_line() -> None:
    assert logfmt({**BASE, "order_id": 7, "sku": "green tea", "price": 12.5, "express": True, "note": None}) == (
        'timestamp=2026-11-20T08:00:00.123456Z level=info event="order placed" logger=shop.orders order_id=7 '
        'sku="green tea" price=12.5 express=true note=null'
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", '""'),
        ("7", '"7"'),
        ("-1.5e3", '"-1.5e3"'),
        ("true", '"true"'),
        ("null", '"null"'),
        ("nullable", "nullable"),
        ("Infinity", '"Infinity"'),
        ("-inf", '"-inf"'),
        ("NaN", '"NaN"'),
        ("info", "info"),
        ("\ufffd", '"\ufffd"'),
        ("\U000e0041", '"\\udb40\\udc41"'),
        ("a=b", '"a=b"'),
        ('say "tea"', '"say \\"tea\\""'),
        ("C:\\tea", '"C:\\\\tea"'),
        ("one\ntwo level=error", '"one\\ntwo level=error"'),
        ("\u202egnp.exe", '"\\u202egnp.exe"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("caf\u00e9", "caf\u00e9"),
        ([1, "a"], '"[1,\\"a\\"]"'),
        ({"a": 1}, '"{\\"a\\":1}"'),
    ],
)
def test_a_value_is_quoted_where_it_must_be(value: Any, said: str) -> None:
    assert logfmt({**BASE, "x": value}).partition(" x=")[2] == said


def test_what_may_not_stand_in_a_name_is_percent_encoded() -> None:
    assert logfmt({**BASE, "a b=c": 1, "": 2, "50%": 3}).endswith(" a%20b%3Dc=1 %=2 50%25=3")


def test_the_parts_of_an_exception_are_pairs_of_their_own() -> None:
    pairs = read(logfmt(ACCESS))
    assert pairs["exception.type"] == "shop.errors.OutOfStock"
    assert pairs["exception.stacktrace"] == ACCESS["exception"]["stacktrace"]


def test_a_field_that_is_named_like_such_a_part_is_not_lost() -> None:
    pairs = read(logfmt({**ACCESS, "exception.type": "mine"}))
    assert pairs["exception.type"] == "mine"
    assert json.loads(pairs["exception"]) == ACCESS["exception"]


@pytest.mark.parametrize("exception", [{}, {"": None}, {"a=b": 1}, None, "text"])
def test_an_exception_of_any_shape_reads_back(exception: Any) -> None:
    same(read(logfmt({**BASE, "exception": exception})), {**BASE, "exception": exception})


def same(pairs: dict[str, Any], record: dict[str, Any]) -> None:
    record = canonical(record)
    exception = record.get("exception")
    if isinstance(exception, dict) and "exception" not in pairs:
        del record["exception"]
        record |= {f"exception.{name}": value for name, value in exception.items()}
    assert set(pairs) == set(record)
    for name, value in record.items():
        got = json.loads(pairs[name]) if type(value) in (dict, list) else pairs[name]
        assert got == value
        assert type(got) is type(value)


@pytest.mark.parametrize("record", NAMED)
def test_every_known_record_reads_back_the_same(record: dict[str, Any]) -> None:
    same(read(logfmt(record)), record)


@given(RECORDS)
def test_every_record_whatever_reads_back_the_same(record: dict[str, Any]) -> None:
    line = logfmt(record)
    assert not set(line) & FORGING
    same(read(line), record)


@given(st.text(), st.text())
def test_no_text_forges_a_pair(name: str, value: str) -> None:
    line = logfmt({**ORDER, name + "x": value, "event": value})
    assert not set(line) & FORGING
    assert read(line)["event"] == canonical({"event": value})["event"]
