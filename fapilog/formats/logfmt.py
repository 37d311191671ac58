r"""A record as ``name=value`` pairs in one line, as Go's logfmt and Grafana's ``| logfmt`` read them.

A value is bare, or in quotes with the escapes of JSON where it has a space, a quote, ``=`` or a character that could
forge a line or turn the direction of the text. Text is in quotes too where it would read as a number (``Infinity``
too), ``true``, ``false`` or ``null``. An object or array is JSON in quotes, but for ``exception``, whose parts are
pairs of their own. What may not stand in a name is percent-encoded.
"""

import functools
import re
from typing import Any, Final
from urllib.parse import quote

import orjson

from fapilog.formats.fields import parse

UNSAFE: Final = (
    "\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
)
"""Characters that move the cursor, end a line, turn the direction of the text or are not seen, as of a regex's set."""

_ESCAPED: Final = re.compile(f"[{UNSAFE}]")
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
        record = parse(line)
        pairs = []
        for name, value in record.items():
            if name == "exception" and type(value) is dict and value:
                parts = {f"exception.{part}": said for part, said in value.items()}
                if record.keys().isdisjoint(parts):
                    pairs += [f"{_key(part)}={_value(said)}" for part, said in parts.items()]
                    continue
            pairs.append(f"{_key(name)}={_value(value)}")
        return " ".join(pairs).encode() + b"\n"


def json_text(value: Any) -> str:
    """Return *value* as JSON in which unsafe characters are escaped."""
    return _ESCAPED.sub(_escape, orjson.dumps(value).decode())


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000  # JSON writes what is beyond the basic plane as two surrogates
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


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
