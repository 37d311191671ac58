"""Build a running logger from settings, install it, hold the one there is, and end it.

Everything is built before anything is swapped: when `configure_logging` raises, what ran before goes on.
"""

import contextvars
import dataclasses
import math
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog

from fapilog import forks, lifecycle
from fapilog.alerts import Alert, watch_over
from fapilog.assembly import (
    access_of,
    can_start,
    let_go,
    make_sink,
    named_apart,
    parse_sinks,
    redact_of,
    renewed,
    resolve,
    sorted_by_type,
    spooling,
)
from fapilog.capture import Capture
from fapilog.context import current_request
from fapilog.diagnostics import DropReason, report
from fapilog.encoding import Limits
from fapilog.errors import ConfigurationError
from fapilog.logger import BoundLogger, structlog_factory
from fapilog.middleware import LoggingMiddleware, install
from fapilog.pipeline.delivery import Delivery
from fapilog.pipeline.ledger import FlushResult, SinkStats, Stats
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.queue import Detour, Direct, Queue
from fapilog.pipeline.tail import Tail
from fapilog.pipeline.worker import ABORT_SECONDS, HAND_OVER_SECONDS, Worker
from fapilog.plugins import SinkSpec, build_processor, parse_sink
from fapilog.processors.chain import logger_levels, sieves_of
from fapilog.processors.enrich import check, choose, enrichment, on_change
from fapilog.processors.sieve import Surroundings
from fapilog.processors.static_fields import static_fields
from fapilog.processors.validate import Validate
from fapilog.recorder import Recorder, slot
from fapilog.settings import LoggingSettings, level_name
from fapilog.types import LEVELS, TRACE, WARNING, Processor, Sink

_WRITE_THROUGH_SECONDS: Final = 0.25
_T = TypeVar("_T")


def configure_logging(
    app: Any = None,
    settings: Any = None,
    *,
    sinks: Sequence[Any] | str | None = None,
    processors: Iterable[Any] | None = None,
    on_alert: Callable[[Alert], Any] | None = None,
    user: Callable[[Any], Any] | None = None,
    **overrides: Any,
) -> "Handle":
    """Start logging, for an application or for any other program.

    Called again it replaces what ran before, and loses nothing.

    Args:
        app: A FastAPI or Starlette application; each of its requests then has ids and an access record. A
            `LoggingSettings` may stand here too. None for a script.
        settings: The settings; None reads them from the environment and ``.env``.
        sinks: Where records go, in place of the setting: names, URIs, ``{"type": …}`` dicts, sink objects.
        processors: Processors of your own, or names of them; they run before values are made plain and redacted.
        on_alert: Called with an `Alert`, on a thread of its own, when the queue fills up, records are lost or a sink
            is away, and when that is over.
        user: Called with the scope of each request when it is over; returns whose it was, for ``user_id`` on its
            access record, or None for what the scope has as ``user`` from an authenticating middleware.
        **overrides: Any setting, in lower case, and options of a sink as a dict under its name.

    Returns:
        A handle on what now runs. As ``async with configure_logging(app): yield`` in a lifespan it drains at the end
        of the block and goes on; as ``with configure_logging():`` it is closed at the end of the block.

    Raises:
        ConfigurationError: A setting, an option or *app* cannot be used, or a sink named here cannot start. Nothing
            has changed then.
    """
    app, settings = sorted_by_type(app, settings)
    if isinstance(processors, str):
        raise ConfigurationError(f"processors must be a list, got {processors!r}")
    resolved = resolve(settings, sinks, overrides)
    check(resolved.enrich)
    named = sinks is not None or "sinks" in resolved.model_fields_set
    runtime = Runtime(
        resolved,
        _state.divert(parse_sinks(resolved), resolved),
        [build_processor(each) for each in processors or ()],
        named=named,
        on_alert=on_alert,
        user=user,
    )
    if isinstance(app, LoggingMiddleware):
        _state.follow(app)
    elif app is not None:
        try:
            install(app, _state.wrap)
        except ConfigurationError:
            runtime.let_go()
            raise
    _state.install(runtime)
    return Handle(runtime)


