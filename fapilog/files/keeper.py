"""What is done to a log beside the writing: compress, retain, bring to disk.

One thread for each log that has any of it to do. What a process leaves undone the next one does: the files say by
their names what they are.
"""

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from fapilog.diagnostics import report
from fapilog.files.compression import compress, tidy
from fapilog.files.descriptors import closing
from fapilog.files.lock import OPEN_FLAGS
from fapilog.files.names import Member, Names, claim_aside
from fapilog.files.retention import Retention
from fapilog.files.shared import SharedFile

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing is put aside there
    fcntl = None  # type: ignore[assignment]

SWEEP_SECONDS: Final = 3_600.0
"""How often files are looked at that grow too old while none is put aside."""

ENDING_SECONDS: Final = 1.0
"""How long the end of the process waits for what is being compressed."""

_MAX_STRAYS: Final = 16
_EMPTY_SECONDS: Final = 60.0
_IDLE_SECONDS: Final = 3_600.0


class Keeper:
    """The thread that looks after the files of one log."""

    def __init__(
        self,
        names: Names,
        *,
        retention: Retention | None = None,
        compression: str | None = None,
        rotates: bool = False,
        sync_seconds: float | None = None,
    ) -> None:
        """Look after the log called *names*; `file` must be set before the start.

        Args:
            names: Where the log is, and which files are its own.
            retention: What is kept of what was put aside; None is everything.
            compression: How what was put aside is compressed; None leaves it as it is.
            rotates: Whether files are put aside here.
            sync_seconds: How often what was written is brought to disk; None is not at all.
        """
        self.file: SharedFile
        self._names = names
        self._retention = retention
        self._compression = compression
        self._sweeps = rotates or retention is not None or compression is not None
        self._sync_seconds = sync_seconds
        self._begin()

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do at all."""
        return self._sweeps or self._sync_seconds is not None

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._event = threading.Event()
        self._strays: deque[int] = deque()
        self._asked = self._sweeps
        self._end_by = math.inf
        self._sync_at = math.inf

    def start(self) -> None:
        """Start the thread, unless it runs or there is nothing to do. Where none can be, the next process does it."""
        if self._pid != os.getpid():  # a forked child: its parent's thread is not here
            self._begin()
        if self._thread is not None or not self.has_work:
            return
        self._end_by = math.inf
        if self._sweeps:
            self._event.set()  # something may be left of an earlier process
        self._thread = threading.Thread(target=self._run, name="fapilog-files", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._thread = None

    def wake(self) -> None:
        """Have the files looked at, as one was just put aside."""
        if self._retention is None and self._compression is None:
            return
        self.start()
        self._asked = True
        self._event.set()

    def settle(self, fd: int) -> None:
        """Take an open file that others have put aside, bring it to disk and close it."""
        self.start()
        self._strays.append(fd)
        self._event.set()
        if self._thread is None or len(self._strays) > _MAX_STRAYS:
            self._settle_one()

    def settle_all(self) -> None:
        """Do that now with all of them."""
        while self._settle_one():
            pass

    def close(self) -> None:
        """End the thread; what it cannot finish within a moment is left to the next process."""
        thread, self._thread = self._thread, None
        if thread is not None and self._pid == os.getpid():
            self._end_by = time.monotonic() + ENDING_SECONDS
            self._event.set()
            thread.join(ENDING_SECONDS * 3)
        self.settle_all()

    def _run(self) -> None:
        ending = False
        while not ending:
            self._sync_at = time.monotonic() + (self._sync_seconds or math.inf)
            self._event.wait(min(self._sync_seconds or SWEEP_SECONDS, SWEEP_SECONDS))
            woken = self._event.is_set()
            self._event.clear()
            ending = self._thread is not threading.current_thread()
            try:
                self.settle_all()
                self._sync_if_due()
                if self._sweeps and (self._asked or not woken):
                    self._asked = False
                    self.sweep()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a directory, the records go on
                report(f"cannot look after {self._names.template!r}: {error}", key=f"keeper {self._names.template}")

    def _sync_if_due(self) -> None:
        if time.monotonic() < self._sync_at or self._sync_seconds is None:
            return
        self._sync_at = time.monotonic() + self._sync_seconds
        try:
            self.file.sync()
        except OSError as error:
            report(
                f"cannot bring {self._names.template!r} to disk, and begin a new file: {error}",
                key=f"fsync {self._names.template}",
            )

    def _settle_one(self) -> bool:
        try:
            fd = self._strays.popleft()
        except IndexError:
            return False
        try:
            with closing(fd):
                os.fsync(fd)
        except OSError as error:
            report(f"cannot bring to disk what was put aside: {error}", key=f"fsync {self._names.template}")
        return True

    # Looking after what was put aside

    def sweep(self) -> None:
        """Remove what is left of dead processes and what is not kept, and compress the rest, oldest first."""
        with closing(self.file.open_directory()) as directory:
            self._tidy(directory)
            self._retain(directory)
            if self._compression is not None:
                for member in self._closed(directory):
                    if not member.compression and not self._stop():
                        self._compress(directory, member)
                if self._retention is not None and not self._stop():
                    self._retain(directory)  # some are smaller now

    def _closed(self, directory: int) -> list[Member]:
        """Return the files nobody writes to any more, oldest first."""
        now = time.time()
        today = datetime.fromtimestamp(now).date().isoformat()

        def is_closed(member: Member) -> bool:
            if member.unfinished or not member.status.st_size:
                return False
            if member.stamp or (member.date and member.date < today):
                return True
            idle = now - member.status.st_mtime > _IDLE_SECONDS
            return bool(member.pid) and idle and not _lives(int(member.pid))

        return [member for member in self._names.members(directory) if is_closed(member)]

    def _tidy(self, directory: int) -> None:
        now = time.time()
        for member in self._names.members(directory):
            with contextlib.suppress(FileNotFoundError):
                if member.unfinished:
                    tidy(directory, member.name)
                elif member.stamp and not member.status.st_size and now - member.status.st_mtime > _EMPTY_SECONDS:
                    os.unlink(member.name, dir_fd=directory)  # a name that was taken by a process that died then

    def _retain(self, directory: int) -> None:
        if self._retention is None:
            return
        closed = self._closed(directory)
        for member in self._retention.expired(closed, time.time()):
            with contextlib.suppress(FileNotFoundError), _unwritten(member, directory):
                os.unlink(member.name, dir_fd=directory)
        for retain in self._retention.asked:
            paths = [self.file.directory / member.name for member in self._closed(directory)]
            try:
                retain(paths)
            except Exception as error:  # noqa: BLE001 - whatever it raises, the records go on
                report(f"the retention function of {self._names.template!r} failed: {error!r}", key="retention")

    def _compress(self, directory: int, member: Member) -> None:
        assert self._compression is not None  # noqa: S101 - asked before
        try:
            with contextlib.suppress(FileNotFoundError):
                try:
                    compress(directory, member.name, self._compression, self._stop)
                except FileExistsError:
                    if member.stamp:
                        raise
                    # Somebody has written again under the name of an earlier day: that becomes a file of its own.
                    with _unwritten(member, directory):
                        target, claimed = claim_aside(member.name, directory)
                        with closing(claimed):
                            os.rename(member.name, target, src_dir_fd=directory, dst_dir_fd=directory)
                    compress(directory, target, self._compression, self._stop)
        except OSError as error:
            report(f"cannot compress {member.name!r}, which stays as it is: {error}", key=f"compress {member.name}")

    def _stop(self) -> bool:
        """Whether to leave the rest to the next process; what else is due is done in passing."""
        self._sync_if_due()
        return time.monotonic() > self._end_by


@contextlib.contextmanager
def _unwritten(member: Member, directory: int) -> Iterator[None]:
    """Let whoever is about to write to a file do so before, or find it gone after."""
    with closing(os.open(member.name, os.O_RDONLY | OPEN_FLAGS, dir_fd=directory)) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
