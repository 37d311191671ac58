"""Secrets in a text that are told by the name they stand under: pairs, JSON, XML, flags of a command, URLs."""

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import orjson

from fapilog.detectors import Span

Secret: TypeAlias = Callable[[str], str | None]
"""Returns the rule by which the value under a name is secret, or None."""

_PAIR: Final = re.compile(
    r"(?<![\w.\-])(?!(?<=\\)u[0-9a-fA-F]{4})(?P<name>(?:[\w.\-]|\\u[0-9a-fA-F]{4})++)(?P<index>(?:\[\w{0,32}\])*+)(?P<quote>\\*+[\"']|&quot;|%22)?+\]?+"
    r"(?P<gap>[ \t]{0,4}(?:=>|:=|={1,3}|:)\s{0,4}(?:[|>][+\-]?\s{1,16})?|%3[DdAa]|[ \t]{1,4}->[ \t]{1,4}"
    r"|[ \t]{0,4},[ \t]{0,4}(?=b?\\*[\"']))"
)
_QUOTED: Final = re.compile(r"[bBrRuUfF]{0,2}(\\*+)([\"'])")
_OPENED: Final = re.compile(r"[\w.]{0,64}[\[({]")
_BRACKETS: Final = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|[\[\](){}]", re.DOTALL)
_SCHEME: Final = re.compile(
    r"(?:Bearer|Basic|Token|Digest|Api-?Key|Key|Negotiate|NTLM|OAuth|Signature|Hawk|DPoP|AWS4-HMAC-SHA256|SharedKey)"
    r"(?:[ \t]{1,8}|%20|\+)(?=\S)",
    re.IGNORECASE,
)
_BARE: Final = re.compile(
    r"(?:[^\s,;&\"'<>|)\]}\\]"
    r"|[,;&|](?!\s|\Z|[\"']?[\w.\-]{1,40}[\"']?\s?[=:])"
    r"|[)\]}](?=[\w!@#$%^*+\-])"
    r"|<(?![/\s]|\Z)"
    r"|>(?![<\s]|\Z)"
    r"|[\"'](?=[\w!@#$%^*])"
    r"|\\(?![nrt\"'\\\s]|\Z))++"
)
_ASSIGNED: Final = re.compile(r"[ \t]{1,4}=[ \t]{1,4}(?=[^\s=])")
_MEMBER: Final = re.compile(r"\\{0,8}[\"'][ \t]{0,4}:")
_LINE: Final = re.compile(r"[^\r\n\"'<>]++")
_WHOLE_LINE: Final = ("cookie", "cookies", "set_cookie", "passphrase", "proxy_authorization", "authorization")
_NOTHING: Final = frozenset(
    {"none", "null", "nil", "undefined", "-", "''", '""', "***", "****", "[redacted]", "redacted"}
)
_FLAG: Final = re.compile(r"(?<![\w\-])--?([A-Za-z][\w\-]{1,63})[ \t]{1,4}(?![\-\s])")
_ELEMENT: Final = re.compile(r"<(?:[\w\-]{1,32}:)?([\w.\-]{1,64})(?:\s[^<>]{0,256})?>([^<]{1,4096})<")
_ENCODED: Final = re.compile(r"[0-9A-Fa-f]{2}")
_ESCAPE: Final = re.compile(r"\\u[0-9a-fA-F]{4}")


