import json
from pathlib import Path

import pytest

from fapilog.cli.records import FORMATS
from fapilog.formats import KNOWN
from tests.cli.running import Here, run, run_on_terminal
from tests.cli.stores import RECORDS, TRACE, make

HOSTILE = ("\x1b[31mdeclined", "\u202e", "\x9b")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make(tmp_path / "store")


def events(out: str) -> list[str]:
    return [json.loads(line)["event"] for line in out.splitlines()]


def test_search_prints_the_newest_records_in_order_of_time(here: Here, store: Path) -> None:
    code, out, err = here("search", "-n", "2", "--path", store)
    assert (code, err) == (0, "")
    first, last = out.splitlines()
    assert first.startswith("08:00:04.000 error    POST /orders/7 500 2500.0 ms")
    assert last.startswith("08:00:05.000 warning  last")


def test_search_takes_a_query_of_several_words_and_a_time_range(here: Here, store: Path) -> None:
    code, out, _ = here("search", "level:error", "card", "--json", "--path", store)
    assert (code, events(out)) == (0, [RECORDS[3]["event"]])
    _, out, _ = here(
        "search", "--since", "2026-11-20T08:00:01", "--until", "2026-11-20T08:00:03", "--json", "--path", store
    )
    assert events(out) == ["order placed", "charging"]
    _, out, _ = here("search", "--oldest", "-n", "1", "--json", "--path", store)
    assert events(out) == ["started"]


def test_a_statement_may_be_asked_of_a_time_range(here: Here, store: Path) -> None:
    said = ["query", "select event, (select count(*) from logs) as all from logs order by timestamp", "--json"]
    between = ["--since", "2026-11-20T08:00:01", "--until", "2026-11-20T08:00:03"]
    code, out, err = here(*said, *between, "--path", store)
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "order placed", "all": 2},
        {"event": "charging", "all": 2},
    ]
    code, _, err = here(*said, "--since", "once", "--path", store)
    assert code == 2
    assert "once" in err


