"""Give new records of all processes as they are written, each once, whatever becomes of the files meanwhile.

Segments are read from where they were read to, and held open, so that one that is compacted and deleted is read to
its end all the same. Only what came and went between two looks is seen as Parquet alone: of every new Parquet file,
those records are taken whose count was not seen before.
"""

import bisect
import contextlib
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import orjson

from fapilog.files.lock import OPEN_FLAGS
from fapilog.files.segment import Segment, list_segments
from fapilog.store.manifest import MANIFEST, SEGMENTS, DamagedManifestError, Manifest, ParquetFile
from fapilog.store.matching import Test
from fapilog.store.models import LogRecord

LOOK_SECONDS: Final = 0.1
"""How long to wait between two looks for what is new."""

_CHUNK_BYTES: Final = 4 * 1024 * 1024
_TAIL_BYTES: Final = 64 * 1024
_MOST_INSTANCES: Final = 10_000
_MOST_RUNS: Final = 10_000
_ID: Final = re.compile(r"([0-9a-f]{16})-([0-9]{1,18})")


class Run(NamedTuple):
    """Records of one process that a Parquet file has: from one count to another."""

    instance: str
    first: int
    last: int


class ParquetReader(Protocol):
    """Reads what a Parquet file has of the time since the following began."""

    def runs(self, file: ParquetFile, began: float) -> list[Run]:
        """Say which records there are, roughly: each is in a run, but not all of a run need be there."""

    def records(self, file: ParquetFile, began: float) -> Sequence[LogRecord]:
        """Read those records that are wanted."""


