import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fapilog import bind_context, configure_logging, log
from fapilog.context import current_fields, current_request
from fapilog.testing import CollectingSink, SinkContract, capture, clear_context, make_batch
from fapilog.types import ERROR, Batch
from tests.programs import environment, run


class FileLikeSink:
    """A sink of a third party, with coroutines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def write(self, batch: Batch, /) -> None:
        with self._path.open("ab") as file:
            file.write(batch.payload)

    async def close(self) -> None: ...


class TestAThirdPartySinkProvesItself(SinkContract):
    def make_sink(self, tmp_path: Path) -> FileLikeSink:
        return FileLikeSink(tmp_path / "out")

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        return (tmp_path / "out").read_bytes().splitlines(keepends=True)


def test_the_contract_says_what_a_subclass_forgot(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="must say how to make the sink"):
        SinkContract().make_sink(tmp_path)
    with pytest.raises(AssertionError, match="must say how to read back"):
        SinkContract().read_lines(tmp_path)


@pytest.mark.parametrize(
    "claim", ["test_a_batch_arrives_whole_and_in_order", "test_batches_arrive_in_the_order_they_were_written"]
)
def test_the_contract_finds_a_sink_that_loses_a_record(claim: str, tmp_path: Path) -> None:
    class Lossy(TestAThirdPartySinkProvesItself):
        def make_sink(self, tmp_path: Path) -> FileLikeSink:
            sink = FileLikeSink(tmp_path / "out")
            writing = sink.write
            sink.write = lambda batch, /: writing(batch[:-1])  # type: ignore[method-assign]
            return sink

    with pytest.raises(AssertionError):
        getattr(Lossy(), claim)(tmp_path)


def test_capture_collects_every_level() -> None:
    with capture() as captured:
        log.trace("a")
        log.critical("b")
        assert captured.events == ["a", "b"]


def test_what_was_captured_can_be_read_after_the_block() -> None:
    with capture() as captured:
        log.info("a")
    assert captured.events == ["a"]


def test_capture_takes_settings() -> None:
    with capture(level="error", service="shop") as captured:
        log.info("a")
        log.error("b")
        assert captured.find(event="b")["service"] == "shop"
        assert captured.events == ["b"]


def test_find_all_takes_every_record_that_fits_even_one_with_a_list() -> None:
    with capture() as captured:
        log.info("a", n=[1])
        log.info("a", n=[2])
        log.info("b", n=[1])
        assert [record["n"] for record in captured.find_all(event="a")] == [[1], [2]]
        assert captured.find(n=[2])["event"] == "a"


def test_what_was_logged_before_a_test_comes_to_its_point_can_be_forgotten() -> None:
    with capture() as captured:
        log.info("a")
        captured.clear()
        log.info("b")
        assert captured.events == ["b"]


def test_what_ran_before_goes_on_afterwards_and_its_handle_holds(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    with configure_logging(sinks=[{"type": "file", "path": str(path)}], level="warning") as handle:
        log.warning("before")
        with capture() as captured:
            log.info("during")
        assert captured.events == ["during"]
        log.info("below the level")
        log.warning("after")
        handle.flush()
        assert [line.split('"event":"')[1].split('"')[0] for line in path.read_text().splitlines()] == [
            "before",
            "after",
        ]


def test_the_fixture_follows_a_configuration_made_before_and_one_made_in_the_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from fapilog.testing import caplog_json\n")
    (tmp_path / "app.py").write_text(
        textwrap.dedent("""
            import structlog
            from fapilog import configure_logging, get_logger

            sinks = [{"type": "file", "path": "app.log"}]
            configure_logging(sinks=sinks, level="info", service="shop", redact_fields="iban")
            log = get_logger("shop").bind(iban="DE02", part="orders")
            cached = structlog.get_logger("cached")
            cached.info("cached on first use")
        """)
    )
    (tmp_path / "test_app.py").write_text(
        textwrap.dedent("""
            import logging
            import pytest
            from fapilog.errors import ConfigurationError
            from app import cached, configure_logging, log

            def test_the_configuration_of_the_app_is_kept(caplog_json):
                log.debug("below the level")
                log.info("order placed", order_id=7)
                cached.warning("still here")
                logging.getLogger("app").info("standard")
                assert caplog_json.events == ["order placed", "still here", "standard"]
                record = caplog_json.find(event="order placed")
                assert (record["service"], record["iban"], record["order_id"]) == ("shop", "REDACTED", 7)

            def test_each_test_has_its_own(caplog_json):
                assert caplog_json.records == []
                configure_logging(sinks=[{"type": "file", "path": "other.log"}], service="other")
                log.info("a")
                assert caplog_json.find(event="a")["service"] == "other"

            def test_a_sink_that_cannot_be_made_is_noticed(caplog_json):
                with pytest.raises(ConfigurationError):
                    configure_logging(sinks=[{"type": "file", "pth": "x"}])

            def test_without_the_fixture_records_go_where_they_went():
                log.info("to the file")
        """)
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-W", "error"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert not (tmp_path / "other.log").exists()
    events = re.findall(r'"event":"([^"]+)"', (tmp_path / "app.log").read_text())
    assert events == ["cached on first use", "to the file"]


def test_the_fixture_collects_every_level_where_nothing_is_configured(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from fapilog.testing import caplog_json\n")
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            from fapilog import log

            def test_it(caplog_json):
                log.trace("a")
                assert caplog_json.events == ["a"]
        """)
    )
    command = [sys.executable, "-m", "pytest", "-q"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout


def test_importing_the_module_imports_no_pytest() -> None:
    ran = run("import sys, fapilog.testing; print('pytest' in sys.modules)")
    assert ran.stdout.split() == [b"False"]


def test_find_wants_exactly_one_record() -> None:
    with capture() as captured:
        log.info("a", n=1)
        log.info("a", n=2)
        assert captured.find(event="a", n=2)["n"] == 2
        with pytest.raises(AssertionError, match="2 records have"):
            captured.find(event="a")
        with pytest.raises(AssertionError, match=r"0 records have .*logged were \['a', 'a'\]"):
            captured.find(event="b")


def test_a_collecting_sink_keeps_its_records_when_it_is_closed() -> None:
    sink = CollectingSink()
    sink.write(make_batch("one"))
    sink.close()
    assert (sink.closed, [record["event"] for record in sink.records]) == (True, ["one"])


def test_a_batch_made_for_a_test_is_as_the_pipeline_makes_it() -> None:
    batch = make_batch("one", "two", level=ERROR)
    assert [record.level for record in batch] == [ERROR, ERROR]
    assert batch.lines[0].endswith(b"\n")
    assert batch[0].timestamp_ns < batch[1].timestamp_ns


def test_clearing_the_context_forgets_everything_bound() -> None:
    bind_context(user="ann")
    clear_context()
    assert (current_fields.get(), current_request.get()) == ({}, None)
