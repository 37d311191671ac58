import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fapilog.errors import QueryError, QueryLimitError
from fapilog.store import LogStore, confined
from fapilog.store.compact import compact
from fapilog.store.sandbox import SandboxLimits, job_of

ENDLESS = "with recursive t(n) as (select 1 union all select n + 1 from t) select count(*) from t"
SECRET = "not for the asker"


def record(number: int) -> str:
    moment = f"2026-11-20T08:00:{number % 60:02}.000000Z"
    return (
        json.dumps({"timestamp": moment, "id": f"{7:016x}-{number}", "level": "info", "event": f"event {number}"})
        + "\n"
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    segments = tmp_path / "logs" / "segments"
    segments.mkdir(parents=True)
    (segments / "0-1.jsonl").write_text(record(1))
    compact(tmp_path / "logs")
    (segments / "0-2.jsonl").write_text(record(2))
    (tmp_path / "secret.csv").write_text(SECRET)
    with LogStore(tmp_path / "logs") as opened:
        yield opened


def test_a_query_from_outside_reads_parquet_and_live_segments(store: LogStore) -> None:
    answer = store.sandbox("select event, timestamp from logs where event >= $1 order by all", ["event 1"]).answer()
    assert (answer.columns, answer.types) == (["event", "timestamp"], ["VARCHAR", "TIMESTAMP"])
    assert answer.rows == [["event 1", "2026-11-20T08:00:01"], ["event 2", "2026-11-20T08:00:02"]]
    assert (answer.truncated, answer.warnings) == (None, ())
    assert store.sandbox("select message from job_logs order by 1").answer().rows == [["event 1"], ["event 2"]]
    assert len(store.sandbox("select * from pipeline_logs").answer().rows) == 2


def test_every_value_comes_as_json(store: LogStore) -> None:
    query = (
        "select 1.5::decimal(4, 2), '\\x00'::blob, [1, null], {'a': date '2026-11-20'}, interval 1 hour, "
        "'nan'::double, now() is not null, timestamptz '2026-11-20 08:00:00+00', 'é' as a, 2 as a, "
        "uuid '550e8400-e29b-41d4-a716-446655440000'"
    )
    (row,) = store.sandbox(query).answer().rows
    assert row == [
        1.5, "00", [1, None], {"a": "2026-11-20"}, 3600.0, None, True, "2026-11-20T08:00:00", "é", 2,
        "550e8400-e29b-41d4-a716-446655440000",
    ]  # fmt: skip


REFUSED = [
    ("select * from read_csv('{secret}')", "the function 'read_csv' is not for queries from outside"),
    ("select * from read_text('{secret}')", "the function 'read_text'"),
    ("select (select count(*) from read_csv('{secret}'))", "the function 'read_csv'"),
    ("select * from logs where id in (select content from read_text('{secret}'))", "the function 'read_text'"),
    ("select * from '{secret}'", "there is no table"),
    ('select * from "{secret}"', "there is no table"),
    ('with "{secret}" as (select 1) select * from "{secret}"', "there is no table"),
    ("select * from main.read_csv('{secret}')", "the function 'read_csv'"),
    ("select * from logs, lateral (select * from read_csv('{secret}'))", "the function 'read_csv'"),
    ("with a as materialized (from read_text('{secret}')) from a", "the function 'read_text'"),
    ("select list_transform([1], lambda x: (select max(content) from read_text('{secret}')))", "the function 'read_te"),
    ("select * from logs union all select * from read_json('{secret}')", "the function 'read_json'"),
    ("select columns(*) from sniff_csv('{secret}')", "the function 'sniff_csv'"),
    ("select system.main.current_setting('threads')", "the function 'current_setting'"),
    ("from python_scan_all_frames", "there is no table"),
    ("from memory.main.logs", "there is no table 'memory.logs'"),
    ("from glob('/*')", "the function 'glob'"),
    ("select * from query('select 1')", "the function 'query'"),
    ("select getenv('HOME')", "the function 'getenv'"),
    ("select current_setting('allowed_paths')", "the function 'current_setting'"),
    ("select * from duckdb_settings()", "the function 'duckdb_settings'"),
    ("select * from information_schema.tables", "there is no table 'information_schema.tables'"),
    ("select * from duckdb_views", "there is no table 'duckdb_views'"),
    ("select * from sqlite_master", "there is no table 'sqlite_master'"),
    ("copy (select 1) to '{secret}'", "a query is one SELECT statement"),
    ("copy logs from '{secret}'", "a query is one SELECT statement"),
    ("attach '{secret}.db'", "a query is one SELECT statement"),
    ("pragma version", "a query is one SELECT statement"),
    ("set threads = 8", "a query is one SELECT statement"),
    ("reset threads", "a query is one SELECT statement"),
    ("install httpfs", "a query is one SELECT statement"),
    ("load httpfs", "a query is one SELECT statement"),
    ("call pragma_version()", "a query is one SELECT statement"),
    ("create table t as select 1", "a query is one SELECT statement"),
    ("insert into logs values (1)", "a query is one SELECT statement"),
    ("drop view logs", "a query is one SELECT statement"),
    ("export database '{secret}.d'", "a query is one SELECT statement"),
    ("describe logs", "a query is one SELECT statement"),
    ("select 1; select 2", "a query is one SELECT statement, not 2"),
    ("", "a query is one SELECT statement, not 0"),
    ("select 1) as q limit 1; copy (select 1", "syntax error"),
    ("selec 1", "syntax error"),
]


@pytest.mark.parametrize(("query", "message"), REFUSED)
def test_what_is_no_select_over_the_views_is_refused_unrun(query: str, message: str) -> None:
    with duckdb.connect() as connection, pytest.raises(confined.Refused) as caught:
        confined._check(connection, query.replace("{secret}", "/etc/passwd"), frozenset({"logs"}))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        REFUSED[0],
        ("copy (select 1) to '{secret}'", "a query is one SELECT statement"),
        ("select nope from logs", "nope"),
        ("select $1", "parameter"),
    ],
)
def test_what_a_query_from_outside_may_not_do_is_refused(store: LogStore, query: str, message: str) -> None:
    query = query.replace("{secret}", str(store.path.parent / "secret.csv"))
    with pytest.raises(QueryError) as caught:
        store.sandbox(query).answer()
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


