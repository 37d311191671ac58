"""Write the answer to a query as a table for people, or as JSON lines or CSV for programs."""

import csv
import json
import math
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from fapilog.formats.escaping import UNSAFE, json_text

if TYPE_CHECKING:
    from fapilog.store.query import Rows

_MEASURED_ROWS: Final = 1_000
_NARROWEST: Final = 6
_NUMBERS: Final = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*)")
_UNPRINTABLE: Final = re.compile(f"[{UNSAFE}]")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


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
        out.write(_UNPRINTABLE.sub(lambda found: json_text(found[0])[1:-1], text) + "\n")


def write_csv(rows: "Rows", out: TextIO) -> None:
    """Write a header and the rows as RFC 4180 has it, safe to open in a spreadsheet."""
    writer = csv.writer(out)
    writer.writerow([_no_formula(name) for name in rows.columns])
    for row in rows:
        writer.writerow([_no_formula(value) if isinstance(value, str) else _text(value) for value in row])


class Answer(Protocol):
    """Rows under columns: what a query or a table of figures is."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""

    @property
    def types(self) -> tuple[str, ...]:
        """DuckDB's name of each column's type."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...


def write_table(rows: Answer, out: TextIO, *, counted: bool = True) -> None:
    """Write aligned columns, cut to the terminal if *out* is one; the first rows decide how wide they are.

    Args:
        rows: What to write.
        out: Where to.
        counted: Whether to say below how many rows there are.
    """
    numeric = [_NUMBERS.fullmatch(kind) is not None for kind in rows.types]
    cells = ([printable(_text(value)) for value in row] for row in rows)
    header = [printable(name) for name in rows.columns]
    measured = list(islice(cells, _MEASURED_ROWS))
    widths = [max(map(_width, column)) for column in zip(header, *measured, strict=True)]
    if out.isatty():
        widths = _fit(widths, shutil.get_terminal_size().columns - 2 * (len(widths) - 1))
    count = 0
    for line in (header, ["-" * width for width in widths]):
        out.write(_row(line, widths, numeric, cut=out.isatty()))
    for count, cells_of_row in enumerate(chain(measured, cells), start=1):  # noqa: B007 - the last one is told
        out.write(_row(cells_of_row, widths, numeric, cut=out.isatty()))
    if counted:
        out.write(f"({count} row{'' if count == 1 else 's'})\n")


WRITERS: Final[Mapping[str, Callable[["Rows", TextIO], None]]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
}


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


def printable(text: str) -> str:
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
