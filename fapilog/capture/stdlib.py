"""Take over the root logger of the standard library, and warnings.

https://docs.python.org/3/library/logging.html, https://docs.python.org/3/library/warnings.html
"""

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Final, Literal, TextIO, TypeAlias

from fapilog.capture.records import TRANSPORTS
from fapilog.context import NOTHING
from fapilog.logger import record

Handlers: TypeAlias = Literal["auto", "keep", "remove"]

QUIET: Final = sorted(TRANSPORTS | {"asyncio"})
"""Loggers that say at info and debug what hardly anybody wants to read."""

WARNINGS: Final = "py.warnings"
"""The logger that `logging.captureWarnings` uses."""


class RootLogger:
    """The root logger, and how to take it over and give it back.

    Its level is the user's. Only if nobody has configured it, so that it has the level Python starts with and no
    handler, it lets through what is recorded; the loggers in `QUIET` keep the level they had.
    """

    def __init__(self, handler: logging.Handler) -> None:
        """Take the records with *handler*."""
        self._handler = handler
        self._gone: list[tuple[int, logging.Handler]] = []
        self._levels: dict[str | None, tuple[int, int]] = {}
        """The level of a logger before, and the one it was given."""
        self._lowered: set[str] = set()
        """Which of them were lowered because somebody asked for their records."""

    def capture(self, level: int, handlers: Handlers, levels: Mapping[str, int] = NOTHING) -> None:
        """Add our handler, and take away those of others that *handlers* says. Calling it again does no harm.

        A logger among *levels* that would let through less is given that level.
        """
        root = logging.getLogger()
        for name in self._lowered:
            self._give_back(name)
        self._lowered.clear()
        if self._handler not in root.handlers:  # the first time, or somebody has configured it since
            self._gone = []
            self._levels.pop(None, None)
        whole = self._whole(root)
        self._gone = [(index, each) for index, each in enumerate(whole) if _goes(each, handlers)]
        gone = [each for _, each in self._gone]
        root.handlers = [*(each for each in whole if each not in gone), self._handler]
        if None in self._levels or (root.level == logging.WARNING and all(map(_is_of_pytest, whole))):
            for name in QUIET:
                if logging.getLogger(name).level == logging.NOTSET:
                    self._set_level(name, logging.WARNING)
            self._set_level(None, level)
        for name, lowest in sorted(levels.items()):
            stem = name.removesuffix(".*")
            if logging.getLogger(stem).getEffectiveLevel() > lowest:
                self._set_level(stem, lowest)
                self._lowered.add(stem)

    def release(self) -> None:
        """Give the root logger back as it was; what somebody else has configured since stays."""
        root = logging.getLogger()
        if self._handler in root.handlers:
            root.handlers = self._whole(root)
        else:
            self._levels.pop(None, None)
        for name in list(self._levels):
            self._give_back(name)
        self._gone = []
        self._lowered.clear()

    def _give_back(self, name: str | None) -> None:
        """Give a logger the level that it had, unless somebody has set it since."""
        before, ours = self._levels.pop(name, (0, -1))
        logger = logging.getLogger(name)
        if logger.level == ours:
            logger.setLevel(before)

    def _whole(self, root: logging.Logger) -> list[logging.Handler]:
        """Return the handlers of others, with those that were taken away in their places."""
        whole = [each for each in root.handlers if each is not self._handler]
        for index, each in self._gone:
            if each not in whole:
                whole.insert(index, each)
        return whole

    def _set_level(self, name: str | None, level: int) -> None:
        logger = logging.getLogger(name)
        before, ours = self._levels.get(name, (logger.level, logger.level))
        if logger.level == ours:  # or somebody has set it since
            self._levels[name] = (before, level)
            logger.setLevel(level)


class Warnings:
    """Warnings, logged as `logging.captureWarnings` does, with the place and the category as fields."""

    def __init__(self) -> None:
        self._before = warnings.showwarning
        self._ours = self._show
        self._active = self._through_logging = False

    def capture(self, *, through_logging: bool) -> None:
        """Take what would be printed on stderr; leave it where `logging.captureWarnings` has taken it already."""
        self._through_logging = through_logging
        if self._active:  # what somebody has set since stays
            return
        self._active = True
        if warnings.showwarning is not self._ours and warnings.showwarning is not getattr(
            logging, "_showwarning", None
        ):
            self._before = warnings.showwarning
            warnings.showwarning = self._ours

    def release(self) -> None:
        """Have them printed as before."""
        self._active = False
        if warnings.showwarning is self._ours:
            warnings.showwarning = self._before

    def _show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Log a warning; print it if somebody says where to, or if this is left of a configuration that is over."""
        if file is not None or not self._active:
            self._before(message, category, filename, lineno, file, line)
            return
        fields = {"category": category.__name__, "file": filename, "line": lineno}
        if self._through_logging:
            logging.getLogger(WARNINGS).warning("%s", message, extra=fields)
        else:
            record(WARNINGS, logging.WARNING, str(message), fields)


def writes_to_console(handler: logging.Handler) -> bool:
    """Tell whether a handler writes to stdout or stderr."""
    consoles = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    stream = getattr(handler, "stream", None)
    return (
        isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
        and stream is not None
        and any(stream is console for console in consoles)
    )


def _goes(handler: logging.Handler, handlers: Handlers) -> bool:
    if handlers == "keep" or _is_of_pytest(handler):
        return False
    return handlers == "remove" or writes_to_console(handler)


def _is_of_pytest(handler: logging.Handler) -> bool:
    """Tell whether this is one of the handlers that pytest puts there for `caplog` and its reports."""
    return type(handler).__module__.startswith("_pytest.")
