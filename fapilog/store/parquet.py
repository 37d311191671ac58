"""Write Parquet files as the store has them: of one day, newest first, and durable before anything names them.

The last records of something are what is asked for most, and are found first. Row groups are small, so that an hour or
a trace is found without reading a day. A column whose values come twice or more on average has a dictionary, of which
DuckDB makes a bloom filter: that is what finds a trace by its id alone.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from fapilog.failpoints import hit
from fapilog.files.lock import PRIVATE_DIRECTORY, PRIVATE_FILE
from fapilog.files.segment import sync_directory
from fapilog.store.manifest import FORMAT, PARQUET, ParquetFile, parquet_name
from fapilog.store.rebuild import NOTE, checksum, footer_checksum
from fapilog.store.schema import literal

ROW_GROUP_ROWS: Final = 32_768
MAX_DAYS: Final = 400
_DAYS: Final = ("day", "month", "decade")
_MAX_LEVELS: Final = 32
_OPTIONS: Final = (
    f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, "
    f"DICTIONARY_SIZE_LIMIT {ROW_GROUP_ROWS // 2}"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The records of one day, in a query that may have several."""

    day: str
    where: str
    """Which records those are, as SQL."""

    rows: int
    oldest: float | None
    newest: float | None
    levels: Mapping[str, int]

    def facts(self) -> dict[str, Any]:
        """Return what a file of them says of itself."""
        return {"rows": self.rows, "oldest": self.oldest, "newest": self.newest, "levels": dict(self.levels)}


def parts_of(connection: duckdb.DuckDBPyConnection, records: str, *, now: float) -> list[Part]:
    """Divide *records*, a table or a query in brackets, by day in UTC.

    Those without a timestamp go with the last day, or with that of *now*. Where there are more than `MAX_DAYS` days,
    as an import may have, a part is a month, or ten years, and has the name of its first day.
    """
    for unit in _DAYS:
        day = _day(unit)
        rows = connection.execute(
            f"SELECT {day} AS day, level, count(*), epoch(min(timestamp)), epoch(max(timestamp)) "  # noqa: S608 - from constants
            f"FROM {records} GROUP BY ALL ORDER BY count(*) DESC"
        ).fetchall()
        days = {row[0] for row in rows}
        if len(days) <= MAX_DAYS:
            break
    dated = sorted(day for day in days if day is not None)
    undated = dated[-1] if dated else f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    found: dict[str, list[tuple[Any, ...]]] = {}
    for day_of, *rest in rows:
        found.setdefault(day_of or undated, []).append(tuple(rest))
    parts = []
    for name, of_day in sorted(found.items()):
        where = f"{day} = {literal(name)}" if len(found) > 1 else "true"
        if name == undated and len(found) > 1:
            where = f"({where} OR timestamp IS NULL)"
        parts.append(_part(name, where, of_day))
    return parts


def one_part(connection: duckdb.DuckDBPyConnection, records: str, day: str) -> Part:
    """Describe all of *records* as one part, of the *day* that the files have which they come from."""
    rows = connection.execute(
        f"SELECT level, count(*), epoch(min(timestamp)), epoch(max(timestamp)) FROM {records} "  # noqa: S608 - from constants
        f"GROUP BY ALL ORDER BY count(*) DESC"
    ).fetchall()
    return _part(day, "true", rows)


def write_parquet(
    store: Path,
    connection: duckdb.DuckDBPyConnection,
    records: str,
    parts: Sequence[Part],
    note: Mapping[str, Any],
    *,
    now: float,
) -> list[ParquetFile]:
    """Write each of the *parts* of *records* to a file of its own, with a *note* of what they were made from.

    Raises:
        OSError, duckdb.Error: One could not be written; then none is left.
    """
    names = [parquet_name(part.day, _began(part, now)) for part in parts]
    files = []
    try:
        for name, part in zip(names, parts, strict=True):
            content = {"format": FORMAT, **note, "files": names, "file": part.facts()}
            query = f"SELECT * FROM {records} WHERE {part.where} ORDER BY timestamp DESC"  # noqa: S608 - from constants
            path = store / PARQUET / name
            size = _write(path, connection, query, json.dumps(content))
            file = ParquetFile(name=name, size_bytes=size, format=FORMAT, **part.facts())
            files.append(replace(file, footer_crc32=footer_checksum(path), crc32=checksum(path)))
            hit("store.parquet.renamed")
    except (OSError, duckdb.Error):
        for name in names:
            (store / PARQUET / name).unlink(missing_ok=True)
        raise
    return files


def _part(day: str, where: str, rows: Sequence[tuple[Any, ...]]) -> Part:
    levels: dict[str, int] = {}
    for level, count, _, _ in rows:  # the most frequent come first
        key = (level or "") if len(levels) < _MAX_LEVELS else ""
        levels[key] = levels.get(key, 0) + count
    return Part(
        day=day,
        where=where,
        rows=sum(levels.values()),
        oldest=min((row[2] for row in rows if row[2] is not None), default=None),
        newest=max((row[3] for row in rows if row[3] is not None), default=None),
        levels=levels,
    )


def _write(path: Path, connection: duckdb.DuckDBPyConnection, query: str, note: str) -> int:
    for directory in (path.parent.parent, path.parent):
        if not directory.exists():
            directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
            sync_directory(directory.parent)
    beside = path.with_name(f"{path.name}.tmp")
    try:
        connection.execute(
            f"COPY ({query}) TO {literal(str(beside))} ({_OPTIONS}, KV_METADATA {{{NOTE}: {literal(note)}}})"
        )
        hit("store.parquet.written")
        beside.chmod(PRIVATE_FILE)
        size = _sync_file(beside)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return size


def _day(unit: str) -> str:
    day = f"date_trunc('{unit}', least(greatest(timestamp, TIMESTAMP '1970-01-01'), TIMESTAMP '9999-12-31'))"
    return f"CASE WHEN timestamp IS NOT NULL THEN strftime({day}, '%Y-%m-%d') END"


def _began(part: Part, now: float) -> datetime:
    try:
        return datetime.fromtimestamp(now if part.oldest is None else part.oldest, UTC)
    except (ValueError, OverflowError, OSError):  # a year that Python has no date for
        return datetime.fromtimestamp(now, UTC)


def _sync_file(path: Path) -> int:
    """Make the file durable and return its size."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
