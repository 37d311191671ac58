"""Add to records what nobody has to log: where they come from, and what functions of the user's know.

The enrichers that come with fapilog are those of `STATIC`, whose fields are encoded once for all records, and those of
`DYNAMIC`, which are asked in each log call.
"""

import difflib
import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from fapilog.diagnostics import report
from fapilog.encoding import text
from fapilog.errors import ConfigurationError
from fapilog.processors.dynamic_fields import DYNAMIC, Dynamic
from fapilog.processors.static_fields import STATIC
from fapilog.types import LEVEL_NAMES

DEFAULT: Final = ("service", "env", "version", "host")
"""Enrichers that are on unless they are turned off."""

_ARGUMENTS: Final = frozenset({"exc_info", "stack_info", "durable"})
"""Names that would make a log call do something; as fields of an enricher they get ``_`` appended."""

Asked: TypeAlias = Callable[[str, int, Any, Mapping[str, Any]], Mapping[str, Any]]
"""What a registered function is called through: with logger, level, event and fields."""

Asking: TypeAlias = Callable[[str, int, Any, dict[str, Any]], dict[str, Any]]
"""What a recorder calls with logger, level, event and fields of a record, to get more fields."""

F = TypeVar("F", bound=Callable[..., Any])


def register_enricher(function: F, name: str | None = None) -> F:
    """Have *function* add fields to every record from now on. It may be used as a decorator.

    Args:
        function: Called in each log call, in its thread. It takes no argument and returns a dict of fields, or None for
            none; or it is a processor of structlog, which takes logger, method name and event and returns the event: of
            that, fields with new names are taken. No field of the record's is replaced. Where it raises, or
            returns anything else, the record is kept, with ``_enricher_error``, and the failure is counted.
        name: What the setting ``FAPILOG_ENRICH`` and the statistics call it; None means the function's own name. One
            that was registered under that name before is replaced.

    Returns:
        The function.

    Raises:
        ConfigurationError: It cannot be called in one of these ways, or the name is that of a built-in enricher.
    """
    known = name or getattr(function, "__name__", None) or type(function).__name__
    if not isinstance(known, str) or not known.strip() or known != known.strip() or known[0] == "-" or "," in known:
        raise ConfigurationError(
            f"{known!r} cannot be the name of an enricher: FAPILOG_ENRICH parts names by commas, and turns off what "
            "begins with '-'"
        )
    if known in STATIC or known in DYNAMIC:
        raise ConfigurationError(f"{known!r} is a built-in enricher; give another name")
    call = _callable_as(function, known)
    with _lock:
        _registered[known] = call
    _tell()
    return function


def clear_enrichers() -> None:
    """Forget every function that was given to `register_enricher`."""
    with _lock:
        _registered.clear()
    _tell()


def on_change(tell: Callable[[], None]) -> None:
    """Call *tell* whenever there is another function, or none any longer."""
    _listeners.append(tell)


def choose(wanted: Iterable[str]) -> frozenset[str]:
    """Return the names of the enrichers that are on: `DEFAULT` and every registered one, changed as *wanted* says.

    A name turns one on, a name after ``-`` off. One that is not known makes no difference; see `check`.
    """
    on = {*DEFAULT, *_registered}
    for said in wanted:
        name = _known(said)
        if name is None:
            continue
        if said.startswith("-"):
            on.discard(name)
        else:
            on.add(name)
    return frozenset(on)