def pairs(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find what stands behind a secret name, as ``name=value``, ``name: value``, in JSON, in pairs or a repr."""
    at = 0
    for match in _PAIR.finditer(text):
        if match.start() < at:
            continue
        rule = _rule_of(match, text, secret)
        if rule is None:
            continue
        start, end = _value(text, match.end(), rule)
        if match["gap"].lstrip()[:1] == "," and _MEMBER.match(text, end):  # "Cookie", "value": …
            continue
        at = end
        if at > start and text[start:at].lower() not in _NOTHING:
            yield start, at, rule


def _rule_of(match: re.Match[str], text: str, secret: Secret) -> str | None:
    name = match["name"]
    start = match.start()
    if match["gap"].lstrip()[:1] == "," and match["quote"] is None:
        return None
    if "\\u" in name:
        name = unescaped(name)
    if start and text[start - 1] == "\\" and name[0] in "nrt":  # the end of an escape, as in a repr
        name = name[1:]
    elif start and text[start - 1] == "%" and _ENCODED.match(name):  # the end of what is percent-encoded
        name = name[2:]
    name = name[-128:].strip(".-")
    if not name:
        return None
    index = [each for each in match["index"][1:-1].split("][") if each and not each.isdecimal()]
    rule = secret(index[-1]) if index else None
    rule = rule or secret(name)
    if rule is None and "." in name:
        rule = secret(name.rpartition(".")[2])
    if rule is None and text[start - 1 : start] == " ":
        *before, last = text[max(0, start - 48) : start - 1].split(" ")[-2:]  # api key: …, credit card number = …
        rule = secret(f"{last} {name}") or (secret(f"{before[0]} {last} {name}") if before else None)
    return rule


def _value(text: str, at: int, rule: str, *, typed: bool = False) -> Span:
    """Return where the value begins and ends that starts there."""
    quoted = _QUOTED.match(text, at)
    if quoted:
        return quoted.end(), _closing(text, quoted.end(), quoted[2], len(quoted[1]))
    if _OPENED.match(text, at):
        return at, _balanced(text, at)
    if rule.endswith(_WHOLE_LINE):
        line = _LINE.match(text, at)
        return at, line.end() if line else at
    scheme = _SCHEME.match(text, at)
    bare = _BARE.match(text, scheme.end() if scheme else at)
    assigned = _ASSIGNED.match(text, bare.end()) if bare and not typed else None
    if assigned:  # what was taken for the value is its type, as in a line of source
        return at, _value(text, assigned.end(), rule, typed=True)[1]
    return at, bare.end() if bare else at


def _closing(text: str, at: int, quote: str, escapes: int) -> int:
    """Return where a quoted value ends. Its quotes have *escapes* backslashes; those inside it have more."""
    while (found := text.find(quote, at)) >= 0:
        before = found
        while before > at and text[before - 1] == "\\":
            before -= 1
        backslashes = found - before
        if not escapes and not backslashes and found > at and text[found + 1 : found + 2] == quote:
            at = found + 2  # doubled, as SQL writes a quote inside of quotes
            continue
        if backslashes == escapes or (backslashes > escapes and (backslashes - escapes) % (2 * (escapes + 1)) == 0):
            return found - escapes
        at = found + 1
    return len(text)


def _balanced(text: str, at: int) -> int:
    """Return where the bracket is closed that opens there; the end of the text if it is not."""
    depth = 0
    for match in _BRACKETS.finditer(text, at):
        if match[0] in "[({":
            depth += 1
        elif match[0] in "])}":
            depth -= 1
            if depth == 0:
                return match.end()
    return len(text)


def flags(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find what follows a secret option of a command, as in ``--password hunter2``."""
    for match in _FLAG.finditer(text):
        rule = secret(match[1])
        if rule is not None:
            start, end = _value(text, match.end(), "")
            if end > start:
                yield start, end, rule


def elements(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find the content of XML elements with a secret name."""
    for match in _ELEMENT.finditer(text):
        rule = secret(match[1])
        if rule is not None:
            yield *match.span(2), rule


_NAMED: Final = re.compile(
    r"(?<![\w\-])(?:name|key)(?:\\*[\"'])?\s{0,4}[:=]\s{0,4}\\*[\"']([\w. \-]{1,64})\\*[\"'],?\s{1,16}"
    r"(?:\\*[\"'])?value(?:\\*[\"'])?\s{0,4}[:=]\s{0,4}(?=\\*[\"'])"
)


def named(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find the values of pairs that are written out: ``name="password" value="…"``, in XML, JSON or a repr."""
    for match in _NAMED.finditer(text):
        rule = secret(match[1])
        if rule is not None:
            yield *_value(text, match.end(), ""), rule


_URL_END: Final = re.compile(r"[\s\"'<>`\\]|\Z")
_PATH_BEGIN: Final = re.compile(r"[/?#]")
_PORT: Final = re.compile(r"[^\s/@:]*(?::[0-9]{1,5})?\Z")


def userinfo(text: str) -> Iterator[Span]:
    """Find the passwords in URLs, or what stands in place of a user and is too long to be one."""
    at = stop = last_at = -1
    while (at := text.find("://", at + 1)) >= 0:
        start = at + 3
        if start > stop:
            end = _URL_END.search(text, start)
            stop = end.start() if end else len(text)
            last_at = text.rfind("@", start, stop)
        if last_at < start:
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


def unescaped(name: str) -> str:
    """Return a text with its JSON escapes of four hex digits as what they mean."""
    return _ESCAPE.sub(lambda match: str(orjson.loads(f'"{match[0]}"')) if match[0][2:3] not in "dD" else "", name)
