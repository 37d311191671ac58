"""The hot path from a log call to the queue.

The `Recorder` in force sits in one slot that the runtime fills: loggers that were made, bound or cached earlier follow
a later `configure_logging`. A recorder is one thing: the quick way, in which most records are made by one function, and
the long way with all that the quick one leaves out.
"""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, get_args

import orjson
import structlog
from structlog import contextvars as structlog_contextvars

from fapilog import forks
from fapilog.context import NOTHING, OURSELVES, RequestContext, current_fields, current_request
from fapilog.diagnostics import FilterReason, report, surface_bugs
from fapilog.encoding import (
    LIMITS,
    NOTES,
    OPTIONS,
    OWN_KEYS,
    Limits,
    cut,
    encode,
    encode_text,
    plain_fields,
    text,
)
from fapilog.errors import DurabilityError, EventSchemaError
from fapilog.forks import same_process
from fapilog.interpolation import interpolated
from fapilog.pipeline.ledger import Stats
from fapilog.pipeline.queue import Queue
from fapilog.pipeline.queue import Sequence as Numbers
from fapilog.pipeline.tail import Tail
from fapilog.processors import exceptions
from fapilog.processors import redact as redaction
from fapilog.processors.filter import Filter
from fapilog.processors.levels import Levels, Table
from fapilog.processors.redact import Redact
from fapilog.processors.sieve import RuleFailed, Sieve, Surroundings, is_exception, leading
from fapilog.processors.validate import Validate
from fapilog.serializers import Lazy, make_once, once
from fapilog.trace import SDK, in_active_span
from fapilog.types import (
    ERROR,
    INFO,
    LEVEL_NAMES,
    LEVELS,
    RESERVED_FIELDS,
    TRACE,
    Event,
    Processor,
)

LEVEL_FIELDS: Final = {number: b'"level":"%b",' % name.encode() for number, name in LEVEL_NAMES.items()}
Enrichment: TypeAlias = Callable[[str, int, Any, dict[str, Any]], dict[str, Any]]
"""Takes logger, level, event and fields of a record; returns the fields with more."""

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

# What the hot path calls, each a name of its own: a look into a module or a type less.
_now: Final = time.time_ns
_dumps: Final = orjson.dumps
_request: Final = current_request.get
_fields: Final = current_fields.get
_ARGUMENTS: Final = frozenset({"exc_info", "stack_info", "durable"})
_FORMATS: Final = (str, Lazy)
_MAX_NAME: Final = 256
_MAX_HEADS: Final = 1_000
_MAX_HEAD: Final = 256
_MAX_GLANCES: Final = 32
"""How many fields there may be where nobody looks at the clock meanwhile."""

_BEGINNING: Final = '{"timestamp":"%Y-%m-%dT%H:%M:%S.'
_STAMP_AT: Final = _BEGINNING.index("%")
_MILLISECONDS: Final = [b"%03d" % number for number in range(1_000)]
_MICROSECONDS: Final = [b'%03dZ",' % number for number in range(1_000)]
_NUMBER_BYTES: Final = 24
"""The end of a line: the number of the record, and what closes it."""
_FRONT_BYTES: Final = 2_048
"""What a line has in front of the event, the names of its fields, and the ids of its request."""
_NEVER_SAFE: Final = RESERVED_FIELDS | _ARGUMENTS | _IDS.keys()


class LoggerName(str):
    """The name of a logger, with the field that carries it encoded once."""

    __slots__ = ("field",)

    field: bytes

    def __new__(cls, name: str) -> Self:
        """Take any text as a name; of a very long one the beginning."""
        made = super().__new__(cls, cut(str(name), _MAX_NAME))
        made.field = b'"logger":%b,' % encode_text(redaction.default().text(str.__str__(made)))
        return made


