"""Log what a function or a block does: that it began, that it ended, how long it took, and why it failed.

The records are the same for both. ``charge card started`` is a debug record; ``charge card completed`` an info record
with ``duration_ms`` and ``success: true``; ``charge card failed`` an error record with the exception and
``success: false``. What ends a block without being an error of it, a cancellation, an interrupt or an exit, makes it
``charge card interrupted``: a warning that names it in ``interrupted_by``. Every exception goes on unchanged.
"""

import functools
import inspect
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast, overload

from fapilog.context import note_wait
from fapilog.errors import ConfigurationError
from fapilog.logger import record
from fapilog.types import DEBUG, ERROR, INFO, WARNING

P = ParamSpec("P")
R = TypeVar("R")

OWN_FIELDS: Final = frozenset({"action", "duration_ms", "success", "interrupted_by"})


class timed_operation:  # noqa: N801 - used like a function, as `contextlib.suppress` is
    """Log a block of code, in `with` or in `async with`.

    An object may be used again, and within itself; two tasks need one each.
    """

    def __init__(self, action: str, **fields: Any) -> None:
        """Describe the block.

        Args:
            action: What it does, such as ``charge card``. The event begins with it.
            **fields: Added to each of its records.

        Raises:
            ConfigurationError: A field has the name of one that is added anyway.
        """
        taken = sorted(OWN_FIELDS.intersection(fields))
        if taken:
            raise ConfigurationError(f"timed_operation sets {taken[0]!r} itself; give the field another name")
        self._operation = _Operation(sys._getframe(1).f_globals.get("__name__", "root"), action, fields)
        self._started: list[float] = []

    def __enter__(self) -> Self:
        self._started.append(self._operation.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._operation.end(self._started.pop(), error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


@overload
def log_execution(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def log_execution(action: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def log_execution(action: Any = None) -> Any:
    """Log each call of a function or method, sync or async, under the name of its module.

    Used as ``@log_execution``, ``@log_execution()`` or ``@log_execution("charge card")``. Without an action the
    function's qualified name is it.

    Raises:
        ConfigurationError: What is decorated is a generator function, which does nothing when it is called, or no
            function at all.
    """
    if action is None or isinstance(action, str):
        return lambda function: _wrap(function, action)
    return _wrap(action, None)


class _Operation:
    """What one action logs, put together once."""

    __slots__ = ("_completed", "_failed", "_fields", "_interrupted", "_logger", "_name", "_started")

    def __init__(self, logger: str, action: str, fields: dict[str, Any]) -> None:
        self._logger = logger
        self._name = f"{action}"
        self._fields = {**fields, "action": action}
        self._started = f"{action} started"
        self._completed = f"{action} completed"
        self._failed = f"{action} failed"
        self._interrupted = f"{action} interrupted"

    def start(self) -> float:
        """Say that it begins, and return when."""
        record(self._logger, DEBUG, self._started, dict(self._fields))
        return time.perf_counter()

    def end(self, started: float, error: BaseException | None) -> None:
        """Say how it ended."""
        duration = round((time.perf_counter() - started) * 1000, 3)
        fields = {**self._fields, "duration_ms": duration, "success": error is None}
        note_wait(self._name, duration)
        if error is None:
            record(self._logger, INFO, self._completed, fields)
        elif isinstance(error, Exception):
            fields["exc_info"] = error
            record(self._logger, ERROR, self._failed, fields)
        else:
            fields["interrupted_by"] = type(error).__name__
            record(self._logger, WARNING, self._interrupted, fields)


def _wrap(function: Callable[P, R], action: str | None) -> Callable[P, R]:
    name = getattr(function, "__qualname__", None)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"{name or function!r} is a generator function, and its call runs nothing; use timed_operation inside it"
        )
    if isinstance(function, staticmethod | classmethod):
        raise ConfigurationError(f"{name!r} is a {type(function).__name__}; put log_execution below that decorator")
    if name is None or inspect.isclass(function) or not callable(function):
        raise ConfigurationError(f"{function!r} is not a function; put log_execution directly above the `def`")
    operation = _Operation(function.__module__, action or name, {})
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            started = operation.start()
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                operation.end(started, error)
                raise
            operation.end(started, None)
            return result

        return cast("Callable[P, R]", run_async)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        started = operation.start()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            operation.end(started, error)
            raise
        operation.end(started, None)
        return result

    return run
