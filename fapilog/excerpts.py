"""What a value says of itself, without making all of it where that would be long: a text may have 50 MB, and so may
what an exception was raised with.
"""  # noqa: D205 - one sentence

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

MAX_WEIGHT: Final = 1_000
"""How many values, or 32 characters of text each, may be said without a second look."""

_MAX_DEPTH: Final = 50
_KEPT: Final = 100
_KEPT_DEPTH: Final = 4
_TEXTS: Final = (str, bytes, bytearray)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
_HEAVY: Final = (*_TEXTS, *_CONTAINERS, BaseException)
_LIGHT: Final = frozenset({int, float, bool, type(None)})

_ARGS: Final = BaseException.__dict__["args"].__get__
_MESSAGE: Final = BaseExceptionGroup.__dict__["message"].__get__
_MEMBERS: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_OS_ERROR: Final = tuple(OSError.__dict__[name].__get__ for name in ("errno", "strerror", "filename", "filename2"))
_MRO: Final = type.__dict__["__mro__"].__get__
_MEMBERS_OF: Final = type.__dict__["__dict__"].__get__


def excerpt(value: Any, limit: int) -> tuple[str, int]:
    """Return `str(value)`, or at least its first *limit* characters, and how many it has.

    Of a text, and of an exception whose class has the `str` of a built-in one, no more is made than is returned; where
    an exception is cut within its arguments, the number counts the characters of their texts.
    """
    kind = type(value)
    if issubclass(kind, str):
        length = str.__len__(value)
        return str.__getitem__(value, slice(limit)) if length > limit else str.__str__(value), length
    if issubclass(kind, BaseException) and weight(value) > MAX_WEIGHT:
        cut = _Cut(limit)
        said = cut.error(value, 0)
        if said is not None:
            return said, len(said) + cut.missing
    said = str(value)
    return said if type(said) is str else str.__str__(said), len(said)


def weight(value: Any, counted: int = 0, depth: int = 0) -> int:
    """Count the values in *value*, at any depth, and 32 characters of text as one, until there are very many."""
    kind = type(value)
    if kind in _LIGHT or not issubclass(kind, _HEAVY):
        return counted + 1
    if issubclass(kind, _TEXTS):
        return counted + (str.__len__(value) if issubclass(kind, str) else len(value)) // 32 + 1
    if depth > _MAX_DEPTH:
        return counted + MAX_WEIGHT
    for item in _items(value, kind):
        if counted > MAX_WEIGHT:
            break
        counted = weight(item, counted, depth + 1)
    return counted


def _items(value: Any, kind: type) -> Iterable[Any]:
    if issubclass(kind, dict):
        return list(islice(dict.values(value), MAX_WEIGHT + 1))
    if issubclass(kind, BaseException):
        return (*_ARGS(value), *([get(value) for get in _OS_ERROR] if issubclass(kind, OSError) else ()))
    return list(islice(value, MAX_WEIGHT + 1))


class _Cut:
    """The saying of something long, and how many characters of it were left out."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.missing = 0

    def error(self, error: BaseException, depth: int) -> str | None:
        """Return what an exception says; None if that is for code of its own to say."""
        kind = type(error)
        owner = next(base for base in _MRO(kind) if "__str__" in _MEMBERS_OF(base))
        args: Any = _ARGS(error)
        if owner is OSError:
            number, reason, *names = [get(error) for get in _OS_ERROR]
            names = [self.shown(name, depth) for name in names if name is not None]
            if names or (number is not None and reason is not None):
                said = f"[Errno {self.said(number, depth)}] {self.said(reason, depth)}"
                return said + (f": {' -> '.join(names)}" if names else "")
        elif owner is BaseExceptionGroup:
            members = len(_MEMBERS(error))
            return f"{self.said(_MESSAGE(error), depth)} ({members} sub-exception{'s' if members != 1 else ''})"
        elif owner is KeyError and len(args) == 1:
            return self.shown(args[0], depth)
        elif owner not in (BaseException, KeyError, ImportError) and not (owner is SyntaxError and len(args) == 1):
            return None
        if len(args) == 1:
            return self.said(args[0], depth)
        return self.shown(args, depth) if args else ""

    def said(self, value: Any, depth: int) -> str:
        """Return what `str` says of a value."""
        kind = type(value)
        if issubclass(kind, str):
            beginning, length = excerpt(value, self.limit)
            self.missing += length - len(beginning)
            return beginning
        if issubclass(kind, BaseException) and depth < _KEPT_DEPTH and weight(value) > MAX_WEIGHT:
            said = self.error(value, depth + 1)
            if said is not None:
                return said
        return self.shown(value, depth) if issubclass(kind, _HEAVY) and kind in _BUILT_IN else str(value)

    def shown(self, value: Any, depth: int) -> str:
        """Return what `repr` says of a value."""
        kind = type(value)
        if issubclass(kind, _TEXTS):
            length = str.__len__(value) if issubclass(kind, str) else len(value)
            if length > self.limit:
                self.missing += length - self.limit
                return repr(value[: self.limit])
            return repr(value)
        if weight(value) <= MAX_WEIGHT or not issubclass(kind, _HEAVY):
            return repr(value)
        if depth >= _KEPT_DEPTH:
            return "..."
        if issubclass(kind, BaseException):
            return f"{kind.__name__}({', '.join(self._some(_ARGS(value), depth))})"
        if issubclass(kind, dict):
            pairs = list(islice(dict.items(value), _KEPT))
            pieces = [f"{self.shown(name, depth + 1)}: {self.shown(item, depth + 1)}" for name, item in pairs]
            return "{" + ", ".join([*pieces, *(["..."] if len(value) > _KEPT else [])]) + "}"
        opening, closing = _BRACKETS.get(kind, (f"{kind.__name__}(", ")"))
        return opening + ", ".join(self._some(value, depth)) + closing

    def _some(self, items: Any, depth: int) -> list[str]:
        said = [self.shown(item, depth + 1) for item in islice(items, _KEPT)]
        return [*said, "..."] if len(items) > _KEPT else said


_BUILT_IN: Final = frozenset({bytes, bytearray, *_CONTAINERS})
_BRACKETS: Final = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}")}
