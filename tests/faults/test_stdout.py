"""Standard output that nobody reads, that is full or shared, and a writer that cannot go on (F030, F062 to F066).

What one call of the sink does is in tests/sinks/test_stdout.py.
"""

import itertools
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.driver import Program, check_books, run
from tests.programs import command, environment, parse, parse_all

NUMBERS = range(2_000)


def numbers(lines: bytes) -> list[int]:
    return [record["number"] for record in parse_all(lines) if "number" in record]


# F030


def together(source: str, processes: int, *, socket_: bool = False, **variables: str) -> bytes:
    """Run *source* in so many processes that share one pipe, or one socket, and return what came out of it."""
    reader, writer = (each.detach() for each in socket.socketpair()) if socket_ else os.pipe()
    running = [
        subprocess.Popen(command(source, each), env=environment(**variables), stdout=writer, stderr=subprocess.PIPE)
        for each in range(processes)
    ]
    os.close(writer)
    with os.fdopen(reader, "rb") as shared:
        written = shared.read()
    assert [program.communicate(timeout=60)[1] for program in running] == [b""] * processes
    return written


@pytest.mark.parametrize("socket_", [False, True], ids=["a pipe", "a socket"])
@pytest.mark.parametrize(
    ("records", "length"),
    [
        pytest.param(4_000, "50", id="large batches of short lines"),
        pytest.param(150, "(number * 977) % 70_000", id="lines of any length"),
        pytest.param(20_000, "(number * 977) % 9_000", id="both, for long", marks=pytest.mark.faults_long),
    ],
)
def test_processes_that_share_standard_output_tear_no_line_whatever_the_batch_and_the_line(
    records: int, length: str, socket_: bool
) -> None:
    source = f"""
        import sys
        import fapilog

        fapilog.configure_logging(sinks=["stdout"], service=sys.argv[1])
        for number in range({records}):
            fapilog.log.info("x" * ({length}), number=number)
    """
    found: dict[str, list[int]] = {}
    for record in parse_all(together(source, 4, socket_=socket_)):
        found.setdefault(record["service"], []).append(record["number"])
    assert found == {str(process): list(range(records)) for process in range(4)}


def test_processes_that_may_not_open_their_pipe_tear_no_line() -> None:
    source = """
        import os, sys
        from fapilog import configure_logging, log
        from fapilog.formats import named
        from fapilog.sinks import stdout

        os.chdir("/")
        os.fchmod(1, 0)
        if os.getuid() == 0:
            os.setuid(65534)
        configure_logging(sinks=["stdout"], service=sys.argv[1])
        for number in range(150):
            log.info("x" * (number * 977 % 70_000), number=number)
    """
    found = [(record["service"], record["number"]) for record in parse_all(together(source, 4))]
    assert sorted(found) == sorted((process, number) for process in "0123" for number in range(150))


@pytest.mark.parametrize("socket_", [False, True], ids=["a pipe", "a socket"])
def test_two_sinks_of_a_process_that_share_standard_output_tear_no_line(socket_: bool) -> None:
    source = """
        import os, sys
        import fapilog

        other = {"type": "stdout", "name": "other", "fd": os.dup(1)}
        fapilog.configure_logging(sinks=["stdout", other], service=sys.argv[1])
        for number in range(150):
            fapilog.log.info("x" * (number * 977 % 70_000), number=number)
    """
    found = [(record["service"], record["number"]) for record in parse_all(together(source, 2, socket_=socket_))]
    assert sorted(found) == sorted((process, number) for process in "01" for number in range(150) for _ in range(2))


def test_a_record_of_many_lines_stays_in_one_piece_on_a_shared_pipe() -> None:
    source = """
        import sys
        import fapilog

        fapilog.configure_logging(sinks=["stdout"])
        for number in range(300):
            try:
                raise ValueError(f"{sys.argv[1]}-{number}\\nmore\\nand more")
            except ValueError:
                fapilog.log.exception("failed", of=f"{sys.argv[1]}-{number}")
    """
    lines = together(source, 3, FAPILOG_STDOUT__FORMAT="pretty").decode().splitlines()
    blocks = "\n".join(lines).split("\n    Traceback (most recent call last):\n")
    assert len(blocks) == 901
    for head, below in itertools.pairwise(blocks):
        of = re.search(r" of=(\d-\d+)$", head)
        assert of is not None
        assert below.splitlines()[1:4] == [f"    ValueError: {of[1]}", "    more", "    and more"]


