"""What may be told of a request's query, headers and body: secrets masked by the name they go under, the rest cut."""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from fapilog.encoding import cut

MAX_QUERY: Final = 2_048
"""How many bytes of a query are kept."""

MAX_HEADER: Final = 1_024
"""How many bytes of a header are kept."""

SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
SECRET_PARAMETERS: Final = frozenset({"code", "key", "sig", "signature", "otp", "pin", "sid"})
"""Secret in a query, beside what the redactor knows: codes of a login, signed URLs, keys of an API."""

SECRET_PARAMETER_SUFFIXES: Final = ("-signature", "-credential")

_URL_HEADERS: Final = frozenset({"referer", "location", "content-location"})
_NESTED: Final = re.compile(r"(?:^|[?&;#])([^=&?;#]+)=")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_INDEX: Final = re.compile(r"(?:\[\d*\])+$")
_MEMBER: Final = re.compile(
    r'"((?:[^"\\]|\\.){1,256})"\s*:\s*("(?:[^"\\]|\\.)*(?:"|\\?$)|[\[{]|[^\s,}\]\[{"]*)', re.DOTALL
)

Secret = Callable[[str], bool]


class Masks:
    """Puts a mask where a name says that a value is secret."""

    def __init__(self, secret: Secret, replacement: str = "REDACTED") -> None:
        """Mask with *replacement* what goes under a name that *secret* says is secret."""
        self._known = functools.lru_cache(maxsize=2_048)(secret)
        self._parameter = functools.lru_cache(maxsize=2_048)(self._secret_parameter)
        self.replacement = replacement

    def query(self, raw: bytes) -> str:
        """Return a query, still percent-encoded."""
        kept = self._pairs(raw[:MAX_QUERY].decode("latin-1"))
        return kept if len(raw) <= MAX_QUERY else f"{kept}<+{len(raw) - MAX_QUERY} more>"

    def header(self, name: str, value: bytes) -> str:
        """Return the value of the header of that *name*, in lower case."""
        if name in SECRET_HEADERS or self._known(name[:256]):
            return self.replacement
        said = value[:MAX_HEADER].decode("latin-1")
        if name in _URL_HEADERS and "?" in said:
            before, _, query = said.partition("?")
            said = f"{before}?{self._pairs(query)}"
        return said if len(value) <= MAX_HEADER else f"{said}<+{len(value) - MAX_HEADER} more>"

    def body(self, kind: str, raw: bytes, size: int) -> Any:
        """Return a body: JSON that is here whole as what it means, anything else as text.

        Args:
            kind: Its media type.
            raw: As much of it as was kept.
            size: How long it is altogether.
        """
        whole = len(raw) == size
        if kind == "application/json" or kind.endswith("+json"):
            if whole:
                try:
                    return orjson.loads(raw)  # secrets in it are masked with those of the record
                except orjson.JSONDecodeError:
                    pass
            said = self._members(raw.decode("utf-8", "replace"))
        elif kind == "application/x-www-form-urlencoded":
            said = self._pairs(raw.decode("latin-1"))
        else:
            said = raw.decode("utf-8", "backslashreplace")
        said = cut(said)
        return said if whole else f"{said}<+{size - len(raw)} more>"

    def _pairs(self, said: str) -> str:
        if "=" not in said:
            return said
        return "&".join([self._pair(pair) for pair in said.split("&")])

    def _pair(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if value and self.hides(name, value):
            return f"{name}{equals}{self.replacement}"
        return pair

    def hides(self, name: str, value: str) -> bool:
        """Tell whether a parameter of a query is secret, or holds what is."""
        return self._parameter(name[-256:]) or (("%" in value or "=" in value) and self._hides(value))

    def _hides(self, value: str) -> bool:
        """Tell whether a value is itself an address or a query with a secret in it."""
        for _ in range(3):
            if "=" in value and any(self._parameter(match[1][-256:]) for match in _NESTED.finditer(value)):
                return True
            if "+" not in value and _ESCAPE.search(value) is None:
                return False
            value = unquote_plus(value)
        return "%" in value  # encoded over and over: nothing to read in it

    def _secret_parameter(self, name: str) -> bool:
        name = _INDEX.sub("", unquote_plus(name))
        lower = name.lower()
        return lower in SECRET_PARAMETERS or lower.endswith(SECRET_PARAMETER_SUFFIXES) or self._known(name)

    def _members(self, said: str) -> str:
        """Mask members of JSON that cannot be parsed; from one that is secret and not a plain value nothing is kept."""
        parts = []
        at = 0
        for match in _MEMBER.finditer(said):
            if not self._known(_unescaped(match[1])):
                continue
            parts += [said[at : match.start(2)], f'"{self.replacement}"']
            at = match.end(2)
            if match[2] in ("{", "["):
                return "".join(parts)
        return "".join([*parts, said[at:]])


def _unescaped(name: str) -> str:
    """Return the name of a member of JSON as it is meant."""
    if "\\" not in name:
        return name
    try:
        return str(orjson.loads(f'"{name}"'))
    except orjson.JSONDecodeError:
        return name


class HeaderChoice:
    """Some headers of a message, by name, with secrets masked."""

    def __init__(self, names: Iterable[str], masks: Masks) -> None:
        """Choose the headers of these names, in any case; ``*`` in a name stands for anything."""
        wanted = [re.escape(name.strip().lower()).replace(r"\*", ".*") for name in names]
        self._wanted = re.compile("|".join(wanted), re.DOTALL)
        self._masks = masks

    def __call__(self, headers: Iterable[Any]) -> dict[str, str]:
        """Return the chosen ones of *headers*, values of one name joined by a comma; what is no pair is left out."""
        chosen: dict[str, str] = {}
        for header in headers:
            name, value = header if isinstance(header, list | tuple) and len(header) == 2 else (None, None)
            if type(name) is bytes and type(value) is bytes:
                key = name[:256].decode("latin-1").lower()
                if self._wanted.fullmatch(key):
                    said = self._masks.header(key, value)
                    chosen[key] = cut(f"{chosen[key]}, {said}", MAX_HEADER) if key in chosen else said
        return chosen
