"""Write records to standard output, as JSON lines, for a person or for another system.

Several processes may share one pipe. The kernel keeps a write of up to 4 096 bytes whole and tears longer ones, so on a
pipe or a socket each batch is written under advisory locks. A record lock belongs to a process, so within one there is
another; and it is gone when the program closes a copy of the descriptor. `flock` is not, but belongs to an open file
description, and processes that inherited the same one would all hold it; so the pipe is opened once more, through
``/proc/self/fd/1``, where that is allowed. It is not where the pipe is another user's, as in a container whose process
gave up being root, and a socket, as systemd gives to a service, cannot be opened.
"""

import contextlib
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, InstanceOf
from pydantic.dataclasses import dataclass

from fapilog import forks
from fapilog.errors import ConfigurationError, SinkClosedError
from fapilog.formats import MIN_WIDTH, Formatter, Screen, UserFormat, format_name, is_terminal
from fapilog.plugins import OPTIONS
from fapilog.types import Batch

try:
    import fcntl
except ImportError:  # Windows: pipes there are not locked
    fcntl = None  # type: ignore[assignment]


_threads: Final[dict[tuple[int, int], threading.Lock]] = {}
"""Locks of threads, by the device and inode of what they write to."""

forks.in_child(_threads.clear)  # a thread of the parent may have held one


def _format(said: Any) -> Any:
    if isinstance(said, str) and said.strip().lower() == "auto":
        return "auto"
    try:
        return format_name(said)
    except ValueError as error:
        raise ValueError(str(error).replace("known: ", "known: auto, ")) from None


@dataclass(config=OPTIONS, kw_only=True)
class StdoutSink:
    """Write each record as one line to standard output; when the reader goes away the sink ends quietly."""

    format: Annotated[str | UserFormat, BeforeValidator(_format)] = "auto"
    """json; pretty for a person; auto: pretty on a terminal and json otherwise; logfmt; csv; the names of another
    system: otel, ecs, gcp, datadog; a template such as ``{timestamp} {level:8} {event}``; a function that is given
    a record as a dict, or its ``module:function``."""

    width: Annotated[int, Field(ge=MIN_WIDTH)] | None = None
    """How many columns ``pretty`` fills before it goes on below, indented; at least 40. None means ``COLUMNS`` or the
    window on a terminal, and no end of a line anywhere else."""

    fd: Annotated[int, Field(ge=1)] = 1
    """The file descriptor to write to: 1 is standard output, 2 standard error."""

    _private: int | None = field(default=None, init=False, repr=False)
    _threads: Any = field(default=None, init=False, repr=False, compare=False)
    """What keeps out the threads of this process; None for what is neither a pipe nor a socket."""
    _absent: bool = field(default=False, init=False, repr=False)
    _formatter: InstanceOf[Formatter] = field(
        default_factory=lambda: Formatter("json"), init=False, repr=False, compare=False
    )
    _header: bytes = field(default=b"", init=False, repr=False)
    _begun: bytes = field(default=b"", init=False, repr=False)
    """What was written of a batch that then failed: it is given again, and goes on where it was cut."""

    @property
    def default_linger_seconds(self) -> float:
        """A person at a terminal waits for nothing; a pipe gets batches."""
        return 0.0 if is_terminal(self.fd) else 0.05

    @property
    def unformatted(self) -> int:
        """How many records were written as JSON because the format could not hold them."""
        return self._formatter.failed

    def open(self) -> None:
        """Look at what standard output is.

        Raises:
            ConfigurationError: If it is another file descriptor, and that is not open.
        """
        if self.fd > 2 and not _is_open(self.fd):
            raise ConfigurationError(f"file descriptor {self.fd} is not open; 1 is standard output, 2 standard error")
        # Without a standard output at the start its number is given to the next file that is opened.
        self._absent = self.fd == 1 and sys.__stdout__ is None
        wanted = ("pretty" if is_terminal(self.fd) else "json") if self.format == "auto" else self.format
        self._formatter = Formatter(wanted, Screen.at(self.fd, width=self.width))
        self._header, self._begun = self._formatter.header, b""
        if fcntl is not None and self._private is None and not self._absent:
            with contextlib.suppress(OSError):
                found = os.fstat(self.fd)
                if stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
                    self._threads = _threads.setdefault((found.st_dev, found.st_ino), threading.Lock())
                if stat.S_ISFIFO(found.st_mode):
                    # Without O_NONBLOCK this open would wait for a reader if there is none.
                    self._private = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def write(self, batch: Batch) -> None:
        """Write all lines of *batch*, whole."""
        if self._absent:
            raise SinkClosedError("there is no standard output")
        payload = self._formatter.payload(batch)
        if not payload:
            return
        if self._formatter.header and not self._header and self._is_emptied():
            self._header = self._formatter.header
        payload = self._header + payload
        try:
            with self._alone() as fd:
                self._write_all(fd, payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            self._silence_interpreter()
            raise SinkClosedError("the reader of standard output is gone") from error
        except OSError as error:
            if error.errno == 9:  # EBADF: somebody has closed it since
                raise SinkClosedError("there is no standard output") from error
            raise
        self._header = b""

    def close(self) -> None:
        """Close the second way into the pipe; standard output itself stays open."""
        if self._private is not None:
            os.close(self._private)
            self._private = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """Keep out what shares standard output and locks it too; return the descriptor to write to."""
        if self._threads is None:
            yield self.fd
            return
        with self._threads, contextlib.ExitStack() as locks:
            with contextlib.suppress(OSError):  # a system that does not lock these
                fcntl.lockf(self.fd, fcntl.LOCK_EX)
                locks.callback(_unlock, fcntl.lockf, self.fd)
            if self._private is not None:
                fcntl.flock(self._private, fcntl.LOCK_EX)
                locks.callback(_unlock, fcntl.flock, self._private)
            yield self.fd if self._private is None else self._private

    def _is_emptied(self) -> bool:
        """Tell whether standard output is a file that somebody has truncated, as logrotate does with copytruncate."""
        try:
            found = os.fstat(self.fd)
        except OSError:  # which `write` will meet, too
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == 0

    def _write_all(self, fd: int, payload: bytes) -> None:
        """Write everything, resuming at the exact byte, also in a later call if this one fails before the end."""
        begun, self._begun = self._begun, b""
        if begun and not payload.startswith(begun):  # it was given up meanwhile, or is made anew each time
            payload = (b"" if begun.endswith(b"\n") else b"\n") + payload
            begun = b""
        view = memoryview(payload)[len(begun) :]
        try:
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:  # the descriptor does not block, and is full
                    waiting = select.poll()
                    waiting.register(fd, select.POLLOUT)
                    waiting.poll()
        except OSError:
            self._begun = payload[: len(payload) - len(view)]
            raise

    def _silence_interpreter(self) -> None:
        """Keep the interpreter from complaining at its end that it cannot flush `sys.stdout` into a closed pipe."""
        if self.fd == 1 and sys.stdout is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _unlock(lock: Callable[[int, int], Any], fd: int) -> None:
    with contextlib.suppress(OSError):  # it was closed since
        lock(fd, fcntl.LOCK_UN)
