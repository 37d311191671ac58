"""Any value whatever is one line of JSON, as three parsers read it.

``FAPILOG_EXAMPLES=100000`` makes it the long run; by default there are a few hundred examples.
"""

import os
from typing import Any

import duckdb
import numpy
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fapilog.encoding import LIMITS, Limits
from fapilog.pipeline.queue import Queue
from fapilog.pipeline.queue import Sequence as Numbers
from fapilog.recorder import LoggerName, Recorder
from fapilog.serializers import lazy
from fapilog.types import INFO
from tests.programs import parse
from tests.test_encoding import ANYTHING, TEXTS

EXAMPLES = int(os.environ.get("FAPILOG_EXAMPLES", "300"))

RAISED = [ValueError(), SystemExit(), RecursionError(), GeneratorExit(), MemoryError(), StopIteration()]
DUNDERS = ["__str__", "__repr__", "__bool__", "__len__", "__iter__", "__eq__", "__hash__", "__getattr__", "__format__"]


def hostile(names: list[str], error: BaseException, bases: tuple[type, ...]) -> Any:
    """Return an instance of a class on which what is named raises."""

    def fail(*_args: object) -> Any:
        raise error

    body: dict[str, Any] = dict.fromkeys(names, fail)
    if "__eq__" in names:
        body.setdefault("__hash__", object.__hash__)
    made: Any = type("Hostile", bases, body)
    return made.__new__(made)


HOSTILE = st.builds(
    hostile,
    st.lists(st.sampled_from(DUNDERS), min_size=1, unique=True),
    st.sampled_from(RAISED),
    st.sampled_from([(), (dict,), (list,), (str,), (int,), (float,), (Exception,), (set,), (bytes,)]),
)


def failing(error: BaseException) -> Any:
    def fail() -> Any:
        raise error

    return lazy(fail)


ODD = st.one_of(
    HOSTILE,
    st.integers(5_000, 20_000).map(lambda digits: 10**digits),
    st.sampled_from([2**63, 2**64, -(2**63) - 1, 2**53 + 1, -0.0, float("nan"), float("inf")]),
    st.sampled_from(RAISED).map(failing),
    TEXTS.map(lambda said: lazy(lambda: said)),
    st.lists(st.floats(), max_size=5).map(numpy.array),
    st.integers(0, 40_000).map(lambda length: "\ud800é\x00" * (length // 3)),
    st.integers(0, 2_000).map(lambda length: [length] * length),
    st.integers(0, 600).map(lambda length: dict.fromkeys(range(length), "x")),
)
VALUES = st.one_of(ANYTHING, ODD, st.lists(st.one_of(ANYTHING, ODD), max_size=4))
LIMITS_OF_ANY_SIZE = st.one_of(
    st.just(LIMITS),
    st.builds(
        Limits,
        record=st.integers(16_384, 1_000_000),
        string=st.integers(64, 1_000_000),
        depth=st.integers(1, 64),
        keys=st.integers(16, 1_000),
        items=st.integers(1, 5_000),
    ),
)
KEYS = st.one_of(TEXTS, st.integers(200, 2_000).map(lambda length: "k" * length))


def test_any_call_is_one_line_that_three_parsers_read_alike() -> None:
    with duckdb.connect() as database:

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            event=st.one_of(TEXTS, VALUES),
            arguments=st.lists(VALUES, max_size=2),
            fields=st.dictionaries(KEYS, VALUES, max_size=5),
            error=st.none() | st.sampled_from(RAISED) | HOSTILE,
            limits=LIMITS_OF_ANY_SIZE,
        )
        def log_and_read(event: Any, arguments: list[Any], fields: dict[str, Any], error: Any, limits: Limits) -> None:
            line = logged(event, arguments, fields if error is None else {**fields, "exc_info": error}, limits)
            assert line.endswith(b"\n")
            assert line.count(b"\n") == 1
            assert len(line) <= limits.record
            record = parse(line)
            assert orjson.loads(line) == record
            assert database.execute(READ, {"line": line.decode()}).fetchone() == (True, "OBJECT", "odd", len(record))

        log_and_read()


READ = "SELECT json_valid($line), json_type($line), $line::JSON ->> '$.logger', len(json_keys($line))"


def logged(event: Any, arguments: list[Any], fields: dict[str, Any], limits: Limits) -> bytes:
    """Return the line of one call."""
    recorder = Recorder(
        Queue(Numbers()), level=INFO, static={"service": "shop"}, limits=limits, exception_locals=limits.depth < 8
    )
    recorder.emit(LoggerName("odd"), INFO, event, tuple(arguments), {"bound": 1}, fields)
    ((_, _, line),), _ = recorder.queue.take()
    assert isinstance(line, bytes)
    assert recorder.queue.dropped == {}
    return line
