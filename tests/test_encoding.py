import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import itertools
import json
import math
import pathlib
import re
import sys
import threading
import types
import typing
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import numpy
import pydantic
import pytest
import starlette.datastructures
from hypothesis import given
from hypothesis import strategies as st

from fapilog.encoding import MAX_LINE_BYTES, MAX_NOTES, Limits, cut, encode, encode_text, plain, plain_fields, text
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


TEXTS = st.text(st.characters(exclude_categories=()))
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


def test_what_was_cut_is_noted_with_how_long_it_was_by_the_path_of_the_field() -> None:
    noted = plain_fields(
        {
            "text": "x" * 40_000,
            "data": b"x" * 50_000,
            "view": memoryview(b"x" * 60_000),
            "order": {"lines": list(range(1_500)), "by": {f"k{number}": 1 for number in range(300)}},
            "tags": ["fine", "y" * 33_000],
            "fine": "x" * 32_768,
        }
    )
    assert noted["_truncated"] == {
        "text": 40_000, "data": 50_000, "view": 60_000, "order.lines": 1_500, "order.by": 300, "tags.1": 33_000
    }  # fmt: skip


def test_a_value_that_became_one_of_another_type_is_noted() -> None:
    noted = plain_fields({"a": math.nan, "b": [1, -math.inf], "c": {"d": math.inf}, "e": 2**64, "f": Number(2**70)})
    assert (noted["a"], noted["b"], noted["c"]) == (None, [1, None], {"d": None})
    assert noted["_coerced"] == {"a": "NaN", "b.1": "-Infinity", "c.d": "Infinity", "e": "int", "f": "int"}


def test_nothing_is_noted_of_what_is_kept_whole() -> None:
    assert plain_fields({"a": 1.5, "b": [None, True], "c": Colour.RED}) == {"a": 1.5, "b": [None, True], "c": "red"}


def test_a_field_of_the_user_s_that_has_the_name_of_our_notes_is_kept_beside_them() -> None:
    noted = plain_fields({"_truncated": "mine", "_truncated_": "too", "long": "x" * 40_000})
    assert (noted["_truncated"], noted["_truncated_"], noted["_truncated__"]) == ({"long": 40_000}, "too", "mine")


def test_there_are_no_more_than_so_many_notes_and_no_long_paths() -> None:
    noted = plain_fields({f"{number}" + "k" * 250: {"x" * 200: math.nan} for number in range(100)})
    assert len(noted["_coerced"]) == MAX_NOTES
    assert max(map(len, noted["_coerced"])) < 300


def test_every_limit_can_be_set() -> None:
    limits = Limits(record=20_000, string=10, depth=2, keys=3, items=4)
    made = plain({"a": "x" * 12, "b": [1, 2, 3, 4, 5], "c": [[1]], "d": 1}, limits)
    assert made == {"a": "x" * 10 + "<+2 more>", "b": [1, 2, 3, 4, "<+1 more>"], "c": ["<depth>"], "_more_keys": 1}
    record = {"event": "x", **{f"k{number}": "y" * 5_000 for number in range(10)}}
    assert len(encode(plain_fields(record, Limits(record=20_000)), Limits(record=20_000))) <= 20_000


def test_of_a_record_that_is_too_long_every_field_keeps_its_beginning() -> None:
    made = plain_fields({f"k{number}": f"{number} " + "x" * 30_000 for number in range(50)})
    assert [made[f"k{number}"].split()[0] for number in range(50)] == [str(number) for number in range(50)]
    assert made["_truncated"]["k9"] == 30_002


@pytest.mark.parametrize("character", ["x", "é", "\x01", "\U0001f40e", "\ud800", '"'])
def test_a_line_of_any_characters_is_never_longer_than_it_may_be_and_keeps_every_field(character: str) -> None:
    fields = {f"k{number}": character * 30_000 for number in range(100)}
    line = encode(plain_fields({"event": "x", **fields}), reserve=300)
    assert len(line) <= MAX_LINE_BYTES - 300
    assert set(parse(line + b"\n")) == {"event", "_truncated", *fields}


def test_the_exception_of_a_record_that_is_too_long_keeps_both_ends_of_its_stack() -> None:
    stack = "first\n" + "x" * 30_000 + "\nlast"
    error = {"type": "E", "message": "m", "module": "", "stacktrace": stack, "stack": [{"code": "y" * 300_000}]}
    made = parse(encode({"event": "x", "exception": error}) + b"\n")
    assert made["exception"]["type"] == "E"
    assert made["exception"]["stacktrace"].startswith("first\n")
    assert made["exception"]["stacktrace"].endswith("\nlast")
    assert set(made["exception"]) == {"type", "message", "module", "stacktrace"}


@attrs.define
class Attrs:
    x: int
    hidden: str = attrs.field(default="canary", repr=False)
    _private: int = 2


@attrs.define
class AttrsWithRepr:
    x: str = attrs.field(repr=lambda _value: "***")
    y: int = 1


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    hidden: str = pydantic.Field("canary", repr=False)
    excluded: str = pydantic.Field("canary", exclude=True)


