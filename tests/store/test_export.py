import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fapilog.errors import ConfigurationError, QuerySyntaxError, StoreNotFoundError
from fapilog.store import LogQuery
from fapilog.store.compact import compact
from fapilog.store.export import export
from fapilog.store.importing import import_lines
from fapilog.store.schema import COLUMNS

RECORDS: list[dict[str, Any]] = [
    {
        "timestamp": "2026-11-20T08:00:00.000001Z",
        "level": "info",
        "event": 'say "a, b"\nand größer 日本 \x07',
        "id": "0123456789abcdef-1",
        "pid": 7,
        "status_code": 200,
        "duration_ms": 1.5,
        "order": {"id": 7, "none": None, "list": [1, {"a": None}]},
    },
    {
        "timestamp": "2026-11-20T08:00:01.500000Z",
        "level": "error",
        "event": "=1+1",
        "id": "0123456789abcdef-2",
        "status_code": "teapot",
        "exception": {"type": "E", "message": "m", "cause": None},
        "none": None,
    },
    {"timestamp": "2026-11-20T09:00:00.000000Z", "level": "error", "event": "late", "id": "0123456789abcdef-3"},
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store whose first record is in Parquet and whose others are in a live segment."""
    path = tmp_path / "store"
    (path / "segments").mkdir(parents=True)
    (path / "segments" / "0-1.jsonl").write_text(json.dumps(RECORDS[0]) + "\n")
    compact(path)
    (path / "segments" / "0-2.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS[1:]))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def test_lines_of_json_are_the_records_as_they_were_logged(store: Path, tmp_path: Path) -> None:
    result = export(store, tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == RECORDS
    assert (result.records, result.warnings) == (3, ())
    assert result.size_bytes == (tmp_path / "out.jsonl").stat().st_size
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600


def test_what_was_exported_can_be_imported_and_exported_alike(store: Path, tmp_path: Path) -> None:
    export(store, tmp_path / "out.jsonl")
    assert import_lines(store, [tmp_path / "out.jsonl"]).duplicates == 3
    import_lines(tmp_path / "other", [tmp_path / "out.jsonl"])
    export(tmp_path / "other", tmp_path / "again.jsonl")
    assert lines(tmp_path / "again.jsonl") == [{"logger": "imported", **record} for record in RECORDS]


def test_parquet_has_the_columns_of_the_view(store: Path, tmp_path: Path) -> None:
    assert export(store, tmp_path / "out.parquet").records == 3
    with duckdb.connect() as database:
        found = database.read_parquet(str(tmp_path / "out.parquet"))
        assert found.columns == [*(column.name for column in COLUMNS), "fields"]
        query = "select event, status_code, fields ->> '$.order.id', fields ->> 'status_code' from found"
        assert database.sql(query).fetchall() == [
            (RECORDS[0]["event"], 200, "7", None),
            ("=1+1", None, None, "teapot"),
            ("late", None, None, None),
        ]
    assert stat.S_IMODE((tmp_path / "out.parquet").stat().st_mode) == 0o600


def test_csv_has_a_header_and_holds_no_formula(store: Path, tmp_path: Path) -> None:
    export(store, tmp_path / "out.csv")
    first, second, _ = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_bytes().decode(), newline=""))
    assert first["event"] == RECORDS[0]["event"]
    assert (first["timestamp"], first["pid"], first["duration_ms"], first["logger"]) == (
        "2026-11-20T08:00:00.000001Z",
        "7",
        "1.5",
        "",
    )
    assert json.loads(first["fields"]) == {"order": RECORDS[0]["order"]}
    assert second["event"] == "'=1+1"
    assert json.loads(second["exception"]) == RECORDS[1]["exception"]


@pytest.mark.parametrize(
    ("query", "fields", "events"),
    [
        ("level:error", {}, ["=1+1", "late"]),
        ("", {"since": "2026-11-20T08:00:01", "until": "2026-11-20T09:00"}, ["=1+1"]),
        (LogQuery(text="late"), {}, ["late"]),
        (None, {"order": "newest", "limit": 2}, ["late", "=1+1"]),
        (LogQuery(limit=1), {}, [RECORDS[0]["event"]]),
        (LogQuery(limit=1), {"limit": 1_000_000}, [record["event"] for record in RECORDS]),
        ("no such thing", {}, []),
    ],
)
def test_a_query_says_which_records(
    query: Any, fields: dict[str, Any], events: list[str], store: Path, tmp_path: Path
) -> None:
    for name in ("out.jsonl", "out.parquet"):
        assert export(store, tmp_path / name, query, **fields).records == len(events)
    assert [record["event"] for record in lines(tmp_path / "out.jsonl")] == events


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_stream_gets_the_bytes_of_a_file(form: Any, store: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    export(store, out, format=form)
    export(store, tmp_path / "out", format=form)
    assert out.getvalue() == (tmp_path / "out").read_bytes()


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(store: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("before")
    with pytest.raises(FileExistsError):
        export(store, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "before"
    export(store, tmp_path / "out.jsonl", overwrite=True)
    assert lines(tmp_path / "out.jsonl") == RECORDS


def test_a_file_that_comes_meanwhile_is_kept_too(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"

    def meanwhile(_done: int, _total: int) -> None:
        target.write_text("theirs")

    with pytest.raises(FileExistsError):
        export(store, target, progress=meanwhile)
    assert target.read_text() == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"store", "out.jsonl"}


def test_a_failure_leaves_nothing_or_the_old_file(store: Path, tmp_path: Path) -> None:
    def fail(_done: int, _total: int) -> None:
        raise OSError("the disk is full")

    (tmp_path / "old.jsonl").write_text("before")
    for name in ("old.jsonl", "new.jsonl"):
        with pytest.raises(OSError, match="the disk is full"):
            export(store, tmp_path / name, overwrite=True, progress=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "old.jsonl"}
    assert (tmp_path / "old.jsonl").read_text() == "before"


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("out.txt", None, "a format is missing, and the file's name does not say; known: parquet, jsonl, csv"),
        ("out.csv", "xml", "no format is called 'xml'; known: parquet, jsonl, csv"),
    ],
)
def test_a_format_nobody_knows_is_refused(name: str, form: Any, message: str, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        export(store, tmp_path / name, format=form)


def test_a_limit_that_cannot_be_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="limit is 0; a number above 0 would do"):
        export(store, tmp_path / "out.csv", limit=0)


def test_a_wrong_query_and_a_missing_store_leave_no_file(store: Path, tmp_path: Path) -> None:
    with pytest.raises(QuerySyntaxError):
        export(store, tmp_path / "out.jsonl", "level:(")
    with pytest.raises(StoreNotFoundError):
        export(tmp_path / "nothing", tmp_path / "out.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


def test_a_damaged_file_is_left_out_with_a_warning(store: Path, tmp_path: Path) -> None:
    (path,) = store.rglob("*.parquet")
    os.truncate(path, 100)
    result = export(store, tmp_path / "out.jsonl")
    assert result.records == 2
    assert "is damaged and was left out, with 1 record" in result.warnings[0]


def test_damage_within_a_file_is_found_while_it_is_read(store: Path, tmp_path: Path) -> None:
    (path,) = store.rglob("*.parquet")
    with path.open("r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 60)
    assert export(store, tmp_path / "out.jsonl").records == 2
    assert export(store, tmp_path / "out.parquet").records == 2


def test_progress_ends_at_everything(store: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    export(store, tmp_path / "out.jsonl", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)
    export(store, tmp_path / "out.parquet", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (100, 100)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_an_interrupt_ends_a_long_export_soon_and_leaves_nothing(form: str, store: Path, tmp_path: Path) -> None:
    script = f"""
        from fapilog.store import export as module
        make = module._Export.__init__

        def slow(self, *arguments):  # a query that takes hours
            make(self, *arguments)
            self.counted = self.ordered = "SELECT event FROM logs, range(1000000) a, range(1000000) b ORDER BY random()"
            self.values = []

        module._Export.__init__ = slow
        print("begun", flush=True)
        module.export({str(store)!r}, {str(tmp_path / "out")!r}, format={form!r})
    """  # noqa: S608 - a constant
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 30
        while not list(tmp_path.glob(".out.*.tmp")) and time.monotonic() < until:
            time.sleep(0.05)
        assert list(tmp_path.glob(".out.*.tmp"))
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        assert process.stderr is not None
        said = process.stderr.read()
        assert b"KeyboardInterrupt" in said or b"Query interrupted" in said  # DuckDB asks for signals, too
    assert {path.name for path in tmp_path.iterdir()} == {"store"}
