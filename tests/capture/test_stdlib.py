"""The root logger, warnings, and what is never recorded twice."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fapilog import configure_logging, log
from fapilog.context import OURSELVES, current_request
from fapilog.recorder import slot
from fapilog.testing import CollectingSink, FarEnd, answer, capture
from tests.programs import parse_all, run


@pytest.fixture(autouse=True)
def _as_python_starts() -> Iterator[None]:
    """Have the root logger as nobody but pytest has touched it, before and after."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    root.handlers = [handler for handler in root.handlers if type(handler).__module__.startswith("_pytest.")]
    root.setLevel(logging.WARNING)
    yield
    root.handlers = before[0]
    root.setLevel(before[1])


def state() -> Any:
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("httpx", "urllib3", "asyncio", "app"))]
    hooks = (warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook)
    return [(each.name, each.level, each.propagate, list(each.handlers), each.disabled) for each in loggers], hooks


def console() -> logging.Handler:
    return logging.StreamHandler(sys.stderr)


class TestRecords:
    def test_a_logger_of_the_standard_library_logs_records(self) -> None:
        with capture() as logged:
            logging.getLogger("app.orders").info("%d orders", 3, extra={"customer": "ann"})
            record = logged.find(event="3 orders")
        assert (record["logger"], record["level"], record["customer"]) == ("app.orders", "info", "ann")

    def test_a_secret_in_extra_is_masked(self) -> None:
        with capture() as logged:
            logging.getLogger("app").warning("x", extra={"password": "hunter2"})
            assert logged.find(event="x")["password"] == "REDACTED"

    def test_nothing_is_captured_where_that_is_not_wanted(self) -> None:
        with capture(capture_stdlib=False) as logged:
            logging.getLogger("app").error("x")
            assert logged.events == []

    def test_a_processor_that_logs_does_not_do_so_for_ever(self) -> None:
        def chatty(_logger: Any, _method: str, event: Any) -> Any:
            logging.getLogger("app.processor").warning("processing")
            return event

        sink = CollectingSink()
        with configure_logging(sinks=[sink], processors=[chatty]) as handle:
            logging.getLogger("app").warning("one")
            log.info("two")
            handle.flush()
        assert sorted(record["event"] for record in sink.records) == ["one", "processing", "two"]
        assert handle.stats().filtered["recursion"] == 2

    @pytest.mark.parametrize("where", ["a thread of the pipeline", "the context of a sink"])
    def test_what_the_pipeline_causes_is_counted_and_not_recorded(self, where: str) -> None:
        def say() -> None:
            if where == "the context of a sink":
                current_request.set(OURSELVES)
            logging.getLogger("botocore").warning("feedback")

        with capture() as logged:
            name = "fapilog-worker" if where == "a thread of the pipeline" else "other"
            thread = threading.Thread(target=say, name=name)
            thread.start()
            thread.join(10)
            assert logged.events == []
            assert logged.handle.stats().filtered == {"own_thread": 1}

    def test_caplog_sees_what_it_saw_before(self, caplog: pytest.LogCaptureFixture) -> None:
        with capture(stdlib_handlers="remove") as logged:
            logging.getLogger("app").warning("both")
            assert logged.events == ["both"]
        assert caplog.messages == ["both"]


class TestLevels:
    def test_a_root_logger_that_nobody_configured_lets_through_what_is_recorded(self) -> None:
        sink = CollectingSink()
        with configure_logging(sinks=[sink], level="info") as handle:
            logging.getLogger("app").debug("no")
            logging.getLogger("app").info("yes")
            assert not logging.getLogger("app").isEnabledFor(logging.DEBUG)
            handle.flush()
        assert [record["event"] for record in sink.records] == ["yes"]

    def test_the_root_logger_follows_a_change_of_level(self) -> None:
        first = configure_logging(sinks=[CollectingSink()], level="info")
        assert logging.getLogger().level == logging.INFO
        with first, configure_logging(sinks=[CollectingSink()], level="error"):
            assert logging.getLogger().level == logging.ERROR
        assert logging.getLogger().level == logging.WARNING

    def test_a_level_that_the_user_has_set_stays(self) -> None:
        logging.getLogger().setLevel(logging.ERROR)
        logging.getLogger("app.loud").setLevel(logging.DEBUG)
        try:
            with capture() as logged:
                logging.getLogger("app").warning("no")
                logging.getLogger("app.loud").debug("yes")
                assert logged.events == ["yes"]
        finally:
            logging.getLogger("app.loud").setLevel(logging.NOTSET)

    def test_what_is_below_the_level_is_not_even_formatted(self) -> None:
        class Costly:
            def __str__(self) -> str:
                raise AssertionError("formatted")

        root = logging.getLogger()
        root.handlers = []  # pytest's own format everything
        root.setLevel(logging.DEBUG)
        with configure_logging(sinks=[CollectingSink()], level="error") as handle:
            logging.getLogger("app").info("%s", Costly())
            assert handle.stats().accepted == 0


