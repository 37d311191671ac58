import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.running import Here, run, run_on_terminal
from tests.cli.stores import append, make


@pytest.fixture
def store(tmp_path: Path, here: Here) -> Path:
    path = make(tmp_path / "store")
    here("compact", "--path", path)
    return path


def test_a_sound_store_is_said_to_be_sound(store: Path) -> None:
    code, out, err = run("verify", "--path", store)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"6 records in 1 Parquet file and 0 segments, \d+\.\d kB: sound\n", out)


def test_what_is_wrong_is_said_and_is_the_exit_code(here: Here, store: Path) -> None:
    (path,) = store.rglob("*.parquet")
    os.truncate(path, 100)
    code, out, err = here("verify", "--path", store)
    assert (code, err) == (1, "")
    assert out.startswith(f"wrong: {path.relative_to(store)}: has 100 bytes, not ")
    assert out.endswith(": 1 problem\n")
    code, out, _ = here("verify", "--json", "--path", store)
    said = json.loads(out)
    assert code == 1
    assert (said["ok"], said["problems"][0]["path"]) == (False, str(path.relative_to(store)))


def test_a_note_is_no_failure(here: Here, store: Path) -> None:
    (store / "segments" / "no\x1btes.txt").write_text("")
    code, out, _ = here("verify", "--path", store)
    assert code == 0
    assert out.startswith("note: segments/no\\x1btes.txt: is no file of this version of the store")


def test_progress_and_colours_are_shown_on_a_terminal(store: Path) -> None:
    code, out, _ = run_on_terminal("verify", "--path", store)
    assert code == 0
    assert "verifying" in out
    assert "100%" in out
    assert "\x1b[32msound\x1b[0m" in out


def test_a_compaction_shows_how_far_it_is_on_a_terminal(tmp_path: Path) -> None:
    path = make(tmp_path / "other")
    append(path, *[{"event": "x" * 100, "n": n} for n in range(30_000)])
    code, out, _ = run_on_terminal("compact", "--path", path)
    assert code == 0
    assert "compacting" in out
    assert "100%" in out
    assert "1 segment with 30,006 records became Parquet" in out


def test_a_dry_run_says_what_would_go_and_nothing_goes(here: Here, store: Path) -> None:
    code, out, err = here("cleanup", "--dry-run", "--max-records", "2", "--path", store)
    assert (code, err) == (0, "")
    _, _, row, total = out.splitlines()
    assert row.split()[1:4] == ["records", "all", "6"]
    assert total.startswith("1 file would leave the store, ")
    assert "6 records" in here("verify", "--path", store).out


def test_what_is_beyond_the_bounds_leaves_the_store(store: Path) -> None:
    code, out, err = run("cleanup", "--max-records", "2", "--path", store)
    assert (code, err) == (0, "")
    assert "1 file left the store, " in out
    assert run("query", "select count(*) as n from logs", "--format", "csv", "--path", store).out.split() == ["n", "0"]


def test_a_level_can_be_kept_longer(here: Here, store: Path) -> None:
    bounds = ["--max-age-days", "0.000001", "--level-max-age-days", "error=36500"]
    code, out, _ = here("cleanup", "--dry-run", "--json", *bounds, "--path", store)
    (deletion,) = json.loads(out)["expired"]
    assert code == 0
    assert (deletion["reason"], deletion["levels"], deletion["records"]) == ("age", ["debug", "info", "warning"], 4)


def test_the_bounds_are_those_of_the_service_unless_given(
    here: Here, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAPILOG_DUCKDB__MAX_BYTES", "1")
    monkeypatch.setenv("FAPILOG_DUCKDB__PATH", str(store))
    assert "1 file would leave" in here("cleanup", "--dry-run").out
    assert "0 files would leave" in here("cleanup", "--dry-run", "--max-bytes", "none").out
    assert "0 files would leave" in here("cleanup", "--dry-run", "--max-bytes", "1 GB").out
    monkeypatch.setenv("FAPILOG_DUCKDB__MAX_BYTES", "much")
    code, _, err = here("cleanup", "--dry-run")
    assert code == 2
    assert err == "fapilog: the settings of the duckdb sink cannot be used; see fapilog doctor\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-bytes", "much"], "--max-bytes is 'much'; a number above 0 would do, or none for no bound"),
        (["--max-age-days", "-1"], "--max-age-days is '-1'; a number above 0 would do"),
        (["--level-max-age-days", "eror=3"], "no level is called 'eror'; known: trace, debug"),
        (["--level-max-age-days", "error"], "'error' is no pair; write name=value"),
    ],
)
def test_a_bound_nobody_understands_is_one_line(here: Here, arguments: list[str], message: str, store: Path) -> None:
    code, out, err = here("cleanup", *arguments, "--path", store)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_what_was_compacted_is_told_as_json(here: Here, tmp_path: Path) -> None:
    code, out, err = here("compact", "--json", "--path", make(tmp_path / "other"))
    told = json.loads(out)
    assert (code, err, told["segments"], told["records"], told["problems"]) == (0, "", 1, 6, [])
