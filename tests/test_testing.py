from pathlib import Path

import pytest

from fapilog import bind_context, log
from fapilog.context import current_fields, current_request
from fapilog.testing import CollectingSink, SinkContract, capture, clear_context, make_batch
from fapilog.types import ERROR, Batch


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
