import os
import pty
import struct
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.formats import MIN_WIDTH, Screen
from fapilog.formats.screen import columns, pieces


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def terminal() -> Iterator[int]:
    master, slave = pty.openpty()
    resize(slave, 120)
    yield slave
    os.close(slave)
    os.close(master)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    with (tmp_path / "out").open("wb") as opened:
        yield opened.fileno()


def resize(fd: int, width: int) -> None:
    ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))


@pytest.mark.parametrize(
    ("variables", "on_a_terminal", "in_a_file"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_colour_follows_the_variables_everybody_knows(
    variables: dict[str, str],
    on_a_terminal: bool,
    in_a_file: bool,
    monkeypatch: pytest.MonkeyPatch,
    terminal: int,
    file: int,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (Screen.at(terminal).colour, Screen.at(file).colour) == (on_a_terminal, in_a_file)


def test_the_width_is_that_of_the_window_also_after_it_was_resized(terminal: int) -> None:
    screen = Screen.at(terminal)
    assert screen.width == 120
    resize(terminal, 90)
    assert screen.width == 90


@pytest.mark.parametrize(
    ("said", "width"), [("100", 100), ("", 120), ("wide", 120), ("-5", 120), ("9" * 9, 120), ("1", 120)]
)
def test_columns_wins_over_the_window_if_it_is_a_width(
    said: str, width: int, monkeypatch: pytest.MonkeyPatch, terminal: int
) -> None:
    monkeypatch.setenv("COLUMNS", said)
    assert Screen.at(terminal).width == width


def test_a_width_that_is_given_wins_over_everything(monkeypatch: pytest.MonkeyPatch, terminal: int, file: int) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert [Screen.at(fd, width=60).width for fd in (terminal, file)] == [60, 60]


def test_a_file_or_a_pipe_has_no_width_whatever_columns_says(monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert Screen.at(file).width is None


@pytest.mark.parametrize("width", [0, 1, MIN_WIDTH - 1])
def test_a_window_that_is_too_narrow_or_does_not_know_wraps_by_itself(width: int, terminal: int) -> None:
    resize(terminal, width)
    assert Screen.at(terminal).width is None


def test_a_terminal_that_was_closed_has_no_width_and_a_closed_descriptor_is_none() -> None:
    master, slave = pty.openpty()
    resize(slave, 100)
    screen = Screen.at(slave)
    os.close(slave)
    os.close(master)
    assert screen.width is None
    assert Screen.at(slave).colour is False


@pytest.mark.parametrize(("said", "number"), [("tea", 3), ("é", 1), ("e\u0301", 1), ("日本", 4), ("🐎", 2), ("", 0)])
def test_the_columns_of_a_text_are_counted_as_a_terminal_does(said: str, number: int) -> None:
    assert columns(said) == number


@given(st.text(st.characters(codec="utf-8")) | st.text("ab 日e\u0301"), st.integers(2, 30), st.integers(2, 30))
def test_pieces_fit_and_together_are_the_text(said: str, first: int, rest: int) -> None:
    cut = list(pieces(said, first, rest))
    assert "".join(cut) == said
    assert all(columns(piece) <= room for piece, room in zip(cut, [first] + [rest] * len(cut), strict=False))
