"""Take what is secret out of a record: by the names of its fields, by their places, and by the form of texts.

It comes last, over plain values, and fails closed: of what cannot be looked at nothing is kept.
"""

import copy
import functools
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import orjson

from fapilog.detectors.arguments import named_beside
from fapilog.detectors.credentials import CREDENTIALS
from fapilog.detectors.names import DEFAULT_FIELDS, SECRET_SUFFIXES, Names, Paths, is_path, squeezed, words
from fapilog.detectors.patterns import pattern
from fapilog.detectors.personal import PERSONAL, PRESET_FIELDS, PRESETS, is_personal, personal_kind
from fapilog.detectors.places import rule_of_next, rules_of_members
from fapilog.detectors.scanner import Scanner
from fapilog.diagnostics import report
from fapilog.errors import ConfigurationError
from fapilog.failpoints import hit
from fapilog.masks import Masks
from fapilog.processors.budget import Budget
from fapilog.processors.own_fields import IDS, OURS
from fapilog.types import Event

__all__ = ["DEFAULT_FIELDS", "SECRET_SUFFIXES", "Finding", "Redact"]

Mode: TypeAlias = Literal["mask", "partial", "hash", "drop", "tokenize"]
Group: TypeAlias = Literal["fields", "texts", "urls", "credentials"]

FAILED: Final = "<redaction failed>"
ARGUMENTS: Final = "_args"
"""The field of the arguments that could not be formatted into an event."""

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
GROUPS: Final[tuple[Group, ...]] = get_args(Group)