BEHIND = [
    "select * from read_csv('{secret}')",
    "select * from read_text('{secret}')",
    "select * from '{secret}'",
    "from glob('/*')",
    "select * from read_parquet('http://127.0.0.1:1/x.parquet')",
    "copy (select 1) to '{secret}'",
    "attach '{secret}.db'",
    "set enable_external_access = true",
    "set allowed_paths = ['/etc/passwd']",
    "set threads = 8",
    "pragma threads = 8",
    "reset memory_limit",
    "install httpfs",
    "load httpfs",
    "export database '{secret}.d'",
]


def test_duckdb_itself_refuses_what_gets_past_the_first_check(store: LogStore) -> None:
    before = sorted(store.path.parent.rglob("*"))
    queries = [query.replace("{secret}", str(store.path.parent / "secret.csv")) for query in BEHIND]
    said = unchecked(store, queries)
    assert [line for line in said if not line.startswith("refused")] == []
    assert len(said) == len(queries)
    assert SECRET not in str(said)
    assert sorted(store.path.parent.rglob("*")) == before
    assert unchecked(store, ["select event from logs order by 1"]) == ["got [('event 1',), ('event 2',)]"]


def unchecked(store: LogStore, queries: list[str]) -> list[str]:
    """What the child would say to *queries* if it did not look at them first."""
    script = """
import json, sys
import duckdb
from fapilog.store import confined
job = json.loads(sys.stdin.readline())
connection = confined._connect(duckdb, job)
confined._limit(job)
for query in job["queries"]:
    try:
        print("got", connection.execute(query).fetchall())
    except duckdb.Error as error:
        print("refused", type(error).__name__)
"""
    paths: list[Path] = []
    logs = store._logs(store._view(), None, None, paths=paths)
    job: dict[str, Any] = job_of("", None, SandboxLimits(), views={"logs": logs}, paths=paths)
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(job | {"queries": queries}) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "query",
    [
        "select repeat('x', 2000000000)",
        "select list(i) from range(1000000000) t(i)",
    ],
)
def test_memory_is_bounded(store: LogStore, query: str) -> None:
    limits = SandboxLimits(memory_bytes=200_000_000, timeout_seconds=30)
    with pytest.raises(QueryLimitError, match="took more memory than 200000000 bytes"):
        store.sandbox(query, limits=limits).answer()


