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
    processor leaves the record out, unless that asks for this field. A schema is compared with what it returns. As an
    argument that is formatted into the event it is called as soon as the level
    lets the record through, because filters see the event. If it raises, the field says so and the record is kept.
    """
    return Lazy(function)


class _Once:
    """Calls a function at its first call, and says the same again at others, be it an exception."""

    __slots__ = ("_function", "_outcome")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._outcome: tuple[Any, BaseException | None] | None = None

    def __call__(self) -> Any:
        if self._outcome is None:
            try:
                self._outcome = self._function(), None
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - raised below, each time
                self._outcome = None, error
        value, failure = self._outcome
        if failure is not None:
            raise failure
        return value


def once(value: Any) -> Any:
    """Return a lazy value that is made once whoever asks for it; any other value as it is."""
    return Lazy(_Once(value.function)) if type(value) is Lazy and type(value.function) is not _Once else value


def make_once(fields: dict[str, Any]) -> None:
    """Let each lazy value among the fields of one record be made once."""
    made: dict[int, Any] = {}
    for name, value in fields.items():
        if type(value) is Lazy:
            fields[name] = made.setdefault(id(value), once(value))


def value_of(value: Any) -> Any:
    """Return what a lazy value is, and what stands in its place if its function raises; any other value as it is."""
    if type(value) is not Lazy:
        return value
    try:
        return value.function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a function of the user's, which is counted when the record is made
        return f"<lazy failed: {type(error).__name__[:200]}>"


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
