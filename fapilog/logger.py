"""The logger, and the hot path from a log call to the queue.

`BoundLogger` is a structlog wrapper class. What it points to, the `Recorder`, sits in one slot that the runtime
fills: loggers that were made, bound or cached earlier follow a later `configure_logging`.
"""

import functools
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Self

import orjson
import structlog
from structlog import contextvars as structlog_contextvars

from fapilog import forks
from fapilog.context import NOTHING, OURSELVES, current_fields, current_request
from fapilog.diagnostics import report, surface_bugs
from fapilog.encoding import LIMITS, OPTIONS, PLAIN_TYPES, encode, encode_text, plain_fields, text
from fapilog.errors import DurabilityError
from fapilog.forks import same_process
from fapilog.pipeline.ledger import Stats
from fapilog.pipeline.queue import Queue
from fapilog.pipeline.queue import Sequence as Numbers
from fapilog.processors import exceptions
from fapilog.processors.redact import Redact
from fapilog.trace import SDK, in_active_span
from fapilog.types import (
    CRITICAL,
    DEBUG,
    ERROR,
    INFO,
    LEVEL_ALIASES,
    LEVEL_NAMES,
    LEVELS,
    RESERVED_FIELDS,
    SUCCESS,
    TRACE,
    WARNING,
    Event,
    Processor,
    nearest_level,
)

SUSPECT_BYTES: Final = LIMITS.string
"""A line longer than this may hold a string that has to be cut."""

LEVEL_FIELDS: Final = {number: b'"level":"%b"' % name.encode() for number, name in LEVEL_NAMES.items()}
_LINE: Final = b'{"timestamp":"%b%06dZ",%b,"event":%b,%b,%b%b%b'
_LINE_WITHOUT_FIELDS: Final = b'{"timestamp":"%b%06dZ",%b,"event":%b,%b%b%b%b'
EARLY_RECORDS: Final = 1_000
MAX_SAFE_NAMES: Final = 10_000
_OWN: Final = ("timestamp", "level", "event", "logger")
_IDS: Final = {
    "trace_id": re.compile(r"(?!0{32})[0-9a-f]{32}"),
    "span_id": re.compile(r"(?!0{16})[0-9a-f]{16}"),
    "parent_span_id": re.compile(r"(?!0{16})[0-9a-f]{16}"),
    "request_id": re.compile(r"[A-Za-z0-9._-]{1,128}"),
    "trace_flags": re.compile(r"[0-9a-f]{2}"),
}
_MODULES: Final = sys.modules
_ARGUMENTS: Final = frozenset({"exc_info", "stack_info", "durable"})
_NEVER_SAFE: Final = RESERVED_FIELDS | _ARGUMENTS | _IDS.keys()


class LoggerName(str):
    """The name of a logger, with the field that carries it encoded once."""

    __slots__ = ("field",)

    field: bytes

    def __new__(cls, name: str) -> Self:
        """Take any text as a name."""
        made = super().__new__(cls, name)
        made.field = b'"logger":' + encode_text(str.__str__(made))
        return made


