"""What tells of a person: e-mail and network addresses, telephone and social security numbers."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from fapilog.detectors import Detector, Span
from fapilog.detectors.numbers import CARD, IBAN

# ---- e-mail

_EMAIL: Final = re.compile(
    r"(?:(?<![\w.+\-%'~!#$*{}|@])((?:[\w.+\-'~!#$*{}|]|%(?!40)){1,64}+)|(\"[^\W_][^\"\n@\\]{0,61}\"))(?:@|%40)"
    r"(?:((?:[^\W_](?:[\w\-]{0,62}+)\.){1,8}(?:[^\W\d_]{2,24}+|xn--[a-z0-9\-]{2,40}+))|\[(?:IPv6:)?[0-9A-Fa-f:.]{3,45}\])"
)
_FILE_ENDINGS: Final = frozenset(
    """
    png jpg jpeg gif webp svg ico bmp tiff avif heic pdf css scss js mjs cjs jsx ts tsx json html htm xml yaml
    yml toml txt log md csv py pyc rb go java kt class jar war php sql lock gz tgz zip tar bz2 xz deb rpm whl
    exe dll so conf cfg ini bak tmp service socket timer target mount slice device scope mp3 mp4 mov wav woff
    woff2 ttf map
    """.split()  # noqa: SIM905 - a list of them would take a page
)
_ALSO_COUNTRIES: Final = frozenset({"py", "md", "so"})


def _emails(text: str) -> Iterable[Span]:
    for match in _EMAIL.finditer(text):
        start, end = match.span()
        local, domain = match[1], match[3]
        if local is not None:
            kept = local.lstrip("'%~!#$*{}|-+")
            if (
                local.startswith("%")
                and len(kept) > 2
                and kept[:2].upper() in {"3A", "3D", "22", "27", "20", "3C", "26"}
            ):
                kept = kept[2:]  # what is before it is encoded as the @ is
            start += len(local) - len(kept)
            if not kept or kept[0] == "." or kept[-1] == "." or ".." in kept:
                continue
        if domain is not None and not _is_mail_domain(domain):
            continue
        following = text[end : end + 2]
        if following[:1] in {"@", "_"} or (following[:1] == "-" and following[1:].isalnum()):
            continue
        if following[:1] == ":" and (following[1:].isalpha() or following[1:] in {"/", "~"}):
            continue  # user@host:path, as ssh and git write it
        if _in_authority(text, start):
            continue
        yield start, end


def _is_mail_domain(domain: str) -> bool:
    *labels, last = domain.lower().split(".")
    if any(label.endswith("-") or len(label) > 63 for label in labels):
        return False
    if last in _FILE_ENDINGS and (last not in _ALSO_COUNTRIES or labels[0][:1].isdigit()):
        return False
    return not re.fullmatch(r"\d+x|v?\d+", labels[0]) or (labels[0].isdigit() and not last.startswith(("beta", "rc")))


def _in_authority(text: str, at: int) -> bool:
    """Tell whether what begins there is the user of a URL: ``ssh://git@host``."""
    before = text[max(0, at - 256) : at]
    slashes = before.rfind("://")
    return slashes >= 0 and not re.search(r"[\s/?#\"'<>,;]", before[slashes + 3 :])


# ---- telephone

