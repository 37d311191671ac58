"""Say in few values what an array, a frame, a series, a sparse matrix or a tensor holds.

numpy, pandas, polars, scipy and torch are known by the name of the module a class comes from, so that none of them is
ever imported here. What is returned may hold anything; `fapilog.encoding` makes it plain.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

EDGE_ROWS: Final = 5
"""How many rows or items of a frame or series are shown from each end."""

MAX_COLUMNS: Final = 20
"""How many columns of a frame are shown."""

UNKNOWN: Final = object()
"""Returned for what is none of these."""

NOTHING: Final = object()
"""Returned for what stands for no value, such as ``pandas.NA``."""

# Read past a metaclass, whose own attributes of these names may do anything.
_MRO: Final = type.__dict__["__mro__"].__get__
_MODULE: Final = type.__dict__["__module__"].__get__
_NAME: Final = type.__dict__["__name__"].__get__


def summary(value: Any, kind: type, max_items: int) -> Any:
    """Return what *value* becomes, or `UNKNOWN`; arrays and tensors of up to *max_items* items as nested lists."""
    for base in _MRO(kind):
        module = _MODULE(base)
        if type(module) is str:
            family = _FAMILIES.get(module.partition(".")[0])
            if family is not None:
                return family(value, kind, max_items)
    return UNKNOWN


def is_query(kind: type) -> bool:
    """Tell whether asking an instance for its items or its text would ask a database, as with Django's QuerySet."""
    return any(_NAME(base).endswith("QuerySet") or _MODULE(base) == "django.db.models.query" for base in _MRO(kind))


def _numpy(value: Any, kind: type, max_items: int) -> Any:
    dtype = getattr(value, "dtype", None)
    if dtype is None or not hasattr(value, "tolist"):
        return UNKNOWN
    if value.size > max_items:
        return f"<{kind.__name__} {dtype} {tuple(value.shape)}>"
    if dtype.kind == "M":  # nanoseconds would come out as a bare number
        return value.astype(str).tolist()
    if dtype.kind == "m":
        return value.astype("m8[us]").tolist()
    unpacked = value.tolist()
    return UNKNOWN if type(unpacked) is kind else unpacked


def _pandas(value: Any, kind: type, _max_items: int) -> Any:
    if kind.__name__ == "NAType":
        return NOTHING
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        rows = value.shape[0]
        seen = value.iloc[:, :MAX_COLUMNS]
        names = _distinct(seen.columns.tolist())
        dtypes = dict(zip(names, map(str, seen.dtypes.tolist()), strict=True))
        edges = _edges(rows)
        shown = seen.iloc[edges].to_numpy(dtype=object).tolist() if edges else []
        return _frame(kind, value.shape, dtypes, [dict(zip(names, row, strict=True)) for row in shown])
    if hasattr(kind, "__array__") and value.ndim == 1:  # not a GroupBy, which would begin to work
        by_position = getattr(value, "iloc", value)
        items = [by_position[at] for at in _edges(len(value))]
        return _series(kind, getattr(value, "name", None), value.dtype, len(value), items)
    return UNKNOWN


def _polars(value: Any, kind: type, _max_items: int) -> Any:
    if kind.__name__ == "LazyFrame":
        return "<LazyFrame, not collected>"
    if hasattr(value, "columns") and hasattr(value, "schema"):
        rows, columns = value.shape
        seen = value if columns <= MAX_COLUMNS else value[:, :MAX_COLUMNS]
        dtypes = dict(zip(seen.columns, map(str, seen.dtypes), strict=True))
        shown = [dict(zip(seen.columns, seen.row(at), strict=True)) for at in _edges(rows)]
        return _frame(kind, value.shape, dtypes, shown)
    if hasattr(value, "dtype") and hasattr(value, "name") and hasattr(value, "len"):
        return _series(kind, value.name, value.dtype, len(value), [value[at] for at in _edges(len(value))])
    return UNKNOWN


def _scipy(value: Any, kind: type, _max_items: int) -> Any:
    if not hasattr(value, "nnz") or not hasattr(value, "dtype"):
        return UNKNOWN
    return {"type": kind.__name__, "shape": list(value.shape), "dtype": str(value.dtype), "nnz": int(value.nnz)}


def _torch(value: Any, kind: type, max_items: int) -> Any:
    if not hasattr(value, "numel") or not hasattr(value, "device"):
        return UNKNOWN
    # What is elsewhere would have to be waited for.
    if value.numel() <= max_items and str(value.device) == "cpu" and str(value.layout) == "torch.strided":
        return value.tolist()
    dtype = str(value.dtype).removeprefix("torch.")
    return f"<{kind.__name__} {dtype} {tuple(value.shape)} {value.device}>"


def _frame(kind: type, shape: Iterable[int], dtypes: dict[str, str], shown: list[dict[str, Any]]) -> dict[str, Any]:
    rows, columns = shape
    if columns > len(dtypes):
        dtypes["_more_keys"] = columns - len(dtypes)  # type: ignore[assignment]  # a number among names of types
    return {
        "type": kind.__name__,
        "shape": [rows, columns],
        "dtypes": dtypes,
        "head": shown[:EDGE_ROWS],
        "tail": shown[EDGE_ROWS:],
    }


def _series(kind: type, name: Any, dtype: Any, length: int, items: list[Any]) -> dict[str, Any]:
    return {
        "type": kind.__name__,
        "name": name,
        "shape": [length],
        "dtype": str(dtype),
        "head": items[:EDGE_ROWS],
        "tail": items[EDGE_ROWS:],
    }


def _edges(rows: int) -> list[int]:
    """Return the positions of the first and the last rows, none twice."""
    return [*range(min(rows, EDGE_ROWS)), *range(max(rows - EDGE_ROWS, EDGE_ROWS), rows)]


def _distinct(labels: Iterable[Any]) -> list[str]:
    """Return labels of columns as texts, no two the same."""
    names: list[str] = []
    for label in labels:
        name = str(label)
        while name in names:
            name += "_"
        names.append(name)
    return names


_FAMILIES: Final[dict[str, Callable[[Any, type, int], Any]]] = {
    "numpy": _numpy,
    "pandas": _pandas,
    "polars": _polars,
    "scipy": _scipy,
    "torch": _torch,
}
