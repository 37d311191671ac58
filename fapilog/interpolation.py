"""Format arguments into the text of an event as ``%`` does, within bounds: of time, and of what is made."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fapilog.encoding import LIMITS, Limits, plain
from fapilog.excerpts import MAX_WEIGHT, weight

MAX_CONVERSIONS: Final = 256
"""How many ``%`` an event may have that is formatted."""

_LIGHT: Final = frozenset({int, float, bool, type(None)})
_LONG: Final = (str, bytes, bytearray, dict, list, tuple, set, frozenset)
_WIDE: Final = re.compile(r"[0-9]{4}|\*")
_CONVERSION: Final = re.compile(r"[-+ #0]*(\*|[0-9]+)?(?:\.(\*|[0-9]*))?[hlL]?(.?)", re.DOTALL)


def interpolated(event: str, args: tuple[Any, ...], limits: Limits = LIMITS) -> str:
    """Return *event* with *args* formatted into it; a single mapping gives them by name.

    Raises:
        ValueError: The event, or a width or precision in it, is too large.
        Exception: Whatever ``%`` raises, and what an argument does when it is asked for its text.
    """
    if str.__len__(event) > limits.string:
        raise ValueError(f"an event of {str.__len__(event)} characters is not formatted")
    if event.count("%") > MAX_CONVERSIONS:
        raise ValueError(f"an event with more than {MAX_CONVERSIONS} conversions is not formatted")
    if _WIDE.search(event) and _width(event, args, limits.string) > limits.string:
        raise ValueError(f"a width or precision is larger than {limits.string}")
    if len(args) == 1 and issubclass(type(args[0]), Mapping) and args[0]:
        named: str = event % (bounded(args[0], limits) if issubclass(type(args[0]), dict) else args[0])
        return named
    return event % tuple([bounded(argument, limits) for argument in args])


def bounded(argument: Any, limits: Limits = LIMITS) -> Any:
    """Return what may be formatted into an event: *argument*, or the plain value of what has very much to say."""
    kind = type(argument)
    if kind in _LIGHT:
        return argument
    if issubclass(kind, str):
        if str.__len__(argument) <= limits.string:
            return argument
    elif not issubclass(kind, (*_LONG, BaseException)) or weight(argument) <= MAX_WEIGHT:
        return argument
    return plain(argument, replace(limits, string=limits.string // 2))  # so that the event has room for what follows


def _width(event: str, args: tuple[Any, ...], most: int) -> int:
    """Return how many characters the widths and precisions in an event stand for, all told."""
    total, taken = 0, 0
    at = event.find("%")
    while at >= 0:
        at += 1
        if event[at : at + 1] == "(":
            depth = 1
            while depth and at + 1 < len(event):
                at += 1
                depth += {"(": 1, ")": -1}.get(event[at], 0)
            at += 1
        conversion = _CONVERSION.match(event, at)
        if conversion is None:
            break
        for said in conversion.group(1, 2):
            if said == "*":
                given = args[taken] if taken < len(args) else 0
                taken += 1
                total += abs(int.__index__(given)) if issubclass(type(given), int) else 0
            elif said:
                total += int(said) if len(said) < 10 else most + 1
        taken += conversion[3] != "%"
        at = event.find("%", conversion.end())
    return total
