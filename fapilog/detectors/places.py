"""Tell by what stands beside it that a value is secret: by another member of an object, or by the item before it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fapilog.detectors.names import Names

_NAME_KEYS: Final = frozenset({"name", "key", "header", "field", "variable", "loc"})
_VALUE_KEYS: Final = frozenset({"value", "values", "val", "input", "head", "tail"})
"""What names the one and what holds the other in pairs: of headers, variables, errors of pydantic, series."""

_LONGEST_KEY: Final = 8
_LONGEST_NAME: Final = 128
_PAIR: Final = 2
_IDENTIFIER: Final = re.compile(r"[a-z]+(?:_[a-z]+)*")
"""What is rather another name: lists of names are common."""


def rules_of_members(members: Mapping[str, Any], names: Names) -> dict[str, str]:
    """Return the rules by which members are secret because another names them.

    As in ``{"Key": "DB_PASSWORD", "Value": …}``. A list says a place, as in ``{"loc": ["body", "password"], …}``.
    """
    keys = [(name.lower(), name) for name in members if len(name) <= _LONGEST_KEY]
    said = [members[name] for lower, name in keys if lower in _NAME_KEYS]
    if not said:
        return {}
    parts = [each for name in said for each in (name if type(name) is list else [name]) if type(each) is str]
    found = {}
    for lower, name in keys:
        value = members[name]
        if lower in _VALUE_KEYS and value is not None and value not in ("", [], {}):
            rule = next(filter(None, (names.under(part[-_LONGEST_NAME:], value) for part in parts)), None)
            if rule:
                found[name] = rule
    return found


def rule_of_next(items: Sequence[Any], at: int, names: Names, *, paired: bool) -> str | None:
    """Return the rule by which an item is secret because the text *at* the position before it is its name.

    As in pairs, in flat lists of headers, and behind an option of a command. *paired*: the list is itself in a list, as
    pairs are, so that the first names the second whatever it is.
    """
    name, following = items[at], items[at + 1] if at + 1 < len(items) else None
    if following is None or len(name) > _LONGEST_NAME:
        return None
    rule = names.under(name.lstrip("-"), following)
    if rule is None or name[:1] == "-" or (paired and at == 0):
        return rule
    is_secret = not _IDENTIFIER.fullmatch(following) if type(following) is str else at == 0 and len(items) == _PAIR
    return rule if is_secret else None
