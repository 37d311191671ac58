import json
import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from fapilog.errors import QueryError, StoreNotFoundError
from fapilog.files.segment import SegmentWriter
from fapilog.store import LogStore
from fapilog.store.compact import compact


def write(path: Path, *events: str, number: int = 1) -> None:
    (path / "segments").mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"timestamp": "2096-11-20T08:00:00.000001Z", "event": event}) + "\n" for event in events]
    with (path / "segments" / f"0-{number}.jsonl").open("a") as segment:
        segment.writelines(lines)


def events(store: LogStore) -> list[str]:
    return [row[0] for row in store.sql("select event from logs order by event").fetchall()]


def test_each_query_sees_what_was_written_up_to_then(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with LogStore(tmp_path) as store:
        assert events(store) == ["one"]
        write(tmp_path, "two")
        write(tmp_path, "three", number=2)
        assert events(store) == ["one", "three", "two"]


def test_parameters_fill_the_statement(tmp_path: Path) -> None:
    write(tmp_path, "one", "two")
    with LogStore(tmp_path) as store:
        assert store.sql("select event from logs where event = $1", ["one"]).fetchall() == [("one",)]
        assert store.sql("select event from logs where event = $e", {"e": "two"}).fetchall() == [("two",)]
        assert list(store.rows("select event from logs where event = ?", ["two"])) == [("two",)]


def test_a_relation_can_be_refined_and_outlives_the_next_query(tmp_path: Path) -> None:
    write(tmp_path, "one", "two")
    with LogStore(tmp_path) as store:
        relation = store.sql("select event from logs").order("event")
        compact(tmp_path)
        assert events(store) == ["one", "two"]
        assert relation.limit(1).fetchall() == [("one",)]


def test_threads_may_ask_one_store_at_once(tmp_path: Path) -> None:
    write(tmp_path, *map(str, range(1000)))
    with LogStore(tmp_path) as store:
        counts: list[int] = []
        threads = [
            threading.Thread(target=lambda: counts.append(len(store.sql("from logs").fetchall()))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == [1000] * 8


def test_where_there_is_no_store_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match=r"there is no store at .*nothing.*; give the path"):
        LogStore(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        LogStore(tmp_path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("selec 1", 'syntax error at or near "selec"\n\nLINE 1: selec 1'),
        ("select\nnope from logs", 'Referenced column "nope" not found'),
        ("select * from elsewhere", "elsewhere does not exist"),
        ("", "not nothing"),
        ("select 1; select 2", "not SELECT, SELECT"),
        ("create table t as from logs", "not CREATE"),
        ("copy (select 1) to 'x.csv'", "not COPY"),
        ("attach 'x.duckdb'", "not ATTACH"),
        ("set threads = 1", "not SET"),
        ("install httpfs", "not LOAD"),
        ("drop view logs", "not DROP"),
        ("select $1", "parameter"),
    ],
)
def test_only_a_select_that_binds_is_run(tmp_path: Path, statement: str, message: str) -> None:
    write(tmp_path, "one")
    with LogStore(tmp_path) as store:
        for ask in (store.sql, store.rows):
            with pytest.raises(QueryError, match=re.escape(message)):
                ask(statement)


def test_an_error_while_rows_are_read_is_a_query_error_too(tmp_path: Path) -> None:
    write(tmp_path, *(["7"] * 5_000), "seven")
    with LogStore(tmp_path) as store, pytest.raises(QueryError, match="Could not convert string 'seven'"):
        list(store.rows("select cast(event as int) from logs"))


def test_rows_come_with_their_columns_and_types(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with LogStore(tmp_path) as store:
        rows = store.rows("select event, 1 as a, 2 as a, timestamp at time zone 'UTC' as at from logs -- all of them")
        assert rows.columns == ("event", "a", "a", "at")
        assert rows.types == ("VARCHAR", "INTEGER", "INTEGER", "TIMESTAMP")
        ((event, first, second, at),) = rows
    assert (event, first, second, at.isoformat()) == ("one", 1, 2, "2096-11-20T08:00:00.000001")


def test_now_is_compared_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    write(tmp_path, "one")
    with LogStore(tmp_path) as store:
        assert list(store.rows("select current_setting('TimeZone')")) == [("UTC",)]


def test_a_damaged_parquet_file_is_left_out_with_a_warning(tmp_path: Path) -> None:
    for number, event in enumerate(("one", "two", "three"), start=1):
        write(tmp_path, event, number=number)
        compact(tmp_path)
    cut, scrambled, _ = sorted((tmp_path / "parquet").rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    os.truncate(cut, cut.stat().st_size // 2)
    with scrambled.open("r+b") as file:
        file.seek(-60, 2)
        file.write(b"\xff" * 40)
    with LogStore(tmp_path) as store:
        assert events(store) == ["three"]
        assert len(store.warnings) == 2
        assert "is damaged and was left out, with 1 records" in store.warnings[0]
    assert len(compact(tmp_path).problems) == 2
    with duckdb.connect(tmp_path / "logs.duckdb", read_only=True) as database:
        assert database.sql("select event from logs").fetchall() == [("three",)]


@pytest.mark.parametrize("where", [0, 25])
def test_a_parquet_file_found_damaged_while_it_is_read_is_left_out_too(tmp_path: Path, where: int) -> None:
    for number, event in enumerate(("one", "two"), start=1):
        write(tmp_path, *([event] * 1_000), number=number)
        compact(tmp_path)
    file = max((tmp_path / "parquet").rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    with duckdb.connect() as database:
        chunks = "select path_in_schema, data_page_offset from parquet_metadata($1)"
        offset = dict(database.sql(chunks, params=[str(file)]).fetchall())["timestamp"]
    with file.open("r+b") as opened:
        opened.seek(offset + where)
        opened.write(b"\xff" * 5)
    with LogStore(tmp_path) as store:
        answer = store.rows("select count(timestamp), min(event), max(event) from logs")
        assert list(answer) == [(1_000, "one", "one")]
        assert "is damaged and was left out, with 1000 records" in store.warnings[0]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "of another kind"])
def test_a_lost_manifest_is_made_again_from_the_files(tmp_path: Path, damage: str) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", number=2)
    compact(tmp_path)
    write(tmp_path, "three", number=3)
    manifest = tmp_path / "manifest.json"
    content = manifest.read_text()
    match damage:
        case "missing":
            manifest.unlink()
        case "empty":
            manifest.write_text("")
        case "cut":
            manifest.write_text(content[:100])
        case "flipped":
            manifest.write_text(content.replace("0-1", "0-7"))
        case _:
            manifest.write_text("[]")
    with LogStore(tmp_path) as store:
        assert events(store) == ["one", "three", "two"]
        assert "what the Parquet files say of themselves was used instead" in store.warnings[0]
    assert len(compact(tmp_path).problems) == 1
    with LogStore(tmp_path) as store:
        assert events(store) == ["one", "three", "two"]
        assert store.warnings == []


def test_a_segment_that_cannot_be_read_is_left_out_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", number=2)
    (tmp_path / "segments" / "0-1.jsonl").chmod(0)
    script = """
import os, sys
from fapilog.store.query import LogStore
os.setuid(65534)
with LogStore(sys.argv[1]) as store:
    print(store.sql("select event from logs").fetchall(), store.warnings)
"""
    if os.getuid() != 0:
        pytest.skip("needs another user")
    for directory in (tmp_path / "segments", tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    for file in (tmp_path / "segments").iterdir():
        file.chmod(0o644 if file.name == "0-2.jsonl" else 0)
    answer = subprocess.run(
        [sys.executable, "-c", script, tmp_path], check=True, timeout=30, capture_output=True, text=True
    )
    assert answer.stdout.startswith("[('two',)] [")
    assert "cannot be read" in answer.stdout


def test_a_path_full_of_wildcards_and_quotes_is_only_a_path(tmp_path: Path) -> None:
    odd = tmp_path / "it's [a] * {b} ? =1"
    write(odd, "one")
    compact(odd)
    write(odd, "two", number=2)
    with LogStore(odd) as store:
        assert events(store) == ["one", "two"]
    with duckdb.connect(odd / "logs.duckdb", read_only=True) as database:
        assert database.sql("select event from logs order by event").fetchall() == [("one",), ("two",)]


def test_a_query_leaves_nothing_in_the_store_or_where_it_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write(tmp_path / "logs", "one")
    before = sorted(tmp_path.rglob("*"))
    with LogStore(tmp_path / "logs") as store:
        assert events(store) == ["one"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_query_that_takes_long_writes_nothing_to_stdout(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with LogStore(tmp_path) as store:
        assert list(store.rows("select current_setting('enable_progress_bar')")) == [(False,)]
        assert store.sql("select current_setting('enable_progress_bar')").fetchall() == [(False,)]


def test_extensions_are_never_fetched(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with LogStore(tmp_path) as store:
        for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
            assert list(store.rows(f"select current_setting('{setting}')")) == [(False,)]


def test_importing_what_the_sink_needs_does_not_load_duckdb() -> None:
    script = "import sys, fapilog.store.retain, fapilog.store.manifest; assert 'duckdb' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_a_reader_sees_each_writers_records_in_full_up_to_some_moment(tmp_path: Path) -> None:
    written, stop = [0, 0], threading.Event()

    def keep_writing(which: int) -> None:
        writer = SegmentWriter(tmp_path / "segments", max_bytes=20_000)
        while not stop.is_set():
            line = json.dumps({"logger": str(which), "pid": written[which] + 1, "pad": "x" * 50}) + "\n"
            writer.append(line.encode())
            written[which] += 1
        writer.close()

    (tmp_path / "segments").mkdir()
    threads = [threading.Thread(target=keep_writing, args=(which,)) for which in (0, 1)]
    with LogStore(tmp_path) as store:
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                before = list(written)
                answer = store.rows("select logger, count(*), count(distinct pid), max(pid) from logs group by 1")
                for which, rows, distinct, highest in answer:
                    assert rows == distinct == highest >= before[int(which)]
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def damage_json(store: Path) -> int:
    """Make one value of `fields` in a Parquet file no JSON, which DuckDB does not say of which file; its records."""
    record = {"timestamp": "2026-11-20T08:00:00.000000Z"}
    lines = [json.dumps(record | {"id": f"a-{number}", "n": math.sin(number)}) for number in range(2_000)]
    (store / "segments").mkdir()
    (store / "segments" / "0-1.jsonl").write_text("\n".join(lines) + "\n")
    compact(store)
    (file,) = store.rglob("*.parquet")
    content = file.read_bytes()
    for position in range(4, len(content), 101):
        file.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
        try:
            duckdb.read_parquet(str(file)).max("fields").fetchall()
        except duckdb.InvalidInputException as error:
            if "in Parquet file" in str(error):
                return len(lines)
        except duckdb.Error:
            continue
    pytest.fail("nothing was damaged so")


def test_a_damaged_value_that_is_read_as_json_fails_no_query(tmp_path: Path) -> None:
    left_out = f"is damaged and was left out, with {damage_json(tmp_path)} records"
    (tmp_path / "segments" / "1-1.jsonl").write_text('{"event":"live"}\n')
    with LogStore(tmp_path) as store:
        answer = store.sandbox("select event, max(fields) from logs group by event").answer()
        assert answer.rows == [["live", "{}"]]
        assert left_out in answer.warnings[0]
    with LogStore(tmp_path) as store:
        assert list(store.rows("select event, max(fields) from logs group by event")) == [("live", "{}")]
        assert left_out in store.warnings[0]


def test_a_parquet_file_of_a_later_version_that_no_manifest_has_is_told_of(tmp_path: Path) -> None:
    write(tmp_path, "one")
    compact(tmp_path)
    (file,) = tmp_path.rglob("*.parquet")
    later = file.with_name("20961120T080000-00000000.parquet")
    note = '{"format":9,"generation":1,"segments":{},"file":{}}'
    duckdb.execute(f"COPY (SELECT 1 AS a) TO '{later}' (FORMAT parquet, KV_METADATA {{fapilog: '{note}'}})")
    with LogStore(tmp_path) as store:
        assert events(store) == ["one"]
        assert store.warnings == [f"{str(later)!r} is no file of this version of the store and was left out"]