class Names(pydantic.RootModel[list[str]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    x: int


@dataclasses.dataclass
class Hiding:
    shared: typing.ClassVar[int] = 1
    x: int
    hidden: str = dataclasses.field(default="canary", repr=False)
    initial: dataclasses.InitVar[int] = 3


class Struct:
    """Has of msgspec's Struct what is read of it."""

    __struct_fields__ = ("x",)
    x = 1


class Pair(typing.NamedTuple):
    left: int
    right: int


class Seen(enum.Flag):
    A = 1
    B = 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Attrs(1), {"x": 1, "_private": 2}),
        (Settings(name="ann", more=[1]), {"name": "ann", "more": [1]}),
        (Names(["ann"]), ["ann"]),
        (Checked(1), {"x": 1}),
        (Hiding(1), {"x": 1}),
        (Struct(), {"x": 1}),
        (types.SimpleNamespace(x=1, y=types.SimpleNamespace()), {"x": 1, "y": {}}),
        (Pair(1, 2), {"left": 1, "right": 2}),
        (urllib.parse.urlsplit("https://a.test/b?c=d"), "https://a.test/b?c=d"),
        (urllib.parse.urlparse(b"https://a.test/b;p?c=d"), "https://a.test/b;p?c=d"),
        (AttrsWithRepr("canary"), {"x": "***", "y": 1}),
        (starlette.datastructures.Secret("canary"), "Secret('**********')"),
        (Seen.A | Seen.B, 3),
        (datetime.datetime(1, 1, 1), "0001-01-01T00:00:00"),
        (
            datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))),
            "2026-01-01T00:00:00-03:00",
        ),
        (fractions.Fraction(1, 3), "1/3"),
        (range(3), "range(0, 3)"),
        (array.array("d", [1.5, math.nan]), [1.5, None]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [["a", 1]]),
        (collections.UserList([1]), [1]),
        (collections.UserDict(a=1), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (memoryview(array.array("H", [0x4141, 0x4242])), "AABB"),
        (memoryview(b"abcd")[::2], "ac"),
        (pydantic.SecretStr("canary"), "**********"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (decimal.Decimal("1e-30"), "1E-30"),
        (Point, f"{__name__}.Point"),
    ],
    ids=lambda value: text(value, 40),
)
def test_a_model_or_a_container_becomes_what_the_table_says(value: Any, expected: Any) -> None:
    made = plain(value)
    assert (made, type(made)) == (expected, type(expected))


def test_a_property_that_raises_costs_itself_alone() -> None:
    @dataclasses.dataclass
    class Broken:
        whole: int = 1

    Broken.__dataclass_fields__["asked"] = dataclasses.fields(Settings2)[0]
    Broken.asked = property(lambda _self: 1 / 0)  # type: ignore[attr-defined]
    assert plain(Broken()) == {"whole": 1, "asked": f"<unprintable {Broken.__qualname__}: ZeroDivisionError>"}


@dataclasses.dataclass
class Settings2:
    asked: int = 0


def test_the_name_of_a_class_is_read_past_its_metaclass_and_cut() -> None:
    class Hostile(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit

    def fail(_self: object) -> str:
        raise ValueError

    made = plain(Hostile("N" * 1_000, (), {"__str__": fail})())
    assert made.startswith("<unprintable NNN")
    assert made.endswith(": SystemExit>")
    assert len(made) < 300


@pytest.mark.parametrize("length", [300, 40_000, 1_000_000])
@pytest.mark.parametrize("make", [str, Name, lambda said: said.encode()], ids=["str", "subclass", "bytes"])
def test_of_a_long_key_both_ends_are_kept(length: int, make: Callable[[str], Any]) -> None:
    (name,) = plain({make("begin" + "k" * length + "_token"): 1})
    assert name.startswith("begin")
    assert name.endswith("_token")
    assert len(name) < 300


def test_the_documentation_s_table_of_values_has_a_row_for_each_of_these() -> None:
    from fapilog import encoding

    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", encoding.__doc__ or "", re.MULTILINE)
    said = " ".join(row for row, _ in rows)
    values = ["str", "int", "float", "bool", "None", "Enum", "datetime", "date", "time", "UUID", "Decimal", "Path"]
    values += ["bytes", "set", "dataclass", "attrs", "pydantic", "exception", "lazy", "serializer"]
    values += ["numpy", "pandas", "polars", "scipy", "torch"]
    assert [word for word in values if word not in said] == []


def test_a_container_that_another_thread_changes_is_shown_as_it_was_at_one_moment() -> None:
    shared: dict[int, Any] = {number: object() for number in range(50)}
    items: collections.deque[Any] = collections.deque(object() for _ in range(50))
    over = threading.Event()

    def change() -> None:
        number = 50
        while not over.is_set():
            shared[number] = shared.pop(number - 50)
            items.append(items.popleft())
            number += 1

    changing = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    changing.start()
    try:
        made = [plain([shared, items]) for _ in range(300)]
    finally:
        sys.setswitchinterval(interval)
        over.set()
        changing.join()
    assert [each for each in made if "<unprintable d" in str(each)] == []
