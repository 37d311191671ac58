import asyncio
import json
import os
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI

from fapilog import LoggingMiddleware, LoggingSettings, configure_logging, log
from fapilog.context import NOTHING
from fapilog.diagnostics import report
from fapilog.errors import ConfigurationError, SinkStartError
from fapilog.recorder import LoggerName, Recorder, slot
from fapilog.sinks.file import FileSink
from fapilog.testing import CollectingSink, capture
from fapilog.types import INFO, Batch
from tests.programs import parse_all


def log_late(recorder: Recorder, event: str) -> None:
    """Log as a thread does that read which recorder there is a moment before it was replaced."""
    recorder.emit(LoggerName("late"), INFO, event, (), NOTHING, {})


def test_a_log_call_that_began_before_the_first_configuration_is_delivered() -> None:
    early = slot.recorder
    sink = CollectingSink()
    with configure_logging(sinks=[sink]) as handle:
        log_late(early, "one")
        log_late(early, "two")
        assert handle.flush().ok
        assert [record["event"] for record in sink.records] == ["one", "two"]


def test_a_log_call_that_began_before_a_second_configuration_is_delivered_by_it() -> None:
    first, second = CollectingSink(), CollectingSink()
    configure_logging(sinks=[first])
    replaced = slot.recorder
    with configure_logging(sinks=[second]) as handle:
        log_late(replaced, "late")
        assert handle.flush().ok
        assert [record["event"] for record in second.records] == ["late"]
        assert handle.stats().dropped == {}


def open_files() -> set[str]:
    return {str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}


