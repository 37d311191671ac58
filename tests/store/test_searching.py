import json
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fapilog.errors import MissingPackageError, QueryError, QuerySyntaxError
from fapilog.store import LogQuery, LogRecord, LogStore, Page, searching
from fapilog.store.compact import compact
from fapilog.store.conditions import Parameters, condition, needles
from fapilog.store.language import Node, unparse
from fapilog.store.matching import matcher
from fapilog.store.parser import parse
from fapilog.store.schema import lines_query, literal, live_query
from tests.store.test_parser import nodes

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)

ACCESS: dict[str, Any] = {
    "timestamp": "2026-11-20T08:00:00.000001Z",
    "id": "00000000000000aa-1",
    "level": "error",
    "event": "Payment declined",
    "logger": "shop.pay",
    "service": "shop",
    "trace_id": "a" * 32,
    "request_id": "req-1",
    "method": "POST",
    "path": "/orders/7",
    "route": "/orders/{id}",
    "status_code": 502,
    "duration_ms": 750.5,
    "user": {"plan": "pro", "n": 7},
    "tags": ["red", 5, None, {"x": 1}],
    "exception": {"type": "ValueError", "message": 'no "x" é'},
    "amount": "12",
    "paid": True,
    "http.method": "GET",
    "a/b~c": {"d.e": 1},
    "Amount": 99,
}


def write(path: Path, *records: dict[str, Any], name: str = "0-1.jsonl") -> Path:
    (path / "segments").mkdir(parents=True, exist_ok=True)
    with (path / "segments" / name).open("a") as segment:
        segment.writelines(json.dumps(record) + "\n" for record in records)
    return path


def numbered(number: int, **fields: Any) -> dict[str, Any]:
    moment = NOW + timedelta(seconds=number)
    return {
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "id": f"{number % 3:016x}-{number // 3 + 1}",
        "level": "info",
        "event": f"event {number}",
    } | fields


def events(page: Page) -> list[str | None]:
    return [record.event for record in page]


FINDS = [
    "",
    "level:error",
    "level:ERROR",
    "level:>=warning",
    "level:<critical",
    "level:error..critical",
    "level:err*",
    'level:"error"',
    "declined",
    "DECLINED",
    '"payment declined"',
    "pay*ined",
    "valueerror",
    r'"no \"x\""',
    "É",
    "event:Payment*",
    'event:"Payment declined"',
    "route:/orders/*",
    "route:*{id}",
    "route:*orders*",
    "route:/o*r*}",
    "method:post",
    "status_code:502",
    "status_code:5*",
    "status_code:>=500",
    "status_code:500..599",
    "duration_ms:>500",
    "duration_ms:750.5",
    "duration_ms:..1000",
    "user.plan:pro",
    "user.n:>6",
    "user.n:7",
    'user.n:"7"',
    "user:*",
    "tags:red",
    "tags:>4",
    "tags:*",
    "tags.0:red",
    "exception:*",
    "exception.type:ValueError",
    "exception.message:*x*",
    "amount:12",
    "amount:12.0",
    "amount:>11",
    "amount:10..13",
    "Amount:99",
    "paid:true",
    "http.method:GET",
    '"http.method":GET',
    '"a/b~c"."d.e":1',
    "nothing:x OR paid:true",
    "-nothing:x",
    "-nothing:*",
    "-level:info",
    "-(level:error nothing:x)",
    "timestamp:2026-11-20",
    "timestamp:2026-11-20T08",
    "timestamp:>2026-11-19",
    "timestamp:<=2026-11-20",
    "timestamp:2026-11-01..2026-11-20",
    "timestamp:>5h",
    'id:"00000000000000aa-1"',
    'level:error route:/orders/* duration_ms:>500 "payment declined" -service:batch',
]

