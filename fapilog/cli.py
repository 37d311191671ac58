"""The command `fapilog`: ask the store, and look after it."""

import argparse
import csv
import io
import json
import math
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias

from fapilog.errors import FapilogError, QueryError

if TYPE_CHECKING:
    from fapilog.store.query import Rows

FAILED: Final = 1
WRONG_INPUT: Final = 2
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

_MEASURED_ROWS: Final = 1_000
_NARROWEST: Final = 6
_NUMBERS: Final = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*)")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NOT_ESCAPED_BY_JSON: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")
_POSITION: Final = re.compile(r"\s*^LINE (\d+): (.*)\n( *)\^+\s*\Z", re.MULTILINE)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Writer: TypeAlias = Callable[["Rows", TextIO], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*, the process's own by default, and return the exit code."""
    parser = argparse.ArgumentParser(prog="fapilog", description="Ask a fapilog store, and look after it.")
    commands = parser.add_subparsers(required=True, metavar="command", title="commands")
    for add in (_add_query, _add_compact):
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
        choices=_WRITERS,
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


def _query(arguments: argparse.Namespace) -> int:
    from fapilog.store import LogStore  # noqa: PLC0415 - other commands do without DuckDB

    with LogStore(arguments.path) as store:
        rows = store.rows(arguments.sql)
        for warning in store.warnings:
            _say(warning)
        _WRITERS[arguments.format](rows, sys.stdout)
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


def write_json(rows: "Rows", out: TextIO) -> None:
    """Write one JSON object per row and line. Columns of JSON are nested, not quoted."""
    names = _unique(rows.columns)
    nested = [kind == "JSON" for kind in rows.types]
    for row in rows:
        values = [
            json.loads(value) if is_json and value is not None else _plain(value)
            for value, is_json in zip(row, nested, strict=True)
        ]
        text = json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, allow_nan=False)
        out.write(_NOT_ESCAPED_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def write_csv(rows: "Rows", out: TextIO) -> None:
    """Write a header and the rows as RFC 4180 has it, safe to open in a spreadsheet."""
    writer = csv.writer(out)
    writer.writerow([_no_formula(name) for name in rows.columns])
    for row in rows:
        writer.writerow([_no_formula(value) if isinstance(value, str) else _text(value) for value in row])


def write_table(rows: "Rows", out: TextIO) -> None:
    """Write aligned columns, cut to the terminal if *out* is one; the first rows decide how wide they are."""
    numeric = [_NUMBERS.fullmatch(kind) is not None for kind in rows.types]
    cells = ([_printable(_text(value)) for value in row] for row in rows)
    header = [_printable(name) for name in rows.columns]
    measured = list(islice(cells, _MEASURED_ROWS))
    widths = [max(map(_width, column)) for column in zip(header, *measured, strict=True)]
    if out.isatty():
        widths = _fit(widths, shutil.get_terminal_size().columns - 2 * (len(widths) - 1))
    count = 0
    for line in (header, ["-" * width for width in widths]):
        out.write(_row(line, widths, numeric, cut=out.isatty()))
    for count, cells_of_row in enumerate(chain(measured, cells), start=1):  # noqa: B007 - the last one is told
        out.write(_row(cells_of_row, widths, numeric, cut=out.isatty()))
    out.write(f"({_count(count, 'row')})\n")


_WRITERS: Final[dict[str, Writer]] = {"table": write_table, "json": write_json, "csv": write_csv}


def _say(message: str) -> None:
    sys.stderr.write(f"fapilog: {' '.join(_printable(line) for line in message.splitlines() if line.strip())}\n")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _on_one_line(error: FapilogError) -> str:
    """Say where DuckDB points at, instead of pointing at it on further lines."""
    text = str(error)
    if not isinstance(error, QueryError) or (found := _POSITION.search(text)) is None:
        return text
    at = found[2][len(found[3]) - len(f"LINE {found[1]}: ") :]
    return f"{text[: found.start()]}; line {found[1]}, at {at!r}"


def _plain(value: Any) -> Any:
    """Turn a value of DuckDB's into one that JSON has."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return float(value)
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat() + ("" if value.tzinfo else "Z")
        case date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case dict() | list() | tuple():
            return json.dumps(_plain(value), ensure_ascii=False)
        case _:
            return str(value)


def _printable(text: str) -> str:
    """Show control characters rather than obey them: what is logged may come from an attacker."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unique(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def _row(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool], *, cut: bool) -> str:
    padded = (
        _pad(_cut(cell, width) if cut else cell, width, right=right)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return "  ".join(padded).rstrip() + "\n"


def _fit(widths: list[int], room: int) -> list[int]:
    """Narrow the widest columns until all have room, or none can be narrower."""
    widths = list(widths)
    while sum(widths) > room and max(widths) > _NARROWEST:
        widest = max(range(len(widths)), key=widths.__getitem__)
        second = max([_NARROWEST, *(width for width in widths if width < widths[widest])])
        widths[widest] = max(second, widths[widest] - (sum(widths) - room), _NARROWEST)
    return widths


def _character_widths(text: str) -> Iterator[tuple[str, int]]:
    for character in text:
        if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
            yield character, 0
        else:
            yield character, 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _width(text: str) -> int:
    return len(text) if text.isascii() else sum(width for _, width in _character_widths(text))


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    kept, used = "", 0
    for character, own in _character_widths(text):
        if used + own > width - 1:
            break
        kept, used = kept + character, used + own
    return kept + "…"


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * max(width - _width(text), 0)
    return space + text if right else text + space
