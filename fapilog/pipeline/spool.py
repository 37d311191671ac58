"""The spool: where the records of one sink wait on disk while its far end is down, for this process or the next.

    <directory>/<sink>/<instance>/      a journal (`fapilog.files.journal`) for each process

What a dead process left is taken over under its lock and comes before our own records, so that replay is oldest first.
It is bounded in bytes and in age, the oldest goes first, and every record that goes without being delivered is
counted: at every moment ``taken_in = delivered + sum(dropped) + records``.
"""

import errno
import hashlib
import os
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from urllib.parse import quote

from fapilog import forks
from fapilog.diagnostics import DropReason, report
from fapilog.errors import ConfigurationError
from fapilog.files.checked import MAX_TEXT_BYTES
from fapilog.files.journal import Journal
from fapilog.files.orphans import Orphans
from fapilog.files.private import make_directory
from fapilog.files.recover import JournalSegment
from fapilog.pipeline.ledger import SpoolStats
from fapilog.types import Record

DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
DEFAULT_MAX_AGE_SECONDS: Final = 7 * 24 * 3600.0
SEGMENT_MAX_BYTES: Final = 8 * 1024 * 1024
SYNC_BYTES: Final = 1024 * 1024

_LINE_OVERHEAD_BYTES: Final = 64
_HEADER_BYTES: Final = 512
_LEAST_SEGMENTS: Final = 4
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

_T = TypeVar("_T")


class _Taken(NamedTuple):
    """A record that was read and is not yet acknowledged."""

    journal: Journal
    segment: JournalSegment
    number: int
    after: int
    too_old: int
    """How many records before it were left out because of their age."""


