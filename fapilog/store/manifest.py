"""Remember which Parquet files make up the store, and which segments readers leave out.

``manifest.json`` is the single commit point of the store: whoever holds the store's lock writes a new one beside it and
renames it over the old, so a reader has either all of a change or none. ``logs.duckdb`` and the files that are deleted
later follow from it. Nothing here needs DuckDB, as the process that writes logs keeps the bounds of the store too.
"""

import contextlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from fapilog.errors import StoreError, StoreNotFoundError
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE, FileLock
from fapilog.files.segment import Segment, is_segment, list_segments, sync_directory
from fapilog.store.reserve import is_full, keep_reserve, replace_from_reserve

FORMAT: Final = 2
"""Of the manifest, and of the Parquet files as what they say of themselves. 1 had all of these in one directory."""

MANIFEST: Final = "manifest.json"
DATABASE: Final = "logs.duckdb"
SEGMENTS: Final = "segments"
PARQUET: Final = "parquet"
EMPTY_SEGMENT: Final = "none.jsonl"
_LOCK: Final = "store.lock"
_PARQUET_NAME: Final = re.compile(r"(date=\d{4}-\d\d-\d\d/)?\d{8}T\d{6}-[0-9a-f]{8}\.parquet", re.ASCII)


class DamagedManifestError(StoreError):
    """The manifest is there and cannot be believed, or is missing though there are Parquet files."""


class NewerManifestError(DamagedManifestError):
    """A later version of fapilog wrote the manifest. What it says is not guessed at, and never overwritten."""


