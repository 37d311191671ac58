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


def hides_itself(kind: type) -> bool:
    """Tell whether the text of an instance is a secret that its repr hides, as with Starlette's Secret."""
    return any(_NAME(base) == "Secret" and _MODULE(base) == "starlette.datastructures" for base in _MRO(kind))


def _numpy(value: Any, kind: type, max_items: int) -> Any:
    dtype = getattr(value, "dtype", None)
    if dtype is None or not hasattr(value, "tolist"):
        return UNKNOWN
    if value.size > max_items:
        return f"<{kind.__name__} {dtype} {tuple(value.shape)}>"
    if dtype.kind in "mM":
        missing = value != value  # noqa: PLR0124 - as NaN, NaT is not itself
        if missing.any():
            return list(value) if value.ndim else NOTHING
        # Nanoseconds would come out as a bare number.
        return value.astype(str).tolist() if dtype.kind == "M" else value.astype("m8[us]").tolist()
    unpacked = value.tolist()
    if dtype.names:
        return _named(unpacked, dtype)
    return UNKNOWN if type(unpacked) is kind else unpacked


def _named(unpacked: Any, dtype: Any) -> Any:
    """Return what a structured array holds, with the names of its fields."""
    if dtype.names and type(unpacked) is tuple:
        fields = zip(dtype.names, unpacked, strict=True)
        return {name: _named(item, dtype[name].base) for name, item in fields}
    return [_named(item, dtype) for item in unpacked] if type(unpacked) is list else unpacked


def _pandas(value: Any, kind: type, _max_items: int) -> Any:
    if kind.__name__ == "NAType":
        return NOTHING
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        rows = value.shape[0]
        seen = value.iloc[:, :MAX_COLUMNS]
        names = _distinct(seen.columns.tolist())
        dtypes = dict(zip(names, map(str, seen.dtypes.tolist()), strict=True))
        edges = _edges(rows)
        rows_shown = seen.iloc[edges].to_numpy(dtype=object).tolist() if edges else []
        shown = [dict(zip(names, row, strict=True)) for row in rows_shown]
        over = seen.columns.names
        head, tail = _labelled(value.index[edges], [_under(over, row) for row in shown])
        made = _frame(kind, value.shape, dtypes, head, tail)
        made["dtypes"] = _under(over, made["dtypes"])
        return made
    if hasattr(kind, "__array__") and value.ndim == 1:  # not a GroupBy, which would begin to work
        by_position = getattr(value, "iloc", value)
        edges = _edges(len(value))
        items = [by_position[at] for at in edges]
        names = list(getattr(value, "names", ()))
        if len(names) > 1:  # an index of several levels
            items = [dict(zip(_distinct(names), item, strict=True)) for item in items]
        head, tail = _labelled(value.index[edges], items) if hasattr(value, "iloc") else _ends(items)
        return _series(kind, getattr(value, "name", None), value.dtype, len(value), head, tail)
    return UNKNOWN


def _polars(value: Any, kind: type, _max_items: int) -> Any:
    if kind.__name__ == "LazyFrame":
        return "<LazyFrame, not collected>"
    if hasattr(value, "columns") and hasattr(value, "schema"):
        rows, columns = value.shape
        seen = value if columns <= MAX_COLUMNS else value[:, :MAX_COLUMNS]
        dtypes = dict(zip(seen.columns, map(str, seen.dtypes), strict=True))
        shown = [dict(zip(seen.columns, seen.row(at), strict=True)) for at in _edges(rows)]
        return _frame(kind, value.shape, dtypes, *_ends(shown))
    if hasattr(value, "dtype") and hasattr(value, "name") and hasattr(value, "len"):
        return _series(kind, value.name, value.dtype, len(value), *_ends([value[at] for at in _edges(len(value))]))
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


def _frame(kind: type, shape: Iterable[int], dtypes: dict[str, str], head: Any, tail: Any) -> dict[str, Any]:
    rows, columns = shape
    if columns > len(dtypes):
        dtypes["_more_keys"] = columns - len(dtypes)  # type: ignore[assignment]  # a number among names of types
    return {
        "type": kind.__name__,
        "shape": [rows, columns],
        "dtypes": dtypes,
        "head": head,
        "tail": tail,
    }


def _series(kind: type, name: Any, dtype: Any, length: int, head: Any, tail: Any) -> dict[str, Any]:
    return {
        "type": kind.__name__,
        "name": name,
        "shape": [length],
        "dtype": str(dtype),
        "head": head,
        "tail": tail,
    }


def _ends(items: list[Any]) -> tuple[list[Any], list[Any]]:
    return items[:EDGE_ROWS], items[EDGE_ROWS:]


def _labelled(index: Any, items: list[Any]) -> tuple[Any, Any]:
    """Return the first and the last items of what pandas holds: under their labels if these are names, else in lists.

    A label may be the only thing that says what an item is, and the name of the index what the labels are.
    """
    labels = index.tolist()
    if not any(type(part) is str for label in labels for part in (label if type(label) is tuple else (label,))):
        return _ends(items)
    said = dict(zip(_distinct(labels), items, strict=True))
    head, tail = _ends(list(said.items()))
    return _under(index.names, dict(head)), _under(index.names, dict(tail))


def _under(names: Iterable[Any], labelled: dict[str, Any]) -> dict[str, Any]:
    """Put what stands under labels under the names of these labels, if they have any."""
    for name in reversed([str(each) for each in names if each is not None]):
        labelled = {name: labelled} if labelled else labelled
    return labelled


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
