"""Commands that ask the store."""

import sys
from pathlib import Path

import click

from fapilog.cli.files import tail_file
from fapilog.cli.options import store_path
from fapilog.cli.terminal import say


@click.command(short_help="print the last lines of a log file")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-n", "--lines", type=int, default=10, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with each new line, through rotations, until interrupted.")
def tail(file: Path, lines: int, follow: bool) -> int:
    """Print the last lines of a log file.

    If it has fewer, those of what was put aside of it come first, compressed or not.
    """
    return tail_file(file, lines, follow=follow)


@click.command(short_help="run one SELECT over the view `logs`")
@click.argument("sql")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="table: for people, cut to the width of the terminal. json: one object per row and line. csv: with a header; "
    "text that a spreadsheet would take for a formula, as it begins with = + - @ or a tab, gets a ' in front.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@store_path
def query(sql: str, form: str, path: Path) -> int:
    """Run one SELECT over the view `logs`, such as: select level, count(*) from logs group by level.

    Times are in UTC.
    """
    from fapilog.store import LogStore  # noqa: PLC0415 - other commands do without DuckDB
    from fapilog.store.output import WRITERS  # noqa: PLC0415 - as above

    with LogStore(path) as store:
        rows = store.rows(sql)
        for warning in store.warnings:
            say(warning)
        WRITERS[form](rows, sys.stdout)
    return 0
