import json
import os
import signal
import subprocess
import time
from pathlib import Path

import duckdb
import pytest

from tests.cli.running import COMMAND, SECONDS, Here, environment, run, run_on_terminal
from tests.cli.stores import RECORDS, append, make


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make(tmp_path / "store")


def test_a_file_gets_the_records_of_a_query(here: Here, store: Path, tmp_path: Path) -> None:
    code, out, err = here("export", tmp_path / "out.jsonl", "level:error", "--path", store)
    assert (code, err) == (0, "")
    assert out == f"2 records in {tmp_path / 'out.jsonl'}, {(tmp_path / 'out.jsonl').stat().st_size} bytes\n"
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["event"] for record in written] == [RECORDS[3]["event"], RECORDS[4]["event"]]


def test_a_time_range_and_a_limit_are_kept(here: Here, store: Path, tmp_path: Path) -> None:
    times = ["--since", "2026-11-20T08:00:01", "--until", "2026-11-20T08:00:05", "--limit", "3"]
    assert here("export", tmp_path / "out.parquet", *times, "--path", store).code == 0
    with duckdb.connect() as database:
        found = database.sql(f"select event from '{tmp_path / 'out.parquet'}'").fetchall()  # noqa: S608 - ours
    assert [event for (event,) in found] == [record["event"] for record in RECORDS[1:4]]


def test_standard_output_gets_nothing_but_records(store: Path) -> None:
    code, out, err = run("export", "-", "--format", "jsonl", "--path", store)
    assert (code, err) == (0, "")
    assert [json.loads(line)["event"] for line in out.splitlines()] == [record["event"] for record in RECORDS]


def test_what_is_exported_by_one_command_is_imported_by_another(here: Here, store: Path, tmp_path: Path) -> None:
    here("export", tmp_path / "out.jsonl", "--path", store)
    assert "imported 6 records" in here("import", tmp_path / "out.jsonl", "--path", tmp_path / "other").out
    here("export", tmp_path / "again.jsonl", "--path", tmp_path / "other")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["there.csv"], "fapilog export: there.csv exists; give another name, or --overwrite\n"),
        (["out.txt"], "fapilog: a format is missing, and the file's name does not say; known: parquet, jsonl, csv\n"),
        (["-"], "fapilog: a format is missing, and the file's name does not say; known: parquet, jsonl, csv\n"),
        (["none/out.csv"], "fapilog export: cannot write 'none/out.csv': No such file or directory\n"),
        (["out.csv", "--path", "nothing"], "fapilog: there is no store at "),
        (["out.csv", "--limit", "0"], "fapilog export: invalid value for '--limit'"),
    ],
)
def test_wrong_input_is_one_line_on_stderr(
    here: Here, arguments: list[str], message: str, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").write_text("before")
    code, out, err = here("export", "--path", store, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"store", "there.csv"}
    assert Path("there.csv").read_text() == "before"


def test_a_file_is_replaced_if_told_so(here: Here, store: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("before")
    assert here("export", tmp_path / "out.csv", "--overwrite", "--path", store).code == 0
    assert (tmp_path / "out.csv").read_text().startswith("timestamp,level,event,")


def test_what_had_to_be_left_out_is_told(here: Here, store: Path, tmp_path: Path) -> None:
    here("compact", "--path", store)
    append(store, {"event": "live"}, slot=1)
    (path,) = store.rglob("*.parquet")
    os.truncate(path, 100)
    code, out, err = here("export", tmp_path / "out.jsonl", "--path", store)
    assert (code, out.split()[0]) == (0, "1")
    assert "is damaged and was left out, with 6 records" in err


def test_progress_is_shown_on_a_terminal_and_nowhere_else(store: Path, tmp_path: Path) -> None:
    out = run_on_terminal("export", tmp_path / "out.jsonl", "--path", store).out
    assert "exporting" in out
    assert "100%" in out
    assert run("export", tmp_path / "again.jsonl", "--path", store).err == ""


def test_a_reader_that_has_enough_is_no_error(store: Path) -> None:
    append(store, *[{"event": "x" * 1000}] * 2000)
    with subprocess.Popen(
        [*COMMAND, "export", "-", "--format", "jsonl", "--path", store],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=SECONDS) == 141


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_export_that_is_ended_leaves_no_file(number: signal.Signals, code: int, store: Path, tmp_path: Path) -> None:
    append(store, *[{"event": "x" * 200, "n": n} for n in range(60)] * 500)
    with subprocess.Popen(
        [*COMMAND, "export", tmp_path / "out.jsonl", "--path", store],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        until = time.monotonic() + SECONDS
        while not list(tmp_path.glob(".out.jsonl.*.tmp")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(number)
        ended = process.wait(timeout=SECONDS)
    if ended == 0:
        pytest.skip("it was done before the signal came")
    assert ended == code
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


def test_an_export_while_the_store_is_compacted_has_each_record_once(here: Here, store: Path, tmp_path: Path) -> None:
    append(store, *[{"event": "e", "n": n} for n in range(10_000)])
    with subprocess.Popen(
        [*COMMAND, "compact", "--path", store], stdout=subprocess.DEVNULL, env=environment()
    ) as other:
        for number in range(3):
            assert here("export", tmp_path / f"{number}.csv", "--path", store).code == 0
            assert (tmp_path / f"{number}.csv").read_bytes().count(b"\r\n") == 10_007
        assert other.wait(SECONDS) == 0


def test_what_was_exported_is_told_as_json(here: Here, store: Path, tmp_path: Path) -> None:
    code, out, err = here("export", tmp_path / "out.csv", "level:error", "--json", "--path", store)
    size = (tmp_path / "out.csv").stat().st_size
    told = {"file": str(tmp_path / "out.csv"), "records": 2, "size_bytes": size, "warnings": []}
    assert (code, json.loads(out), err) == (0, told, "")
    code, out, err = here("export", "-", "--format", "jsonl", "--json", "--path", store)
    assert (code, out) == (2, "")
    assert "--json is for an export to a file" in err
