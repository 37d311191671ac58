"""Hostile and odd values, through a log call to what a sink is handed."""

import asyncio
import datetime
import decimal
import enum
import itertools
import json
import math
import pathlib
import signal
import socket
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable
from typing import Any

import duckdb
import numpy
import orjson
import pandas
import polars
import pytest

from fapilog import log
from fapilog.encoding import MAX_LINE_BYTES
from fapilog.testing import Captured, capture
from tests import programs
from tests.programs import parse, untraced

BOMB = "x" * 50_000_000
BYTES = BOMB.encode()
KEYS = {f"k{number}": number for number in range(100_000)}


def lines(captured: Captured) -> list[bytes]:
    """Return every line as a sink was handed it."""
    captured.handle.flush()
    return [line for batch in captured._sink.batches for line in batch.lines]


def fastest(call: Callable[[], None], repeat: int = 7) -> float:
    """Return how many milliseconds of work the fastest of some calls was; on a busy machine each may wait besides."""
    took = []
    for _ in range(repeat):
        with untraced():
            started = time.thread_time()
            call()
            took.append(time.thread_time() - started)
    return min(took) * 1e3


# F127

RAISED = [ValueError("wrong"), SystemExit(3), RecursionError(), GeneratorExit(), MemoryError(), StopIteration()]
RAISING = ["__str__", "__repr__", "__bool__", "__len__", "__iter__", "__eq__", "__hash__", "__format__", "__getattr__",
           "__getattribute__", "__class__", "__getitem__", "__contains__", "__int__", "__index__", "__float__",
           "__bytes__", "__sizeof__", "__dir__", "__reduce__", "__call__", "__next__", "__rmod__"]  # fmt: skip


def zoo(dunders: list[str], error: BaseException) -> Any:
    """Return an instance of a class on which each of these raises."""

    def fail(*_: object) -> Any:
        raise error

    body: dict[str, Any] = dict.fromkeys(dunders, fail)
    if "__class__" in body:
        body["__class__"] = property(fail)
    made: Any = type("Foo", (), body)
    return object.__new__(made)


@pytest.mark.parametrize("error", RAISED, ids=repr)
@pytest.mark.parametrize("dunder", [*RAISING, "all"])
def test_f127_a_value_whose_methods_raise_costs_no_record(dunder: str, error: BaseException) -> None:
    value = zoo(RAISING if dunder == "all" else [dunder], error)
    with capture() as captured:
        log.info("field", value=value, kept=1)
        log.info("nested", value=[value, {"key": value}], kept=1)
        log.info("%s", value)
        log.info(value)
        assert len(captured.records) == 4
        assert captured.handle.stats().dropped == {}
        shown = captured.find(event="field", kept=1)["value"]
    if dunder in ("__str__", "all"):
        assert shown == f"<unprintable Foo: {type(error).__name__}>"


@pytest.mark.parametrize("said", [None, 5, b"bytes", object()], ids=repr)
def test_f127_a_value_whose_text_is_none_is_marked(said: Any) -> None:
    value = type("Foo", (), {"__str__": lambda _self: said})()
    with capture() as captured:
        log.info("x", value=value)
        captured.find(event="x", value="<unprintable Foo: TypeError>")


def test_f127_an_interrupt_by_the_user_while_a_value_is_shown_goes_through() -> None:
    done = programs.run("""
        import os, signal, sys, time
        import fapilog

        class Slow:
            def __str__(self):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(30)
                return "slow"

        fapilog.configure_logging(sinks=["stdout"])
        try:
            fapilog.log.info("x", value=Slow())
        except KeyboardInterrupt:
            fapilog.log.info("interrupted")
    """)
    assert done.returncode == 0, done.stderr
    assert [record["event"] for record in programs.parse_all(done.stdout)] == ["interrupted"]


def test_f127_an_interrupt_ends_a_program_that_does_nothing_about_it() -> None:
    started = programs.start("""
        import sys, time
        import fapilog

        class Slow:
            def __str__(self):
                sys.stderr.write("ready")
                sys.stderr.flush()
                time.sleep(30)

        fapilog.configure_logging(sinks=["stdout"])
        fapilog.log.info("before")
        fapilog.log.info("x", value=Slow())
    """)
    assert started.stderr is not None
    assert started.stderr.read(5) == b"ready"
    started.send_signal(signal.SIGINT)
    written, complained = started.communicate(timeout=20)
    assert b"KeyboardInterrupt" in complained
    assert started.returncode in (-signal.SIGINT, 130)
    assert [record["event"] for record in programs.parse_all(written)] == ["before"]