FINDS_NOT = [
    "level:warning",
    "level:>error",
    'level:"ERROR"',
    "accepted",
    "event:payment*",
    "event:Payment",
    'method:"post"',
    "status_code:50",
    "status_code:abc",
    "duration_ms:>750.5",
    "user.plan:Pro",
    "User.plan:pro",
    "user.plan.x:*",
    "user:pro",
    "tags:x",
    "amount:>12",
    'amount:"12.0"',
    "nothing:*",
    "nothing:x",
    "-declined",
    "-user_id:* -declined",
    "paid:false",
    "timestamp:2026-11-19",
    "timestamp:>2026-11-20",
    "timestamp:>1h",
    "id:*-2",
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    queries = [*FINDS, *FINDS_NOT]
    answers = results([ACCESS], [parse(query) for query in queries], tmp_path_factory.mktemp("found"))
    return {query: answer[0] for query, answer in zip(queries, answers, strict=True)}


@pytest.mark.parametrize("query", FINDS)
def test_a_record_is_found_by(query: str, found: dict[str, bool]) -> None:
    assert matcher(parse(query), now=NOW)(ACCESS)
    assert found[query]


@pytest.mark.parametrize("query", FINDS_NOT)
def test_a_record_is_not_found_by(query: str, found: dict[str, bool]) -> None:
    assert not matcher(parse(query), now=NOW)(ACCESS)
    assert not found[query]


def results(records: list[dict[str, Any]], queries: list[Node], path: Path) -> list[list[bool]]:
    """Whether each query is true of each record, as SQL has it."""
    lines = path / "lines.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    with duckdb.connect() as database:
        source = live_query(lines_query(literal(str(lines))))
        database.execute(f"CREATE TABLE logs AS SELECT * FROM ({source}) ORDER BY CAST(fields->>'order' AS INT)")  # noqa: S608
        answers = []
        for node in queries:
            parameters = Parameters()
            answer = database.execute(f"SELECT {condition(node, parameters, now=NOW)} FROM logs", parameters.values)  # noqa: S608
            answers.append([row[0] is True for row in answer.fetchall()])
        return answers


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-20, 20),
    st.sampled_from([0.5, -1.5, 100.0, 10**15]),
    st.sampled_from(["a", "b", "ab", "5", "05", "-1.5", "1e1", "OR", "", "a b", "*", "\\", '"', "error", "É", "x\ny"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
names = st.sampled_from(["a", "b", "user", "-", "user.a", "User", "a/b"])
columns = st.fixed_dictionaries(
    {},
    optional={
        "level": st.sampled_from(["info", "error", "critical", "notice"]),
        "event": scalars.filter(lambda value: isinstance(value, str)),
        "timestamp": st.sampled_from(["2026-11-20T00:00:00Z", "2026-11-19T23:59:59.999999Z", "2026-11-20", "soon"]),
        "status_code": st.sampled_from([200, 500, 99999, "teapot", "500", 7.0, 7.5, [500, "x"], {"a": 5}, None, True]),
        "user_id": values,
        "exception": values,
    },
)
records = st.builds(lambda some, fields: fields | some, columns, st.dictionaries(names, values, max_size=5))
column_queries = st.sampled_from(
    [
        "level:error", "level:>=error", "level:<error", 'level:"notice"', "level:*c*", "timestamp:2026-11-20",
        "timestamp:<=2026-11-19", "status_code:500", "status_code:>=500", "status_code:5*", "status_code:teapot",
        "status_code:..7", "status_code:*", "status_code.a:5", "user_id:a", "user_id:>1", "user_id:*", "user_id.a:*",
        "exception:*", "exception:a", "exception.a:a", "exception.a:*", "event:a*", "a", "É", '"5"', "error",
    ]
).map(parse)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, max_size=8), st.lists(nodes | column_queries, min_size=1, max_size=10))
def test_sql_finds_what_plain_python_finds(tmp_path: Path, found: list[dict[str, Any]], queries: list[Node]) -> None:
    ordered = [record | {"order": number} for number, record in enumerate(found)]
    tests = [matcher(node, now=NOW) for node in queries]
    plain = [[test(record) for record in ordered] for test in tests]
    assert dict(zip(map(unparse, queries), results(ordered, queries, tmp_path), strict=True)) == dict(
        zip(map(unparse, queries), plain, strict=True)
    )
    lines = [json.dumps(record).lower() for record in ordered]
    for node, fits in zip(queries, plain, strict=True):
        for line, fit in zip(lines, fits, strict=True):
            assert not fit or all(needle.lower() in line for needle in needles(node)), (unparse(node), line)


