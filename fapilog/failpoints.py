"""Named points where a test can make the process die, or an operation fail.

``FAPILOG_FAILPOINT=name:action:when``, several separated by commas. An *action* is

* ``exit``: end at once with status 137, without any cleaning up;
* ``kill``: SIGKILL;
* ``raise`` or ``raise=ENOSPC``: an `OSError` with that errno, EIO if none is given; ``raise=MemoryError`` and
  ``raise=SystemExit``: that exception;
* ``lose``: `hit` returns True, and the caller loses what it holds. It makes mutants, which show that a test can fail.

*when* is ``3`` (the third hit), ``3+`` (that one and all later ones), ``/3`` (every third) or ``always``.

All of this exists only in a process that was started with ``FAPILOG_TESTING=1``. In any other `hit` is a function that
returns False, and the variable is not read.
"""

import errno
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

TESTING: Final = os.environ.get("FAPILOG_TESTING") == "1"
ACTIONS: Final = ("exit", "kill", "raise", "lose")

_ERRORS: Final[Mapping[str, type[BaseException]]] = {"MemoryError": MemoryError, "SystemExit": SystemExit}
_T = TypeVar("_T")


class Failpoint(NamedTuple):
    """What happens at one point, and at which of its hits."""

    action: str
    error: Callable[[str], BaseException]
    due: Callable[[int], bool]
    hits: Iterator[int]

    @classmethod
    def parse(cls, text: str) -> tuple[str, "Failpoint"]:
        """Read one ``name:action:when`` and return the name beside it.

        Raises:
            ValueError: It is something else.
        """
        name, _, rest = text.strip().partition(":")
        action, _, when = rest.partition(":")
        action, _, code = action.partition("=")
        error = _error(code or "EIO")
        if not name or action not in ACTIONS or error is None:
            raise ValueError(f"{text!r} is not a failpoint; write name:action:when, action one of {', '.join(ACTIONS)}")
        return name, cls(action, error, _due(when), itertools.count(1))

    def act(self, name: str) -> bool:
        """Count a hit and do what is due; return whether the caller should lose what it holds."""
        if not self.due(next(self.hits)):
            return False
        if self.action == "exit":
            os._exit(137)
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "raise":
            raise self.error(name)
        return True


def parse(text: str) -> Mapping[str, Failpoint]:
    """Read what ``FAPILOG_FAILPOINT`` holds; of two for one name the last counts.

    Raises:
        ValueError: A part of it is not a failpoint.
    """
    return dict(Failpoint.parse(part) for part in text.split(",") if part.strip())


def _error(code: str) -> Callable[[str], BaseException] | None:
    """Return what makes the error to raise at a point of some name; None if *code* is not one."""
    number = getattr(errno, code, None)
    if isinstance(number, int):
        return lambda name: OSError(number, os.strerror(number), name)
    return _ERRORS.get(code)


def _due(when: str) -> Callable[[int], bool]:
    digits = when.strip("+/")
    number = int(digits) if digits.isdecimal() else 0
    if when == "always":
        return lambda _hit: True
    if number and when == digits:
        return number.__eq__
    if number and when == f"{digits}+":
        return number.__le__
    if number and when == f"/{digits}":
        return lambda hit: hit % number == 0
    raise ValueError(f"{when!r} does not say when; write 3, 3+, /3 or always")


if TESTING:
    _points = dict(parse(os.environ.get("FAPILOG_FAILPOINT", "")))

    def hit(name: str) -> bool:
        """Do what a test wants to happen at the point *name*; return whether to lose what is held."""
        return name in _points and _points[name].act(name)

    def survivors(name: str, items: Iterable[_T]) -> Iterable[_T]:
        """Return *items* without those that the point *name* loses, one hit for each."""
        return [item for item in items if not hit(name)] if name in _points else items

    def sabotaged(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a *write* that loses records at ``sink.write``, and at ``sink.ack`` returns before it writes."""

        def write_some(batch: Any) -> Any:
            if hit("sink.ack"):
                threading.Timer(0.5, write, (batch,)).start()
                return None
            return write(type(batch)(list(survivors("sink.write", batch))))

        return write_some

    def arm(text: str) -> None:
        """Replace all failpoints by those in *text*, for a driver that forks one process after another."""
        parsed = parse(text)
        _points.clear()
        _points.update(parsed)

else:

    def hit(name: str) -> bool:
        """Do nothing: this process is not a test."""
        return False

    def survivors(name: str, items: Iterable[_T]) -> Iterable[_T]:
        """Return *items* as they are: this process is not a test."""
        return items

    def sabotaged(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return *write* as it is: this process is not a test."""
        return write