# F128


def cycle() -> Any:
    items: list[Any] = [1]
    items.append({"again": items})
    return items


def deep() -> Any:
    made: Any = "leaf"
    for _ in range(5_000):
        made = [made]
    return made


def frame() -> Any:
    return pandas.DataFrame({"a": range(100_000), "b": [1.5] * 100_000, "c": ["x"] * 100_000})


def socket_() -> Any:
    made = socket.socket()
    made.close()
    return made


def coroutine() -> Any:
    made = asyncio.sleep(1)
    made.close()
    return made


@pytest.mark.parametrize(
    ("make", "shown", "milliseconds"),
    [
        (cycle, '[1,{"again":"<cycle>"}]', 1),
        (deep, '[[[[[[[["<depth>"]]]]]]]]', 1),
        (lambda: list(range(1_000_000)), ',998,999,"<+999000 more>"]', 1),
        (lambda: set(range(1_000_000)), ',998,999,"<+999000 more>"]', 1),
        (lambda: {number: number for number in range(1_000_000)}, '"255":255,"_more_keys":999744}', 1),
        (lambda: (number for number in itertools.count()), '"<generator object', 1),
        (itertools.count, '"count(0)"', 1),
        (lambda: map(str, itertools.count()), '"<map object', 1),
        (coroutine, '"<coroutine object sleep', 1),
        (threading.Lock, '"<unlocked _thread.lock object', 1),
        (socket_, '"<socket.socket [closed]', 1),
        (frame, '"shape":[100000,3]', 1),
        (lambda: polars.DataFrame({"a": range(100_000)}), '"shape":[100000,1]', 1),
        (lambda: numpy.zeros((1_000, 1_000)), '"<ndarray float64 (1000, 1000)>"', 1),
        (lambda: [frame()] * 1_000, '"shape":[100000,3]', 100),
        (lambda: [[["x" * 40_000] * 1_000] * 1_000] * 1_000, "more>", 5),
    ],
)
def test_f128_what_is_endless_is_cut_with_a_marker_in_a_millisecond(
    make: Callable[[], Any], shown: str, milliseconds: float
) -> None:
    value = make()
    with capture() as captured:
        took = fastest(lambda: log.info("x", value=value), 20)
        line = lines(captured)[0]
    assert shown in line.decode()
    assert parse(line)["event"] == "x"
    assert len(line) <= MAX_LINE_BYTES
    assert took <= milliseconds


# F129


class Colour(enum.Enum):
    RED = "red"


NUMBERS: dict[str, tuple[Any, Any]] = {
    "nan": (math.nan, None),
    "infinity": (math.inf, None),
    "less": (-math.inf, None),
    "zero": (-0.0, -0.0),
    "above_a_double": (2**53 + 1, 9_007_199_254_740_993),
    "largest": (2**64 - 1, 18_446_744_073_709_551_615),
    "above_64_bits": (2**64, "18446744073709551616"),
    "huge": (10**5000, "<int 16610 bits>"),
    "decimal": (decimal.Decimal("1.10"), "1.10"),
    "complex": (1 + 2j, "(1+2j)"),
    "numpy": (numpy.float32(0.5), 0.5),
    "numpy_nan": (numpy.float64("nan"), None),
    "enum": (Colour.RED, "red"),
    "first_year": (datetime.datetime(1, 1, 1), "0001-01-01T00:00:00"),
    "last_year": (datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC), "9999-12-31T00:00:00+00:00"),
    "span": (datetime.timedelta(seconds=-1), -1.0),
    "uuid": (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
    "bytes": (b"\xff\x00", "\\xff\x00"),
    "path": (pathlib.PurePosixPath("/a"), "/a"),
    "bytearray": (bytearray(b"x"), "x"),
    "view": (memoryview(b"x"), "x"),
}


@pytest.mark.parametrize("nested", [False, True])
def test_f129_numbers_and_moments_are_strict_json_for_three_parsers(nested: bool) -> None:
    values = {name: [value] if nested else value for name, (value, _) in NUMBERS.items()}
    expected = {name: [said] if nested else said for name, (_, said) in NUMBERS.items()}
    with capture() as captured:
        log.info("x", **values)
        (line,) = lines(captured)
    record = parse(line)
    assert {name: record[name] for name in expected} == expected
    assert math.copysign(1, record["zero"][0] if nested else record["zero"]) == -1
    at = ".0" if nested else ""
    assert record["_coerced"] == {
        f"nan{at}": "NaN", f"infinity{at}": "Infinity", f"less{at}": "-Infinity", f"above_64_bits{at}": "int",
        f"huge{at}": "int", f"numpy_nan{at}": "NaN",
    }  # fmt: skip
    assert orjson.loads(line) == record
    with duckdb.connect() as database:
        query = "SELECT json_valid($line), $line::JSON ->> '$.above_64_bits', $line::JSON ->> '$.nan'"
        valid, above, nan = database.execute(query, {"line": line.decode()}).fetchone() or ()
    assert (valid, above, nan) == (
        (True, '["18446744073709551616"]', "[null]") if nested else (True, "18446744073709551616", None)
    )