@dataclass(frozen=True, kw_only=True)
class ParquetFile:
    """One Parquet file of the store."""

    name: str
    """The file's name within ``parquet/``, with the directory of its day."""

    rows: int
    size_bytes: int

    oldest: float | None
    """Timestamp of its first record, in seconds since the epoch; None if no record has one."""

    newest: float | None
    """Timestamp of its last record."""

    levels: Mapping[str, int] | None = None
    """How many records it has of each level; None if an earlier version wrote it, which did not count."""

    footer_crc32: int | None = None
    """Of its footer, from the first byte of the metadata to the last of the file; None if nobody took it."""

    crc32: int | None = None
    """Of all its bytes; None if nobody took it."""

    format: int = 1
    """By which version of the layout it was written."""

    @property
    def day(self) -> str | None:
        """The day in UTC that its records are of, such as ``2026-11-20``; None if it was written before there were."""
        directory = self.name.rpartition("/")[0]
        return directory.removeprefix("date=") or None


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Records that left the store because of its bounds."""

    at: float
    """When queries ceased to see them, in seconds since the epoch."""

    generation: int
    """The first generation of the manifest without them."""

    file: str
    """The file they were in, relative to the store."""

    reason: str
    """Which bound it was: ``age``, ``bytes`` or ``records``."""

    records: int | None
    """How many; None for a segment, whose lines nobody counted."""

    size_bytes: int
    """Of the file, or about what the records took in it."""

    oldest: float | None
    """Timestamp of the first of them in seconds since the epoch; None if not known."""

    newest: float | None

    levels: tuple[str, ...] | None = None
    """Records of these levels, and the others stayed; None for all of the file."""


@dataclass(frozen=True, kw_only=True)
class Retired:
    """A file that readers must leave out, and that is deleted once nobody can be reading it any more."""

    name: str
    """The file's name relative to the store, such as ``segments/0-1.jsonl``."""

    at: float
    """When it was retired, in seconds since the epoch."""

    generation: int
    """The first generation of the manifest without it."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the store consists of, at one moment."""

    generation: int = 0
    """Counts the changes."""

    parquet: tuple[ParquetFile, ...] = ()
    retired: tuple[Retired, ...] = ()

    sealed: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """By slot, the highest number of a segment that was ever retired. None up to it may be written again."""

    view_generation: int = 0
    """The generation that the view in ``logs.duckdb`` was made from."""

    oldest_view: int = 0
    """Views of an older generation are of no use: files they count on were deleted."""

    skipped_lines: int = 0
    """How many lines no compaction could read, ever."""

    deletions: tuple[Deletion, ...] = ()
    """What was deleted and is not in ``deleted.jsonl`` yet."""

    @classmethod
    def load(cls, store: Path) -> Self:
        """Read the manifest of *store*; one that was never compacted has an empty one.

        Raises:
            DamagedManifestError: `fapilog.store.rebuild` can make a new one from the files.
            NewerManifestError: It is of a later version of fapilog.
        """
        try:
            body = json.loads((store / MANIFEST).read_bytes())
            _verify(body)
            return cls(
                parquet=tuple(ParquetFile(**entry) for entry in body.pop("parquet")),
                retired=tuple(Retired(**entry) for entry in body.pop("retired")),
                deletions=tuple(map(_deletion, body.pop("deletions", ()))),
                **body,
            )
        except FileNotFoundError:
            if list_parquet(store):
                raise DamagedManifestError(f"{str(store / MANIFEST)!r} is missing") from None
            return cls()
        except NewerManifestError as error:
            raise NewerManifestError(f"{str(store / MANIFEST)!r} {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedManifestError(f"{str(store / MANIFEST)!r} is damaged: {error}") from error

    def save(self, store: Path) -> None:
        """Make this the manifest of *store*, durably and in one step. Only the holder of `lock_store` may."""
        body: dict[str, Any] = {"format": FORMAT} | asdict(replace(self, sealed={})) | {"sealed": dict(self.sealed)}
        body["checksum"] = _checksum(body)
        content = json.dumps(body, indent=1).encode()
        try:
            replace_file(store / MANIFEST, content)
        except OSError as error:
            if not (is_full(error) and replace_from_reserve(store, MANIFEST, content)):
                raise
        keep_reserve(store, 2 * len(content))

    def without(self, segments: list[Segment], parquet: list[ParquetFile], *, now: float) -> Self:
        """The next generation, in which *segments* and *parquet* are no longer read."""
        generation = self.generation + 1
        names = [f"{SEGMENTS}/{segment.name}" for segment in segments]
        names += [f"{PARQUET}/{file.name}" for file in parquet]
        sealed = dict(self.sealed)
        for segment in segments:
            sealed[str(segment.slot)] = max(sealed.get(str(segment.slot), 0), segment.number)
        return replace(
            self,
            generation=generation,
            parquet=tuple(file for file in self.parquet if file not in parquet),
            retired=(*self.retired, *(Retired(name=name, at=now, generation=generation) for name in names)),
            sealed=sealed,
        )

    def newest_first(self) -> list[ParquetFile]:
        """The Parquet files in the order in which a query for the last records had best read them."""
        return sorted(self.parquet, key=lambda file: (file.newest or 0.0, file.name), reverse=True)

    def file_names(self) -> set[str]:
        """The names of all Parquet files that count, or did and are not deleted yet."""
        return {file.name for file in self.parquet} | {entry.name.removeprefix(f"{PARQUET}/") for entry in self.retired}

    def live_segments(self, store: Path) -> list[Segment]:
        """The segments of *store* that readers read as they are."""
        retired = {entry.name for entry in self.retired}
        return [found for found in list_segments(store / SEGMENTS) if f"{SEGMENTS}/{found.name}" not in retired]


def require_store(path: Path) -> None:
    """Raise `StoreNotFoundError` unless there is a store at *path*."""
    if not any((path / name).exists() for name in (SEGMENTS, PARQUET, MANIFEST)):
        raise StoreNotFoundError(
            f"there is no store at {str(path)!r}; give the path that the duckdb sink writes to, "
            "or start the service so that it makes one"
        )


def strangers(store: Path) -> list[Path]:
    """Find files among those of *store* whose names it did not give, or a later version of fapilog did."""
    found = [
        Path(entry.path)
        for entry in _scan(store / SEGMENTS)
        if not (is_segment(entry.name) or entry.name.endswith((".lock", ".tmp")) or entry.name == EMPTY_SEGMENT)
        or not entry.is_file(follow_symlinks=False)
    ]
    for entry in _scan(store / PARQUET):
        inside = list(_scan(Path(entry.path))) if entry.name.startswith("date=") and entry.is_dir() else [entry]
        for each in inside:
            name = Path(each.path).relative_to(store / PARQUET).as_posix()
            if _PARQUET_NAME.fullmatch(name.removesuffix(".tmp")) is None:
                found.append(Path(each.path))
    return sorted(found)


def _scan(directory: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        yield from entries


def lock_store(store: Path) -> FileLock | None:
    """Become the one process that may change the manifest of *store*, or return None if another is."""
    return FileLock.take(store / _LOCK)


def parquet_name(day: str, began: datetime) -> str:
    """Make up a name for a Parquet file of the *day* ``2026-11-20`` whose first record is of the moment *began*."""
    return f"date={day}/{began.year:04}{began:%m%dT%H%M%S}-{os.urandom(4).hex()}.parquet"


def list_parquet(store: Path, *, suffix: str = "") -> list[str]:
    """The names of all Parquet files that compactions left in *store*, whether the manifest has them or not.

    Those with a *suffix*, such as ``.tmp``, are none yet.
    """
    directory = store / PARQUET
    paths = [*directory.glob(f"*.parquet{suffix}"), *directory.glob(f"date=*/*.parquet{suffix}")]
    names = (path.relative_to(directory).as_posix() for path in paths)
    return sorted(name for name in names if _PARQUET_NAME.fullmatch(name.removesuffix(suffix)))


def replace_file(path: Path, content: bytes) -> None:
    """Give *path* new *content* so that at any moment, also after a power cut, it has the old or the new one."""
    beside = path.with_name(path.name + ".tmp")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, PRIVATE_FILE)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)  # the disk may be full
        raise
    sync_directory(path.parent)


def _verify(body: dict[str, Any]) -> None:
    if body.pop("checksum") != _checksum(body):
        raise ValueError("its checksum does not fit")
    written_by = body.pop("format")
    if not 1 <= written_by <= FORMAT:
        raise NewerManifestError(
            f"has format {written_by}, and this version of fapilog knows up to {FORMAT}; update it"
        )


def _deletion(entry: dict[str, Any]) -> Deletion:
    levels = entry.pop("levels")
    return Deletion(**entry, levels=None if levels is None else tuple(levels))


def _checksum(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())
