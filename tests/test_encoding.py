import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import itertools
import json
import math
import pathlib
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.encoding import MAX_LINE_BYTES, cut, encode, encode_text, plain, plain_fields, text
from fapilog.processors.redact import Redact
from tests.programs import parse


class Header(str, enum.Enum):  # noqa: UP042 - StrEnum has the better str()
    AUTHORIZATION = "authorization"


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "harmless"


@pytest.mark.parametrize("key", [b"authorization", Header.AUTHORIZATION, Name("jwt"), "x" * 300 + "_token"])
def test_a_key_that_names_a_secret_still_does_as_text(key: Any) -> None:
    assert list(Redact()(None, "", plain({key: "canary"})).values()) == ["REDACTED"]


def test_keys_that_are_one_text_once_their_surrogates_are_mended_are_kept_apart() -> None:
    surrogates = [("\ud800", 1), ("\ud801", 2)]
    assert parse(encode({"a": dict(surrogates)}) + b"\n") == {"a": {"\ufffd": 1, "\ufffd_": 2}}


def test_an_event_that_is_cut_to_its_head_keeps_the_ids_of_its_request() -> None:
    wide = {f"k{number}": {f"k{inner}": "\x01" * 1_024 for inner in range(64)} for number in range(64)}
    ids = {"trace_id": "t", "span_id": "s", "parent_span_id": "p", "request_id": "r"}
    line = encode({"timestamp": "now", "level": "info", "event": "e", "logger": "l", **ids, **wide})
    assert len(line) <= MAX_LINE_BYTES
    cut = parse(line + b"\n")
    assert cut.pop("_truncated")["bytes"] > MAX_LINE_BYTES
    assert cut == {"timestamp": "now", "level": "info", "event": "e", "logger": "l", **ids}


def nested_lists(depth: int) -> list[Any]:
    made: list[Any] = ["leaf"] * 1_000
    for _ in range(depth):
        made = [made] * 1_000
    return made


class Hydra(enum.Enum):
    HEAD = list[Any]()  # noqa: RUF012 - it comes to hold itself


def test_lists_that_hold_one_another_a_thousand_times_are_cut_in_all() -> None:
    kept = str(plain(nested_lists(6)))
    assert kept.count("leaf") < 50_000
    assert "<+999 more>" in kept


def test_many_references_to_one_long_text_are_cut_in_all() -> None:
    kept = plain([["x" * 32_000] * 1_000] * 1_000)
    assert sum(len(text) for items in kept for text in items) < 5_000_000


def test_an_enum_that_holds_itself_ends() -> None:
    Hydra.HEAD.value[:] = [Hydra.HEAD] * 100
    assert "<depth>" in str(plain(Hydra.HEAD)) or "<cycle>" in str(plain(Hydra.HEAD))


class Colour(enum.Enum):
    RED = "red"


class Weight(enum.IntEnum):
    HEAVY = 3


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


class Model(pydantic.BaseModel):
    name: str
    token: pydantic.SecretStr = pydantic.SecretStr("canary")


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Mapped(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Says:
    def __str__(self) -> str:
        return "said"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (None, None),
        (-0.0, -0.0),
        (math.nan, None),
        (-math.inf, None),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**5000, "<int 16610 bits>"),
        (Text("t"), "t"),
        (Number(7), 7),
        (Colour.RED, "red"),
        (Weight.HEAVY, 3),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC), "2026-01-02T03:04:05.000006+00:00"),
        (datetime.date(9999, 12, 31), "9999-12-31"),
        (datetime.time(1, 2), "01:02:00"),
        (datetime.timedelta(minutes=1, milliseconds=5), 60.005),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (decimal.Decimal("NaN"), "NaN"),
        (pathlib.PurePosixPath("/a"), "/a"),
        (ipaddress.ip_address("::1"), "::1"),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        (bytearray(b"x"), "x"),
        (memoryview(b"x"), "x"),
        (1 + 2j, "(1+2j)"),
        ((1, 2), [1, 2]),
        (frozenset({1}), [1]),
        (collections.deque([1], maxlen=3), [1]),
        ({1: "a", "1": "b", None: "c"}, {"1": "a", "1_": "b", "None": "c"}),
        (collections.Counter("aa"), {"a": 2}),
        (Mapped(), {"a": 1}),
        (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
        (Slotted(1), {"x": 1}),
        (Model(name="ann"), {"name": "ann", "token": "**********"}),
        (ValueError("wrong"), "ValueError: wrong"),
        (ValueError, "ValueError"),
        (dataclasses.replace, "dataclasses.replace"),
        (math, "math"),
        (len, "len"),
        (Says(), "said"),
        (numpy.float64(1.5), 1.5),
        (numpy.int16(3), 3),
        (numpy.bool_(True), True),
        (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (numpy.array([math.nan]), [None]),
        (numpy.zeros((1000, 50)), "<ndarray float64 (1000, 50)>"),
    ],
    ids=lambda value: text(value, 40) if not isinstance(value, numpy.ndarray) else "array",
)
def test_a_value_becomes_what_the_table_says(value: Any, expected: Any) -> None:
    made = plain(value)
    assert (made, type(made)) == (expected, type(expected))
    assert parse(encode({"value": made}) + b"\n") == {"value": expected}


