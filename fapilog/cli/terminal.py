"""What people see beside the records: messages, colours, progress; and the exit codes."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from fapilog.formats import Screen

FAILED: Final = 1
WRONG_INPUT: Final = 2
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
TERMINATED: Final = 143

_CODES: Final = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def screen() -> "Screen":
    """What standard output is shown on."""
    from fapilog.formats import Screen  # noqa: PLC0415 - help and completion do without

    try:
        return Screen.at(sys.stdout.fileno())
    except (OSError, ValueError):  # it is no file
        return Screen()


def paint(text: str, code: str, *, colour: bool) -> str:
    """Return *text* in one of a few colours if *colour* is true, else as it is."""
    return f"\x1b[{_CODES[code]}m{text}\x1b[0m" if colour and text else text


def say(message: str, *, command: str = "fapilog") -> None:
    """Say something about the work, on one line of standard error. What could control a terminal is escaped."""
    from fapilog.store.output import printable  # noqa: PLC0415 - rarely needed

    sys.stderr.write(f"{command}: {' '.join(printable(line) for line in message.splitlines() if line.strip())}\n")


def count(number: int, noun: str) -> str:
    """Say how many there are, such as ``1 record`` or ``2,500 records``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Say how many bytes there are, such as ``12.3 kB``; a kB is 1 000 bytes."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far long work is, on standard error if that is a terminal.

    Yields:
        A function to call now and then with how much is done and how much there is, in any unit.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, update_min_steps=1) as bar:

        def update(done: int, total: int) -> None:
            bar.length = max(total, done, 1)
            bar.update(done - bar.pos)

        yield update