_COUNTRY_CODES: Final = frozenset(
    """
    1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81
    82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233
    234 235 236 237 238 239 240 241 242 243 244 245 246 248 249 250 251 252 253 254 255 256 257 258 260 261
    262 263 264 265 266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372
    373 374 375 376 377 378 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508
    509 590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686
    687 688 689 690 691 692 800 808 850 852 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964
    965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998
    """.split()  # noqa: SIM905 - a list of them would take a page
)
_NOT_BEFORE: Final = r"(?<![\w.+\-/:=#$€£])(?<![\w][ ]\()"
_NOT_BEHIND: Final = r"(?![\w%€$£°]|[.:/\-]\w|,[0-9]| ?[€$£%])"
_GAP: Final = "[ .\\-/\u00a0\u2010-\u2013]"
_INTERNATIONAL: Final = re.compile(
    rf"(?<![\w+.\-])(?:\(?\+|(00) ?(?=[1-9][0-9 ]{{0,3}}[ .\-/(]))[1-9](?:{_GAP}?\(?[0-9]\)?){{6,16}}"
    r"(?!\w|[.,:][0-9]|-\w)"
)
_NATIONAL: Final = "|".join(  # noqa: FLY002 - one line for each form
    (
        # North America: 212-555-0147, 212.555.0147, (212) 555-0147, 1-800-555-0199
        r"(?:1[ .\-])?[1-9][0-9]{2}([.\-])[0-9]{3}\1[0-9]{4}",
        r"(?:1[ .\-])?[2-9][0-9]{2} [2-9][0-9]{2}[ \-][0-9]{4}",
        r"(?:1[ .\-]?)?\([1-9][0-9]{2}\)[ .\-]?[0-9]{3}[ .\-][0-9]{4}",
        # a trunk zero: 020 7946 0958, 030/1234567, 06 12 34 56 78, 01.42.68.53.00, (02) 9374 4000, 0171-1234567
        r"0[1-9]([ .\-])[0-9]{2}(?:\2[0-9]{2}){3}",
        r"\(0[1-9][0-9]{0,4}\)[ \-/]?[0-9]{2,4}(?:[ \-]?[0-9]{2,5}){1,3}",
        r"0[1-9][0-9]{0,3}(?:[ /\-]| / )[0-9]{5,8}",
        r"0[1-9][0-9]{0,3}(?:[ \-/]| / )[0-9]{2,4}(?:[ \-][0-9]{2,5}){1,4}",
        r"07[1-9][0-9]{8}|0[67][0-9]{8}",
        # other groupings that nothing else has: (11) 91234-5678, 98765 43210, 138 0013 8000
        r"\([1-9][0-9]\)[ ]?9?[0-9]{4}-[0-9]{4}",
        r"[6-9][0-9]{4}[ \-][0-9]{5}",
        r"(?<![0-9] )[679][1-9][0-9] (?!000)[0-9]{3} (?!000)[0-9]{3}(?! [0-9])",
        r"8[ \-]\(?[3489][0-9]{2}\)?[ \-][0-9]{3}[ \-][0-9]{2}[ \-][0-9]{2}",
        r"1[3-9][0-9][ \-][0-9]{4}[ \-][0-9]{4}",
    )
)
_NATIONAL_ALONE: Final = re.compile(rf"{_NOT_BEFORE}(?:{_NATIONAL}){_NOT_BEHIND}")
_NATIONAL_AFTER: Final = re.compile(rf"(?<=[=:])(?:{_NATIONAL}){_NOT_BEHIND}")
_LABELLED: Final = re.compile(
    r"(?<![A-Za-z])(?:tele)?(?:phone|fon|fax|mobile|mobil|cell|cellphone|whatsapp|tel|msisdn|handy)"
    r"(?:[ _\-]?(?:number|no|nr|nummer)\b)?[.\"']{0,2}[ ]?[:=#]?[ ]?[\"']?(\+?\(?[0-9](?:[ .\-/()]{0,2}[0-9]){6,14})"
    r"(?!\w|[.,][0-9])",
    re.IGNORECASE,
)
_LONE: Final = re.compile(r"[0-9]{2}")


def _phones(text: str) -> Iterable[Span]:
    found: list[Span] = []
    if "+" in text or "00" in text:
        for match in _INTERNATIONAL.finditer(text):
            said, start = match[0], match.start()
            if said.count(")") > said.count("("):
                said = said.removesuffix(")")
            elif said[0] == "(" and said.find(")") == len(said) - 1:  # the whole number is in brackets
                said, start = said[1:-1], start + 1
            if _is_international(said):
                found.append((start, start + len(said)))
    if _LONE.search(text):
        for pattern in (_NATIONAL_ALONE, _NATIONAL_AFTER):
            found += [match.span() for match in pattern.finditer(text) if _is_national(match[0])]
        found += [match.span(1) for match in _LABELLED.finditer(text)]
    return sorted(found)


def _is_international(said: str) -> bool:
    digits = "".join(filter(str.isdigit, said))
    if said.startswith("00"):
        digits = digits[2:]
    if said.count("(") != said.count(")") or not 8 <= len(digits) <= 15:
        return False
    code = next((digits[:size] for size in (1, 2, 3) if digits[:size] in _COUNTRY_CODES), None)
    if code is None:
        return False
    return code != "1" or (len(digits) == 11 and digits[1] not in "01")


def _is_national(said: str) -> bool:
    digits = "".join(filter(str.isdigit, said))
    return 9 <= len(digits) <= (16 if digits.startswith("011") else 12) and len(set(digits)) > 2


# ---- social security number (United States)