@contextmanager
def set_aside(sink: Sink | None = None) -> Iterator["Handle | None"]:
    """Configure what you like in this block; afterwards what ran before runs again.

    Args:
        sink: If given, it gets the records of what ran before, and of whatever is configured in the block, in place of
            the sinks of that.

    Yields:
        A handle on what ran before and goes on with *sink*; None if there is none.
    """
    with _state.set_aside(None if sink is None else parse_sink(sink)) as runtime:
        yield None if runtime is None else Handle(runtime)


def flush() -> None:
    """Deliver everything logged so far, if logging is configured."""
    runtime = _state.runtime
    if runtime is not None:
        runtime.worker.flush(runtime.settings.shutdown_timeout_seconds)


def set_level(level: int | str | None, logger: str | None = None, for_seconds: float | None = None) -> None:
    """Change a level while the program runs, in this process.

    Args:
        level: A name or a number; None goes back to what the settings say.
        logger: The logger it is for, and all below it; with ``.*`` only those below. None means every logger that has
            no level of its own.
        for_seconds: After which time it goes back; None means never. It ends with the next `configure_logging`.

    Raises:
        ConfigurationError: Logging is not configured, or an argument cannot be used.
    """
    forks.look()
    runtime = _state.runtime
    if runtime is None:
        raise ConfigurationError("logging is not configured, so there is no level yet; call configure_logging first")
    runtime.set_level(level, logger, for_seconds)


