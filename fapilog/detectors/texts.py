"""Secrets in a text that are told by the name they stand under: pairs, JSON, XML, flags of a command."""

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import orjson

from fapilog.detectors import Span

Secret: TypeAlias = Callable[[str], str | None]
"""Returns the rule by which a value under a name may be secret, or None."""

Weigh: TypeAlias = Callable[[str, str, bool], bool]
"""Tells whether a value is secret that stands under a name which *may* say so; True: it stands there without quotes."""


def _always(_name: str, _value: str, _bare: bool) -> bool:
    return True


_PAIR: Final = re.compile(
    r"(?<![\w.\-])(?!(?<=\\)u[0-9a-fA-F]{4})(?P<name>(?:[\w.\-]|\\u[0-9a-fA-F]{4})++)(?P<index>(?:\[\w{0,32}\])*+)(?P<quote>\\*+(?:\"{1,2}+|'{1,2}+)|&quot;|%22|[*`]{1,3})?+(?:\]|%5[Dd])?+(?:\x1b\[[\d;]{0,12}m){0,4}"
    r"(?P<gap>[ \t\xa0]{0,64}(?:=>|:=|={1,3}|:|\r?\n[ \t]{0,16}:(?!\w[\w ]{0,32}:|:))(?:[*`]{1,3}(?=\s))?"
    r"\s{0,4}[ \t\xa0]{0,64}(?P<block>[|>][+\-]?\s{1,64})?|%3[DdAa]|[ \t]{1,4}->[ \t]{1,4}"
    r"|[ \t]{0,4},[ \t]{0,4}(?=b?\\*[\"']))"
)
_COLOUR: Final = re.compile(r"\x1b\[(?:\d{0,3};){0,4}\Z")
_COLOURS: Final = re.compile(r"(?:\x1b\[[\d;]{0,12}m){1,4}")
_COLOUR_END: Final = re.compile(r"\d{0,3}m")
_QUOTED: Final = re.compile(r"[bBrRuUfF]{0,2}(\\*+)(\"\"\"(?!\")|'''(?!')|[\"'])")
_DOUBLED: Final = re.compile(r"(\"\"|'')(?=[^\s,;:&}\])>\"'])")
"""A quote that is doubled because it stands in quotes, as in a cell of CSV, and encloses something."""

