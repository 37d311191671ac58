import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fapilog.cli import main


def write(store: Path, *records: dict[str, Any]) -> Path:
    (store / "segments").mkdir(parents=True, exist_ok=True)
    with (store / "segments" / "0-1.jsonl").open("a") as segment:
        segment.writelines(
            json.dumps({"timestamp": "2026-11-20T08:00:00.000001Z", **record}) + "\n" for record in records
        )
    return store


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def fapilog(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-c", "import sys; from fapilog.cli import main; sys.exit(main())", *arguments]


def test_a_query_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"event": "paid", "status_code": 200}, {"event": "größer 日本", "duration_ms": 1.5})
    query = "select timestamp, event, status_code as status, duration_ms as ms from logs order by event"
    assert run(capsys, "query", query, "--path", tmp_path) == (
        0,
        "timestamp                    event        status   ms\n"
        "---------------------------  -----------  ------  ---\n"
        "2026-11-20T08:00:00.000001Z  größer 日本          1.5\n"
        "2026-11-20T08:00:00.000001Z  paid            200\n"
        "(2 rows)\n",
        "",
    )


def test_a_table_of_many_rows_is_printed_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    _, out, _ = run(capsys, "query", "select range from range(2500)", "--path", tmp_path)
    assert out.splitlines()[2:-1] == [f"{number:>5}".rstrip() for number in range(2500)]
    assert out.endswith("(2500 rows)\n")


def test_json_is_one_object_per_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"event": "paid", "order": {"id": 7}, "exception": {"type": "E"}}, {"event": "x\u2028\x9b"})
    query = "select timestamp, event, exception, fields, 'nan'::float as n, [1] as l, 1 as a, 2 as a from logs"
    _, out, _ = run(capsys, "query", query, "--format", "json", "--path", tmp_path)
    first, second = out.split("\n")[:2]
    assert json.loads(first) == {
        "timestamp": "2026-11-20T08:00:00.000001Z",
        "event": "paid",
        "exception": {"type": "E"},
        "fields": {"order": {"id": 7}},
        "n": None,
        "l": [1],
        "a": 1,
        "a_2": 2,
    }
    assert '"x\\u2028\\u009b"' in second


def test_csv_has_a_header_and_every_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"event": 'say "a, b"\nand c', "status_code": 200, "k": 1})
    _, out, _ = run(
        capsys, "query", "select event, status_code, level, fields from logs", "--format", "csv", "--path", tmp_path
    )
    assert list(csv.reader(io.StringIO(out))) == [
        ["event", "status_code", "level", "fields"],
        ['say "a, b"\nand c', "200", "", '{"k":1}'],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_holds_no_formula(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"event": text, "duration_ms": -1.5})
    query = "select event, duration_ms from logs"
    _, out, _ = run(capsys, "query", query, "--format", "csv", "--path", tmp_path)
    assert list(csv.reader(io.StringIO(out, newline="")))[1] == ["'" + text, "-1.5"]


def test_a_terminal_is_never_sent_what_it_would_obey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"event": "\x1b]0;owned\x07\x9b31m\n\u202e"})
    _, out, _ = run(capsys, "query", "select event from logs", "--path", tmp_path)
    assert "\\x1b]0;owned\\x07\\x9b31m\\n\\u202e" in out


def test_a_table_is_cut_to_the_width_of_the_terminal(tmp_path: Path) -> None:
    write(tmp_path, {"event": "x" * 300, "level": "info", "logger": "y" * 300})
    leader, follower = pty.openpty()
    with subprocess.Popen(
        fapilog("query", "select level, event, logger from logs", "--path", tmp_path),
        stdout=follower,
        env={**os.environ, "COLUMNS": "60"},
    ) as process:
        process.wait(timeout=30)
    os.close(follower)
    lines = os.read(leader, 10_000).decode().splitlines()
    os.close(leader)
    assert [len(line) for line in lines[1:3]] == [60, 60]
    assert lines[2].startswith("info   xxxx")
    assert lines[2].count("…") == 2


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("selec 1", """fapilog: Parser Error: syntax error at or near "selec"; line 1, at 'selec 1'\n"""),
        ("select\nnope from logs", "line 2, at 'nope from logs'\n"),
        ("drop table logs", "a query is one SELECT statement, not DROP; the store is only read here\n"),
        ("select 1; select 2", "not SELECT, SELECT"),
        ("select event::int from logs", "Could not convert string 'paid' to INT32"),
    ],
)
def test_a_wrong_statement_is_one_line_on_stderr(
    statement: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"event": "paid"})
    code, out, err = run(capsys, "query", statement, "--path", tmp_path)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [["query", "select 1"], ["compact"]])
def test_a_path_without_a_store_is_one_line_on_stderr(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *command, "--path", tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert err.startswith("fapilog: there is no store at ")
    assert err.count("\n") == 1


def test_the_path_comes_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "elsewhere", {"event": "paid"})
    monkeypatch.setenv("FAPILOG_DUCKDB__PATH", str(tmp_path / "elsewhere"))
    assert run(capsys, "query", "select count(*) as n from logs", "--format", "csv")[1].split() == ["n", "1"]


def test_without_any_path_it_is_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "logs", {"event": "paid"})
    monkeypatch.delenv("FAPILOG_DUCKDB__PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "query", "select count(*) as n from logs", "--format", "csv")[1].split() == ["n", "1"]


def test_compact_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"event": "paid"})
    with (tmp_path / "segments" / "0-1.jsonl").open("a") as segment:
        segment.write("garbage")
    code, out, err = run(capsys, "compact", "--path", tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith("1 segment with 1 record became Parquet: ")
    assert "1 line was no record and is in rejected.jsonl\n" in out
    assert (tmp_path / "logs.duckdb").exists()


def test_a_warning_is_said_beside_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"event": "paid"})
    run(capsys, "compact", "--path", tmp_path)
    (file,) = (tmp_path / "parquet").rglob("*.parquet")
    os.truncate(file, 10)
    code, out, err = run(capsys, "query", "select count(*) as n from logs", "--format", "csv", "--path", tmp_path)
    assert (code, out.split()) == (0, ["n", "0"])
    assert "is damaged and was left out, with 1 record" in err


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    write(tmp_path, {"event": "paid"})
    command = fapilog("query", "select range from range(1000000)", "--path", tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_a_locale_without_unicode_is_no_error(tmp_path: Path) -> None:
    write(tmp_path, {"event": "größer"})
    answer = subprocess.run(
        fapilog("query", "select event from logs", "--path", tmp_path),
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=30,
    )
    assert b"gr\\xf6\\xdfer" in answer.stdout


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert {"query", "compact"} <= set(capsys.readouterr().out.split())
