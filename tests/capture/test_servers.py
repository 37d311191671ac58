import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from fapilog.capture import NAMES, RecordHandler, ServerLoggers
from fapilog.context import RequestContext, current_request, remember_request
from fapilog.pipeline.queue import Queue, Sequence
from fapilog.recorder import Recorder, slot
from fapilog.types import TRACE

UVICORN = [name for name in NAMES if name.startswith("uvicorn")]
IDS = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "request_id": "r-1"}


class Logged:
    """What was logged since the last look."""

    def __init__(self) -> None:
        self.queue = Queue(Sequence())

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for _, _, line in self.queue.take()[0]]

    def one(self) -> dict[str, Any]:
        records = self.records()
        assert len(records) == 1, records
        return records[0]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    logged = Logged()
    monkeypatch.setattr(slot, "recorder", Recorder(logged.queue, level=TRACE))
    return logged


@pytest.fixture(autouse=True)
def _as_python_starts() -> Iterator[None]:
    """Have uvicorn's loggers as nobody has touched them, before and after."""
    before = state()
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers, logger.filters, logger.propagate, logger.disabled = [], [], True, False
        logger.setLevel(logging.NOTSET)
    yield
    for name, (level, propagate, handlers, filters, disabled) in before.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.filters, logger.propagate, logger.disabled = handlers, filters, propagate, disabled
        logger.setLevel(level)


@pytest.fixture
def servers() -> Iterator[ServerLoggers]:
    servers = ServerLoggers()
    yield servers
    servers.release()


def state() -> dict[str, Any]:
    loggers = [logging.getLogger(name) for name in NAMES]
    return {
        logger.name: (
            logger.level,
            logger.propagate,
            list(logger.handlers),
            list(logger.filters),
            logger.disabled,
        )
        for logger in loggers
    }


def configure_uvicorn(**options: Any) -> None:
    uvicorn.Config(FastAPI(), **options)


def log_as(name: str = "uvicorn.error") -> logging.Logger:
    return logging.getLogger(name)


