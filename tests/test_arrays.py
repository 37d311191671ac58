import datetime
from collections.abc import Callable
from typing import Any

import numpy
import pandas
import polars
import pytest
import scipy.sparse

from fapilog import log
from fapilog.arrays import MAX_COLUMNS
from fapilog.encoding import Limits, encode, plain, plain_fields
from fapilog.processors.redact import Redact
from fapilog.testing import capture
from tests.programs import parse


class Device:
    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


class Tensor:
    """Has of torch's Tensor what is read of it, and its module's name."""

    def __init__(self, items: Any, shape: tuple[int, ...], device: str = "cpu", layout: str = "torch.strided") -> None:
        self._items = items
        self.shape = shape
        self.dtype = Device("torch.float32")
        self.device = Device(device)
        self.layout = Device(layout)
        self.requires_grad = True
        self.asked = 0

    def numel(self) -> int:
        product = 1
        for length in self.shape:
            product *= length
        return product

    def tolist(self) -> Any:
        self.asked += 1
        return self._items

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Any:
        raise AssertionError("a tensor is not iterated")

    def __bool__(self) -> bool:
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")

    def __str__(self) -> str:
        raise AssertionError("what is on a device would have to be waited for")


Tensor.__module__ = "torch"


class Parameter(Tensor):
    __module__ = "my.network"


