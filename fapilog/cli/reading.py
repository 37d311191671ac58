"""Commands that ask the store."""

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fapilog.cli.files import tail_file
from fapilog.cli.options import as_json, query_words, record_format, store_path, time_range
from fapilog.cli.terminal import count, paint, say, screen

if TYPE_CHECKING:
    from fapilog.store.fingerprint import ErrorGroup
    from fapilog.store.statistics import Statistics

_FILE: Final = re.compile(r"[^\s:*\"]*(/[^\s:*\"]*|\.(jsonl?|log|txt|out|gz|bz2|zip|xz|zst))")
_TOP: Final = 10
_TEXT, _NUMBER, _REAL = "VARCHAR", "BIGINT", "DOUBLE"


@click.command(short_help="find records")
@query_words
@time_range
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    metavar="COUNT",
    help="At most so many.",
)
@click.option("--oldest", is_flag=True, help="The oldest that fit, rather than the newest.")
@record_format
@store_path
def search(
    words: tuple[str, ...], since: str | None, until: str | None, limit: int, oldest: bool, form: str, path: Path
) -> int:
    """Find the newest records that QUERY fits, and print them in order of time, the newest last.

    Such as: fapilog search 'level:error route:/orders/* -service:batch "card declined"' --since 1h
    """
    from fapilog.cli.records import Shown  # noqa: PLC0415 - help and completion do without
    from fapilog.store import LogStore  # noqa: PLC0415 - as above

    with LogStore(path) as store:
        page = store.search(
            " ".join(words),
            since=since,
            until=until,
            limit=limit,
            order="oldest" if oldest else "newest",
        )
        Shown(form).show(page.records if oldest else reversed(page.records))
    _warn(page.warnings)
    if not page.records and sys.stderr.isatty():
        say("no record fits")
    if page.next_cursor is not None and sys.stderr.isatty():
        say(f"there are more than {limit:,}; -n shows more, fapilog export writes all")
    return 0


@click.command(short_help="show a trace as a tree of its spans")
@click.argument("trace_id")
@time_range
@as_json
@store_path
def trace(trace_id: str, since: str | None, until: str | None, as_json: bool, path: Path) -> int:
    """Show the records of the trace TRACE_ID, by span, each within the one that called it.

    A time range that the trace is known to be in makes it quicker. With --json, the records in order, one a line.
    """
    from fapilog.cli.figures import tree  # noqa: PLC0415 - help and completion do without
    from fapilog.cli.records import Shown  # noqa: PLC0415 - as above
    from fapilog.formats import escape  # noqa: PLC0415 - as above
    from fapilog.store import LogStore  # noqa: PLC0415 - as above

    with LogStore(path) as store:
        found = store.trace(trace_id, since=since, until=until)
    _warn(found.warnings)
    if as_json:
        Shown("json").show(found.records)
        return 0
    if not found.records:
        say(f"no record has the trace id {trace_id!r}")
        return 0
    shown = screen()
    spans = sum(1 for _ in found.walk())
    began = found.records[0].timestamp
    sys.stdout.write(
        f"trace {escape(trace_id)}: {count(spans, 'span')}, {count(len(found.records), 'record')}"
        + ("" if began is None else f", {began:%Y-%m-%d %H:%M:%S} UTC")
        + "\n"
    )
    for line in tree(found.spans, width=shown.width, colour=shown.colour):
        sys.stdout.write(line + "\n")
    return 0


@click.command(short_help="count what was logged: volume, routes, events, errors, processes")
@query_words
@time_range
@as_json
@store_path
def stats(words: tuple[str, ...], since: str | None, until: str | None, as_json: bool, path: Path) -> int:
    """Count what QUERY fits, or all: a histogram by level, and tables of routes, events, errors and processes.

    Times are in UTC. With --json, one object.
    """
    from fapilog.store import LogStore  # noqa: PLC0415 - help and completion do without

    query = " ".join(words)
    with LogStore(path) as store:
        counted = store.stats(since, until, query)
        warnings = [*counted.warnings]
        groups = store.errors(since, until, limit=_TOP, query=query)
    _warn(warnings)
    if as_json:
        errors = [group.model_dump(mode="json") for group in groups]
        _print_json(counted.model_dump(mode="json") | {"error_groups": errors})
    else:
        _show_statistics(counted, groups)
    return 0


@click.command(short_help="group errors by what went wrong")
@query_words
@time_range
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    metavar="COUNT",
    help="At most so many.",
)
@as_json
@store_path
def errors(words: tuple[str, ...], since: str | None, until: str | None, limit: int, as_json: bool, path: Path) -> int:
    """Group the records at level error and above that QUERY fits by what went wrong, the most frequent first.

    Times are in UTC. With --json, one object a group and line.
    """
    from fapilog.store import LogStore  # noqa: PLC0415 - help and completion do without

    with LogStore(path) as store:
        groups = store.errors(since, until, limit=limit, query=" ".join(words))
        _warn(store.warnings)
    if as_json:
        for group in groups:
            _print_json(group.model_dump(mode="json"))
        return 0
    for group in groups:
        _show_group(group)
    if not groups:
        say("there are no errors")
    return 0


@click.command(short_help="print the newest records, and go on with --follow; or the end of a log file")
@click.argument("words", nargs=-1, metavar="[QUERY...|FILE]")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="COUNT",
    help="How many to begin with.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with each new one, of all processes, until interrupted.")