def test_f129_a_number_that_is_none_is_noted_on_the_fast_way_too() -> None:
    with capture() as captured:
        for _ in range(3):
            log.info("x", ratio=math.nan, kept=1.5)
        assert [record["_coerced"] for record in captured.records] == [{"ratio": "NaN"}] * 3


# F130


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udfff\ud800", "\ufffd\ufffd"),
        ("\ud83d\udc0e", "\U0001f40e"),
        ("a\x00b", "a\x00b"),
        ("a\u2028b\u2029c\x85d", "a\u2028b\u2029c\x85d"),
        ("\U0001f40e", "\U0001f40e"),
        ("a" + "\u0301" * 10_000, "a" + "\u0301" * 10_000),
        (b"caf\xc3\xa9 \xff\xfe", "caf\u00e9 \\xff\\xfe"),
        ("\n\r\t\x1b[31m\x7f", "\n\r\t\x1b[31m\x7f"),
    ],
)
def test_f130_text_that_is_hard_to_hold_is_one_line(said: Any, expected: str) -> None:
    with capture() as captured:
        log.info("x", value=said, nested=[{"key": said}])
        if type(said) is str:
            log.info(said, **{said[:100]: 1})
        written = lines(captured)
        for line in written:
            assert line.count(b"\n") == 1
            assert b"\x00" not in line
            assert json.loads(line) == orjson.loads(line) == parse(line)
        record = parse(written[0])
        assert (record["value"], record["nested"]) == (expected, [{"key": expected}])
        if type(said) is str:
            assert parse(written[1])["event"] == expected
            assert parse(written[1])[expected[:100]] == 1


# F131


@pytest.mark.parametrize(
    ("call", "noted"),
    [
        (lambda: log.info("x", text=BOMB), {"text": 50_000_000}),
        (lambda: log.info(BOMB), {"event": 50_000_000}),
        (lambda: log.info("x", data=BYTES), {"data": 50_000_000}),
        (lambda: log.info("x", view=memoryview(BYTES)), {"view": 50_000_000}),
        (lambda: log.info("x", order={"lines": ["", BOMB]}), {"order.lines.1": 50_000_000}),
        (lambda: log.info("x", error=ValueError(BOMB)), None),
        (lambda: log.info("%s", BOMB), None),
        (lambda: log.info("%s", [BOMB]), None),
        (lambda: log.info("%(text)s", {"text": BOMB}), None),
        (lambda: log.info("%s", BYTES), None),
        (lambda: log.error("x", exc_info=ValueError(BOMB)), None),
        (lambda: log.error("x", exc_info=KeyError(BOMB)), None),
        (lambda: log.error("x", exc_info=OSError(2, "no", BOMB)), None),
        (lambda: log.info("x", **{"k" * 1_000_000: 1}), None),
        (lambda: log.info("x", data={"k" * 1_000_000: 1}), None),
        (lambda: log.info("x", data=KEYS), {"data": 100_000}),
        (lambda: log.bind(text=BOMB).info("x"), {"text": 50_000_000}),
    ],
)  # fmt: skip
def test_f131_a_log_bomb_is_cut_before_work_is_done_on_it(
    call: Callable[[], None], noted: dict[str, int] | None
) -> None:
    with capture() as captured:
        call()
        assert fastest(call) <= 5
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        written = lines(captured)
        assert captured.handle.stats().dropped == {}
    assert peak < 4 * 1024 * 1024
    assert max(map(len, written)) <= MAX_LINE_BYTES
    record = parse(written[0])
    if noted is not None:
        assert record["_truncated"] == noted
    assert parse(written[-1]).keys() == record.keys()


