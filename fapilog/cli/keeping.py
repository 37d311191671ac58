"""Commands that look after the store."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from fapilog.cli.options import as_json, store_path
from fapilog.cli.terminal import FAILED, coloured, count, paint, progress, say


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


@click.command(short_help="check everything in the store, to the last value")
@as_json
@store_path
def verify(path: Path, as_json: bool) -> int:
    """Check the manifest, every Parquet file, segment and count, and say what is wrong.

    Nothing is changed; services may write and compaction may run meanwhile. Ends with 1 if something is wrong. A note
    is what a killed process may leave: it costs no whole record and mends itself.
    """
    from fapilog.store.output import printable  # noqa: PLC0415 - as above
    from fapilog.store.verify import verify as run  # noqa: PLC0415 - as above

    with progress("verifying") as update:
        result = run(path, progress=update)
    if as_json:
        sys.stdout.write(json.dumps(asdict(result) | {"ok": result.ok}, ensure_ascii=False) + "\n")
        return 0 if result.ok else FAILED
    colour = coloured(sys.stdout)
    for findings, word, code in ((result.problems, "wrong", "red"), (result.notes, "note", "yellow")):
        for finding in findings:
            sys.stdout.write(f"{paint(word, code, colour=colour)}: {printable(f'{finding.path}: {finding.problem}')}\n")
    files = f"{count(result.parquet_files, 'Parquet file')} and {count(result.segments, 'segment')}"
    sys.stdout.write(
        f"{count(result.records, 'record')} in {files}, {result.size_bytes / 1e6:.1f} MB: "
        + (paint("sound", "green", colour=colour) if result.ok else count(len(result.problems), "problem"))
        + "\n"
    )
    return 0 if result.ok else FAILED