_OPENED: Final = re.compile(r"[\w.]{0,64}[\[({]")
_BRACKETS: Final = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|[\[\](){}]", re.DOTALL)
_SCHEME: Final = re.compile(
    r"(?:Bearer|Basic|Token|Digest|Api-?Key|Key|Negotiate|NTLM|OAuth|Signature|Hawk|DPoP|AWS4-HMAC-SHA256|SharedKey|![A-Za-z][\w/.\-]{0,31})"
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
_MEMBER: Final = re.compile(r"\\{0,8}[\"']{1,2}[ \t]{0,4}:")
_LINE_END: Final = re.compile(r"[\r\n]|\Z")
_LINE: Final = re.compile(
    r"(?:[=:,{\[(] {0,2}(?:\"(?:[^\"\\\r\n]|\\.)*+\"|'(?:[^'\\\r\n]|\\.)*+'|\\++\"[^\"\r\n]*+\"|\\++'[^'\r\n]*+')"
    r"|[^\r\n\"'<>\\]"
    r"|[\"'](?=\w|\s?;)"
    r"|\\++(?![\"'])"
    r"|<(?![/\s]|\Z)"
    r"|>(?=[\w;]))++"
)
"""A header to where it ends: quotes within it are its own, one that no sign comes before is of what stands around."""

_WHOLE_LINE: Final = ("cookie", "cookies", "set_cookie", "passphrase", "proxy_authorization", "authorization")
_MODULES: Final = frozenset({"token", "tokens", "auth", "jwt", "otp", "csrf", "secrets", "credentials", "cookies"})
_STATE: Final = re.compile(r"[a-z]{1,24}(?![^\s.,;!])")
"""What is told of a module: ``auth.token: loaded``."""

_MAX_WEIGHED: Final = 256
NOTHING: Final = frozenset(
    {"none", "null", "nil", "undefined", "-", "''", '""', "***", "****", "[redacted]", "redacted"}
)
_STATES: Final = frozenset(
    """
    expired invalid valid missing required revoked rejected absent unset empty true false yes no ok failed
    """.split()  # noqa: SIM905 - as the others are written
)
"""What a text says of a secret rather than the secret itself, where it has no quotes."""

_STATEMENT: Final = re.compile(
    r"\b(?:PASSWORD|(?i:identified\s{1,4}by(?:\s{1,4}password)?"
    r"|(?:with|login|encrypted|unencrypted|role|user)\s{1,4}password))\s{1,4}(?=')"
)
_LONGEST_NOTHING: Final = 16
_FLAG: Final = re.compile(r"(?<![\w\-])--?([A-Za-z][\w\-]{1,63})[ \t]{1,4}(?![\-\s])")
_ELEMENT: Final = re.compile(
    r"<(?:[\w\-]{1,32}:)?(?:"
    r"[\w.\-]{1,32}\s(?:[^<>]{0,128}\s)?(?:name|key)=\\?[\"'](?P<attribute>[\w.\- ]{1,64})\\?[\"'][^<>]{0,128}"
    r"|key>(?P<key>[^<>]{1,64})</key>\s{0,64}<\w{1,16}"
    r"|(?P<tag>[\w.\-]{1,64})(?:\s[^<>]{0,256})?"
    r")>\s{0,16}(?:<!\[CDATA\[(?P<data>(?:[^\]]|\](?!\]>))++)|(?P<text>[^<]++)(?=<|\Z))"
)
_ENCODED: Final = re.compile(r"[0-9A-Fa-f]{2}")
_ESCAPE: Final = re.compile(r"\\u[0-9a-fA-F]{4}")


def pairs(text: str, secret: Secret, weigh: Weigh = _always) -> Iterator[tuple[int, int, str]]:
    """Find what stands behind a secret name, as ``name=value``, ``name: value``, in JSON, in pairs or a repr."""
    at = 0
    for match in _PAIR.finditer(text):
        if match.start() < at:
            continue
        rule, name = _rule_of(match, text, secret)
        if rule is None:
            continue
        start, end = _value(text, match.end(), rule, match)
        if not weigh(
            name,
            text[start : min(end, start + _MAX_WEIGHED)],
            start == match.end() and text[start : start + 1] not in "[(",
        ):
            continue
        if match["gap"].lstrip()[:1] == "," and _MEMBER.match(text, end):  # "Cookie", "value": …
            continue
        at = end
        said = text[start:at].lower() if at - start <= _LONGEST_NOTHING else "…"
        if said and said not in NOTHING and (start != match.end() or said.rstrip(".!") not in _STATES):
            yield start, at, rule


def _rule_of(match: re.Match[str], text: str, secret: Secret) -> tuple[str | None, str]:
    """Return the rule by which a value may be secret, and the name that says so."""
    name = match["name"]
    start = match.start()
    if match["gap"].lstrip()[:1] == "," and match["quote"] is None:
        return None, name
    if "\\u" in name:
        name = unescaped(name)
    if start and text[start - 1] == "\\" and name[0] in "nrt":  # the end of an escape, as in a repr
        name = name[1:]
    elif start and text[start - 1] == "%" and _ENCODED.match(name):  # the end of what is percent-encoded
        name = name[2:]
    elif start and text[start - 1] in "[;" and _COLOUR.search(text, max(0, start - 20), start):
        name = _COLOUR_END.sub("", name, count=1)
    name = name[-128:].strip(".-")
    if not name:
        return None, name
    index = [each for each in match["index"][1:-1].split("][") if each and not each.isdecimal()]
    said = [*index[-1:], name]
    *modules, last = name.split(".")
    if modules:
        if last in _MODULES and match["gap"] == ": " and _STATE.match(text, match.end()):
            return None, name
        said.append(last)
    if text[start - 1 : start] == " ":
        *before, word = text[max(0, start - 48) : start - 1].split(" ")[-2:]  # api key: …, credit card number = …
        said += [f"{word} {name}", *[f"{each} {word} {name}" for each in before]]
    return next(((rule, each) for each in said if (rule := secret(each))), (None, name))


def _value(text: str, at: int, rule: str, named: re.Match[str] | None = None) -> Span:
    """Return where the value begins and ends that starts there; *named* is what was read before it."""
    colours = _COLOURS.match(text, at)
    at = colours.end() if colours else at
    if named is not None and "\n" in (named["block"] or ""):
        return at, _block(text, at)
    doubled = _DOUBLED.match(text, at)
    if doubled:
        end = text.find(doubled[1], doubled.end())
        while end >= 0 and text[end - 1] == "\\":
            end = text.find(doubled[1], end + 2)
        return doubled.end(), end if end >= 0 else len(text)
    quoted = _QUOTED.match(text, at)
    if quoted:
        end = _closing(text, quoted.end(), quoted[2], len(quoted[1]))
        if rule.endswith(_WHOLE_LINE) and text[end + 1 : end + 2].isalnum():  # its own quotes are not escaped
            line = _LINE.match(text, quoted.end())
            end = max(end, line.end()) if line else end
        return quoted.end(), end
    if _OPENED.match(text, at):
        return at, _balanced(text, at)
    if named is not None and rule.endswith(_WHOLE_LINE):
        return at, _header(text, at, named.start() if named["quote"] is None else 0)
    scheme = _SCHEME.match(text, at)
    bare = _BARE.match(text, scheme.end() if scheme else at)
    assigned = _ASSIGNED.match(text, bare.end()) if bare and named is not None else None
    if assigned:  # what was taken for the value is its type, as in a line of source
        return at, _value(text, assigned.end(), "")[1]
    return at, bare.end() if bare else at


def _header(text: str, at: int, name: int) -> int:
    """Return where a header's value ends that begins *at*, its name at *name*: with its line, or the quote around."""
    if text[name - 1 : name] in ('"', "'"):
        before = name - 1
        while before and text[before - 1] == "\\":
            before -= 1
        return _closing(text, at, text[name - 1], name - 1 - before, _line_end(text, at))
    line = _LINE.match(text, at)
    return line.end() if line else at


def _line_end(text: str, at: int) -> int:
    end = _LINE_END.search(text, at)
    return end.start() if end else len(text)


def _block(text: str, at: int) -> int:
    """Return where a block of YAML ends whose first line begins *at*: before what is indented less."""
    indent = text[text.rfind("\n", 0, at) + 1 : at]
    stop = _line_end(text, at)
    more = indent and re.compile(rf"(?:\r?\n(?:{indent}[^\r\n]*|[ \t]*(?=\r?\n)))*+").match(text, stop)
    return more.end() if more else stop


def _closing(text: str, at: int, quote: str, escapes: int, stop: int | None = None) -> int:
    """Return where a quoted value ends, at the latest at *stop*.

    Its quotes have *escapes* backslashes; those inside it have more.
    """
    stop = len(text) if stop is None else stop
    while (found := text.find(quote, at, stop)) >= 0:
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
    return stop


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


def flags(text: str, secret: Secret, weigh: Weigh = _always) -> Iterator[tuple[int, int, str]]:
    """Find what follows a secret option of a command, as in ``--password hunter2``."""
    for match in _FLAG.finditer(text):
        rule = secret(match[1])
        if rule is not None:
            start, end = _value(text, match.end(), "")
            if end > start and weigh(match[1], text[start : min(end, start + _MAX_WEIGHED)], start == match.end()):
                yield start, end, rule


def statements(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find the passwords in statements of SQL: ``IDENTIFIED BY 'hunter2'``, ``WITH PASSWORD 'hunter2'``."""
    rule = secret("password")
    for match in _STATEMENT.finditer(text) if rule else ():
        yield *_value(text, match.end(), ""), str(rule)


def elements(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find the content of XML elements with a secret name."""
    for match in _ELEMENT.finditer(text):
        names = [match[name] for name in ("attribute", "key", "tag") if match[name]]
        rule = next(filter(None, map(secret, names)), None)
        if rule is not None:
            yield *match.span("data" if match["data"] else "text"), rule


_NAME: Final = (
    r"(?<![\w\-])(?:name|key|header|field)(?:\\*[\"']{1,2})?\s{0,4}[:=]\s{0,4}"
    r"\\*[\"']{1,2}(?P<name>[\w. \-]{1,64})\\*[\"']{1,2}"
)
_ITS: Final = r"(?<![\w\-])values?(?:\\*[\"']{1,2})?\s{0,4}[:=]\s{0,4}"
_BETWEEN: Final = r"(?:,\s{0,32}|\s{1,32})(?:\\*[\"']{1,2})?"
_NAMED: Final = re.compile(rf"{_NAME}{_BETWEEN}{_ITS}(?=\\*[\"']|\[)", re.IGNORECASE)
_NAMED_AFTER: Final = re.compile(
    rf"{_ITS}(?P<value>\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|\\++\"[^\"]*+\"|\[[^\[\]]*+\]|[\w.\-]++){_BETWEEN}{_NAME}",
    re.IGNORECASE | re.DOTALL,
)
_NAMED_BARE: Final = re.compile(
    r"(?<![\w\-])(?P<kind>\w{0,16}?)(?:name|key|header|field)\s?[:=]\s?(?P<name>[\w.\-]{1,64})"
    r"(?:\s?[,;]\s?|[ \t])(?P=kind)values?\s?[:=]\s?(?=[^\s,;])",
    re.IGNORECASE,
)
_NAMED_BARE_AFTER: Final = re.compile(
    r"(?<![\w\-])(?P<kind>\w{0,16}?)values?\s?[:=]\s?(?P<value>[^\s,;=\"'\[{(]++)"
    r"(?:\s?[,;]\s?|[ \t])(?P=kind)(?:name|key|header|field)\s?[:=]\s?(?P<name>[\w.\-]{1,64})(?![\w.\-])",
    re.IGNORECASE,
)


def named(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find the values of pairs that are written out.

    As in ``name="password" value="…"``, in XML, JSON or a repr, and in ``Key=DB_PASSWORD,Value=…``.
    """
    for match in _NAMED.finditer(text):
        rule = secret(match["name"])
        if rule is not None:
            yield *_value(text, match.end(), ""), rule
    for match in _NAMED_AFTER.finditer(text):
        rule = secret(match["name"])
        if rule is not None:
            yield *_value(text, match.start("value"), ""), rule
    named_before = set()
    for match in _NAMED_BARE.finditer(text):
        named_before.add(match.end())
        rule = secret(match["name"])
        if rule is not None:
            yield *_value(text, match.end(), ""), rule
    for match in _NAMED_BARE_AFTER.finditer(text):
        rule = secret(match["name"])
        if rule is not None and match.start("value") not in named_before:
            yield *match.span("value"), rule


_INVALID: Final = re.compile(r"^([\w.\-]{1,256})\n[^\n]{0,512}?\[type=\w{1,64}, input_value=", re.MULTILINE)
_INPUT_END: Final = re.compile(r", input_type=|$", re.MULTILINE)


def invalid(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find the inputs that pydantic tells of in the text of a ValidationError, below the name of the field."""
    for match in _INVALID.finditer(text):
        rule = next(filter(None, map(secret, match[1].split("."))), None)
        end = _INPUT_END.search(text, match.end())
        if rule is not None and end is not None:
            yield match.end(), end.start(), rule


def unescaped(name: str) -> str:
    """Return a text with its JSON escapes of four hex digits as what they mean."""
    return _ESCAPE.sub(lambda match: str(orjson.loads(f'"{match[0]}"')) if match[0][2:3] not in "dD" else "", name)