_SSN: Final = re.compile(
    r"(?<![\w.\-+])(?<![0-9]/)(?!000|666|9)[0-9]{3}"
    r"([\- \u2010-\u2013])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?!\w|[.\-]\w|[,/][0-9])"
)
_LABELLED_SSN: Final = re.compile(
    r"(?:\bssn|\bsocial[ _\-]?security(?:[ _\-]?(?:number|no|nr))?)(?:[ #:=.]{0,3}| (?:is|was|of):? )"
    r"((?!000|666|9)[0-9]{3}(?!00)[0-9]{2}(?!0000)[0-9]{4})(?!\w|[.\-]\w|,[0-9])",
    re.IGNORECASE,
)
_NEVER_ISSUED: Final = frozenset({"078051120", "219099999", "457555462"})
"""Numbers that were printed on sample cards."""


def _ssns(text: str) -> Iterable[Span]:
    found = [
        match.span()
        for match in _SSN.finditer(text)
        if "".join(filter(str.isdigit, match[0])) not in _NEVER_ISSUED and len(set(match[0])) > 2
    ]
    return sorted(found + [match.span(1) for match in _LABELLED_SSN.finditer(text)])


# ---- network addresses

_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = re.compile(
    rf"(?<![\w.$])(?<![\w+~^<>]-)(?<![\w)]/)(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\w|-(?![0-9]{{1,3}}\.)\w|\+\w)"
)
_VERSION_BEFORE: Final = re.compile(
    r"(?:(?:(?<![A-Za-z])(?i:v|vers?|versions?|semver|oid|section|chapter|clause|figure|paragraph"
    r"|(?:mac|i|ipad)?os(?: ?x)?|os x"
    r"|(?:build|release|patch|revision|firmware)(?= (?i:number|no\b|level|id)))|(?<=[a-z0-9])Version)"
    r"(?i:[ _\-]?(?:number|no\b\.?|name|string|level|id|code|info)| (?:is|was|of))?[ :=/_.\"'(\\]{0,8}v?"
    r"|§ ?|#|(?<![A-Za-z])(?i:Chrome|Chromium|Firefox|Safari|Edge?|Opera|OPR|Version|AppleWebKit)/)\Z"
)
"""What says that a version follows, whatever it is."""

_PRODUCT_BEFORE: Final = re.compile(
    r"(?:\b(?:release|released|build|rev|revision|firmware|fw|driver|kernel|update|upgraded?|patch|edition|sdk|api|nt|tag"
    r"|windows|android|chrome|chromium|firefox|safari|edge|opera|python|node(?:js)?|java|jdk|jre|ruby|php|perl|rust|go"
    r"|pip|npm|yarn|openssl|nginx|apache|httpd|tomcat|envoy|haproxy|postgres(?:ql)?|mysql|mariadb|mongodb|redis|kafka"
    r"|hadoop|spark|elasticsearch|rabbitmq|zookeeper|etcd|consul|vault|nomad|terraform|ansible|kubernetes|k8s|helm"
    r"|kubelet|docker|containerd|grpc|protobuf|spring|hibernate|django|flask|fastapi|rails|react|angular|vue|numpy"
    r"|pandas|glibc|gcc|clang|llvm|cuda|dependency|package|library|lib|module|plugin|extension|chart|image|artifact|gem"
    r"|crate|wheel|jar|requires?|needs?|installed|installing)"
    r"[ :=/_.\"'(]{0,3}|(?:gem|package|library|module|plugin|dependency|crate|requires?) [\w.\-]{1,40} "
    r"|[A-Za-z][\w.]*-[a-z]{1,20}:|[=~><!]= ?|(?<=\w)[<>]|[\^~@]|[A-Za-z]/)\Z",
    re.IGNORECASE,
)
"""What may have a version, or an address."""

_ADDRESS_NAME: Final = re.compile(r"-(?:ip|for|addr|address|host|client|server|peer|by):\Z", re.IGNORECASE)
_ROUTE_WORDS: Final = re.compile(r"\b(?:from|to|for|of)[ ]?\Z", re.IGNORECASE)
_VERSION_WORD: Final = re.compile(r"\b(?:upgrad|downgrad|version|releas|updat|bump|migrat)", re.IGNORECASE)
_NETWORKS: Final = re.compile(
    r"(?:10|127|169\.254|192\.168|192\.0\.2|198\.51\.100|203\.0\.113|172\.(?:1[6-9]|2[0-9]|3[01])"
    r"|100\.(?:6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7]))\."
)
"""Private networks and those of documentation: hardly a version."""