# F063

NOBODY_READS = """
    import asyncio, os, sys, time
    read, write = os.pipe()
    os.dup2(write, 1)
    settings = {"queue_max_bytes": 200_000, "shutdown_timeout_seconds": 1.0}
    handle = fapilog.configure_logging(sinks=["stdout"], **settings)
"""


def test_a_pipe_that_nobody_reads_holds_up_neither_an_event_loop_nor_the_end() -> None:
    source = (
        NOBODY_READS
        + """
    async def main():
        longest = 0.0
        for number in range(20_000):
            began = time.monotonic()
            log.info("counted", number=number)
            longest = max(longest, time.monotonic() - began)
            if number % 100 == 0:
                await asyncio.sleep(0)
        tell("logged", longest=longest)

    asyncio.run(main())
    while handle.stats().sinks["stdout"].state != "stalled":
        time.sleep(0.01)
    tell("stalled")
    """
    )
    program = run(source)
    assert program.wait_for("stalled")
    assert program.wait_for("logged")[0]["longest"] < 5
    sink = check_books(program)[0]["sinks"]["stdout"]
    assert sink["delivered"] + sum(sink["dropped"].values()) == sink["accepted"]
    assert sink["dropped"]["shutdown_timeout"] > 0
    assert b"sink stdout is stuck in write(); its records wait" in program.errors
    assert b"shutdown_timeout" in program.errors


@pytest.mark.faults_long
def test_a_pipe_that_nobody_reads_delays_no_other_sink(tmp_path: Path) -> None:
    settings = "settings.update(queue_max_bytes=10_000_000)"  # or the queue is held back until the sink counts as stuck
    source = NOBODY_READS.replace('["stdout"]', '["stdout", f"file://{sys.argv[1]}/app.log"]')
    source = (
        source.replace("    handle =", f"    {settings}\n    handle =")
        + """
    async def main():
        for number in range(5_000):
            log.info("counted", number=number)
            if number % 100 == 0:
                await asyncio.sleep(0.001)

    asyncio.run(main())
    while handle.stats().sinks["file"].delivered + sum(handle.stats().sinks["file"].dropped.values()) < 5_000:
        time.sleep(0.01)
    assert handle.stats().sinks["stdout"].delivered < 5_000
    """
    )
    program = run(source, tmp_path)
    books = check_books(program)[0]["sinks"]
    assert books["file"]["dropped"] == {}
    assert numbers((tmp_path / "app.log").read_bytes()) == list(range(5_000))


def test_a_reader_that_comes_back_gets_every_line_whole(tmp_path: Path) -> None:
    source = """
        import os, sys, threading, time
        read, write = os.pipe()
        os.dup2(write, 1)
        os.close(write)
        handle = fapilog.configure_logging(sinks=["stdout"])
        for number in range(2_000):
            log.info("counted", number=number, text="x" * 100)
        while handle.stats().sinks["stdout"].state != "stalled":
            time.sleep(0.01)
        def drain():
            with open(sys.argv[1] + "/read", "wb") as file:
                while taken := os.read(read, 65_536):
                    file.write(taken)
        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        assert handle.flush(30).ok
        handle.close()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        reader.join(30)
    """
    program = run(source, tmp_path)
    (sink,) = check_books(program)[-1]["sinks"].values()
    assert sink["dropped"] == {}
    assert numbers((tmp_path / "read").read_bytes()) == list(NUMBERS)


# F066


@pytest.mark.parametrize(
    "form", ["json", "pretty", *(pytest.param(form, marks=pytest.mark.faults_long) for form in ("logfmt", "{event}"))]
)
def test_what_is_written_is_utf_8_whatever_the_locale_says(form: str) -> None:
    source = 'fapilog.configure_logging(sinks=["stdout"]); log.info("\\u017elu\\u0165ou\\u010dk\\xfd \\U0001f40e")'
    env: dict[str, Any] = {
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "FAPILOG_STDOUT__FORMAT": form,
    }
    program = run(source, **env)
    assert "žluťoučký 🐎" in program.output.decode()
    assert program.errors == b""


# A full disk behind a redirection


