"""Card numbers and bank accounts: told by their length, their issuer or country, and their check digits."""

import re
from collections.abc import Iterable
from typing import Final

from fapilog.detectors import Detector, Span

_SEPARATOR: Final = "[ .\\-\u00a0\u2010-\u2013]"
_CARD: Final = re.compile(
    r"(?<![A-Za-z0-9+\-])(?<![0-9][.,])(?:"
    r"[0-9]{12,19}+"
    rf"|[0-9]{{4}}({_SEPARATOR})[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{2,4}}(?:\1[0-9]{{1,3}}(?![\w]))?"
    rf"|[0-9]{{4}}({_SEPARATOR})[0-9]{{6}}\2[0-9]{{4,5}}"
    r")(?!\w|[.,\-][0-9])"
)
_SHORT_OF_CARD: Final = re.compile(rf"[0-9]{{4}}({_SEPARATOR})[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}")

_CARD_PREFIXES: Final = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "649", (16, 17, 18, 19)),
    ("65", "65", (16, 17, 18, 19)),
    ("300", "305", (14, 16, 17, 18, 19)),  # Diners Club
    ("3095", "3095", (14, 16)),
    ("36", "36", (14, 16)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("8171", "8171", (16,)),
    ("5018", "5018", (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("5020", "5020", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("5038", "5038", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("5893", "5893", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6304", "6304", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6759", "6759", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6761", "6763", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("5610", "5610", (16,)),
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("60", "60", (16,)),  # RuPay
    ("508", "508", (16,)),
    ("9792", "9792", (16,)),  # Troy
    ("5019", "5019", (16,)),  # Dankort
)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def is_card(digits: str) -> bool:
    """Tell whether digits are a card number: length and first digits of an issuer, and the check digit (Luhn)."""
    size = len(digits)
    if not 12 <= size <= 19 or not any(
        size in sizes and low <= digits[: len(low)] <= high for low, high, sizes in _CARD_PREFIXES
    ):
        return False
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def _cards(text: str) -> Iterable[Span]:
    for match in _CARD.finditer(text):
        said = match[0]
        if is_card("".join(filter(str.isdigit, said))):
            yield match.span()
        elif len(said) > 19:  # sixteen digits, and a security code behind them
            shorter = _SHORT_OF_CARD.match(said)
            if shorter and is_card("".join(filter(str.isdigit, shorter[0]))):
                yield match.start(), match.start() + shorter.end()


# The countries by the length of their account numbers.
# https://www.swift.com/standards/data-standards/iban-international-bank-account-number
_COUNTRIES: Final = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS: Final = {country: length for length, countries in _COUNTRIES.items() for country in countries.split()}
_IBAN: Final = re.compile("(?<![A-Za-z0-9])(?<![A-Za-z0-9]-)[A-Za-z]{2}[0-9]{2}(?=[ \\-.\u00a0]?[A-Za-z0-9])")
_GROUP: Final = re.compile("[ \\-.\u00a0]?([A-Za-z0-9]+)")
_HEX: Final = frozenset("0123456789abcdefABCDEF")


def is_iban(said: str) -> bool:
    """Tell whether *said*, without spaces, is a bank account number: length of its country, and remainder 1 by 97."""
    said = said.upper()
    if len(said) != _IBAN_LENGTHS.get(said[:2]) or not said.isalnum() or not said.isascii():
        return False
    return int("".join(str(int(each, 36)) for each in said[4:] + said[:4])) % 97 == 1


def _ibans(text: str) -> Iterable[Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        said, at, groups = match[0], match.end(), 0
        while len(said) < length:
            group = _GROUP.match(text, at, at + length + 2 - len(said))
            if group is None or len(said) + len(group[1]) > length:
                break
            if text[group.start()] == "-" and len(said) % 4:  # dashes divide a UUID otherwise
                break
            said, at, groups = said + group[1], group.end(), groups + (group.end() - group.start() > len(group[1]))
        behind = text[at : at + 2].removeprefix("-")[:1]
        if len(said) != length or behind.isalnum() or not is_iban(said):
            continue
        # Ids are lower-case hex of these lengths; an account among them would be one of a million.
        if not groups and length in {16, 24} and not said.isupper() and _HEX.issuperset(said):
            continue
        yield match.start(), at


CARD: Final = Detector("card", 0.99, _cards)
IBAN: Final = Detector("iban", 0.99, _ibans)
