"""Run SQL of people we do not know: in a process of its own, with the store and nothing else, up to set bounds."""

import contextlib
import json
import math
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import anyio
import anyio.to_thread

from fapilog.errors import QueryError, QueryLimitError

Job: TypeAlias = Callable[[], tuple[dict[str, Any], list[str]]]
"""Describes what a child is to do, over the store as it is now, and says what had to be left out."""

_SCRIPT: Final = Path(__file__).with_name("confined.py")
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_START_SECONDS: Final = 20.0
"""How long the child may take to start, on top of the time for the query."""


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """How much one query from outside may take."""

    timeout_seconds: float = 5.0
    """How long it may run."""

    max_rows: int = 10_000
    """How many rows of its answer are given."""

    max_bytes: int = 16 * 1024 * 1024
    """How large its answer may be, as JSON."""

    memory_bytes: int = 512 * 1024 * 1024
    """How much memory it may use."""

    threads: int = 2
    """On how many threads it runs."""


@dataclass(frozen=True)
class SandboxAnswer:
    """The rows that a query from outside gave."""

    columns: list[str]
    types: list[str]
    """DuckDB's name of each column's type, such as ``VARCHAR``."""

    rows: list[list[Any]]
    """Each row as values of JSON: times as ISO 8601 in UTC, bytes in hexadecimal, intervals in seconds, a
    number that is none or infinite as None."""

    truncated: Literal["rows", "bytes"] | None = None
    """The bound that cut the answer short, or None if it is whole."""

    warnings: tuple[str, ...] = ()
    """What had to be left out, such as a damaged file; empty if nothing."""


class SandboxQuery:
    """One query from outside, under way. `answer` waits for it; `cancel`, from any thread, ends it at once.

    As a context manager, or with `aanswer`, it is ended when the asker leaves.
    """

    def __init__(self, job: Job, limits: SandboxLimits, *, blames: Callable[[str, str], bool]) -> None:
        """Start the child.

        Args:
            job: Describes to it what to do.
            limits: How much it may take.
            blames: Says whether an error of DuckDB's, its class and its text, comes of a damaged file, which *job*
                leaves out from then on.
        """
        self._job = job
        self._limits = limits
        self._blames = blames
        self._lock = threading.Lock()
        self._cancelled = False
        self._process, self._warnings = self._start()

    def answer(self) -> SandboxAnswer:
        """Wait for the answer, once.

        Raises:
            QueryLimitError: It took too long or too much memory, or was cancelled.
            QueryError: It may not be asked, or DuckDB refuses it.
        """
        while True:
            try:
                lines = self._read()
            finally:
                self._end()
            if self._cancelled or not self._is_of_a_file(lines):
                return self._understand(lines)
            self._process, self._warnings = self._start()
            if self._cancelled:
                self.cancel()

    async def aanswer(self) -> SandboxAnswer:
        """Wait for the answer without holding up the event loop; a cancelled task ends the query at once.

        Raises:
            QueryLimitError: As `answer`.
            QueryError: As `answer`.
        """
        try:
            return await anyio.to_thread.run_sync(self.answer, abandon_on_cancel=True)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the query. Safe to call at any time, and again."""
        self._cancelled = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
        self._end()

    def _start(self) -> tuple["subprocess.Popen[bytes]", tuple[str, ...]]:
        job, warnings = self._job()
        process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            start_new_session=True,  # what is typed at our terminal is not for it
        )
        try:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job, allow_nan=False).encode() + b"\n")
                process.stdin.flush()
        except BaseException:
            process.kill()
            raise
        return process, tuple(warnings)

    def _is_of_a_file(self, lines: list[bytes]) -> bool:
        """Whether there is no answer but an error, and that for a damaged file."""
        last = _last(lines)
        return last.get("kind") == "query" and self._blames(last["type"], last["error"])

    def _read(self) -> list[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        descriptor = self._process.stdout.fileno()
        limit = self._limits.max_bytes * 2 + 1_000_000  # the child keeps to the half; this is in case it does not
        found = bytearray()
        deadline = time.monotonic() + self._limits.timeout_seconds + _START_SECONDS
        started = False
        ready = select.poll()  # select takes no descriptor above 1023, and a server has many
        ready.register(descriptor, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.poll(left * 1_000):
                raise QueryLimitError(f"the query took longer than {self._limits.timeout_seconds:g} s and was ended")
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                break
            if not started:  # the first line says that the child is ready
                started = True
                deadline = time.monotonic() + self._limits.timeout_seconds
            found += chunk
            if len(found) > limit:
                raise QueryLimitError(f"the answer is larger than {self._limits.max_bytes} bytes")
        return bytes(found).splitlines()

    def _understand(self, lines: list[bytes]) -> SandboxAnswer:
        last = _last(lines)
        if "end" in last:
            head = json.loads(lines[1])
            rows = [json.loads(line) for line in lines[2:-1]]
            return SandboxAnswer(head["columns"], head["types"], rows, last["end"], self._warnings)
        if last.get("kind") in ("query", "refused"):
            raise QueryError(str(last["error"]).strip())
        if self._cancelled:
            raise QueryLimitError("the query was cancelled")
        raise QueryLimitError(f"the query took more memory than {self._limits.memory_bytes} bytes and was ended")

    def _end(self) -> None:
        with self._lock:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process.wait()


def _last(lines: list[bytes]) -> dict[str, Any]:
    """Return what the child said last after that it was ready; nothing if it was ended before it could."""
    with contextlib.suppress(ValueError):  # half a line
        last: Any = json.loads(lines[-1]) if len(lines) > 1 else None
        if isinstance(last, dict):
            return last
    return {}


def job_of(
    query: str,
    params: Sequence[Any] | Mapping[str, Any] | None,
    limits: SandboxLimits,
    *,
    views: Mapping[str, str],
    paths: Sequence[Path],
) -> dict[str, Any]:
    """Describe to the child what to do.

    Args:
        query: The query from outside.
        params: What fills ``$1`` or ``$name`` in it: values of JSON.
        limits: How much it may take.
        views: By name, the statement of each view it may read, in an order in which they can be made.
        paths: The files those read.

    Raises:
        QueryError: *params* are no values of JSON.
    """
    try:
        json.dumps(params, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise QueryError(f"parameters are values of JSON: {error}") from error
    return {
        "query": query,
        "params": params,
        "views": dict(views),
        "paths": [str(path) for path in paths],
        "sys_path": [os.path.abspath(path) for path in sys.path if path],  # noqa: PTH100 - the child is elsewhere
        "memory_bytes": limits.memory_bytes,
        "max_rows": limits.max_rows,
        "max_bytes": limits.max_bytes,
        "cpu_seconds": math.ceil(limits.timeout_seconds * limits.threads) + 5,
        "config": {
            "threads": limits.threads,
            "memory_limit": f"{limits.memory_bytes}B",
            "temp_directory": "",
            "max_temp_directory_size": "0B",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
        },
    }
