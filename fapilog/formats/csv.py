r"""A record as a row of comma-separated values: the columns of the store, and all else as JSON in the last one.

A file or stream begins with the names of the columns. A cell has a value of its column's type; any other, and empty
text, is in `fields`, so an empty cell means that the record has no such field. One record is one line: in text a
backslash, control and direction-changing characters are written as in JSON (``\\``, ``\n``, ``\u202e``). Text that a
spreadsheet would take for a formula, or that begins with ``'``, has a ``'`` before it.
"""

import re
from typing import Any, Final

from fapilog.formats.escaping import json_escape, json_text
from fapilog.formats.fields import Check, is_integer, is_number, is_text, parse


def _is_object(value: Any) -> bool:
    return type(value) is dict


COLUMNS: Final[dict[str, Check]] = {
    **dict.fromkeys(("timestamp", "level", "event", "logger", "id", "service", "env", "version", "host"), is_text),
    "pid": is_integer,
    **dict.fromkeys(("trace_id", "span_id", "parent_span_id", "request_id", "method", "path", "route"), is_text),
    "status_code": is_integer,
    "duration_ms": is_number,
    "request_bytes": is_integer,
    "response_bytes": is_integer,
    **dict.fromkeys(("client_ip", "user_agent", "user_id"), is_text),
    "exception": _is_object,
}
"""Every column but the last, `fields`, and what a value in it must be."""

_FORMULA: Final = tuple("=+-@'\uff1d\uff0b\uff0d\uff20")
_QUOTED: Final = re.compile(r"""[^\w.:/+-]""")


class Csv:
    """The format called ``csv``."""

    media_type: Final = "text/csv; charset=utf-8"
    header: Final = (",".join([*COLUMNS, "fields"]) + "\n").encode()

    def __call__(self, line: bytes) -> bytes:
        """Return one record as one row."""
        record = parse(line)
        cells = []
        for name, fits in COLUMNS.items():
            value = record.get(name)
            if value is not None and value != "" and fits(value):
                cells.append(_cell(value))
                del record[name]
            else:
                cells.append("")
        cells.append(_quoted(json_text(record)) if record else "")
        return ",".join(cells).encode() + b"\n"


def _cell(value: Any) -> str:
    if type(value) is not str:
        return _quoted(json_text(value))
    said = json_escape(value)
    return _quoted("'" + said if said.startswith(_FORMULA) else said)


def _quoted(said: str) -> str:
    return '"' + said.replace('"', '""') + '"' if _QUOTED.search(said) else said
