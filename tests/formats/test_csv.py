import csv
import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.formats.csv import COLUMNS, Csv
from fapilog.store import schema
from tests.formats.records import ACCESS, BASE, NAMED, ORDER, RECORDS, canonical, formatted
from tests.formats.test_logfmt import FORGING

NUMBERS = {"pid", "status_code", "duration_ms", "request_bytes", "response_bytes"}


def rows(text: str) -> list[dict[str, str]]:
    names = Csv.header.decode().rstrip("\n").split(",")
    return [dict(zip(names, row, strict=True)) for row in csv.reader(io.StringIO(text), strict=True)]


def row_of(record: dict[str, Any]) -> dict[str, str]:
    (row,) = rows(formatted("csv", record).decode())
    return row


def read(row: dict[str, str]) -> dict[str, Any]:
    """Return the record that a row stands for."""
    record: dict[str, Any] = {}
    for name, cell in row.items():
        if cell and name in NUMBERS | {"exception"}:
            record[name] = json.loads(cell)
        elif cell and name != "fields":
            plain = cell.removeprefix("'")
            record[name] = re.sub(r"(?:\\u[0-9a-f]{4})+|\\.", lambda match: json.loads(f'"{match[0]}"'), plain)
    return {**record, **json.loads(row["fields"] or "{}")}


def test_the_columns_are_those_of_the_store() -> None:
    assert list(COLUMNS) == [column.name for column in schema.COLUMNS]
    assert Csv.header.decode() == ",".join([*COLUMNS, "fields\n"])


def test_a_record_is_a_row_and_what_has_no_column_is_json_in_the_last() -> None:
    row = row_of(ORDER)
    assert {name: cell for name, cell in row.items() if cell} == {
        "timestamp": "2026-11-20T08:00:00.123456Z",
        "level": "info",
        "event": "order placed",
        "logger": "shop.orders",
        "id": "00112233aabbccdd-7",
        "service": "shop",
        "env": "production",
        "version": "1.2.0",
        "host": "web-1",
        "pid": "4242",
        "trace_id": ORDER["trace_id"],
        "span_id": ORDER["span_id"],
        "request_id": "req-1",
        "fields": '{"trace_flags":"01","order_id":7,"sku":"tea","price":12.5,"express":true,"note":null}',
    }


def test_a_stack_of_many_lines_is_in_one() -> None:
    assert json.loads(row_of(ACCESS)["exception"]) == ACCESS["exception"]


@pytest.mark.parametrize(
    ("said", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("'quoted'", "''quoted'"),
        ("\uff1d1", "'\uff1d1"),
        ("a=1", "a=1"),
        ("one\ntwo", "one\\ntwo"),
        ("C:\\tea", "C:\\\\tea"),
        ("a\u202eb", "a\\u202eb"),
        ("\t=1", "\\t=1"),
        ('say "tea", twice', 'say "tea", twice'),
    ],
)
def test_text_is_neither_a_formula_nor_a_second_line(said: str, cell: str) -> None:
    assert row_of({**BASE, "event": said})["event"] == cell


def test_a_negative_number_is_a_number() -> None:
    assert row_of({**BASE, "duration_ms": -1.5})["duration_ms"] == "-1.5"


def test_a_value_that_does_not_fit_its_column_and_empty_text_are_in_the_last() -> None:
    row = row_of({**BASE, "status_code": "x", "user_id": "", "pid": True, "path": None})
    assert (row["status_code"], row["user_id"], row["pid"], row["path"]) == ("", "", "", "")
    assert json.loads(row["fields"]) == {"status_code": "x", "user_id": "", "pid": True, "path": None}


@pytest.mark.parametrize("record", NAMED)
def test_every_known_record_reads_back_the_same(record: dict[str, Any]) -> None:
    assert read(row_of(record)) == canonical(record)


@given(RECORDS)
def test_every_record_whatever_reads_back_the_same(record: dict[str, Any]) -> None:
    made = formatted("csv", record).decode()
    assert not set(made[:-1]) & FORGING
    assert read(row_of(record)) == canonical(record)


@given(st.text(), st.text())
def test_no_text_forges_a_cell_or_a_row(event: str, user: str) -> None:
    record = {**ORDER, "event": event, "user_id": user}
    assert read(row_of(record)) == canonical(record)
    assert not row_of(record)["event"].startswith(("=", "+", "-", "@"))
