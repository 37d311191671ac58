"""Take over the server's loggers, so that what uvicorn says is a record like any other.

https://www.uvicorn.org/concepts/logging/
"""

import logging
import threading
from typing import Any, Final, NamedTuple

from fapilog.context import RequestContext, current_request, remembered_request
from fapilog.diagnostics import report, surface_bugs
from fapilog.logger import record
from fapilog.processors import exceptions

PARENT: Final = "uvicorn"
ACCESS: Final = "uvicorn.access"
NAMES: Final = (PARENT, "uvicorn.error", "uvicorn.asgi", ACCESS)

_NOT_EXTRA: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class _State(NamedTuple):
    """What decides where the records of a logger go."""

    handlers: list[logging.Handler]
    propagate: bool
    disabled: bool
    level: int

    @classmethod
    def of(cls, logger: logging.Logger) -> "_State":
        return cls(list(logger.handlers), logger.propagate, logger.disabled, logger.level)


class ServerLoggers:
    """uvicorn's loggers, and how to take them over and give them back.

    uvicorn configures them when its `Config` is made: before the application is imported if it was started from the
    command line, but after it, and after us, in a script that calls `uvicorn.run(app)`. That replaces handlers and
    leaves filters, so a filter on each logger sees the first record of the new order and restores ours in time for it.
    """

    def __init__(self) -> None:
        self._before: dict[str, _State] = {}
        self._silent = False
        self._silence_access = False
        self._handler = RecordHandler()
        self._watch = _Watch(self)
        self._lock = threading.RLock()

    def capture(self, *, silence_access: bool) -> None:
        """Send what these loggers get into the pipeline, and nowhere else. Calling it again does no harm.

        Args:
            silence_access: Drop uvicorn's access lines, because there is an access record for each request. They stay
                silent in any case where the user has told uvicorn so.
        """
        with self._lock:
            for name in NAMES:
                logger = logging.getLogger(name)
                if not self._holds(logger):
                    self._before[name] = _State.of(logger)
                    logger.handlers = []
                logger.addFilter(self._watch)
            self._silence_access = self._handler.stacks_are_told = silence_access
            access = self._before[ACCESS]
            self._silent = silence_access or access.disabled or not (access.handlers or access.propagate)
            for name in NAMES:
                logger = logging.getLogger(name)
                logger.propagate = False
                if name == ACCESS:
                    logger.disabled = self._silent
                if name == ACCESS and self._silent:
                    logger.removeHandler(
                        self._handler
                    )  # with no handler in reach uvicorn does not even format the line
                else:
                    logger.addHandler(self._handler)
            parent = logging.getLogger(PARENT)
            if parent.level == logging.NOTSET:
                parent.setLevel(logging.INFO)  # as uvicorn does, unless it was told to leave logging alone

    def release(self) -> None:
        """Give the loggers back as they were; what somebody else has configured since stays."""
        with self._lock:
            for name, before in self._before.items():
                logger = logging.getLogger(name)
                logger.removeFilter(self._watch)
                if self._holds(logger):
                    added = [handler for handler in logger.handlers if handler is not self._handler]
                    logger.handlers = before.handlers + added
                    logger.propagate = before.propagate
                    logger.disabled = before.disabled
                    if before.level == logging.NOTSET:
                        logger.setLevel(before.level)
            self._before.clear()

    def hold(self) -> None:
        """Capture again if somebody has configured the loggers since."""
        if self._before and not all(self._holds(logging.getLogger(name)) for name in NAMES):
            self.capture(silence_access=self._silence_access)

    def _holds(self, logger: logging.Logger) -> bool:
        """Tell whether a logger is as we left it, no matter what others have added: a new configuration resets both."""
        if logger.name not in self._before:
            return False
        return logger.disabled if logger.name == ACCESS and self._silent else self._handler in logger.handlers


class _Watch(logging.Filter):
    """Let every record pass, and see to it that it meets our handler."""

    def __init__(self, loggers: ServerLoggers) -> None:
        super().__init__()
        self._loggers = loggers

    def filter(self, record: logging.LogRecord) -> bool:
        self._loggers.hold()
        return True


class RecordHandler(logging.Handler):
    """Turn what the standard library logs into records of ours.

    The message is formatted; if its arguments do not fit, it stays as it is and ``_format_error`` says why. What was
    given as ``extra`` becomes fields. An exception that left a request of ours brings the ids of that request.
    """

    stacks_are_told = False
    """Whether the stack of an exception that left a request is in its access record already."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record*. One that comes from a thread of the pipeline is ignored, or it would feed itself."""
        if threading.current_thread().name.startswith("fapilog-"):
            return
        try:
            self._emit(record)
        except Exception as error:
            if surface_bugs():
                raise
            report(f"a record of logger {record.name!r} was lost: {error!r}", key="capture")

    def _emit(self, given: logging.LogRecord) -> None:
        fields = {name: value for name, value in given.__dict__.items() if name not in _NOT_EXTRA}
        event = _message(given, fields)
        if given.stack_info:
            fields["stack"] = given.stack_info
        error = exceptions.find(given.exc_info)
        request = remembered_request(error) if current_request.get() is None else None
        if error is not None:
            fields["exc_info"] = error
        if error is None or request is None:
            record(given.name, given.levelno, event, fields)
        else:
            self._emit_for(request, error, given, event, fields)

    def _emit_for(
        self,
        request: RequestContext,
        error: BaseException,
        given: logging.LogRecord,
        event: str,
        fields: dict[str, Any],
    ) -> None:
        """Log within a request that is over."""
        if self.stacks_are_told:
            del fields["exc_info"]
            described = exceptions.describe(error)
            fields["exception"] = {"type": described["type"], "message": described["message"]}
        token = current_request.set(request)
        try:
            record(given.name, given.levelno, event, fields)
        finally:
            current_request.reset(token)


def _message(given: logging.LogRecord, fields: dict[str, Any]) -> str:
    """Format the message of a record, or keep its parts."""
    try:
        message = given.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever an argument's __str__ raises
        fields["_format_error"] = f"{type(error).__name__}: {error}"
        fields["_args"] = list(given.args) if isinstance(given.args, tuple) else given.args
        message = given.msg if isinstance(given.msg, str) else type(given.msg).__name__
    return message.rstrip("\n")
