r"""A record as ``name=value`` pairs in one line, as Go's logfmt and Grafana's ``| logfmt`` read them.

A value is bare, or in quotes with the escapes of JSON where it has a space, a quote, ``=`` or a character that could
forge a line or turn the direction of the text. Text is in quotes too where it would read as a number (``Infinity``
too), ``true``, ``false`` or ``null``. An object or array is JSON in quotes, but for ``exception``, whose parts are
pairs of their own. What may not stand in a name is percent-encoded.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from fapilog.formats.escaping import UNSAFE, json_text
from fapilog.formats.fields import parse

_WORDS: Final = "true|false|null|(?i:[+-]?(?:inf|infinity|nan))"
_BARE: Final = re.compile(rf"(?!(?:{_WORDS})\Z)[A-Za-z_/][A-Za-z0-9_./:+-]*\Z")
_QUOTED: Final = re.compile(rf'[{UNSAFE}\s"=\\\ufffd]|^$')
_NAME: Final = re.compile(rf'[{UNSAFE}\s"=%\ufffd]')  # U+FFFD is what Go's reader takes for damage
_LITERAL: Final = re.compile(rf"(?:-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|{_WORDS})\Z|[\[{{]")


class Logfmt:
    """The format called ``logfmt``."""

    media_type: Final = "text/plain; charset=utf-8"

    def __call__(self, line: bytes) -> bytes:
        """Return one record as one line of pairs."""
        return pairs(parse(line)).encode() + b"\n"


def pairs(record: Mapping[str, Any]) -> str:
    """Return the fields of *record* as pairs with a space between two."""
    made = []
    for name, value in record.items():
        if name == "exception" and type(value) is dict and value:
            parts = {f"exception.{part}": said for part, said in value.items()}
            if record.keys().isdisjoint(parts):
                made += [f"{_key(part)}={_value(said)}" for part, said in parts.items()]
                continue
        made.append(f"{_key(name)}={_value(value)}")
    return " ".join(made)


def _value(value: Any) -> str:
    if type(value) is str:
        if _BARE.match(value) is None and (_QUOTED.search(value) or _LITERAL.match(value)):
            return json_text(value)
        return value
    said = json_text(value)
    return json_text(said) if type(value) in (dict, list) else said


@functools.lru_cache(maxsize=1_024)
def _key(name: str) -> str:
    return _NAME.sub(lambda match: quote(match.group(), safe=""), name) or "%"