class Follower:
    """Follow one store from the moment this is made. Call `poll` often, from one thread, and `close` in the end."""

    behind: bool = False
    """Whether there is more to read at once."""

    def __init__(
        self, store: Path, fits: Test, parquet: ParquetReader, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Begin after what is in *store* now.

        Args:
            store: The directory.
            fits: Says of a record, as it was logged, whether it is wanted.
            parquet: Reads Parquet files.
            clock: Gives the time, in seconds since the epoch.
        """
        self._store = store
        self._fits = fits
        self._parquet = parquet
        self._began = clock()
        self._seen = _Seen()
        self._open: dict[str, _Reader] = {}
        self._manifest_as_of: tuple[int, ...] | None = None
        self._manifest = Manifest()
        self._load_manifest()
        self._files = {file.name for file in self._manifest.parquet}
        self._done = {Path(entry.name).name for entry in self._manifest.retired}
        for segment in list_segments(store / SEGMENTS):
            if segment.name not in self._done and (reader := self._take_up(segment)) is not None:
                reader.skip_to_end()

    def poll(self) -> list[LogRecord]:
        """Return what is new and wanted, in order of time as far as it is known by now."""
        # What the manifest counts as Parquet was whole in its segments before, so they are read after it.
        self._load_manifest()
        found = [record for line in self._new_lines() if (record := self._wanted(line)) is not None]
        if not self.behind:
            found += self._missed()
        return sorted(found, key=_order)

    def note(self, record: LogRecord) -> None:
        """Take *record* for one that was given already."""
        self._seen.add(record.id)

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        for reader in self._open.values():
            reader.close()
        self._open.clear()

    def _new_lines(self) -> Iterator[bytes]:
        segments = list_segments(self._store / SEGMENTS)
        last = {segment.slot: segment.number for segment in segments}  # they are in order
        names = {segment.name for segment in segments}
        self._done &= names  # a number is never used again
        for segment in segments:
            if segment.name not in self._open and segment.name not in self._done:
                self._take_up(segment)
        self.behind = False
        for name, reader in list(self._open.items()):
            yield from reader.lines()
            self.behind |= reader.behind
            if not reader.behind and (name not in names or reader.segment.number < last[reader.segment.slot]):
                reader.close()  # it was closed before it was listed, so that was all of it
                del self._open[name]
                self._done |= {name} & names

    def _take_up(self, segment: Segment) -> "_Reader | None":
        try:
            reader = self._open[segment.name] = _Reader(self._store / SEGMENTS / segment.name, segment)
        except OSError:  # gone, or not for us to read; what it held may come as Parquet
            return None
        return reader

    def _wanted(self, line: bytes) -> LogRecord | None:
        try:
            record: Any = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(record, dict) or not self._seen.add(record.get("id")) or not self._fits(record):
            return None
        return LogRecord.of_flat(record)

    def _missed(self) -> list[LogRecord]:
        """Find in new Parquet files what was never seen in a segment."""
        new = [file for file in self._manifest.parquet if file.name not in self._files]
        self._files = {file.name for file in self._manifest.parquet}
        return [
            record
            for file in new
            if file.newest is not None and file.newest >= self._began
            if not all(self._seen.has(run) for run in self._parquet.runs(file, self._began))
            for record in self._parquet.records(file, self._began)
            if _ID.fullmatch(record.id or "") and self._seen.add(record.id)
        ]

    def _load_manifest(self) -> None:
        with contextlib.suppress(OSError, DamagedManifestError):  # the next compaction mends it
            status = (self._store / MANIFEST).stat()
            as_of = (status.st_ino, status.st_mtime_ns, status.st_size)
            if as_of != self._manifest_as_of:
                self._manifest = Manifest.load(self._store)
                self._manifest_as_of = as_of


class _Reader:
    """One segment, read as far as it goes."""

    def __init__(self, path: Path, segment: Segment) -> None:
        self.segment = segment
        self.behind = False
        self._file = os.fdopen(os.open(path, os.O_RDONLY | OPEN_FLAGS), "rb", buffering=0)
        self._at = 0
        self._rest = b""

    def skip_to_end(self) -> None:
        """Go on after the last line that is whole."""
        end = os.fstat(self._file.fileno()).st_size
        while end:
            begin = max(end - _TAIL_BYTES, 0)
            found = os.pread(self._file.fileno(), end - begin, begin).rfind(b"\n")
            if found >= 0:
                self._at = begin + found + 1
                return
            end = begin

    def lines(self) -> list[bytes]:
        """Return the next whole lines, up to some megabytes of them."""
        if os.fstat(self._file.fileno()).st_size < self._at:  # the writer took back what it could not finish
            self._at, self._rest = os.fstat(self._file.fileno()).st_size, b""
        chunk = os.pread(self._file.fileno(), _CHUNK_BYTES, self._at)
        self._at += len(chunk)
        self.behind = len(chunk) == _CHUNK_BYTES
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return lines

    def close(self) -> None:
        self._file.close()


class _Seen:
    """Which records were seen, by the count in their ids: few runs, as counts have few gaps."""

    def __init__(self) -> None:
        self._instances: OrderedDict[str, tuple[list[int], list[int]]] = OrderedDict()

    def add(self, name: Any) -> bool:
        """Note the id *name*; False if it was noted before. What is no id of ours is always new."""
        found = _ID.fullmatch(name) if isinstance(name, str) else None
        if found is None:
            return True
        count = int(found[2])
        if found[1] not in self._instances:
            self._instances[found[1]] = ([], [])
            if len(self._instances) > _MOST_INSTANCES:
                self._instances.popitem(last=False)
        firsts, lasts = self._instances[found[1]]
        at = bisect.bisect_right(firsts, count) - 1  # the run that begins at or before it
        if at >= 0 and count <= lasts[at]:
            return False
        grows = at >= 0 and lasts[at] == count - 1
        meets = at + 1 < len(firsts) and firsts[at + 1] == count + 1
        if grows and meets:
            lasts[at] = lasts.pop(at + 1)
            del firsts[at + 1]
        elif grows:
            lasts[at] = count
        elif meets:
            firsts[at + 1] = count
        else:
            firsts.insert(at + 1, count)
            lasts.insert(at + 1, count)
            if len(firsts) > _MOST_RUNS:  # the gaps are records that went elsewhere; the oldest are of no use now
                half = len(firsts) // 2
                del firsts[1:half], lasts[: half - 1]
        return True

    def has(self, run: Run) -> bool:
        """Whether all of *run* was seen."""
        firsts, lasts = self._instances.get(run.instance, ([], []))
        at = bisect.bisect_right(firsts, run.first) - 1
        return at >= 0 and run.last <= lasts[at]


def _order(record: LogRecord) -> tuple[bool, datetime]:
    return record.timestamp is None, record.timestamp or datetime.max.replace(tzinfo=UTC)
