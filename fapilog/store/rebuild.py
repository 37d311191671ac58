"""Make a manifest again from the files of the store, should it be lost or damaged."""

import contextlib
import json
from pathlib import Path
from typing import Any, Final

import duckdb

from fapilog.errors import StoreNotFoundError
from fapilog.files.segment import Segment, list_segments
from fapilog.store.manifest import (
    MANIFEST,
    PARQUET,
    SEGMENTS,
    DamagedManifestError,
    Manifest,
    ParquetFile,
    list_parquet,
)
from fapilog.store.schema import file_literal, literal, parquet_query

NOTE: Final = "fapilog"
"""The key under which a Parquet file says what it was made from."""

_MAGIC: Final = b"PAR1"


def require_store(path: Path) -> None:
    """Raise `StoreNotFoundError` unless there is a store at *path*."""
    if not any((path / name).exists() for name in (SEGMENTS, PARQUET, MANIFEST)):
        raise StoreNotFoundError(
            f"there is no store at {str(path)!r}; give the path that the duckdb sink writes to, "
            "or start the service so that it makes one"
        )


def load_or_rebuild(store: Path, connection: duckdb.DuckDBPyConnection, *, now: float) -> tuple[Manifest, str | None]:
    """Read the manifest, or make one from what the Parquet files say of themselves.

    Returns:
        The manifest, and what was wrong with the one on disk, or None.
    """
    try:
        return Manifest.load(store), None
    except DamagedManifestError as error:
        return _rebuild(store, connection, now), f"{error}; what the Parquet files say of themselves was used instead"


def is_sound(path: Path, size_bytes: int | None) -> bool:
    """Whether *path* is a Parquet file from its first to its last byte, as far as that shows without reading it all."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            end = file.seek(0, 2)
            file.seek(max(end - 8, 0))
            tail = file.read(8)
    except OSError:
        return False
    if size_bytes is not None and end != size_bytes:
        return False
    return end >= 12 and head == _MAGIC == tail[4:] and int.from_bytes(tail[:4], "little") <= end - 12


def is_readable(path: Path, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether DuckDB can make sense of the footer of the Parquet file at *path*, and it has our columns."""
    try:
        connection.execute(f"DESCRIBE {parquet_query([path])}")
    except duckdb.Error:
        return False
    return True


def is_whole(path: Path, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether DuckDB can read every value of the Parquet file at *path*."""
    try:
        connection.execute(f"SELECT max(COLUMNS(*)) FROM ({parquet_query([path])})")  # noqa: S608 - quoted
    except duckdb.Error:
        return False
    return True


def _rebuild(store: Path, connection: duckdb.DuckDBPyConnection, now: float) -> Manifest:
    sizes = {segment.name: segment.size_bytes for segment in list_segments(store / SEGMENTS)}
    manifest = Manifest()
    taken: dict[str, Segment] = {}
    for name in list_parquet(store):
        note = _note(store / PARQUET / name, connection)
        if note is None or any(sizes.get(segment, size) != size for segment, size in note["segments"].items()):
            continue  # a compaction was killed before it was done with this file, and its segment has grown since
        file = ParquetFile(**note["file"], name=name, size_bytes=(store / PARQUET / name).stat().st_size)
        manifest = Manifest(generation=max(manifest.generation, note["generation"]), parquet=(*manifest.parquet, file))
        for segment, size in note["segments"].items():
            slot, number = segment.removesuffix(".jsonl").split("-")
            taken[segment] = Segment(int(slot), int(number), size, 0.0)
    return manifest.without(list(taken.values()), [], now=now)


def _note(path: Path, connection: duckdb.DuckDBPyConnection) -> dict[str, Any] | None:
    if not is_sound(path, None):
        return None
    with contextlib.suppress(duckdb.Error, ValueError, KeyError, TypeError):
        row = connection.execute(
            f"SELECT value FROM parquet_kv_metadata({file_literal(path)}) WHERE key = {literal(NOTE)}"  # noqa: S608 - quoted
        ).fetchone()
        note: dict[str, Any] = json.loads(row[0]) if row else {}
        if {"generation", "segments", "file"} <= note.keys():
            return note
    return None
