"""Read the embedded store: a directory of segments and Parquet files, through DuckDB.

`docs/store.md` shows what is in it.

Times in `logs` have no zone and are in UTC: in a shell, ``SET TimeZone = 'UTC'`` before comparing them with ``now()``.
``logs.duckdb`` is there from the first compaction on, and names its files by their absolute paths: where the store was
moved or is mounted elsewhere, `LogStore` still reads it and the next compaction mends the view.

`LogStore` loads DuckDB when it is first named. So do the modules `query`, `compact` and `rebuild`; the others never do.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fapilog.store.query import LogStore

__all__ = ["LogStore"]


def __getattr__(name: str) -> Any:
    if name == "LogStore":
        from fapilog.store.query import LogStore  # noqa: PLC0415 - a process that only writes must not load DuckDB

        return LogStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
