"""Read the embedded store: a directory of segments and Parquet files, through DuckDB.

`docs/store.md` shows what is in it.

Times in `logs` have no zone and are in UTC: in a shell, ``SET TimeZone = 'UTC'`` before comparing them with ``now()``.
``logs.duckdb`` is there from the first compaction on, and names its files by their absolute paths: where the store was
moved or is mounted elsewhere, `LogStore` still reads it and the next compaction mends the view.

`LogStore` loads DuckDB when it is first named. So do the modules `query`, `compact` and `rebuild`; the others never do.
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
