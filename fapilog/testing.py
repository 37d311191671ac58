"""For the tests of those who use fapilog, or write a sink for it.

`capture` collects what a block of code logs, `caplog_json` what a test does. `SinkContract` is what every sink must do,
as a test suite: subclass it, say how to make the sink and how to read back what it wrote, and run pytest.
`NetworkSinkContract` is what a sink that sends over HTTP must do besides.
"""

import asyncio
import dataclasses
import inspect
import socketserver
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import orjson

from fapilog.context import NOTHING, current_fields, current_request
from fapilog.errors import (
    BatchTooLargeError,
    ConfigurationError,
    CredentialsError,
    DeliveryError,
    MisconfiguredError,
    RetryableError,
)
from fapilog.plugins import SinkSpec, build_sink, options_of
from fapilog.runtime import Handle, configure_logging, flush, set_aside
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
    """What a `capture` block, or a test with `caplog_json`, has logged."""

    def __init__(self, sink: CollectingSink, handle: Handle) -> None:
        self.handle = handle
        self._sink = sink

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record logged so far, parsed, oldest first; those on their way are waited for."""
        flush()
        return self._sink.records

    def clear(self) -> None:
        """Forget what was logged so far."""
        flush()
        self._sink.batches.clear()

    @property
    def events(self) -> list[str]:
        """The event of every record."""
        return [record["event"] for record in self.records]

    def find(self, **fields: Any) -> dict[str, Any]:
        """Return the one record that has all these fields.

        Raises:
            AssertionError: If there is none, or more than one.
        """
        found = self.find_all(**fields)
        assert len(found) == 1, f"{len(found)} records have {fields!r}; logged were {self.events!r}"
        return found[0]

    def find_all(self, **fields: Any) -> list[dict[str, Any]]:
        """Return every record that has all these fields, oldest first."""
        wanted = fields.items()
        return [
            record for record in self.records if all(name in record and record[name] == value for name, value in wanted)
        ]


@contextmanager
def capture(app: Any = None, **overrides: Any) -> Iterator[Captured]:
    """Collect what is logged in a `with` block, at every level; settings are those of `configure_logging`.

    What ran before goes on after the block.
    """
    sink = CollectingSink()
    with set_aside(), configure_logging(app, sinks=[sink], **{"level": "trace", **overrides}) as handle:
        yield Captured(sink, handle)


caplog_json: Any
"""A fixture of pytest, for a conftest.py: ``from fapilog.testing import caplog_json``. A test that asks for it gets a
`Captured` with what is logged during the test.

