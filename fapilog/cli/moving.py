"""Commands that move records in and out of the store."""

import errno
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from fapilog.cli.options import Pair, as_json, query_words, store_path, time_range
from fapilog.cli.terminal import FAILED, WRONG_INPUT, count, progress, say, size
from fapilog.errors import ConfigurationError, FapilogError

if TYPE_CHECKING:
    from fapilog.store.importing import ImportResult

_SHOWN_PROBLEMS = 5


@click.command(short_help="write records to a file: Parquet, JSON lines or CSV")
@click.argument("destination", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE")
@query_words
@time_range
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "jsonl", "csv"]),
    show_default="what the name of the file ends in",
    help="In csv, text that a spreadsheet would take for a formula gets a ' in front.",
)
@click.option("--limit", type=click.IntRange(1), metavar="COUNT", help="At most so many records, the oldest.")
@click.option("--overwrite", is_flag=True, help="Replace a file of that name.")
@as_json
@store_path
def export(
    destination: Path,
    words: tuple[str, ...],
    since: str | None,
    until: str | None,
    form: Any,
    limit: int | None,
    overwrite: bool,
    as_json: bool,
    path: Path,
) -> int:
    """Write the records that QUERY finds, or all, to FILE, the oldest first; - is standard output.

    The file appears when it is whole, readable by you alone. JSON lines are the records as they were logged, and can be
    imported again. What had to be left out, such as a damaged file, is told on standard error.
    """
    from fapilog.store.export import export as run  # noqa: PLC0415 - other commands do without DuckDB

    streamed = str(destination) == "-"
    if streamed and as_json:
        raise click.UsageError("standard output gets the records; --json is for an export to a file")
    try:
        with progress("exporting") as update:
            result = run(
                path,
                sys.stdout.buffer if streamed else destination,
                " ".join(words),
                format=form,
                overwrite=overwrite,
                limit=limit,
                progress=update,
                since=since,
                until=until,
            )
    except FileExistsError:
        say(f"{destination} exists; give another name, or --overwrite", command="fapilog export")
        return WRONG_INPUT
    except (BrokenPipeError, FapilogError):  # a store that is not there is an OSError, too
        raise
    except OSError as error:
        say(f"cannot write {str(destination)!r}: {error.strerror or error}", command="fapilog export")
        return FAILED if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else WRONG_INPUT
    if as_json:
        sys.stdout.write(json.dumps({"file": str(destination)} | asdict(result), ensure_ascii=False) + "\n")
        return 0
    for warning in result.warnings:
        say(warning, command="fapilog export")
    if not streamed:
        sys.stdout.write(f"{count(result.records, 'record')} in {destination}, {size(result.size_bytes)}\n")
    return 0


