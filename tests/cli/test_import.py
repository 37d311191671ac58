import json
from pathlib import Path

import pytest

from fapilog.store import LogStore
from tests.cli.running import Here, run, run_on_terminal

WHEN = "2026-11-20T08:00:00Z"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    lines = [{"ts": 1795161600 + number, "msg": f"e{number}", "lvl": 40, "uid": f"u{number}"} for number in range(3)]
    path = tmp_path / "app.log"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def rows(store: Path, query: str) -> list[tuple[object, ...]]:
    with LogStore(store) as opened:
        return list(opened.rows(query))


def test_lines_of_another_program_are_imported_with_a_mapping(here: Here, tmp_path: Path, source: Path) -> None:
    arguments: list[str | Path] = [
        "import",
        source,
        "--map",
        "id=uid",
        "--levels",
        "pino",
        "--set",
        "service=shop",
        "--path",
        tmp_path / "s",
    ]
    assert here(*arguments) == (0, f"imported 3 records into {tmp_path / 's'}\n", "")
    assert rows(tmp_path / "s", "select event, level, service, id from logs order by id limit 1") == [
        ("e0", "warning", "shop", "u0")
    ]
    code, out, err = here(*arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "left out 3 records with an id that is there already"


def test_standard_input_is_a_source_and_its_bad_lines_are_kept_here(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = f'{{"time": "{WHEN}"}}\nbad \x1b[31m\n{{"time": "then"}}\n'.encode()
    code, out, err = here("import", "-", stdin=said)
    assert (code, out) == (1, "imported 1 record into logs\n")
    first, *others = err.splitlines()
    assert first.startswith("fapilog import: -, line 2: it is not JSON: unexpected character")
    assert others == [
        "fapilog import: -, line 3: its time is 'then'; ISO 8601, or seconds, ms, us or ns since 1970 would do",
        "fapilog import: 2 lines are no records and are in stdin.rejected.jsonl",
    ]
    assert [json.loads(line)["line"] for line in Path("stdin.rejected.jsonl").read_text().splitlines()] == [2, 3]
    here("import", "-", stdin=b"bad\n")
    assert Path("stdin.rejected-2.jsonl").exists()


def test_secrets_are_masked_unless_told_not_to(here: Here, tmp_path: Path) -> None:
    said = json.dumps({"time": WHEN, "password": "hunter2"}).encode()
    here("import", "-", "--path", tmp_path / "masked", stdin=said)
    here("import", "-", "--no-redact", "--path", tmp_path / "open", stdin=said)
    query = "select fields ->> 'password' from logs"
    assert rows(tmp_path / "masked", query) == [("REDACTED",)]
    assert rows(tmp_path / "open", query) == [("hunter2",)]


def test_a_dry_run_shows_the_first_records(here: Here, tmp_path: Path, source: Path) -> None:
    code, out, err = here("import", source, "--map", "id=uid", "--dry-run", "--path", tmp_path / "s")
    assert (code, err) == (0, f"would import 3 records into {tmp_path / 's'}\n")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["u0", "u1", "u2"]
    assert not (tmp_path / "s").exists()


def test_levels_nobody_knows_are_told(here: Here, tmp_path: Path) -> None:
    said = json.dumps({"time": WHEN, "level": "au\x1bdit"}).encode()
    assert (
        "1 record had a level nobody knows ('au\\x1bdit'): now info"
        in here("import", "-", "--path", tmp_path, stdin=said).out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.log"], "fapilog import: cannot read or write 'nothing.log': No such file or directory\n"),
        (["-", "--map", "event"], "'event' is no pair; write name=value, such as event=msg"),
        (["-", "--zone", "Mars/North"], "no time zone is called 'Mars/North'; Europe/Berlin would do"),
        (["-", "--rejects", "there"], "fapilog import: there exists; give another name with --rejects\n"),
    ],
)
def test_wrong_input_is_one_line_on_stderr(
    here: Here, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("")
    code, out, err = here("import", *arguments, stdin=b"bad\n")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_real_command_reads_a_pipe(tmp_path: Path) -> None:
    said = json.dumps({"time": WHEN, "msg": "piped"}).encode()
    assert run("import", "-", "--path", tmp_path / "s", stdin=said) == (
        0,
        f"imported 1 record into {tmp_path / 's'}\n",
        "",
    )


def test_progress_is_shown_on_a_terminal(tmp_path: Path, source: Path) -> None:
    source.write_text(source.read_text() * 5_000)
    code, out, _ = run_on_terminal("import", source, "--no-redact", "--path", tmp_path / "s")
    assert code == 0
    assert "importing" in out
    assert "100%" in out
    assert "imported 15,000 records" in out


def test_what_was_imported_is_told_as_json(here: Here, tmp_path: Path, source: Path) -> None:
    with source.open("a") as file:
        file.write("no record\n")
    arguments: list[str | Path] = [
        "import",
        source,
        "--map",
        "id=uid",
        "--json",
        "--path",
        tmp_path / "s",
        "--rejects",
        tmp_path / "aside",
    ]
    code, out, err = here(*arguments, "--dry-run")
    told = json.loads(out)
    assert (code, err, told["records"], told["rejects"]) == (1, "", 3, None)
    assert [each["id"] for each in told["examples"]] == ["u0", "u1", "u2"]
    code, out, err = here(*arguments)
    told = json.loads(out)
    assert (code, err, told["records"], told["duplicates"], told["rejected"]) == (1, "", 3, 0, 1)
    assert [each["line"] for each in told["problems"]] == [4]
    assert (told["rejects"], told["examples"]) == (str(tmp_path / "aside"), [])
