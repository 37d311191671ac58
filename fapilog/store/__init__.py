"""Read the embedded store: a directory of segments and Parquet files, through DuckDB.

::

    <path>/
        logs.duckdb             the view `logs`, for any DuckDB shell: duckdb -readonly logs/logs.duckdb
        manifest.json           which Parquet files count, and which segments are in them or gone
        deleted.jsonl           what left the store because of its bounds
        rejected.jsonl          lines of segments that were no records
        reserve                 room for the next manifest, should the disk be full
        store.lock              held by whoever changes the manifest
        segments/
            0.lock              slot 0, held by the process that writes in it
            0-17.jsonl          what that process appends to
        parquet/date=2026-11-20/
            20261120T084953-1f0c9a52.parquet    records of that day, newest first

Times in `logs` have no zone and are in UTC: in a shell, ``SET TimeZone = 'UTC'`` before comparing them with ``now()``.
``logs.duckdb`` is there from the first compaction on, and names its files by their absolute paths: where the store was
moved or is mounted elsewhere, `LogStore` still reads it and the next compaction mends the view.

`LogStore` loads DuckDB when it is first named. So do the modules `query`, `compact`, `parquet`, `spill`,
`view` and `rebuild`; those that a process needs which writes never do.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fapilog.store.fingerprint import ErrorGroup
    from fapilog.store.models import LogQuery, LogRecord
    from fapilog.store.page import Page
    from fapilog.store.query import LogStore
    from fapilog.store.sandbox import SandboxAnswer, SandboxLimits, SandboxQuery
    from fapilog.store.statistics import Statistics
    from fapilog.store.traces import Span, Trace

__all__ = [
    "ErrorGroup",
    "LogQuery",
    "LogRecord",
    "LogStore",
    "Page",
    "SandboxAnswer",
    "SandboxLimits",
    "SandboxQuery",
    "Span",
    "Statistics",
    "Trace",
]

_MODULES = {
    "ErrorGroup": "fingerprint",
    "LogQuery": "models",
    "LogRecord": "models",
    "LogStore": "query",
    "Page": "page",
    "SandboxAnswer": "sandbox",
    "SandboxLimits": "sandbox",
    "SandboxQuery": "sandbox",
    "Span": "traces",
    "Statistics": "statistics",
    "Trace": "traces",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:  # a process that only writes must not load DuckDB
        return getattr(importlib.import_module(f"fapilog.store.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