def test_json_are_the_records_as_they_were_logged(here: Here, store: Path) -> None:
    _, out, _ = here("search", "--json", "--path", store)
    assert "\u202e" not in out
    assert [{**json.loads(line), "timestamp": None, "id": None} for line in out.splitlines()] == [
        {"timestamp": None, "id": None, **record} for record in RECORDS
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_shows_every_record(here: Here, form: str, store: Path) -> None:
    code, out, err = here("search", "shop", "--format", form, "order placed", "--path", store)
    assert (code, err) == (0, "")
    assert not out or "order placed" in out


def test_the_formats_are_those_there_are() -> None:
    assert sorted(FORMATS) == sorted(KNOWN)


def test_a_wrong_query_is_shown_with_its_place(here: Here, store: Path) -> None:
    code, out, err = here("search", "level:eror", "x", "--path", store)
    assert (code, out) == (2, "")
    assert err == (
        "fapilog: no level is called 'eror'; known: trace, debug, info, success, warning, error, critical, "
        "at character 7\n  level:eror x\n        ^\n"
    )


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("command", [["search"], ["stats"], ["errors"], ["trace", TRACE]])
def test_a_time_nobody_understands_is_one_line(here: Here, command: list[str], option: str, store: Path) -> None:
    code, out, err = here(*command, option, "soon", "--path", store)
    assert (code, out) == (2, "")
    assert "'soon' is no time; write 30m, 1h or 7d ago" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["search"], ["trace", TRACE], ["stats"], ["errors"], ["tail"], ["query", "select event from logs"]]
)
def test_a_store_that_is_missing_is_one_line(here: Here, command: list[str], tmp_path: Path) -> None:
    code, out, err = here(*command, "--path", tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert err.startswith("fapilog: there is no store at ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["search"], ["trace", TRACE], ["stats"], ["errors"], ["tail"], ["query", "select event from logs"]]
)
def test_a_terminal_gets_colours_and_never_what_it_would_obey(command: list[str], store: Path) -> None:
    code, out, _ = run_on_terminal(*command, "--path", store)
    assert code == 0
    assert ("\x1b[" in out) is (command[0] != "query")
    assert all(text not in out for text in HOSTILE)
    assert "\\x1b[31mdeclined\\u202e" in out


@pytest.mark.parametrize("form", ["json", "csv", "logfmt"])
def test_a_terminal_obeys_no_format(form: str, store: Path) -> None:
    _, out, _ = run_on_terminal("search", "--format", form, "--path", store)
    assert "declined" in out
    assert all(text not in out for text in ("\x1b", "\u202e"))


def test_a_terminal_gets_no_colours_if_told_so(store: Path) -> None:
    code, out, _ = run_on_terminal("errors", "--path", store, env={"NO_COLOR": "1"})
    assert code == 0
    assert "\x1b" not in out


def test_colours_can_be_had_without_a_terminal(store: Path) -> None:
    assert "\x1b[31m" in run("errors", "--path", store, env={"FORCE_COLOR": "1"}).out
    assert "\x1b" not in run("errors", "--path", store).out


def test_a_trace_is_a_tree_of_its_spans(here: Here, store: Path) -> None:
    code, out, err = here("trace", TRACE, "--path", store)
    assert (code, err) == (0, "")
    head, request, placed, span, charging, declined, *_ = out.splitlines()
    assert head == f"trace {TRACE}: 2 spans, 4 records, 2026-11-20 08:00:01 UTC"
    assert request == "POST /orders/7 500  shop  2,500.0 ms  from 08:00:01.000"
    assert placed.startswith("├─ 08:00:01.000 info     order placed")
    assert span.startswith(f"└─ span {'bb' * 8}  shop  1,000.0 ms  from 08:00:02.000")
    assert charging.startswith("   ├─ 08:00:02.000 debug    charging")
    assert declined.startswith("   └─ 08:00:03.000 error    card \\x1b[31mdeclined\\u202e")
    assert "request completed" not in out


def test_a_trace_as_json_is_its_records_in_order(here: Here, store: Path) -> None:
    _, out, _ = here("trace", TRACE, "--json", "--path", store)
    assert events(out) == [record["event"] for record in RECORDS[1:5]]


def test_a_trace_that_is_not_there_is_told(here: Here, store: Path) -> None:
    assert here("trace", "no\x1bne", "--path", store) == (0, "", "fapilog: no record has the trace id 'no\\x1bne'\n")


def test_stats_has_a_histogram_and_tables(here: Here, store: Path) -> None:
    code, out, err = here("stats", "--until", "2026-11-20T08:01", "--path", store)
    assert (code, err) == (0, "")
    parts = out.split("\n\n")
    assert parts[0] == "6 records from 2026-11-20 08:00 to 2026-11-20 08:01 UTC"
    assert parts[1].splitlines()[0].startswith("08:00:00 ░")
    assert len(parts[1].splitlines()) == 6
    assert parts[2] == "░░ debug 1  ░░ info 2  ▒▒ warning 1  ██ error 2"
    assert [part.splitlines()[0] for part in parts[3:]] == [
        "Routes: 1 request, 100.00% errors",
        "Events",
        "Errors",
        "Processes",
    ]
    assert parts[3].splitlines()[3].split() == [
        "POST",
        "/orders/{id}",
        "1",
        "0.02",
        "100.00%",
        "2500.0",
        "2500.0",
        "2500.0",
    ]


def test_stats_as_json_is_one_object(here: Here, store: Path) -> None:
    _, out, _ = here("stats", "--json", "--path", store)
    said = json.loads(out)
    assert said["records"] == 6
    assert said["levels"] == {"debug": 1, "info": 2, "warning": 1, "error": 2}
    assert {group["type"] for group in said["error_groups"]} == {None, "Declined"}


def test_stats_of_nothing_says_so(here: Here, store: Path) -> None:
    assert here("stats", "nothing like that", "--path", store) == (0, "", "fapilog: nothing was logged\n")


def test_a_terminal_without_unicode_gets_bars_it_can_show(store: Path) -> None:
    _, out, _ = run("stats", "--path", store, env={"PYTHONIOENCODING": "ascii"})
    assert "## error 2" in out
    assert "\\u" not in out.replace("\\u202e", "")


def test_errors_are_grouped_with_an_example_to_look_at(here: Here, store: Path) -> None:
    code, out, err = here("errors", "--path", store)
    assert (code, err) == (0, "")
    assert "1 time Declined: card * declined\n    2026-11-20 08:00:03\n" in out
    assert f"fapilog trace {TRACE}" in out


def test_errors_as_json_are_one_group_a_line(here: Here, store: Path) -> None:
    _, out, _ = here("errors", "logger:pay", "--json", "-n", "1", "--path", store)
    (group,) = [json.loads(line) for line in out.splitlines()]
    assert group["count"] == 1
    assert group["example"]["event"]


def test_no_errors_is_told(here: Here, store: Path) -> None:
    assert here("errors", "level:critical", "--path", store) == (0, "", "fapilog: there are no errors\n")


def test_what_had_to_be_left_out_is_told_beside_the_answer(here: Here, store: Path) -> None:
    (store / "segments" / "notes.txt").write_text("not ours")
    for command in (["search"], ["trace", TRACE], ["stats"], ["errors"]):
        code, out, err = here(*command, "--path", store)
        assert code == 0
        assert out
        assert "notes.txt' is no file of this version of the store and was left out" in err


def test_a_search_that_found_more_says_so_to_a_person(here: Here, store: Path) -> None:
    _, out, _ = run_on_terminal("search", "-n", "2", "--path", store)
    assert "there are more than 2; -n shows more, fapilog export writes all" in out
    assert here("search", "-n", "2", "--path", store).err == ""
    assert "no record fits" in run_on_terminal("search", "nothing", "--path", store).out