class Recorder:
    """Everything between a log call and the queue, decided once: level, processors, redaction, static fields."""

    def __init__(
        self,
        queue: Queue,
        *,
        level: int = INFO,
        processors: Iterable[Processor] = (),
        redact: Redact | None = None,
        static: Mapping[str, Any] = NOTHING,
        make_durable: Callable[[AbstractSet[str | None]], None] | None = None,
    ) -> None:
        """Record into *queue* what is at least *level*; *static* fields end every line.

        *make_durable* returns when what was queued is on disk at a sink that did not lose it, or raises
        `DurabilityError`; it is given those who did, as `Queue.watch` notes them.
        """
        self.level = level
        self.queue: Any = queue
        self.filtered: Counter[str] = Counter()
        self.invalid_traces = 0
        """How many requests came with trace headers that had to be ignored."""
        self._make_durable = make_durable
        self._processors = tuple(processors)
        self._redact = redact or Redact()
        self._safe: set[str] = set()
        """Field names that need nothing done: not reserved, not secret. Learned as they are met."""
        self._second = (0, b"")
        """When the current second began, in nanoseconds, and its text: one pair, so that no thread sees half of it."""
        static = self._redact(None, "", plain_fields({**static, "pid": os.getpid()}))
        self._tail = b',%b,"id":"%b-' % (encode(static)[1:-1], queue.sequence.instance.encode())

    def emit(  # noqa: PLR0915 - the hot path in one piece: a call more is time
        self,
        logger: "LoggerName",
        level: int,
        event: Any,
        args: tuple[Any, ...],
        context: Mapping[str, Any],
        fields: dict[str, Any],
    ) -> None:
        """Make one record of *event* and its fields, and queue it. Never raises, never waits on an event loop.

        The one exception is a record that is to be durable: then it waits, and raises `DurabilityError`.
        """
        if not same_process[0]:
            forks.begin_anew()
            slot.recorder.emit(logger, level, event, args, context, fields)
            return
        durable = False
        try:
            queue = self.queue
            if queue.pressed and queue.refuses(level):
                _refuse(fields, context, "the record was dropped before it could be written")
                return
            now = time.time_ns()
            began, second = self._second
            if not 0 <= now - began < 1_000_000_000:
                began, second = self._start_second(now)

            request = current_request.get()
            if SDK in _MODULES:
                request = in_active_span(request)
            bound = current_fields.get()
            ids = b""
            if request is not None:
                if request is OURSELVES:
                    self.filtered["own_thread"] += 1
                    _refuse(fields, context, "nothing is recorded that a sink logs while it writes")
                    return
                ids = request.encoded
                if request.bound or bound or context:
                    fields = {**request.bound, **bound, **context, **fields}
            elif bound or context:
                fields = {**bound, **context, **fields}
            if _STRUCTLOG_VARIABLES:
                fields = {**structlog_contextvars.get_contextvars(), **fields}
            if args:
                event = _interpolate(event, args, fields)

            if (
                not self._processors
                and type(event) is str
                and self._safe.issuperset(fields)
                and PLAIN_TYPES.issuperset(map(type, fields.values()))
            ):
                # Two small objects spliced into the line cost half of what one merged dict does.
                try:
                    front = (_LINE if fields else _LINE_WITHOUT_FIELDS) % (
                        second,
                        (now - began) // 1_000,
                        LEVEL_FIELDS[level],
                        orjson.dumps(event),
                        logger.field,
                        orjson.dumps(fields, None, OPTIONS)[1:-1],
                        ids,
                        self._tail,
                    )
                except TypeError:  # a lone surrogate or an integer beyond 64 bits
                    front = b""
                if 0 < len(front) < SUSPECT_BYTES:
                    queue.put(level, now, front)
                    return
            if isinstance(fields.get("durable"), bool):
                durable = fields.pop("durable")
            settled = self._process(now, level, event, logger, NOTHING if request is None else request.ids, fields)
            if settled is None:
                _refuse({"durable": durable}, NOTHING, "a processor has dropped the record")
                return
            self._put(queue, level, now, encode(settled)[:-1] + self._tail, durable=durable)
        except DurabilityError:
            raise
        except Exception as error:
            self._failed(error)
            if surface_bugs():
                raise
            _refuse({"durable": True} if durable else fields, context, "the record could not be encoded")

    def _put(self, queue: Any, level: int, now: int, front: bytes, *, durable: bool) -> None:
        if not durable:
            queue.put(level, now, front)
            return
        lost = queue.watch(front)
        try:
            if not queue.put(level, now, front):
                raise DurabilityError("the record was dropped before it could be written")
            if self._make_durable is None:
                raise DurabilityError("logging is not configured yet, so the record is in memory alone")
            self._make_durable(lost)
        finally:
            queue.unwatch(front, lost)

    def emit_flat(self, logger: "LoggerName", level: int, event: bytes, fields: dict[str, Any], ids: bytes) -> bool:
        """Make one record of fields whose values are strings and numbers, and of an event and ids encoded already.

        Returns:
            False if nothing was done, because the record has to go the way of all others, through `emit`.
        """
        queue = self.queue
        if (
            queue.pressed
            or not same_process[0]
            or self._processors
            or _STRUCTLOG_VARIABLES
            or not self._safe.issuperset(fields)
        ):
            return False
        now = time.time_ns()
        began, second = self._second
        if not 0 <= now - began < 1_000_000_000:
            began, second = self._start_second(now)
        try:
            encoded = orjson.dumps(fields, None, OPTIONS)[1:-1]
        except TypeError:  # a lone surrogate, or a value of another kind
            return False
        if len(encoded) >= SUSPECT_BYTES:
            return False
        at = (now - began) // 1_000
        queue.put(level, now, _LINE % (second, at, LEVEL_FIELDS[level], event, logger.field, encoded, ids, self._tail))
        return True

    def adopt(self, early: "Recorder") -> None:
        """Take over what was logged before there was a configuration: what is below the level is filtered now."""
        items, _ = early.queue.take()
        for level, timestamp_ns, line in items:
            if level < self.level:
                self.filtered["level"] += 1
            else:
                front = line.rpartition(early._tail)[0] + self._tail
                self.queue.put(level, timestamp_ns, front)
        with self.queue.lock:
            self.queue.dropped += early.queue.dropped
            early.queue.dropped.clear()

    def follow(self, early: "Recorder") -> None:
        """Take over what is left in *early*, and what log calls still bring that began before it was replaced."""

        def again() -> None:
            early.queue.wake_at = 1
            self.adopt(early)

        early.queue.wake = again
        again()

    def _start_second(self, now: int) -> tuple[int, bytes]:
        """Format the second that *now* is in, once for all records in it."""
        seconds, nanoseconds = divmod(now, 1_000_000_000)
        self._second = now - nanoseconds, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)).encode()
        return self._second

    def _process(
        self, now: int, level: int, event: Any, logger: str, ids: Mapping[str, str], fields: dict[str, Any]
    ) -> Event | None:
        """Take the long way: a user's processors, names we reserve, values that are not plain, secrets."""
        began, second = self._start_second(now)
        stamp = f"{second.decode()}{(now - began) // 1_000:06d}Z"
        name = LEVEL_NAMES[level]
        record: Event = {"timestamp": stamp, "level": name, "event": event, "logger": str(logger), **ids}
        for key, value in fields.items():
            own = key in _OWN or (key in _IDS and not _well_formed(key, value))
            _keep(record, key, value, own=own, taken=fields)
        for processor in self._processors:
            try:
                processed = processor(logger, name, record)
            except structlog.DropEvent:
                self.filtered["processor"] += 1
                return None
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a user's processor must not cost the record
                self._complain(processor, f"raised {type(error).__name__}: {text(error, 200)}", record)
                continue
            if type(processed) is dict:
                record = processed
            else:
                self._complain(processor, f"returned {type(processed).__name__}, not a dict", record)
        return self._settle(record)

    def _settle(self, record: Event) -> Event:
        """Do what comes last, whatever came before: exception, reserved names, plain values, redaction."""
        for own in _OWN:
            if own not in record:  # a processor took it out; every line has it
                record[own] = "" if own != "level" else "info"
        settled: Event = {own: record.pop(own) for own in _OWN}
        exc_info = record.pop("exc_info", None)
        if exceptions.wanted(record.pop("stack_info", None)):
            record["stack"] = _stack()
        for key, value in record.items():
            _keep(settled, key, value, own=key in RESERVED_FIELDS, taken=record)
        error = exceptions.find(exc_info)
        if error is not None:
            if "exception" in settled:
                _keep(settled, "exception", settled.pop("exception"), own=True, taken=record)
            settled["exception"] = exceptions.describe(error)
        settled = plain_fields(settled)
        try:
            redacted = self._redact(None, "", settled)
        except Exception as failure:  # noqa: BLE001 - a redactor that fails must not let the value through
            report(f"redaction failed and the record's fields were withheld: {type(failure).__name__}")
            redacted = {own: settled[own] if type(settled[own]) is str else "" for own in _OWN}
            redacted["_redaction"] = "<redaction failed>"
        for own in _OWN:
            if type(redacted[own]) is not str:
                redacted[own] = text(redacted[own])
        self._learn(settled)
        return redacted

    def _learn(self, fields: Iterable[str]) -> None:
        """Remember which of these names need no second look."""
        if len(self._safe) < MAX_SAFE_NAMES:
            self._safe.update(
                name
                for name in fields
                if len(name) <= 128 and name not in _NEVER_SAFE and name.isascii() and not self._redact.matches(name)
            )

    def _complain(self, processor: Processor, what: str, record: Event) -> None:
        name = getattr(processor, "__qualname__", type(processor).__qualname__)
        record["_processor_error"] = f"{name} {what}"
        report(f"processor {name} {what}; the record goes on without it", key=f"processor {name}")

    def _failed(self, error: Exception) -> None:
        """Count a record that could not be made."""
        report(f"a record could not be encoded: {type(error).__name__}: {text(error, 200)}", key="encoding_failed")
        with self.queue.lock:
            self.queue.dropped["encoding_failed"] += 1