def test_f131_of_a_hundred_thousand_fields_the_first_are_kept_and_the_exception_stays() -> None:
    with capture(level="info") as captured:
        log.info("x", **KEYS, exc_info=ValueError("kept"))
        below = fastest(lambda: log.trace("x", **KEYS), 20)  # to pass so many keywords is the caller's cost
        assert fastest(lambda: log.info("x", **KEYS), 20) <= below + 10
        record = parse(lines(captured)[0])
    assert record["_more_keys"] == 100_000 - 256
    assert record["_truncated"] == {"keys": 100_000 + len(OWN)}
    assert record["exception"]["message"] == "kept"
    assert [record[f"k{number}"] for number in range(256)] == list(range(256))


OWN = ("timestamp", "level", "event", "logger")


def test_f131_a_flat_record_of_too_many_fields_is_cut_also_when_their_names_are_known() -> None:
    with capture(max_keys=16) as captured:
        for first in range(0, 64, 8):
            log.info("learned", **{f"k{number}": 1 for number in range(first, first + 8)})
        log.info("x", **{f"k{number}": 1 for number in range(64)})
        assert captured.find(event="x")["_more_keys"] == 64 - 16


@pytest.mark.faults_long
def test_f131_a_text_of_a_gigabyte_is_cut_before_work_is_done_on_it() -> None:
    said = "x" * 1_000_000_000
    with capture() as captured:
        assert fastest(lambda: log.info("x", text=said)) <= 5
        assert fastest(lambda: log.info(said)) <= 5
        assert parse(lines(captured)[0])["_truncated"] == {"text": 1_000_000_000}


def test_f131_limits_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_MAX_STRING_CHARACTERS", "100")
    monkeypatch.setenv("FAPILOG_MAX_DEPTH", "2")
    monkeypatch.setenv("FAPILOG_MAX_KEYS", "20")
    monkeypatch.setenv("FAPILOG_MAX_ITEMS", "3")
    monkeypatch.setenv("FAPILOG_MAX_RECORD_BYTES", "16384")
    with capture() as captured:
        log.info("x", text="y" * 200, deep=[[["leaf"]]], items=[1, 2, 3, 4], keys={str(key): 1 for key in range(30)})
        log.info("y" * 200, flat=1)
        for number in range(40):
            log.info("long", **{f"k{key}": "z" * 90 for key in range(20)}, more=[["z" * 90] * 3] * 3, number=number)
        first, second, *rest = map(parse, lines(captured))
        longest = max(map(len, lines(captured)))
    assert first["text"] == "y" * 100 + "<+100 more>"
    assert (first["deep"], first["items"]) == ([["<depth>"]], [1, 2, 3, "<+1 more>"])
    assert first["keys"]["_more_keys"] == 10
    assert second["event"] == "y" * 100 + "<+100 more>"
    assert len(rest) == 40
    assert longest <= 16_384


@pytest.mark.parametrize("characters", [32_768, 1_000_000])
def test_f131_a_longer_text_is_kept_where_it_is_allowed(characters: int) -> None:
    with capture(max_string_characters=characters, max_record_bytes=4_000_000) as captured:
        log.info("x", text="y" * characters)
        log.info("x", text="y" * characters)
        assert [len(record["text"]) for record in captured.records] == [characters] * 2


# F133


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("%s %s", (1,)),
        ("%(a)s", (1,)),
        ("%d", ("x",)),
        ("%", ()),
        ("{0.__class__.__init__.__globals__}", ()),
        ("{0.__class__.__init__.__globals__}", (1,)),
        ("${{jndi:ldap://127.0.0.1:{port}/a}}", ()),
        ("{{{{7*7}}}} #{{7*7}} <%= 7*7 %> $(id) `id`", ()),
        ("http://127.0.0.1:{port}/image.png", ()),
    ],
)
def test_f133_content_is_never_a_format_a_template_or_a_lookup(said: str, arguments: tuple[Any, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        raw = said.replace("{port}", str(canary.getsockname()[1]))
        with capture() as captured:
            log.info(raw, *arguments)
            log.info("x", value=raw, nested={raw: [raw]}, error=ValueError(raw))
            log.info("%s", raw)
            first, second, third = captured.records
        with pytest.raises(BlockingIOError):
            canary.accept()
    assert (first["event"], second["value"], second["nested"], third["event"]) == (raw, raw, {raw: [raw]}, raw)
    assert ("_format_error" in first) == bool(arguments)
    assert "_format_error" not in third


# F134 is in tests/processors/test_exceptions.py, but for what happens where there is no exception.


def test_f134_an_exception_that_is_asked_for_where_there_is_none_is_none() -> None:
    with capture() as captured:
        log.info("x", exc_info=True)
        log.exception("y")
        assert [record["event"] for record in captured.records] == ["x", "y"]
        assert not any("exception" in record for record in captured.records)