class Recorder:
    """Everything between a log call and the queue, decided once: level, processors, redaction, static fields."""

    def __init__(
        self,
        queue: Queue,
        *,
        level: int | Levels = INFO,
        processors: Iterable[Processor] = (),
        redact: Redact | None = None,
        static: Mapping[str, Any] = NOTHING,
        limits: Limits = LIMITS,
        exception_locals: bool = False,
        make_durable: Callable[[AbstractSet[str | None], int], None] | None = None,
        tail: Tail | None = None,
        validate: Validate | None = None,
    ) -> None:
        """Record into *queue* what is at least *level*; *static* fields end every line.

        Sieves that come first among *processors* are asked before the record is made; *validate* comes behind them.
        What is below the level waits in *tail*, if there is one, for the end of its request.

        *limits* bound each record; *exception_locals* adds the local variables to the frames of an exception.

        *make_durable* returns when what was queued is on disk at a sink that did not lose it, or raises
        `DurabilityError`; it is given those who did, as `Queue.watch` notes them, and how many records were accepted
        before.
        """
        self.levels = level if isinstance(level, Levels) else Levels(level)
        self.levels.follow = self.follow_levels
        self.follow_levels()
        self.queue: Any = queue
        # Each is there from the beginning: two threads that count a reason for the first time would lose one.
        self.filtered: Counter[str] = Counter(dict.fromkeys(get_args(FilterReason), 0))
        self.failures: Counter[str] = Counter({"enricher": 0, "filter": 0, "processor": 0, "schema": 0})
        """How often code of the user's raised while a record was made, by what it was, such as ``filter``."""
        self.invalid_traces = 0
        """How many requests came with trace headers that had to be ignored."""
        self._enrich: Enrichment | None = None
        self._make_durable = make_durable
        self._sieves, self._processors = leading(processors)
        self._sieves_of_held = tuple(each for each in self._sieves if isinstance(each, Filter))
        self._validate = validate
        self._validates = [] if validate is None else [validate]
        if validate is not None:
            validate.failures = self.failures
        self.tail = tail
        if tail is not None:
            tail.recorder = self
        self._sifts = bool(self._sieves) or tail is not None or (validate is not None and validate.wait(self))
        """Whether a record must pass `_sift`."""

        self._is_special = self._sifts or bool(self._processors)
        """Whether anything is done to a record that is not done to all: sieves, enrichers, processors."""
        self._redact = redact or Redact()
        scanner = self._redact.scanner
        self._seen, self._is_clean = scanner.seen, scanner.is_clean
        self._more = bool(scanner.more)
        """Whether something is looked for in names, too."""
        self._number = None if scanner.cards else int
        """The type of values that are kept as they are, beside truth values: no number may be that of a card."""
        self._safe: set[str] = set()
        """Field names that need nothing done: not reserved, not secret. Learned as they are met."""
        self._are_safe = self._safe.issuperset
        self._second = self._millisecond = (0, b"")
        """When the current one began, in nanoseconds, and how a line of it begins: one pair, so that no thread sees
        half of it."""
        self._heads: dict[int, dict[str, bytes]] = {number: {} for number in LEVEL_FIELDS}
        """Level and event as they stand in a line, of events that need nothing done. Learned as they are met."""
        static = {**static, "pid": os.getpid()}
        self._reserved = RESERVED_FIELDS | static.keys()
        """Names that a field of the user's must not have, since every line ends in them."""
        self._never_safe = _NEVER_SAFE | self._reserved
        self._limits = limits
        self._exception_locals = exception_locals
        self._most_keys = limits.keys
        self.end_with(static)

    def end_with(self, static: Mapping[str, Any]) -> None:
        """Have every line end in *static* fields, whose names are as at the start."""
        kept = plain_fields(static)
        for note in NOTES:  # or a record that has notes of its own would have the name twice
            kept.pop(note, None)
        ended = encode(self._redact(None, "", kept))[1:-1]
        self._tail = b',%b,"id":"%b-' % (ended, self.queue.sequence.instance.encode())
        self._reserve = len(self._tail) + _NUMBER_BYTES
        self._room = self._limits.record - self._reserve - _FRONT_BYTES
        """How many bytes the event and the fields may have, whatever else there is."""
        self._short = min(self._limits.string, self._room)
        self._glance = min(self._redact.scanner.glance, self._short)
        self._few = min(self._room, self._limits.keys * len('"":0,'))
        """In a line of so many bytes there cannot be too many fields."""

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
            if self._table is not None and level < self._table[logger]:
                queue = self._below(level, fields)
                if queue is None:
                    return
            if queue.pressed and queue.refuses(level):
                _refuse(fields, context, "the record was dropped before it could be written")
                return
            now = _now()
            began, beginning = self._millisecond
            into = now - began
            if not 0 <= into < 1_000_000:
                began, beginning = self._start_millisecond(now)
                into = now - began

            request = _request()
            if SDK in _MODULES:
                request = in_active_span(request)
            bound = _fields()
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
                event = _interpolate(event, args, fields, self._limits)
            if self._is_special:
                make_once(fields)
                event = once(event)
                if self._sifts:
                    level = self._sift(logger, level, event, fields, request, queue is not self.queue)
                    if not level:
                        return
                if self._enrich is not None:
                    fields = self._enrich(logger, level, event, fields)

            if (
                not self._processors
                and type(event) is str
                and len(event) <= self._glance  # of a long one the hash alone takes long
                and (head := self._heads[level].get(event) or self._head(level, event))
                and len(fields) <= _MAX_GLANCES
                and self._are_safe(fields)
                and (not self._more or self._is_clean(logger))
            ):
                short, seen, number = self._glance, self._seen, self._number
                for value in fields.values():  # a string that is too long is not even looked at
                    kind = type(value)
                    if kind is str:
                        if len(value) > short or (value not in seen and not self._is_clean(value)):
                            break
                    elif kind is float:
                        if value - value != 0.0:  # none that JSON has
                            break
                    elif kind is not number and kind is not bool and value is not None:
                        break
                else:
                    # Small parts joined to a line cost half of what one merged dict does.
                    try:
                        rest = _dumps(fields, None, OPTIONS)[1:-1]
                    except TypeError:  # a lone surrogate or an integer beyond 64 bits
                        head = rest = b""
                    size = len(head) + len(rest)
                    if head and (size <= self._few or (size <= self._room and len(fields) <= self._most_keys)):
                        tail = self._tail
                        if not rest:  # then what comes next is the first after the comma
                            rest, ids, tail = (ids[1:], b"", tail) if ids else (tail[1:], b"", b"")
                        micro = _MICROSECONDS[into // 1_000]
                        queue.put_parts(level, now, [beginning, micro, head, logger.field, rest, ids, tail])
                        return
            if isinstance(fields.get("durable"), bool):
                durable = fields.pop("durable")
            settled = self._process(now, level, event, logger, NOTHING if request is None else request.ids, fields)
            if settled is None:
                _refuse({"durable": durable}, NOTHING, "a processor has dropped the record")
                return
            level = LEVELS.get(settled["level"], level)  # a processor may have changed it
            line = encode(settled, self._limits, reserve=self._reserve)
            self._put(queue, level, now, line[:-1] + self._tail, durable=durable)
        except (DurabilityError, EventSchemaError):
            raise
        except Exception as error:
            self._failed(error)
            if surface_bugs():
                raise
            _refuse({"durable": True} if durable else fields, context, "the record could not be encoded")

    def _head(self, level: int, event: str) -> bytes:
        """Return level and event as they stand in a line; nothing if the event has to be looked at more closely."""
        try:
            if len(event) > self._short or not self._is_clean(event):
                return b""
            head = b'%b"event":%b,' % (LEVEL_FIELDS[level], _dumps(event))
        except TypeError:  # a lone surrogate
            return b""
        if len(head) <= _MAX_HEAD:
            heads = self._heads[level]
            if len(heads) >= _MAX_HEADS:
                heads.clear()
            heads[event] = head
        return head

    def _put(self, queue: Any, level: int, now: int, front: bytes, *, durable: bool) -> None:
        if not durable:
            queue.put(level, now, front)
            return
        current = slot.recorder
        if queue.closed and current is not self and not current.queue.closed:
            current._put(current.queue, level, now, front, durable=True)
            return
        since, lost = queue.accepted, queue.watch(front)
        try:
            if not queue.put(level, now, front):
                raise DurabilityError("the record was dropped before it could be written")
            if self._make_durable is None:
                raise DurabilityError("logging is not configured yet, so the record is in memory alone")
            if queue.closed:  # and the record perhaps went another way than to the sinks
                raise DurabilityError("logging was ending, so the record is not known to be on disk")
            self._make_durable(lost, since)
        finally:
            queue.unwatch(front, lost)

    def emit_flat(self, logger: "LoggerName", level: int, event: str, fields: dict[str, Any], ids: bytes) -> bool:
        """Make one record of fields whose values are strings and numbers, and of ids encoded already.

        Returns:
            False if nothing was done, because the record has to go the way of all others, through `emit`.
        """
        try:
            passes = self._are_safe(fields) and self._redact.scanner.passes(fields)
            encoded = _dumps(fields, None, OPTIONS)[1:-1] if passes else b""
        except TypeError:  # a lone surrogate, or a value of another kind
            return False
        return (
            0 < len(encoded) <= self._short
            and len(fields) <= self._most_keys
            and self.emit_encoded(logger, level, event, encoded, ids)
        )

    def emit_encoded(self, logger: "LoggerName", level: int, event: str, fields: bytes, ids: bytes) -> bool:
        """Make one record of fields and ids that are encoded already and hold nothing that has to be masked or cut.

        Returns:
            False if nothing was done, as above.
        """
        queue = self.queue
        head = self._heads[level].get(event) or self._head(level, event)
        if queue.pressed or not head or not same_process[0] or self._is_special or _STRUCTLOG_VARIABLES:
            return False
        if self._table is not None and level < self._table[logger]:
            self.filtered["level"] += 1
            return True
        now = _now()
        began, beginning = self._millisecond
        into = now - began
        if not 0 <= into < 1_000_000:
            began, beginning = self._start_millisecond(now)
            into = now - began
        micro = _MICROSECONDS[into // 1_000]
        queue.put_parts(level, now, [beginning, micro, head, logger.field, fields, ids, self._tail])
        return True

    def _below(self, level: int, fields: Mapping[str, Any]) -> Any:
        """Return where a record goes that is below the level of its logger: nowhere, or to what its request holds."""
        durable = fields.get("durable") is True
        if durable and fields.get("audit") is True:  # which is recorded whatever the level
            return self.queue
        held = None if self.tail is None or durable or level < self.tail.level else self.tail.of(_request())
        if held is None:
            self.filtered["level"] += 1
        return held

    def _sift(
        self,
        logger: "LoggerName",
        level: int,
        event: Any,
        fields: dict[str, Any],
        request: RequestContext | None,
        held: bool,
    ) -> int:
        """Return the level of a record that is kept, and 0 for one that is left out; a durable one is always kept."""
        if fields.get("durable") is not True:
            ids = NOTHING if request is None else request.ids
            failed = level >= ERROR or (("exc_info" in fields or "exception" in fields) and is_exception(fields))
            for sieve in self._sieves_of_held if held else self._sieves:
                if failed and not sieve.errors:
                    continue
                try:
                    reason = sieve.refuses(logger, level, event, fields, ids)
                except KeyboardInterrupt:
                    raise
                except BaseException as raised:  # noqa: BLE001 - a function of the user's must not cost the record
                    error = raised.error if type(raised) is RuleFailed else raised
                    self._complain(sieve, f"raised {type(error).__name__}: {text(error, 200)}", fields, "filter")
                    reason = raised.reason if type(raised) is RuleFailed else None
                if reason is not None:
                    self.filtered[reason] += 1
                    return 0
        if self._validate is not None:
            level = self._validate.check(event, level, fields)
        if level >= ERROR and self.tail is not None:
            self.tail.fail()
        return level

    @property
    def schema_mismatches(self) -> int:
        """How many records did not fit the schema of their event."""
        return sum(each.mismatches for each in self._validates)

    def wants(self, logger: str, level: int) -> bool:
        """Tell whether a record would be kept, or held back."""
        if level >= self.levels.of(logger):
            return True
        return self.tail is not None and level >= self.tail.level and self.tail.of(_request()) is not None

    def arm(self) -> None:
        """Compare records with what is declared of their events, now that something is."""
        self._sifts = self._is_special = True

    @property
    def enrich(self) -> Enrichment | None:
        """What adds fields to each record; None if nothing does."""
        return self._enrich

    @enrich.setter
    def enrich(self, enrich: Enrichment | None) -> None:
        self._enrich = enrich
        self._is_special = self._sifts or bool(self._processors) or enrich is not None

    def follow_levels(self) -> None:
        """Take over what the levels are now."""
        self.level, self._table = self.levels.lowest, self.levels.table

    level: int
    """Below this nothing is recorded, whatever the logger."""

    _table: Table | None
    """The level of each logger; None if all have the same."""

    def attach(self, surroundings: Surroundings) -> None:
        """Tell every sieve what it may use."""
        for each in (*self._sieves, *self._processors):
            if isinstance(each, Sieve):
                each.attach(surroundings)
            elif isinstance(each, Validate):
                each.failures = self.failures
                self._validates.append(each)

    def finish(self) -> None:
        """Have every sieve tell what is still to be told."""
        for each in (*self._sieves, *self._processors):
            if isinstance(each, Sieve):
                each.finish()

    def tell(self, logger: str, level: int, event: str, fields: dict[str, Any]) -> None:
        """Record something that no sieve is asked about. An error of ours stays here."""
        try:
            now = _now()
            settled = self._process(now, level, event, logger, NOTHING, fields)
            if settled is not None:
                line = encode(settled, self._limits, reserve=self._reserve)
                self._put(self.queue, level, now, line[:-1] + self._tail, durable=False)
        except Exception as error:
            self._failed(error)
            if surface_bugs():
                raise

    def adopt(self, early: "Recorder") -> None:
        """Take over what was logged before there was a configuration: what is below the level is filtered now."""
        items, _ = early.queue.take()
        for level, timestamp_ns, line in items:
            if level < self.level or (self.levels.table is not None and level < self._early_level(line)):
                self.filtered["level"] += 1
            else:
                front = line.rpartition(early._tail)[0]
                if self._redact is not early._redact:
                    front = self._redacted_again(front)
                front = self._unlike_static(front) + self._tail
                self.queue.put(level, timestamp_ns, front)
        with self.queue.lock:
            self.queue.dropped += early.queue.dropped
            early.queue.dropped.clear()

    def _early_level(self, line: bytes) -> int:
        """Return the level of the logger of a line that was made before there was a configuration."""
        return self.levels.of(orjson.loads(line)["logger"])

    def _unlike_static(self, front: bytes) -> bytes:
        """Rename what an early record has under the names of static fields that were not known then."""
        if not any(b'"%b":' % name.encode() in front for name in self._reserved - RESERVED_FIELDS):
            return front
        record = orjson.loads(front + b"}")
        renamed: Event = {}
        for key, value in record.items():
            _keep(renamed, key, value, own=key in self._reserved - RESERVED_FIELDS, taken=record)
        return encode(renamed)[:-1]

    def _redacted_again(self, front: bytes) -> bytes:
        """Redact a record that was made when another configuration, or none, said what is secret."""
        try:
            return encode(self._redact(None, "", orjson.loads(front + b"}")))[:-1]
        except Exception as error:  # noqa: BLE001 - what cannot be looked at must not pass
            report(f"redaction failed and a record was withheld: {type(error).__name__}", key="redaction failed")
            return b'{"event":"%b"' % redaction.FAILED.encode()

    @property
    def redactor(self) -> Redact:
        """What takes secrets out of records."""
        return self._redact

    @property
    def redacted(self) -> Mapping[str, int]:
        """How often each rule of redaction was applied."""
        return dict(self._redact.counts)

    def follow(self, early: "Recorder") -> None:
        """Take over what is left in *early*, and what log calls still bring that began before it was replaced."""

        def again() -> None:
            early.queue.wake_at = 1
            self.adopt(early)

        early.queue.wake = again
        again()

    def _start_millisecond(self, now: int) -> tuple[int, bytes]:
        """Begin a line of the millisecond that *now* is in, once for all records in it."""
        began, second = self._second
        if not 0 <= now - began < 1_000_000_000:
            seconds, nanoseconds = divmod(now, 1_000_000_000)
            began, second = now - nanoseconds, time.strftime(_BEGINNING, time.gmtime(seconds)).encode()
            self._second = began, second
        milliseconds = (now - began) // 1_000_000
        self._millisecond = started = began + milliseconds * 1_000_000, second + _MILLISECONDS[milliseconds]
        return started

    def _process(
        self, now: int, level: int, event: Any, logger: str, ids: Mapping[str, str], fields: dict[str, Any]
    ) -> Event | None:
        """Take the long way: a user's processors, names we reserve, values that are not plain, secrets."""
        began, beginning = self._start_millisecond(now)
        stamp = f"{beginning[_STAMP_AT:].decode()}{(now - began) // 1_000:03d}Z"
        name = LEVEL_NAMES[level]
        record: Event = {"timestamp": stamp, "level": name, "event": event, "logger": str(logger), **ids}
        if len(fields) > self._most_keys:
            fields = _first(fields, self._most_keys)
        for key, value in fields.items():
            own = key in _OWN or (key in _IDS and not _well_formed(key, value))
            _keep(record, key, value, own=own, taken=fields)
        for processor in self._processors:
            try:
                processed = processor(logger, name, record)
            except structlog.DropEvent as dropped:
                self.filtered[getattr(dropped, "reason", "processor")] += 1
                return None
            except (KeyboardInterrupt, EventSchemaError):
                raise
            except BaseException as error:  # noqa: BLE001 - a user's processor must not cost the record
                self._complain(processor, f"raised {type(error).__name__}: {text(error, 200)}", record, "processor")
                continue
            if type(processed) is dict:
                record = processed
            else:
                self._complain(processor, f"returned {type(processed).__name__}, not a dict", record, "processor")
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
        if len(record) > self._most_keys + OWN_KEYS:  # a processor has put them there
            record = _first(record, self._most_keys)
        for key, value in record.items():
            _keep(settled, key, value, own=key in self._reserved, taken=record)
        error = exceptions.find(exc_info)
        if error is not None and "exception" in settled:
            _keep(settled, "exception", settled.pop("exception"), own=True, taken=record)
        settled = plain_fields(settled, self._limits, self.failures)
        if error is not None:
            settled["exception"] = exceptions.describe(error, self._limits, with_locals=self._exception_locals)
        try:
            redacted = self._redact(None, "", settled)
        except Exception as failure:  # noqa: BLE001 - a redactor that fails must not let the value through
            report(f"redaction failed and the record's fields were withheld: {type(failure).__name__}")
            redacted = {own: settled[own] if type(settled[own]) is str else "" for own in _OWN}
            redacted["_redaction"] = "<redaction failed>"
        for own in _OWN:
            if type(redacted[own]) is not str:
                redacted[own] = text(redacted[own], self._limits.string)
        self._learn(settled)
        return redacted

    def _learn(self, fields: Iterable[str]) -> None:
        """Remember which of these names need no second look."""
        if len(self._safe) < MAX_SAFE_NAMES:
            self._safe.update(
                name
                for name in fields
                if len(name) <= 128 and name not in self._never_safe and name.isascii() and self._redact.leaves(name)
            )

    def _complain(self, processor: Processor, what: str, record: Event, kind: str) -> None:
        name = getattr(processor, "__qualname__", type(processor).__qualname__)
        self.failures[kind] += 1
        record[f"_{kind}_error"] = f"{name} {what}"
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


def _scrub(message: str) -> str:
    """Redact a line for stderr as the records are that are made now."""
    return slot.recorder.redactor.text(message)


report.scrub = _scrub


def _interpolate(event: Any, args: tuple[Any, ...], fields: dict[str, Any], limits: Limits) -> Any:
    """Format *args* into *event* as structlog does; if that fails keep both and say so in ``_format_error``."""
    try:
        if not issubclass(type(event), _FORMATS):
            raise TypeError("arguments are for an event that is text")  # noqa: TRY301 - one way for all that fails
        if type(event) is Lazy:
            event = str(event)
        return interpolated(event, args, limits)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever an argument's __str__ raises, SystemExit too
        fields["_format_error"] = f"{type(error).__name__}: {text(error, 200)}"
        fields[redaction.ARGUMENTS] = list(args)
        return event


def _first(fields: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return the first fields of too many, and those that are arguments of the call wherever they stand."""
    kept = dict(islice(fields.items(), most))
    kept.update((name, fields[name]) for name in _ARGUMENTS if name in fields)
    kept["_more_keys"] = len(fields) - len(kept)
    return kept


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


_OURS: Final = (__file__, str(Path(__file__).with_name("logger.py")))


def _stack() -> str:
    import traceback  # noqa: PLC0415 - rarely needed

    frames: Sequence[traceback.FrameSummary] = traceback.extract_stack(limit=40)
    outside = [frame for frame in frames if frame.filename not in _OURS]
    return "".join(traceback.format_list(outside)).rstrip("\n")


# structlog keeps its context variables in this private dict; where it is gone, always ask.
_STRUCTLOG_VARIABLES: Final = getattr(structlog_contextvars, "_CONTEXT_VARS", (True,))