def test_pages_have_each_record_once_while_others_are_written(tmp_path: Path) -> None:
    same = {"timestamp": "2026-11-20T12:00:05.000000Z", "level": "info", "event": "event same"}
    write(tmp_path, *map(numbered, range(40)), *[same] * 9, *[{"event": "event never"}] * 5)
    compact(tmp_path)
    for order in ("newest", "oldest"):
        found: list[str | None] = []
        cursor = None
        with LogStore(tmp_path) as store:
            while True:
                page = store.search(query="event", order=order, limit=4, cursor=cursor)
                found += events(page)
                write(tmp_path, numbered(100 if order == "newest" else -100, event="event late"), name="0-2.jsonl")
                if (cursor := page.next_cursor) is None:
                    break
        sorted_numbers = [f"event {number}" for number in range(40)]
        assert [event for event in found if event not in ("event same", "event never", "event late")] == (
            sorted_numbers[::-1] if order == "newest" else sorted_numbers
        )
        assert (found.count("event same"), found.count("event never")) == (9, 5)
        assert found[-5:] == ["event never"] * 5
        (tmp_path / "segments" / "0-2.jsonl").write_text("")


def test_a_page_is_the_same_however_far_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = random.Random(7).sample(range(150), 150)  # noqa: S311 - no secret
    for number in range(6):  # files that overlap, some more than others
        write(tmp_path, *(numbered(each // 3) for each in shuffled[number * 20 :][:30]), name=f"0-{number + 1}.jsonl")
        compact(tmp_path)
    write(tmp_path, *(numbered(each) for each in range(95, 105)), {"event": "event never"}, name="0-99.jsonl")
    with LogStore(tmp_path) as store:
        for order in ("newest", "oldest"):
            for query in ("event", "event:*7"):
                pages: list[list[Any]] = []
                for rows in (10**9, 7):
                    monkeypatch.setattr(searching, "_FIRST_ROWS", rows)
                    monkeypatch.setattr(searching, "_ROWS_A_RECORD", 1)
                    monkeypatch.setattr(searching, "_WIDER", 3)
                    found: list[Any] = []
                    cursor = None
                    while True:
                        page = store.search(query, order=order, limit=35, cursor=cursor)
                        found += [(record.timestamp, record.id) for record in page]
                        if (cursor := page.next_cursor) is None:
                            break
                    pages.append(found)
                assert pages[0] == pages[1]
                assert len(pages[0]) == len(list(store.sql("from logs").fetchall())) or query != "event"


def test_records_of_one_microsecond_come_in_the_order_they_were_counted(tmp_path: Path) -> None:
    write(tmp_path, *(numbered(0, id=f"00000000000000aa-{count}", n=count) for count in (9, 10, 100, 11)))
    with LogStore(tmp_path) as store:
        assert [record.fields["n"] for record in store.search(order="oldest")] == [9, 10, 11, 100]


def test_a_relative_time_stays_what_it_was_on_the_first_page(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    moments = [(now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%fZ") for hours in (1, 2, 3, 30)]
    write(tmp_path, *(numbered(0, timestamp=moment) for moment in moments))
    with LogStore(tmp_path) as store:
        first = store.search(since="1d", limit=1)
        second = store.search(since="1d", limit=1, cursor=first.next_cursor)
        assert len(store.search(since="1d", cursor=second.next_cursor)) == 1
        assert len(store.search(since=timedelta(days=2))) == 4
        assert len(store.search(until=now - timedelta(hours=2, minutes=30))) == 2


def test_all_fields_of_a_query_must_hold(tmp_path: Path) -> None:
    write(tmp_path, ACCESS, numbered(1))
    wanted: dict[str, Any] = {
        "query": "payment",
        "text": "DECLINED",
        "level": "warn",
        "service": "sh*",
        "logger": "shop.pay",
        "since": datetime(2026, 11, 20),
        "until": "2026-11-21",
        "trace_id": "a" * 32,
        "request_id": "req-1",
        "route": "/orders/*",
        "method": "post",
        "status": "5xx",
        "min_duration_ms": 700,
        "max_duration_ms": 800,
        "fields": {"user.plan": ["free", "pro"], "amount": ">11", "paid": True, "nothing": None},
    }
    other: dict[str, Any] = {
        "query": "accepted",
        "text": "accepted",
        "level": "critical",
        "service": "shops",
        "logger": "shop",
        "since": "2026-11-20T09:00",
        "until": "2026-11-20T08:00",
        "trace_id": "b" * 32,
        "request_id": "req-*",
        "route": "/orders/{n}",
        "method": "GET",
        "status": 503,
        "min_duration_ms": 751,
        "max_duration_ms": 750,
        "fields": {"user.plan": "pr"},
    }
    with LogStore(tmp_path) as store:
        assert events(store.search(LogQuery(**wanted))) == ["Payment declined"]
        for name, value in other.items():
            assert events(store.search(LogQuery(**wanted), **{name: value})) == [], name
        assert events(store.search(span_id="c" * 16)) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"level": "high"}, "level: no level is called 'high'; known: trace"),
        ({"since": "soon"}, "since: 'soon' is no time; write 30m"),
        ({"limit": 0}, "limit: Input should be greater"),
        ({"order": "best"}, "order: Input should be 'newest' or 'oldest'"),
        ({"lvel": "error"}, "lvel: Extra inputs"),
        ({"fields": {"a b": 1}}, "fields: 'a b' is no name of a field"),
        ({"fields": {"a": {"b": 1}}}, "fields: a field cannot be compared with {'b': 1}"),
        ({"fields": {"a": float("nan")}}, "fields: a field is never nan"),
        ({"status": ">"}, "status: '>' is no status; write 404, >=500, 500..599 or 5xx"),
        ({"status": "9xx"}, "status: '9xx' is no status"),
        ({"cursor": "AAAA"}, "'AAAA' is no cursor"),
        ({"cursor": "é"}, "'é' is no cursor"),
    ],
)
def test_what_is_wrong_in_a_query_is_said(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    with LogStore(write(tmp_path, ACCESS)) as store, pytest.raises(QueryError) as caught:
        store.search(**asked)
    assert str(caught.value).startswith(message)


def test_a_query_as_text_says_where_it_is_wrong(tmp_path: Path) -> None:
    with LogStore(write(tmp_path, ACCESS)) as store:
        with pytest.raises(QuerySyntaxError) as caught:
            store.search("level:eror")
        assert caught.value.position == 6
        with pytest.raises(QuerySyntaxError):
            store.search(query="level:eror")


def test_a_cursor_of_another_query_is_refused(tmp_path: Path) -> None:
    with LogStore(write(tmp_path, *map(numbered, range(5)))) as store:
        cursor = store.search("event", limit=2).next_cursor
        with pytest.raises(QueryError, match="this cursor is of another query"):
            store.search("events", limit=2, cursor=cursor)
        assert len(store.search("event", limit=10, cursor=cursor)) == 3


def test_a_record_is_given_as_it_was_logged(tmp_path: Path) -> None:
    odd = {
        "timestamp": "soon",
        "event": 7,
        "status_code": "teapot",
        "user_id": {"n": 1},
        "exception": "text",
        "x": None,
    }
    write(tmp_path, ACCESS, odd)
    with LogStore(tmp_path) as store:
        first, second = store.search(order="newest")
    assert first.flat() == ACCESS
    assert second.flat() == {**odd, "event": "7", "user_id": '{"n":1}'}
    assert first.timestamp == datetime(2026, 11, 20, 8, 0, 0, 1, tzinfo=UTC)
    assert LogRecord.of_flat(ACCESS) == first
    assert LogRecord.model_validate_json(first.model_dump_json()) == first


def test_a_page_comes_as_whatever_is_worked_with(tmp_path: Path) -> None:
    with LogStore(write(tmp_path, ACCESS, numbered(1))) as store:
        page = store.search(order="oldest")
        described = store.sql("from logs").columns
    assert list(page) == page.records
    assert len(page) == 2
    assert page.dicts()[0] == ACCESS
    for frame in (page.df(), page.pl()):
        assert list(frame.columns) == described
        assert frame["status_code"][0] == 502
        assert frame["event"][1] == "event 1"
        assert json.loads(frame["fields"][0])["user"] == {"plan": "pro", "n": 7}
    assert page.arrow().column_names == described
    assert page.arrow()["timestamp"][0].as_py() == datetime(2026, 11, 20, 8, 0, 0, 1)
    assert [len(Page([]).df()), len(Page([]).pl()), Page([]).arrow().num_rows] == [0, 0, 0]


@pytest.mark.parametrize(("package", "form"), [("pyarrow", Page.arrow), ("pandas", Page.df), ("polars", Page.pl)])
def test_a_form_whose_package_is_missing_says_what_to_install(
    package: str, form: Callable[[Page], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"needs a package: pip install {package}"):
        form(Page([]))


def test_ten_thousand_distinct_keys_are_as_good_as_one(tmp_path: Path) -> None:
    write(tmp_path, *(numbered(n, **{f"key {n}": n, f"other{n % 100}.x": n}) for n in range(10_000)))
    compact(tmp_path)
    with LogStore(tmp_path) as store:
        assert events(store.search('"key 4711":4711')) == ["event 4711"]
        assert len(store.search("other17.x:>5000", limit=100)) == 50


def test_a_damaged_file_is_told_with_the_page(tmp_path: Path) -> None:
    compact(write(tmp_path, ACCESS))
    (file,) = (tmp_path / "parquet").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    with LogStore(tmp_path) as store:
        (warning,) = store.search().warnings
    assert "is damaged and was left out, with 1 records" in warning


def test_a_query_that_finds_nothing_says_which_column_may_be_meant(tmp_path: Path) -> None:
    with LogStore(write(tmp_path, ACCESS, numbered(1, status="paid"))) as store:
        (hint,) = store.search("status:>=500 method:POST").warnings
        assert hint == "nothing was found; what fapilog logs as 'status_code' is not called 'status'"
        assert store.search("status:paid").warnings == ()
        assert store.search("amount:>1000").warnings == ()


def test_files_of_another_time_are_not_opened(tmp_path: Path) -> None:
    compact(write(tmp_path, ACCESS))
    (file,) = (tmp_path / "parquet").rglob("*.parquet")
    file.write_bytes(b"no longer Parquet")
    with LogStore(tmp_path) as store:
        assert store.search(since="2026-11-20T09:00").warnings == ()
        assert store.search(until="2026-11-20T07:00").warnings == ()
        assert len(store.search(until="2026-11-20T09:00").warnings) == 1


def test_a_year_that_python_does_not_know_harms_no_query(tmp_path: Path) -> None:
    odd = ["99999-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "-5000-01-01T00:00:00Z", "infinityZ", "2026-11-20Z"]
    write(tmp_path, *(numbered(1, timestamp=moment, event=moment, level="error") for moment in odd), numbered(2))
    for _ in ("live", "as Parquet"):
        with LogStore(tmp_path) as store:
            page = store.search(limit=2)
            rest = store.search(cursor=page.next_cursor)
            assert page.records[0].event == "event 2"
            assert {record.event for record in [*page, *rest]} == {"event 2", *odd}
            assert all(record.timestamp is None for record in rest)
            assert store.stats().records == 6
            assert sum(group.count for group in store.errors()) == 5
            assert len(store.search(since="2026-11-01")) == 1
        compact(tmp_path)


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("declined", ["declined"]),
        ('"card 1234 declined"', [" declined"]),
        ("time*out 42 a,b", ["time", "out"]),
        ("level:error Declined user.plan:pro tags.0:a amount:>5", ["Declined", 'plan"', 'amount"']),
        ("status_code:500 exception.type:E user_id.a:*", []),
        ("-declined (abc OR def) -amount:5", []),
        ('"café" naïve', ["caf"]),
    ],
)
def test_what_must_be_in_the_line_of_a_record_is_known_from_the_query(query: str, texts: list[str]) -> None:
    assert needles(parse(query)) == texts


@pytest.mark.parametrize(
    "text", ["red card", "1,2", "1e3", "1000.0", 'a"b', "\\", "%", "red%", "é", "É", "plan", "17 Dec"]
)
def test_a_text_is_found_in_live_lines_and_in_parquet_alike(tmp_path: Path, text: str) -> None:
    values = ["RED CARD", [1, 2], 1e3, 'a"b', "a\\b", "100 %", "red%", "é", {"plan": 1}, "on 17 dec"]
    store = write(tmp_path, *({"id": f"{number}", "a": value} for number, value in enumerate(values)))
    with LogStore(store) as opened:
        live = [record.id for record in opened.search(text=text, order="oldest")]
        compact(store)
        assert [record.id for record in opened.search(text=text, order="oldest")] == live