class Remembering(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


def raised(error: Exception) -> Exception:
    """Return *error* with a traceback."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


class TestRecords:
    @pytest.fixture
    def logger(self) -> logging.Logger:
        logger = logging.Logger("tests.capture", 1)  # known to nobody else, pytest included
        logger.addHandler(RecordHandler())
        return logger

    def test_it_has_the_message_the_level_and_the_name_of_the_logger(
        self, logged: Logged, logger: logging.Logger
    ) -> None:
        logger.warning("%d of %s", 3, "many")
        record = logged.one()
        assert (record["event"], record["level"], record["logger"]) == ("3 of many", "warning", "tests.capture")

    @pytest.mark.parametrize(
        ("number", "name"),
        [(1, "trace"), (5, "trace"), (15, "debug"), (25, "success"), (39, "warning"), (99, "critical")],
    )
    def test_a_level_we_do_not_have_becomes_the_one_below(
        self, logged: Logged, logger: logging.Logger, number: int, name: str
    ) -> None:
        logger.log(number, "x")
        assert [record["level"] for record in logged.records()] == ([name] if number >= TRACE else [])

    def test_extra_fields_are_kept_but_not_colours(self, logged: Logged, logger: logging.Logger) -> None:
        logger.info("x", extra={"order_id": 7, "color_message": "\x1b[36mx", "host": "mine"})
        record = logged.one()
        assert (record["order_id"], record["host_"]) == (7, "mine")
        assert "color_message" not in record
        assert not [name for name in ("args", "msg", "lineno", "taskName", "threadName") if name in record]

    def test_arguments_that_do_not_fit_cost_no_text(self, logged: Logged, logger: logging.Logger) -> None:
        logger.info("%d apples", "seven")
        record = logged.one()
        assert record["event"] == "%d apples"
        assert record["_args"] == ["seven"]
        assert record["_format_error"].startswith("TypeError: ")

    def test_a_message_that_cannot_be_text_is_named(self, logged: Logged, logger: logging.Logger) -> None:
        class Rude:
            def __str__(self) -> str:
                raise ValueError("no")

        logger.info(Rude())
        assert (logged.one()["event"]) == "Rude"

    @pytest.mark.parametrize("passes", [True, False])
    def test_a_filter_on_our_handler_decides(self, logged: Logged, logger: logging.Logger, passes: bool) -> None:
        logger.handlers[0].addFilter(lambda _record: passes)
        logger.info("x")
        assert len(logged.records()) == passes

    def test_an_exception_is_structured(self, logged: Logged, logger: logging.Logger) -> None:
        logger.error("failed", exc_info=raised(ValueError("boom")))
        record = logged.one()
        assert (record["exception"]["type"], record["exception"]["message"]) == ("ValueError", "boom")
        assert "Traceback" in record["exception"]["stacktrace"]

    def test_a_stack_is_kept(self, logged: Logged, logger: logging.Logger) -> None:
        logger.info("here", stack_info=True)
        assert "test_a_stack_is_kept" in logged.one()["stack"]

    def test_a_line_break_at_the_end_is_no_part_of_the_event(self, logged: Logged, logger: logging.Logger) -> None:
        logger.info("Exception in ASGI application\n")
        assert logged.one()["event"] == "Exception in ASGI application"

    def test_what_the_threads_of_the_pipeline_log_is_ignored(self, logged: Logged, logger: logging.Logger) -> None:
        thread = threading.Thread(target=logger.error, args=("feedback",), name="fapilog-worker")
        thread.start()
        thread.join(10)
        assert logged.records() == []

    def test_a_request_that_is_current_lends_its_ids(self, logged: Logged, logger: logging.Logger) -> None:
        token = current_request.set(RequestContext(IDS))
        logger.info("inside")
        current_request.reset(token)
        assert IDS.items() <= logged.one().items()

    @pytest.mark.parametrize("told", [True, False])
    def test_an_exception_that_left_a_request_brings_its_ids(
        self, logged: Logged, logger: logging.Logger, told: bool
    ) -> None:
        handler: Any = logger.handlers[0]
        handler.stacks_are_told = told
        error = raised(ValueError("boom"))
        remember_request(error, RequestContext(IDS))
        logger.error("Exception in ASGI application", exc_info=error)
        record = logged.one()
        assert IDS.items() <= record.items()
        assert (record["exception"]["type"], record["exception"]["message"]) == ("ValueError", "boom")
        assert ("stacktrace" in record["exception"]) is not told
        assert current_request.get() is None


class TestTakingOver:
    def test_the_server_speaks_through_us_and_only_through_us(
        self, logged: Logged, servers: ServerLoggers, capfd: pytest.CaptureFixture[str]
    ) -> None:
        configure_uvicorn()
        servers.capture(silence_access=True)
        log_as("uvicorn").info("one")
        log_as("uvicorn.error").warning("two")
        log_as("uvicorn.asgi").error("three")
        assert [(record["logger"], record["event"]) for record in logged.records()] == [
            ("uvicorn", "one"),
            ("uvicorn.error", "two"),
            ("uvicorn.asgi", "three"),
        ]
        assert capfd.readouterr() == ("", "")

    def test_access_lines_are_not_even_formatted_while_there_are_access_records(
        self, logged: Logged, servers: ServerLoggers
    ) -> None:
        configure_uvicorn()
        servers.capture(silence_access=True)
        assert not log_as("uvicorn.access").hasHandlers()
        log_as("uvicorn.access").info("GET /")
        assert logged.records() == []

    def test_access_lines_are_records_when_there_are_no_others(self, logged: Logged, servers: ServerLoggers) -> None:
        configure_uvicorn()
        servers.capture(silence_access=False)
        log_as("uvicorn.access").info('%s - "%s"', "1.2.3.4", "GET /")
        assert (logged.one()["event"]) == '1.2.3.4 - "GET /"'

    def test_access_lines_that_the_user_has_switched_off_stay_off(self, logged: Logged, servers: ServerLoggers) -> None:
        configure_uvicorn(access_log=False)
        servers.capture(silence_access=False)
        log_as("uvicorn.access").info("GET /")
        assert logged.records() == []

    def test_the_level_the_user_chose_stays(self, logged: Logged, servers: ServerLoggers) -> None:
        configure_uvicorn(log_level="warning")
        servers.capture(silence_access=True)
        log_as().info("quiet")
        log_as().warning("loud")
        assert logged.one()["event"] == "loud"

    def test_info_is_heard_even_if_uvicorn_leaves_logging_alone(self, logged: Logged, servers: ServerLoggers) -> None:
        configure_uvicorn(log_config=None)
        servers.capture(silence_access=True)
        log_as().info("Started server process")
        assert logged.one()["event"] == "Started server process"

    @pytest.mark.parametrize("options", [{}, {"log_level": "debug"}, {"use_colors": True}, {"access_log": False}])
    def test_a_configuration_that_comes_later_does_not_get_a_single_record(
        self, logged: Logged, servers: ServerLoggers, capfd: pytest.CaptureFixture[str], options: dict[str, Any]
    ) -> None:
        servers.capture(silence_access=True)
        configure_uvicorn(**options)
        log_as().info("Started server process [%d]", 7)
        log_as().info("Waiting for application startup.")
        log_as("uvicorn.access").info("GET /")
        assert [record["event"] for record in logged.records()] == [
            "Started server process [7]",
            "Waiting for application startup.",
        ]
        assert capfd.readouterr() == ("", "")

    def test_taking_over_twice_logs_once(self, logged: Logged, servers: ServerLoggers) -> None:
        servers.capture(silence_access=True)
        taken = state()
        servers.capture(silence_access=True)
        assert state() == taken
        log_as().info("once")
        assert logged.one()["event"] == "once"

    def test_a_handler_that_somebody_adds_later_gets_its_share_and_stays(
        self, logged: Logged, servers: ServerLoggers
    ) -> None:
        handler = Remembering()
        servers.capture(silence_access=True)
        for name in NAMES:
            log_as(name).addHandler(handler)
            log_as(name).info("shared")
        assert [record["logger"] for record in logged.records()] == ["uvicorn", "uvicorn.error", "uvicorn.asgi"]
        assert [record.name for record in handler.seen] == ["uvicorn", "uvicorn.error", "uvicorn.asgi"]
        servers.release()
        assert [log_as(name).handlers for name in NAMES] == [[handler]] * len(NAMES)


class TestGivingBack:
    @pytest.mark.parametrize("silence_access", [True, False])
    @pytest.mark.parametrize("options", [None, {}, {"log_config": None}, {"access_log": False, "log_level": "error"}])
    def test_everything_is_as_it_was(self, options: dict[str, Any] | None, silence_access: bool) -> None:
        if options is not None:
            configure_uvicorn(**options)
        before = state()
        servers = ServerLoggers()
        servers.capture(silence_access=silence_access)
        servers.capture(silence_access=not silence_access)
        assert state() != before
        servers.release()
        assert state() == before
        servers.release()
        assert state() == before

    def test_what_was_configured_in_between_is_what_comes_back(self) -> None:
        servers = ServerLoggers()
        servers.capture(silence_access=True)
        configure_uvicorn()
        configured = [log_as(name).handlers for name in UVICORN]
        log_as().info("taken over again")
        servers.release()
        assert [log_as(name).handlers for name in UVICORN] == configured

    def test_what_was_configured_and_not_used_stays(self) -> None:
        servers = ServerLoggers()
        servers.capture(silence_access=True)
        configure_uvicorn()
        configured = [log_as(name).handlers for name in UVICORN]
        servers.release()
        assert [log_as(name).handlers for name in UVICORN] == configured
        assert [log_as(name).filters for name in NAMES] == [[]] * len(NAMES)


class TestOtherServers:
    """Each is given to us as the server itself configures it."""

    def test_gunicorn_and_the_lists_of_handlers_it_shares_with_uvicorn(
        self, logged: Logged, servers: ServerLoggers, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from gunicorn.config import Config
        from gunicorn.glogging import Logger

        config = Config()
        config.set("accesslog", "-")
        servers.capture(silence_access=True)
        gunicorn = Logger(config)
        for ours, theirs in (("uvicorn.error", gunicorn.error_log), ("uvicorn.access", gunicorn.access_log)):
            log_as(ours).handlers, log_as(ours).propagate = theirs.handlers, False
        log_as("gunicorn.error").info("Booting worker")
        log_as("uvicorn.error").info("Started server process")
        log_as("gunicorn.access").info("GET /")
        log_as("uvicorn.access").info("GET /")
        assert [record["event"] for record in logged.records()] == ["Booting worker", "Started server process"]
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("first", ["hypercorn", "fapilog"])
    def test_hypercorn_whichever_is_first(
        self, logged: Logged, servers: ServerLoggers, capfd: pytest.CaptureFixture[str], first: str
    ) -> None:
        from hypercorn.config import Config
        from hypercorn.logging import Logger

        config = Config()
        config.accesslog = "-"
        if first == "hypercorn":
            Logger(config)
            servers.capture(silence_access=True)
        else:
            servers.capture(silence_access=True)
            Logger(config)
        log_as("hypercorn.error").info("Running on http://127.0.0.1:8000")
        log_as("hypercorn.access").info("GET /")
        assert logged.one()["event"] == "Running on http://127.0.0.1:8000"
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("first", ["granian", "fapilog"])
    def test_granian_whichever_is_first(
        self, logged: Logged, servers: ServerLoggers, capfd: pytest.CaptureFixture[str], first: str
    ) -> None:
        from granian.log import LogLevels, configure_logging

        if first == "granian":
            configure_logging(LogLevels.info)
            servers.capture(silence_access=True)
        else:
            servers.capture(silence_access=True)
            configure_logging(LogLevels.info)
        log_as("_granian.workers").info("Started worker-1")
        log_as("_granian").info("Listening")
        log_as("granian.access").info("GET /")
        assert [record["event"] for record in logged.records()][-1] == "Listening"
        assert "Listening" not in "".join(capfd.readouterr())

    def test_a_file_that_a_server_was_told_to_log_to_is_written_still(
        self, logged: Logged, servers: ServerLoggers, tmp_path: Path
    ) -> None:
        from gunicorn.config import Config
        from gunicorn.glogging import Logger

        config = Config()
        config.set("errorlog", str(tmp_path / "error.log"))
        logger = Logger(config).error_log
        servers.capture(silence_access=True)
        logger.info("Booting worker")
        servers.release()
        for handler in logger.handlers:
            handler.close()
        assert logged.one()["event"] == "Booting worker"
        assert "Booting worker" in (tmp_path / "error.log").read_text()


SCRIPT = """
    import asyncio, sys
    import fapilog, uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def root() -> None:
        raise RuntimeError("boom")

    {configured}

    async def main(config):
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\\r\\nhost: test\\r\\nconnection: close\\r\\n\\r\\n")
        await reader.read()
        writer.close()
        server.should_exit = True
        await serving

    asyncio.run(main({config}))
"""

CONFIGURE = "fapilog.configure_logging(app, sinks=['stdout'], json_console='json')"
CONFIG = "uvicorn.Config(app, port=0)"


@pytest.mark.parametrize(
    ("configured", "config"),
    [
        (CONFIGURE, CONFIG),
        (f"config = {CONFIG}; {CONFIGURE}", "config"),
    ],
    ids=["we are configured before uvicorn", "uvicorn is configured before us"],
)
def test_under_a_real_server_every_line_is_ours_and_a_failure_has_its_ids(
    tmp_path: Path, configured: str, config: str
) -> None:
    script = textwrap.dedent(SCRIPT).format(configured=configured, config=config)
    ran = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    records = [json.loads(line) for line in ran.stdout.splitlines()]
    events = [record["event"] for record in records]
    assert events[0].startswith("Started server process")
    assert events[-1].startswith("Finished server process")
    assert "Application startup complete." in events
    access, failed = [record for record in records if "trace_id" in record]
    assert (access["event"], failed["event"]) == ("request failed", "Exception in ASGI application")
    assert access["trace_id"] == failed["trace_id"]
    assert "stacktrace" in access["exception"]
    assert failed["exception"] == {"type": "RuntimeError", "message": "boom"}
