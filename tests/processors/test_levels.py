import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from fapilog import configure_logging, get_logger, log, set_level
from fapilog.errors import ConfigurationError
from fapilog.processors.levels import ALL, MAX_LOGGERS, Levels, decide
from fapilog.testing import CollectingSink, capture
from fapilog.types import DEBUG, ERROR, INFO, LEVEL_NAMES, WARNING

NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join)
LEVEL = st.sampled_from(sorted(LEVEL_NAMES))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stdlib_level() -> Iterator[Any]:
    """Give the level of a logger of the standard library."""
    yield lambda name=None: logging.getLogger(name).level
    for name in ("shop", "shop.db", "httpx"):
        assert logging.getLogger(name).level == logging.NOTSET


def test_the_longest_name_counts_for_a_logger_and_all_below_it() -> None:
    rules = {ALL: INFO, "shop": WARNING, "shop.*": DEBUG, "shop.db": ERROR}
    assert {
        name: decide(rules, name) for name in ("shop", "shop.x", "shop.x.y", "shop.db", "shop.db.z", "shopping")
    } == {
        "shop": WARNING,
        "shop.x": DEBUG,
        "shop.x.y": DEBUG,
        "shop.db": ERROR,
        "shop.db.z": ERROR,
        "shopping": INFO,
    }


@given(st.dictionaries(NAMES, LEVEL), NAMES)
def test_a_logger_without_a_rule_has_the_level_of_the_one_above_it(rules: dict[str, int], name: str) -> None:
    rules = {**rules, ALL: INFO}
    if name not in rules:
        above = name.rpartition(".")[0]
        assert decide(rules, name) == (decide(rules, above) if above else INFO)


@given(st.dictionaries(NAMES, LEVEL), LEVEL, NAMES)
def test_what_the_table_says_is_what_was_decided_and_never_below_the_lowest(
    rules: dict[str, int], level: int, name: str
) -> None:
    levels = Levels(level, rules)
    assert levels.of(name) == levels.of(name) == decide({**rules, ALL: level}, name) >= levels.lowest


