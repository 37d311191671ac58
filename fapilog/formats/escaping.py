"""What must not reach a reader as it is: characters that move the cursor, end a line, turn the text or are not seen."""

import re
from typing import Any, Final

import orjson

UNSAFE: Final = (
    "\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
)
"""Those characters, as of a regex's set. `str.isprintable` is false of each of them."""

_UNSAFE: Final = re.compile(f"[{UNSAFE}\\ud800-\\udfff]")
_IN_JSON: Final = re.compile(f"[{UNSAFE}]")
_BACKSLASH: Final = re.compile(rf"[{UNSAFE}\\]")


def escape(said: str) -> str:
    r"""Show them as ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``."""
    return said if said.isprintable() else _UNSAFE.sub(_escaped, said)


def json_text(value: Any) -> str:
    """Return *value* as JSON in which they are escaped."""
    return _IN_JSON.sub(_escaped_in_json, orjson.dumps(value).decode())


def json_escape(said: str) -> str:
    """Return *said* with them, and backslashes, as they are written within a text of JSON."""
    return _BACKSLASH.sub(lambda match: json_text(match.group())[1:-1], said)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000  # JSON writes what is beyond the basic plane as two surrogates
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