_VERSION_LIKE: Final = re.compile(
    r"(?:[0-9]|[123][0-9])\.[0-9]{1,2}\.[0-9]{1,2}\.[0-9]+|1[0-4][0-9]\.0\.[0-9]+\.[0-9]+"
)
_VERSION_BEHIND: Final = re.compile(
    r"=|[\"')]? (?:or (?:later|newer|above|higher|greater|older|earlier|below)|and (?:later|newer|above|up)"
    r"|\(?(?:alpha|beta|rc|stable|lts|ga|snapshot|preview|nightly|build|released?)\b)",
    re.IGNORECASE,
)
_VERSION_SINCE: Final = re.compile(
    r"\b(?:fixed|introduced|deprecated|added|removed|changed|available|new|supported|required|shipped|included|broken"
    r"|works?|bug|feature)(?: only)? (?:in|since|as of|with|until|on)[ ]\Z",
    re.IGNORECASE,
)
_PORT_OR_PREFIX: Final = re.compile(r":[0-9]{2,5}(?![\w.]\w|\w)|/(?:[89]|[12][0-9]|3[0-2])(?![\w.]\w|\w)")
"""What follows an address and no version."""

_SMALL: Final = re.compile(r"[1-9]?[0-9]\.[0-9]{1,2}\.[0-9]{1,2}\.[0-2]?[0-9]")
"""Of public addresses few are so small, and of versions nearly all."""

_NO_HOST: Final = re.compile(r"[0-9]+\.(?:0\.0\.[0-9]+|[0-9]+\.0\.0)|1\.3\.6\.1|2\.5\.(?:4|29)\.[0-9]+")
"""What is hardly given to a host, but to the first of a version, or to an object in a directory (OID)."""

