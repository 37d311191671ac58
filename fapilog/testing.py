"""For the tests of those who use fapilog, or write a sink for it.

`capture` collects what a block of code logs. `SinkContract` is what every sink must do, as a test suite: subclass it,
say how to make the sink and how to read back what it wrote, and run pytest.
"""

import asyncio
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from fapilog.context import NOTHING, current_fields, current_request
from fapilog.errors import ConfigurationError
from fapilog.plugins import SinkSpec, build_sink
from fapilog.runtime import Handle, configure_logging
from fapilog.types import INFO, Batch, Record, Sink


class CollectingSink:
    """A sink that keeps every record in memory."""

    name = "collecting"
    default_linger_seconds = 0.0

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.closed = False

    def write(self, batch: Batch, /) -> None:
        """Keep *batch*."""
        self.batches.append(batch)

    def close(self) -> None:
        """Remember that it was closed; what was collected stays."""
        self.closed = True

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record delivered so far, parsed, oldest first."""
        return [orjson.loads(line) for batch in self.batches for line in batch.lines]


class Captured:
    """What a `capture` block has logged."""

    def __init__(self, sink: CollectingSink, handle: Handle) -> None:
        self.handle = handle
        self._sink = sink

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record logged so far, parsed, oldest first; those on their way are waited for."""
        self.handle.flush()
        return self._sink.records

    @property
    def events(self) -> list[str]:
        """The event of every record."""
        return [record["event"] for record in self.records]

    def find(self, **fields: Any) -> dict[str, Any]:
        """Return the one record that has all these fields.

        Raises:
            AssertionError: If there is none, or more than one.
        """
        found = [record for record in self.records if fields.items() <= record.items()]
        assert len(found) == 1, f"{len(found)} records have {fields!r}; logged were {self.events!r}"
        return found[0]


@contextmanager
def capture(app: Any = None, **overrides: Any) -> Iterator[Captured]:
    """Collect what is logged in a `with` block, at every level; settings are those of `configure_logging`."""
    sink = CollectingSink()
    with configure_logging(app, sinks=[sink], **{"level": "trace", **overrides}) as handle:
        yield Captured(sink, handle)


def clear_context() -> None:
    """Forget the current request and every bound field of this context, between two tests."""
    current_request.set(None)
    current_fields.set(NOTHING)


def make_batch(*events: str, level: int = INFO) -> Batch:
    """Return a batch of one record for each event, as the pipeline would hand it to a sink."""
    lines = [
        orjson.dumps({"timestamp": f"2026-01-01T00:00:00.{number:06d}Z", "event": event, "id": f"{number}"}) + b"\n"
        for number, event in enumerate(events)
    ]
    return Batch([Record(level, 1_767_225_600_000_000_000 + number * 1_000, line) for number, line in enumerate(lines)])


class SinkContract:
    """What every sink must do.

    Subclass it as ``class TestMySink(SinkContract)`` and override `make_sink` and `read_lines`.
    """

    def make_sink(self, tmp_path: Path) -> Sink:
        """Return a new sink that writes below *tmp_path*, or to a local server that remembers."""
        raise AssertionError(f"{type(self).__name__} must say how to make the sink")

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        """Return every line that arrived at the far end so far, in order, each ending in a newline."""
        raise AssertionError(f"{type(self).__name__} must say how to read back what was written")

    def test_a_batch_arrives_whole_and_in_order(self, tmp_path: Path) -> None:
        batch = make_batch(*[f"event {number}" for number in range(1_000)])
        self._use(tmp_path, lambda sink: [sink.write(batch)])
        assert self.read_lines(tmp_path) == batch.lines

    def test_batches_arrive_in_the_order_they_were_written(self, tmp_path: Path) -> None:
        batches = [make_batch(f"{number}-a", f"{number}-b") for number in range(20)]
        self._use(tmp_path, lambda sink: [sink.write(batch) for batch in batches])
        assert self.read_lines(tmp_path) == [line for batch in batches for line in batch.lines]

    def test_long_and_foreign_text_arrives_byte_for_byte(self, tmp_path: Path) -> None:
        batch = make_batch("x" * 100_000, "žluťoučký kůň 🐎", '"quoted"\t\u2028')
        self._use(tmp_path, lambda sink: [sink.write(batch)])
        assert self.read_lines(tmp_path) == batch.lines

    def test_it_can_be_opened_and_closed_twice(self, tmp_path: Path) -> None:
        def twice(sink: Sink) -> list[Any]:
            return [_open(sink), sink.write(make_batch("one")), _flush(sink), sink.close()]

        self._use(tmp_path, twice)
        assert len(self.read_lines(tmp_path)) == 1

    def test_a_sink_that_never_wrote_can_be_closed(self, tmp_path: Path) -> None:
        self._use(tmp_path, lambda _sink: [])

    def test_a_copy_as_a_forked_child_makes_it_writes_too(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        if dataclasses.is_dataclass(sink) and not isinstance(sink, type):
            sink = dataclasses.replace(sink)
            _drive(sink, lambda made: [_open(made), made.write(make_batch("from the copy"))])
            assert len(self.read_lines(tmp_path)) == 1

    def test_every_option_has_a_description(self, tmp_path: Path) -> None:
        for name, option in getattr(type(self.make_sink(tmp_path)), "__pydantic_fields__", {}).items():
            assert name.startswith("_") or option.description, f"option {name!r} has no docstring"

    def test_an_unknown_option_is_refused_by_name(self, tmp_path: Path) -> None:
        cls = type(self.make_sink(tmp_path))
        if hasattr(cls, "__pydantic_fields__"):
            spec = SinkSpec(f"{cls.__module__}:{cls.__qualname__}", "tried")
            try:
                build_sink(spec, {"no_such_option": "hunter2"})
            except ConfigurationError as error:
                assert "no_such_option" in str(error)
                assert "hunter2" not in str(error)
            else:
                raise AssertionError("a misspelt option went unnoticed")

    def _use(self, tmp_path: Path, use: Callable[[Sink], list[Any]]) -> None:
        _drive(self.make_sink(tmp_path), lambda sink: [_open(sink), *use(sink), _flush(sink)])


def _open(sink: Any) -> Any:
    return sink.open() if hasattr(sink, "open") else None


def _flush(sink: Any) -> Any:
    return sink.flush() if hasattr(sink, "flush") else None


def _drive(sink: Sink, use: Callable[[Sink], list[Any]]) -> None:
    """Use a sink as the pipeline does: plain functions are called, coroutines awaited in order, then it is closed."""

    async def run() -> None:
        for result in [*use(sink), sink.close()]:
            if inspect.isawaitable(result):
                await result

    asyncio.run(run())
