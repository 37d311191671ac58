"""What the standard library logs, as records of ours.

https://docs.python.org/3/library/logging.html#logrecord-attributes
"""

import logging
import re
import threading
from typing import Any, Final

from fapilog.context import OURSELVES, RequestContext, current_request, remembered_request
from fapilog.diagnostics import report, surface_bugs
from fapilog.encoding import text
from fapilog.interpolation import interpolated
from fapilog.logger import record
from fapilog.processors import exceptions
from fapilog.processors.redact import ARGUMENTS
from fapilog.recorder import slot
from fapilog.types import DEBUG, WARNING

TRANSPORTS: Final = frozenset(
    {"aiobotocore", "aiohttp", "boto3", "botocore", "h11", "h2", "hpack", "httpcore", "httpcore2", "httpx", "httpx2"}
    | {"opentelemetry", "s3transfer", "urllib3"}
)
"""First parts of the names of loggers that tell of requests to others, with the whole URL."""

GRANIAN: Final = "_granian"
"""The first part of the names of granian's loggers. It has the stack of what an application raised in the message."""

_NOT_EXTRA: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_PLAIN_LENGTH: Final = len(vars(logging.makeLogRecord({})))
_GET_MESSAGE: Final = logging.LogRecord.getMessage
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@\"']+@")
_QUERY: Final = re.compile(r"\?[^\s\"'<>]+")


class RecordHandler(logging.Handler):
    """Turn what the standard library logs into records of ours.

    The message is formatted; if its arguments do not fit, it stays as it is and ``_format_error`` says why. What was
    given as ``extra`` becomes fields. An exception that left a request of ours brings the ids of that request.

    What an HTTP client tells of its requests is a debug record, unless it is a warning, and has no query string and
    no password in its URLs.
    """

    stacks_are_told = False
    """Whether the stack of an exception that left a request is in its access record already."""

    def __init__(self) -> None:
        super().__init__()
        self._here = threading.local()

    def createLock(self) -> None:  # noqa: N802 - the standard library's name
        """Have no lock: the pipeline needs none, and what is not there can neither be waited for nor be forked."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Log *record* if the filters of this handler let it pass, without a lock."""
        passed: bool | logging.LogRecord = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record*. One that comes from a thread of the pipeline is counted and left, or it would feed itself."""
        recorder = slot.recorder
        if record.levelno < recorder.level:
            return
        if current_request.get() is OURSELVES or threading.current_thread().name.startswith("fapilog-"):
            recorder.filtered["own_thread"] += 1
            return
        try:
            self._emit(record)
        except Exception as error:
            if surface_bugs():
                raise
            report(f"a record of logger {record.name!r} was lost: {error!r}", key="capture")

    def _emit(self, given: logging.LogRecord) -> None:
        level = given.levelno
        tells_urls = given.name.partition(".")[0] in TRANSPORTS
        if tells_urls and level < WARNING:
            level = min(level, DEBUG)
            if level < slot.recorder.level:
                return
        given_fields = given.__dict__
        fields: dict[str, Any] = {}
        if len(given_fields) != _PLAIN_LENGTH:
            fields = {name: value for name, value in given_fields.items() if name not in _NOT_EXTRA}
        event = _message(given, fields)
        if tells_urls:
            event = _QUERY.sub("?REDACTED", _USERINFO.sub("", event))
        elif self.stacks_are_told and given.name.startswith(GRANIAN):
            event = event.partition("\nTraceback (most recent call last):")[0]
        if given.stack_info:
            fields["stack"] = given.stack_info
        error = exceptions.find(given.exc_info) if given.exc_info else None
        if error is not None:
            fields["exc_info"] = error
            request = remembered_request(error) if current_request.get() is None else None
            if request is not None:
                self._record_for(request, error, (given.name, level, event), fields)
                return
        self._record(given.name, level, event, fields)

    def _record_for(
        self, request: RequestContext, error: BaseException, what: tuple[str, int, str], fields: dict[str, Any]
    ) -> None:
        """Log within a request that is over."""
        if self.stacks_are_told:
            del fields["exc_info"]
            described = exceptions.describe(error)
            fields["exception"] = {"type": described["type"], "message": described["message"]}
        token = current_request.set(request)
        try:
            self._record(*what, fields)
        finally:
            current_request.reset(token)

    def _record(self, logger: str, level: int, event: str, fields: dict[str, Any]) -> None:
        """Log, unless this thread is doing so: a processor or a value that logs while it is logged would never end."""
        if getattr(self._here, "busy", False):
            slot.recorder.filtered["recursion"] += 1
            return
        self._here.busy = True
        try:
            record(logger, level, event, fields)
        finally:
            self._here.busy = False


def _message(given: logging.LogRecord, fields: dict[str, Any]) -> str:
    """Format the message of a record, or keep its parts."""
    try:
        if type(given).getMessage is not _GET_MESSAGE or not given.args:  # of a factory, with a style of its own
            message = given.getMessage()
        else:
            args = given.args if isinstance(given.args, tuple) else (given.args,)
            message = interpolated(given.msg if isinstance(given.msg, str) else str(given.msg), args)
    except Exception as error:  # noqa: BLE001 - whatever an argument's __str__ raises
        fields["_format_error"] = f"{type(error).__name__}: {text(error, 200)}"
        fields[ARGUMENTS] = list(given.args) if isinstance(given.args, tuple) else given.args
        message = given.msg if isinstance(given.msg, str) else type(given.msg).__name__
    return message.rstrip("\n")
