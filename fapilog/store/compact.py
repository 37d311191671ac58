"""Turn closed segments into Parquet files: smaller, typed, sorted by time, and quick to query.

At every moment, a crash included, a query sees each record once: a Parquet file is complete before the manifest names
it, the same step takes its segments out, and these are deleted only when no query can still be reading them.
"""

import contextlib
import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from fapilog.errors import StoreError
from fapilog.files.lock import PRIVATE_DIRECTORY, PRIVATE_FILE
from fapilog.files.segment import Segment, hold_slot, longest_line, sync_directory
from fapilog.store.manifest import (
    DATABASE,
    MANIFEST,
    PARQUET,
    SEGMENTS,
    Manifest,
    ParquetFile,
    list_parquet,
    lock_store,
    parquet_name,
    replace_file,
)
from fapilog.store.rebuild import NOTE, is_readable, is_sound, load_or_rebuild, require_store
from fapilog.store.retain import GRACE_SECONDS, retire, sweep
from fapilog.store.schema import (
    MAX_LINE_BYTES,
    file_literal,
    lines_query,
    literal,
    live_query,
    logs_query,
    parquet_query,
    table_query,
    utc_timestamp,
)

GROUP_BYTES: Final = 64 * 1024 * 1024
_EMPTY_SEGMENT: Final = "none.jsonl"
_SPILL: Final = "spill.tmp"


@dataclass(kw_only=True)
class CompactResult:
    """What one compaction did."""

    ran: bool = True
    """False if another process was compacting this store, and nothing was done."""

    segments: int = 0
    """Segments that became Parquet."""

    records: int = 0
    skipped_lines: int = 0
    """Lines that are no JSON object, such as the half line of a killed process. They are not kept."""

    segment_bytes: int = 0
    parquet_bytes: int = 0
    retired: int = 0
    """Files that are beyond the bounds of the store."""

    deleted: int = 0
    """Files that no longer exist, having been retired or compacted a while ago."""

    problems: list[str] = field(default_factory=list)
    """What could not be done. Such segments stay as they are and are still read."""


def compact(
    path: str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    max_age_days: float | None = None,
    grace_seconds: float = GRACE_SECONDS,
    memory_limit: str = "256MB",
    group_bytes: int = GROUP_BYTES,
    clock: Callable[[], float] = time.time,
) -> CompactResult:
    """Compact the store in the directory *path*: all segments that no process can append to any more.

    Args:
        path: The directory that the duckdb sink writes to.
        max_bytes: Retire the oldest files until no more than this is left; None for no bound.
        max_age_days: Retire files whose records are all older; None for no bound.
        grace_seconds: How long a file is kept for queries that began before it was replaced.
        memory_limit: What DuckDB may use; beyond it sorts on disk.
        group_bytes: How much of segments goes into one Parquet file, roughly.
        clock: Gives the time, in seconds since the epoch.

    Raises:
        StoreNotFoundError: There is no store.
        StoreError: The manifest or ``logs.duckdb`` cannot be written. No record is lost.
    """
    store = Path(path).expanduser().absolute()
    require_store(store)
    lock = lock_store(store)
    if lock is None:
        return CompactResult(ran=False)
    try:
        with lock, _connect(store, memory_limit) as connection:
            return _Compaction(store, connection, clock, group_bytes).run(max_bytes, max_age_days, grace_seconds)
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

    def run(self, max_bytes: int | None, max_age_days: float | None, grace_seconds: float) -> CompactResult:
        self._delete_unfinished()
        with contextlib.ExitStack() as held:  # an idle slot stays so until the manifest has its last segment
            for group in self._groups(self._closed(held)):
                self._compact(group)
        self.manifest, self.result.retired = retire(
            self.store, self.manifest, max_bytes=max_bytes, max_age_days=max_age_days, now=self.clock()
        )
        self._write_view()
        self.manifest, self.result.deleted = sweep(
            self.store, self.manifest, grace_seconds=grace_seconds, now=self.clock()
        )
        return self.result

    def _write_view(self) -> None:
        files = []
        for file in self.manifest.parquet:
            path = self.store / PARQUET / file.name
            if is_sound(path, file.size_bytes) and is_readable(path, self.connection):
                files.append(path)
            else:
                self.result.problems.append(f"{str(path)!r} is damaged and is left out, with {file.rows} records")
        write_view(self.store, self.manifest, files)
        self.manifest = replace(self.manifest, view_generation=self.manifest.generation)
        self.manifest.save(self.store)

    def _delete_unfinished(self) -> None:
        """Delete what a compaction left that was killed before the manifest had it."""
        named = {file.name for file in self.manifest.parquet}
        named |= {Path(entry.name).name for entry in self.manifest.retired}
        for name in list_parquet(self.store):
            path = self.store / PARQUET / name
            if name not in named and is_sound(path, None):  # else it is damaged, and somebody may want to see it
                path.unlink(missing_ok=True)
        for name in list_parquet(self.store, suffix=".tmp"):
            (self.store / PARQUET / name).unlink(missing_ok=True)

    def _closed(self, held: contextlib.ExitStack) -> Iterator[Segment]:
        live = self.manifest.live_segments(self.store)
        last = {segment.slot: segment.number for segment in live}
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
                self.result.problems.append(f"{group[0].name} stays a segment: {str(error).splitlines()[0]}")

    def _write(self, group: list[Segment]) -> None:
        paths = [self.store / SEGMENTS / segment.name for segment in group if segment.size_bytes]
        limits = [longest_line(path, path.stat().st_size, at_least=MAX_LINE_BYTES) for path in paths]
        files = ", ".join(map(file_literal, paths))
        lines = lines_query(f"[{files}]", max_line_bytes=max(limits, default=MAX_LINE_BYTES))
        rows, skipped, oldest, newest = self._survey(lines) if files else (0, 0, None, None)
        manifest = self.manifest.without(group, [], now=self.clock())
        if rows:
            facts: dict[str, Any] = {"rows": rows, "oldest": oldest, "newest": newest}
            sources = {segment.name: segment.size_bytes for segment in group}
            note = json.dumps({"generation": manifest.generation, "segments": sources, "file": facts})
            began = datetime.fromtimestamp(self.clock() if oldest is None else oldest, UTC)
            name = parquet_name(began)
            size = self._write_parquet(name, lines, note)
            file = ParquetFile(name=name, size_bytes=size, **facts)
            manifest = replace(manifest, parquet=(*manifest.parquet, file))
            self.result.parquet_bytes += size
        replace(manifest, skipped_lines=manifest.skipped_lines + skipped).save(self.store)
        self.manifest = replace(manifest, skipped_lines=manifest.skipped_lines + skipped)
        self.result.segments += len(group)
        self.result.segment_bytes += sum(segment.size_bytes for segment in group)
        self.result.records += rows
        self.result.skipped_lines += skipped

    def _survey(self, lines: str) -> tuple[int, int, float | None, float | None]:
        moment = utc_timestamp("json->>'timestamp'")
        row = self.connection.execute(
            "SELECT count(*) FILTER (good), count(*) FILTER (NOT good), epoch(min(t)), epoch(max(t)) FROM ("  # noqa: S608 - quoted
            "SELECT coalesce(json LIKE '{%', false) AS good, "
            f"CASE WHEN good THEN {moment} END AS t "
            f"FROM ({lines}))"
        ).fetchone()
        assert row is not None  # noqa: S101 - an aggregate gives a row
        return row

    def _write_parquet(self, name: str, lines: str, note: str) -> int:
        directory = self.store / PARQUET
        directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        beside = directory / f"{name}.tmp"
        try:
            self.connection.execute(
                f"COPY (SELECT * EXCLUDE is_record FROM ({table_query(lines)}) WHERE is_record ORDER BY timestamp) "  # noqa: S608 - quoted
                f"TO {literal(str(beside))} (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{NOTE}: {literal(note)}}})"
            )
            beside.chmod(PRIVATE_FILE)
            size = _sync_file(beside)
            beside.rename(directory / name)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_directory(directory)
        return size


