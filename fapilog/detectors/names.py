"""Tell by its name, or by its place, that a field is secret."""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

DEFAULT_FIELDS: Final = (
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "passwords",
    "pw",
    "user_password",
    "new_password",
    "old_password",
    "current_password",
    "password_hash",
    "password_confirmation",
    "db_pass",
    "db_password",
    "pgpassword",
    "secret",
    "secrets",
    "token",
    "access_token",
    "auth_token",
    "api_token",
    "bearer_token",
    "csrf_token",
    "id_token",
    "refresh_token",
    "session_token",
    "otp",
    "totp",
    "api_key",
    "apikey",
    "api_keys",
    "authorization",
    "proxy_authorization",
    "auth_header",
    "auth_key",
    "cookie",
    "cookies",
    "set_cookie",
    "session_id",
    "session_key",
    "phpsessid",
    "jsessionid",
    "connect_sid",
    "csrf",
    "csrftoken",
    "xsrftoken",
    "xsrf",
    "jwt",
    "bearer",
    "credential",
    "credentials",
    "creds",
    "private_key",
    "private_key_pem",
    "hmac_key",
    "client_secret",
    "access_key",
    "account_key",
    "secret_key",
    "signing_key",
    "master_key",
    "encryption_key",
    "ssh_key",
    "connection_string",
    "dsn",
    "ssn",
    "ssn_number",
    "social_security_number",
    "credit_card",
    "credit_card_number",
    "card_number",
    "cvv",
    "cvv2",
    "cvc",
)
"""Names whose values are secret, in any case and with any separators: ``Api-Key`` is ``apiKey`` is ``API_KEY``."""

SECRET_SUFFIXES: Final = (
    "_password",
    "_passwd",
    "_passphrase",
    "_pwd",
    "_secret",
    "_pw",
    "_token",
    "_csrftoken",
    "_xsrftoken",
    "_jwt",
    "_api_key",
    "_private_key",
    "_secret_key",
    "_access_key",
    "_account_key",
    "_signing_key",
    "_encryption_key",
    "_hmac_key",
    "_private_key_pem",
    "_credential",
    "_credentials",
    "_creds",
    "_authorization",
    "_cookie",
    "_session_id",
    "_connection_string",
    "_dsn",
    "_ssn",
    "_cvv",
)

VAGUE_FIELDS: Final = ("auth", "pin", "tokens")
"""Names that are secret where the value looks so: no number of tokens, no scheme to authenticate, no pin of a chip."""

_COUNTED: Final = re.compile(r"(?:max|min|num|total|used|prompt|completion|input|output)_")
"""How names begin that tell how many tokens there are, whatever they hold."""

_OF_MODELS: Final = re.compile(r"(?:first|next|last|per|eos|bos|pad|unk|sep|cls|mask)_token\Z")
"""Ends of names of language models, and of pages: a number under them is a place or a measure."""

_SCHEMES: Final = frozenset(
    """
    basic bearer digest none null ok failed success required optional enabled disabled true false yes no ldap saml
    oauth oauth2 oidc jwt token password cookie session kerberos negotiate ntlm hawk mtls anonymous guest passed denied
    """.split()  # noqa: SIM905 - a list of them would take a page
)
_NUMBERS: Final = re.compile(r"[-+\d.,_/ %\[\]()]*[kKmM]?")
_NO_PIN: Final = re.compile(r"[A-Za-z]{0,6}|[A-Za-z]{0,4}[_.]?\d{1,3}")
_MIXED: Final = re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])[^\s=]{6,}|[^\s=]{20,}")
_LEAST_PIN: Final = 1_000

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_NUMBER: Final = re.compile(r"(?<=[a-z])_?[0-9]+\Z")
_SHARED: Final = ("pass", "key", "token", "auth", "sess", "srf", "card", "cred", "cookie", "secret")
"""What many secret names have in common: to look for these takes less time than to look for each name."""

_BREAK: Final = "\0"
_SPELT: Final = "\1"


def words(name: str) -> str:
    """Lower-case a name and put one underscore between its words: ``X-API-Key`` and ``xApiKey`` are ``x_api_key``."""
    return _SEPARATORS.sub("_", _CAMEL.sub("_", name).lower()).strip("_")


def squeezed(name: str) -> str:
    """Lower-case a name and leave its separators out; what is not ASCII stays, so that two such names differ."""
    said = words(name).replace("_", "")
    return said if said and name.isascii() else "".join(filter(str.isalnum, name.casefold()))


class Paths:
    """Places in a record, such as ``user.*.email`` or ``**.iban``.

    A part is a name in any case and with any separators; ``*`` in it stands for any characters, alone for one name or
    one position in a list; ``**`` for any number of them. A list may also be passed over: ``users.email`` is the
    email of each.
    """

    def __init__(self, said: Iterable[str]) -> None:
        """Read places as a user writes them."""
        self._known = [(each, _path_pattern(each)) for each in said]

    def __bool__(self) -> bool:
        return bool(self._known)

    def find(self, path: Sequence[str]) -> str | None:
        """Return what a user wrote that stands for *path*, or None."""
        if not self._known:
            return None
        parts = [part for name in path for part in name.split(".")]
        for numbers in (True, False):
            said = [part for part in parts if numbers or not part.isdecimal()]
            if not numbers and len(said) == len(parts):
                break
            joined = "".join([f"{squeezed(part)}{_SPELT}{words(part)}{_BREAK}" for part in said])
            for written, pattern in self._known:
                if pattern.fullmatch(joined):
                    return written
        return None


