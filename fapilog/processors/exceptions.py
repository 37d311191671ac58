"""Describe an exception as a structure a reader and a query can use."""

import sys
import traceback
from types import TracebackType
from typing import Any, Final, TypeAlias

from fapilog.encoding import text

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]

MAX_FRAMES: Final = 50
MAX_STACK_CHARACTERS: Final = 30_000


def describe(error: BaseException) -> dict[str, str]:
    """Return ``{type, message, stacktrace}`` of *error*, causes included, at most 50 frames of each."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": text(error), "stacktrace": _stacktrace(error)}


def find(exc_info: Any) -> BaseException | None:
    """Return the exception that an ``exc_info`` argument stands for: an exception, a tuple, or anything true for the
    one being handled; None if there is none.
    """  # noqa: D205 - the three forms are one sentence
    kind = type(exc_info)  # isinstance would ask the value for its `__class__`
    if issubclass(kind, BaseException):
        return exc_info  # type: ignore[no-any-return]
    if kind is tuple and len(exc_info) == 3:
        return exc_info[1] if issubclass(type(exc_info[1]), BaseException) else None
    return sys.exc_info()[1] if wanted(exc_info) else None


def wanted(asked: Any) -> bool:
    """Tell whether an ``exc_info`` or ``stack_info`` argument is true; what cannot say is."""
    try:
        return bool(asked)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever its `__bool__` raises, SystemExit too
        return True


def _stacktrace(error: BaseException) -> str:
    try:
        # A negative limit keeps the innermost frames, where the error is.
        lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-MAX_FRAMES)
        joined = "".join(lines)
    except Exception as failure:  # noqa: BLE001 - an exception whose own code raises must still be logged
        return f"<no stack: {type(failure).__name__}>"
    if len(joined) > MAX_STACK_CHARACTERS:
        half = MAX_STACK_CHARACTERS // 2
        joined = f"{joined[:half]}\n<+{len(joined) - 2 * half} more>\n{joined[-half:]}"
    return joined.rstrip("\n")