@pytest.mark.parametrize(
    "wrong", [{"sinks": ["file", "file:///dev/null/app.log"]}, {"sinks": ["file"], "app": lambda: None}]
)
def test_a_configuration_that_fails_leaves_no_file_open(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        configure_logging(**wrong, file={"path": str(tmp_path / "app.log")})
    assert str(tmp_path / "app.log") not in open_files()


def repeat(times: int) -> None:
    for _ in range(times):
        log.info("x")


def lines(path: Path) -> list[dict[str, Any]]:
    return parse_all(path.read_bytes())


def test_exactly_a_thousand_early_records_are_kept_and_the_others_counted(capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(1_003):
        log.info("early", number=number)
    with capture() as captured:
        log.info("late")
        assert [record.get("number") for record in captured.records] == [*range(1_000), None]
        assert captured.handle.stats().dropped == {"early_full": 3}
    assert "(early_full=3)" in capfd.readouterr().err


def test_early_records_below_the_level_are_filtered_and_leave_no_gap_in_the_numbers() -> None:
    log.debug("unwanted")
    log.info("wanted", user="ann")
    log.trace("unwanted")
    log.warning("wanted too")
    with capture(level="info", service="shop") as captured:
        assert captured.events == ["wanted", "wanted too"]
        assert [record["id"].partition("-")[2] for record in captured.records] == ["1", "2"]
        assert {record["service"] for record in captured.records} == {"shop"}
        assert captured.handle.stats().filtered == {"level": 2}


def test_early_records_are_encoded_at_once_and_without_secrets() -> None:
    basket = {"password": "canary", "items": 1}
    log.info("early", basket=basket)
    basket["items"] = 2
    with capture() as captured:
        assert captured.find(event="early")["basket"] == {"password": "REDACTED", "items": 1}


def test_configuring_twice_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    sinks = [{"type": "file", "path": str(tmp_path / "app.log")}]
    for round_ in range(10):
        configure_logging(sinks=sinks)
        for number in range(200):
            log.info("x", number=round_ * 200 + number)
    configure_logging(sinks=sinks).close()
    records = lines(tmp_path / "app.log")
    assert [record["number"] for record in records] == list(range(2_000))
    assert [int(record["id"].partition("-")[2]) for record in records] == list(range(1, 2_001))


def test_configuring_while_four_threads_log_loses_nothing() -> None:
    stop = threading.Event()
    logged: Counter[int] = Counter()

    def work(thread: int) -> None:
        while not stop.is_set():
            log.info("busy", thread=thread, number=logged[thread])
            logged[thread] += 1

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    sinks = [CollectingSink() for _ in range(15)]
    for thread in threads:
        thread.start()
    handles = [configure_logging(sinks=[sink]) for sink in sinks]
    stop.set()
    for thread in threads:
        thread.join(10)
    handles[-1].close()
    early = sum(handle.stats().dropped.get("early_full", 0) for handle in handles)
    assert sum(len(sink.records) for sink in sinks) + early == logged.total()


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": "loud"},
        {"no_such_setting": 1},
        {"sinks": ["nosuch"]},
        {"sinks": [object()]},
        {"sinks": [{"path": "x"}]},
        {"sinks": ["file:///dev/null/below"]},
        {"sinks": ["stdout"], "stdout": {"colour": "red"}},
        {"sinks": ["stdout"], "stdout": {"level": "loud"}},
        {"processors": ["nosuch"]},
        {"processors": [5]},
        {"app": lambda: None},
        {"app": "not an application"},
        {"settings": {"level": "info"}},
        {"app": LoggingSettings(), "settings": LoggingSettings()},
        {"processors": "redact"},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_used_raises_and_what_ran_goes_on(wrong: dict[str, Any]) -> None:
    with capture() as captured:
        recorder = slot.recorder
        with pytest.raises(ConfigurationError):
            configure_logging(**wrong)
        assert slot.recorder is recorder
        log.info("still here")
        assert captured.events == ["still here"]


def test_a_named_sink_that_cannot_start_says_where_why_and_what_to_do() -> None:
    with pytest.raises(
        SinkStartError, match=r"sink 'file' cannot start: .* \(errno \d+ E[A-Z]+\) at '/proc/nowhere'"
    ) as caught:
        configure_logging(sinks=[{"type": "file", "path": "/proc/nowhere/app.log"}])
    assert "make it writable, or choose another path" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_default_sink_that_cannot_start_is_one_line_on_stderr_and_the_rest_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with configure_logging(duckdb={"path": "/dev/null/logs"}, json_console="json") as handle:
        said = capfd.readouterr().err
        assert list(handle.stats().sinks) == ["stdout"]
        log.info("x")
    assert said.startswith("fapilog: sink 'duckdb' cannot start:")
    assert said.count("\n") == 1
    assert json.loads(capfd.readouterr().out)["event"] == "x"


def test_a_sink_named_in_the_environment_must_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_SINKS", "file:///dev/null/app.log")
    with pytest.raises(SinkStartError):
        configure_logging()


def test_settings_may_stand_first_or_second_or_be_keywords() -> None:
    settings = LoggingSettings(level="error", sinks=[])
    for handle in (
        configure_logging(settings),
        configure_logging(None, settings),
        configure_logging(settings=settings),
        configure_logging(level="error", sinks=[]),
    ):
        assert handle.settings.level == "error"


def test_keywords_win_over_a_settings_object() -> None:
    handle = configure_logging(LoggingSettings(level="error", service="a"), level="debug", sinks=[])
    assert (handle.settings.level, handle.settings.service) == ("debug", "a")


def test_an_application_and_settings_are_told_apart_by_type() -> None:
    app = FastAPI()
    configure_logging(app, LoggingSettings(sinks=[]))
    assert isinstance(app.build_middleware_stack(), LoggingMiddleware)


def test_an_application_is_wrapped_once_however_often_it_is_configured() -> None:
    app = FastAPI()
    for _ in range(3):
        configure_logging(app, sinks=[])
    stack: Any = app.build_middleware_stack()
    assert isinstance(stack, LoggingMiddleware)
    assert not isinstance(stack.app, LoggingMiddleware)


def test_sinks_are_names_uris_dicts_and_objects(tmp_path: Path) -> None:
    handle = configure_logging(
        sinks=[
            "stdout",
            f"file://{tmp_path}/a.log?name=uri&level=error",
            {"type": "file", "name": "dict", "path": tmp_path / "b.log"},
            FileSink(path=tmp_path / "c.log"),
            "fapilog.testing:CollectingSink",
            CollectingSink(),
        ]
    )
    assert list(handle.stats().sinks) == ["stdout", "uri", "dict", "file", "collecting", "collecting-2"]
    log.error("x")
    assert handle.flush().ok
    assert [len(lines(tmp_path / name)) for name in ("a.log", "b.log", "c.log")] == [1, 1, 1]


def test_the_lowest_level_any_sink_wants_decides_what_is_kept() -> None:
    first, second = CollectingSink(), CollectingSink()
    first.name, second.name = "first", "second"
    with configure_logging(sinks=[first, second], level="debug", first={"level": "error"}, second={"level": "warning"}):
        log.info("nobody")
        log.warning("second")
        log.error("both")
    assert [[record["event"] for record in sink.records] for sink in (first, second)] == [["both"], ["second", "both"]]


def test_a_sink_whose_name_no_variable_can_have_is_set_by_one_with_underscores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAPILOG_SINKS", '["file", "file", {"type": "file", "name": "Errors.EU", "level": "error"}]')
    for name in ("FILE", "FILE_2", "ERRORS_EU"):
        monkeypatch.setenv(f"FAPILOG_{name}__PATH", str(tmp_path / f"{name}.log"))
    monkeypatch.setenv("FAPILOG_FILE_2__LEVEL", "warning")
    with configure_logging() as handle:
        log.info("hello")
        log.warning("hello")
        assert handle.list_sinks() == ("file", "file-2", "Errors.EU")
    assert {path.stem: len(lines(path)) for path in tmp_path.glob("*.log")} == {"FILE": 2, "FILE_2": 1, "ERRORS_EU": 0}
    assert "options are set for a sink" not in capfd.readouterr().err


def test_options_for_a_sink_that_is_none_are_said(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(sinks=["stdout"], stdoot={"format": "json"})
    assert "options are set for a sink 'stdoot', which is not one of stdout; did you mean 'stdout'?" in (
        capfd.readouterr().err
    )


def test_every_line_carries_the_static_fields_with_secrets_masked() -> None:
    with capture(service="shop", env="test", version="1.2", redact_fields=["env"]) as captured:
        log.info("x")
        record = captured.find(event="x")
    static = {name: record[name] for name in ("service", "env", "version", "host", "pid")}
    assert static == {
        "service": "shop", "env": "REDACTED", "version": "1.2", "host": socket.gethostname(), "pid": os.getpid()
    }  # fmt: skip


def test_stats_balance_at_every_moment_while_four_threads_log() -> None:
    with capture(queue_maxsize=500, queue_overflow="drop_oldest") as captured:
        threads = [threading.Thread(target=repeat, args=(5_000,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        snapshots = [captured.handle.stats()]
        while any(thread.is_alive() for thread in threads):
            snapshots.append(captured.handle.stats())
        captured.handle.flush()
        last = captured.handle.stats()
        told = captured.events.count("records were dropped")
    assert all(sink.balanced for stats in snapshots for sink in stats.sinks.values())
    assert 20_000 + bool(last.dropped) <= last.accepted <= 20_000 + told + 1
    sink = last.sinks["collecting"]
    assert (sink.queued, sink.in_flight, sink.balanced) == (0, 0, True)
    assert len({stats.instance for stats in snapshots}) == 1


def test_closing_says_in_one_line_exactly_what_was_lost(capfd: pytest.CaptureFixture[str]) -> None:
    class Lossy(CollectingSink):
        name = "lossy"

        def write(self, batch: Batch, /) -> None:
            raise ValueError("no")

    report("said before")
    handle = configure_logging(sinks=[Lossy(), CollectingSink()], lossy={"level": "error"})
    log.info("x")
    log.error("y")
    handle.close()
    last = capfd.readouterr().err.splitlines()[-1]
    # The third is the record that tells of the loss; the sink that lost one does not want it.
    assert last == "fapilog: accepted=3 delivered: lossy=0, collecting=3 dropped=1 (sink_error=1)"


def test_closing_says_nothing_when_nothing_was_lost(capfd: pytest.CaptureFixture[str]) -> None:
    with capture():
        log.info("x")
    assert capfd.readouterr().err == ""


def test_a_closed_handle_leaves_what_is_logged_to_the_next_configuration() -> None:
    with capture():
        log.info("first")
    log.info("between")
    with capture() as captured:
        assert captured.events == ["between"]


def test_closing_a_handle_twice_or_after_it_was_replaced_does_no_harm() -> None:
    old = configure_logging(sinks=[])
    with capture() as captured:
        old.close()
        old.close()
        log.info("x")
        assert captured.events == ["x"]
    assert captured.handle.close().ok


def test_as_an_async_context_manager_the_handle_drains_and_logging_goes_on() -> None:
    sink = CollectingSink()

    async def lifespan() -> None:
        async with configure_logging(sinks=[sink], collecting={"linger_seconds": 60}):
            log.info("inside")
        assert [record["event"] for record in sink.records] == ["inside"]
        log.info("after")
        assert [record["event"] for record in sink.records] == ["inside", "after"]

    asyncio.run(lifespan())


def test_flush_and_aflush_tell_that_everything_was_delivered() -> None:
    with capture() as captured:
        log.info("x")
        assert captured.handle.flush(5).pending == {"collecting": 0}
        log.info("y")
        assert asyncio.run(captured.handle.aflush(5)).ok


def test_structlog_goes_the_same_way_whenever_its_logger_was_made() -> None:
    before = structlog.get_logger("made.before", bound=1)
    with capture() as captured:
        before.info("one")
        structlog.get_logger("made.after").bind(bound=2).warning("two")
        one, two = captured.records
        assert (one["logger"], one["bound"], one["level"]) == ("made.before", 1, "info")
        assert (two["logger"], two["bound"], two["level"]) == ("made.after", 2, "warning")


def test_a_cached_structlog_logger_follows_the_next_configuration() -> None:
    with capture() as first:
        logger = structlog.get_logger("cached")
        logger.info("one")
        bound = logger.bind(user="ann")
        with capture() as second:
            logger.info("two")
            bound.info("three")
            assert second.events == ["two", "three"]
        assert first.events == ["one"]


def test_structlog_is_as_it_was_when_logging_has_ended() -> None:
    before = structlog.get_config()
    with capture():
        assert structlog.get_config()["wrapper_class"] is not before["wrapper_class"]
    assert structlog.get_config()["wrapper_class"] is before["wrapper_class"]