@pytest.mark.parametrize(
    "written",
    ["uvicorn=warning,shop.*=debug", "uvicorn: WARN, shop.*: 10", '{"uvicorn": "warning", "shop.*": "debug"}'],
)
def test_levels_of_loggers_come_from_the_environment_however_they_are_written(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("FAPILOG_LEVELS", written)
    with capture(level="info") as logged:
        for name in ("uvicorn", "uvicorn.error", "shop", "shop.db", "other"):
            get_logger(name).debug(f"{name} debug")
            get_logger(name).info(f"{name} info")
            get_logger(name).warning(f"{name} warning")
    assert logged.events == [
        "uvicorn warning",
        "uvicorn.error warning",
        "shop info",
        "shop warning",
        "shop.db debug",
        "shop.db info",
        "shop.db warning",
        "other info",
        "other warning",
    ]
    assert logged.handle.stats().filtered == {"level": 6}


def test_a_logger_says_which_level_it_has() -> None:
    with capture(level="info", levels={"shop": "debug"}):
        assert get_logger("shop.db").get_effective_level() == DEBUG
        assert get_logger("shop").is_enabled_for(DEBUG)
        assert get_logger("other").get_effective_level() == INFO
        assert not get_logger("other").is_enabled_for(DEBUG)


def test_a_sinks_level_is_the_floor_of_every_loggers() -> None:
    sink = CollectingSink()
    spec = {"type": f"{CollectingSink.__module__}:CollectingSink", "level": "warning"}
    with configure_logging(sinks=[spec], levels="shop=debug"):
        assert get_logger("shop").get_effective_level() == WARNING
    assert sink.records == []


def test_an_audit_record_is_kept_whatever_the_level_of_its_logger(tmp_path: Any) -> None:
    with configure_logging(sinks=[{"type": "file", "path": str(tmp_path / "a.jsonl")}], levels="shop=error") as handle:
        get_logger("shop").audit("paid")
        get_logger("shop").info("not kept", durable=True)
        assert handle.stats().accepted == 1


def test_early_records_pass_the_level_of_their_logger() -> None:
    get_logger("shop").debug("early")
    get_logger("other").debug("early too")
    with capture(level="info", levels="shop=debug") as logged:
        assert logged.events == ["early"]
        assert logged.handle.stats().filtered == {"level": 1}


def test_an_access_record_has_the_level_of_its_logger_and_is_counted_where_it_is_below() -> None:
    app = FastAPI()
    with capture(app, level="info", levels="fapilog.access=warning") as logged:
        client = TestClient(app)
        client.get("/nowhere")
        client.get("/openapi.json")
        assert [record["path"] for record in logged.records] == ["/nowhere"]
        assert logged.handle.stats().filtered == {"level": 1}


def test_a_level_changes_for_good_until_it_is_taken_back() -> None:
    with capture(level="info") as logged:
        log.debug("no")
        set_level("debug")
        log.debug("yes")
        set_level(40)
        log.warning("no")
        logged.handle.set_level(None)
        log.info("yes")
        log.debug("no")
    assert logged.events == ["yes", "yes"]


def test_a_loggers_level_changes_and_others_stay() -> None:
    with capture(level="info") as logged:
        set_level("debug", "shop")
        get_logger("shop.db").debug("yes")
        log.debug("no")
        set_level("error", "shop.db")
        get_logger("shop.db").warning("no")
        get_logger("shop").debug("yes")
        set_level(None, "shop.db")
        get_logger("shop.db").debug("yes")
    assert logged.events == ["yes", "yes", "yes"]


@pytest.mark.parametrize("logger", [None, "shop"])
@pytest.mark.parametrize(("level", "kept"), [("debug", ["debug", "info", "error"]), ("error", ["error"])])
def test_a_level_set_for_a_time_goes_back_by_itself(
    monkeypatch: pytest.MonkeyPatch, logger: str | None, level: str, kept: list[str]
) -> None:
    clock = Clock()
    shop = get_logger("shop")
    with capture(level="info") as logged:
        monkeypatch.setattr(_levels(), "clock", clock)
        set_level(level, logger, for_seconds=10)
        clock.now += 9.9
        for each in (shop.debug, shop.info, shop.error):
            each(each.__name__)
        assert logged.events == kept
        logged.clear()
        clock.now += 0.1
        for each in (shop.debug, shop.info, shop.error):
            each(each.__name__)
        assert logged.events == ["info", "error"]
        assert (_levels().table, _levels().lowest) == (None, INFO)


def _levels() -> Levels:
    from fapilog.recorder import slot

    return slot.recorder.levels


def test_after_a_time_it_goes_back_to_what_was_set_for_good() -> None:
    clock = Clock()
    levels = Levels(INFO, clock=clock)
    levels.set(WARNING)
    levels.set(DEBUG, for_seconds=5)
    levels.set(ERROR, "shop", for_seconds=1)
    assert (levels.of("x"), levels.of("shop")) == (DEBUG, ERROR)
    clock.now += 2
    assert (levels.of("x"), levels.of("shop")) == (DEBUG, DEBUG)
    clock.now += 10
    assert (levels.of("x"), levels.of("shop"), levels.table) == (WARNING, WARNING, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("loud",), "level: got 'loud'; known: trace, debug"),
        (("info", "a*"), "got 'a*' for a logger; write its dotted name, such as 'uvicorn'"),
        (("info", ""), "got '' for a logger"),
        (("info", "a..b"), "got 'a..b' for a logger"),
        (("info", None, 0), "for_seconds must be a number above 0, or None for good; got 0"),
        (("info", None, float("inf")), "for_seconds must be a number above 0, or None for good; got inf"),
        (("info", None, float("nan")), "for_seconds must be a number above 0, or None for good; got nan"),
        (("info", None, True), "for_seconds must be a number above 0, or None for good; got True"),
        (("info", None, "5m"), "for_seconds must be a number above 0, or None for good; got '5m'"),
    ],
)
def test_what_cannot_be_set_is_refused_and_changes_nothing(arguments: tuple[Any, ...], said: str) -> None:
    with capture(level="info"):
        with pytest.raises(ConfigurationError) as caught:
            set_level(*arguments)
        assert said in str(caught.value)
        assert log.get_effective_level() == INFO


