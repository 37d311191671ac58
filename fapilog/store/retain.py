"""Keep the store within its bounds: retire its oldest files, and delete what was retired a while ago.

A file is first taken out of the manifest and only deleted after a grace period, so no query that has begun loses a
file it was promised. Only files whose names the store itself gave are ever deleted.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from fapilog.files.segment import Segment, hold_slot
from fapilog.store.manifest import DATABASE, SEGMENTS, Manifest, ParquetFile, lock_store

DEFAULT_MAX_BYTES: Final = 2 * 1024**3
DEFAULT_MAX_AGE_DAYS: Final = 30.0
GRACE_SECONDS: Final = 60.0
STALE_VIEW_SECONDS: Final = 3600.0


class Retention(NamedTuple):
    """What one `retain` did."""

    retired: int
    """Files that queries no longer see."""

    deleted: int
    """Files, retired now or earlier, that no longer exist."""


def retain(
    store: Path,
    *,
    max_bytes: int | None = DEFAULT_MAX_BYTES,
    max_age_days: float | None = DEFAULT_MAX_AGE_DAYS,
    grace_seconds: float = GRACE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Retention:
    """Bring *store* within *max_bytes* and *max_age_days*; None sets no bound.

    Does nothing while another process changes the store, which then does this itself.

    Raises:
        DamagedManifestError: The next compaction mends it.
        OSError: A file cannot be read or deleted.
    """
    lock = lock_store(store)
    if lock is None:
        return Retention(0, 0)
    with lock:
        manifest, retired = retire(
            store, Manifest.load(store), max_bytes=max_bytes, max_age_days=max_age_days, now=clock()
        )
        _, deleted = sweep(store, manifest, grace_seconds=grace_seconds, now=clock())
        return Retention(retired, deleted)


def retire(
    store: Path, manifest: Manifest, *, max_bytes: int | None, max_age_days: float | None, now: float
) -> tuple[Manifest, int]:
    """Take files that are too old, then the oldest of too many, out of the manifest. The caller holds the store's lock.

    Returns:
        The manifest that now holds, and how many files left it.
    """
    files: list[tuple[float, int, Segment | ParquetFile]] = []
    files += [(segment.modified, segment.size_bytes, segment) for segment in manifest.live_segments(store)]
    files += [(now if file.newest is None else file.newest, file.size_bytes, file) for file in manifest.parquet]
    files.sort(key=lambda entry: entry[0])
    excess = sum(size for _, size, _ in files) - max_bytes if max_bytes is not None else 0
    oldest_kept = now - max_age_days * 86_400 if max_age_days is not None else float("-inf")
    last = {file.slot: file.number for _, _, file in sorted(files, key=_number) if isinstance(file, Segment)}
    segments, parquet = [], []
    with contextlib.ExitStack() as held:  # until the manifest says so, or a new process might continue what we retire
        for moment, size, file in files:
            if moment >= oldest_kept and excess <= 0:
                break
            if isinstance(file, ParquetFile):
                parquet.append(file)
            else:
                if file.number == last[file.slot]:
                    if not file.size_bytes or (slot := hold_slot(store / SEGMENTS, file.slot)) is None:
                        continue
                    held.enter_context(slot)
                segments.append(file)
            excess -= size
        if segments or parquet:
            manifest = manifest.without(segments, parquet, now=now)
            manifest.save(store)
    return manifest, len(segments) + len(parquet)


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
        # DuckDB could write another and a process that logs does not load it.
        if any(abs(now - entry.at) >= STALE_VIEW_SECONDS for entry in stale):
            database.unlink(missing_ok=True)
        else:
            due = [entry for entry in due if entry not in stale]
    if not due:
        return manifest, 0
    manifest = replace(manifest, oldest_view=max([manifest.oldest_view, *(entry.generation for entry in due)]))
    manifest.save(store)  # before the files go, so that a view which counts on them fails rather than lacks records
    for entry in due:
        (store / entry.name).unlink(missing_ok=True)
    manifest = replace(manifest, retired=tuple(entry for entry in manifest.retired if entry not in due))
    manifest.save(store)
    return manifest, len(due)


def _number(entry: tuple[float, int, Segment | ParquetFile]) -> int:
    return entry[2].number if isinstance(entry[2], Segment) else 0
