"""The loggers, each set up the way its own documentation does for JSON in a file.

A contestant is a context manager that opens a file and gives a `Job`. All log the same event with the same five
keywords, and write the same two ids, which they take from a context variable of their own kind.
"""

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson

TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID: Final = "00f067aa0ba902b7"
IDS: Final = {"trace_id": TRACE_ID, "span_id": SPAN_ID}
STATIC: Final = {
    "service": "shop",
    "env": "benchmark",
    "version": "1.0.0",
    "host": socket.gethostname(),
    "pid": os.getpid(),
}

ids: Final[ContextVar[dict[str, str]]] = ContextVar("ids", default=IDS)


@dataclass(frozen=True)
class Job:
    """One logger that is ready."""

    log: Callable[[int], None]
    """Log that many records."""

    one: Callable[[int], None]
    """Log one record, with that order id."""

    finish: Callable[[], object]
    """Return when everything logged is in the file."""


Contestant = Callable[[Path], AbstractContextManager[Job]]


@contextmanager
def fapilog(path: Path) -> Iterator[Job]:
    """Configure fapilog as a service does, in the context that its middleware makes for a request."""
    from fapilog import configure_logging, get_logger
    from fapilog.context import RequestContext, current_request

    settings: dict[str, Any] = {name: STATIC[name] for name in ("service", "env", "version")}
    with configure_logging(sinks=[{"type": "file", "path": str(path)}], **settings) as handle:
        token = current_request.set(RequestContext(IDS))
        info = get_logger("bench").info

        def log(number: int) -> None:
            for i in range(number):
                info("order placed", order_id=i, sku="tea", quantity=2, price=12.5, express=True)

        def one(i: int) -> None:
            info("order placed", order_id=i, sku="tea", quantity=2, price=12.5, express=True)

        try:
            yield Job(log, one, lambda: handle.flush(60, durable=False))
        finally:
            current_request.reset(token)


@contextmanager
def floor(path: Path) -> Iterator[Job]:
    """Do the least there is to do: one dict, orjson, a buffered file."""
    with path.open("wb") as file:
        dumps, write, now = orjson.dumps, file.write, time.time

        def log(number: int) -> None:
            for i in range(number):
                one(i)

        def one(i: int) -> None:
            write(
                dumps(
                    {
                        "timestamp": now(),
                        "level": "info",
                        "event": "order placed",
                        "logger": "bench",
                        "order_id": i,
                        "sku": "tea",
                        "quantity": 2,
                        "price": 12.5,
                        "express": True,
                        "trace_id": TRACE_ID,
                        "span_id": SPAN_ID,
                    }
                )
                + b"\n"
            )

        yield Job(log, one, file.flush)


@contextmanager
def structlog_bare(path: Path) -> Iterator[Job]:
    """Set up structlog as its page on performance does, with the ids in its context variables."""
    import structlog

    with _structlog(path, []) as job, structlog.contextvars.bound_contextvars(**IDS):
        yield job


@contextmanager
def structlog_same_work(path: Path) -> Iterator[Job]:
    """Let structlog write what fapilog writes: static fields, a numbered id, the logger, secrets redacted by key."""
    import structlog

    processors = [_add_identity(os.urandom(8).hex()), _redact()]
    with _structlog(path, processors) as job, structlog.contextvars.bound_contextvars(**IDS):
        yield job


@contextmanager
def _structlog(path: Path, further: list[Any]) -> Iterator[Job]:
    import structlog

    with path.open("wb") as file:
        logger = structlog.wrap_logger(
            structlog.BytesLogger(file),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                *further,
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            context_class=dict,
            cache_logger_on_first_use=True,
        ).bind()
        yield _with_keywords(logger.info, file.flush)


def _add_identity(instance: str) -> Callable[[Any, str, dict[str, Any]], dict[str, Any]]:
    numbers = count(1)

    def add_identity(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["logger"] = "bench"
        event.update(STATIC)
        event["id"] = f"{instance}-{next(numbers)}"
        return event

    return add_identity


def _redact() -> Callable[[Any, str, dict[str, Any]], dict[str, Any]]:
    from fapilog.processors.redact import DEFAULT_FIELDS, SECRET_SUFFIXES

    names = frozenset(name.replace("_", "") for name in DEFAULT_FIELDS)
    camel = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
    known: dict[str, bool] = {}  # every name is looked at once

    def secret(name: str) -> bool:
        found = known.get(name)
        if found is None:
            words = camel.sub("_", name).lower().replace("-", "_")
            found = known[name] = words.replace("_", "") in names or words.endswith(SECRET_SUFFIXES)
        return found

    def redact(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        for name, value in event.items():
            if secret(name):
                event[name] = "REDACTED"
            elif type(value) is dict:
                redact(None, "", value)
        return event

    return redact


@contextmanager
def stdlib_json(path: Path) -> Iterator[Job]:
    """Set up the standard library with python-json-logger's formatter, and a filter that adds the ids."""
    from pythonjsonlogger.json import JsonFormatter

    yield from _stdlib(path, JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))


@contextmanager
def stdlib_orjson(path: Path) -> Iterator[Job]:
    """The same with python-json-logger's formatter that uses orjson."""
    from pythonjsonlogger.orjson import OrjsonFormatter

    yield from _stdlib(path, OrjsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))


