"""The real command, in a process of its own, with or without a terminal."""

import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from fapilog.cli import main

SECONDS = 60.0
COMMAND = [sys.executable, "-c", "import sys; from fapilog.cli import main; sys.exit(main())"]


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what decides about colours and widths."""
    odd = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
    return {name: value for name, value in os.environ.items() if name not in odd} | {
        "TERM": "xterm-256color",
        **(more or {}),
    }


class Here:
    """The command in this process, which is much quicker to start; `run` is the real thing."""

    def __init__(self, captured: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._captured = captured
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> Done:
        """Run it."""
        self._captured.readouterr()
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *self._captured.readouterr())


def run(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    """Run the command without a terminal."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        env=environment(env),
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_on_terminal(*arguments: str | Path, env: Mapping[str, str] | None = None, columns: int = 100) -> Done:
    """Run the command with standard output and error on a terminal of so many *columns*; both are in `Done.out`."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=follower, stderr=follower, env=environment(env)
    ) as process:
        os.close(follower)
        said, until = b"", time.monotonic() + SECONDS
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while time.monotonic() < until:
                if select.select([leader], [], [], 0.1)[0]:
                    if not (piece := os.read(leader, 65536)):
                        break
                    said += piece
        if time.monotonic() >= until:
            process.kill()
        code = process.wait(SECONDS)
    os.close(leader)
    return Done(code, said.decode().replace("\r\n", "\n"), "")