class _Slot:
    """The one recorder there is, and how to read the figures of the pipeline behind it."""

    __slots__ = ("numbers", "recorder", "stats")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start as in a fresh process: a new instance, and an early recorder that keeps the first records."""
        self.numbers = Numbers()
        self.recorder = self.early()
        self.stats: Callable[[], Stats] | None = None

    def early(self) -> Recorder:
        """Return a recorder for the time before `configure_logging`: every level is kept, to a bound.

        Its records are numbered anew when they are adopted, so that those below the level leave no gap.
        """
        queue = Queue(
            Numbers(), max_records=EARLY_RECORDS, overflow="block", block_timeout_seconds=0, drop_reason="early_full"
        )
        return Recorder(queue, level=TRACE)


slot: Final = _Slot()
"""What every logger points to. Only `fapilog.runtime` fills it."""


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

    def log(self, level: int | str, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at *level*, a number or a name; one that is neither counts as info and is kept in a field."""
        number = _number(level)
        if number is None:
            number, fields = INFO, {**fields, "_level_error": text(level, 100)}
        recorder = slot.recorder
        if recorder.level <= number:
            recorder.emit(self._logger, number, event, args, self._context, fields)

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
        """Tell whether a record of that level would be kept."""
        return slot.recorder.level <= level

    def get_effective_level(self) -> int:
        """Return the lowest level that is kept."""
        return slot.recorder.level

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