FRAME = pandas.DataFrame(
    {"name": [f"n{row}" for row in range(100)], "password": ["canary"] * 100, "price": [row / 2 for row in range(100)]}
)
POLARS = polars.DataFrame({"name": [f"n{row}" for row in range(100)], "price": [row / 2 for row in range(100)]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (numpy.float64(1.5), 1.5),
        (numpy.float32(0.5), 0.5),
        (numpy.float64("nan"), None),
        (numpy.int8(-3), -3),
        (numpy.uint64(2**64 - 1), 2**64 - 1),
        (numpy.bool_(False), False),
        (numpy.str_("said"), "said"),
        (numpy.bytes_(b"said"), "said"),
        (numpy.complex128(1 + 2j), "(1+2j)"),
        (numpy.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
        (numpy.datetime64("NaT", "s"), None),
        (numpy.timedelta64("NaT", "s"), None),
        (numpy.array([["2026-01-02", "NaT"]], dtype="M8[D]"), [["2026-01-02", None]]),
        (numpy.timedelta64(5, "s"), 5.0),
        (numpy.array([numpy.timedelta64(1_500, "ms"), numpy.timedelta64("NaT", "ms")]), [1.5, None]),
        (numpy.array(7), 7),
        (numpy.array([]), []),
        (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (numpy.array([1.5, float("inf")]), [1.5, None]),
        (numpy.array(["2026-01-02"], dtype="M8[D]"), ["2026-01-02"]),
        (numpy.array([{"a": 1}, None], dtype=object), [{"a": 1}, None]),
        (numpy.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]), [{"a": 1, "b": 2.5}]),
        (numpy.array([(1, ("x",))], dtype=[("a", "i4"), ("n", [("b", "U1")])])[0], {"a": 1, "n": {"b": "x"}}),
        (pandas.DataFrame({"a": [1]}).to_records(), [{"index": 0, "a": 1}]),
        (numpy.ma.masked_array([1, 2], mask=[True, False]), [None, 2]),
        (numpy.zeros((1000, 50)), "<ndarray float64 (1000, 50)>"),
        (numpy.zeros(1_001, dtype="i2"), "<ndarray int16 (1001,)>"),
        (numpy.dtype("f8"), "float64"),
        (pandas.Timestamp("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05+00:00"),
        (pandas.Timedelta(minutes=1), 60.0),
        (pandas.NaT, None),
        (pandas.NA, None),
        (pandas.Interval(0, 1), "(0, 1]"),
        (pandas.Period("2026-01", freq="M"), "2026-01"),
        (
            pandas.Series([1, None], name="price"),
            {"type": "Series", "name": "price", "shape": [2], "dtype": "float64", "head": [1.0, None], "tail": []},
        ),
        (
            pandas.Index(["a", "b"]).astype(object),
            {"type": "Index", "name": None, "shape": [2], "dtype": "object", "head": ["a", "b"], "tail": []},
        ),
        (
            pandas.Categorical(["a", "b"]),
            {"type": "Categorical", "name": None, "shape": [2], "dtype": "category", "head": ["a", "b"], "tail": []},
        ),
        (
            pandas.DataFrame(),
            {"type": "DataFrame", "shape": [0, 0], "dtypes": {}, "head": [], "tail": []},
        ),
        (polars.DataFrame(), {"type": "DataFrame", "shape": [0, 0], "dtypes": {}, "head": [], "tail": []}),
        (
            polars.Series("when", [datetime.date(2026, 1, 2)] * 7),
            {
                "type": "Series", "name": "when", "shape": [7], "dtype": "Date", "head": ["2026-01-02"] * 5,
                "tail": ["2026-01-02"] * 2,
            },
        ),
        (polars.Series("nested", [[1], None]), {
            "type": "Series", "name": "nested", "shape": [2], "dtype": "List(Int64)", "tail": [],
            "head": [{"type": "Series", "name": "", "shape": [1], "dtype": "Int64", "head": [1], "tail": []}, None],
        }),
        (POLARS.lazy(), "<LazyFrame, not collected>"),
        (
            scipy.sparse.csr_matrix(numpy.eye(3)),
            {"type": "csr_matrix", "shape": [3, 3], "dtype": "float64", "nnz": 3},
        ),
        (
            scipy.sparse.coo_array(numpy.eye(2, dtype="i4")),
            {"type": "coo_array", "shape": [2, 2], "dtype": "int32", "nnz": 2},
        ),
        (Tensor([[1.0, 2.0]], (1, 2)), [[1.0, 2.0]]),
        (Parameter([float("nan")], (1,)), [None]),
        (Tensor(2.5, ()), 2.5),
        (Tensor([], (64, 3, 224)), "<Tensor float32 (64, 3, 224) cpu>"),
        (Tensor([1.0], (1,), "cuda:0"), "<Tensor float32 (1,) cuda:0>"),
        (Parameter([1.0], (1,), layout="torch.sparse_coo"), "<Parameter float32 (1,) cpu>"),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__qualname__}",
)  # fmt: skip
def test_an_array_becomes_what_the_table_says(value: Any, expected: Any) -> None:
    made = plain(value)
    assert (made, type(made)) == (expected, type(expected))
    assert parse(encode({"value": made}) + b"\n") == {"value": expected}


def test_a_frame_of_pandas_is_its_shape_its_types_its_head_and_its_tail() -> None:
    with capture() as logged:
        log.info("loaded", frame=FRAME)
        shown = logged.find(event="loaded")["frame"]
    assert {name: shown[name] for name in ("type", "shape")} == {"type": "DataFrame", "shape": [100, 3]}
    assert list(shown["dtypes"]) == ["name", "password", "price"]
    assert [row["name"] for row in shown["head"]] == [f"n{row}" for row in range(5)]
    assert [row["price"] for row in shown["tail"]] == [47.5, 48.0, 48.5, 49.0, 49.5]
    assert {row["password"] for row in (*shown["head"], *shown["tail"])} == {"REDACTED"}


def test_a_frame_of_polars_is_its_shape_its_types_its_head_and_its_tail() -> None:
    shown = plain(POLARS)
    assert shown["dtypes"] == {"name": "String", "price": "Float64"}
    assert (shown["shape"], shown["head"][0], shown["tail"][-1]) == (
        [100, 2], {"name": "n0", "price": 0.0}, {"name": "n99", "price": 49.5}
    )  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda: pandas.DataFrame(numpy.zeros((20, 500))),
        lambda: polars.DataFrame({f"c{number}": [0.0] * 20 for number in range(500)}),
    ],
)
def test_of_a_wide_frame_some_columns_are_shown_and_the_rest_is_counted(make: Callable[[], Any]) -> None:
    shown = plain(make())
    assert shown["shape"] == [20, 500]
    assert shown["dtypes"].pop("_more_keys") == 500 - MAX_COLUMNS
    assert len(shown["dtypes"]) == len(shown["head"][0]) == len(shown["tail"][4]) == MAX_COLUMNS


def test_a_frame_that_is_grouped_is_not_worked_on() -> None:
    grouped = FRAME.groupby("name")
    assert plain(grouped["price"]).startswith("<pandas.")
    assert plain(grouped).startswith("<pandas.")


def test_columns_of_one_name_are_kept_apart() -> None:
    frame = pandas.DataFrame([[1, 2, 3]], columns=["a", "a", 1])
    assert plain(frame)["head"] == [{"a": 1, "a_": 2, "1": 3}]


def test_columns_and_rows_of_several_levels_are_text() -> None:
    columns = pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    assert plain(pandas.DataFrame([[1, 2]], columns=columns))["head"] == [{"('a', 1)": 1, "('b', 2)": 2}]


