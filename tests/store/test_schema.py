import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.schema import COLUMNS
from fapilog.types import RESERVED_FIELDS

NAMES = [column.name for column in COLUMNS]


def store_of(path: Path, *lines: bytes) -> Path:
    (path / "segments").mkdir(parents=True, exist_ok=True)
    (path / "segments" / "0-1.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def rows(path: Path, query: str = "select * from logs") -> list[dict[str, Any]]:
    with LogStore(path) as store:
        answer = store.rows(query)
        assert store.warnings == []
        return [dict(zip(answer.columns, row, strict=True)) for row in answer]


def row_of(path: Path, /, **record: Any) -> dict[str, Any]:
    (row,) = rows(store_of(path, json.dumps(record).encode()))
    return {**row, "fields": json.loads(row["fields"])}


def test_the_view_has_the_documented_columns_and_fields(tmp_path: Path) -> None:
    with LogStore(store_of(tmp_path)) as store:
        described = store.sql("describe logs").fetchall()
    assert [row[:2] for row in described] == [*((column.name, column.type) for column in COLUMNS), ("fields", "JSON")]


def test_a_store_without_a_record_has_the_same_columns_as_one_with(tmp_path: Path) -> None:
    describe = "select column_name, column_type from (describe logs)"
    empty = rows(store_of(tmp_path / "empty"), describe)
    assert empty == rows(store_of(tmp_path / "full", b"{}"), describe)
    compact(tmp_path / "full")
    assert empty == rows(tmp_path / "full", describe)


def test_every_column_says_what_it_is() -> None:
    assert [column.name for column in COLUMNS if not column.description] == []
    assert set(NAMES) > RESERVED_FIELDS


def test_a_record_is_split_into_columns_and_fields(tmp_path: Path) -> None:
    row = row_of(
        tmp_path,
        timestamp="2026-11-20T08:49:53.123456Z",
        event="paid",
        status_code=201,
        duration_ms=1.5,
        exception={"type": "ValueError"},
        order={"id": 7, "note": None},
    )
    assert row["timestamp"] == datetime(2026, 11, 20, 8, 49, 53, 123456)
    assert (row["event"], row["status_code"], row["duration_ms"]) == ("paid", 201, 1.5)
    assert json.loads(row["exception"]) == {"type": "ValueError"}
    assert row["fields"] == {"order": {"id": 7, "note": None}}


def test_a_value_that_does_not_fit_its_column_is_kept_in_fields(tmp_path: Path) -> None:
    misfits = {
        "timestamp": "2026-11-20T10:00:00+02:00",
        "status_code": 99999,
        "duration_ms": "fast",
        "request_bytes": 1.5,
    }
    row = row_of(tmp_path, event="odd", mine=1, **misfits)
    assert [row[name] for name in misfits] == [None] * len(misfits)
    assert row["fields"] == {"mine": 1, **misfits}


def test_a_number_in_a_column_of_text_is_its_text(tmp_path: Path) -> None:
    row = row_of(tmp_path, user_id=7, method=True)
    assert (row["user_id"], row["method"], row["fields"]) == ("7", "true", {})


def test_a_nested_value_in_a_column_of_text_is_its_json(tmp_path: Path) -> None:
    row = row_of(tmp_path, path={"a": None, "b": [1]}, user_agent=["curl"])
    assert (row["path"], row["user_agent"], row["fields"]) == ('{"a":null,"b":[1]}', '["curl"]', {})


def test_text_in_a_column_of_numbers_does_not_fit_though_it_looks_like_one(tmp_path: Path) -> None:
    row = row_of(tmp_path, status_code="200")
    assert (row["status_code"], row["fields"]) == (None, {"status_code": "200"})


def test_keys_of_any_kind_are_kept_apart(tmp_path: Path) -> None:
    keys = {"a.b": 1, "$": 2, "$.event": 3, "A": 4, "a": 5, "": 6, 'q"uo\\te': 7, "/": 8, "~1": 9, "Event": 10, "é": 11}
    row = row_of(tmp_path, event="x", **keys)
    assert row["event"] == "x"
    assert row["fields"] == keys


def test_ten_thousand_distinct_keys_are_ten_thousand_fields(tmp_path: Path) -> None:
    lines = [json.dumps({f"key {number}": number}).encode() for number in range(5_000)]
    lines.append(json.dumps({f"key {number}": number for number in range(5_000, 10_000)}).encode())
    found: dict[str, int] = {}
    for row in rows(store_of(tmp_path, *lines), "select fields from logs"):
        found |= json.loads(row["fields"])
    assert found == {f"key {number}": number for number in range(10_000)}


def test_what_is_no_object_is_left_out(tmp_path: Path) -> None:
    lines = [
        *(b"", b"   ", b"null", b"1", b'"text"', b"[1]", b'{"torn": ', b"\0" * 1000, b'{"event": "\xff"}', b"{} {}"),
        b'{"event": "whole"}',
    ]
    with LogStore(store_of(tmp_path, *lines)) as store:
        assert list(store.rows("select event from logs")) == [("whole",)]
        assert list(store.rows("select event from logs where fields = '{}'")) == [("whole",)]


def test_a_segment_that_ends_in_zeros_loses_no_record_before_them(tmp_path: Path) -> None:
    store = store_of(tmp_path, b'{"event": "whole"}')
    with (store / "segments" / "0-1.jsonl").open("ab") as segment:
        segment.write(b"\0" * 20_000_000)
    assert [row["event"] for row in rows(store)] == ["whole"]
    assert compact(store).skipped_lines == 1
    assert [row["event"] for row in rows(store)] == ["whole"]


def test_a_line_of_several_megabytes_is_a_record(tmp_path: Path) -> None:
    store = store_of(
        tmp_path, b'{"event": "small"}', json.dumps({"event": "x" * 5_000_000}).encode(), b'{"event": "y"}'
    )
    lengths = "select length(event) as n from logs order by n"
    assert [row["n"] for row in rows(store, lengths)] == [1, 5, 5_000_000]
    assert compact(store).problems == []
    assert [row["n"] for row in rows(store, lengths)] == [1, 5, 5_000_000]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(
    st.sampled_from([name for name in NAMES if name not in RESERVED_FIELDS])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    json_values,
    max_size=8,
).map(lambda record: {key: value for key, value in record.items() if key not in RESERVED_FIELDS})


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(records, min_size=1, max_size=20))
def test_nothing_of_any_record_is_lost_nor_told_twice(batch: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    store = store_of(
        tmp_path_factory.mktemp("store"),
        *(json.dumps({"id": str(index), **record}).encode() for index, record in enumerate(batch)),
    )
    live = rows(store, "select * from logs order by id::int")
    assert len(live) == len(batch)
    for record, row in zip(batch, live, strict=True):
        fields = json.loads(row.pop("fields"))
        assert fields == {key: value for key, value in record.items() if key not in NAMES or key in fields}
        for name in NAMES[1:]:
            given_value = record.get(name)
            if name in RESERVED_FIELDS:
                continue
            if given_value is None or name in fields:
                assert row[name] is None
            elif name == "exception":
                assert json.loads(row[name]) == given_value
            elif isinstance(row[name], str):
                assert row[name] == given_value or json.loads(row[name]) == given_value
            else:
                assert math.isclose(row[name], given_value)
    compact(store)
    for row, before in zip(rows(store, "select * from logs order by id::int"), live, strict=True):
        for name in NAMES:
            assert row[name] == before[name] or float(row[name]) == float(before[name]), name  # 1e16 is 1e+16


ODD = [
    *(
        "text",
        "",
        "null",
        "7",
        "7.0",
        " ",
        "é\u2028\x00",
        0,
        7,
        -1,
        7.5,
        99_999,
        2**63,
        2**64,
        1e15,
        True,
        False,
        None,
    ),
    *(
        [],
        [1, "a"],
        {},
        {"a": None},
        "2026-11-20T08:00:00Z",
        "2026-11-20 08:00:00.1Z",
        "2026-11-20Z",
        "0000-01-01T00:00:00Z",
    ),
    *(
        "0001-01-01T00:00:00Z",
        "0010-01-01T00:00:00Z",
        "1026-11-20T08:00:00Z",
        "2026-11-20T08:00:00",
        "2026-11-20T08:00:00+02Z",
    ),
    *(
        "12026-01-01T00:00:00Z",
        "0101-01-01 00:00:00Z\n",
        "Z",
        "2026-11-20T08:00:00\nZ",
        "2026-11-20T25:00:00Z",
        "-infinityZ",
    ),
]


def test_a_column_is_the_same_whichever_others_are_asked_for(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": f"{number}", **dict.fromkeys(NAMES[:4] + NAMES[5:], value)})
        for number, value in enumerate(ODD)
    ]
    store_of(
        tmp_path,
        *(line.encode() for line in lines),
        b'{"id":"twice","id":"x","level":"a","level":"b"}',
        b'{"LEVEL":"c"}',
    )
    every = rows(tmp_path, "select * from logs order by id")
    for name in NAMES:
        for names in ({name, "id"}, {name, "id", "timestamp", "duration_ms"}):
            query = f"select {', '.join(sorted(names))} from logs order by id"  # noqa: S608 - our columns
            assert rows(tmp_path, query) == [{each: row[each] for each in sorted(names)} for row in every], name
    compact(tmp_path)
    assert rows(tmp_path, "select * exclude (fields) from logs order by id") == [
        {name: row[name] for name in NAMES} for row in every
    ]
