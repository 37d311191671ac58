"""Write records to standard output, as JSON lines, for a person or for another system.

Several processes may share one pipe. The kernel keeps a write of up to 4 096 bytes whole and tears longer ones, so on a
pipe each batch is written under an advisory lock. A lock belongs to an open file description, and processes that
inherited the same one would all hold it; so the pipe is opened once more, through ``/proc/self/fd/1``. A socket, as
systemd gives to a service, cannot be opened; the lock there is a record lock, which belongs to a process, and one of
the threads in it.
"""

import contextlib
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
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


_of_sockets: Final[dict[tuple[int, int], threading.Lock]] = {}
"""Locks of threads, by device and inode."""

forks.in_child(_of_sockets.clear)  # a thread of the parent may have held one


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
    _of_socket: Any = field(default=None, init=False, repr=False, compare=False)
    """What keeps out the threads of this process; None for what is no socket."""
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
                if stat.S_ISSOCK(found.st_mode):
                    self._of_socket = _of_sockets.setdefault((found.st_dev, found.st_ino), threading.Lock())
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
        if self._private is not None:
            fcntl.flock(self._private, fcntl.LOCK_EX)
            try:
                yield self._private
            finally:
                fcntl.flock(self._private, fcntl.LOCK_UN)
        elif self._of_socket is not None:
            with self._of_socket:
                with contextlib.suppress(OSError):  # a system that locks no sockets
                    fcntl.lockf(self.fd, fcntl.LOCK_EX)
                try:
                    yield self.fd
                finally:
                    with contextlib.suppress(OSError):
                        fcntl.lockf(self.fd, fcntl.LOCK_UN)
        else:
            yield self.fd

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
