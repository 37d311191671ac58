"""Check a store from the manifest to the last value: is everything there, whole, and there once?

Nothing is changed and no lock is taken, so services may write and a compaction may run meanwhile. What was replaced
while it was looked at is looked at anew.
"""

import os
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb

from fapilog.errors import StoreError
from fapilog.files.segment import Segment, is_torn, longest_line
from fapilog.store.manifest import (
    DATABASE,
    FORMAT,
    MANIFEST,
    PARQUET,
    SEGMENTS,
    ParquetFile,
    list_parquet,
    require_store,
    strangers,
)
from fapilog.store.query import LogStore
from fapilog.store.rebuild import checksum, footer_checksum, is_sound, load_or_rebuild
from fapilog.store.schema import MAX_LINE_BYTES, file_literal, lines_query, parquet_query

_TRIES: Final = 5
_SHOWN_IDS: Final = 3

Progress = Callable[[int, int], None]
"""Called after each file with how many bytes were looked at and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about one file of the store."""

    path: str
    """Relative to the store; ``.`` for the store as a whole."""

    problem: str
    """What is wrong, or odd."""


@dataclass(kw_only=True)
class Verification:
    """What was found."""

    problems: list[Finding] = field(default_factory=list)
    """What is wrong: records cannot be read, are there twice, or are not where the manifest says."""

    notes: list[Finding] = field(default_factory=list)
    """What is as it may be after a killed process, and mends itself or costs no whole record."""

    records: int = 0
    """Records that can be read."""

    parquet_files: int = 0
    segments: int = 0
    size_bytes: int = 0
    """What the files that hold these take up."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class _ChangedError(Exception):
    """The manifest is another one now."""


def verify(path: str | os.PathLike[str], *, progress: Progress = lambda _done, _total: None) -> Verification:
    """Read everything in the store in the directory *path*, and say what is wrong with it.

    Checks the manifest and its checksum; of each Parquet file its size, its bytes, its columns, every value, and that
    its records are as many and as old as the manifest says; of each segment, that its lines are records; that no two
    records have one id; that ``logs.duckdb`` shows as many records as there are; and what is there that belongs to
    nothing.

    Raises:
        StoreNotFoundError: There is none.
    """
    store = Path(path).expanduser().absolute()
    require_store(store)
    spill = Path(tempfile.gettempdir()) / f"fapilog-{uuid.uuid4().hex}"  # DuckDB makes it if it ever needs it
    config: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": str(spill),
    }
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for left in reversed(range(_TRIES)):
            check = _Check(store, connection, progress, last=left == 0)
            try:
                check.run()
            except _ChangedError:
                continue
            break
    return check.result


class _Check:
    """One look at a whole store."""

    def __init__(self, store: Path, connection: duckdb.DuckDBPyConnection, progress: Progress, *, last: bool) -> None:
        self.store = store
        self.connection = connection
        self.progress = progress
        self.last = last
        self.result = Verification()
        self.manifest, problem = load_or_rebuild(store, connection, now=time.time())
        if problem is not None:
            self._wrong(MANIFEST, problem)
        self._rebuilt = problem is not None

    def run(self) -> None:
        live = self.manifest.live_segments(self.store)
        total = sum(file.size_bytes for file in self.manifest.parquet) + sum(segment.size_bytes for segment in live)
        done = 0
        for file in self.manifest.parquet:
            self._parquet(file)
            done += file.size_bytes
            self.progress(done, total)
        for segment in live:
            self._segment(segment)
            done += segment.size_bytes
            self.progress(done, total)
        self._strays()
        if not self.result.problems:
            try:
                self._twice()
                self._view()
            except StoreError as error:
                self._wrong(".", f"cannot be asked: {_first_line(error)}")
        self._require_same_manifest()

    def _require_same_manifest(self) -> None:
        """Begin again if what was checked is not the store any more; what is wrong with it may be that."""
        if self.last or self._rebuilt or self.result.ok:
            return
        now, _ = load_or_rebuild(self.store, self.connection, now=time.time())
        if now.generation != self.manifest.generation:
            raise _ChangedError

    def _parquet(self, file: ParquetFile) -> None:
        path, name = self.store / PARQUET / file.name, f"{PARQUET}/{file.name}"
        self.result.parquet_files += 1
        if file.format > FORMAT:
            self._wrong(name, f"was written by a later version of fapilog, with {file.rows:,} records; update this one")
            return
        if not path.exists():
            self._wrong(name, f"is missing, with {file.rows:,} records")
            return
        size = path.stat().st_size
        self.result.size_bytes += size
        if size != file.size_bytes:
            self._wrong(name, f"has {size:,} bytes, not {file.size_bytes:,} as the manifest says")
            return
        if not is_sound(path, file.size_bytes):
            self._wrong(name, f"is no Parquet file, or only a part of one; it had {file.rows:,} records")
            return
        if file.footer_crc32 is not None and footer_checksum(path) != file.footer_crc32:
            self._wrong(name, f"its footer is not the one that was written; it had {file.rows:,} records")
            return
        if file.crc32 is not None and checksum(path) != file.crc32:
            self._wrong(name, f"its bytes are not those that were written; it had {file.rows:,} records")
            return
        try:
            rows, oldest, newest, *_ = self._one(
                "SELECT count(*), epoch(min(timestamp)), epoch(max(timestamp)), max(COLUMNS(*)) "  # noqa: S608 - quoted
                f"FROM ({parquet_query([path])})"
            )
        except duckdb.Error as error:
            self._wrong(name, f"cannot be read, with {file.rows:,} records: {_first_line(error)}")
            return
        self.result.records += rows
        if rows != file.rows:
            self._wrong(name, f"has {rows:,} records, not {file.rows:,} as the manifest says")
        if file.levels is not None:
            query = f"SELECT level, count(*) FROM ({parquet_query([path])}) GROUP BY level"  # noqa: S608 - quoted
            levels = {level or "": records for level, records in self.connection.execute(query).fetchall()}
            if levels != {level: records for level, records in file.levels.items() if records}:
                self._wrong(name, f"has by level {levels}, not {dict(file.levels)} as the manifest says")
        for which, found, said in (("oldest", oldest, file.oldest), ("newest", newest, file.newest)):
            if found != said and (found is None or said is None or abs(found - said) > 1e-3):
                self._wrong(name, f"its {which} record is of {found}, not of {said} as the manifest says")

    def _segment(self, segment: Segment) -> None:
        path, name = self.store / SEGMENTS / segment.name, f"{SEGMENTS}/{segment.name}"
        self.result.segments += 1
        try:
            size = path.stat().st_size
            self.result.size_bytes += size
            half = size > 0 and _last_byte(path) != b"\n"  # may be in the middle of being written
            limit = longest_line(path, size, at_least=MAX_LINE_BYTES)
            lines = lines_query(file_literal(path), max_line_bytes=limit)
            good, bad = self._one(
                "SELECT count(*) FILTER (good), count(*) FILTER (NOT good) "  # noqa: S608 - quoted
                f"FROM (SELECT coalesce(json LIKE '{{%', false) AS good FROM ({lines}))"
            )
        except FileNotFoundError:
            self._wrong(name, "is missing")  # retired meanwhile, or somebody deleted it
            return
        except (OSError, duckdb.Error) as error:
            self._wrong(name, f"cannot be read: {_first_line(error)}")
            return
        self.result.records += good
        if half and bad:
            bad -= 1
            if is_torn(path, segment):
                self._odd(name, "ends within a line, as after a killed process; that line is left out")
        if bad:
            said = "1 line is no record and is" if bad == 1 else f"{bad:,} lines are no records and are"
            self._wrong(name, f"{said} left out")

    def _strays(self) -> None:
        named = self.manifest.file_names()
        for name in list_parquet(self.store):
            if name not in named:
                self._odd(f"{PARQUET}/{name}", "belongs to nothing, as after a killed compaction; the next deletes it")
        for path in strangers(self.store):
            self._odd(
                path.relative_to(self.store).as_posix(), "is no file of this version of the store; it is left out"
            )
        for name in list_parquet(self.store, suffix=".tmp"):
            self._odd(f"{PARQUET}/{name}", "is not finished, as during a compaction or after a killed one")

    def _twice(self) -> None:
        with LogStore(self.store) as opened:
            again = list(opened.rows("SELECT id FROM logs WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1"))
        if again:
            shown = ", ".join(repr(name) for (name,) in again[:_SHOWN_IDS])
            said = "1 id is that" if len(again) == 1 else f"{len(again):,} ids are each that"
            self._wrong(".", f"{said} of several records: {shown}")

    def _view(self) -> None:
        if not (self.store / DATABASE).exists():
            if self.manifest.parquet:
                self._odd(DATABASE, "is missing; the next compaction makes it")
            return
        count = "SELECT count(*) FROM logs"
        with LogStore(self.store) as opened:
            ((before,),) = opened.rows(count)
            try:
                with duckdb.connect(str(self.store / DATABASE), read_only=True) as shell:
                    (shown,) = shell.execute(count).fetchone() or (0,)
            except duckdb.Error as error:
                self._wrong(DATABASE, f"cannot be asked: {_first_line(error)}")
                return
            ((after,),) = opened.rows(count)
        if not before <= shown <= after:
            self._wrong(DATABASE, f"shows {shown:,} records, not {after:,}; the next compaction renews it")

    def _one(self, query: str) -> tuple[Any, ...]:
        row = self.connection.execute(query).fetchone()
        assert row is not None  # noqa: S101 - an aggregate gives a row
        return row

    def _wrong(self, path: str, problem: str) -> None:
        self.result.problems.append(Finding(path=path, problem=problem))

    def _odd(self, path: str, problem: str) -> None:
        self.result.notes.append(Finding(path=path, problem=problem))


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
