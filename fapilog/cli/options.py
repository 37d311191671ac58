"""Options that several commands have."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fapilog.cli.records import FORMATS

Function = TypeVar("Function", bound=Callable[..., Any])


class Pair(click.ParamType[tuple[str, str]]):
    """Text such as ``event=msg``."""

    name = "pair"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split *value* at its first ``=``."""
        if isinstance(value, tuple):
            return value
        left, equals, right = str(value).partition("=")
        if not (left and equals and right):
            self.fail(f"{value!r} is no pair; write name=value, such as event=msg", param, ctx)
        return left, right


def store_path(function: Function) -> Function:
    """Add ``--path``, the directory of the store, as the argument *path*."""
    return click.option(
        "--path",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: Path(os.environ.get("FAPILOG_DUCKDB__PATH") or "logs"),
        show_default="FAPILOG_DUCKDB__PATH, or logs",
        help="Directory of the store.",
    )(function)


def as_json(function: Function) -> Function:
    """Add ``--json``, as the argument *as_json*."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def query_words(function: Function) -> Function:
    """Add the argument *words*, which joined by blanks are a query in fapilog's language."""
    return click.argument("words", nargs=-1, metavar="[QUERY...]")(function)


def time_range(function: Function) -> Function:
    """Add ``--since`` and ``--until``, as text or None."""
    until = click.option("--until", metavar="TIME", help="Only what is older than that.")
    since = click.option(
        "--since", metavar="TIME", help="Only what is not older: 30m, 1h or 7d ago, today, yesterday, 2026-11-20T08:30."
    )
    return since(until(function))


def record_format(function: Function) -> Function:
    """Add ``--format`` and ``--json``: how records are printed, as the argument *form*."""
    form = click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="pretty",
        show_default=True,
        help="pretty is for people; json are the records as they were logged; the others are as sinks write them.",
    )
    short = click.option("--json", "form", flag_value="json", help="The same as --format json.")
    return form(short(function))