def _stdlib(path: Path, formatter: logging.Formatter) -> Iterator[Job]:
    def add_ids(record: logging.LogRecord) -> bool:
        record.__dict__.update(ids.get())
        return True

    handler = logging.FileHandler(path)
    handler.setFormatter(formatter)
    handler.addFilter(add_ids)
    logger = logging.Logger("bench", logging.INFO)  # not one of the tree, which fapilog listens to
    logger.addHandler(handler)
    info = logger.info

    def log(number: int) -> None:
        for i in range(number):
            one(i)

    def one(i: int) -> None:
        info("order placed", extra={"order_id": i, "sku": "tea", "quantity": 2, "price": 12.5, "express": True})

    try:
        yield Job(log, one, handler.flush)
    finally:
        handler.close()


@contextmanager
def loguru(path: Path) -> Iterator[Job]:
    """Add a serializing file to loguru, and its ids with contextualize."""
    yield from _loguru(path, enqueue=False)


@contextmanager
def loguru_enqueue(path: Path) -> Iterator[Job]:
    """The same behind loguru's own queue and thread."""
    yield from _loguru(path, enqueue=True)


def _loguru(path: Path, *, enqueue: bool) -> Iterator[Job]:
    from loguru import logger

    logger.remove()
    handler = logger.add(path, serialize=True, enqueue=enqueue, level="INFO")
    with logger.contextualize(**IDS):
        yield _with_keywords(logger.info, logger.complete)
    logger.remove(handler)


@contextmanager
def picologging(path: Path) -> Iterator[Job]:
    """Give picologging a formatter that writes JSON: it has none, and leaves out `extra`, so the event is a dict."""
    import picologging as pico

    class JsonFormatter(pico.Formatter):  # type: ignore[misc, name-defined, unused-ignore]
        def format(self, record: Any) -> str:
            stamp = datetime.fromtimestamp(record.created, UTC).isoformat()
            fields = {"timestamp": stamp, "level": record.levelname, "logger": record.name, **ids.get(), **record.msg}
            return orjson.dumps(fields).decode()

    handler = pico.FileHandler(str(path))
    handler.setFormatter(JsonFormatter())
    logger = pico.Logger("bench", pico.INFO)
    logger.addHandler(handler)
    info = logger.info

    def log(number: int) -> None:
        for i in range(number):
            one(i)

    def one(i: int) -> None:
        info({"event": "order placed", "order_id": i, "sku": "tea", "quantity": 2, "price": 12.5, "express": True})

    try:
        yield Job(log, one, handler.flush)
    finally:
        handler.close()


def _with_keywords(info: Callable[..., object], finish: Callable[[], object]) -> Job:
    def log(number: int) -> None:
        for i in range(number):
            info("order placed", order_id=i, sku="tea", quantity=2, price=12.5, express=True)

    def one(i: int) -> None:
        info("order placed", order_id=i, sku="tea", quantity=2, price=12.5, express=True)

    return Job(log, one, finish)


OURS: Final = "fapilog"
BARE_STRUCTLOG: Final = "structlog + orjson, bare"
CONTESTANTS: Final[dict[str, Contestant]] = {
    OURS: fapilog,
    BARE_STRUCTLOG: structlog_bare,
    "structlog + orjson, same work": structlog_same_work,
    "logging + python-json-logger": stdlib_json,
    "logging + python-json-logger (orjson)": stdlib_orjson,
    "loguru": loguru,
    "loguru, enqueue=True": loguru_enqueue,
    "picologging": picologging,
    "floor: orjson + write": floor,
}
PEERS: Final = [name for name in CONTESTANTS if name != OURS]
NEEDS: Final = {
    "loguru": "loguru",
    "loguru, enqueue=True": "loguru",
    "logging + python-json-logger": "pythonjsonlogger",
    "logging + python-json-logger (orjson)": "pythonjsonlogger",
    "picologging": "picologging",
}
"""The module a contestant imports, if it is none that fapilog needs itself."""
