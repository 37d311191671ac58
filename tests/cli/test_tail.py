import contextlib
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.running import COMMAND, SECONDS, Here, environment, run_on_terminal
from tests.cli.stores import append, make


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make(tmp_path / "store")


@contextlib.contextmanager
def following(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """Run ``tail --follow``, and give it and a function that waits for its next line."""
    lines: queue.Queue[str] = queue.Queue()
    with subprocess.Popen(
        [*COMMAND, "tail", "--follow", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        out = process.stdout

        def read() -> None:
            for line in out:
                lines.put(line)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield process, lambda: lines.get(timeout=SECONDS)
        finally:
            process.kill()
            reader.join(SECONDS)


def test_the_newest_records_of_the_store_come_last(here: Here, store: Path) -> None:
    code, out, err = here("tail", "-n", "2", "--json", "--path", store)
    assert (code, err) == (0, "")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["request completed", "last"]


def test_a_query_and_a_time_range_say_which(here: Here, store: Path) -> None:
    _, out, _ = here("tail", "logger:shop", "--until", "2026-11-20T08:00:04", "--json", "--path", store)
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["started", "order placed"]


def test_it_follows_all_processes_through_a_compaction(store: Path) -> None:
    with following("level:warning", "-n", "1", "--json", "--path", store) as (process, next_line):
        assert json.loads(next_line())["event"] == "last"
        append(store, {"event": "first", "level": "warning"})
        assert json.loads(next_line())["event"] == "first"
        append(store, {"event": "quiet", "level": "info"}, slot=1)
        append(store, {"event": "other", "level": "warning", "id": f"{'1' * 16}-1"}, slot=1)
        assert json.loads(next_line())["event"] == "other"
        subprocess.run([*COMMAND, "compact", "--path", store], check=True, stdout=subprocess.DEVNULL, timeout=SECONDS)
        append(store, {"event": "after", "level": "warning", "id": f"{'2' * 16}-1"}, slot=2)
        assert json.loads(next_line())["event"] == "after"
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_terminal_gets_colours(store: Path) -> None:
    out = run_on_terminal("tail", "-n", "1", "--path", store).out
    assert "\x1b[33mwarning" in out
    assert "last" in out


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("one\ntwo\n\x1b[31mthree\n")
    return path


def test_the_name_of_a_file_is_a_file(here: Here, log: Path) -> None:
    assert here("tail", "-n", "2", log) == (0, "two\n\x1b[31mthree\n", "")


def test_a_file_that_is_missing_is_told_as_one(here: Here, tmp_path: Path) -> None:
    code, out, err = here("tail", "--since", "1h", tmp_path / "none.jsonl")
    assert (code, out) == (2, "")
    assert err.startswith("fapilog tail: a file has no time range")
    assert here("tail", tmp_path / "none.jsonl").err.startswith("fapilog: cannot read on: ")


@pytest.mark.parametrize("query", ['"/orders"', "path:/orders/7", "event:*.log", "placed"])
def test_a_query_is_no_file(here: Here, query: str, store: Path) -> None:
    assert here("tail", query, "--path", store).code == 0


def test_a_file_is_followed(log: Path) -> None:
    with following(log, "-n", "1") as (_, next_line):
        assert next_line() == "\x1b[31mthree\n"
        with log.open("a") as file:
            file.write("four\n")
        assert next_line() == "four\n"


def test_what_a_terminal_would_obey_in_a_file_is_shown(log: Path) -> None:
    assert run_on_terminal("cat", log).out == "one\ntwo\n\\x1b[31mthree\n"
