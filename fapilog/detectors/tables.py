"""Secrets in the cells of a table that is written as text, told by the name of their column.

Tables of Markdown and of database shells, with a line under their header or a sign around each row, and of commas,
tabs or semicolons, with a line of names first. A row has as many cells as the header.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from fapilog.detectors.texts import NOTHING, Secret

_HEADER: Final = re.compile(r"^(?:[\w.\- \"'`*]++|(?=\|))[|,;\t][\w.\- \"'`*|,;\t]{1,1024}+(?=\r?$)", re.MULTILINE)
_RULE: Final = frozenset(" \t|+:=-")
_ROW: Final = re.compile(r"\r?\n([^\r\n]++)")
_SIGNS: Final = {
    "|": re.compile(r"\\.|(\|)"),
    **{sign: re.compile(rf"\"(?:[^\"]|\"\")*+\"|({sign})") for sign in ",;\t"},
}
"""What divides cells, and before it what may hold the same sign and divides nothing."""

_NAME: Final = re.compile(r"[A-Za-z_][\w.\- ]{0,63}")
_AROUND: Final = " \t\"'`*"
_LONGEST_NAME: Final = 128
_OF_VALUES: Final = frozenset({"value", "values", "val"})


def cells(text: str, secret: Secret) -> Iterator[tuple[int, int, str]]:
    """Find the cells under a secret name, and those under ``value`` in a row that has a secret name."""
    done = 0
    for match in _HEADER.finditer(text):
        if match.start() < done:
            continue
        line = match[0]
        sign = next(each for each in "|\t;," if each in line)
        names = [line[start:end].strip(_AROUND) for start, end in _spans(line, sign)]
        is_prose = line[0] in " \t" or f"{sign} " in line
        if sign != "|" and (len(names) < 2 or is_prose or not all(map(_NAME.fullmatch, names))):
            continue  # a sentence, or a list below something
        rules = {at: rule for at, name in enumerate(names) if (rule := secret(name[-_LONGEST_NAME:]))}
        values = next((at for at, name in enumerate(names) if name.lower() in _OF_VALUES and len(names) > 1), None)
        row = _ROW.match(text, match.end())
        is_ruled = sign == "|" and row is not None and _is_rule(row[1])
        if sign == "|" and not is_ruled and (line[0] != "|" or line.rstrip()[-1] != "|"):
            continue  # a line of a log
        if rules or values is not None or is_ruled:
            found, done = _under(text, match.end(), sign, len(names), rules, values, secret)
            yield from found


def _under(
    text: str, at: int, sign: str, width: int, rules: Mapping[int, str], values: int | None, secret: Secret
) -> tuple[list[tuple[int, int, str]], int]:
    """Return what is secret in the rows that begin *at*, and where they end."""
    found = []
    while (row := _ROW.match(text, at)) is not None:
        line, start = row[1], row.start(1)
        if sign != "|" or not _is_rule(line):
            spans = _spans(line, sign)
            if len(spans) != width:
                break
            held = dict(rules)
            if values is not None and values not in held:
                said = [line[begin:end].strip(_AROUND)[-_LONGEST_NAME:] for begin, end in spans]
                rule = next(filter(None, (secret(name) for each, name in enumerate(said) if each != values)), None)
                if rule:
                    held[values] = rule
            for each, rule in held.items():
                begin, end = spans[each]
                value = line[begin:end].strip(_AROUND)
                if value and value.lower() not in NOTHING:
                    begin += line[begin:end].index(value)
                    found.append((start + begin, start + begin + len(value), rule))
        at = row.end()
    return found, at


def _is_rule(line: str) -> bool:
    return "--" in line and _RULE.issuperset(line)


def _spans(line: str, sign: str) -> list[tuple[int, int]]:
    """Return where each cell of a row begins and ends."""
    signs = [match.start() for match in _SIGNS[sign].finditer(line) if match[1]]
    spans = list(zip([0, *[at + 1 for at in signs]], [*signs, len(line)], strict=True))
    if sign == "|":  # those around the row divide nothing
        if line[:1] == "|":
            del spans[0]
        if line.rstrip()[-1:] == "|":
            del spans[-1:]
    return spans