def test_standard_output_on_a_full_disk_is_written_on_where_it_was_cut(tmp_path: Path) -> None:
    source = """
        import os, resource, sys, time
        os.dup2(os.open(sys.argv[1] + "/out", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_001, limits[1]))
        handle = fapilog.configure_logging(sinks=["stdout"])
        for number in range(2_000):
            log.info("counted", number=number)
        while not handle.stats().sinks["stdout"].retries:
            time.sleep(0.01)
        assert os.path.getsize(sys.argv[1] + "/out") == 50_001
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert handle.flush(30).ok
    """
    program = run(source, tmp_path)
    (sink,) = check_books(program)[-1]["sinks"].values()
    assert (sink["delivered"], sink["dropped"]) == (2_000, {})
    assert numbers((tmp_path / "out").read_bytes()) == list(NUMBERS)
    assert b"sink stdout failed, to be tried again: OSError: [Errno 27] File too large" in program.errors


@pytest.mark.faults_long
def test_what_a_full_device_never_takes_is_counted_and_told() -> None:
    source = """
        import os, time
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        handle = fapilog.configure_logging(sinks=["stdout"], shutdown_timeout_seconds=1.0)
        for number in range(100):
            log.info("counted", number=number)
    """
    program = run(source)
    (sink,) = check_books(program)[-1]["sinks"].values()
    assert (sink["delivered"], sink["dropped"]) == (0, {"shutdown_timeout": 100})
    assert b"No space left on device" in program.errors
    assert re.search(rb"fapilog: .*100", program.errors)


# A writer that cannot go on


def test_where_no_thread_can_start_the_lines_are_written_before_the_log_call_returns() -> None:
    source = """
        import asyncio, os, sys, threading
        def refuse(self):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = refuse
        read, write = os.pipe()
        os.dup2(write, 1)
        handle = fapilog.configure_logging(sinks=["stdout"])
        def work(name):
            for number in range(20):
                log.info(name, number=number)
                line = os.read(read, 10_000)
                assert line.endswith(b"\\n") and line.count(b"\\n") == 1 and b'"number":%d,' % number in line, line
        async def main():
            work("in a loop")
        work("in a script")
        asyncio.run(main())
        tell("done")
    """
    program = run(source)
    assert program.wait_for("done")
    (sink,) = check_books(program)[-1]["sinks"].values()
    assert (sink["delivered"], sink["dropped"]) == (40, {})
    assert b"fapilog: the worker cannot start (can't start new thread)" in program.errors


@pytest.fixture
def dying() -> Iterator[Program]:
    source = """
        import time
        handle = fapilog.configure_logging(sinks=["stdout"])
        for number in range(100): log.info("counted", number=number)
        while not handle.stats().sinks["stdout"].dropped: time.sleep(0.01)
        for number in range(100): log.info("counted", number=100 + number)
    """
    armed: dict[str, Any] = {"FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": "worker.take:raise:always"}
    with Program(source, **armed) as program:
        yield program.end()


def test_when_the_worker_has_died_for_good_the_lines_go_to_stderr_and_are_counted(dying: Program) -> None:
    (stats,) = check_books(dying)
    dropped = stats["sinks"]["stdout"]["dropped"]
    assert list(dropped) == ["worker_failed"]
    assert dropped["worker_failed"] + stats["late"] == 201, "two hundred, and the record that tells what was dropped"
    assert dying.output == b""
    lines = [line for line in dying.errors.splitlines(keepends=True) if line.startswith(b"{")]
    assert sorted(parse(line)["number"] for line in lines if b'"number"' in line) == list(range(200))


def test_a_write_that_fails_now_and_then_loses_no_line() -> None:
    source = """
        from fapilog.sinks.stdout import StdoutSink
        write, raised = StdoutSink.write, [OSError(5, "no"), OSError(11, "again")]
        def fail(self, batch):
            if raised:
                raise raised.pop()
            return write(self, batch)
        StdoutSink.write = fail
        handle = fapilog.configure_logging(sinks=["stdout"])
        for number in range(2_000): log.info("counted", number=number)
        assert handle.flush(30).ok
    """
    program = run(source)
    assert numbers(program.output) == list(NUMBERS)
    (sink,) = check_books(program)[-1]["sinks"].values()
    assert (sink["retries"], sink["dropped"]) == (2, {})
