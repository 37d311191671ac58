"""Secrets in URLs: passwords before the host, and values of parameters."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from fapilog.detectors import Span

_URL_END: Final = re.compile(r"[\s\"'<>`\\]|\Z")
_MORE_PASSWORD: Final = re.compile(r"(?:[\"'<>`\\](?:[^\s\"'<>`\\/@,:;=)}\]][^\s\"'<>`\\/@]{0,64})?+){1,8}@(?=[\w\[])")
"""What goes on behind a sign that ends a URL elsewhere, where only a password may have it."""

_MAX_USERINFO: Final = 512
_OPEN_PASSWORD: Final = re.compile(r"[^\s/@:]{0,256}:(?![0-9]{1,5}(?![^\"'<>`\\]))[^\s/?#@\"'<>`\\]{0,256}\Z")
_NO_HOST: Final = re.compile(
    r"(?P<user>[^\s/@:\[{(<$%]{0,128}):(?![0-9]{1,5}(?!\w)|\w{0,16}port(?!\w)|%[ds])(?P<password>[^\s/?#@\"'<>`\\{}$%]{3,256})\Z",
    re.IGNORECASE,
)
"""A user and the password of one, where the host was cut off: no port is like that."""

_WITH_USERS: Final = re.compile(
    r"(?:s?ftps?|ssh|scp|smb|cifs|postgres(?:ql)?|mysql|mariadb|mssql|oracle|mongodb|redis|rediss|amqps?|mqtts?|nats"
    r"|kafka|ldaps?|imaps?|pop3s?|smtps?|rtsp|rtmp|socks[45]h?|clickhouse|cassandra|couchbase|neo4j|bolt|snowflake|vnc)"
    r"(?:\+[a-z0-9]{1,16})?\Z",
    re.IGNORECASE,
)
_SCHEME_OF_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,22}\Z")
_LETTERS_AND_DIGITS: Final = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z]).{6,}")
_CUT_OFF: Final = re.compile(r"<\+[0-9]+ more>\Z")
_PATH_BEGIN: Final = re.compile(r"[/?#]")
_PORT: Final = re.compile(r"[^\s/@:]*(?::[0-9]{1,5})?\Z")
_ESCAPED_USERINFO: Final = re.compile(
    r":(?:\\{1,4}/){2}[^\s/@:\"'\\]{0,128}:([^\s/@\"'\\]{1,256})(?:@|(?=<\+[0-9]+ more>\Z))"
)
_ENCODED_USERINFO: Final = re.compile(
    r"(?::|%(?:25){0,3}3A)(?:/|%(?:25){0,3}2F){2}(?:[^\s&=/@:%?#\"'<>]|%(?!(?:25){0,3}(?:3A|2F|40))){0,256}(?::|%(?:25){0,3}3A)"
    r"((?:[^\s&=/@%?#\"'<>]|%(?!(?:25){0,3}(?:2F|40))){1,256})(?:@|%(?:25){0,3}40)",
    re.IGNORECASE,
)


def userinfo(text: str) -> Iterator[Span]:
    """Find the passwords in URLs, or what stands in place of a user and is too long to be one."""
    at = stop = last_at = -1
    while (at := text.find("://", at + 1)) >= 0:
        start = at + 3
        if start > stop:
            end = _URL_END.search(text, start)
            stop = end.start() if end else len(text)
            if stop - start <= _MAX_USERINFO and _OPEN_PASSWORD.match(text[start:stop]):
                more = _MORE_PASSWORD.match(text, stop)
                if more:
                    yield start + text[start:stop].index(":") + 1, more.end() - 1
                    at = stop = more.end()
                    continue
                if _CUT_OFF.match(text, stop):
                    yield start + text[start:stop].index(":") + 1, stop
            last_at = text.rfind("@", start, stop)
        if last_at < start:
            cut = _NO_HOST.match(text[start:stop]) if stop - start <= _MAX_USERINFO else None
            if cut and _is_userinfo(text[max(0, at - 24) : at], cut["password"]):
                yield start + cut.start("password"), stop
            at = max(at, stop - 1)  # no other in this address
            continue
        slash = _PATH_BEGIN.search(text, start, stop)
        limit = slash.start() if slash else stop
        sign = text.rfind("@", start, limit)
        if sign < 0 and text[max(0, at - 5) : at].lower().endswith(("http", "https", "ws", "wss")):
            at = limit
            continue
        if sign < 0:  # a password that nobody has encoded
            if _PORT.match(text[start : min(limit, start + 512)]):
                at = limit
                continue
            sign = last_at
        user, colon, password = text[start:sign].partition(":")
        if password == "x-oauth-basic" or (colon and not password and user):  # noqa: S105 - GitHub's word
            yield start, start + len(user)
        elif colon and password:
            yield start + len(user) + 1, sign
        elif len(user) >= 16:
            yield start, sign
        at = sign


def _is_userinfo(before: str, password: str) -> bool:
    """Tell whether what ends the text of a URL is a password: by its scheme, or, of any other, by its characters."""
    scheme = _SCHEME_OF_URL.search(before)
    if scheme is None:
        return False
    is_web = scheme[0].lower() in {"http", "https", "ws", "wss"}
    return bool(_WITH_USERS.match(scheme[0]) or (is_web and _LETTERS_AND_DIGITS.fullmatch(password)))


def escaped_userinfo(text: str) -> Iterator[Span]:
    """Find the passwords in URLs that are percent-encoded, or whose slashes are escaped as in JSON."""
    for pattern in (_ESCAPED_USERINFO, _ENCODED_USERINFO):
        for match in pattern.finditer(text):
            yield match.span(1)


_QUERY: Final = re.compile(r"[?#]([^\s\"'<>`\\?]*=[^\s\"'<>`\\]*)")


def parameters(text: str, hides: Callable[[str, str], bool]) -> Iterator[Span]:
    """Find the values in queries of URLs that *hides* says are secret, or hold what is."""
    for match in _QUERY.finditer(text):
        start = match.start(1)
        for part in match[1].split("&"):
            name, equals, value = part.partition("=")
            if value and hides(name, value):
                yield start + len(name) + len(equals), start + len(part)
            start += len(part) + 1
