"""Keep the store within its bounds: retire what is beyond them, and delete what was retired a while ago.

A file is first taken out of the manifest and only deleted after a grace period, so no query that has begun loses a
file it was promised. Only files whose names the store itself gave are ever deleted, and each is told of in
``deleted.jsonl``.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from fapilog.failpoints import hit
from fapilog.files.segment import Segment, hold_slot
from fapilog.store.deletions import record_deletions
from fapilog.store.manifest import (
    DATABASE,
    PARQUET,
    SEGMENTS,
    Deletion,
    Manifest,
    ParquetFile,
    lock_store,
    require_store,
)
from fapilog.store.reserve import has_room, is_full

DEFAULT_MAX_BYTES: Final = 2 * 1024**3
DEFAULT_MAX_AGE_DAYS: Final = 30.0
GRACE_SECONDS: Final = 60.0
STALE_VIEW_SECONDS: Final = 3600.0

_DAY: Final = 86_400.0
_MAX_PENDING: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a store may hold. None sets no bound."""

    max_bytes: int | None = DEFAULT_MAX_BYTES
    max_age_days: float | None = DEFAULT_MAX_AGE_DAYS
    max_records: int | None = None

    level_max_age_days: Mapping[str, float] = field(default_factory=dict)
    """By level, how many days its records are kept instead of `max_age_days`."""

    def age(self, level: str) -> float:
        """Return how many seconds records of *level* are kept."""
        days = self.level_max_age_days.get(level, self.max_age_days)
        return float("inf") if days is None else days * _DAY

    @property
    def longest_age(self) -> float:
        """How many seconds any record is kept."""
        return max([self.age(""), *map(self.age, self.level_max_age_days)])

    def outlives(self, level: str) -> bool:
        """Whether records of *level* are kept longer than those of others."""
        return self.age(level) > self.age("")


class Retention(NamedTuple):
    """What one `retain` did."""

    retired: int
    """Files that queries no longer see, or see fewer records of."""

    deleted: int
    """Files, retired now or earlier, that no longer exist."""


@dataclass(frozen=True, kw_only=True)
class Cleanup:
    """What one `cleanup` did, or would do."""

    ran: bool = True
    """False if another process was changing the store, and nothing was done."""

    dry_run: bool
    expired: tuple[Deletion, ...] = ()
    """What queries no longer see; of a dry run, what they would no longer see."""

    deleted: int = 0
    """Files that no longer exist, having been retired or compacted a while ago."""

    problems: tuple[str, ...] = ()
    """What could not be done."""


Rewrite = Callable[[ParquetFile, tuple[str, ...]], ParquetFile | None]
"""Writes a Parquet file again without the records of some levels; None if that cannot be done."""


