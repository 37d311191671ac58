"""Take over the servers' loggers, so that what uvicorn, gunicorn, hypercorn and granian say is a record like any other.

https://www.uvicorn.org/concepts/logging/, https://docs.gunicorn.org/en/stable/settings.html#logging,
https://hypercorn.readthedocs.io/en/latest/how_to_guides/logging.html
"""

import logging
import threading
from typing import Final, NamedTuple

from fapilog.capture.records import RecordHandler
from fapilog.capture.stdlib import writes_to_console

PARENT: Final = "uvicorn"
ACCESS: Final = frozenset({"uvicorn.access", "gunicorn.access", "hypercorn.access", "granian.access"})
NAMES: Final = (
    *(PARENT, "uvicorn.error", "uvicorn.asgi", "uvicorn.access"),
    *("gunicorn.error", "gunicorn.access"),
    *("hypercorn.error", "hypercorn.access"),
    *("_granian", "granian.access"),
)


class _State(NamedTuple):
    """What decides where the records of a logger go."""

    handlers: list[logging.Handler]
    propagate: bool
    disabled: bool
    level: int

    @classmethod
    def of(cls, logger: logging.Logger) -> "_State":
        return cls(list(logger.handlers), logger.propagate, logger.disabled, logger.level)

    @property
    def silent(self) -> bool:
        """Whether somebody has seen to it that nothing is said here."""
        return self.disabled or not (self.handlers or self.propagate)


class ServerLoggers:
    """The servers' loggers, and how to take them over and give them back.

    A server configures them when it likes: uvicorn before the application is imported if it was started from the
    command line, but after it, and after us, in a script that calls `uvicorn.run(app)`; hypercorn with its first line;
    gunicorn gives uvicorn's loggers the very lists of handlers that its own have. That replaces handlers and leaves
    filters, so a filter on each logger sees the first record of the new order and restores ours in time for it. No
    list of handlers is changed in place, for it may belong to two loggers.
    """

    def __init__(self, handler: RecordHandler | None = None) -> None:
        """Take the records with *handler*; None makes one."""
        self._before: dict[str, _State] = {}
        self._silent: set[str] = set()
        self._silence_access = False
        self._handler = handler or RecordHandler()
        self._watch = _Watch(self)
        self._lock = threading.RLock()

    def capture(self, *, silence_access: bool) -> None:
        """Send what these loggers get into the pipeline, and to no console. Calling it again does no harm.

        Args:
            silence_access: Drop the access lines, because there is an access record for each request. They stay silent
                in any case where the user has told the server so.
        """
        with self._lock:
            self._silence_access = self._handler.stacks_are_told = silence_access
            for name in NAMES:
                self._capture(logging.getLogger(name))
            parent = logging.getLogger(PARENT)
            if parent.level == logging.NOTSET:
                parent.setLevel(logging.INFO)  # as uvicorn does, unless it was told to leave logging alone

    def _capture(self, logger: logging.Logger) -> None:
        name = logger.name
        others = [handler for handler in logger.handlers if handler is not self._handler]
        held = self._holds(logger)
        if not held:
            before = self._before.get(name)
            if before is not None and self._handler in logger.handlers:  # only handlers were added
                new = [handler for handler in others if handler not in before.handlers]
                self._before[name] = before._replace(handlers=before.handlers + new)
            else:
                self._before[name] = _State.of(logger)._replace(handlers=others)
        if name in ACCESS and (self._silence_access or self._before[name].silent):
            self._silent.add(name)
            logger.disabled = True
            logger.handlers = others if held else []  # with no handler in reach uvicorn does not even format the line
        else:
            if name in self._silent:
                self._silent.remove(name)
                logger.disabled = self._before[name].disabled
            kept = others if held else [handler for handler in others if not writes_to_console(handler)]
            logger.handlers = [*kept, self._handler]
        logger.addFilter(self._watch)
        logger.propagate = False

    def release(self) -> None:
        """Give the loggers back as they were; what somebody else has configured since stays."""
        with self._lock:
            for name, before in self._before.items():
                logger = logging.getLogger(name)
                logger.removeFilter(self._watch)
                if self._holds(logger):
                    ours = {*map(id, before.handlers), id(self._handler)}
                    added = [handler for handler in logger.handlers if id(handler) not in ours]
                    logger.handlers = before.handlers + added
                    logger.propagate = before.propagate
                    if name in ACCESS:
                        logger.disabled = before.disabled
                    if before.level == logging.NOTSET:
                        logger.setLevel(before.level)
            self._before.clear()
            self._handler.stacks_are_told = False

    def hold(self) -> None:
        """Capture again if somebody has configured the loggers since."""
        if self._before and not all(self._holds(logging.getLogger(name)) for name in NAMES):
            self.capture(silence_access=self._silence_access)

    def begin_anew(self) -> None:
        """Take a fresh lock in a forked child."""
        self._lock = threading.RLock()

    def _holds(self, logger: logging.Logger) -> bool:
        """Tell whether a logger is as we left it, no matter what others have added that says nothing twice."""
        if logger.name not in self._before:
            return False
        if logger.name in self._silent:
            return logger.disabled
        return self._handler in logger.handlers and not any(map(writes_to_console, logger.handlers))


class _Watch(logging.Filter):
    """Let every record pass, and see to it that it meets our handler."""

    def __init__(self, loggers: ServerLoggers) -> None:
        super().__init__()
        self._loggers = loggers

    def filter(self, record: logging.LogRecord) -> bool:
        self._loggers.hold()
        return True
