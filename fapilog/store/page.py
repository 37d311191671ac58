"""One page of records, in whichever shape the caller works with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fapilog.errors import MissingPackageError
from fapilog.store.models import LogRecord
from fapilog.store.schema import COLUMNS

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


@dataclass(frozen=True)
class Page:
    """Records in the order that was asked for. Iterate over it, or take all of it as dicts, Arrow, pandas or polars.

    Arrow and data frames have the columns of the view `logs`, `exception` and `fields` as JSON, and times in UTC.
    """

    records: list[LogRecord]

    next_cursor: str | None = None
    """Where the next page begins, for `LogQuery.cursor`; None if there is no other."""

    warnings: tuple[str, ...] = ()
    """What had to be left out, such as a damaged file, and what may be wrong in a query that found nothing."""

    def __iter__(self) -> Iterator[LogRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def dicts(self) -> list[dict[str, Any]]:
        """The records as they were logged, see `LogRecord.flat`."""
        return [record.flat() for record in self.records]

    def arrow(self) -> "pyarrow.Table":
        """The records as an Arrow table.

        Raises:
            MissingPackageError: pyarrow is not installed.
        """
        try:
            import pyarrow  # noqa: PLC0415 - most do without
        except ImportError as error:
            raise MissingPackageError("a page as Arrow", package="pyarrow") from error
        schema = pyarrow.schema([(name, getattr(pyarrow, kind[0])(*kind[1:])) for name, kind in _ARROW.items()])
        return pyarrow.Table.from_pylist(self._rows(), schema=schema)

    def df(self) -> "pandas.DataFrame":
        """The records as a data frame of pandas.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415 - as above
        except ImportError as error:
            raise MissingPackageError("a page as a data frame of pandas", package="pandas") from error
        rows = self._rows()
        return pandas.DataFrame(
            {name: pandas.array([row[name] for row in rows], dtype=kind) for name, kind in _PANDAS.items()}
        )

    def pl(self) -> "polars.DataFrame":
        """The records as a data frame of polars.

        Raises:
            MissingPackageError: polars is not installed.
        """
        try:
            import polars  # noqa: PLC0415 - as above
        except ImportError as error:
            raise MissingPackageError("a page as a data frame of polars", package="polars") from error
        kinds = {
            "TIMESTAMP": polars.Datetime("us"),
            "SMALLINT": polars.Int16(),
            "BIGINT": polars.Int64(),
            "DOUBLE": polars.Float64(),
        }
        schema = {name: kinds.get(kind, polars.String()) for name, kind in _COLUMNS.items()}
        return polars.DataFrame(self._rows(), schema=schema)

    def _rows(self) -> list[dict[str, Any]]:
        return [record.row() for record in self.records]


_COLUMNS: Final = {**{column.name: column.type for column in COLUMNS}, "fields": "JSON"}
_ARROW: Final = {
    name: {"TIMESTAMP": ("timestamp", "us"), "SMALLINT": ("int16",), "BIGINT": ("int64",), "DOUBLE": ("float64",)}.get(
        kind, ("string",)
    )
    for name, kind in _COLUMNS.items()
}
_PANDAS: Final = {
    name: {"TIMESTAMP": "datetime64[us]", "SMALLINT": "Int16", "BIGINT": "Int64", "DOUBLE": "Float64"}.get(kind, "str")
    for name, kind in _COLUMNS.items()
}
