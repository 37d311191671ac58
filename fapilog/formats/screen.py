"""What a person sees the lines on: with colours or without, and how many columns wide.

https://no-color.org, https://force-color.org; where both are set there is no colour, as in Python itself.
"""

import os
import unicodedata
from collections.abc import Iterator
from typing import Final, Self

MIN_WIDTH: Final = 40
"""A screen of fewer columns is left to wrap by itself."""

_WIDE: Final = frozenset({"W", "F"})


class Screen:
    """A terminal, or a pipe or file that somebody looks at later."""

    def __init__(self, *, colour: bool = False, width: int | None = None, fd: int | None = None) -> None:
        """Show on a screen.

        Args:
            colour: Whether to use ANSI colours.
            width: How many columns it has; None means that nothing is wrapped, unless *fd* says more.
            fd: A terminal, which is asked for its width each time, as its window may be resized.
        """
        self.colour = colour
        self._width = width
        self._fd = fd

    @classmethod
    def at(cls, fd: int, *, width: int | None = None) -> Self:
        """Return the screen that a file descriptor leads to, as it and the environment say.

        Args:
            fd: A terminal, a pipe or a file. Only a terminal is coloured unasked and has a width of its own.
            width: How many columns to use whatever it is; None means ``COLUMNS``, or the window of a terminal.
        """
        terminal = is_terminal(fd)
        if width is None and terminal:
            width = _columns_said()
        return cls(colour=_wants_colour(terminal), width=width, fd=fd if terminal and width is None else None)

    @property
    def width(self) -> int | None:
        """How many columns there are now; None where nothing is to be wrapped."""
        if self._fd is None:
            return self._width
        try:
            columns = os.get_terminal_size(self._fd).columns
        except OSError:  # it was closed since
            return None
        return columns if columns >= MIN_WIDTH else None


def is_terminal(fd: int) -> bool:
    """Tell whether a file descriptor is one of a terminal; one that is closed is not."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def columns(said: str) -> int:
    """Return how many columns *said* fills, in which nothing is left to be escaped."""
    return len(said) if said.isascii() else sum(map(_columns, said))


def pieces(said: str, first: int, rest: int) -> Iterator[str]:
    """Cut *said* into parts that fit: the first into so many columns, each other one into *rest*.

    A part ends behind a space if there is one in its second half. Together they are *said*.
    """
    room = first
    at = 0
    while at < len(said):
        end = _end(said, at, max(room, 2))  # room for a wide character, or there would be no end
        if end < len(said):
            space = said.rfind(" ", at + (end - at) // 2, end)
            if space >= 0:
                end = space + 1
        yield said[at:end]
        at, room = end, rest


def _end(said: str, at: int, room: int) -> int:
    """Return where that fills at most *room* columns what begins at *at* ends."""
    if said.isascii():
        return min(len(said), at + room)
    end = at
    while end < len(said):
        room -= _columns(said[end])
        if room < 0:
            break
        end += 1
    return end


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def _columns_said() -> int | None:
    said = os.environ.get("COLUMNS", "")
    number = int(said) if said.isascii() and said.isdigit() and len(said) < 7 else 0
    return number if number >= MIN_WIDTH else None


def _wants_colour(terminal: bool) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (terminal and os.environ.get("TERM") != "dumb")