_WELL_KNOWN: Final = frozenset({"1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "4.2.2.2"})
_ANY_WORD: Final = re.compile(
    r"(?:(?<![\w.\-/@])(?:@[a-z]+/)?[A-Za-z][A-Za-z0-9+_\-]{1,30} "
    r"|(?<![A-Za-z0-9+_\-])[A-Za-z][A-Za-z0-9+_\-]{1,30}:)\Z"
)
_OF_ADDRESSES: Final = re.compile(
    r"(?:(?<![A-Za-z])(?:at|by|of|for|to|from|with|on|in|via|and|or|as|is|are|was|not|see|user|client|host|hostname|ips?|ipv4"
    r"|addr|address|peer|server|remote|source|src|dst|target|dest(?:ination)?|dns|resolver|nameserver|gateway|proxy|router"
    r"|subnet|network|route|interface|vpn|nat|ping|dial(?:ing)?|connect(?:ed|ing)?|reach(?:ed|ing)?|resolv(?:ed|es)"
    r"|block(?:ed)?|ban(?:ned)?|unban(?:ned)?|allow(?:ed)?|den(?:y|ied)|login|request|call(?:er)?|visitor|lookup"
    r"|listen(?:ing)?|bind|bound|endpoint|upstream|downstream|scan(?:ned)?|attacker|sender|origin|record|against|between|toward)"
    r"|(?:client|remote|src|dst|source|dest|server|host|peer|user|public|private)_?(?:ips?|addr|address))"
    r"[\"')]?[ :=]{1,3}[\"'(\[<]?\Z",
    re.IGNORECASE,
)
_MAX_WEIGHED: Final = 100
"""How many in one text may be versions: to look at what stands around takes up to 0.1 ms, and all others are masked."""

_IPV6: Final = re.compile(
    r"(?<![\w:.])((?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{0,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3}))(?!\w|:[\w:]|\.\w)(%[\w.\-]{1,16})?"
)
_IPV6_RANGES: Final = re.compile(
    r"[23][0-9a-f]{3}:|f[cd][0-9a-f]{2}:|fe[89a-f][0-9a-f]:|ff[0-9a-f]{2}:|0{0,4}:(?:0{0,4}:)*(?:0{0,3}1\Z|ffff:|[0-9.]+\Z)"
    r"|0{0,2}64:ff9b:|0?100::",
    re.IGNORECASE,
)
"""Those in use: global unicast, unique local, link local, multicast, the loopback, and those that hold an IPv4 address.
https://www.iana.org/assignments/ipv6-address-space/"""


def _ips(text: str) -> Iterable[Span]:
    found = []
    if text.count(".") >= 3:
        found = [
            match.span()
            for at, match in enumerate(_IPV4.finditer(text))
            if (_is_ipv4(text, match) if at < _MAX_WEIGHED else _may_be_ipv4(match[0]))
        ]
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            said = match[1]
            more = said.endswith(":") and not said.endswith("::")  # what follows an address in a sentence
            if _is_ipv6(said[: len(said) - more]):
                found.append((match.start(), match.end() - more))
        found.sort()
    return found


def _is_ipv4(text: str, match: re.Match[str]) -> bool:
    said = match[0]
    if not _may_be_ipv4(said):
        return False
    before = text[max(0, match.start() - 48) : match.start()]
    if before.endswith("://"):
        return True
    if _VERSION_BEFORE.search(before):
        return False
    if _NETWORKS.match(said) or not _VERSION_LIKE.fullmatch(said):
        return True
    if _ROUTE_WORDS.search(before):
        return not _VERSION_WORD.search(text, max(0, match.start() - 60), match.start())
    if _PRODUCT_BEFORE.search(before):
        return _ADDRESS_NAME.search(before) is not None
    if _VERSION_BEHIND.match(text, match.end()) or _VERSION_SINCE.search(before):
        return False
    if said in _WELL_KNOWN or _OF_ADDRESSES.search(before) or _PORT_OR_PREFIX.match(text, match.end()):
        return True
    return not _NO_HOST.fullmatch(said) and not (_SMALL.fullmatch(said) and _ANY_WORD.search(before))


def _may_be_ipv4(said: str) -> bool:
    return not said.startswith(("0.", "255.255."))  # this network, and masks


def _is_ipv6(said: str) -> bool:
    if not _IPV6_RANGES.match(said):
        return False  # face::1 and dead::beef are names in C++ and Perl, 10::20 is a range
    if all(len(group) == 2 for group in said.split(":")):
        return False  # the address of a network card
    try:
        ipaddress.IPv6Address(said)
    except ValueError:
        return False
    return True


PERSONAL: Final = {
    each.name: each
    for each in (
        Detector("email", 0.95, _emails, ("@", "%40")),
        CARD,
        IBAN,
        Detector("phone", 0.8, _phones),
        Detector("ssn", 0.85, _ssns),
        Detector("ip", 0.9, _ips, (".", ":")),
    )
}
"""The detectors that presets turn on, by name."""

PRESETS: Final = {
    "gdpr": ("email", "phone", "iban", "card", "ip"),
    "hipaa": ("email", "phone", "ssn", "ip"),
    "pci": ("card",),
}
"""Which of them each preset turns on."""

PRESET_FIELDS: Final = {
    "gdpr": ("date_of_birth", "birth_date", "dob", "passport_number", "national_id", "tax_id"),
    "hipaa": ("date_of_birth", "birth_date", "dob", "mrn", "medical_record_number", "health_plan_number"),
    "pci": ("pan", "cardholder_name", "track_data", "pin_block", "card_security_code"),
}
"""Which further names each preset makes secret."""

_FIELDS: Final = {
    "phone": re.compile(
        r"(?:.*_)?(?:phone|telephone|cellphone|cell_phone|mobile|mobil|tel|telefon|fax|whatsapp|msisdn|handy)"
        r"(?:_?(?:number|num|no|nr|nummer|e164))?s?_?[0-9]?"
    ),
    "email": re.compile(r"(?:.*_)?e?_?mail(?:_address|_addr)?(?:e?s)?_?[0-9]?"),
    "iban": re.compile(r"(?:.*_)?iban(?:_?(?:number|no|nr))?s?"),
    "ip": re.compile(r"(?:.*_)?(?:ip(?:v[46])?(?:_addr(?:ess)?)?|remote_addr|forwarded_for)(?:e?s)?"),
}
"""Names of fields that hold it, their words in lower case."""

_FORMS: Final = {
    "phone": re.compile(r"[+(]{0,2}(?:[0-9][ .\-/()\u00a0\u2010-\u2013]{0,3}){7,15}(?:(?:x|ext\.?)[ ]?[0-9]{1,6})?"),
    "email": re.compile(r"[^@\s]{1,64}(?:@|%40)[^@\s]{1,255}"),
    "iban": re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ \-]?[A-Za-z0-9]){11,30}"),
}
"""What may stand there: any number that can be dialled, though alone it would be taken for an id."""


def personal_kind(name: str, wanted: Iterable[str]) -> str | None:
    """Return which of the *wanted* kinds a field holds by its name, such as ``home_phone``, or None."""
    return next((kind for kind, names in _FIELDS.items() if kind in wanted and names.fullmatch(name)), None)


def is_personal(kind: str, said: str) -> bool:
    """Tell whether all of a text can be what the name of its field says."""
    said = said.strip()[:_MAX_FIELD]
    if kind != "ip":
        return _FORMS[kind].fullmatch(said) is not None
    try:
        ipaddress.ip_address(said)
    except ValueError:
        return False
    return not said.isdecimal()


_MAX_FIELD: Final = 512
