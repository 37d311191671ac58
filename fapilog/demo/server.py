"""A uvicorn with several server processes, started and ended so that nothing of it can stay behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

STOP_SECONDS: Final = 15.0
"""How long the server may take to end by itself."""

# Waits for a word on its input. If the input ends without one, whoever started it was killed; then so is the server.
_GUARD: Final = (
    'read -r word || { kill -TERM -"$1"; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; kill -0 -"$1" || exit 0; done; '
    'kill -KILL -"$1"; } 2>/dev/null'
)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """uvicorn serving ``app:app`` of a directory, in a process group of its own.

    Its output is read line by line, in a thread, and handed on. Leaving the `with` block ends every process of the
    group; if this process is killed instead, a shell that waits for its end does so.
    """

    def __init__(
        self,
        app_dir: Path,
        *,
        processes: int,
        environment: Mapping[str, str],
        working_directory: Path,
        on_line: Callable[[bytes], None],
        on_complaint: Callable[[str], None],
    ) -> None:
        """Start the server; *on_line* gets each line of its stdout, *on_complaint* each of its stderr."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.complaints: deque[str] = deque(maxlen=50)
        """The last lines of its stderr, which say why it ended if it did."""
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own arguments
            [
                *(sys.executable, "-m", "uvicorn", "--app-dir", str(app_dir), "app:app"),
                *("--port", str(self.port), "--workers", str(processes), "--timeout-worker-healthcheck", "60"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=working_directory,
            env=dict(environment),
            start_new_session=True,
        )
        self._guard = subprocess.Popen(  # noqa: S603 - a constant script and a number
            [shutil.which("sh") or "/bin/sh", "-c", _GUARD, "guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=_read, args=(self._process.stdout, on_line), name="demo-stdout", daemon=True),
            threading.Thread(
                target=_read,
                args=(self._process.stderr, lambda line: self._complain(line, on_complaint)),
                name="demo-stderr",
                daemon=True,
            ),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The id of uvicorn's first process, which is its group's as well."""
        return self._process.pid

    def _complain(self, line: bytes, on_complaint: Callable[[str], None]) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        self.complaints.append(text)
        on_complaint(text)

    @property
    def alive(self) -> bool:
        """Whether anything of the server can still write to its stdout."""
        return self._readers[0].is_alive()

    @property
    def failing(self) -> bool:
        """Whether its processes die as they start; uvicorn would begin new ones for ever."""
        return not self.alive or any(line.endswith("] died") for line in list(self.complaints))

    def stop(self) -> bool:
        """Ask the server to end with SIGTERM and wait; return whether it did so in time."""
        self._process.terminate()
        self._readers[0].join(STOP_SECONDS)
        return not self.alive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The leader has not been waited for yet, so its id, which is the group's, cannot be another process's by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._wait_until_the_group_is_empty()
        for reader in self._readers:
            reader.join(5)
        with contextlib.suppress(BrokenPipeError):
            self._guard.communicate(b"done\n")
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _wait_until_the_group_is_empty(self) -> None:
        """Wait for the processes that are not ours to wait for: they were killed, which takes them a moment."""
        until = time.monotonic() + 5
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < until:
                os.killpg(self._process.pid, 0)
                time.sleep(0.01)


def _read(stream: IO[bytes], on_line: Callable[[bytes], None]) -> None:
    for line in stream:
        on_line(line)
