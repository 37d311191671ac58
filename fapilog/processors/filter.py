"""Leave records out by what they say: by pattern, or by a function."""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from fapilog.diagnostics import FilterReason
from fapilog.errors import ConfigurationError
from fapilog.plugins import find
from fapilog.processors.patterns import WINDOW, compile_glob, compile_regex
from fapilog.processors.sieve import Reader, RuleFailed, Sieve, reader_of, said, seen
from fapilog.types import Event

Rule: TypeAlias = str | Callable[[Event], Any]
"""Which records are meant: ``field=glob``, ``field~regex``, or a function of the record, itself or ``module:name``."""

_HOW: Final = "write field=glob, field~regex or module:function, such as 'path=/health*' or 'event~^cache (hit|miss)$'"


class Filter(Sieve):
    """Leave out the records that a rule of *drop* means, and if there are rules to *keep*, those that none means.

    Errors are kept unless asked otherwise. A function that raises has no say about that record, which is marked; the
    other rules go on.
    """

    def __init__(self, drop: Iterable[Rule] = (), *, keep: Iterable[Rule] = (), errors: bool = False) -> None:
        """Compile the rules.

        Args:
            drop: Which records are left out.
            keep: Which alone are kept; none at all means every record that is not dropped.
            errors: Whether errors, and records with an exception, may be left out too.

        Raises:
            ConfigurationError: A rule cannot be read, or its pattern not be used.
        """
        self.errors = errors
        self._drop = [rule_test(rule) for rule in _listed(drop)]
        self._keep = [rule_test(rule) for rule in _listed(keep)]

    def refuses(
        self, logger: str, level: int, event: Any, fields: dict[str, Any], ids: Mapping[str, Any]
    ) -> FilterReason | None:
        """Return ``filter`` if a rule leaves the record out.

        Raises:
            RuleFailed: A rule raised, and has no say; with what the others say.
        """
        failed: BaseException | None = None
        drops = False
        for drop in self._drop:
            try:
                drops = bool(drop(logger, level, event, fields, ids))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a function of the user's may raise SystemExit
                failed = error
            if drops:
                break
        asked = False
        for keep in () if drops else self._keep:
            try:
                if keep(logger, level, event, fields, ids):
                    break
                asked = True
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - likewise
                failed = error
        else:
            drops = drops or asked  # where every rule has failed there is none
        reason: FilterReason | None = "filter" if drops else None
        if failed is not None:
            raise RuleFailed(failed, reason)
        return reason


def rule_test(rule: Rule) -> Reader:
    """Return what tells whether a rule means a record.

    Raises:
        ConfigurationError: The rule cannot be read.
    """
    if callable(rule):
        function = rule
        return lambda *parts: function(seen(*parts))
    if not isinstance(rule, str):
        raise ConfigurationError(f"a rule is a text or a function, not {type(rule).__qualname__}; {_HOW}")
    ends = [at for at in (rule.find("="), rule.find("~")) if at >= 0]
    name = rule[: min(ends)].strip() if ends else ""
    if not ends and ":" in rule:
        return rule_test(find("processor", rule.strip()))
    if not name:
        raise ConfigurationError(f"cannot read the rule {rule!r}; {_HOW}")
    read, wanted = reader_of(name), rule[min(ends) + 1 :]
    if rule[min(ends)] == "~":
        matches: Callable[[str], Any] = compile_regex(wanted).search
    elif set("*?[") & set(wanted):
        matches = compile_glob(wanted).match
    else:
        matches = functools.partial(operator.eq, wanted)

    def means(logger: str, level: int, event: Any, fields: Mapping[str, Any], ids: Mapping[str, Any]) -> Any:
        value = read(logger, level, event, fields, ids)
        if value is None:
            return False
        return matches((value if type(value) is str else said(value))[:WINDOW])

    return means


def _listed(rules: Iterable[Rule]) -> list[Rule]:
    return [rules] if isinstance(rules, str) or callable(rules) else list(rules)
