"""Commands that look after the store."""

import sys
from pathlib import Path

import click

from fapilog.cli.options import store_path
from fapilog.cli.terminal import FAILED, count, say


@click.command(short_help="turn closed segments into Parquet")
@store_path
def compact(path: Path) -> int:
    """Turn the segments that no process writes to any more into Parquet, and renew logs.duckdb.

    Parquet is smaller and quicker to query. Services may write meanwhile, and queries run.
    """
    from fapilog.store.compact import compact as run  # noqa: PLC0415 - other commands do without DuckDB

    result = run(path)
    if not result.ran:
        say("another process is compacting this store; nothing was done")
        return 0
    sys.stdout.write(
        f"{count(result.segments, 'segment')} with {count(result.records, 'record')} became Parquet: "
        f"{result.segment_bytes / 1e6:.1f} MB to {result.parquet_bytes / 1e6:.1f} MB\n"
    )
    if result.skipped_lines == 1:
        sys.stdout.write("1 line was no record and was skipped\n")
    elif result.skipped_lines:
        sys.stdout.write(f"{result.skipped_lines} lines were no records and were skipped\n")
    for problem in result.problems:
        say(problem)
    return FAILED if result.problems else 0
