"""Turn closed segments into Parquet files: smaller, typed, sorted by time, and quick to query.

At every moment, a crash included, a query sees each record once: a Parquet file is complete before the manifest names
it, the same step takes out what it was made from, and that is deleted only when no query can still be reading it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from fapilog.errors import StoreError
from fapilog.failpoints import hit
from fapilog.files.segment import Segment, hold_slot, list_segments, longest_line
from fapilog.store.manifest import (
    DATABASE,
    FORMAT,
    MANIFEST,
    PARQUET,
    SEGMENTS,
    DamagedManifestError,
    Deletion,
    Manifest,
    NewerManifestError,
    ParquetFile,
    list_parquet,
    lock_store,
    require_store,
)
from fapilog.store.merging import small_files
from fapilog.store.parquet import one_part, parts_of, write_parquet
from fapilog.store.rebuild import is_newer, is_readable, is_sound, load_or_rebuild
from fapilog.store.rejected import set_aside
from fapilog.store.reserve import is_full
from fapilog.store.retain import GRACE_SECONDS, Bounds, Cleanup, retire, sweep
from fapilog.store.schema import MAX_LINE_BYTES, file_literal, lines_query, literal, parquet_query, table_query
from fapilog.store.spill import MEMORY_LIMIT, connect
from fapilog.store.view import write_view

GROUP_BYTES: Final = 48 * 1024 * 1024
_RECORDS: Final = "(SELECT * EXCLUDE is_record FROM lines WHERE is_record)"


@dataclass(kw_only=True)
class CompactResult:
    """What one compaction did."""

    ran: bool = True
    """False if another process was compacting this store, and nothing was done."""

    segments: int = 0
    """Segments that became Parquet."""

    records: int = 0
    skipped_lines: int = 0
    """Lines that are no JSON object, such as the half line of a killed process. ``rejected.jsonl`` has them."""

    segment_bytes: int = 0
    parquet_bytes: int = 0
    merged: int = 0
    """Small Parquet files of one day that became part of a larger one."""

    merged_records: int = 0
    """How many records those had."""

    retired: int = 0
    """Files that are beyond the bounds of the store."""

    deleted: int = 0
    """Files that no longer exist, having been retired, merged or compacted a while ago."""

    seconds: float = 0.0
    """How long all of it took."""

    merging_seconds: float = 0.0
    """How much of that went into merging."""

    problems: list[str] = field(default_factory=list)
    """What could not be done. Such segments stay as they are and are still read."""


def compact(
    path: str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    max_age_days: float | None = None,
    max_records: int | None = None,
    level_max_age_days: Mapping[str, float] | None = None,
    grace_seconds: float = GRACE_SECONDS,
    memory_limit: str = MEMORY_LIMIT,
    group_bytes: int = GROUP_BYTES,
    clock: Callable[[], float] = time.time,
) -> CompactResult:
    """Compact the store in the directory *path*: all segments that no process can append to any more.

    Args:
        path: The directory that the duckdb sink writes to.
        max_bytes: Retire the oldest files until no more than this is left; None for no bound, here and below.
        max_age_days: Retire files whose records are all older.
        max_records: Retire the oldest files until no more records than this are left.
        level_max_age_days: By level, how many days its records are kept instead.
        grace_seconds: How long a file is kept for queries that began before it was replaced.
        memory_limit: What DuckDB may use; beyond it sorts on disk.
        group_bytes: How much of segments is read at once, roughly.
        clock: Gives the time, in seconds since the epoch.

    Raises:
        StoreNotFoundError: There is no store.
        StoreError: The manifest or ``logs.duckdb`` cannot be written, or a later version of fapilog wrote the manifest.
            No record is lost.
    """
    bounds = Bounds(
        max_bytes=max_bytes,
        max_age_days=max_age_days,
        max_records=max_records,
        level_max_age_days=dict(level_max_age_days or {}),
    )
    with _begin(path, memory_limit, clock, group_bytes) as compaction:
        return compaction.run(bounds, grace_seconds) if compaction is not None else CompactResult(ran=False)


def clean(
    path: str | os.PathLike[str], bounds: Bounds, *, grace_seconds: float, clock: Callable[[], float] = time.time
) -> Cleanup:
    """Bring the store within *bounds* and leave its segments as they are; `fapilog.store.retain.cleanup` says more.

    Raises:
        StoreNotFoundError: There is no store.
        StoreError: As `compact`.
    """
    with _begin(path, MEMORY_LIMIT, clock, GROUP_BYTES) as compaction:
        if compaction is None:
            return Cleanup(ran=False, dry_run=False)
        expired = compaction.retire(bounds)
        compaction.finish(grace_seconds)
        return Cleanup(
            dry_run=False,
            expired=tuple(expired),
            deleted=compaction.result.deleted,
            problems=tuple(compaction.result.problems),
        )


@contextlib.contextmanager
def _begin(
    path: str | os.PathLike[str], memory_limit: str, clock: Callable[[], float], group_bytes: int
) -> Iterator["_Compaction | None"]:
    store = Path(path).expanduser().absolute()
    require_store(store)
    lock = lock_store(store)
    if lock is None:
        yield None
        return
    try:
        with lock, connect(store, memory_limit) as connection:
            _refuse_newer(store)
            yield _Compaction(store, connection, clock, group_bytes)
    except (OSError, duckdb.Error) as error:
        raise StoreError(f"cannot compact {str(store)!r}: {error}") from error


class _Compaction:
    """One compaction of a store whose lock is held."""

    def __init__(
        self, store: Path, connection: duckdb.DuckDBPyConnection, clock: Callable[[], float], group_bytes: int
    ) -> None:
        self.store = store
        self.connection = connection
        self.clock = clock
        self.group_bytes = group_bytes
        self.result = CompactResult()
        self.manifest, problem = load_or_rebuild(store, connection, now=clock())
        if problem is not None:
            self.result.problems.append(problem)
        if problem is not None or not (store / MANIFEST).exists():
            self.manifest.save(store)
        self._delete_unfinished()

    def run(self, bounds: Bounds, grace_seconds: float) -> CompactResult:
        began = time.monotonic()
        with contextlib.ExitStack() as held:  # an idle slot stays so until the manifest has its last segment
            for group in self._groups(self._closed(held)):
                self._compact(group)
        merging = time.monotonic()
        self._merge()
        self.result.merging_seconds = time.monotonic() - merging
        self.retire(bounds)
        self.finish(grace_seconds)
        self.result.seconds = time.monotonic() - began
        return self.result

    def retire(self, bounds: Bounds) -> list[Deletion]:
        self.manifest, deletions = retire(
            self.store, self.manifest, bounds, now=self.clock(), rewrite=self._without_levels
        )
        self.result.retired = len(deletions)
        return deletions

    def finish(self, grace_seconds: float) -> None:
        """Renew the view, and delete what nobody can be reading."""
        self._write_view()
        self.manifest, self.result.deleted = sweep(
            self.store, self.manifest, grace_seconds=grace_seconds, now=self.clock()
        )

    def _write_view(self) -> None:
        files = []
        for file in self.manifest.newest_first():
            path = self.store / PARQUET / file.name
            if self._is_good(file):
                files.append(path)
            else:
                self.result.problems.append(f"{str(path)!r} is damaged and is left out, with {file.rows} records")
        try:
            write_view(self.store, self.manifest, files)
        except OSError as error:
            if not is_full(error):
                raise
            self.result.problems.append(f"there is no {DATABASE} until the next compaction: {error}")
            return
        hit("store.view.written")
        self.manifest = replace(self.manifest, view_generation=self.manifest.generation)
        self.manifest.save(self.store)

    def _is_good(self, file: ParquetFile) -> bool:
        path = self.store / PARQUET / file.name
        return (
            file.format <= FORMAT
            and is_sound(path, file.size_bytes, file.footer_crc32)
            and is_readable(path, self.connection)
        )

    def _delete_unfinished(self) -> None:
        """Delete what a compaction left that was killed before the manifest had it."""
        named = self.manifest.file_names()
        for name in list_parquet(self.store):
            path = self.store / PARQUET / name
            if name in named or is_newer(path, self.connection):
                continue
            if is_sound(path, None):  # else it is damaged, and somebody may want to see it
                path.unlink(missing_ok=True)
        for name in list_parquet(self.store, suffix=".tmp"):
            (self.store / PARQUET / name).unlink(missing_ok=True)

    def _closed(self, held: contextlib.ExitStack) -> Iterator[Segment]:
        live = sorted(self.manifest.live_segments(self.store), key=lambda segment: (segment.modified, segment))
        last = {segment.slot: segment.number for segment in sorted(live)}
        for segment in live:
            if segment.number == last[segment.slot]:
                if (lock := hold_slot(self.store / SEGMENTS, segment.slot)) is None:
                    continue
                held.enter_context(lock)
            size = (self.store / SEGMENTS / segment.name).stat().st_size  # it may have grown since it was listed
            if size or segment.number < last[segment.slot]:
                yield segment._replace(size_bytes=size)

    def _groups(self, segments: Iterator[Segment]) -> Iterator[list[Segment]]:
        group: list[Segment] = []
        size = 0
        for segment in segments:
            if group and size + segment.size_bytes > self.group_bytes:
                yield group
                group, size = [], 0
            group.append(segment)
            size += segment.size_bytes
        if group:
            yield group

    def _compact(self, group: list[Segment]) -> None:
        try:
            self._write(group)
        except (OSError, duckdb.Error) as error:
            if len(group) > 1:  # perhaps only one of them is at fault
                for segment in group:
                    self._compact([segment])
            else:
                self.result.problems.append(f"{group[0].name} stays a segment: {_first_line(error)}")

    def _write(self, group: list[Segment]) -> None:
        paths = [self.store / SEGMENTS / segment.name for segment in group if segment.size_bytes]
        rows = skipped = 0
        manifest = self.manifest.without(group, [], now=self.clock())
        if paths:
            limits = [longest_line(path, path.stat().st_size, at_least=MAX_LINE_BYTES) for path in paths]
            lines = lines_query(f"[{', '.join(map(file_literal, paths))}]", max_line_bytes=max(limits))
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE lines AS {table_query(lines)}")
            try:
                if skipped := self._count("lines WHERE NOT is_record"):
                    set_aside(self.store, group, self.store / SEGMENTS, now=self.clock())
                sources = {segment.name: segment.size_bytes for segment in group}
                files = self._write_parquet(_RECORDS, {"generation": manifest.generation, "segments": sources})
            finally:
                self.connection.execute("DROP TABLE lines")
            rows = sum(file.rows for file in files)
            manifest = replace(
                manifest, parquet=(*manifest.parquet, *files), skipped_lines=manifest.skipped_lines + skipped
            )
            self.result.parquet_bytes += sum(file.size_bytes for file in files)
        self._commit(manifest, "store.compact")
        self.result.segments += len(group)
        self.result.segment_bytes += sum(segment.size_bytes for segment in group)
        self.result.records += rows
        self.result.skipped_lines += skipped

    def _write_parquet(self, records: str, note: Mapping[str, Any]) -> list[ParquetFile]:
        now = self.clock()
        parts = parts_of(self.connection, records, now=now)
        return write_parquet(self.store, self.connection, records, parts, note, now=now)

    def _commit(self, manifest: Manifest, point: str) -> None:
        hit(f"{point}.written")
        manifest.save(self.store)
        self.manifest = manifest
        hit(f"{point}.committed")

    def _count(self, what: str) -> int:
        row = self.connection.execute(f"SELECT count(*) FROM {what}").fetchone()  # noqa: S608 - a constant
        assert row is not None  # noqa: S101 - a count is a row
        return int(row[0])

    def _merge(self) -> None:
        """Make one file of the small ones of a day."""
        today = f"{datetime.fromtimestamp(self.clock(), UTC):%Y-%m-%d}"
        for batch in small_files(self.manifest.parquet, today):
            good = [file for file in batch if self._is_good(file)]
            if len(good) < 2:
                continue
            try:
                files = self._rewrite(good, "true")
            except (OSError, duckdb.Error) as error:
                self.result.problems.append(f"{len(good)} files of {good[0].day} stay apart: {_first_line(error)}")
                continue
            manifest = self.manifest.without([], good, now=self.clock())
            self._commit(replace(manifest, parquet=(*manifest.parquet, *files)), "store.merge")
            self.result.merged += len(good)
            self.result.merged_records += sum(file.rows for file in good)

    def _without_levels(self, file: ParquetFile, levels: tuple[str, ...]) -> ParquetFile | None:
        """Write *file* again without the records of some *levels*; None if that cannot be done."""
        if not self._is_good(file):
            return None
        names = ", ".join(map(literal, levels))
        try:
            (fresh,) = self._rewrite([file], f"coalesce(level, '') NOT IN ({names})")
        except (OSError, ValueError, duckdb.Error) as error:
            self.result.problems.append(f"{file.name} keeps its records of {', '.join(levels)}: {_first_line(error)}")
            return None
        return fresh

    def _rewrite(self, files: Sequence[ParquetFile], where: str) -> list[ParquetFile]:
        """Write the records of *files*, which are of one day, that are *where* to another. The manifest has it not yet.

        It notes those of their segments that are still there: a manifest that is made again leaves these out.
        """
        taken = {segment.name: segment.size_bytes for segment in list_segments(self.store / SEGMENTS)}
        retired = {Path(entry.name).name for entry in self.manifest.retired}
        note = {
            "generation": self.manifest.generation + 1,
            "segments": {name: size for name, size in taken.items() if name in retired},
            "replaces": [file.name for file in files],
        }
        source = parquet_query(self.store / PARQUET / file.name for file in files)
        records = f"({source} WHERE {where})"
        now = self.clock()
        day = files[0].day or f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
        part = one_part(self.connection, records, day)
        return write_parquet(self.store, self.connection, records, [part], note, now=now)


def _refuse_newer(store: Path) -> None:
    """Raise `NewerManifestError` rather than overwrite what this version does not understand."""
    try:
        Manifest.load(store)
    except NewerManifestError:
        raise
    except DamagedManifestError:
        return  # it is made again


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
