"""Write ``logs.duckdb``, in which any DuckDB shell finds the view `logs`."""

import glob
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from fapilog.files.lock import PRIVATE_FILE
from fapilog.store.manifest import DATABASE, EMPTY_SEGMENT, MANIFEST, SEGMENTS, Manifest, replace_file
from fapilog.store.reserve import is_full
from fapilog.store.schema import (
    VIEW_LINE_BYTES,
    file_literal,
    lines_query,
    literal,
    live_query,
    logs_query,
    parquet_query,
)

CONFIG: Final[dict[str, Any]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "threads": 1,
}
"""How whoever writes to the store runs DuckDB."""


def write_view(store: Path, manifest: Manifest, parquet: Sequence[Path]) -> None:
    """Put a new ``logs.duckdb`` in place of the old, so that any DuckDB shell finds the view `logs` in it.

    The view names the *parquet* files, which can all be read, and finds segments by itself. Opened before the swap,
    it goes on working for the grace period; after that it fails, rather than leave out what it no longer finds.
    """
    segments = store / SEGMENTS
    (segments / EMPTY_SEGMENT).touch(mode=PRIVATE_FILE)  # a pattern that matches no file is an error to DuckDB
    left_out = [Path(entry.name).name for entry in manifest.retired if entry.name.startswith(f"{SEGMENTS}/")]
    names = ", ".join(map(literal, [EMPTY_SEGMENT, *left_out]))
    pattern = literal(f"{glob.escape(str(segments))}/*.jsonl")
    every = lines_query(pattern, max_line_bytes=VIEW_LINE_BYTES)
    lines = f"SELECT json FROM ({every}) WHERE parse_filename(filename) NOT IN ({names}) "  # noqa: S608 - quoted
    lines += r"AND regexp_full_match(parse_filename(filename), '\d+-\d+\.jsonl')"  # no file of another version
    sources = [parquet_query(parquet)] if parquet else []
    logs = logs_query([*sources, live_query(lines)])
    fresh = (
        f"SELECT CASE WHEN count(*) = 0 THEN error('the manifest is missing; run fapilog compact') "  # noqa: S608 - quoted
        f"WHEN max(CAST(content->>'oldest_view' AS BIGINT)) <= {manifest.generation} THEN true ELSE "
        f"error('the store was compacted since this view was opened; open logs.duckdb again') END "
        f"FROM read_text({file_literal(store / MANIFEST)})"
    )
    # Not beside the old one, as DuckDB makes something of its own of a ? in the path of a database.
    with tempfile.TemporaryDirectory(prefix="fapilog-") as directory:
        path = Path(directory) / DATABASE
        with duckdb.connect(str(path), config=CONFIG) as database:
            database.execute(f"CREATE VIEW logs AS SELECT * FROM ({logs}) WHERE ({fresh})")  # noqa: S608 - quoted
        content = path.read_bytes()
    try:
        replace_file(store / DATABASE, content)
    except OSError as error:
        if not is_full(error):
            raise
        (store / DATABASE).unlink(missing_ok=True)  # it makes room for the new one
        replace_file(store / DATABASE, content)