class Spool:
    """A queue on disk for the records of one sink. Not thread-safe: it has one caller at a time.

    Nothing is made before the first `append`. A forked child has an empty spool of its own.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sink: str,
        destination: str,
        instance: str | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS,
        segment_max_bytes: int = SEGMENT_MAX_BYTES,
        sync_bytes: int = SYNC_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to spool without touching the disk.

        Args:
            directory: Where the spools of all sinks are.
            sink: The sink's name.
            destination: Where the sink delivers to, such as its endpoint and tenant. Only its hash is kept; records
                are never replayed to another destination.
            instance: The name of this process's own directory, 16 hex digits; another is drawn if it is taken.
            max_bytes: How much may be on disk. The oldest segment makes room for what is new.
            max_age_seconds: How old a record may be when it is replayed.
            segment_max_bytes: How large a segment may grow; at most a quarter of *max_bytes*. What one call appends
                is never divided.
            sync_bytes: How much may be appended until it is made durable even if nobody asks.
            clock: The time in seconds since the epoch.
        """
        if not sink or not destination:
            raise ConfigurationError("a spool needs the name of its sink and a destination")
        name = quote(sink, safe="")
        self.directory = directory
        self._place = directory / (name if not name.startswith(".") else "%2E" + name[1:])
        fingerprint = hashlib.sha256(destination.encode()).hexdigest()[:16]
        self._owner = f"{self._place.name} {fingerprint}".encode()
        self._instance = instance
        self._max_bytes = max_bytes
        self._max_age_ns = int(max_age_seconds * 1e9)
        self._segment_max_bytes = min(segment_max_bytes, max_bytes // _LEAST_SEGMENTS)
        self._sync_bytes = sync_bytes
        self._clock = clock
        self._begin()
        _spools.add(self)

    def _begin(self) -> None:
        self._own: Journal | None = None
        self._adopted: list[Journal] = []
        self._taken: deque[_Taken] = deque()
        self._oldest: tuple[Journal | None, int, int] = (None, 0, 0)
        self._orphans = Orphans(self._place, self._owner)
        self._taken_in = 0
        self._from: Counter[str] = Counter()
        self._delivered = 0
        self._dropped: Counter[DropReason] = Counter()
        self._closed = False
        self._pid = os.getpid()

    @property
    def records(self) -> int:
        """How many records wait."""
        return sum([journal.records for journal in self._journals()])

    @property
    def size_bytes(self) -> int:
        """How much is on disk."""
        return sum([journal.size_bytes for journal in self._journals()])

    @property
    def oldest_timestamp_ns(self) -> int | None:
        """When the oldest waiting record was logged; None if none waits or it cannot be read."""
        for journal in self._journals():
            if self._oldest[:2] == (journal, journal.next) and journal.records:
                return self._oldest[2]
            try:
                for _, _, record in journal.unread():
                    self._oldest = journal, journal.next, record.timestamp_ns
                    return record.timestamp_ns
            except OSError:
                return journal.timestamp_ns
        return None

    def stats(self) -> SpoolStats:
        """Return the figures, which fit together."""
        return SpoolStats(
            records=self.records,
            size_bytes=self.size_bytes,
            oldest_timestamp_ns=self.oldest_timestamp_ns,
            taken_in=self._taken_in,
            adopted=dict(self._from),
            delivered=self._delivered,
            dropped={reason: count for reason, count in self._dropped.items() if count},
        )

    def append(self, records: Sequence[tuple[int, int, bytes]]) -> None:
        """Take `(level, timestamp_ns, line)`, oldest first; durable after the next `sync`.

        A record that could never fit is dropped and counted as ``spool_full``. On a full disk the oldest segment goes,
        counted as ``spool_enospc``, before this gives up.

        Raises:
            OSError: None of the records is kept, and they may be given again.
            ConfigurationError: The directory cannot be used for a spool.
            ValueError: A line is not exactly one line.
        """
        self._check()
        if any(not line or line.find(b"\n") != len(line) - 1 for _, _, line in records):
            raise ValueError("a record is one line that ends in its only line feed")
        kept = _fitting(records, self._max_bytes - _HEADER_BYTES)
        if kept:
            own = self._writable()
            lines = own.encode(kept)
            self._make_room(sum(map(len, lines)) + _HEADER_BYTES)
            self._write(own, lines, kept[0][1])
        self._taken_in += len(records)
        self._dropped["spool_full"] += len(records) - len(kept)

    def sync(self) -> None:
        """Make durable what was appended.

        Raises:
            OSError: It is not durable yet. It is still held in memory, and the next call tries again.
        """
        self._check()
        if self._own is not None and self._own.records:
            self._mend(self._own)
            self._own.sync()

    def read(self, max_records: int, max_bytes: int) -> list[Record]:
        """Return the oldest records that are not acknowledged, the same ones again until they are.

        A single record that is larger than *max_bytes* comes alone.

        Raises:
            OSError: They cannot be read now, as when no file can be opened.
        """
        self._check()
        self._taken.clear()
        self._expire()
        records: list[Record] = []
        size = 0
        for journal in self._journals():
            while True:
                try:
                    for record in self._unread(journal):
                        size += len(record.line)
                        if records and size > max_bytes:
                            self._taken.pop()
                            return records
                        records.append(record)
                        if len(records) >= max_records:
                            return records
                except FileNotFoundError as error:
                    if records:
                        return records
                    self._lose(journal, str(error.filename))
                    continue
                break
        return records

    def acknowledge(self, count: int) -> int:
        """Let go of the first *count* records of the last `read`, durably.

        Returns how many of them were still here: what was dropped meanwhile, for its age or to make room, has been
        counted as such.
        """
        self._check()
        if not 0 <= count <= len(self._taken):
            raise ValueError(f"cannot acknowledge {count} records; {len(self._taken)} were read")
        delivered = 0
        touched: dict[int, Journal] = {}
        for _ in range(count):
            taken = self._taken.popleft()
            journal = taken.journal
            if taken.number < journal.next:
                continue
            self._skip(journal, taken.number - journal.next, taken.too_old)
            journal.next = taken.number + 1
            taken.segment.known = (journal.next, taken.after)
            touched[id(journal)] = journal
            delivered += 1
        self._delivered += delivered
        for journal in touched.values():
            journal.release_below(journal.next)
        self._leave_empty()
        return delivered

    def adopt(self) -> int:
        """Take over what dead processes left for the same sink and destination, and return how many records.

        What would not fit into `max_bytes` is left where it is, for another process or another time. What is for
        another destination, or was written by another version, is left alone.
        """
        self._check()
        adopted = 0
        for journal in self._orphans.take(but={journal.path for journal in self._journals()}):
            fits = self.size_bytes + journal.size_bytes <= self._max_bytes or not self.records
            if not fits or not journal.records:
                journal.close()
                continue
            adopted += journal.records
            self._from[journal.path.name] += journal.records
            self._adopted.append(journal)
        self._adopted.sort(key=lambda journal: journal.timestamp_ns)
        self._taken_in += adopted
        self._expire()
        return adopted

    def close(self) -> None:
        """Make durable what was appended and leave it to the next process. Safe to call twice."""
        if self._pid != os.getpid():
            self.forget()
        if self._closed:
            return
        try:
            self.sync()
        except OSError as error:
            report(f"the spool in {str(self._place)!r} cannot be made durable: {error}")
        self._closed = True
        for journal in self._journals():
            journal.close()

    def forget(self) -> None:
        """Drop what a fork left here without touching it: it is the parent's."""
        for journal in self._journals():
            journal.forget()
        self._instance = None
        self._begin()

    def _journals(self) -> list[Journal]:
        return self._adopted + ([self._own] if self._own is not None else [])

    def _check(self) -> None:
        if self._pid != os.getpid():  # a fork that ran no hooks
            self.forget()
        if self._closed:
            raise OSError(errno.EBADF, "the spool is closed", str(self._place))

    # Writing

    def _writable(self) -> Journal:
        """Return this process's own journal, with little enough in memory."""
        if self._own is None:
            self._own = self._create(lambda path: Journal.create(path, self._owner))
        else:
            self._mend(self._own)
            if self._own.unsynced_bytes >= self._sync_bytes:
                self._own.sync()
        return self._own

    def _create(self, create: Callable[[Path], _T | None]) -> _T:
        """Make a directory of our own, under a name that nobody has."""
        make_directory(self.directory)
        make_directory(self._place, private=True)
        instance, self._instance = self._instance, None
        for _ in range(100):
            created = create(self._place / (instance or os.urandom(8).hex()))
            if created is not None:
                return created
            instance = None
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(self._place))

    def _mend(self, own: Journal) -> None:
        """Begin again if the directory was deleted while we ran."""
        if own.is_intact():
            return
        lost = self._create(own.mend)
        self._dropped["spool_vanished"] += lost
        report(f"the spool in {str(self._place)!r} was deleted; {lost} records were lost", key=f"gone {self._place}")

    def _make_room(self, size: int) -> None:
        while self.size_bytes + size > self._max_bytes and self._evict("spool_full") >= 0:
            continue

    def _evict(self, reason: DropReason, *, last: bool = True) -> int:
        """Give up the oldest segment and return its size; -1 if there is none, or it cannot be deleted."""
        for journal in self._journals():
            if not journal.segments or not (last or len(journal.segments) > 1 or journal is not self._own):
                continue
            segment = journal.segments[0]
            lost = journal.drop(segment)
            self._dropped[reason] += lost
            if lost:
                report(
                    f"the spool in {str(self._place)!r} lost {lost} records: {reason}", key=f"{reason} {self._place}"
                )
            gone = not journal.segments or journal.segments[0] is not segment
            self._leave_empty()
            return segment.size_bytes if gone else -1
        return -1

    def _write(self, own: Journal, lines: list[bytes], timestamp_ns: int) -> None:
        try:
            own.append(lines, timestamp_ns, segment_max_bytes=self._segment_max_bytes)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            needed = sum(map(len, lines)) + _HEADER_BYTES
            while needed > 0:
                freed = self._evict("spool_enospc", last=False)
                if freed < 0:
                    raise
                needed -= freed
            own.append(lines, timestamp_ns, segment_max_bytes=self._segment_max_bytes)

    # Reading

    def _unread(self, journal: Journal) -> Iterator[Record]:
        """Give the records of *journal*, noting each as taken; if none of them can be given, drop them all."""
        oldest_ns = self._oldest_allowed_ns()
        too_old = 0
        for segment, after, record in journal.unread():
            if record.timestamp_ns < oldest_ns:
                too_old += 1
                continue
            self._taken.append(_Taken(journal, segment, record.number, after, too_old))
            too_old = 0
            yield Record(record.level, record.timestamp_ns, record.line)
        if not (self._taken and self._taken[-1].journal is journal) and journal.records:
            self._skip(journal, journal.records, too_old)
            journal.release_below(journal.end)
            self._leave_empty()

    def _skip(self, journal: Journal, count: int, too_old: int) -> None:
        """Count what lies between the position and the next record that was read."""
        too_old = min(too_old, count)
        self._dropped["too_old"] += too_old
        if count > too_old:
            self._dropped["spool_corrupt"] += count - too_old
            report(f"{count - too_old} records in {str(journal.path)!r} were damaged", key=f"corrupt {self._place}")

    def _lose(self, journal: Journal, path: str) -> None:
        """Account for a segment that somebody deleted."""
        if journal is self._own:
            self._mend(journal)
            journal.sync()
        for segment in journal.segments:
            if str(segment.path) == path:
                lost = journal.drop(segment)
                self._dropped["spool_vanished"] += lost
                report(f"{path!r} was deleted; {lost} records were lost", key=f"gone {self._place}")
                break
        self._leave_empty()

    def _expire(self) -> None:
        """Drop the segments of which the next one already began too long ago."""
        oldest_ns = self._oldest_allowed_ns()
        for journal in self._journals():
            while len(journal.segments) > 1 and journal.segments[1].timestamp_ns < oldest_ns:
                first = journal.segments[0]
                self._dropped["too_old"] += journal.drop(first)
                if journal.segments and journal.segments[0] is first:
                    break

    def _oldest_allowed_ns(self) -> int:
        return int(self._clock() * 1e9) - self._max_age_ns

    def _leave_empty(self) -> None:
        """Remove the directories of dead processes of which everything is delivered."""
        for journal in [journal for journal in self._adopted if not journal.records]:
            self._adopted.remove(journal)
            journal.close()


def _fitting(records: Sequence[tuple[int, int, bytes]], room: int) -> Sequence[tuple[int, int, bytes]]:
    """Leave out what could never be held: lines without a limit, and the oldest of what is more than everything."""
    longest = min(room, MAX_TEXT_BYTES)
    sizes = [len(record[2]) + _LINE_OVERHEAD_BYTES for record in records]
    if sum(sizes) <= longest:
        return records
    kept = []
    for record, size in zip(reversed(records), reversed(sizes), strict=True):
        if size > longest:
            continue
        room -= size
        if room < 0:
            break
        kept.append(record)
    return kept[::-1]


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _forget_inherited() -> None:
    for spool in list(_spools):
        spool.forget()


forks.in_child(_forget_inherited)