@time_range
@record_format
@store_path
def tail(
    words: tuple[str, ...], lines: int, follow: bool, since: str | None, until: str | None, form: str, path: Path
) -> int:
    """Print the newest records of the store that QUERY fits; with --follow go on as processes log.

    With the name of a FILE, such as app.log, print its last lines as they are; --follow goes on through rotations. If
    it has fewer, those of what was put aside of it come first, compressed or not.
    """
    if len(words) == 1 and (_FILE.fullmatch(words[0]) or Path(words[0]).is_file()):
        if since is not None or until is not None:
            raise click.UsageError("a file has no time range; without its name, the store is asked")
        return tail_file(Path(words[0]), lines, follow=follow)
    from fapilog.cli.records import Shown  # noqa: PLC0415 - help and completion do without
    from fapilog.store import LogStore  # noqa: PLC0415 - as above
    from fapilog.store.query import as_query  # noqa: PLC0415 - as above

    shown = Shown(form)
    with LogStore(path) as store:
        asked = as_query(" ".join(words), {"since": since, "until": until})
        for record in store.tail(asked, last=lines, follow=follow):
            shown.show([record])
    _warn(store.warnings)
    return 0


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
@time_range
@store_path
def query(sql: str, form: str, since: str | None, until: str | None, path: Path) -> int:
    """Run one SELECT over the view `logs`, such as: select level, count(*) from logs group by level.

    Times are in UTC.
    """
    from fapilog.store import LogStore  # noqa: PLC0415 - other commands do without DuckDB
    from fapilog.store.output import WRITERS  # noqa: PLC0415 - as above

    with LogStore(path) as store:
        rows = store.rows(sql, since=since, until=until)
        _warn(store.warnings)
        WRITERS[form](rows, sys.stdout)
    return 0


def _show_statistics(counted: "Statistics", groups: "list[ErrorGroup]") -> None:
    from fapilog.cli.figures import bars, legend  # noqa: PLC0415 - as above

    colour = screen().colour
    width = shutil.get_terminal_size().columns
    if counted.since is None or counted.until is None or not counted.records:
        say("nothing was logged")
        return
    times = f"from {counted.since:%Y-%m-%d %H:%M} to {counted.until:%Y-%m-%d %H:%M} UTC"
    sys.stdout.write(f"{count(counted.records, 'record')} {times}\n\n")
    for line in bars(counted.volume, counted.bucket_seconds, width=width, colour=colour):
        sys.stdout.write(line + "\n")
    sys.stdout.write("\n" + legend(counted.levels, colour=colour) + "\n")
    _table(
        f"Routes: {count(counted.requests, 'request')}, {counted.error_rate:.2%} errors",
        {"route": _TEXT, "requests": _NUMBER, "per s": _REAL, "errors": _TEXT, "p50 ms": _REAL, "p95 ms": _REAL}
        | {"p99 ms": _REAL},
        [
            (
                " ".join(filter(None, (route.method, route.route or "(none)"))),
                f"{route.requests:,}",
                f"{route.per_second:.2f}",
                f"{route.error_rate:.2%}",
                *("" if ms is None else f"{ms:.1f}" for ms in (route.p50_ms, route.p95_ms, route.p99_ms)),
            )
            for route in counted.routes
        ],
    )
    _table(
        "Events",
        {"records": _NUMBER, "level": _TEXT, "event": _TEXT},
        [(f"{event.records:,}", event.level, event.event) for event in counted.events],
    )
    _table(
        "Errors",
        {"count": _NUMBER, "last seen": _TEXT, "error": _TEXT},
        [(f"{group.count:,}", _second(group.last_seen), _what(group)) for group in groups],
    )
    _table(
        "Processes",
        {"records": _NUMBER, "service": _TEXT, "host": _TEXT, "pid": _NUMBER, "first seen": _TEXT, "last seen": _TEXT},
        [
            (
                f"{worker.records:,}",
                worker.service,
                worker.host,
                worker.pid,
                _second(worker.first_seen),
                _second(worker.last_seen),
            )
            for worker in counted.workers
        ],
    )


def _table(title: str, columns: dict[str, str], rows: list[tuple[Any, ...]]) -> None:
    from fapilog.cli.figures import Table  # noqa: PLC0415 - as above
    from fapilog.store.output import write_table  # noqa: PLC0415 - as above

    if not rows:
        return
    sys.stdout.write("\n" + paint(title, "bold", colour=screen().colour) + "\n")
    write_table(Table(tuple(columns), tuple(columns.values()), rows[:_TOP]), sys.stdout, counted=False)
    if len(rows) > _TOP:
        sys.stdout.write(f"and {len(rows) - _TOP} more; see --json\n")


def _show_group(group: "ErrorGroup") -> None:
    from fapilog.formats import escape  # noqa: PLC0415 - as above

    colour = screen().colour
    times = f"{_second(group.first_seen)} to {_second(group.last_seen)}"
    out = sys.stdout.write
    number = paint(count(group.count, "time"), "red", colour=colour)
    out(f"{number} {paint(escape(_what(group)), 'bold', colour=colour)}\n")
    out(f"    {times if group.count > 1 else _second(group.last_seen)}\n")
    if group.frames:
        out(f"    {escape(' > '.join(group.frames))}\n")
    example = group.example
    where = f"fapilog trace {example.trace_id}" if example.trace_id else f"record {example.id}"
    out(f"    {paint(escape(f'{example.event}; {where}'), 'dim', colour=colour)}\n")


def _what(group: "ErrorGroup") -> str:
    return ": ".join(filter(None, (group.type, group.message))) or "(no message)"


def _second(moment: Any) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _print_json(value: Any) -> None:
    from fapilog.formats.escaping import json_text  # noqa: PLC0415 - as above

    sys.stdout.write(json_text(value) + "\n")


def _warn(warnings: Any) -> None:
    for warning in warnings:
        say(warning)
