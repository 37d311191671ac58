"""Look through the texts of a record for what is secret, and through most of them with a glance."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from fapilog.detectors import Detector, holds, tables, texts, urls
from fapilog.detectors.names import Names

Found: TypeAlias = tuple[int, int, str]

_GLANCE: Final = 1_024
_GLANCE_OF_MORE: Final = 256

_CUT: Final = re.compile(r"<\+[0-9]+ more>\Z")
_BREAK: Final = re.compile(r"[\s\"'<>,;]")
_MAX_CUT: Final = 512
_MAX_MARKER: Final = 32

_SHORTEST: Final = 16
"""No credential is shorter, but for those that say what they are."""

_PLAIN: Final = re.compile(r"[\w./]*+(?:(?: (?<![rcRC] )|-(?!-))[\w./]++)*+").fullmatch
"""A short text of these has nothing between a name and a value, and no ``Bearer`` or ``Basic`` before anything."""

_SHORTEST_WITH_WORD: Final = 10
_BETWEEN: Final = ("',", '",', "--", "->", "</", "%3")
"""What else stands between a name and its value, or before a name."""

_WORDS: Final = ("earer", "EARER", "asic", "ASIC", "PRIVATE KEY")
_RUN: Final = "a" * _SHORTEST
_RUNS: Final = bytes(97 if chr(code).isalnum() or chr(code) in "_-" else code for code in range(128)) + bytes(
    range(128, 256)
)
_HEX: Final = "0123456789abcdefABCDEF-"
_MAX_SEEN: Final = 4_096
_MAX_SEEN_LENGTH: Final = 256


class Scanner:
    """Finds in a text what a configuration says is secret."""

    def __init__(
        self,
        *,
        names: Names,
        hides: Callable[[str, str], bool] | None,
        credentials: tuple[Detector, ...],
        more: tuple[Detector, ...],
        texts: bool,
        masked: str,
    ) -> None:
        """Decide once what is looked for.

        Args:
            names: Tells the rule by which a value under a name is secret.
            hides: Tells whether a parameter of a URL is secret; None: URLs are not looked at.
            credentials: Detectors of what is at least 16 characters long, or says what it is.
            more: Other detectors.
            texts: Whether names in texts are looked at.
            masked: What stands in place of a value that was taken out before.
        """
        self._rule = names.rule
        self._maybe = lambda name: names.rule(name) or names.vague(name)
        self._weigh = lambda name, value, bare: names.under(name, value, bare=bare) is not None
        self._stems = names.stems
        self._hides = hides
        self._credentials = credentials
        self._literals = tuple({literal for each in credentials for literal in each.literals})
        self.more = more
        self.cards = any(each.name == "card" for each in more)
        """Whether a number may be a card's."""
        self.glance = _GLANCE_OF_MORE if more else _GLANCE
        """How long a text may be that is looked at while nobody looks at the clock."""

        self._texts = texts
        self._masked = masked
        self.seen: set[str] = set()
        """Texts in which nothing was found, to be known again: user agents, paths, events."""

    def passes(self, fields: Mapping[str, Any]) -> bool:
        """Tell whether nothing in the values of *fields*, which are strings and numbers, has to be taken out.

        Of a long string that cannot be told here.
        """
        seen = self.seen
        for value in fields.values():
            kind = type(value)
            if kind is str:
                if len(value) > self.glance or (value not in seen and not self.is_clean(value)):
                    return False
            elif self.cards and kind is int and value >= 10**11:
                return False
        return True

    def is_clean(self, text: str) -> bool:
        """Tell whether nothing in a text has to be taken out."""
        try:
            return not self.find(text)
        except Exception:  # noqa: BLE001 - whoever looks closer will meet it again, and mask the field
            return False

    def find(self, text: str) -> list[Found]:
        """Find what is secret in a text, in order: where it begins and ends, and its rule."""
        if text in self.seen:
            return []
        # A word has neither, and is told quicker.
        is_plain = (
            len(text) < _SHORTEST
            and not self.more
            and (text.replace("-", "").replace("_", "").isalnum() or _PLAIN(text))
        )
        found = [] if is_plain else self._spans(text)
        if not found and len(text) <= _MAX_SEEN_LENGTH:
            if len(self.seen) >= _MAX_SEEN:
                self.seen.clear()
            self.seen.add(text)
        return found

    def _spans(self, said: str) -> list[Found]:
        found: list[Found] = []
        if self._texts and (":" in said or "=" in said or "\n" in said or holds(said, _BETWEEN)):
            low = said.lower()
            if "\\u" in low:
                low = texts.unescaped(low)
            low = low.replace("_", "").replace("-", "").replace(" ", "").replace(".", "")
            if holds(low, self._stems):
                found += texts.pairs(said, self._maybe, self._weigh)
                if "value" in low:
                    found += texts.named(said, self._rule)
                if "--" in said:
                    found += texts.flags(said, self._maybe, self._weigh)
                if "</" in said:
                    found += texts.elements(said, self._rule)
                if "\n" in said:
                    found += tables.cells(said, self._rule)
                if "input_value=" in said:
                    found += texts.invalid(said, self._rule)
        if self._texts and " '" in said:
            found += texts.statements(said, self._rule)
        if self._hides is not None and "=" in said and ("?" in said or "#" in said):
            found += [(start, end, "url_parameter") for start, end in urls.parameters(said, self._hides)]
        if self._hides is not None:
            if "://" in said:
                found += [(start, end, "url_userinfo") for start, end in urls.userinfo(said)]
            if ("%" in said and ("40" in said or "@" in said)) or "\\/" in said:
                found += [(start, end, "url_userinfo") for start, end in urls.escaped_userinfo(said)]
        if self._credentials and len(said) >= _SHORTEST_WITH_WORD:
            cut = _CUT.search(said, len(said) - _MAX_MARKER) if said.endswith(" more>") else None
            if cut:  # of a credential that was cut not enough may be left to know it by
                run = _BREAK.split(said[max(0, cut.start() - _MAX_CUT) : cut.start()])[-1]
                if holds(run, self._literals):
                    found.append((cut.start() - len(run), cut.start(), "cut"))
            if self._may_hold_credential(said):
                _look(self._credentials, said, found)
        if self.more:
            _look(self.more, said, found)
        if found:
            found = [span for span in found if said[span[0] : span[1]] != self._masked]
            found.sort(key=_order)
        return found

    def _may_hold_credential(self, said: str) -> bool:
        """Tell whether it is worth to look for one: most texts have no run of letters and digits as long."""
        if holds(said, _WORDS):
            return True
        if len(said) < _SHORTEST or not said.strip(_HEX):  # an id, as many texts are
            return False
        if _RUN not in said.encode("utf-8", "replace").translate(_RUNS).decode("latin-1"):
            return False
        return len(said) > _GLANCE or holds(said, self._literals)  # in a long text each is looked for once


def _look(detectors: Iterable[Detector], said: str, found: list[Found]) -> None:
    for detector in detectors:
        if detector.may_be_in(said):
            found += [(start, end, detector.name) for start, end in detector.find(said)]


def _order(span: Found) -> tuple[int, int]:
    return span[0], -span[1]