def test_an_attrs_model_is_an_object_of_its_fields() -> None:
    class Attrs:
        __attrs_attrs__ = (types.SimpleNamespace(name="x"), types.SimpleNamespace(name="gone"))
        x = 1

    assert plain(Attrs()) == {"x": 1, "gone": None}


def test_cycles_are_marked_where_they_close() -> None:
    items: list[Any] = [1]
    items.append({"again": items})
    point = Point(1)
    point.y = [point]
    assert plain(items) == [1, {"again": "<cycle>"}]
    assert plain(point) == {"x": 1, "y": ["<cycle>"]}


def test_a_value_that_comes_twice_is_no_cycle() -> None:
    shared = [1]
    assert plain([shared, shared]) == [[1], [1]]


def test_what_is_nested_too_deep_is_marked() -> None:
    value: Any = "leaf"
    for _ in range(20):
        value = [value]
    assert str(plain(value)) == "[" * 8 + "'<depth>'" + "]" * 8


def test_what_is_too_long_ends_in_how_much_is_missing() -> None:
    assert plain("x" * 40_000) == "x" * 32_768 + "<+7232 more>"
    assert plain(b"x" * 40_000) == "x" * 32_768 + "<+7232 more>"
    assert plain(list(range(1_500)))[-2:] == [999, "<+500 more>"]
    many = plain({f"k{number}": number for number in range(300)})
    assert (len(many), many["_more_keys"]) == (257, 44)


@pytest.mark.parametrize(
    "make", [lambda: (x for x in [1]), lambda: iter([1]), lambda: map(str, [1]), itertools.count], ids=str
)
def test_iterators_are_never_consumed(make: Callable[[], Iterator[Any]]) -> None:
    value = make()
    assert plain(value).startswith(("<", "count("))
    assert next(value) in (0, 1, "1")


def test_a_mapping_that_fails_while_it_is_read_costs_its_own_value_only() -> None:
    class Broken(Mapped):
        __qualname__ = "Broken"

        def __getitem__(self, key: str) -> int:
            raise SystemExit

    assert plain({"broken": Broken(), "whole": 1}) == {"broken": "<unprintable Broken: SystemExit>", "whole": 1}


def test_a_value_whose_str_returns_something_else_is_marked() -> None:
    class Wrong:
        __qualname__ = "Wrong"

        def __str__(self) -> str:
            return 5  # type: ignore[return-value]  # noqa: PLE0307 - that is the point

    assert plain(Wrong()) == "<unprintable Wrong: TypeError>"


def test_a_string_subclass_that_str_returns_is_made_plain() -> None:
    class Odd:
        def __str__(self) -> str:
            return Text("odd")

    assert type(plain(Odd())) is str


@pytest.mark.parametrize("said", ["\ud800", "a\udfffb", "\U0001f40e", "é\ud83d"])
def test_lone_surrogates_are_replaced_and_the_rest_stays(said: str) -> None:
    expected = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in said)
    assert parse(encode({said: [said]}) + b"\n") == {expected: [expected]}
    assert json.loads(encode_text(said)) == expected


def test_a_line_is_never_longer_than_it_may_be_and_says_how_long_it_was() -> None:
    line = encode({"event": "x", **{f"k{number}": "é" * 30_000 for number in range(50)}})
    assert len(line) <= MAX_LINE_BYTES
    record = parse(line + b"\n")
    assert record["event"] == "x"
    assert record["_truncated"]["bytes"] > 3_000_000


def test_text_is_cut_and_never_raises() -> None:
    assert text("abcdef", 3) == "abc<+3 more>"
    assert cut("abc", 3) == "abc"


def test_an_interrupt_by_the_user_goes_through() -> None:
    class Interrupting:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain([Interrupting()])
    with pytest.raises(KeyboardInterrupt):
        text(Interrupting())


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(st.characters(exclude_categories=())),
        st.binary(),
        st.decimals(),
        st.fractions(),
        st.datetimes(),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.uuids(),
        st.sampled_from(
            [Colour.RED, Weight.HEAVY, Says(), ValueError(), len, math, object(), Point(1), numpy.float32(2)]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(st.characters(exclude_categories=())), st.integers(), st.binary()), inner),
        st.builds(Point, st.integers(), inner),
        st.builds(collections.deque, st.lists(inner)),
    ),
    max_leaves=30,
)


@given(ANYTHING)
def test_any_value_becomes_strict_json(value: Any) -> None:
    parse(encode({"value": plain(value)}) + b"\n")


@given(st.dictionaries(st.text(st.characters(exclude_categories=())), ANYTHING))
def test_fields_under_any_names_become_strict_json(fields: dict[str, Any]) -> None:
    parse(encode(plain_fields(fields)) + b"\n")


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists))
def test_what_json_can_hold_is_left_as_it_is(value: Any) -> None:
    if str(value).count("[") < 8:
        assert plain(value) == value