def cleanup(
    path: str | os.PathLike[str],
    *,
    max_bytes: int | None = DEFAULT_MAX_BYTES,
    max_age_days: float | None = DEFAULT_MAX_AGE_DAYS,
    max_records: int | None = None,
    level_max_age_days: Mapping[str, float] | None = None,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Cleanup:
    """Bring the store in the directory *path* within bounds, or say what that would delete.

    Args:
        path: The directory that the duckdb sink writes to.
        max_bytes: How large the store may be; beyond it the oldest records go. None for no bound, here and below.
        max_age_days: How many days records are kept, to within a day.
        max_records: How many records are kept, to within a file.
        level_max_age_days: By level, how many days its records are kept instead. Levels that are kept longer than
            others go last where there are too many bytes or records.
        dry_run: Only say what would be deleted. Changes nothing and takes no lock.
        grace_seconds: How long a file is kept for queries that began before it was retired.
        clock: Gives the time, in seconds since the epoch.

    Raises:
        StoreNotFoundError: There is no store.
        StoreError: The manifest cannot be read or written.
    """
    store = Path(path).expanduser().absolute()
    require_store(store)
    bounds = Bounds(
        max_bytes=max_bytes,
        max_age_days=max_age_days,
        max_records=max_records,
        level_max_age_days=dict(level_max_age_days or {}),
    )
    if dry_run:
        manifest = Manifest.load(store)
        with contextlib.ExitStack() as held:
            found = [
                each.deletion(clock(), manifest.generation + 1) for each in plan(store, manifest, bounds, clock(), held)
            ]
        return Cleanup(dry_run=True, expired=tuple(found))
    from fapilog.store.compact import clean  # noqa: PLC0415 - the process that writes logs imports this module

    return clean(store, bounds, grace_seconds=grace_seconds, clock=clock)


def retain(
    store: Path,
    bounds: Bounds | None = None,
    *,
    grace_seconds: float = GRACE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Retention:
    """Bring *store* within *bounds*, whole files at a time.

    Does nothing while another process changes the store, which then does this itself.

    Raises:
        DamagedManifestError: The next compaction mends it.
        OSError: A file cannot be read or deleted.
    """
    lock = lock_store(store)
    if lock is None:
        return Retention(0, 0)
    with lock:
        manifest, expired = retire(store, Manifest.load(store), bounds or Bounds(), now=clock())
        _, deleted = sweep(store, manifest, grace_seconds=grace_seconds, now=clock())
        return Retention(len(expired), deleted)


class _Candidate:
    """A file, and what of it has to go."""

    def __init__(self, file: Segment | ParquetFile, newest: float, records: int | None) -> None:
        self.file = file
        self.newest = newest
        self.records = records
        self.left = dict(file.levels) if isinstance(file, ParquetFile) and file.levels else None
        self.dropped: tuple[str, ...] = ()
        self.reason = ""
        self.is_whole = False

    @property
    def share(self) -> float:
        """How much of the file stays."""
        if self.is_whole:
            return 0.0
        return sum(self.left.values()) / self.records if self.left is not None and self.records else 1.0

    def drop(self, reason: str, levels: set[str] | None = None) -> None:
        """Have these *levels* go, or all of it."""
        self.reason = self.reason or reason
        if levels is None or self.left is None or levels >= self.left.keys():
            self.is_whole = True
            return
        self.dropped += tuple(sorted(levels))
        for level in levels:
            del self.left[level]

    def deletion(self, now: float, generation: int) -> Deletion:
        parquet = isinstance(self.file, ParquetFile)
        partly = not self.is_whole
        gone = 1 - self.share
        return Deletion(
            at=now,
            generation=generation,
            file=f"{PARQUET if parquet else SEGMENTS}/{self.file.name}",
            reason=self.reason,
            records=None if self.records is None else round(self.records * gone),
            size_bytes=round(self.file.size_bytes * gone),
            oldest=self.file.oldest if isinstance(self.file, ParquetFile) else None,
            newest=self.file.newest if isinstance(self.file, ParquetFile) else None,
            levels=self.dropped if partly else None,
        )


def plan(
    store: Path, manifest: Manifest, bounds: Bounds, now: float, held: contextlib.ExitStack, *, can_rewrite: bool = True
) -> list[_Candidate]:
    """Find what is beyond *bounds*, oldest first.

    *held* gets the locks of slots whose last segment has to go, so that no process continues it meanwhile.
    """
    candidates = list(_candidates(store, manifest, bounds, now))
    for each in candidates:
        age = now - each.newest
        if each.left is None:
            if age > bounds.longest_age:
                each.drop("age")
        elif (expired := {level for level in each.left if age > bounds.age(level)}) and (
            can_rewrite or expired == each.left.keys()
        ):
            each.drop("age", expired)
    _fit(candidates, bounds, "bytes", bounds.max_bytes, lambda each: each.file.size_bytes, can_rewrite)
    _fit(candidates, bounds, "records", bounds.max_records, lambda each: each.records or 0, can_rewrite)
    last = {each.file.slot: each.file.number for each in candidates if isinstance(each.file, Segment)}
    for each in candidates:
        if isinstance(each.file, Segment):
            last[each.file.slot] = max(last[each.file.slot], each.file.number)
    planned = []
    for each in candidates:
        if not each.reason:
            continue
        if isinstance(each.file, Segment) and each.file.number == last[each.file.slot]:
            if not each.file.size_bytes or (slot := hold_slot(store / SEGMENTS, each.file.slot)) is None:
                continue
            held.enter_context(slot)
        planned.append(each)
    return planned


def _candidates(store: Path, manifest: Manifest, bounds: Bounds, now: float) -> Iterator[_Candidate]:
    segments = manifest.live_segments(store)
    found = [
        _Candidate(
            segment,
            segment.modified,
            None if bounds.max_records is None else _count_lines(store / SEGMENTS / segment.name),
        )
        for segment in segments
    ]
    found += [_Candidate(file, _newest(file, now), file.rows) for file in manifest.parquet]
    yield from sorted(found, key=lambda each: each.newest)


def _newest(file: ParquetFile, now: float) -> float:
    if file.newest is not None or file.day is None:
        return now if file.newest is None else file.newest
    return datetime.fromisoformat(f"{file.day}T00:00:00Z").timestamp() + _DAY  # when what has no time was compacted


def _fit(
    candidates: list[_Candidate],
    bounds: Bounds,
    reason: str,
    bound: int | None,
    measure: Callable[[_Candidate], int],
    can_rewrite: bool,
) -> None:
    if bound is None:
        return
    excess = sum(measure(each) * each.share for each in candidates) - bound
    for only_others in (
        (True, False) if can_rewrite and any(map(bounds.outlives, bounds.level_max_age_days)) else (False,)
    ):
        for each in candidates:
            if excess <= 0:
                return
            if each.is_whole or (only_others and each.left is None):
                continue
            before = measure(each) * each.share
            if not only_others:
                each.drop(reason)
            elif others := {level for level in each.left or () if not bounds.outlives(level)}:
                each.drop(reason, others)
            excess -= before - measure(each) * each.share


def retire(
    store: Path, manifest: Manifest, bounds: Bounds, *, now: float, rewrite: Rewrite | None = None
) -> tuple[Manifest, list[Deletion]]:
    """Take what is beyond *bounds* out of the manifest. The caller holds the store's lock.

    Returns:
        The manifest that now holds, and what left it.
    """
    with contextlib.ExitStack() as held:  # until the manifest says so, or a new process might continue what we retire
        planned = plan(store, manifest, bounds, now, held, can_rewrite=rewrite is not None)
        segments, parquet, fresh, deletions = [], [], [], []
        for each in planned:
            if not each.is_whole:
                assert rewrite is not None  # noqa: S101 - else nothing goes in part
                assert isinstance(each.file, ParquetFile)  # noqa: S101 - the levels of a segment are not known
                replacement = rewrite(each.file, each.dropped)
                if replacement is None:
                    continue
                fresh.append(replacement)
            if isinstance(each.file, Segment):
                segments.append(each.file)
            else:
                parquet.append(each.file)
            deletions.append(each.deletion(now, manifest.generation + 1))
        if deletions:
            manifest = manifest.without(segments, parquet, now=now)
            manifest = replace(
                manifest,
                parquet=(*manifest.parquet, *fresh),
                deletions=(*manifest.deletions, *deletions)[-_MAX_PENDING:],
            )
            hit("store.retain.planned")
            manifest.save(store)
            hit("store.retain.committed")
    if manifest.deletions and record_deletions(store, manifest.deletions):
        manifest = replace(manifest, deletions=())
    return manifest, deletions


def sweep(store: Path, manifest: Manifest, *, grace_seconds: float, now: float) -> tuple[Manifest, int]:
    """Delete what was retired more than *grace_seconds* ago. The caller holds the store's lock.

    Returns:
        The manifest that now holds, and how many files were deleted.
    """
    due = [entry for entry in manifest.retired if abs(now - entry.at) >= grace_seconds]  # clocks are set back, too
    stale = [entry for entry in due if entry.generation > manifest.view_generation]
    database = store / DATABASE
    if stale and database.exists():
        # Its view still counts on these files. The next compaction renews it; where none comes, it has to go, as only
        # DuckDB could write another and a process that logs does not load it. On a full disk it goes at once.
        if any(abs(now - entry.at) >= STALE_VIEW_SECONDS for entry in stale) or not has_room(store):
            database.unlink(missing_ok=True)
        else:
            due = [entry for entry in due if entry not in stale]
    if not due:
        return manifest, 0
    manifest = replace(manifest, oldest_view=max([manifest.oldest_view, *(entry.generation for entry in due)]))
    try:
        manifest.save(store)  # before the files go, so that a view which counts on them fails rather than lacks records
    except OSError as error:
        if not is_full(error) or not database.exists():
            raise
        database.unlink()  # that makes room, and the next compaction makes another
        manifest.save(store)
    for entry in due:
        hit("store.sweep.unlink")
        path = store / entry.name
        path.unlink(missing_ok=True)
        if path.parent.name.startswith("date="):
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # unless there is more of that day
    manifest = replace(manifest, retired=tuple(entry for entry in manifest.retired if entry not in due))
    manifest.save(store)
    return manifest, len(due)


def _count_lines(path: Path) -> int:
    lines = 0
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while piece := file.read(1 << 20):
            lines += piece.count(b"\n")
    return lines
