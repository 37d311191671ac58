"""Commands that look after the store."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from fapilog.cli.options import Pair, as_json, store_path
from fapilog.cli.terminal import FAILED, count, paint, progress, say, screen, size
from fapilog.errors import ConfigurationError
from fapilog.types import LEVELS

_LOOK_SECONDS: Final = 0.3


@click.command(short_help="turn closed segments into Parquet")
@as_json
@store_path
def compact(as_json: bool, path: Path) -> int:
    """Turn the segments that no process writes to any more into Parquet, and renew logs.duckdb.

    Parquet is smaller and quicker to query. Services may write meanwhile, and queries run.
    """
    from fapilog.store.compact import compact as run  # noqa: PLC0415 - other commands do without DuckDB

    with _watching(path):
        result = run(path)
    if not result.ran:
        say("another process is compacting this store; nothing was done")
        return 0
    if as_json:
        sys.stdout.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        return FAILED if result.problems else 0
    sys.stdout.write(
        f"{count(result.segments, 'segment')} with {count(result.records, 'record')} became Parquet: "
        f"{size(result.segment_bytes)} to {size(result.parquet_bytes)}\n"
    )
    if result.skipped_lines == 1:
        sys.stdout.write("1 line was no record and is in rejected.jsonl\n")
    elif result.skipped_lines:
        sys.stdout.write(f"{result.skipped_lines} lines were no records and are in rejected.jsonl\n")
    for problem in result.problems:
        say(problem)
    return FAILED if result.problems else 0


@contextlib.contextmanager
def _watching(path: Path) -> Iterator[None]:
    """Show how much of the segments became Parquet, by what of them the manifest still leaves to be read."""
    from fapilog.errors import StoreError  # noqa: PLC0415 - as above
    from fapilog.store.manifest import Manifest  # noqa: PLC0415 - as above

    def live() -> dict[str, int]:
        with contextlib.suppress(StoreError, OSError):
            return {segment.name: segment.size_bytes for segment in Manifest.load(path).live_segments(path)}
        return {}

    def look(update: Callable[[int, int], None], done: threading.Event) -> None:
        before = live()
        while not done.wait(_LOOK_SECONDS):
            left = live()
            update(sum(number for name, number in before.items() if name not in left), sum(before.values()))

    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    with progress("compacting") as update:
        watcher = threading.Thread(target=look, args=(update, done), name="fapilog-compacting", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        update(1, 1)


@click.command(short_help="delete what is beyond the bounds of the store")
@click.option("--max-bytes", metavar="SIZE", help="How large the store may be, such as 2GB; none for no bound.")
@click.option("--max-age-days", metavar="DAYS", help="How many days records are kept; none for no bound.")
@click.option("--max-records", metavar="COUNT", help="How many records are kept; none for no bound.")
@click.option(
    "--level-max-age-days",
    "levels",
    multiple=True,
    type=Pair(),
    metavar="LEVEL=DAYS",
    help="How many days records of a level are kept instead, such as error=90. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing, and say what would be deleted.")
@as_json
@store_path
def cleanup(
    max_bytes: str | None,
    max_age_days: str | None,
    max_records: str | None,
    levels: tuple[tuple[str, str], ...],
    dry_run: bool,
    as_json: bool,
    path: Path,
) -> int:
    """Delete the oldest records of the store that are beyond its bounds.

    The bounds are those of the service, FAPILOG_DUCKDB__MAX_BYTES and so on, unless given here. What is deleted is
    recorded in deleted.jsonl. Ends with 1 if something could not be done.
    """
    from fapilog.cli.figures import Table  # noqa: PLC0415 - other commands do without
    from fapilog.store.output import write_table  # noqa: PLC0415 - as above
    from fapilog.store.retain import cleanup as run  # noqa: PLC0415 - as above

    given = {"max_bytes": max_bytes, "max_age_days": max_age_days, "max_records": max_records}
    result = run(path, **_bounds(given, dict(levels)), dry_run=dry_run)
    if not result.ran:
        say("another process is changing this store; nothing was done")
        return 0
    if as_json:
        sys.stdout.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        return FAILED if result.problems else 0
    rows = [
        (
            deletion.file,
            deletion.reason,
            ", ".join(deletion.levels) if deletion.levels is not None else "all",
            "" if deletion.records is None else f"{deletion.records:,}",
            size(deletion.size_bytes),
            "" if deletion.newest is None else f"{datetime.fromtimestamp(deletion.newest, UTC):%Y-%m-%d %H:%M:%S}",
        )
        for deletion in result.expired
    ]
    if rows:
        columns = ("file", "beyond", "levels", "records", "size", "newest record")
        types = ("VARCHAR", "VARCHAR", "VARCHAR", "BIGINT", "DOUBLE", "VARCHAR")
        write_table(Table(columns, types, rows), sys.stdout, counted=False)
    together = sum(deletion.size_bytes for deletion in result.expired)
    verb = "would leave" if dry_run else "left"
    sys.stdout.write(f"{count(len(rows), 'file')} {verb} the store, {size(together)}\n")
    if result.deleted:
        sys.stdout.write(f"{count(result.deleted, 'file')} deleted, having left it a while ago\n")
    for problem in result.problems:
        say(problem)
    return FAILED if result.problems else 0


def _bounds(given: dict[str, str | None], levels: dict[str, str]) -> dict[str, Any]:
    """Read the bounds that are given, and take the others from the settings of the service."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    from fapilog.files.quantities import parse_size  # noqa: PLC0415 - as above
    from fapilog.plugins import options_of, unmasked  # noqa: PLC0415 - as above
    from fapilog.settings import LoggingSettings  # noqa: PLC0415 - as above
    from fapilog.sinks.duckdb import DuckDBSink  # noqa: PLC0415 - as above

    try:
        options = unmasked(LoggingSettings().sink_options.get("duckdb", {}))
        sink = DuckDBSink(**{name: value for name, value in options.items() if name in options_of(DuckDBSink)})
    except ValidationError:
        raise ConfigurationError("the settings of the duckdb sink cannot be used; see fapilog doctor") from None
    bounds: dict[str, Any] = {
        "max_bytes": sink.max_bytes,
        "max_age_days": sink.max_age_days,
        "max_records": getattr(sink, "max_records", None),
        "level_max_age_days": dict(getattr(sink, "level_max_age_days", {})),
    }
    readers: dict[str, Callable[[str], float | None]] = {
        "max_bytes": parse_size,
        "max_age_days": float,
        "max_records": int,
    }
    for name, text in given.items():
        if text is not None:
            bounds[name] = None if text.lower() == "none" else _positive(name, text, readers[name])
    for level, days in levels.items():
        if level.lower() not in LEVELS:
            raise click.UsageError(f"no level is called {level!r}; known: {', '.join(LEVELS)}")
        bounds["level_max_age_days"][level.lower()] = _positive("level_max_age_days", days, float)
    return bounds


def _positive(name: str, text: str, read: Callable[[str], float | None]) -> float:
    with contextlib.suppress(ValueError, OverflowError):
        if (number := read(text)) is not None and number > 0:
            return number
    raise click.UsageError(f"--{name.replace('_', '-')} is {text!r}; a number above 0 would do, or none for no bound")


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
    colour = screen().colour
    for findings, word, code in ((result.problems, "wrong", "red"), (result.notes, "note", "yellow")):
        for finding in findings:
            sys.stdout.write(f"{paint(word, code, colour=colour)}: {printable(f'{finding.path}: {finding.problem}')}\n")
    files = f"{count(result.parquet_files, 'Parquet file')} and {count(result.segments, 'segment')}"
    sys.stdout.write(
        f"{count(result.records, 'record')} in {files}, {size(result.size_bytes)}: "
        + (paint("sound", "green", colour=colour) if result.ok else count(len(result.problems), "problem"))
        + "\n"
    )
    return 0 if result.ok else FAILED
