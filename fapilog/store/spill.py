"""Run DuckDB as whoever writes to the store does: on one thread, in little memory, sorting on disk beyond it."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb

from fapilog.store.view import CONFIG

MEMORY_LIMIT: Final = "160MB"
_SPILL: Final = "spill.tmp"


@contextlib.contextmanager
def connect(store: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that may use *memory_limit* and, for the holder of its lock, the directory *store*."""
    spill = store / _SPILL
    shutil.rmtree(spill, ignore_errors=True)
    config = CONFIG | {"memory_limit": memory_limit, "temp_directory": str(spill)}
    try:
        with duckdb.connect(":memory:", config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")  # it would write to our stdout
            yield connection
    finally:
        shutil.rmtree(spill, ignore_errors=True)
