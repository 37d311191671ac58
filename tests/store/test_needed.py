from pathlib import Path

import duckdb
import pytest

from fapilog.store import LogStore
from fapilog.store.needed import needed_columns


@pytest.mark.parametrize(
    ("names", "statement"),
    [
        ("level event", "select LEVEL from Logs as l where l.event like $1"),
        ("", "select count(*) from logs"),
        (
            "timestamp level",
            "select time_bucket(interval 1 hour, timestamp) as h, level from logs group by all order by all",
        ),
        (
            "duration_ms status_code",
            "select quantile_cont(duration_ms, 0.5) filter (where status_code > 1) from logs order by 1",
        ),
        ("exception fields", "select exception->>'type', fields->>'a' from logs"),
        ("host pid path", "select case when host = 'a' then pid::text end from logs where not (path is null)"),
        ("level", "with t as (select level, count(*) as n from logs group by 1) select n from t"),
        ("level event", "select level from logs union all select event from logs"),
        ("event pid", "select (select max(event) from logs) from logs where pid = 1"),
        ("level id", "select a.level from logs a join logs b using (id)"),
        ("event host", "select list_filter([event], lambda x: x = host) from logs"),
        ("host pid", "select 1 from logs qualify row_number() over (partition by host order by pid) = 1"),
        ("service level", "select distinct on (service) level from logs"),
        ("level event", "select {'a': level}, event from memory.main.logs"),
    ],
)
def test_columns_that_are_named_are_needed(names: str, statement: str) -> None:
    with duckdb.connect() as connection:
        assert needed_columns(connection, statement) == frozenset(names.split())


@pytest.mark.parametrize(
    "statement",
    [
        "from logs",
        "select * from logs",
        "select level from (select * exclude (pid) from logs)",
        "select columns('le.*') from logs",
        "select l.* from logs l",
        "select level from logs order by columns('e.*')",
        "select logs from logs",
        "select to_json(l) from logs l",
        "select #1 from logs",
        "select a from logs as l(a, b)",
        "select level from logs natural join (select 'error' as level)",
        "select message from job_logs",
        "with job_logs as (select message from job_logs) select message from job_logs",
        "select level from query_table('logs')",
        "from (pivot logs on level using count(*))",
        "select column_name from (describe logs)",
        "select nothing of this",
    ],
)
def test_any_column_may_be_needed_that_is_not_named(statement: str) -> None:
    with duckdb.connect() as connection:
        assert needed_columns(connection, statement) is None


def test_a_row_as_a_whole_has_all_columns(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "0-1.jsonl").write_text('{"level":"info","host":"a","n":7}\n')
    with LogStore(tmp_path) as store:
        renamed = ", ".join(f"c{number}" for number in range(26))
        for query in (
            "select l.host, l.fields from (select l from logs l)",
            f"select c8, c25 from logs as l({renamed})",  # noqa: S608 - our names
            "select host, fields from logs natural join (select 'info' as level)",
            "select host, fields from (from logs)",
        ):
            assert list(store.rows(query)) == [("a", '{"n":7}')], query