A configuration that runs already goes on with its level, processors and redaction, but its records come here and
nowhere else; the same holds for one that the test makes. Without any, every level is collected."""


def __getattr__(name: str) -> Any:
    if name != "caplog_json":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest  # noqa: PLC0415 - only who asks for the fixture has it

    @pytest.fixture(name=name)
    def fixture() -> Iterator[Captured]:
        sink = CollectingSink()
        with set_aside(sink) as running:
            yield Captured(sink, running or configure_logging(sinks=[sink], level="trace"))

    globals()[name] = fixture
    return fixture


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
        for name, option in options_of(type(self.make_sink(tmp_path))).items():
            assert option.description, f"option {name!r} has no docstring"

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


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP answer as bytes; the name of a header has ``_`` for ``-``."""
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class FarEnd:
    """A local HTTP server for the test of a sink: it remembers each request and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        """Head and body of every request."""
        self.sent_bytes = 0
        """How much it has answered."""
        self.closing = threading.Event()
        """Set when the test is over; what answers slowly waits on it."""
        self.says: Callable[[], Iterator[bytes]] = lambda: iter([answer(204)])
        """Makes an answer, piece by piece."""
        end = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    while end._read(self.rfile):
                        for piece in end.says():
                            self.wfile.write(piece)
                            end.sent_bytes += len(piece)
                except OSError:
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://localhost:{self.port}/logs"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def say(self, *pieces: bytes) -> None:
        """Answer every request with these pieces."""
        self.says = lambda: iter(pieces)

    def go_on(self, head: bytes, piece: bytes, pause_seconds: float) -> None:
        """Answer with *head* and then with *piece* again and again, until the test is over."""

        def pieces() -> Iterator[bytes]:
            yield head
            while not self.closing.wait(pause_seconds):
                yield piece

        self.says = pieces

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _read(self, file: Any) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = file.readline(65_536)
            if not line:
                return False
            head += line
        lengths = [line[15:] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
        self.requests.append((head, file.read(int(lengths[0])) if lengths else b""))
        return True


class NetworkSinkContract(SinkContract):
    """What every sink that sends over HTTP must do besides.

    Override `make_network_sink` too, and `success` if the far end says it in another way.
    """

    success: bytes = answer(200, b"{}", Content_Type="application/json")
    """How the far end says that it accepted a batch."""

    def make_network_sink(self, endpoint: str, *, secret: str, timeout_seconds: float) -> Sink:
        """Return a new sink that sends to *endpoint*, an ``http://`` URL, with *secret* for its credentials."""
        raise AssertionError(f"{type(self).__name__} must say how to make a sink for an endpoint")

    def test_a_batch_is_kept_while_the_far_end_fails(self) -> None:
        for status in (408, 425, 429, 500, 502, 503, 504, 520):
            with FarEnd() as far_end:
                far_end.say(answer(status))
                error = self._fail(far_end.url, RetryableError)
            assert not isinstance(error, MisconfiguredError), status

    def test_the_far_end_is_left_alone_as_long_as_it_asks(self) -> None:
        with FarEnd() as far_end:
            far_end.say(answer(503, Retry_After="7"))
            error = self._fail(far_end.url, RetryableError)
        assert error.retry_after_seconds == 7.0

    def test_a_batch_that_is_too_large_is_said_to_be(self) -> None:
        with FarEnd() as far_end:
            far_end.say(answer(413))
            self._fail(far_end.url, BatchTooLargeError)

    def test_refused_credentials_keep_the_batch(self) -> None:
        for status in (401, 403):
            with FarEnd() as far_end:
                far_end.say(answer(status))
                self._fail(far_end.url, CredentialsError)

    def test_a_redirect_is_not_followed_and_keeps_the_batch(self) -> None:
        for status in (301, 302, 307, 308):
            with FarEnd() as far_end, FarEnd() as elsewhere:
                far_end.say(answer(status, Location=elsewhere.url))
                self._fail(far_end.url, RetryableError)
                assert elsewhere.requests == []

    def test_an_answer_that_does_not_come_is_awaited_until_the_deadline_and_ambiguous(self) -> None:
        with FarEnd() as far_end:
            far_end.go_on(b"", b"", 0.1)
            started = time.monotonic()
            error = self._fail(far_end.url, RetryableError, timeout_seconds=0.5)
            assert 0.4 < time.monotonic() - started < 3
        assert error.ambiguous

    def test_an_answer_that_drips_is_cut_at_the_deadline(self) -> None:
        with FarEnd() as far_end:
            far_end.go_on(b"HTTP/1.1 204 -\r\nX: ", b"x", 0.05)
            started = time.monotonic()
            error = self._fail(far_end.url, RetryableError, timeout_seconds=0.5)
            assert time.monotonic() - started < 3
        assert error.ambiguous

    def test_an_endless_answer_is_read_no_further_than_it_takes(self) -> None:
        with FarEnd() as far_end:
            far_end.go_on(b"HTTP/1.1 503 -\r\nContent-Length: 1000000000000\r\n\r\n", b"x" * 65_536, 0)
            started = time.monotonic()
            self._fail(far_end.url, RetryableError, timeout_seconds=5.0)
            assert time.monotonic() - started < 3
            assert far_end.sent_bytes < 32 * 1024 * 1024

    def test_a_connection_cut_after_the_body_is_ambiguous(self) -> None:
        with FarEnd() as far_end:
            far_end.says = _hang_up
            error = self._fail(far_end.url, RetryableError)
        assert error.ambiguous

    def test_nobody_there_is_no_ambiguity(self) -> None:
        with FarEnd() as far_end:
            gone = far_end.url
        error = self._fail(gone, RetryableError)
        assert not error.ambiguous

    def test_a_proxy_in_the_environment_is_not_used(self, monkeypatch: Any) -> None:
        with FarEnd() as far_end, FarEnd() as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            far_end.say(self.success)
            self._write(far_end.url, make_batch("direct"))
            assert len(far_end.requests) == 1
            assert proxy.requests == []

    def test_a_batch_written_again_is_the_same_to_the_byte(self) -> None:
        with FarEnd() as far_end:
            far_end.say(self.success)
            batch = make_batch("one", "two")
            self._write(far_end.url, batch)
            self._write(far_end.url, batch)
            assert len(far_end.requests) == 2
            assert far_end.requests[0] == far_end.requests[1]

    def test_no_secret_shows_in_the_sink(self) -> None:
        sink = self.make_network_sink("http://localhost:1/logs", secret=_SECRET, timeout_seconds=5.0)
        assert _SECRET not in repr(sink)
        assert _SECRET not in str(getattr(sink, "destination", ""))
        if dataclasses.is_dataclass(sink) and not isinstance(sink, type):
            assert _SECRET not in repr(dataclasses.asdict(sink))

    def _fail(self, url: str, expected: type[Any], *, timeout_seconds: float = 5.0) -> Any:
        """Return the error that a write ends in, which has no secret in it."""
        try:
            self._write(url, make_batch("one", "two"), timeout_seconds=timeout_seconds)
        except DeliveryError as error:
            assert isinstance(error, expected), f"{error!r} is no {expected.__name__}"
            assert _SECRET not in "".join(traceback.format_exception(error))
            return error
        raise AssertionError(f"the batch counts as delivered; expected was {expected.__name__}")

    def _write(self, url: str, batch: Batch, *, timeout_seconds: float = 5.0) -> None:
        sink = self.make_network_sink(url, secret=_SECRET, timeout_seconds=timeout_seconds)
        _drive(sink, lambda made: [_open(made), made.write(batch)])


_SECRET: Final = "canary-hunter2"  # noqa: S105 - it is one, and must not be seen


def _hang_up() -> Iterator[bytes]:
    raise ConnectionAbortedError
    yield b""


def _open(sink: Any) -> Any:
    return sink.open() if hasattr(sink, "open") else None


def _flush(sink: Any) -> Any:
    return sink.flush() if hasattr(sink, "flush") else None


def _drive(sink: Sink, use: Callable[[Sink], list[Any]]) -> None:
    """Use a sink as the pipeline does: plain functions are called, coroutines awaited in order, then it is closed."""

    async def run() -> None:
        try:
            for result in use(sink):
                if inspect.isawaitable(result):
                    await result
        finally:
            closing = sink.close()
            if inspect.isawaitable(closing):
                await closing

    asyncio.run(run())
