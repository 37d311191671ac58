"""Exceptions that nobody caught: in the main thread, in other threads, in event loops, and where none can be raised.

https://docs.python.org/3/library/sys.html#sys.excepthook
"""

import asyncio
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any, Final

from fapilog.context import current_request, remembered_request
from fapilog.diagnostics import report
from fapilog.encoding import text
from fapilog.logger import record
from fapilog.types import CRITICAL, ERROR

LOGGER: Final = "fapilog.uncaught"

_PYTHONS_OWN: Final[dict[str, Callable[..., Any]]] = {
    "main": sys.__excepthook__,
    "threads": threading.__excepthook__,
    "unraisable": sys.__unraisablehook__,
}
_TOLD_OTHERWISE: Final = frozenset({"message", "exception", "source_traceback", "handle_traceback"})


class Hooks:
    """What Python calls for an exception that nobody caught; whatever was called before is still called.

    A hook that somebody has wrapped since cannot be taken out again; it does nothing of its own any more then.
    """

    def __init__(self) -> None:
        self._wanted: frozenset[str] = frozenset()
        self._through_logging = False
        self._before: dict[str, Callable[..., Any]] = {}
        self._ours: dict[str, tuple[Any, str, Callable[..., Any]]] = {
            "main": (sys, "excepthook", self._of_main),
            "threads": (threading, "excepthook", self._of_thread),
            "unraisable": (sys, "unraisablehook", self._of_unraisable),
        }
        self._of_loops = self._of_loop
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def capture(self, wanted: Collection[str], *, through_logging: bool) -> None:
        """Set the *wanted* hooks, and give back the others. Calling it again does no harm.

        An event loop is hooked if it is running now and has no exception handler.
        """
        self._through_logging = through_logging
        self._wanted = frozenset(wanted)
        for kind, (module, name, ours) in self._ours.items():
            if kind in self._wanted and kind not in self._before:
                self._before[kind] = getattr(module, name)
                setattr(module, name, ours)
            elif kind not in self._wanted:
                self._give_back(kind)
        if "asyncio" in self._wanted:
            self._attach()
        else:
            self._detach()

    def release(self) -> None:
        """Set the hooks that were there before, where ours are still the ones that are called."""
        self._wanted = frozenset()
        for kind in self._ours:
            self._give_back(kind)
        self._detach()

    def _give_back(self, kind: str) -> None:
        module, name, ours = self._ours[kind]
        if kind in self._before and getattr(module, name) is ours:
            setattr(module, name, self._before.pop(kind))

    def _attach(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if loop.get_exception_handler() is None:
            loop.set_exception_handler(self._of_loops)
            self._loops.add(loop)

    def _detach(self) -> None:
        for loop in list(self._loops):
            if loop.get_exception_handler() is self._of_loops:
                loop.set_exception_handler(None)
        self._loops.clear()

    def _of_main(self, kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        if "main" in self._wanted and isinstance(error, Exception):
            _log(LOGGER, CRITICAL, "uncaught exception", error, {})
        self._call_before("main", kind, error, traceback)

    def _of_thread(self, args: threading.ExceptHookArgs) -> None:
        thread = args.thread.name if args.thread is not None else threading.current_thread().name
        if (
            "threads" in self._wanted
            and not issubclass(args.exc_type, SystemExit)
            and not thread.startswith("fapilog-")
        ):
            _log(LOGGER, ERROR, "uncaught exception in a thread", args.exc_value, {"thread": thread})
        self._call_before("threads", args)

    def _of_unraisable(self, args: "sys.UnraisableHookArgs") -> None:
        if "unraisable" in self._wanted:
            what = {"where": text(args.err_msg or "ignored"), "object": text(args.object, 200)}
            _log(LOGGER, ERROR, "unraisable exception", args.exc_value, what)
        self._call_before("unraisable", args)

    def _call_before(self, kind: str, *args: Any) -> None:
        self._before.get(kind, _PYTHONS_OWN[kind])(*args)

    def _of_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        event = context.get("message") or "unhandled exception in an event loop"
        error = context.get("exception")
        fields = {name: text(value, 500) for name, value in context.items() if name not in _TOLD_OTHERWISE}
        if "asyncio" in self._wanted and self._through_logging:
            # As the loop's own handler does, so that the level of that logger and other handlers count.
            extra = {f"asyncio_{name}": value for name, value in fields.items()}
            logging.getLogger("asyncio").error("%s", event, exc_info=error, extra=extra)
            return
        if "asyncio" in self._wanted:
            _log("asyncio", ERROR, event, error, {f"asyncio_{name}": value for name, value in fields.items()})
        loop.default_exception_handler(context)


def _log(logger: str, level: int, event: str, error: BaseException | None, fields: dict[str, Any]) -> None:
    """Log an exception, with the ids of the request it left if it left one. Never raises: this is the last resort."""
    try:
        request = current_request.get() or remembered_request(error)
        token = current_request.set(request)
        try:
            record(logger, level, event, {**fields, "exc_info": error} if error is not None else fields)
        finally:
            current_request.reset(token)
    except Exception as bug:  # noqa: BLE001 - the exception itself is more important
        report(f"an uncaught exception could not be logged: {bug!r}", key="uncaught")