_OTHER_RULES: Final = ("url_userinfo", "url_parameter", "allow", "function", "cut", "failed")
_DROPPED: Final = object()
_LONGEST_NAME: Final = 128
_KEPT_AT_END: Final = 4
_LEAST_FOR_PARTIAL: Final = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that redaction takes out of an event. It never holds the value."""

    path: str
    """Where it is: names and positions, joined by dots."""

    rule: str
    """By which rule: ``field:password``, ``path:user.*.email``, ``allow``, or the name of a detector."""

    confidence: float
    """How sure the rule is, from 0 to 1."""

    mode: str
    """What is done with it."""


class Redact:
    """A processor that takes out what is secret.

    It expects plain values (see `fapilog.encoding.plain`), so that nothing can expand after it.
    """

    def __init__(
        self,
        fields: Iterable[str] = (),
        replacement: str = "REDACTED",
        *,
        patterns: Mapping[str, str] | Iterable[str] = (),
        presets: Iterable[str] = (),
        allow: Iterable[str] = (),
        keep: Iterable[str] = (),
        off: Iterable[str] = (),
        mode: Mode = "mask",
        modes: Mapping[str, str] | None = None,
        key: str | bytes | None = None,
        tokenizer: Callable[[str, str], str] | None = None,
        functions: Iterable[Callable[[str, Any], Any]] = (),
    ) -> None:
        """Decide once what is looked for, and what is done with it.

        Args:
            fields: Names and places (``user.*.email``) that are secret beside `DEFAULT_FIELDS`.
            replacement: What stands in place of a secret; with ``{rule}`` in it the rule is put there.
            patterns: Regular expressions, by name or not, of what is secret in texts.
            presets: Which of `fapilog.detectors.personal.PRESETS` are on.
            allow: If there are any, only fields of these names, or at these places, are kept.
            keep: Names and places that are no secret, whatever their name is.
            off: Groups (fields, texts, urls, credentials) and single rules that are not applied.
            mode: What is done with a secret: mask, partial, hash, drop or tokenize.
            modes: What is done otherwise, by rule.
            key: The key of the hashes.
            tokenizer: Called with a secret text and its rule; returns what to keep of it.
            functions: Called with the path of each text and the text; return what to keep of it.

        Raises:
            ConfigurationError: One of these is not what it should be.
        """
        presets, off = list(presets), frozenset(off)
        self._replacement = replacement
        self._names = Names(
            [*fields, *[name for preset in presets for name in PRESET_FIELDS.get(preset, ())]],
            keep,
            defaults="fields" not in off,
        )
        self._allow = list(allow)
        self._allowed_names = {squeezed(name) for name in self._allow if not is_path(name)}
        self._allowed_paths = Paths(name for name in self._allow if is_path(name))
        self._mode: Mode = mode
        self._modes = dict(modes or {})
        self._key = key.encode() if isinstance(key, str) else key
        self._tokenizer = tokenizer
        self._functions = tuple(functions)
        self._credentials = tuple(each for each in CREDENTIALS if each.name not in off and "credentials" not in off)
        wanted = {name for preset in presets for name in PRESETS.get(preset, ())} - off
        named = (
            patterns.items()
            if isinstance(patterns, Mapping)
            else [(f"pattern-{n}", p) for n, p in enumerate(patterns, 1)]
        )
        self._more = (
            *[detector for name, detector in PERSONAL.items() if name in wanted],
            *[pattern(source, name) for name, source in named],
        )
        """Those that may find something in a short text, too."""
        self._cards = "card" in wanted
        self._personal = functools.lru_cache(maxsize=4_096)(
            lambda name: personal_kind(words(name[-_LONGEST_NAME:]), wanted)
        )
        self._budget = Budget(patterns=bool(patterns))
        self._check(presets, off)
        self.confidence = {each.name: each.confidence for each in (*self._credentials, *self._more)}
        scanner = Scanner(
            names=self._names,
            hides=Masks(self.matches, replacement).hides if "urls" not in off else None,
            credentials=self._credentials,
            more=self._more,
            texts="texts" not in off,
            masked=replacement,
        )
        self._find = scanner.find
        self._named_beside = named_beside(self._names.rules if "texts" not in off else (), self._names.stems)
        self.scanner = scanner
        self.counts = dict.fromkeys([*self._names.rules, *self.confidence, *_OTHER_RULES], 0)
        """How often each rule was applied. Every rule is there from the start."""

    def _check(self, presets: Sequence[str], off: Iterable[str]) -> None:
        """Refuse what is not known, or would do nothing."""
        rules = {*self._names.rules, *[each.name for each in (*CREDENTIALS, *self._more)], *PERSONAL}
        rules |= {"url_userinfo", "url_parameter", "allow"}
        for kind, given, known in (
            ("preset", presets, PRESETS),
            ("group or rule to turn off", off, {*GROUPS, *rules}),
            ("rule", self._modes, rules),
            ("mode", [self._mode, *self._modes.values()], MODES),
        ):
            for each in given:
                if each not in known:
                    raise ConfigurationError(
                        f"no redaction {kind} is called {each!r}; known: {', '.join(sorted(known))}"
                    )
        used = {self._mode, *self._modes.values()}
        if "hash" in used and not self._key:
            raise ConfigurationError("redaction by hash needs a key: set FAPILOG_REDACT_KEY")
        if "tokenize" in used and self._tokenizer is None:
            raise ConfigurationError("redaction by token needs a function: set redact_tokenizer")

    def matches(self, name: str) -> bool:
        """Tell whether the value of a field of that *name* is secret."""
        return self._rule(name) is not None

    def _rule(self, name: str) -> str | None:
        return self._names.rule(name[-_LONGEST_NAME:])

    def forget_counts(self) -> None:
        """Begin to count anew, as in a forked child."""
        self.counts = dict.fromkeys(self.counts, 0)

    # ---- the fast path

    def leaves(self, name: str) -> bool:
        """Tell whether a field of that name at the top of a record stays, as far as its name goes."""
        return (
            not self._functions
            and self._rule(name) is None
            and not self._names.vague(name[-_LONGEST_NAME:])
            and self._personal(name) is None
            and not self._names.place((name,))
            and (not self._allow or self._is_allowed((name,)))
            and self.scanner.is_clean(name)
        )

    # ---- a whole record

    def __call__(self, logger: Any, method_name: str, event: Event) -> Event:
        """Return *event* without what is secret. A field that cannot be looked at becomes ``<redaction failed>``."""
        with self._budget:
            return self._kept(event)

    def _kept(self, event: Event) -> Event:
        kept = {}
        for name, value in event.items():
            known = IDS.get(name)
            if known is not None and type(value) is str and known.fullmatch(value) and not self._rule(name):
                kept[name] = value
                continue
            try:
                hit("redact")
                rule = self._named_beside(event.get("event"), value) if name == ARGUMENTS else None
                said = (name, self._hidden(rule, value, (name,))) if rule else self._member((), name, value)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a function of the user's may raise SystemExit
                said = name if self.scanner.is_clean(name) else FAILED, self._fail(error)
            if said[1] is not _DROPPED:
                kept[_free(said[0], kept)] = said[1]
        return kept

    def explain(self, event: Mapping[str, Any]) -> list[Finding]:
        """Say what would be taken out of an event of plain values, and why. Nothing is counted."""
        asked = copy.copy(self)
        found: list[Finding] = []

        def note(rule: str, path: Sequence[str], confidence: float = 1.0) -> None:
            found.append(Finding(".".join(path), rule, confidence, self._modes.get(rule, self._mode)))

        asked._note = note  # type: ignore[method-assign]
        asked(None, "", dict(event))
        return found

    def _note(self, rule: str, path: Sequence[str], confidence: float = 1.0) -> None:
        self.counts[rule] += 1  # no thread can come between: every rule is there, and nothing is called

    def _fail(self, error: BaseException) -> str:
        self._note("failed", ())
        report(f"redaction failed and a field was withheld: {type(error).__name__}", key="redaction failed")
        return FAILED

    def _member(self, path: tuple[str, ...], name: str, value: Any) -> tuple[str, Any]:
        """Return a field's name and value without what is secret in either."""
        self._budget.spend(len(name))
        here = (*path, name)
        rule = self._names.place(here)
        if rule is None:
            rule = self._names.under(name[-_LONGEST_NAME:], value)
        shown = name if len(name) < 5 else self._text(name, here)
        if rule and value is not None:
            return shown, self._hidden(rule, value, here)
        kind = None if rule == "" else self._personal(name)
        return shown, self._named(kind, here, value) if kind else self._value(here, value)

    def _named(self, kind: str, path: tuple[str, ...], value: Any) -> Any:
        """Return what is kept of a value whose name says what it may be: a telephone number, or a list of them."""
        if type(value) is list:
            return self._list(path, value, kind)
        if type(value) not in (str, int) or not is_personal(kind, str(value)):
            return self._value(path, value)
        self._note(kind, path, self.confidence[kind])
        return self._mask(kind, str(value), named=False) or _DROPPED

    def _value(self, path: tuple[str, ...], value: Any) -> Any:
        kind = type(value)
        if self._allow and not self._is_allowed(path) and kind is not dict and kind is not list and value is not None:
            return self._hidden("allow", value, path)
        if kind is str:
            for function in self._functions:
                said = function(".".join(path), value)
                if type(said) is not str:
                    raise TypeError
                if said != value:
                    self._note("function", path)
                value = said
            return self._text(value, path)
        if kind is dict:
            return self._object(path, value)
        if kind is list:
            return self._list(path, value)
        if kind is int and self._cards and value >= 10**11 and self._text(str(value), path) != str(value):
            return self._text(str(value), path)
        return value

    def _object(self, path: tuple[str, ...], value: dict[str, Any]) -> dict[str, Any]:
        """Look at each member; one may name what another holds."""
        rules = rules_of_members(value, self._names)
        kept: dict[str, Any] = {}
        for name, item in value.items():
            if name in rules:
                said: tuple[str, Any] = name, self._hidden(rules[name], item, (*path, name))
            else:
                said = self._member(path, name, item)
            if said[1] is not _DROPPED:
                kept[_free(said[0], kept)] = said[1]
        return kept

    def _list(self, path: tuple[str, ...], value: list[Any], kind: str | None = None) -> list[Any]:
        """Look at each item; one may name the next."""
        kept: list[Any] = []
        rule = None
        paired = path[-1].isdecimal()
        look = functools.partial(self._named, kind) if kind else self._value
        for at, item in enumerate(value):
            here = (*path, str(at))
            rule = rule or self._names.place(here)
            said = self._hidden(rule, item, here) if rule and item is not None else look(here, item)
            rule = rule_of_next(value, at, self._names, paired=paired) if type(item) is str and rule is None else None
            if said is not _DROPPED:
                kept.append(said)
        return kept

    def _is_allowed(self, path: tuple[str, ...]) -> bool:
        """Tell whether what is at *path*, or above it, was named as allowed, or is fapilog's own."""
        if path[0] in OURS or path[0] in IDS:
            return True
        if any(squeezed(name) in self._allowed_names for name in path):
            return True
        return bool(self._allowed_paths) and any(
            self._allowed_paths.find(path[:size]) for size in range(1, len(path) + 1)
        )

    # ---- one value

    def _hidden(self, rule: str, value: Any, path: Sequence[str]) -> Any:
        """Return what stands in place of a secret value."""
        self._note(rule, path)
        mode = self._modes.get(rule, self._mode)
        if mode == "drop":
            return _DROPPED
        if mode == "mask" or (mode == "partial" and type(value) in (dict, list)):
            return self._replacement.replace("{rule}", rule)
        return self._changed(mode, rule, value if type(value) is str else orjson.dumps(value).decode())

    def _mask(self, rule: str, said: str, *, named: bool) -> str:
        """Return what stands in place of a part of a text."""
        mode = self._modes.get(rule, self._mode)
        if mode == "drop":
            return ""
        if mode != "mask":
            return self._changed(mode, rule, said)
        if named or "{rule}" in self._replacement:
            return self._replacement.replace("{rule}", rule)
        return f"<{self._replacement.lower()}:{rule}>"

    def _changed(self, mode: str, rule: str, said: str) -> str:
        if mode == "hash":
            digest = hmac.new(self._key or b"", said.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
            return f"<hash:{digest[:24]}>"
        if mode == "tokenize" and self._tokenizer is not None:
            token = self._tokenizer(said, rule)
            if type(token) is not str:
                raise TypeError
            return token
        if len(said) < _LEAST_FOR_PARTIAL:
            return self._replacement.replace("{rule}", rule)
        return f"{self._replacement.replace('{rule}', rule)}-{said[-_KEPT_AT_END:]}"

    def text(self, said: str) -> str:
        """Return a text without what is secret in it."""
        with self._budget.lifted():
            return self._text(said, ())

    def _text(self, said: str, path: Sequence[str]) -> str:
        self._budget.spend(len(said))
        spans = self._find(said)
        if not spans:
            return said
        parts = []
        at = 0
        for start, end, rule in spans:
            if end <= at:
                continue
            self._budget.spend(0)
            begin = max(start, at)  # of two that overlap, nothing is left between
            self._note(rule, path, self.confidence.get(rule, 0.9))
            named = rule.startswith(("field:", "path:")) or rule in ("url_parameter", "url_userinfo")
            parts += [said[at:begin], self._mask(rule, said[begin:end], named=named)]
            at = end
        return "".join([*parts, said[at:]])


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name


@functools.cache
def default() -> Redact:
    """Return what redacts where nothing is configured."""
    return Redact()
