"""What an option of a network sink may be: a URL, a header, a secret in one."""

import json
import re
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

_PORTS: Final = {"http": 80, "https": 443}


class Url(NamedTuple):
    """An absolute URL of a server, taken apart. Never printed whole: user, password and query may be secrets."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Take apart an ``http://`` or ``https://`` URL.

        Raises:
            ValueError: If it is not one. The message holds nothing of the URL but its scheme.
        """
        if re.search(r"[\x00-\x20\x7f\\]", text):
            raise ValueError("a URL holds no space, backslash or control character; write them as %20")
        try:
            parts = urlsplit(text)
            host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        except ValueError:  # its text may quote a part of a password
            raise ValueError(
                "this is no URL; write http://host:port/path, with / ? # @ in a password as %2F…"
            ) from None
        if "://" not in text:
            raise ValueError("this is no URL; write http://host:port/path")
        if parts.scheme not in _PORTS:
            raise ValueError(f"got the scheme {parts.scheme!r}; write http://host:port/path or https://…")
        if parts.fragment:
            raise ValueError("the URL holds a #; write it as %23")
        if not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
            raise ValueError("the URL names no host; write http://host:port/path")
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        username, password = (unquote(part) if part is not None else None for part in (parts.username, parts.password))
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], path, parts.query, username or None, password)

    def __repr__(self) -> str:
        return f"<Url of {self.origin}>"

    @property
    def authority(self) -> str:
        """Host and port, as the ``Host`` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What may stand in a message: a webhook's path is often its password."""
        return f"{self.scheme}://{self.authority}"


def _checked_url(text: str) -> str:
    Url.parse(text)
    return text


def _checked_proxy(secret: SecretStr) -> SecretStr:
    Url.parse(secret.get_secret_value())
    return secret


def _from_json(value: Any) -> Any:
    """Read a dict that a variable of the environment holds as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('this is not JSON; write {"name": "value"}') from None


_OURS: Final = frozenset(
    {"connection", "content-encoding", "content-length", "host", "idempotency-key", "transfer-encoding", "upgrade"}
)


def check_header_name(name: str) -> str:
    """Return *name* if it can be a header's.

    Raises:
        ValueError: If it cannot, or is one that fapilog itself sets.
    """
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError(f"{name!r} cannot be the name of a header")
    if name.lower() in _OURS:
        raise ValueError(f"the header {name!r} is set by fapilog")
    return name


def _checked_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        check_header_name(name)
        _checked_value(value)
    return headers


def _checked_value(value: SecretStr) -> SecretStr:
    """See that a secret can stand in a header: a line break in it would begin another header."""
    if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?", value.get_secret_value()):
        raise ValueError("a header's value is printable ASCII on one line, with no space around it")
    return value


HeaderName = Annotated[str, AfterValidator(check_header_name)]
"""The name of a header, as an option of a sink."""

HeaderSecret = Annotated[SecretStr, AfterValidator(_checked_value)]
"""A secret that is sent as, or in, the value of a header."""

Endpoint = Annotated[str, AfterValidator(_checked_url)]
"""A URL to send to, as an option of a sink."""

ProxyUrl = Annotated[SecretStr, AfterValidator(_checked_proxy)]
"""The URL of a proxy, which may hold a password, as an option of a sink."""

HeaderValues = Annotated[dict[str, SecretStr], BeforeValidator(_from_json), AfterValidator(_checked_headers)]
"""Headers by name, as an option of a sink; JSON in a variable."""
