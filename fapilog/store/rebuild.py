"""Make a manifest again from the files of the store, should it be lost or damaged."""

import contextlib
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import duckdb

from fapilog.files.segment import Segment, list_segments
from fapilog.store.manifest import (
    FORMAT,
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
_PIECE_BYTES: Final = 1024 * 1024


def load_or_rebuild(store: Path, connection: duckdb.DuckDBPyConnection, *, now: float) -> tuple[Manifest, str | None]:
    """Read the manifest, or make one from what the Parquet files say of themselves.

    Returns:
        The manifest, and what was wrong with the one on disk, or None.
    """
    try:
        return Manifest.load(store), None
    except DamagedManifestError as error:
        manifest, newer = _rebuild(store, connection, now)
        left_out = f"; of a later version and left out: {', '.join(newer)}" if newer else ""
        return manifest, f"{error}; what the Parquet files say of themselves was used instead{left_out}"


def is_sound(path: Path, size_bytes: int | None, footer_crc32: int | None = None) -> bool:
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
    if footer_crc32 is not None and footer_checksum(path) != footer_crc32:
        return False
    return end >= 12 and head == _MAGIC == tail[4:] and int.from_bytes(tail[:4], "little") <= end - 12


def footer_checksum(path: Path) -> int | None:
    """Return the CRC-32 of the footer of the Parquet file at *path*, or None if it has none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(end - 8, 0))
        length = int.from_bytes(file.read(4), "little") + 8
        if length <= end:
            file.seek(end - length)
            return zlib.crc32(file.read(length))
    return None


def checksum(path: Path) -> int:
    """Return the CRC-32 of all bytes of the file at *path*.

    Raises:
        OSError: It cannot be read.
    """
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return crc


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


def is_newer(path: Path, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a later version of fapilog wrote the Parquet file at *path*."""
    note = _note(path, connection)
    return note is not None and note.get("format", 1) > FORMAT


def _rebuild(store: Path, connection: duckdb.DuckDBPyConnection, now: float) -> tuple[Manifest, list[str]]:
    """Make a manifest from the files, and name those that a later version wrote.

    A file counts if all that was written with it is there, or what replaced that is: else a compaction was killed
    before it was done. That its segments are gone is proof that it was done.
    """
    notes, newer = _notes(store, connection)
    replaced = {name for note in notes.values() for name in note.get("replaces", ())}
    sizes = {segment.name: segment.size_bytes for segment in list_segments(store / SEGMENTS)}
    manifest = Manifest()
    taken: dict[str, Segment] = {}
    for name, note in notes.items():
        made_from: dict[str, int] = note["segments"]
        if any(sizes.get(segment, size) != size for segment, size in made_from.items()):
            continue  # the segment has grown since
        there = made_from.keys() <= sizes.keys()
        if there and not set(note.get("files", [name])) <= notes.keys() | replaced:
            continue
        if name not in replaced:
            facts = {"format": note.get("format", 1)} | note["file"]
            file = ParquetFile(**facts, name=name, size_bytes=(store / PARQUET / name).stat().st_size)
            manifest = replace(manifest, parquet=(*manifest.parquet, file))
        manifest = replace(manifest, generation=max(manifest.generation, note["generation"]))
        for segment, size in made_from.items():
            slot, number = segment.removesuffix(".jsonl").split("-")
            taken[segment] = Segment(int(slot), int(number), size, 0.0)
    retired = [file for file in map(_nameless, sorted(replaced)) if (store / PARQUET / file.name).exists()]
    return manifest.without(list(taken.values()), retired, now=now), newer


def _nameless(name: str) -> ParquetFile:
    return ParquetFile(name=name, rows=0, size_bytes=0, oldest=None, newest=None)


def _notes(store: Path, connection: duckdb.DuckDBPyConnection) -> tuple[dict[str, dict[str, Any]], list[str]]:
    notes, newer = {}, []
    for name in list_parquet(store):
        note = _note(store / PARQUET / name, connection)
        if note is not None and note.get("format", 1) > FORMAT:
            newer.append(name)
        elif note is not None:
            notes[name] = note
    return notes, newer


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