class TestTransports:
    def test_they_are_as_quiet_as_before(self) -> None:
        with capture() as logged:
            logging.getLogger("httpx").info("HTTP Request: GET http://host/?token=hunter2")
            logging.getLogger("urllib3.connectionpool").debug("Starting new HTTP connection")
            assert logged.events == []

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("http://host/a?token=hunter2", "http://host/a?REDACTED"),
            ("https://ann:hunter2@host/a", "https://host/a"),
            ('"/a?x=1&token=hunter2" 200', '"/a?REDACTED" 200'),
        ],
    )
    def test_one_that_is_to_be_heard_is_at_debug_and_tells_no_secret(self, url: str, shown: str) -> None:
        logging.getLogger("httpx").setLevel(logging.INFO)
        try:
            with capture() as logged:
                logging.getLogger("httpx").info("GET %s", url)
                logging.getLogger("httpx").warning("retrying %s", url)
                assert logged.find(event=f"GET {shown}")["level"] == "debug"
                assert logged.find(event=f"retrying {shown}")["level"] == "warning"
            with capture(level="info") as logged:
                logging.getLogger("httpx").info("GET %s", url)
                assert logged.events == []
        finally:
            logging.getLogger("httpx").setLevel(logging.NOTSET)


def test_a_sink_that_sends_sends_nothing_about_its_sending(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    with FarEnd() as far_end:
        far_end.say(answer(204))
        with configure_logging(sinks=[far_end.url], level="trace") as handle:
            log.info("one")
            for _ in range(5):
                assert handle.flush().ok
        assert len(far_end.requests) == 1
        stats = handle.stats()
    assert stats.accepted == 1
    assert stats.filtered["own_thread"] > 0


class TestHandlers:
    @pytest.mark.parametrize(
        ("sinks", "setting", "stays"),
        [
            (["stdout"], "auto", False),
            (["stdout"], "keep", True),
            (["stdout"], "remove", False),
            ([], "auto", True),
            ([], "remove", False),
        ],
    )
    def test_a_console_handler_goes_where_everything_would_be_said_twice(
        self, sinks: list[Any], setting: str, stays: bool
    ) -> None:
        handler = console()
        logging.getLogger().addHandler(handler)
        with configure_logging(sinks=[*sinks, CollectingSink()], stdlib_handlers=setting):
            assert (handler in logging.getLogger().handlers) is stays
        assert handler in logging.getLogger().handlers

    @pytest.mark.parametrize(("setting", "stays"), [("auto", True), ("keep", True), ("remove", False)])
    def test_any_other_handler_stays_unless_all_are_to_go(self, setting: str, stays: bool) -> None:
        handler = logging.NullHandler()
        logging.getLogger().addHandler(handler)
        with configure_logging(sinks=["stdout"], stdlib_handlers=setting):
            assert (handler in logging.getLogger().handlers) is stays

    def test_basic_config_comes_too_late(self) -> None:
        with configure_logging(sinks=["stdout"]):
            logging.basicConfig(level=logging.DEBUG)
            assert logging.getLogger().level == logging.INFO

    def test_a_program_says_everything_once(self) -> None:
        ended = run(
            """
            import logging, warnings
            import fapilog
            logging.basicConfig(level=logging.INFO)
            fapilog.configure_logging(sinks=["stdout"])
            logging.getLogger("app").info("one")
            fapilog.log.info("two")
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("three", DeprecationWarning)
            """
        )
        records = parse_all(ended.stdout)
        assert [record["event"] for record in records] == ["one", "two", "three"]
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert records[2].items() >= {"logger": "py.warnings", "category": "DeprecationWarning", "line": 10}.items()


class TestGivingBack:
    @pytest.mark.parametrize("setting", ["auto", "keep", "remove"])
    @pytest.mark.parametrize("level", [logging.WARNING, logging.DEBUG])
    def test_everything_is_as_it_was(self, setting: str, level: int) -> None:
        root = logging.getLogger()
        root.setLevel(level)
        root.handlers = [console(), *root.handlers, logging.NullHandler(), console()]
        before = state()
        with configure_logging(sinks=["stdout"], capture_uncaught="main,threads,unraisable", stdlib_handlers="remove"):
            assert state() != before
            with configure_logging(sinks=["stdout"], stdlib_handlers=setting, level="debug"):
                pass
        assert state() == before

    def test_what_was_configured_in_between_stays(self) -> None:
        handler = logging.NullHandler()
        with configure_logging(sinks=["stdout"]):
            logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)
        assert (logging.getLogger().handlers, logging.getLogger().level) == ([handler], logging.ERROR)

    def test_a_later_configuration_that_captures_less_gives_back_the_rest(self) -> None:
        before = state()
        structlog_before = structlog.get_config()["wrapper_class"]
        with configure_logging(sinks=["stdout"]):
            nothing: dict[str, Any] = dict.fromkeys(
                ["capture_stdlib", "capture_servers", "capture_warnings", "capture_structlog"], False
            )
            with configure_logging(sinks=["stdout"], capture_uncaught=[], **nothing):
                assert state() == before
                assert structlog.get_config()["wrapper_class"] is structlog_before


