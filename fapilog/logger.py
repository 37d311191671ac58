"""The loggers that people call: `BoundLogger` is a structlog wrapper class around `fapilog.recorder`."""

import functools
import sys
from typing import Any, Final, Self

import structlog

from fapilog.context import NOTHING
from fapilog.encoding import text
from fapilog.processors import exceptions
from fapilog.recorder import LoggerName, slot
from fapilog.types import (
    CRITICAL,
    DEBUG,
    ERROR,
    INFO,
    LEVEL_ALIASES,
    LEVELS,
    SUCCESS,
    TRACE,
    WARNING,
    nearest_level,
)


def record(logger: str, level: int, event: str, fields: dict[str, Any]) -> None:
    """Log on behalf of another logger, such as the standard library's; *fields* belongs to the record afterwards."""
    recorder = slot.recorder
    if recorder.level <= level:
        recorder.emit(_named(logger), nearest_level(level), event, (), NOTHING, fields)


class BoundLogger(structlog.BoundLoggerBase):
    """A logger with bound fields. `bind`, `unbind`, `try_unbind` and `new` are structlog's.

    The first argument of every method is the event; further positional arguments are formatted into it as ``%`` does;
    keywords become fields. ``exc_info=True`` or an exception adds the exception, ``stack_info=True`` the stack.
    No method raises, but for `DurabilityError` where ``durable=True`` asks for it: such a call returns when the record
    is on disk.
    """

    _context: dict[str, Any]

    def trace(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at trace, below debug."""
        recorder = slot.recorder
        if recorder.level <= TRACE:
            recorder.emit(self._logger, TRACE, event, args, self._context, fields)

    def debug(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at debug."""
        recorder = slot.recorder
        if recorder.level <= DEBUG:
            recorder.emit(self._logger, DEBUG, event, args, self._context, fields)

    def info(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at info."""
        recorder = slot.recorder
        if recorder.level <= INFO:
            recorder.emit(self._logger, INFO, event, args, self._context, fields)

    def success(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at success, between info and warning."""
        recorder = slot.recorder
        if recorder.level <= SUCCESS:
            recorder.emit(self._logger, SUCCESS, event, args, self._context, fields)

    def warning(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at warning."""
        recorder = slot.recorder
        if recorder.level <= WARNING:
            recorder.emit(self._logger, WARNING, event, args, self._context, fields)

    def error(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at error."""
        recorder = slot.recorder
        if recorder.level <= ERROR:
            recorder.emit(self._logger, ERROR, event, args, self._context, fields)

    def critical(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at critical."""
        recorder = slot.recorder
        if recorder.level <= CRITICAL:
            recorder.emit(self._logger, CRITICAL, event, args, self._context, fields)

    def exception(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at error with the exception that is being handled."""
        fields.setdefault("exc_info", True)
        recorder = slot.recorder
        if recorder.level <= ERROR:
            recorder.emit(self._logger, ERROR, event, args, self._context, fields)

    def audit(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at info, whatever the level, with the field ``audit`` set, and return when the record is on disk.

        Raises:
            DurabilityError: If it is not known to be.
        """
        fields = {**fields, "audit": True, "durable": True}
        slot.recorder.emit(self._logger, INFO, event, args, self._context, fields)

    def action(
        self,
        action: str,
        /,
        *,
        message: Any = None,
        success: Any = True,
        level: int | str | None = None,
        **fields: Any,
    ) -> None:
        """Log that something was done, with the fields ``action`` and ``success``.

        Args:
            action: What was done, as a name, such as ``signup``.
            message: The event; by default *action*.
            success: Whether it succeeded.
            level: At which level; by default info, and error if it did not succeed.
            **fields: Further fields, such as ``duration_ms`` or ``context``.
        """
        succeeded = exceptions.wanted(success)
        fields = {"action": action, "success": succeeded, **fields}
        self.log(
            (INFO if succeeded else ERROR) if level is None else level, action if message is None else message, **fields
        )

    def log(self, level: int | str, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at *level*, a number or a name; one that is neither counts as info and is kept in a field."""
        number = _number(level)
        if number is None:
            number, fields = INFO, {**fields, "_level_error": text(level, 100)}
        recorder = slot.recorder
        if recorder.level <= number:
            recorder.emit(self._logger, number, event, args, self._context, fields)

    log_action = action
    warn = warning
    fatal = critical
    msg = info

    async def adebug(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at debug. Nothing is awaited; the method exists for code written for structlog, as do its siblings."""
        self.debug(event, *args, **fields)

    async def ainfo(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at info."""
        self.info(event, *args, **fields)

    async def awarning(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at warning."""
        self.warning(event, *args, **fields)

    async def aerror(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at error."""
        self.error(event, *args, **fields)

    async def acritical(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at critical."""
        self.critical(event, *args, **fields)

    async def aexception(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at error with the exception that is being handled."""
        self.exception(event, *args, **fields)

    def is_enabled_for(self, level: int) -> bool:
        """Tell whether a record of that level would be kept, or held back until its request is over."""
        return slot.recorder.wants(self._logger, level)

    def get_effective_level(self) -> int:
        """Return the lowest level of this logger that is kept."""
        return slot.recorder.levels.of(self._logger)

    def new(self, **new_values: Any) -> Self:
        """Return a logger with only *new_values* bound. This one keeps its own."""
        return self.__class__(self._logger, self._processors, dict(new_values))


def get_logger(name: str | None = None, /, **fields: Any) -> BoundLogger:
    """Return a logger.

    Args:
        name: What its records carry as ``logger``; by default the name of the calling module.
        **fields: Bound to every record of it.
    """
    if name is None:
        name = sys._getframe(1).f_globals.get("__name__", "root")
    return BoundLogger(LoggerName(name), (), fields)


log: Final = BoundLogger(LoggerName("root"), (), {})
"""A logger for everybody, usable from the first import on."""


def structlog_factory(*args: Any) -> LoggerName:
    """Return what structlog passes to `BoundLogger` as the wrapped logger: the logger's name."""
    return LoggerName(str(args[0]) if args and args[0] else "root")


@functools.lru_cache(maxsize=1_024)
def _named(name: str) -> LoggerName:
    return LoggerName(name)


def _number(level: Any) -> int | None:
    kind = type(level)  # isinstance would ask the value for its `__class__`
    if issubclass(kind, int):
        return nearest_level(int.__index__(level))
    name = str.lower(level) if issubclass(kind, str) else ""
    return LEVELS.get(LEVEL_ALIASES.get(name, name))