def _interpolate(event: Any, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    """Format *args* into *event* as structlog does; if that fails keep both and say so in ``_format_error``."""
    try:
        if len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
            return event % args[0]
        return event % args
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever an argument's __str__ raises, SystemExit too
        fields["_format_error"] = f"{type(error).__name__}: {text(error, 200)}"
        fields["_args"] = list(args)
        return event


def _refuse(fields: Mapping[str, Any], context: Mapping[str, Any], why: str) -> None:
    """Return if a record that is not going to be recorded was an ordinary one.

    Raises:
        DurabilityError: It was to be durable.
    """
    if fields.get("durable", context.get("durable")) is True:
        raise DurabilityError(why)


def _keep(record: Event, key: str, value: Any, *, own: bool, taken: Mapping[str, Any]) -> None:
    """Put a field into *record*; under its name with ``_`` appended, again if *taken*, when the name is ours."""
    if own:
        key = f"{key}_"
        while key in record or key in taken:
            key += "_"
    record[key] = value


def _well_formed(name: str, value: Any) -> bool:
    return type(value) is str and _IDS[name].fullmatch(value) is not None


@functools.lru_cache(maxsize=1_024)
def _named(name: str) -> LoggerName:
    return LoggerName(name)


def _number(level: Any) -> int | None:
    kind = type(level)  # isinstance would ask the value for its `__class__`
    if issubclass(kind, int):
        return nearest_level(int.__index__(level))
    name = str.lower(level) if issubclass(kind, str) else ""
    return LEVELS.get(LEVEL_ALIASES.get(name, name))


def _stack() -> str:
    import traceback  # noqa: PLC0415 - rarely needed

    frames: Sequence[traceback.FrameSummary] = traceback.extract_stack(limit=40)
    outside = [frame for frame in frames if frame.filename != __file__]
    return "".join(traceback.format_list(outside)).rstrip("\n")


# structlog keeps its context variables in this private dict; where it is gone, always ask.
_STRUCTLOG_VARIABLES: Final = getattr(structlog_contextvars, "_CONTEXT_VARS", (True,))