@click.command("import", short_help="take JSON lines that any program wrote into the store")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True), metavar="FILE...")
@click.option(
    "--map",
    "names",
    multiple=True,
    type=Pair(),
    metavar="FIELD=NAME",
    help="What the program calls a field, such as event=msg; dots lead into objects: route=http.route. Repeatable.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    type=Pair(),
    metavar="FIELD=VALUE",
    help="A field for records that do not have it, such as service=shop. Repeatable.",
)
@click.option(
    "--levels",
    type=click.Choice(["python", "syslog", "pino", "otel"]),
    default="python",
    show_default=True,
    help="Whose numbers the levels are, where they are numbers.",
)
@click.option(
    "--epoch",
    type=click.Choice(["auto", "s", "ms", "us", "ns"]),
    default="auto",
    show_default=True,
    help="The unit of times that are numbers; auto takes it from their size.",
)
@click.option("--zone", default="UTC", show_default=True, help="Of times that do not say theirs, as Europe/Berlin.")
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="NAME.rejected.jsonl here",
    help="A new file for the lines that are no records, with their numbers and what is wrong.",
)
@click.option("--redact/--no-redact", default=True, show_default=True, help="Mask secrets as the settings say.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show the first records as they would be.")
@as_json
@store_path
def import_(
    files: tuple[Path, ...],
    names: tuple[tuple[str, str], ...],
    constants: tuple[tuple[str, str], ...],
    levels: Any,
    epoch: Any,
    zone: str,
    rejects: Path | None,
    redact: bool,
    dry_run: bool,
    as_json: bool,
    path: Path,
) -> int:
    """Take lines of JSON that any program wrote into the store; - is standard input.

    The store is made if it is missing. Fields are found by the names other libraries give them, or by --map. A record
    whose id the store has is left out. Ends with 1 if a line is no record; the others are imported.
    """
    from fapilog.store.foreign import Translator  # noqa: PLC0415 - other commands do without
    from fapilog.store.importing import import_lines  # noqa: PLC0415 - as above

    try:
        where = UTC if zone.upper() == "UTC" else ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise click.BadParameter(
            f"no time zone is called {zone!r}; Europe/Berlin would do", param_hint="--zone"
        ) from None
    aside = rejects or _free(Path(f"{'stdin' if str(files[0]) == '-' else files[0].name}.rejected.jsonl"))
    try:
        with progress("importing") as update:
            result = import_lines(
                path,
                [sys.stdin.buffer if str(file) == "-" else file for file in files],
                translator=Translator(
                    names=dict(names), constants=dict(constants), level_numbers=levels, epoch=epoch, zone=where
                ),
                process=_masking() if redact else None,
                rejects=None if dry_run else aside,
                dry_run=dry_run,
                progress=update,
            )
    except FileExistsError as error:
        say(f"{error.filename} exists; give another name with --rejects", command="fapilog import")
        return WRONG_INPUT
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        say(f"cannot read or write {str(error.filename)!r}: {error.strerror}", command="fapilog import")
        return WRONG_INPUT
    except OSError as error:
        say(f"{error}; what was written by then stays", command="fapilog import")
        return FAILED
    if as_json:
        examples = [json.loads(line) for line in result.examples] if dry_run else []
        told = asdict(result) | {
            "examples": examples,
            "rejects": None if dry_run or not result.rejected else str(aside),
        }
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        return FAILED if result.rejected else 0
    if dry_run:
        sys.stdout.writelines(line.decode() for line in result.examples)
    _tell(result, path, dry_run=dry_run, aside=aside)
    return FAILED if result.rejected else 0


def _masking() -> Callable[[dict[str, Any]], dict[str, Any]]:
    from pydantic import ValidationError  # noqa: PLC0415 - other commands do without

    from fapilog.assembly import redact_of  # noqa: PLC0415 - as above
    from fapilog.settings import LoggingSettings  # noqa: PLC0415 - as above

    try:
        redact = redact_of(LoggingSettings())
    except ValidationError:
        raise ConfigurationError(
            "the settings cannot be used; see fapilog doctor, or import with --no-redact"
        ) from None
    return lambda record: redact(None, "info", record)


def _free(path: Path) -> Path:
    """Return *path*, or the first of its numbered neighbours that does not exist."""
    stem, number, free = path.name.removesuffix(".rejected.jsonl"), 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{stem}.rejected-{number}.jsonl")
    return free


def _tell(result: "ImportResult", path: Path, *, dry_run: bool, aside: Path) -> None:
    from fapilog.store.output import printable  # noqa: PLC0415 - as above

    out = sys.stderr if dry_run else sys.stdout
    out.write(f"{'would import' if dry_run else 'imported'} {count(result.records, 'record')} into {path}\n")
    if result.duplicates:
        out.write(f"left out {count(result.duplicates, 'record')} with an id that is there already\n")
    if result.unknown_levels:
        known = ", ".join(sorted(result.unknown_levels)[:_SHOWN_PROBLEMS])
        number = count(sum(result.unknown_levels.values()), "record")
        out.write(f"{number} had a level nobody knows ({printable(known)}): now info, with theirs in level_\n")
    for problem in result.problems[:_SHOWN_PROBLEMS]:
        say(f"{problem.source}, line {problem.line}: {problem.problem}", command="fapilog import")
    if (more := result.rejected - _SHOWN_PROBLEMS) > 0:
        say(f"and {count(more, 'more line')} like that", command="fapilog import")
    if result.rejected and not dry_run:
        said = (
            "1 line is no record and is"
            if result.rejected == 1
            else f"{result.rejected:,} lines are no records and are"
        )
        say(f"{said} in {aside}", command="fapilog import")