class Runtime(forks.OfOneProcess):
    """One configuration, running."""

    successor: "Runtime | None" = None
    """What runs in its place, with the same settings, after it was set aside."""

    def __init__(
        self,
        settings: LoggingSettings,
        specs: Sequence[SinkSpec],
        processors: Sequence[Processor],
        *,
        named: bool,
        on_alert: Callable[[Alert], Any] | None = None,
        user: Callable[[Any], Any] | None = None,
    ) -> None:
        """Build every part; sinks that were *named* by the user must be able to start."""
        self.settings = settings
        self._specs = tuple(specs)
        self._processors = tuple(processors)
        self._on_alert = on_alert
        self._sieves = sieves_of(settings)
        self._redact = redact_of(settings)
        self.access = access_of(
            settings, self._redact, user=user, drain=self._drain if settings.flush == "request" else None
        )
        self._closed = False
        self._told = False
        self.alerts = watch_over(settings, on_alert, self.stats)
        self._made: list[tuple[SinkSpec, Sink, DeliveryOptions]] = []
        try:
            for spec in self._specs:
                self._made.append((spec, *make_sink(spec, settings)))
            self._assemble([each for each in self._made if can_start(each[0], each[1], named=named)])
        except Exception:
            self.let_go()
            raise

    def again(self, specs: Sequence[SinkSpec] | None = None) -> "Runtime":
        """Build the same once more, perhaps with other sinks."""
        specs = [renewed(spec) for spec in self._specs] if specs is None else list(specs)
        runtime = Runtime(self.settings, specs, self._processors, named=False, on_alert=self._on_alert)
        runtime.recorder.levels.take_over(self.recorder.levels)
        return runtime

    def let_go(self) -> None:
        """Close the sinks made here, those of the user not: this runtime is not going to run."""
        for spec, sink, _ in self._made:
            if spec.sink is None:
                let_go(sink)

    def _assemble(self, sinks: Sequence[tuple[SinkSpec, Sink, DeliveryOptions]]) -> None:
        settings = self.settings
        self.queue = Queue(
            slot.numbers,
            max_records=settings.queue_maxsize,
            max_bytes=settings.queue_max_bytes,
            overflow=settings.queue_overflow,
            block_timeout_seconds=settings.block_timeout_seconds,
        )
        self.deliveries = [self._delivery(*each) for each in sinks]
        self.worker = Worker(
            self.queue,
            self.deliveries,
            block_timeout_seconds=settings.block_timeout_seconds,
            announce=self._announce,
        )
        self.worker.on_start = self._on_start
        slow_ms = settings.access_slow_ms if settings.tail_slow_ms is None else settings.tail_slow_ms
        tail = None
        if settings.tail_level is not None:
            tail = Tail(
                LEVELS[settings.tail_level],
                slow_ms=slow_ms,
                max_records=settings.tail_max_records,
                max_bytes=settings.tail_max_bytes,
                total_max_bytes=settings.tail_total_max_bytes,
            )
        levels = logger_levels(settings, floor=min((delivery.level for delivery in self.deliveries), default=TRACE))
        levels.on_change = lambda: _state.levels_changed(self)
        enrichers = choose(settings.enrich)
        self._redact.forget_counts()
        self.recorder = Recorder(
            self.queue,
            level=levels,
            processors=[*self._sieves, *self._processors],
            tail=tail,
            validate=None
            if any(isinstance(each, Validate) for each in self._processors)
            else Validate(settings.validation_mode),
            redact=self._redact,
            static=static_fields(enrichers, settings),
            limits=Limits(
                record=settings.max_record_bytes,
                string=settings.max_string_characters,
                depth=settings.max_depth,
                keys=settings.max_keys,
                items=settings.max_items,
            ),
            exception_locals=settings.exception_locals,
            make_durable=lambda *whose: self.worker.make_durable(settings.shutdown_timeout_seconds, *whose),
        )

        self.enrich()

    def _delivery(self, spec: SinkSpec, sink: Sink, options: DeliveryOptions) -> Delivery:
        kept = spooling(spec.name, sink, options, self.settings, slot.numbers.instance)
        return Delivery(spec.name, sink, options, self.queue, **kept)

    def add_sink(self, given: Any, name: str | None, options: Mapping[str, Any]) -> str:
        """Add a sink; the arguments are those of `Handle.add_sink`."""
        spec = parse_sink(given)
        spec = dataclasses.replace(spec, name=name or spec.name, options={**spec.options, **options})
        (spec,) = named_apart([spec], taken=[each.name for each in self._specs])
        made = (spec, *make_sink(spec, self.settings))
        try:
            can_start(spec, made[1], named=True)
            delivery = self._delivery(*made)
            self.worker.add(delivery)
        except Exception as error:
            if spec.sink is None:
                let_go(made[1])
            if isinstance(error, RuntimeError):
                raise ConfigurationError(f"sink {spec.name!r} cannot be added: {error}") from error
            raise
        self._specs += (spec,)
        self._made.append(made)
        self._now_has([*self.deliveries, delivery])
        return spec.name

    def remove_sink(self, name: str, timeout_seconds: float) -> SinkStats:
        """Remove a sink; the arguments are those of `Handle.remove_sink`."""
        delivery = next((each for each in self.deliveries if each.name == name), None)
        if delivery is None:
            known = ", ".join(repr(each.name) for each in self.deliveries)
            raise ConfigurationError(f"no sink has the id {name!r}; there is {known or 'none'}")
        try:
            stats = self.worker.remove(delivery, timeout_seconds)
        except RuntimeError as error:
            raise ConfigurationError(f"sink {name!r} cannot be removed: {error}") from error
        self._now_has([each for each in self.deliveries if each is not delivery])
        self._specs = tuple(each for each in self._specs if each.name != name)  # last: a fork may come between
        self._made = [each for each in self._made if each[0].name != name]
        if stats.dropped or stats.spooled:
            lost = ", ".join(f"{reason}={count}" for reason, count in sorted(stats.dropped.items()))
            report(f"sink {name} was removed; lost: {lost or 'nothing'}; spooled: {stats.spooled}")
        return stats

    def _now_has(self, deliveries: list[Delivery]) -> None:
        with self.queue.lock:
            self.deliveries = deliveries
        self.recorder.levels.set_floor(min((each.level for each in deliveries), default=TRACE))

    def enrich(self) -> None:
        """Have the recorder ask the enrichers there are now."""
        if self.recorder.enrich != self._at_first:
            self._ask_enrichers()

    def _ask_enrichers(self) -> None:
        names = choose(self.settings.enrich)
        self.recorder.enrich = enrichment(names, self.recorder.failures)

    def attach(self) -> None:
        """Let the sieves tell and ask what they need, now that this runtime is the one that runs."""
        self.recorder.attach(
            Surroundings(
                # In a context of its own: it may be told on the worker's thread, or in a request it is not about.
                tell=lambda *what: contextvars.Context().run(self.recorder.tell, *what),
                later=self.worker.call_later,
                pressure=self._pressure,
            )
        )

    def _pressure(self) -> float:
        """Return how full the queue, or the fullest inbox of a sink that is up, is: 0 to 1."""
        return max([self.queue.fill, *[delivery.fill for delivery in self.deliveries]])

    def set_level(self, level: int | str | None, logger: str | None, for_seconds: float | None) -> None:
        """Change a level; the arguments are those of the function of that name."""
        try:
            number = None if level is None else LEVELS[level_name(level)]
        except ValueError as error:
            raise ConfigurationError(f"level: {error}") from None
        self.recorder.levels.set(number, logger, for_seconds)

    def _on_start(self) -> None:
        self.alerts.start()
        _finalizer.register()

    async def _drain(self) -> None:
        """Deliver what was logged, before a response ends. What cannot be waited for goes its way in the background."""
        try:
            await self.worker.aflush(self.settings.flush_timeout_seconds)
        except Exception as error:  # noqa: BLE001 - a response must not fail because of its logs
            report(f"cannot deliver before the response ends: {error!r}", key="flush")

    def _announce(self, sink: str | None, counts: Mapping[DropReason, int], first_ns: int, last_ns: int) -> None:
        """Log one record that tells what was dropped; in a context of its own, for the worker's takes none."""
        fields = {
            "dropped": sum(counts.values()),
            "reasons": dict(counts),
            "first_dropped": _rfc3339(first_ns),
            "last_dropped": _rfc3339(last_ns),
            **({"sink": sink} if sink else {}),
        }
        recorder = self.recorder  # which, while it ends, is not the one that loggers write to
        if recorder.levels.of("fapilog") <= WARNING:  # no sampling and no rate limit leaves that out
            contextvars.Context().run(recorder.tell, "fapilog", WARNING, "records were dropped", fields)

    def begin_anew(self) -> None:
        """Become a fresh runtime in a forked child. What was inherited is kept from ever being closed, and not used."""
        _graveyard.append((self.queue, self.deliveries, self.worker, self.recorder))
        fresh = []
        for spec, delivery in zip([self._spec(each.name) for each in self.deliveries], self.deliveries, strict=True):
            sink = delivery.sink
            if dataclasses.is_dataclass(sink) and not isinstance(sink, type):
                sink = dataclasses.replace(sink)
            fresh.append((spec, sink, delivery.options))
        self._closed = self._told = False  # the parent may be ending
        self.alerts = watch_over(self.settings, self._on_alert, self.stats)
        levels = self.recorder.levels
        self._assemble(fresh)
        self.recorder.levels.take_over(levels)
        self.attach()
        if "process" in choose(self.settings.enrich):
            self.recorder.enrich = self._at_first

    def _at_first(self, logger: str, level: int, event: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Look with the first record at what a forked process is called: it is told only after it was forked."""
        self._ask_enrichers()
        static = static_fields(choose(self.settings.enrich), self.settings)
        self.recorder.end_with({**static, "pid": os.getpid()})
        asked = self.recorder.enrich
        return fields if asked is None else asked(logger, level, event, fields)

    def _spec(self, name: str) -> SinkSpec:
        return next(spec for spec in self._specs if spec.name == name)

    @property
    def writes_to_console(self) -> bool:
        """Whether one of the sinks is stdout."""
        return any(spec.type == "stdout" for spec in self._specs)

    @property
    def closed(self) -> bool:
        """Whether it takes no more records."""
        return self._closed

    def stats(self) -> Stats:
        """Return one consistent snapshot of every counter."""
        queue = self.queue
        with queue.lock:
            return Stats(
                instance=queue.sequence.instance,
                accepted=queue.accepted,
                filtered={reason: count for reason, count in self.recorder.filtered.items() if count},
                failures={what: count for what, count in self.recorder.failures.items() if count},
                schema_mismatches=self.recorder.schema_mismatches,
                trace_invalid=self.recorder.invalid_traces,
                dropped=dict(queue.dropped),
                queue_records=len(queue.items),
                queue_bytes=queue.bytes,
                queue_max_records=queue.max_records,
                queue_max_bytes=queue.max_bytes,
                worker_restarts=self.worker.restarts,
                redacted=self.recorder.redacted,
                late_direct=queue.late,
                sinks={delivery.name: delivery.stats() for delivery in self.deliveries},
            )

    def close(self, timeout_seconds: float) -> FlushResult:
        """Deliver what can be delivered in that time, then end. Says on stderr what was lost, if anything was."""
        if self._closed:
            self.worker.join(timeout_seconds)
            result = FlushResult({})
        else:
            self._closed = True
            self.recorder.finish()
            self.alerts.stop()  # before the sinks are closed, which is no trouble now
            result = self.worker.close(timeout_seconds)
        stats = self.stats()
        if not self._told and (stats.lost or any(sink.spooled for sink in stats.sinks.values())):
            self._told = True
            report.write(_closing_line(stats))
        return result


class Handle(forks.OfOneProcess):
    """What `configure_logging` returns: a hold on the logger that runs."""

    def __init__(self, runtime: Runtime) -> None:
        """Hold *runtime*."""
        self._first = runtime

    @property
    def _runtime(self) -> Runtime:
        while self._first.successor is not None:
            self._first = self._first.successor
        return self._first

    @property
    def settings(self) -> LoggingSettings:
        """The settings in effect."""
        return self._runtime.settings

    def stats(self) -> Stats:
        """Return what became of every record, as exact integers in one consistent snapshot."""
        forks.look()
        return self._runtime.stats()

    def set_level(self, level: int | str | None, logger: str | None = None, for_seconds: float | None = None) -> None:
        """Do what `fapilog.set_level` does, for the logger that this is a hold on."""
        forks.look()
        self._runtime.set_level(level, logger, for_seconds)

    def add_sink(self, sink: Any, *, name: str | None = None, **options: Any) -> str:
        """Send what is logged from now on to one more sink, while the others go on undisturbed.

        It waits until the sink has started, and at most as long as a log call waits for a full queue. It is gone with
        the next `configure_logging`; what a forked child logs goes there too.

        Args:
            sink: What `configure_logging` takes for one: a name, a URI, a ``{"type": …}`` dict, a sink object.
            name: What it is to be called; None means by its type, with a number if that is taken.
            **options: Options of the sink, and those of every sink, such as ``level``.

        Returns:
            Its id, which is its name: the key in ``stats().sinks``, and what `remove_sink` takes.

        Raises:
            ConfigurationError: It cannot be made or cannot start, or logging has ended. Nothing has changed then.
        """
        forks.look()
        return _state.change_sinks(self._runtime, lambda runtime: runtime.add_sink(sink, name, options))

    def remove_sink(self, name: str, timeout_seconds: float | None = None) -> SinkStats:
        """Deliver and fsync what a sink was given so far, and close it, while the others go on undisturbed.

        Args:
            name: Its id, one of `list_sinks`.
            timeout_seconds: How long to wait for it; None means the shutdown timeout of the settings. What it has not
                taken by then stays in its spool, or is lost, counted, and said on stderr.

        Returns:
            What became of its records, as ``stats()`` no longer tells.

        Raises:
            ConfigurationError: No sink has that id, or logging has ended.
        """
        forks.look()
        seconds = self._seconds(timeout_seconds)
        return _state.change_sinks(self._runtime, lambda runtime: runtime.remove_sink(name, seconds))

    def list_sinks(self) -> tuple[str, ...]:
        """Return the ids of the sinks there are now, in the order in which they were added."""
        forks.look()
        return tuple(delivery.name for delivery in self._runtime.deliveries)

    def flush(self, timeout_seconds: float | None = None, *, durable: bool = True) -> FlushResult:
        """Deliver and fsync everything logged so far.

        Args:
            timeout_seconds: How long to wait; None means the shutdown timeout of the settings.
            durable: Whether to fsync.

        Returns:
            What is still pending for each sink.
        """
        forks.look()
        return self._runtime.worker.flush(self._seconds(timeout_seconds), durable=durable)

    async def aflush(self, timeout_seconds: float | None = None, *, durable: bool = True) -> FlushResult:
        """Do what `flush` does without blocking the event loop."""
        forks.look()
        return await self._runtime.worker.aflush(self._seconds(timeout_seconds), durable=durable)

    def close(self, timeout_seconds: float | None = None) -> FlushResult:
        """Deliver everything and stop. What is logged afterwards is kept as before the first `configure_logging`."""
        forks.look()
        return _state.close(self._runtime, self._seconds(timeout_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        _state.write_through(self._runtime, on=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await _state.drain(self._runtime)

    def _seconds(self, timeout_seconds: float | None) -> float:
        return self.settings.shutdown_timeout_seconds if timeout_seconds is None else timeout_seconds


class _State:
    """The one runtime there is."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.capture = Capture()
        self.middlewares: weakref.WeakSet[LoggingMiddleware] = weakref.WeakSet()
        self.diversion: SinkSpec | None = None
        self._structlog_before: dict[str, Any] | None = None
        self._end_by = math.inf
        self._ending = False
        self._lock = threading.RLock()

    def install(self, runtime: Runtime) -> None:
        """Let every logger write to *runtime* from now on, and end what ran before."""
        with self._lock:
            previous, before = self.runtime, slot.recorder
            if previous is None:
                runtime.recorder.adopt(before)
            runtime.attach()
            self.runtime, slot.recorder, slot.stats = runtime, runtime.recorder, runtime.stats
            if previous is not None:
                # Its worker delivers the older records before the new one starts, so their order is kept.
                previous.queue.heir = runtime.queue
                previous.close(previous.settings.shutdown_timeout_seconds)
            else:
                runtime.recorder.follow(before)
            runtime.worker.attach()
            self._take_over_structlog(runtime.settings)
            self.started()
        if runtime.settings.drain_on_signals:
            lifecycle.on_terminate(self.terminate, self.busy)

    def close(self, runtime: Runtime, timeout_seconds: float) -> FlushResult:
        """End *runtime*; if it is the current one, loggers wait for the next."""
        with self._lock:
            if self.runtime is runtime:
                self.runtime, slot.recorder, slot.stats = None, slot.early(), None
                self.capture.release()
                self._give_back_structlog()
        return runtime.close(timeout_seconds)

    @contextmanager
    def set_aside(self, diversion: SinkSpec | None) -> Iterator[Runtime | None]:
        """Run what runs now again when the block is over; give one sink everything until then, if there is one."""
        previous, outer = self.runtime, self.diversion
        self.diversion = diversion or outer
        going_on = None
        try:
            if previous is not None and diversion is not None:
                going_on = previous.again([diversion])
                self.install(going_on)
            yield going_on
        finally:
            self.diversion = outer
            if previous is not None and previous is not self.runtime:
                previous.successor = previous.again()
                self.install(previous.successor)
            elif previous is None and self.runtime is not None:
                self.close(self.runtime, self.runtime.settings.shutdown_timeout_seconds)

    def divert(self, specs: list[SinkSpec], settings: LoggingSettings) -> list[SinkSpec]:
        """Return the sinks to use: these, or while there is a diversion that one, if these could be made."""
        if self.diversion is None:
            return specs
        for spec in specs:
            sink, _ = make_sink(spec, settings)
            if spec.sink is None:
                let_go(sink)
        return [self.diversion]

    def _give_back_structlog(self) -> None:
        if self._structlog_before is not None:
            structlog.reset_defaults()
            if self._structlog_before["wrapper_class"] is not structlog.get_config()["wrapper_class"]:
                structlog.configure(**self._structlog_before)
            self._structlog_before = None

    def _take_over_structlog(self, settings: LoggingSettings) -> None:
        """Send what is logged through `structlog.get_logger` the same way, and remember how it went before."""
        if not settings.capture_structlog:
            self._give_back_structlog()
            return
        if self._structlog_before is None:
            self._structlog_before = structlog.get_config()
        structlog.configure(
            processors=[],
            wrapper_class=BoundLogger,
            context_class=dict,
            logger_factory=structlog_factory,
            cache_logger_on_first_use=True,
        )

    def change_sinks(self, runtime: Runtime, change: Callable[[Runtime], _T]) -> _T:
        """Make one change at a time, and none while a runtime is replaced."""
        with self._lock:
            if runtime.closed:
                raise ConfigurationError("logging has ended; call configure_logging with the sinks that you want")
            return change(runtime)

    def write_through(self, runtime: Runtime, *, on: bool) -> None:
        """Have each log call wait for its delivery, or no longer.

        After the lifespan's end nothing is sure to run again, but the server still logs a line or two.
        """
        if runtime is self.runtime:
            runtime.recorder.queue = _WriteThrough(runtime.queue, runtime.worker) if on else runtime.queue

    def started(self) -> None:
        """Begin with an application's lifespan: take over loggers and hooks, which may have been set up only now."""
        with self._lock:
            if self.runtime is not None:
                self.write_through(self.runtime, on=False)
                access = self.runtime.access
                self._take(self.runtime)
                for middleware in self.middlewares:
                    middleware.access = access

    def _take(self, runtime: Runtime) -> None:
        self.capture.take(
            runtime.settings,
            level=runtime.recorder.levels.default,
            levels=runtime.recorder.levels.named,
            silence_access=runtime.access.log and len(self.middlewares) > 0,
            console=runtime.writes_to_console,
        )

    def levels_changed(self, runtime: Runtime) -> None:
        """Have the loggers of others let through what is recorded now.

        That may be noticed in a log call, which waits for nobody: who holds the lock takes the loggers over anyway.
        """
        if self._lock.acquire(blocking=False):
            try:
                if runtime is self.runtime:
                    self._take(runtime)
            finally:
                self._lock.release()

    async def stopped(self) -> None:
        """End with an application's lifespan: everything is delivered and durable; logging goes on."""
        if self.runtime is not None:
            await self.drain(self.runtime)

    async def drain(self, runtime: Runtime) -> None:
        """Deliver everything, and from now on each record at once."""
        runtime.recorder.finish()
        await runtime.worker.aflush(runtime.settings.shutdown_timeout_seconds, empty=True)
        self.write_through(runtime, on=True)

    def wrap(self, app: Any) -> LoggingMiddleware:
        """Put our middleware around *app*."""
        return self.follow(LoggingMiddleware(app))

    def follow(self, middleware: LoggingMiddleware) -> LoggingMiddleware:
        """Have a middleware follow the settings, and the runtime the lifespan that it sees."""
        middleware.on_startup, middleware.on_shutdown = self.started, self.stopped
        if self.runtime is not None:
            middleware.access = self.runtime.access
        self.middlewares.add(middleware)
        return middleware

    def drain_at_exit(self) -> None:
        """Deliver everything while the interpreter can still do anything; other exit functions may log after this."""
        forks.look()
        self._ending = True
        runtime = self.runtime
        if runtime is None:
            return
        seconds = runtime.settings.shutdown_timeout_seconds
        end_by = time.monotonic() + seconds
        runtime.recorder.finish()
        try:
            if not runtime.worker.flush(seconds - min(HAND_OVER_SECONDS, seconds / 2), empty=True).ok:
                self._end_by = min(self._end_by, end_by)  # the sink that used up the time gets no more of it
        except KeyboardInterrupt:  # raised further up it would be a traceback, and the end take all its time
            self._hasten()

    def end_child(self) -> None:
        """End with a child of `multiprocessing`, after which no more than the threads of its program may run."""
        self.drain_at_exit()
        runtime = self.runtime
        if runtime is not None:
            stats = runtime.stats()
            if stats.lost or any(sink.queued or sink.in_flight or sink.spooled for sink in stats.sinks.values()):
                self.end()
            else:
                self.write_through(runtime, on=True)

    def terminate(self) -> None:
        """End because of a signal: in all the time there is for it, or at once if the end had begun already."""
        if self._ending:
            self._hasten()
        self.end()

    def _hasten(self) -> None:
        self._end_by = time.monotonic() + ABORT_SECONDS
        if self.runtime is not None:
            self.runtime.worker.abort()

    def end(self) -> None:
        """End with the process: close, and send what is logged from now on straight to stderr."""
        forks.look()
        self._ending = True
        runtime = self.runtime
        if runtime is not None:
            runtime.queue.heir = Direct(runtime.queue)
            seconds = runtime.settings.shutdown_timeout_seconds
            try:
                runtime.close(max(0.0, min(seconds, self._end_by - time.monotonic())))
            except KeyboardInterrupt:
                self._hasten()
                runtime.close(2 * ABORT_SECONDS)
        else:
            early = slot.recorder.queue
            for _level, _timestamp, line in early.take()[0]:
                report.write_line(line)
            if early.dropped:
                report.write(
                    f"{early.dropped.total()} further records were dropped before configure_logging was called"
                )
        slot.recorder.queue = Direct(slot.recorder.queue)

    def enrich(self) -> None:
        """Follow a change of the registered enrichers."""
        with self._lock:
            if self.runtime is not None:
                self.runtime.enrich()

    def busy(self) -> bool:
        """Whether the calling thread, interrupted by a signal, holds what the end of the process waits for."""
        return self.runtime is not None and self.runtime.worker.busy_here()

    def begin_anew(self) -> None:
        """Start over in a forked child."""
        self._lock = threading.RLock()
        self._end_by = math.inf
        self._ending = False
        self.capture.begin_anew()
        report.reset()
        slot.begin()
        if self.runtime is not None:
            self.runtime.begin_anew()
            slot.recorder, slot.stats = self.runtime.recorder, self.runtime.stats
            self.runtime.worker.attach()


class _WriteThrough(Detour):
    """Wait until each record is delivered, for the time after which nothing is sure to run."""

    def __init__(self, queue: Queue, worker: Worker) -> None:
        super().__init__(queue)
        self._worker = worker

    def put(self, level: int, timestamp_ns: int, front: bytes) -> bool:
        """Queue a record and see it delivered, but for one of a request: whoever serves requests goes on running."""
        accepted = super().put(level, timestamp_ns, front)
        if current_request.get() is None:
            self._worker.flush(_WRITE_THROUGH_SECONDS, durable=False)
        return accepted


def _rfc3339(timestamp_ns: int) -> str:
    return datetime.fromtimestamp(timestamp_ns / 1e9, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _closing_line(stats: Stats) -> str:
    """Say in one line what was lost."""
    reasons = Counter(stats.dropped)
    for sink in stats.sinks.values():
        reasons.update(sink.dropped)
    delivered = ", ".join(f"{name}={sink.delivered}" for name, sink in stats.sinks.items())
    lost = ", ".join(f"{reason}={count}" for reason, count in sorted(reasons.items()) if count)
    spooled = ", ".join(f"{name}={sink.spooled}" for name, sink in stats.sinks.items() if sink.spooled)
    return (
        f"accepted={stats.accepted} delivered: {delivered or 'nothing'} dropped={reasons.total()}"
        + (f" ({lost})" if lost else "")
        + (f" spooled: {spooled}" if spooled else "")
        + (f" straight to stderr: {stats.late_direct}" if stats.late_direct else "")
    )


_graveyard: Final[list[Any]] = []
"""What a forked child inherited: never used, never closed, never finalised, since the parent still needs it."""

_state: Final = _State()
_finalizer: Final = lifecycle.ChildFinalizer(_state.end_child)
lifecycle.at_exit(_state.drain_at_exit, _state.end)
on_change(_state.enrich)
forks.in_child(_state.begin_anew)