def test_without_a_configuration_there_is_no_level_to_set() -> None:
    with pytest.raises(ConfigurationError, match="call configure_logging first"):
        set_level("debug")


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ("shop=loud", "levels.shop: got 'loud'; known: trace"),
        ("shop", "levels.shop: got ''"),
        ("a*b=info", "levels: got 'a*b' for a logger"),
        ("*=info", "levels: got '*' for a logger"),
    ],
)
def test_levels_that_cannot_be_used_are_told_by_name(levels: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure_logging(sinks=[], levels=levels)
    assert said in str(caught.value)


def test_a_later_configuration_begins_with_its_settings_for_loggers_made_before() -> None:
    shop = get_logger("shop")
    with capture(level="info", levels="shop=error"):
        shop.warning("no")
        set_level("trace", "shop")
        with capture(level="info", levels="shop=warning") as logged:
            shop.info("no")
            shop.warning("yes")
        assert logged.events == ["yes"]
        assert shop.get_effective_level() == 5  # what ran before runs again, as it was changed


def test_the_standard_librarys_loggers_let_through_what_is_asked_for_and_are_given_back(stdlib_level: Any) -> None:
    before = stdlib_level()
    with capture(level="info", levels="shop=debug,httpx=debug") as logged:
        logging.getLogger("shop.db").debug("yes")
        logging.getLogger("other").debug("no")
        assert not logging.getLogger("other").isEnabledFor(logging.DEBUG)
        set_level("debug", "other")
        logging.getLogger("other").debug("yes")
        set_level(None, "other")
        assert not logging.getLogger("other").isEnabledFor(logging.DEBUG)
        logging.getLogger("httpx").debug("yes")
    assert logged.events == ["yes", "yes", "yes"]
    assert stdlib_level() == before


def test_the_standard_librarys_root_logger_follows_a_level_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with capture(level="info") as logged:
        monkeypatch.setattr(_levels(), "clock", clock)
        set_level("debug", for_seconds=1)
        logging.getLogger("other").debug("yes")
        clock.now += 1
        logging.getLogger("other").debug("no")
        assert not logging.getLogger("other").isEnabledFor(logging.DEBUG)
    assert logged.events == ["yes"]


def test_no_more_loggers_are_remembered_than_there_is_room_for() -> None:
    levels = Levels(INFO, {"shop": DEBUG})
    for number in range(MAX_LOGGERS + 10):
        assert levels.of(f"shop.{number}") == DEBUG
    assert levels.table is not None
    assert len(levels.table) <= MAX_LOGGERS


def test_threads_that_log_while_levels_change_see_one_or_the_other() -> None:
    errors: list[BaseException] = []
    stop = threading.Event()

    def change() -> None:
        try:
            for number in range(300):
                set_level("debug" if number % 2 else "warning", "shop", for_seconds=0.0001 if number % 3 else None)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
        finally:
            stop.set()

    with capture(level="info") as logged:
        changers = [threading.Thread(target=change) for _ in range(3)]
        for thread in changers:
            thread.start()
        count = 0
        while not stop.is_set():
            get_logger("shop").error("always")
            count += 1
        for thread in changers:
            thread.join()
        set_level(None, "shop")
        assert errors == []
        assert logged.events == ["always"] * count
        assert _levels().lowest == INFO


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_the_levels_that_were_set(tmp_path: Any) -> None:
    path = tmp_path / "log.jsonl"
    with configure_logging(sinks=[{"type": "file", "path": str(path)}], level="info"):
        set_level("debug", "shop")
        child = os.fork()
        if child == 0:
            get_logger("shop").debug("from the child")
            log.debug("no")
            from fapilog.runtime import flush

            flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert path.read_text().count("from the child") == 1