def test_what_is_missing_is_null_and_noted() -> None:
    noted = plain_fields({"a": pandas.NA, "b": [pandas.NaT], "c": numpy.float32("nan"), "d": numpy.array([-numpy.inf])})
    noted_by_numpy = plain_fields({"a": numpy.datetime64("NaT"), "b": numpy.array(["NaT", "2026"], dtype="M8[Y]")})
    assert noted_by_numpy == {"a": None, "b": [None, "2026"], "_coerced": {"a": "NaT", "b.0": "NaT"}}
    assert noted == {
        "a": None, "b": [None], "c": None, "d": [None],
        "_coerced": {"a": "<NA>", "b.0": "NaT", "c": "NaN", "d.0": "-Infinity"},
    }  # fmt: skip


def test_up_to_how_many_items_an_array_is_shown_is_settable() -> None:
    assert plain(numpy.zeros(5), Limits(items=4)) == "<ndarray float64 (5,)>"
    assert plain(numpy.zeros(2_000), Limits(items=2_000)) == [0.0] * 2_000


def test_what_a_device_holds_is_not_fetched() -> None:
    tensor = Tensor([1.0], (1,), "cuda:0")
    plain(tensor)
    assert tensor.asked == 0


def test_an_array_that_fails_costs_itself_alone() -> None:
    class Broken(numpy.ndarray[Any, Any]):
        def tolist(self) -> Any:
            raise SystemExit

    with capture() as logged:
        log.info("x", broken=numpy.zeros(2).view(Broken), kept=1)
        assert logged.find(event="x", kept=1)["broken"].endswith("Broken: SystemExit>")


def test_a_class_is_known_by_what_it_inherits_and_not_by_what_it_says() -> None:
    class Lying:
        __module__ = 5  # type: ignore[assignment]

        def __str__(self) -> str:
            return "said"

    assert plain(Lying()) == "said"


class QuerySet:
    """Asks a database whenever it is looked at, as Django's does."""

    asked = 0

    def _ask(self, *_: object) -> Any:
        type(self).asked += 1
        return iter([])

    __iter__ = __len__ = __getitem__ = __bool__ = __repr__ = __str__ = __contains__ = _ask


class OrderQuerySet(QuerySet):
    pass


def test_a_query_is_not_run() -> None:
    with capture() as logged:
        log.info("x", orders=OrderQuerySet(), all=[QuerySet()])
        logged.find(event="x", orders="<OrderQuerySet>", all=["<QuerySet>"])
    assert QuerySet.asked + OrderQuerySet.asked == 0


def test_rows_and_items_keep_labels_that_are_names() -> None:
    frame = pandas.DataFrame({"user": ["ann"], "age": [7]})
    assert plain(frame.iloc[0])["head"] == {"user": "ann", "age": 7}
    assert plain(frame.T)["head"] == {"user": {"0": "ann"}, "age": {"0": 7}}
    assert plain(frame.set_index("user"))["head"] == {"user": {"ann": {"age": 7}}}
    assert plain(pandas.Series(range(7), index=list("aabcdef")))["tail"] == {"e": 5, "f": 6}
    assert plain(pandas.Series([1, 2], index=["a", "a"]))["head"] == {"a": 1, "a_": 2}
    assert plain(pandas.Series([1, 2], index=[7, 8]))["head"] == [1, 2]


CANARY_FRAME = pandas.DataFrame({"user": ["ann"], "password": ["canary"]})


@pytest.mark.parametrize(
    "value",
    [
        CANARY_FRAME["password"],
        CANARY_FRAME.iloc[0],
        pandas.Series({"password": "canary"}),
        CANARY_FRAME.T,
        CANARY_FRAME.T[0],
        CANARY_FRAME.melt(),
        CANARY_FRAME.to_records(),
        CANARY_FRAME.to_records()[0],
        CANARY_FRAME.set_index("password"),
        CANARY_FRAME.set_index("password").T,
        CANARY_FRAME.set_index(["user", "password"]).index,
        CANARY_FRAME["password"].value_counts(),
        pandas.DataFrame([["canary"]], columns=pandas.MultiIndex.from_tuples([("a", "password")])).T,
        pandas.Index(["canary"], name="password"),
        polars.Series("password", ["canary"]),
        polars.DataFrame({"password": [["canary"]]}),
        numpy.array([("ann", "canary")], dtype=[("user", "U8"), ("password", "U8")]),
    ],
    ids=range(17),
)
def test_a_secret_is_seen_wherever_its_name_stands(value: Any) -> None:
    assert "canary" in str(value)
    assert "canary" not in str(Redact()(None, "", plain_fields({"value": value})))
