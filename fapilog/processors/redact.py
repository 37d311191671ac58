"""Replace what is secret by its field's name, at any depth."""

import re
from collections.abc import Iterable
from typing import Any, Final

from fapilog.types import Event

DEFAULT_FIELDS: Final = (
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "proxy_authorization",
    "auth_header",
    "cookie",
    "cookies",
    "set_cookie",
    "session_id",
    "csrf",
    "xsrf",
    "jwt",
    "bearer",
    "credential",
    "credentials",
    "private_key",
    "client_secret",
    "access_key",
    "secret_key",
    "encryption_key",
    "connection_string",
    "dsn",
    "ssn",
    "social_security_number",
    "credit_card",
    "card_number",
    "cvv",
    "cvc",
)
"""Names whose values are secret, in any case and with any separators: ``Api-Key`` is ``apiKey`` is ``API_KEY``."""

SECRET_SUFFIXES: Final = (
    "_password",
    "_passwd",
    "_secret",
    "_token",
    "_api_key",
    "_private_key",
    "_secret_key",
    "_credentials",
    "_cookie",
)

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")


class Redact:
    """A processor that puts a mask where a field's name says its value is secret.

    It expects plain values (see `fapilog.encoding.plain`), so that nothing can expand after it.
    """

    def __init__(self, fields: Iterable[str] = (), replacement: str = "REDACTED") -> None:
        """Mask `DEFAULT_FIELDS` and *fields* with *replacement*."""
        self._names = {_words(name).replace("_", "") for name in (*DEFAULT_FIELDS, *fields)}
        self._replacement = replacement

    def matches(self, name: str) -> bool:
        """Tell whether the value of a field of that *name* is secret."""
        words = _words(name)
        return words.replace("_", "") in self._names or words.endswith(SECRET_SUFFIXES)

    def __call__(self, logger: Any, method_name: str, event: Event) -> Event:
        """Return *event* with every secret value replaced."""
        return {
            name: self._replacement if self.matches(name) and value is not None else self._nested(value)
            for name, value in event.items()
        }

    def _nested(self, value: Any) -> Any:
        if type(value) is dict:
            return self(None, "", value)
        if type(value) is list:
            return [self._nested(item) for item in value]
        return value


def _words(name: str) -> str:
    """Lower-case a name and put one underscore between its words: ``X-API-Key`` and ``xApiKey`` are ``x_api_key``."""
    return _SEPARATORS.sub("_", _CAMEL.sub("_", name).lower()).strip("_")
