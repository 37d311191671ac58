"""What differs from record to record and is asked in the log call: thread, task, resources, call site, user.

Each puts plain text and numbers into a dict that is given to it, or nothing; none raises. The fields of the record win
over these, so a name that is the user's stays the user's.
"""

import asyncio
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog

from fapilog.access import user_name
from fapilog.context import current_request, current_scope
from fapilog.encoding import plain
from fapilog.errors import MissingExtraError

Dynamic: TypeAlias = Callable[[dict[str, Any], str], None]
"""Adds fields to a dict, for a record of the logger of that name."""

SAMPLE_SECONDS: Final = 1.0
"""How old a sample of the resources may be."""

_MEBIBYTE: Final = 1024 * 1024
_SCHEME: Final = re.compile(r"[a-z0-9-]{1,32}")
_USER_FIELDS: Final = "fapilog.user_fields"


def thread(added: dict[str, Any], _logger: str) -> None:
    """Name the thread."""
    added["thread_name"] = threading.current_thread().name


def task(added: dict[str, Any], _logger: str) -> None:
    """Name the task of asyncio, if this runs in one."""
    loop = asyncio._get_running_loop()  # the public one raises where there is none
    if loop is not None:
        current = asyncio.current_task(loop)
        if current is not None:
            added["task_name"] = str(current.get_name())


class Resources:
    """Tell memory and processor time of the process, measured at most once a second."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to measure; *clock* returns seconds.

        Raises:
            MissingExtraError: psutil is not installed.
        """
        try:
            import psutil  # noqa: PLC0415 - only who asks for it needs it
        except ImportError as error:
            raise MissingExtraError("the enricher 'resources'", extra="system") from error
        self._process: Any = None
        self._psutil: Any = psutil
        self._clock = clock
        self._lock = threading.Lock()
        self._fields: Mapping[str, Any] = {}
        self._due = clock() + SAMPLE_SECONDS
        self._measure()  # the first look at the processor time has nothing to compare with, and tells nothing

    def __call__(self, added: dict[str, Any], _logger: str) -> None:
        """Add what was measured last, and measure if that was long ago."""
        now = self._clock()
        if now >= self._due and self._lock.acquire(blocking=False):  # another thread, or one below in this very one
            try:
                self._due = now + SAMPLE_SECONDS
                self._fields = {**self._fields, **self._measure()}
            finally:
                self._lock.release()
        added.update(self._fields)

    def _measure(self) -> dict[str, Any]:
        try:
            if self._process is None:
                self._process = self._psutil.Process()
            used = self._process.cpu_percent(None)
            memory = round(self._process.memory_info().rss / _MEBIBYTE, 2)
        except (self._psutil.Error, OSError):
            return {}
        if not self._fields:
            self._fields = {"memory_mb": memory}
        return {"memory_mb": memory, "cpu_percent": used}


_PACKAGES: Final = (Path(__file__).parents[1], Path(structlog.__file__).parent, Path(logging.__file__).parent)
_NOT_THE_CALLER: Final = (
    *(f"{path}{os.sep}" for path in _PACKAGES),
    warnings.__file__,
    str(Path(warnings.__file__).with_name("_py_warnings.py")),
)
"""How the paths of code begin that stands between the log call and the record."""


def call_site(added: dict[str, Any], logger: str) -> None:
    """Say which line of which file has logged. What fapilog logs itself has no such line."""
    if logger.startswith("fapilog"):
        return
    frame = sys._getframe(3)  # what is nearer is this, who asks it, and the recorder
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if not file.startswith(_NOT_THE_CALLER):
            added["code_file"] = file
            added["code_line"] = frame.f_lineno
            added["code_function"] = code.co_qualname
            return
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop


def user(added: dict[str, Any], _logger: str) -> None:
    """Say for whom a request is served, once an authenticating middleware has found out."""
    scope = current_scope.get()
    if scope is None or current_request.get() is None:
        return
    who = scope.get("user")
    if who is None:
        return
    known = scope.get(_USER_FIELDS)
    if known is None or known[0] is not who:
        known = scope[_USER_FIELDS] = (who, _describe(who, scope))
    added.update(known[1])


def _describe(who: Any, scope: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    try:
        name = user_name(who)
        if name is None:
            return fields
        fields["user_id"] = name
        roles = getattr(who, "roles", None) or getattr(scope.get("auth"), "scopes", None)
        if isinstance(roles, list | tuple | set | frozenset) and roles:
            fields["user_roles"] = [plain(role) for role in roles]
        for header, value in scope.get("headers") or ():
            if header.lower() == b"authorization":
                scheme = value.split(b" ", 1)[0].decode("latin-1").lower()
                if b" " in value and _SCHEME.fullmatch(scheme):
                    fields["auth_scheme"] = scheme
                break
    except Exception:  # noqa: BLE001 - a class of the user's: whatever its properties raise
        return fields
    return fields


DYNAMIC: Final[Mapping[str, Callable[[], Dynamic]]] = {
    "thread": lambda: thread,
    "task": lambda: task,
    "resources": Resources,
    "callsite": lambda: call_site,
    "user": lambda: user,
}
