"""Tell by the text of an event that the arguments which could not be formatted into it are secret."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from fapilog.detectors import holds
from fapilog.detectors.names import words

_DIGITS: Final = re.compile(r"[0-9_]+")


def named_beside(rules: Iterable[str], stems: tuple[str, ...]) -> Callable[[Any, Any], str | None]:
    """Return what tells the rule of a secret name that is in an event, or among its arguments; None if there is none.

    Which of the arguments is its value cannot be told: all of them may be.

    Args:
        rules: Those of names, as `fapilog.detectors.names.Names.rules` gives them; none: nothing is secret.
        stems: One of these is in every such name, in lower case and with nothing between its words.
    """
    # `max_tokens %d` names no secret, and what stands under `tokens` alone is looked at by itself.
    known = [(rule, *rule.split(":", 1)) for rule in rules if rule != "field:tokens"]

    def rule_of(event: Any, arguments: Any) -> str | None:
        if arguments is None:
            return None
        said = f"{event} {arguments}"
        if not holds("".join(filter(str.isalnum, said.casefold())), stems):
            return None
        spelt = f"_{words(said)}_"
        without_digits = _DIGITS.sub("_", spelt)
        for rule, kind, name in known:
            if kind == "path":
                if "." not in name:  # a wildcard, which may stand for any of the words
                    return rule
                continue
            ending = name.lstrip("*_")
            if f"_{ending}_" in spelt or f"_{ending.replace('_', '')}_" in without_digits:
                return rule
            if not name.isascii() and name.casefold() in said.casefold():
                return rule
        return None

    return rule_of
