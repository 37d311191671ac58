import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fapilog.diagnostics import QUIET_SECONDS, Reporter, surface_bugs
from tests.programs import command, environment


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def said(pipe: tuple[int, int]) -> str:
    os.set_blocking(pipe[0], False)
    try:
        return os.read(pipe[0], 100_000).decode()
    except BlockingIOError:
        return ""


def test_the_same_complaint_comes_once_and_then_with_how_many_were_held_back(pipe: tuple[int, int]) -> None:
    clock = Clock()
    report = Reporter(clock=clock, fd=pipe[1])
    for _ in range(5):
        report("the disk is full")
    assert said(pipe) == "fapilog: the disk is full\n"
    clock.now += QUIET_SECONDS
    report("the disk is full")
    assert said(pipe) == "fapilog: the disk is full (4 more like it)\n"


def test_complaints_are_the_same_if_their_key_is(pipe: tuple[int, int]) -> None:
    report = Reporter(fd=pipe[1])
    report("lost 3 records", key="lost")
    report("lost 5 records", key="lost")
    report("lost 7 records", key="other")
    assert said(pipe) == "fapilog: lost 3 records\nfapilog: lost 7 records\n"


def test_a_complaint_is_one_line_whatever_is_in_it(pipe: tuple[int, int]) -> None:
    Reporter(fd=pipe[1])("one\r\ntwo\nthree \ud800")
    assert said(pipe) == "fapilog: one  two three \\ud800\n"


def test_what_was_said_is_forgotten_rather_than_kept_without_bound(pipe: tuple[int, int]) -> None:
    report = Reporter(fd=pipe[1])
    for number in range(2_500):
        report(str(number))
        said(pipe)
    assert len(report._last) <= 1_000


def test_a_complaint_with_nobody_to_hear_it_does_no_harm() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Reporter(fd=writer)("anybody?")
    os.close(writer)
    Reporter(fd=writer)("anybody?")


def test_a_complaint_out_of_a_complaint_neither_hangs_nor_raises(pipe: tuple[int, int]) -> None:
    report = Reporter(fd=pipe[1])
    with report._lock:
        report("from a signal handler")
    assert said(pipe) == ""


def test_after_a_reset_everything_may_be_said_again(pipe: tuple[int, int]) -> None:
    report = Reporter(fd=pipe[1])
    report("x")
    report.reset()
    report("x")
    assert said(pipe) == "fapilog: x\nfapilog: x\n"


def test_bugs_of_ours_surface_under_pytest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert surface_bugs()
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert not surface_bugs()


def test_without_a_standard_error_nothing_is_written_into_the_file_that_has_its_number(tmp_path: Path) -> None:
    program = """
        import sys
        data = open(sys.argv[1], "wb")
        assert data.fileno() == 2
        from fapilog.diagnostics import report
        report("anybody?")
    """
    subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command(program, tmp_path / "data")],
        env=environment(),
        check=True,
        timeout=60,
    )
    assert (tmp_path / "data").read_bytes() == b""
