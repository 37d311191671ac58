"""The command `fapilog`: ask the store and look after it, and read log files."""

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from fapilog.errors import FapilogError, QueryError
from fapilog.store.output import WRITERS, printable

FAILED: Final = 1
WRONG_INPUT: Final = 2
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

_POSITION: Final = re.compile(r"\s*^LINE (\d+): (.*)\n( *)\^+\s*\Z", re.MULTILINE)

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*, the process's own by default, and return the exit code."""
    parser = argparse.ArgumentParser(prog="fapilog", description="Ask a fapilog store, and look after it.")
    commands = parser.add_subparsers(required=True, metavar="command", title="commands")
    for add in (_add_demo, _add_doctor, _add_query, _add_compact, _add_cat, _add_tail):
        add(commands)
    arguments = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # in the C locale, whatever was logged
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except FapilogError as error:
        _say(_on_one_line(error))
        return WRONG_INPUT
    return code


def _add_query(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "query",
        help="run one SELECT over the view `logs`",
        description="Run one SELECT over the view `logs`. Times are in UTC.",
    )
    parser.add_argument("sql", help="such as: select level, count(*) from logs group by level")
    parser.add_argument(
        "--format",
        choices=WRITERS,
        default="table",
        help="table: for people, cut to the width of the terminal (default). json: one object per row and line. csv: "
        "with a header; text that a spreadsheet would take for a formula, as it begins with = + - @ or a tab, gets a ' "
        "in front",
    )
    _add_path(parser)
    parser.set_defaults(run=_query)


def _add_compact(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "compact",
        help="turn closed segments into Parquet",
        description="Turn the segments that no process writes to any more into Parquet, which is smaller and quicker "
        "to query, and renew logs.duckdb. Services may write meanwhile, and queries run.",
    )
    _add_path(parser)
    parser.set_defaults(run=_compact)


def _add_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--path",
        type=Path,
        default=Path(os.environ.get("FAPILOG_DUCKDB__PATH") or "logs"),
        help="directory of the store (default: FAPILOG_DUCKDB__PATH, or logs)",
    )


def _add_demo(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "demo",
        help="run the example shop with traffic, then query what it logged",
        description="Run the example shop under two uvicorn processes, send it real traffic, show what it logs, and "
        "print from the store: records per process, slow routes, errors and one whole trace.",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="how long there is traffic (default: 10)")
    parser.add_argument("--path", type=Path, help="directory of the store (default: a temporary one)")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from fapilog.demo.show import run  # noqa: PLC0415 - as above

    return run(arguments.seconds, arguments.path)


def _add_doctor(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say what fapilog would do here, and what is wrong",
        description="Show versions, the settings in effect with secrets masked, the plugins that can be named and "
        "where each comes from, and whether the sinks can start. Ends with 1 if something is wrong.",
    )
    parser.set_defaults(run=_doctor)


def _doctor(_arguments: argparse.Namespace) -> int:
    from fapilog.doctor import examine  # noqa: PLC0415 - as above

    text, healthy = examine()
    sys.stdout.write(text)
    return 0 if healthy else FAILED


def _query(arguments: argparse.Namespace) -> int:
    from fapilog.store import LogStore  # noqa: PLC0415 - other commands do without DuckDB

    with LogStore(arguments.path) as store:
        rows = store.rows(arguments.sql)
        for warning in store.warnings:
            _say(warning)
        WRITERS[arguments.format](rows, sys.stdout)
    return 0


def _compact(arguments: argparse.Namespace) -> int:
    from fapilog.store.compact import compact  # noqa: PLC0415 - as above

    result = compact(arguments.path)
    if not result.ran:
        _say("another process is compacting this store; nothing was done")
        return 0
    sys.stdout.write(
        f"{_count(result.segments, 'segment')} with {_count(result.records, 'record')} became Parquet: "
        f"{result.segment_bytes / 1e6:.1f} MB to {result.parquet_bytes / 1e6:.1f} MB\n"
    )
    if result.skipped_lines == 1:
        sys.stdout.write("1 line was no record and was skipped\n")
    elif result.skipped_lines:
        sys.stdout.write(f"{result.skipped_lines} lines were no records and were skipped\n")
    for problem in result.problems:
        _say(problem)
    return FAILED if result.problems else 0


def _add_cat(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "cat",
        help="print log files, compressed or not",
        description="Print log files, decompressed as the end of each name says (.gz, .bz2, .zip, .xz, .zst).",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="file", help="such as app.log, or app.*.log.gz")
    parser.add_argument(
        "--rotated", action="store_true", help="print before each file what was put aside of it, oldest first"
    )
    parser.set_defaults(run=_cat)


def _cat(arguments: argparse.Namespace) -> int:
    from fapilog.files.reading import lines, whole  # noqa: PLC0415 - as above

    read = whole if arguments.rotated else lines
    return _print_lines(line for path in arguments.files for line in read(path))


def _add_tail(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "tail",
        help="print the last lines of a log file",
        description="Print the last lines of a log file. If it has fewer, those of what was put aside of it come "
        "first, compressed or not.",
    )
    parser.add_argument("file", type=Path, help="such as app.log")
    parser.add_argument("-n", "--lines", type=int, default=10, help="how many lines (default: 10)")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with each new line, through rotations, until interrupted"
    )
    parser.set_defaults(run=_tail)


def _tail(arguments: argparse.Namespace) -> int:
    from fapilog.files.reading import follow, last  # noqa: PLC0415 - as above

    return _print_lines((follow if arguments.follow else last)(arguments.file, arguments.lines), now=arguments.follow)


def _print_lines(lines: Iterable[bytes], *, now: bool = False) -> int:
    """Print lines as they are, *now* or with others; on a terminal what could control it is shown, not obeyed."""
    terminal, out = sys.stdout.isatty(), sys.stdout.buffer
    try:
        for line in lines:
            shown = printable(line.decode("utf-8", "replace").rstrip("\n")) + "\n" if terminal else line
            out.write(shown.encode() if isinstance(shown, str) else shown)
            if now:
                out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        out.flush()
        _say(f"cannot read on: {error}")
        return WRONG_INPUT
    return 0


def _say(message: str) -> None:
    sys.stderr.write(f"fapilog: {' '.join(printable(line) for line in message.splitlines() if line.strip())}\n")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _on_one_line(error: FapilogError) -> str:
    """Say where DuckDB points at, instead of pointing at it on further lines."""
    text = str(error)
    if not isinstance(error, QueryError) or (found := _POSITION.search(text)) is None:
        return text
    at = found[2][len(found[3]) - len(f"LINE {found[1]}: ") :]
    return f"{text[: found.start()]}; line {found[1]}, at {at!r}"