def write_view(store: Path, manifest: Manifest, parquet: Sequence[Path]) -> None:
    """Put a new ``logs.duckdb`` in place of the old, so that any DuckDB shell finds the view `logs` in it.

    The view names the *parquet* files, which can all be read, and finds segments by itself. Opened before the swap,
    it goes on working for the grace period; after that it fails, rather than leave out what it no longer finds.
    """
    segments = store / SEGMENTS
    (segments / _EMPTY_SEGMENT).touch(mode=PRIVATE_FILE)  # a pattern that matches no file is an error to DuckDB
    left_out = [Path(entry.name).name for entry in manifest.retired if entry.name.startswith(f"{SEGMENTS}/")]
    names = ", ".join(map(literal, [_EMPTY_SEGMENT, *left_out]))
    pattern = literal(f"{glob.escape(str(segments))}/*.jsonl")
    lines = f"SELECT json FROM ({lines_query(pattern)}) WHERE parse_filename(filename) NOT IN ({names})"  # noqa: S608 - quoted
    sources = [parquet_query(parquet)] if parquet else []
    logs = logs_query([*sources, live_query(lines)])
    fresh = (
        f"SELECT CASE WHEN CAST(content->>'oldest_view' AS BIGINT) <= {manifest.generation} THEN true ELSE "  # noqa: S608 - quoted
        f"error('the store was compacted since this view was opened; open logs.duckdb again') END "
        f"FROM read_text({file_literal(store / MANIFEST)})"
    )
    # Not beside the old one, as DuckDB makes something of its own of a ? in the path of a database.
    with tempfile.TemporaryDirectory(prefix="fapilog-") as directory:
        path = Path(directory) / DATABASE
        with duckdb.connect(str(path), config=_CONFIG) as database:
            database.execute(f"CREATE VIEW logs AS SELECT * FROM ({logs}) WHERE ({fresh})")  # noqa: S608 - quoted
        replace_file(store / DATABASE, path.read_bytes())


_CONFIG: Final[dict[str, Any]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "threads": 1,
}


@contextlib.contextmanager
def _connect(store: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    spill = store / _SPILL
    shutil.rmtree(spill, ignore_errors=True)
    config = _CONFIG | {"memory_limit": memory_limit, "temp_directory": str(spill)}
    try:
        with duckdb.connect(":memory:", config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _sync_file(path: Path) -> int:
    """Make the file durable and return its size."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
