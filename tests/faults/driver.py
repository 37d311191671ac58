"""Run a program that something happens to, and see what has arrived at a file, and at a receiver elsewhere."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.programs import environment, parse
from tests.receiver import Receiver

WATCHDOG_SECONDS = 30.0
_BEFORE = "from tests.faults.child import configure, tell, tell_stats\nimport fapilog\nfrom fapilog import log\n"


def _heed_interrupts() -> None:
    """Undo what a shell does to a command in the background: it ignores SIGINT, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Program:
    """A program in a process group of its own; what hangs is killed, and has shown where by then."""

    def __init__(self, source: str, *args: object, command: Iterable[str] = (), **variables: str) -> None:
        """Start *source*, which finds `tell` and `configure` there, or *command* as it is."""
        self._directory = tempfile.mkdtemp()
        pipe = f"{self._directory}/told"
        os.mkfifo(pipe)
        read = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._keep_open: int | None = os.open(pipe, os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(read, True)
        self.began = time.monotonic()
        line = list(command) or [sys.executable, "-W", "error", "-c", _BEFORE + textwrap.dedent(source)]
        self.process = subprocess.Popen(
            [*line, *map(str, args)],
            env=environment(TELL=pipe, **variables),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - it does nothing but one system call
        )
        self.told: list[dict[str, Any]] = []
        self.errors = b""
        self.output = b""
        self._news = threading.Condition()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._pipes = [os.fdopen(read, "rb"), self.process.stdout, self.process.stderr]
        self._threads = [
            threading.Thread(target=target, args=(pipe,), daemon=True)
            for target, pipe in zip((self._listen, self._read_output, self._read_errors), self._pipes, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the program has told this so many times, and return all of it."""
        with self._news:
            there = self._news.wait_for(lambda: len(self.all(what)) >= count, WATCHDOG_SECONDS)
        assert there, f"{what!r} was not told {count} times: {self.told[-3:]}"
        return self.all(what)

    def all(self, what: str) -> list[dict[str, Any]]:
        """Return everything of one kind that was told so far."""
        return [each for each in list(self.told) if each["what"] == what]

    def signal(self, signum: int) -> None:
        """Send the process a signal."""
        self.process.send_signal(signum)

    def end(self, code: int | None = 0) -> Self:
        """Wait for the end, and see that it is the expected one; None is any."""
        try:
            self.process.wait(WATCHDOG_SECONDS)
        except subprocess.TimeoutExpired:
            self._show_where()
            self.kill()
            raise AssertionError(f"the program hangs: {self.errors.decode(errors='replace')[-4000:]}") from None
        self.seconds = time.monotonic() - self.began
        self._stop_listening()
        for thread in self._threads:
            thread.join(WATCHDOG_SECONDS)
            if thread.is_alive():
                self._show_where()
                self.kill()
                raise AssertionError(f"a child of the program hangs: {self.errors.decode(errors='replace')[-4000:]}")
        assert code is None or self.process.returncode == code, (self.process.returncode, self.errors.decode()[-4000:])
        return self

    def kill(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._stop_listening()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in self._pipes:
            pipe.close()
        shutil.rmtree(self._directory)

    def _show_where(self) -> None:
        """Have every process write to stderr where its threads are."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGUSR1)
        time.sleep(0.5)

    def _stop_listening(self) -> None:
        """Let the pipe end with the last process that writes to it."""
        fd, self._keep_open = self._keep_open, None
        if fd is not None:
            os.close(fd)

    def _listen(self, pipe: Any) -> None:
        for line in pipe:
            with self._news:
                self.told.append(json.loads(line))
                self._news.notify_all()

    def _read_output(self, pipe: Any) -> None:
        self.output = pipe.read()

    def _read_errors(self, pipe: Any) -> None:
        for line in pipe:
            self.errors += line


def run(source: str, *args: object, code: int | None = 0, **variables: Any) -> Program:
    """Run *source* to its end."""
    with Program(source, *args, **variables) as program:
        return program.end(code)


def in_file(directory: Path) -> Counter[str]:
    """Count the ids in the file: every line of it is whole."""
    with (directory / "app.log").open("rb") as file:
        return Counter(str(parse(line)["id"]) for line in file)


def at(receiver: Receiver) -> Counter[str]:
    """Count the ids at the receiver."""
    found = receiver.report()["records"]
    return Counter({f"{instance}-{number}": n for instance, counts in found.items() for number, n in counts.items()})


def whole(ids: Counter[str], *, twice: int = 0) -> dict[str, int]:
    """Return how many records there are of each instance; none is missing, and no more than *twice* came again."""
    numbers: dict[str, set[int]] = {}
    for each in ids:
        instance, _, number = each.partition("-")
        numbers.setdefault(instance, set()).add(int(number))
    for instance, seen in numbers.items():
        missing = set(range(1, max(seen) + 1)) - seen
        assert not missing, f"{len(missing)} of {max(seen)} records of {instance} are missing: {sorted(missing)[:5]}"
    again = ids.total() - len(ids)
    assert again <= twice, f"{again} records came more than once"
    return {instance: len(seen) for instance, seen in numbers.items()}


def check_books(program: Program) -> list[dict[str, Any]]:
    """See that the books of every process that told them balance, with nothing left over; return them."""
    books = program.all("stats")
    for stats in books:
        for name, sink in stats["sinks"].items():
            assert sink["balanced"], (name, stats)
            assert (sink["queued"], sink["in_flight"]) == (0, 0), (name, stats)
    return books