def check(wanted: Iterable[str]) -> None:
    """See whether each name in *wanted* that turns an enricher on is that of one.

    One to turn off may be registered later; where it looks like one that there is, stderr has a line about it.

    Raises:
        ConfigurationError: One is not.
    """
    for said in wanted:
        if _known(said) is not None:
            continue
        names = sorted({*STATIC, *DYNAMIC, *_registered})
        close = difflib.get_close_matches(said.removeprefix("-").strip().lower(), names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        if not said.startswith("-"):
            raise ConfigurationError(f"no enricher is called {said!r}; known: {', '.join(names)}{hint}")
        if close:
            report(f"FAPILOG_ENRICH turns off {said[1:].strip()!r}, and there is no such enricher yet{hint}")


def enrichment(names: Iterable[str], failed: Counter[str]) -> Asking | None:
    """Return what adds the fields of those enrichers in *names* that are asked in each call; None if none is.

    It counts in *failed* how often a registered one fails.

    Raises:
        MissingExtraError: One of them needs a package that is not installed.
    """
    wanted = set(names)
    built_in = [make() for name, make in DYNAMIC.items() if name in wanted]
    registered = {name: call for name, call in _registered.items() if name in wanted}
    return Enrich(built_in, registered, failed).add_to if built_in or registered else None


class Enrich:
    """Adds the fields of enrichers to those of a record, which win over them."""

    def __init__(
        self, built_in: Iterable[Dynamic], registered: Mapping[str, Asked], failed: Counter[str] | None = None
    ) -> None:
        """Ask *built_in* and *registered*, in this order; count in *failed* how often one of the latter fails."""
        self._built_in = tuple(built_in)
        self._registered = tuple(registered.items())
        self._failed = Counter() if failed is None else failed

    def add_to(self, logger: str, level: int, event: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Return *fields* and what is added to them, as a new dict."""
        added: dict[str, Any] = {}
        for add in self._built_in:
            add(added, logger)
        registered = self._registered
        if registered and not getattr(_asking, "now", False):  # an enricher that logs must not be asked again
            _asking.now = True
            try:
                for name, call in registered:
                    self._ask(name, call, logger, level, event, fields, added)
            finally:
                _asking.now = False
        added.update(fields)
        return added

    def _ask(
        self,
        name: str,
        call: Asked,
        logger: str,
        level: int,
        event: Any,
        fields: Mapping[str, Any],
        added: dict[str, Any],
    ) -> None:
        try:
            found = call(logger, level, event, fields)
            for key, value in dict(found).items():
                if type(key) is not str:
                    raise TypeError(f"the name of a field is {type(key).__name__}, not text")  # noqa: TRY301
                kept = f"{key}_" if key in _ARGUMENTS else key
                if kept not in fields:
                    added.setdefault(kept, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a user's enricher must not cost the record
            what = f"enricher {name} raised {type(error).__name__}: {text(error, 200)}"
            added["_enricher_error"] = what
            self._failed["enricher"] += 1
            report(f"{what}; the record goes on without it", key=f"enricher {name}")


def _callable_as(function: Callable[..., Any], name: str) -> Asked:
    """Return a function that calls *function* as it wants to be called."""
    if not callable(function):
        raise ConfigurationError(f"{function!r} is not an enricher; give a function that returns a dict of fields")
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"the enricher {name!r} is a coroutine function, and a log call awaits nothing")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions in C
        return lambda _logger, _level, _event, _fields: _fields_of(function())
    if _takes(signature, 0):
        return lambda _logger, _level, _event, _fields: _fields_of(function())
    if _takes(signature, 3):
        return lambda logger, level, event, fields: _new_fields(function, logger, level, event, fields)
    raise ConfigurationError(
        f"the enricher {name!r} takes {signature}; it must take nothing, or (logger, method_name, event)"
    )


def _takes(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True


def _fields_of(found: Any) -> Mapping[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise TypeError(f"returned {type(found).__name__}, not a dict")
    return found


def _new_fields(
    processor: Callable[..., Any], logger: str, level: int, event: Any, fields: Mapping[str, Any]
) -> Mapping[str, Any]:
    given = {"event": event, "level": LEVEL_NAMES[level], "logger": str(logger), **fields}
    found = processor(logger, LEVEL_NAMES[level], dict(given))
    if not isinstance(found, Mapping):
        raise TypeError(f"returned {type(found).__name__}, not a dict")
    return {name: value for name, value in found.items() if name not in given}


def _known(said: str) -> str | None:
    """Return the name that *said* stands for, with a ``-`` before it or not; None if there is none of that name."""
    said = said.removeprefix("-").strip()
    for name in (said, said.lower()):
        if name in STATIC or name in DYNAMIC or name in _registered:
            return name
    return None


def _tell() -> None:
    for tell in _listeners:
        tell()


_registered: Final[dict[str, Asked]] = {}
_listeners: Final[list[Callable[[], None]]] = []
_lock: Final = threading.Lock()
_asking: Final = threading.local()