def _path_pattern(said: str) -> re.Pattern[str]:
    parts = [part.strip() for part in said.split(".") if part.strip()]
    made: list[str] = []
    for part in parts:
        if part == "**":
            if not made or made[-1] != _ANY:
                made.append(_ANY)
        elif "*" in part:
            pieces = [re.escape(_SEPARATORS.sub("_", _CAMEL.sub("_", piece).lower())) for piece in part.split("*")]
            made.append(f"[^{_BREAK}{_SPELT}]*{_SPELT}{f'[^{_BREAK}]*'.join(pieces)}{_BREAK}")
        else:
            made.append(f"{re.escape(squeezed(part))}{_SPELT}[^{_BREAK}]*{_BREAK}")
    return re.compile("".join(made))


_ANY: Final = f"(?:[^{_BREAK}]*{_BREAK})*"


class Names:
    """The names and places of what is secret."""

    def __init__(self, fields: Iterable[str] = (), keep: Iterable[str] = (), *, defaults: bool = True) -> None:
        """Know the built-in names unless *defaults* is False, and *fields*, but none of *keep*.

        Either may hold plain names, which count at any depth, and places (see `Paths`).
        """
        given = list(fields)
        self._keep = {squeezed(name) for name in keep if not is_path(name)}
        self._kept_paths = Paths(name for name in keep if is_path(name))
        known = (*DEFAULT_FIELDS, *given) if defaults else given
        self._whole = {squeezed(name): f"field:{words(name) or name}" for name in known if not is_path(name)}
        for name in self._keep:
            self._whole.pop(name, None)
        self._vague = {name for name in VAGUE_FIELDS if defaults} - self._keep - self._whole.keys()
        self._suffixes = SECRET_SUFFIXES if defaults else ()
        self._globs = Paths(name for name in given if "*" in name and "." not in name)
        self.paths = Paths(name for name in given if "." in name)
        self.rule = functools.lru_cache(maxsize=4_096)(self._rule)
        """Return the rule by which any value under a name is secret, or None."""
        self.vague = functools.lru_cache(maxsize=4_096)(self._vague_rule)
        """Return the rule by which some values under a name are secret, or None."""

    @property
    def rules(self) -> list[str]:
        """Every rule there is."""
        suffixes = [f"field:*{suffix}" for suffix in self._suffixes]
        return [
            *self._whole.values(),
            *suffixes,
            *[f"field:{name}" for name in sorted(self._vague)],
            *[f"path:{said}" for said, _ in self.paths._known + self._globs._known],
        ]

    @property
    def stems(self) -> tuple[str, ...]:
        """Texts one of which is in every secret name, once it is in lower case and without separators."""
        if self._globs:
            return ("",)
        names = [*self._whole, *[suffix.replace("_", "") for suffix in self._suffixes]]
        every = {next((part for part in _SHARED if part in name), name) for name in names}
        return tuple(name for name in every if not any(other != name and other in name for other in every))

    def place(self, path: Sequence[str]) -> str | None:
        """Return the rule by which what is at *path* is secret, or None; an empty text if it must be kept."""
        if self._kept_paths and self._kept_paths.find(path):
            return ""
        said = self.paths.find(path)
        return said and f"path:{said}"

    def under(self, name: str, value: Any, *, bare: bool = False) -> str | None:
        """Return the rule by which a plain *value* under a name is secret, or None.

        A *bare* value is a word of a text, without quotes: under a vague name it must look more like a secret.
        """
        rule = self.rule(name)
        if rule is None:
            rule = self.vague(name)
            return rule if rule and _is_secret(rule, value, bare=bare) else None
        return None if rule == "field:*_token" and _is_measure(name, value) else rule

    def _vague_rule(self, name: str) -> str | None:
        whole = squeezed(name)
        if whole in self._vague:
            return f"field:{whole}"
        if "tokens" not in self._vague or whole in self._keep:
            return None
        said = words(name)
        return "field:tokens" if said.endswith("_tokens") and not _COUNTED.match(said) else None

    def _rule(self, name: str) -> str | None:
        whole = squeezed(name)
        if whole in self._keep:
            return None
        found = self._whole.get(whole)
        if found is None and whole[-1:].isdecimal():
            found = self._whole.get(whole.rstrip("0123456789"))
        if found is None and self._suffixes:
            said = _NUMBER.sub("", words(name))
            if said.endswith(self._suffixes):
                found = next(f"field:*{suffix}" for suffix in self._suffixes if said.endswith(suffix))
        if found is None and self._globs:
            written = self._globs.find([name.replace(".", "_")])
            found = written and f"path:{written}"
        return found


def _is_secret(rule: str, value: Any, *, bare: bool) -> bool:
    """Tell whether what stands under a vague name is secret."""
    kind = type(value)
    if rule == "field:pin":
        return not _NO_PIN.fullmatch(value) if kind is str else kind is int and value >= _LEAST_PIN
    if kind is list:
        return any(type(item) is str for item in value)
    if kind is not str or _NUMBERS.fullmatch(value):
        return False
    if bare and not _MIXED.fullmatch(value):
        return False
    return rule != "field:auth" or value.lower() not in _SCHEMES


def _is_measure(name: str, value: Any) -> bool:
    """Tell whether what stands under a name that ends in ``_token`` measures something, or names a place."""
    if type(value) not in (int, float, str) or not _NUMBERS.fullmatch(str(value)):
        return False
    return "." in str(value) or bool(_OF_MODELS.search(words(name)))


def is_path(said: str) -> bool:
    """Tell whether what a user wrote is a place rather than a name."""
    return "." in said or "*" in said