@pytest.mark.parametrize(
    "query", [ENDLESS, "select count(*) from range(1000000) a, range(1000000) b, range(1000000) c"]
)
def test_time_is_bounded(store: LogStore, query: str) -> None:
    with pytest.raises(QueryLimitError, match=r"took longer than 0\.5 s"):
        store.sandbox(query, limits=SandboxLimits(timeout_seconds=0.5)).answer()


def test_rows_and_bytes_are_bounded(store: LogStore) -> None:
    answer = store.sandbox("from range(1000)", limits=SandboxLimits(max_rows=10)).answer()
    assert (len(answer.rows), answer.truncated) == (10, "rows")
    assert store.sandbox("from range(10)", limits=SandboxLimits(max_rows=10)).answer().truncated is None
    answer = store.sandbox("select repeat('x', 1000) from range(1000)", limits=SandboxLimits(max_bytes=5_500)).answer()
    assert (len(answer.rows), answer.truncated) == (5, "bytes")


def test_cancelling_ends_the_query_at_once(store: LogStore) -> None:
    query = store.sandbox(ENDLESS, limits=SandboxLimits(timeout_seconds=600))
    threading.Timer(0.2, query.cancel).start()
    with pytest.raises(QueryLimitError, match="was cancelled"):
        query.answer()
    assert query._process.poll() is not None


def test_leaving_ends_the_query(store: LogStore) -> None:
    with store.sandbox(ENDLESS, limits=SandboxLimits(timeout_seconds=600)) as query:
        assert query._process.poll() is None
    assert query._process.poll() is not None


def test_a_cancelled_task_ends_the_query(store: LogStore) -> None:
    async def ask() -> None:
        query = store.sandbox(ENDLESS, limits=SandboxLimits(timeout_seconds=600))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(query.aanswer(), 0.2)
        assert query._process.wait(30) is not None
        answer = await store.sandbox("select 1").aanswer()
        assert answer.rows == [[1]]

    asyncio.run(ask())


def test_the_child_leaves_when_its_parent_is_killed(store: LogStore) -> None:
    script = f"""
import sys, time
from fapilog.store import LogStore, confined
from fapilog.store.sandbox import SandboxLimits
query = LogStore(sys.argv[1]).sandbox({ENDLESS!r}, limits=SandboxLimits(timeout_seconds=600))
print(query._process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script, store.path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        assert child.exists()
        parent.kill()
    deadline = time.monotonic() + 30
    while child.exists() and "Z" not in (child / "stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_child_has_no_variables_of_the_service(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)
    with store.sandbox(ENDLESS) as query:
        assert SECRET.encode() not in Path(f"/proc/{query._process.pid}/environ").read_bytes()


def test_parameters_are_values_of_json(store: LogStore) -> None:
    with pytest.raises(QueryError, match="parameters are values of JSON"):
        store.sandbox("select $1", [object()])
    assert store.sandbox("select $name", {"name": "x"}).answer().rows == [["x"]]


def test_a_damaged_file_is_told_with_the_answer(store: LogStore) -> None:
    (file,) = (store.path / "parquet").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    answer = store.sandbox("select event from logs").answer()
    assert answer.rows == [["event 2"]]
    assert "is damaged" in answer.warnings[0]