class TestWarnings:
    @pytest.mark.parametrize("stdlib", [True, False])
    def test_a_warning_is_a_record(self, stdlib: bool, capfd: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings(), capture(capture_stdlib=stdlib) as logged:
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            record = logged.find(event="old")
        assert (record["logger"], record["level"]) == ("py.warnings", "warning")
        assert (record["category"], record["file"]) == ("DeprecationWarning", __file__)
        assert capfd.readouterr().err == ""

    def test_a_warning_is_printed_where_that_is_wanted(self, capfd: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            shown: Callable[..., None] = lambda message, *_: print(message, file=sys.stderr)  # noqa: E731
            warnings.showwarning = shown
            with capture(capture_warnings=False) as logged:
                warnings.warn("old", DeprecationWarning, stacklevel=1)
                assert logged.events == []
        assert capfd.readouterr().err == "old\n"

    def test_one_that_is_expected_by_a_test_is_still_seen_by_it(self) -> None:
        with capture() as logged:
            with pytest.warns(DeprecationWarning, match="old"):
                warnings.warn("old", DeprecationWarning, stacklevel=1)
            assert logged.events == []


def test_a_structlog_that_is_the_users_own_stays() -> None:
    before = structlog.get_config()
    with capture(capture_structlog=False):
        assert structlog.get_config() == before


def test_a_forked_child_captures_with_its_own_recorder() -> None:
    ended = run(
        """
        import logging, os
        import fapilog
        fapilog.configure_logging(sinks=["stdout"])
        logging.getLogger("app").info("parent")
        if os.fork():
            os.wait()
        else:
            logging.getLogger("app").info("child")
        """
    )
    records = parse_all(ended.stdout)
    assert sorted(record["event"] for record in records) == ["child", "parent"]
    assert len({record["id"].partition("-")[0] for record in records}) == 2


def test_a_dict_config_that_comes_later_wins() -> None:
    ended = run(
        """
        import logging.config
        import fapilog
        fapilog.configure_logging(sinks=["stdout"])
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        })
        logging.getLogger("app").info("theirs")
        fapilog.log.info("ours")
        """
    )
    assert [json.loads(line)["event"] for line in ended.stdout.splitlines()] == ["ours"]
    assert ended.stderr == b"theirs\n"


def test_an_application_that_starts_takes_over_again_what_was_configured_since() -> None:
    app = FastAPI()
    sink = CollectingSink()
    with configure_logging(app, sinks=["stdout", sink]) as handle:
        theirs = [console(), logging.NullHandler()]
        logging.basicConfig(level=logging.INFO, handlers=theirs, force=True)
        with TestClient(app):
            logging.getLogger("app").info("taken over")
            assert theirs[0] not in logging.getLogger().handlers
        handle.flush()
    assert [record["event"] for record in sink.records if record["logger"] == "app"] == ["taken over"]
    assert logging.getLogger().handlers == theirs


def test_the_slot_has_a_recorder_of_its_own_again_when_all_is_over() -> None:
    with capture():
        during = slot.recorder
    assert slot.recorder is not during
    logging.getLogger("app").warning("to nobody")
    assert not slot.recorder.queue.items


def test_arguments_that_have_very_much_to_say_are_cut_before_they_are_formatted() -> None:
    said = "x" * 100_000
    seen: list[Any] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.args)

    logger, other = logging.getLogger("bombed"), Other()
    logger.addHandler(other)
    try:
        with capture() as logged:
            logger.warning("%s and %s", said, 1)
            event = logged.records[0]["event"]
    finally:
        logger.removeHandler(other)
    assert event == "x" * 16_384 + "<+83616 more> and 1"
    assert seen == [(said, 1)], "others get what was logged"
