"""What a user adds to what values become: a function for a type, and values that are made only when they are needed."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from fapilog.errors import ConfigurationError

Kind = TypeVar("Kind")

BUILT_IN_KINDS: Final = (str, int, float, bool, type(None), dict, list)
"""Types that JSON has itself; what they become cannot be changed."""

_MRO: Final = type.__dict__["__mro__"].__get__

_registered: Final[dict[type, Callable[[Any], Any]]] = {}


class Lazy:
    """A value that a function makes if the record is kept. `lazy` makes one."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], Any]) -> None:
        """Hold *function*; whether it can be called is seen when it is."""
        self.function = function

    def __str__(self) -> str:
        return str(self.function())

    def __repr__(self) -> str:
        return "<lazy>"


def lazy(function: Callable[[], Any]) -> Lazy:
    """Return a value for a field that *function* makes, without arguments, if the record is kept.

    It is called in the thread that logs, once for each record: not where the level, a full queue, a filter or another
    processor leaves the record out. As an argument that is formatted into the event it is called as soon as the level
    lets the record through, because filters see the event. If it raises, the field says so and the record is kept.
    """
    return Lazy(function)


def register_serializer(kind: type[Kind], function: Callable[[Kind], Any] | None) -> None:
    """Let *function* say what an instance of *kind*, or of a subclass, becomes in a record.

    What it returns is made plain like any other value: it may be a dict of whatever, and secrets in it are masked. The
    nearest class of an object counts; a function that returns its argument leaves it to what fapilog knows. If it
    raises, the field says so and the record is kept. It holds for the whole process, whatever is configured.

    Args:
        kind: Any class but those that JSON has itself: str, int, float, bool, None, dict, list.
        function: None takes back what was registered.

    Raises:
        ConfigurationError: *kind* is no class, or one that JSON has itself, or *function* cannot be called.
    """
    if not isinstance(kind, type) or kind in BUILT_IN_KINDS:
        raise ConfigurationError(f"a serializer is for a class other than those of JSON itself, not for {kind!r}")
    if function is None:
        _registered.pop(kind, None)
    elif callable(function):
        _registered[kind] = function
    else:
        raise ConfigurationError(f"the serializer of {kind.__qualname__} cannot be called: {function!r}")


def serializer_of(kind: type) -> Callable[[Any], Any] | None:
    """Return what was registered for *kind* or the nearest class it inherits from, if anything was."""
    if not _registered:
        return None
    return next((_registered[base] for base in _MRO(kind) if base in _registered), None)
