import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fapilog import configure_logging
from fapilog.errors import ConfigurationError, SinkClosedError
from fapilog.sinks.stdout import StdoutSink
from fapilog.testing import SinkContract, make_batch
from tests.programs import command, environment, parse_all, run

LOG_TO_STDOUT = """
    import fapilog

    fapilog.configure_logging(sinks=["stdout"])
    for number in range(20_000):
        fapilog.log.info("counted", number=number)
"""


def test_a_reader_that_has_enough_ends_the_sink_and_nothing_else() -> None:
    with subprocess.Popen(
        command(LOG_TO_STDOUT), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert b'"number":0,' in program.stdout.readline()
        program.stdout.close()
        assert (program.stderr.read(), program.wait(30)) == (b"", 0)


class TestStdoutSinkKeepsTheContract(SinkContract):
    def make_sink(self, tmp_path: Path) -> StdoutSink:
        fd = os.open(tmp_path / "stdout", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.fds.append(fd)
        return StdoutSink(format="json", fd=fd)

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        return (tmp_path / "stdout").read_bytes().splitlines(keepends=True)

    @pytest.fixture(autouse=True)
    def _close(self) -> Iterator[None]:
        self.fds: list[int] = []
        yield
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with suppress(OSError):
            os.close(fd)


def written(fd: int, **options: Any) -> StdoutSink:
    """Return an open sink that has written one record to *fd*."""
    sink = StdoutSink(fd=fd, **options)
    sink.open()
    sink.write(make_batch("one"))
    return sink


def test_a_pipe_gets_json(pipe: tuple[int, int]) -> None:
    written(pipe[1]).close()
    assert os.read(pipe[0], 10_000) == make_batch("one").payload


def test_pretty_may_be_asked_for_in_any_case(pipe: tuple[int, int]) -> None:
    written(pipe[1], format="Pretty").close()
    assert os.read(pipe[0], 10_000).endswith(b" one\n")


def test_a_terminal_gets_pretty_lines_in_colour_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, terminal = pty.openpty()
    sink = written(terminal)
    assert b"\x1b[" in os.read(master, 10_000)
    assert sink.default_linger_seconds == 0
    sink.close()
    os.close(terminal)
    os.close(master)


@pytest.mark.parametrize(("name", "coloured"), [("NO_COLOR", False), ("FORCE_COLOR", True)])
def test_colour_follows_the_two_variables_everybody_knows(
    name: str, coloured: bool, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    for other in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "1")
    written(pipe[1], format="pretty").close()
    assert (b"\x1b[" in os.read(pipe[0], 10_000)) is coloured


def test_closing_leaves_standard_output_open(pipe: tuple[int, int]) -> None:
    written(pipe[1]).close()
    assert os.write(pipe[1], b"still open") == 10


def test_a_reader_that_is_gone_closes_the_sink(pipe: tuple[int, int]) -> None:
    sink = written(pipe[1])
    os.close(pipe[0])
    with pytest.raises(SinkClosedError, match="reader of standard output is gone"):
        sink.write(make_batch("two"))
    sink.close()


def test_a_pipe_that_never_had_a_reader_neither_hangs_nor_fails_to_open(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    sink = StdoutSink(fd=pipe[1])
    sink.open()
    with pytest.raises(SinkClosedError):
        sink.write(make_batch("one"))
    sink.close()


def test_without_a_standard_output_the_sink_is_closed(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    sink = StdoutSink(fd=fd)
    sink.open()
    os.close(fd)
    with pytest.raises(SinkClosedError, match="no standard output"):
        sink.write(make_batch("one"))
    sink.close()


@pytest.mark.parametrize("fd", [999_999, 0, -1])
def test_a_descriptor_that_is_not_open_stops_the_start(fd: int) -> None:
    with pytest.raises(ConfigurationError, match="file descriptor 999999 is not open" if fd > 0 else "option 'fd'"):
        configure_logging(sinks=[{"type": "stdout", "fd": fd}])


def test_another_error_of_the_descriptor_is_the_pipeline_s_to_judge() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        written(full.fileno())


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_every_byte(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    batch = make_batch(*["x" * 1_000] * 1_000)
    sink = StdoutSink(fd=pipe[1])
    sink.open()
    thread = threading.Thread(target=sink.write, args=(batch,))
    thread.start()
    read = b""
    while len(read) < batch.size_bytes:
        read += os.read(pipe[0], 5_000)
    thread.join(10)
    sink.close()
    assert read == batch.payload


def test_processes_that_share_a_pipe_tear_no_line_however_long() -> None:
    program = """
        import os, sys
        import fapilog

        fapilog.configure_logging(sinks=["stdout"], service=sys.argv[1])
        for number in range(150):
            fapilog.log.info("x" * 20_000, number=number)
    """
    reader, writer = os.pipe()
    running = [
        subprocess.Popen(command(program, process), env=environment(), stdout=writer, stderr=subprocess.PIPE)
        for process in range(3)
    ]
    os.close(writer)
    with os.fdopen(reader, "rb") as shared:
        records = parse_all(shared.read())
    assert [program.communicate(timeout=60)[1] for program in running] == [b""] * 3
    for process in range(3):
        numbers = [record["number"] for record in records if record["service"] == str(process)]
        assert numbers == list(range(150))


def test_children_that_inherited_one_pipe_tear_no_line_either() -> None:
    ended = run(
        """
            import os
            import fapilog

            fapilog.configure_logging(sinks=["stdout"])
            fapilog.log.info("from the parent")
            children = [os.fork() for _ in range(1)]
            for number in range(150):
                fapilog.log.info("x" * 20_000, number=number, child=0 in children)
            for child in children:
                if child:
                    os.waitpid(child, 0)
        """,
        env={"PYTHONWARNINGS": "default"},
    )
    records = [record for record in parse_all(ended.stdout) if "child" in record]
    for child in (True, False):
        assert [record["number"] for record in records if record["child"] is child] == list(range(150))
    assert ended.returncode == 0


def test_a_process_without_a_standard_output_ends_well() -> None:
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command(LOG_TO_STDOUT)],
        env=environment(),
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
