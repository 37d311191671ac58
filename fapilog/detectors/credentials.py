"""Credentials that can be told by their form, in any text.

The forms are those the issuers document; lengths are taken a little shorter, so that a cut one is found too. What has
no form of its own, such as a password or an AWS secret key, can only be told by the name it stands under.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Final

from fapilog.detectors import Detector, Span

_WORD: Final = r"(?<![A-Za-z0-9])"
_ALONE: Final = r"(?<![A-Za-z0-9_\-])"
"""What may come before a form that is an English word, or near one."""

_PART: Final = re.compile(r"[A-Za-z0-9]+")
_MIXED: Final = re.compile(r"[a-z][A-Z]|[A-Za-z][0-9]|[0-9][A-Za-z]")
_LONG_NUMBER: Final = re.compile(r"[0-9]{5}")
_LEAST_RANDOM: Final = 8
_LEAST_RANDOM_IN_ALL: Final = 10
_MAX_SEEN: Final = 512
_PEM_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_NO_TOKENS: Final = frozenset(
    """
    authentication authorization authenticate credential credentials scheme format header headers required
    missing invalid expired tokens realm error failed security
    """.split()  # noqa: SIM905 - a list of them would take a page
)


def _formed(
    name: str, pattern: str, *literals: str, confidence: float = 0.99, valid: Callable[[str], bool] | None = None
) -> Detector:
    """Return a detector of a form; what is secret is its first group, or all of it."""
    compiled = re.compile(pattern)
    group = 1 if compiled.groups else 0

    def find(text: str) -> Iterable[Span]:
        for match in compiled.finditer(text):
            if valid is None or valid(match[group]):
                yield match.span(group)

    return Detector(name, confidence, find, literals)


def _is_token(said: str) -> bool:
    """Tell what may follow ``Bearer`` from a word that follows it in a sentence."""
    lower = said.rstrip(".").lower()
    if lower in _NO_TOKENS:
        return False
    return len(lower) >= 12 or not lower.isalpha() or not said[1:].rstrip(".").islower()


def _is_random(said: str) -> bool:
    """Tell characters drawn by chance from words joined by ``-`` and ``_``: some part is neither word nor number."""
    parts = [part for part in _PART.findall(said[:_MAX_SEEN]) if _MIXED.search(part)]
    return any(len(part) >= _LEAST_RANDOM for part in parts) or sum(map(len, parts)) >= _LEAST_RANDOM_IN_ALL


def _is_slack(said: str) -> bool:
    return bool(_LONG_NUMBER.search(said)) or _is_random(said)


def _is_basic(said: str) -> bool:
    said = said[:512].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b":" in base64.b64decode(said[: len(said) - (len(said) % 4 == 1)] + "=" * (-len(said) % 4))
    except (binascii.Error, ValueError):
        return False


def _private_keys(text: str) -> Iterable[Span]:
    """Find blocks; one whose end or begin was cut off counts to where the text ends or its base64 begins."""
    at = 0
    while True:
        begin = _PEM_BEGIN.search(text, at)
        end = _PEM_END.search(text, begin.end() if begin else at)
        if begin is None:
            if end is not None:
                body = text[at : end.start()]
                reversed_body = _BODY_REVERSED.match(body[::-1])
                yield end.start() - (reversed_body.end() if reversed_body else 0), end.end()
            return
        yield begin.start(), end.end() if end else len(text)
        if end is None:
            return
        at = end.end()


_BODY_REVERSED: Final = re.compile(r"(?:[A-Za-z0-9+/=\s\\])*+")

CREDENTIALS: Final = (
    Detector("private_key", 0.99, _private_keys, ("PRIVATE KEY",)),
    _formed(
        "jwt",
        r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{13,}+\.[A-Za-z0-9_\-]{4,}+(?:\.[A-Za-z0-9_\-]*+){0,3}",
        "eyJ",
    ),
    _formed(
        "bearer",
        _WORD + r"(?:[Bb]earer|BEARER)(?:[ \t]{1,8}|%20|\+)([A-Za-z0-9._~+/=%\-]{6,}+)",
        "earer",
        "EARER",
        confidence=0.9,
        valid=_is_token,
    ),
    _formed(
        "basic",
        _WORD + r"(?:[Bb]asic|BASIC)(?:[ \t]{1,8}|%20|\+)([A-Za-z0-9+/_\-]{4,}+={0,2})",
        "asic ",
        "ASIC ",
        "asic%20",
        "asic\t",
        "asic+",
        confidence=0.95,
        valid=_is_basic,
    ),
    _formed(
        "aws_key",
        _WORD + r"(?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ANVA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        "AKIA",
        "ASIA",
        "AROA",
        "AIDA",
        "AGPA",
        "ANPA",
        "ANVA",
    ),
    _formed(
        "github",
        _WORD + r"(?:gh[pousr]_[A-Za-z0-9]{16,}+|github_pat_[A-Za-z0-9_]{16,}+)",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
    ),
    _formed(
        "gitlab",
        _WORD + r"(?:gl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|soat|ffct)-[A-Za-z0-9_\-]{16,}+[A-Za-z0-9_.\-]*+"
        r"|GR1348941[A-Za-z0-9_\-]{16,}+)",
        *("glpat-", "gloas-", "gldt-", "glrt-", "glrtr-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-"),
        "glffct-",
        "GR1348941",
    ),
    _formed(
        "slack",
        _WORD + r"(?:xox[abcdeoprs](?:\.xox[a-z])?-[A-Za-z0-9\-]{11,}+|xapp-[A-Za-z0-9\-]{11,}+)",
        "xox",
        "xapp-",
        valid=_is_slack,
    ),
    _formed(
        "webhook_url",
        r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/|\.webhook\.office\.com/webhookb2/)((?:[A-Za-z0-9_@.\-]{1,64}+/){0,8}[A-Za-z0-9_\-]{16,}+)",
        "hooks.slack.com/",
        ".com/api/webhooks/",
        ".webhook.office.com/",
    ),
    _formed(
        "stripe",
        _WORD + r"(?:[sr]k_(?:live|test|prod)_[A-Za-z0-9]{8,}+|whsec_[A-Za-z0-9+/]{16,}+)",
        "k_live_",
        "k_test_",
        "k_prod_",
        "whsec_",
    ),
    _formed(
        "google",
        _WORD + r"(?:AIza[A-Za-z0-9_\-]{30,}+|ya29\.[A-Za-z0-9_\-]{16,}+[A-Za-z0-9_.\-]*+|GOCSPX-[A-Za-z0-9_\-]{16,}+)",
        "AIza",
        "ya29.",
        "GOCSPX-",
    ),
    _formed(
        "azure",
        r"(?:(?<![A-Za-z0-9_~.\-])[A-Za-z0-9_~.\-]{3}[78]Q~[A-Za-z0-9_~.\-]{31,34}"
        r"|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{76}(?:AzCa|AzSe|AzFu|AIoT|APIM|ACDb|\+AMC|\+ASt)[A-Za-z0-9+/]{2,6}={0,2})",
        "7Q~",
        "8Q~",
        "AzCa",
        "AzSe",
        "AzFu",
        "AIoT",
        "APIM",
        "ACDb",
        "+AMC",
        "+ASt",
    ),
    _formed(
        "openai",
        _WORD + r"sk-(?:ant-|proj-|svcacct-|admin-|or-)?[A-Za-z0-9_\-]{20,}+",
        "sk-",
        valid=_is_random,
    ),
    _formed("npm", _WORD + r"npm_[A-Za-z0-9]{24,}+", "npm_"),
    _formed("pypi", _WORD + r"pypi-[A-Za-z0-9_\-]{24,}+", "pypi-"),
    _formed("huggingface", _WORD + r"(?:hf_[A-Za-z0-9]{24,}+|api_org_[A-Za-z0-9]{24,}+)", "hf_", "api_org_"),
    _formed("sendgrid", _WORD + r"SG\.[A-Za-z0-9_\-]{16,64}\.[A-Za-z0-9_\-]{16,64}", "SG."),
    _formed("twilio", _WORD + r"SK[0-9a-f]{32}(?![A-Za-z0-9])", "SK", confidence=0.9),
    _formed("mailgun", _ALONE + r"key-[0-9a-f]{32}(?![A-Za-z0-9])", "key-", confidence=0.9),
    _formed("telegram", r"(?<![0-9A-Za-z])[0-9]{8,10}:AA[A-Za-z0-9_\-]{30,}+", ":AA"),
    _formed("shopify", _WORD + r"shp(?:at|ca|pa|ss|tka)_[A-Fa-f0-9]{32}", "shp"),
    _formed("digitalocean", _WORD + r"do[opr]_v1_[a-f0-9]{32,64}", "_v1_"),
    _formed("vault", _WORD + r"hv[sbr]\.[A-Za-z0-9_\-]{20,}+", "hvs.", "hvb.", "hvr."),
    _formed("databricks", _WORD + r"dapi[0-9a-f]{32}(?:-[0-9])?", "dapi"),
    _formed("atlassian", _WORD + r"AT(?:ATT3|BB|CTT3)[A-Za-z0-9_\-=]{20,}+", "ATATT3", "ATBB", "ATCTT3"),
    _formed("age", r"AGE-SECRET-KEY-1[0-9A-Z]{20,}+", "AGE-SECRET-KEY-1"),
    _formed(
        "vendor_token",
        _ALONE + r"(?:lin_api_|PMAK-|dckr_pat_|rubygems_|sntry[su]_|glsa_|NRAK-|figd_|xkeysib-|ion_"
        r"|sq0(?:atp|csp|idp)-|EAAA|shippo_live_|pul-|tfp_|PRVT-|r8_)[A-Za-z0-9_\-]{20,}+",
        "lin_api_",
        "PMAK-",
        "dckr_pat_",
        "rubygems_",
        "sntrys_",
        "sntryu_",
        "glsa_",
        "NRAK-",
        "figd_",
        "xkeysib-",
        "sq0",
        "EAAA",
        "shippo_live_",
        "pul-",
        "tfp_",
        "PRVT-",
        "r8_",
        "ion_",
        confidence=0.9,
        valid=_is_random,
    ),
)
"""What is looked for by default. Nothing of it matches a hex id, a UUID or a timestamp."""
