"""Write the records that a query finds to one file: Parquet, lines of JSON or CSV."""

import contextlib
import errno
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, get_args

import duckdb

from fapilog.errors import ConfigurationError, QueryError
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE
from fapilog.files.segment import sync_directory
from fapilog.store.conditions import Parameters, between, condition
from fapilog.store.models import LogQuery
from fapilog.store.query import LogStore, as_query
from fapilog.store.schema import COLUMN_LIST, COLUMNS, literal
from fapilog.store.searching import ordering

ExportFormat: TypeAlias = Literal["parquet", "jsonl", "csv"]

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and how much there is: records, or for Parquet per cent."""

Fetch: TypeAlias = Callable[[duckdb.DuckDBPyConnection], list[Any]]

_SUFFIXES: Final[Mapping[str, ExportFormat]] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
}
_FORMULA: Final = "=+-@\t\r"
_CHUNK_ROWS: Final = 2_000
_MEMORY_LIMIT: Final = "512MB"
_TRIES: Final = 3
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What one export did."""

    records: int
    """Records that were written."""

    size_bytes: int
    """Bytes that were written."""

    warnings: tuple[str, ...]
    """What had to be left out, such as a damaged file; empty if nothing."""


def export(
    path: str | os.PathLike[str],
    destination: str | os.PathLike[str] | BinaryIO,
    query: LogQuery | str | None = None,
    *,
    format: ExportFormat | None = None,  # noqa: A002 - it is the word
    overwrite: bool = False,
    limit: int | None = None,
    progress: Progress = lambda _done, _total: None,
    **fields: Any,
) -> ExportResult:
    """Write the records of the store in the directory *path* that *query* finds to *destination*, the oldest first.

    A file appears under its name when it is whole, readable by its owner alone; a failure leaves none, or the old one.
    Lines of JSON are the records as they were logged, so that they can be imported again. CSV and Parquet have the
    columns of the view `logs`; in CSV, text that a spreadsheet would take for a formula gets a ``'`` in front.

    Args:
        path: The directory of the store.
        destination: A file, or a stream of bytes, which gets what was written if a failure comes late.
        query: The query, or its text; None for what *fields* say alone. Its order and limit count if they were set.
        format: None for what the end of the file's name says.
        overwrite: Whether a file of that name may be replaced.
        limit: At most so many records, the first in order; None for the limit of *query*, or all.
        progress: Told how far it is, from the thread that called.
        **fields: Fields of `LogQuery`, such as ``since``, which go before those of *query*.

    Raises:
        FileExistsError: There is a file of that name, and *overwrite* is false.
        ConfigurationError: No format was given, and the file's name does not say; or *limit* is below 1.
        StoreNotFoundError: There is no store.
        QueryError: The query cannot be understood, or the store not be read.
        OSError: The file cannot be written.
    """
    target = None if not isinstance(destination, str | os.PathLike) else Path(destination).expanduser().absolute()
    form = _format_of(target, format)
    if limit is not None and limit < 1:
        raise ConfigurationError(f"limit is {limit!r}; a number above 0 would do, or None for all")
    if target is not None and target.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, "exists already", str(target))
    asked = as_query(query, fields)
    with LogStore(path) as store:
        if limit is None and "limit" in asked.model_fields_set:
            limit = asked.limit
        work = _Export(store, asked, limit, progress)
        if target is None:
            assert not isinstance(destination, str | os.PathLike)  # noqa: S101 - for the type checker
            size = work.stream(destination, form)
        else:
            with _beside(target, overwrite=overwrite) as beside:
                if form == "parquet":
                    size = work.parquet(beside)
                else:
                    with beside.open("wb") as file:
                        size = work.lines(file, form)
        return ExportResult(records=work.done, size_bytes=size, warnings=tuple(work.warnings))


class _Export:
    """One query, as it is written."""

    def __init__(self, store: LogStore, query: LogQuery, limit: int | None, progress: Progress) -> None:
        self.store = store
        self.progress = progress
        self.done = 0
        self.warnings: list[str] = []
        parameters = Parameters()
        now = datetime.now(UTC)
        self.since, self.until = query.bounds(now)
        conditions = [condition(query.node(), parameters, now=now)]
        if self.since is not None or self.until is not None:
            conditions.append(between(self.since, self.until, parameters))
        order = query.order if "order" in query.model_fields_set else "oldest"
        first = "" if limit is None else f" LIMIT {int(limit)}"
        self.values = parameters.values
        found = f"FROM logs WHERE {' AND '.join(conditions)}"
        self.counted = f"SELECT count(*) FROM (SELECT 1 {found}{first})"  # noqa: S608 - values are bound
        self.ordered = f"SELECT {COLUMN_LIST} {found} ORDER BY {ordering(order)}{first}"

    def stream(self, out: BinaryIO, form: ExportFormat) -> int:
        """Write to *out* as records come; Parquet, whose end must be known first, in one go."""
        if form != "parquet":
            return self.lines(out, form)
        with tempfile.TemporaryDirectory(prefix="fapilog-") as directory:
            path = Path(directory) / "export.parquet"
            size = self.parquet(path)
            with path.open("rb") as file:
                shutil.copyfileobj(file, out)
        return size

    def lines(self, out: BinaryIO, form: ExportFormat) -> int:
        """Write lines of JSON or CSV."""
        ((total,),) = self._run(self.counted, lambda cursor: cursor.fetchall())[1]
        make = _json_line() if form == "jsonl" else _csv_line()
        statement = f"SELECT {make} FROM ({self.ordered})"  # noqa: S608 - values are bound
        cursor, chunk = self._run(statement, lambda cursor: cursor.fetchmany(_CHUNK_ROWS))
        size = 0 if form == "jsonl" else out.write(_csv_header())
        while chunk:
            size += out.write("".join(line for (line,) in chunk).encode("utf-8", "replace"))
            self.done += len(chunk)
            self.progress(self.done, max(total, self.done))
            try:
                chunk = cursor.fetchmany(_CHUNK_ROWS)
            except duckdb.Error as error:
                raise QueryError(str(error).strip()) from error
        return size

    def parquet(self, path: Path) -> int:
        """Write Parquet to the file at *path*."""
        told = f"TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
        ((self.done,),) = self._run(f"COPY ({self.ordered}) {told}", lambda cursor: cursor.fetchall(), percent=True)[1]
        self.progress(100, 100)
        return path.stat().st_size

    def _run(
        self, statement: str, fetch: Fetch, *, percent: bool = False
    ) -> tuple[duckdb.DuckDBPyConnection, list[Any]]:
        """Run a statement over the store as it is now, again if a file turns out damaged or is gone meanwhile."""
        left, told = _TRIES, self.progress if percent else lambda _done, _total: None
        while True:
            cursor = self.store._view(self.since, self.until)
            cursor.execute(f"SET memory_limit = '{_MEMORY_LIMIT}'")  # beyond it sorts on disk
            self.warnings = list(self.store.warnings)
            try:
                work = functools.partial(_execute, cursor, statement, self.values, fetch)
                return cursor, _interruptibly(cursor, work, told)
            except duckdb.Error as error:
                left -= isinstance(error, duckdb.IOException)
                if not left or not (isinstance(error, duckdb.IOException) or self.store._blames_a_file(error)):
                    raise QueryError(str(error).strip()) from error


def _execute(cursor: duckdb.DuckDBPyConnection, statement: str, values: list[Any], fetch: Fetch) -> list[Any]:
    return fetch(cursor.execute(statement, values))


def _interruptibly(cursor: duckdb.DuckDBPyConnection, work: Callable[[], list[Any]], progress: Progress) -> list[Any]:
    """Do *work*, and stop it soon when this thread is interrupted: DuckDB alone may take many seconds to notice."""
    outcome: list[list[Any] | BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            outcome.append(error)

    cursor.execute("SET enable_progress_bar = true")
    cursor.execute("SET enable_progress_bar_print = false")
    thread = threading.Thread(target=run, name="fapilog-export", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            progress(max(int(cursor.query_progress()), 0), 100)
    except BaseException:
        cursor.interrupt()
        thread.join()
        raise
    (done,) = outcome
    if isinstance(done, BaseException):
        raise done
    return done


def _format_of(target: Path | None, form: ExportFormat | None) -> ExportFormat:
    known = get_args(ExportFormat)
    if form is None and target is not None:
        form = _SUFFIXES.get(target.suffix.lower())
    if form is None:
        raise ConfigurationError(f"a format is missing, and the file's name does not say; known: {', '.join(known)}")
    if form not in known:
        raise ConfigurationError(f"no format is called {form!r}; known: {', '.join(known)}")
    return form


@contextlib.contextmanager
def _beside(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give the path of a new file, which becomes *target* in one step if nothing fails, and else is removed."""
    beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, PRIVATE_FILE))
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        if overwrite:
            beside.replace(target)
        else:
            os.link(beside, target)  # unlike a rename, not over a file that came there meanwhile
        sync_directory(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def _json_line() -> str:
    """Write a record as it was logged, without what it does not have."""
    members = []
    for column in COLUMNS:
        name = f'"{column.name}"'
        match column.type:
            case "TIMESTAMP":
                value = f"to_json(strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ'))"
            case "JSON":
                value = name
            case _:
                value = f"to_json({name})"
        members.append(f"CASE WHEN {name} IS NOT NULL THEN {literal(f'{name}:')} || {value} END")
    members.append("NULLIF(CAST(fields AS VARCHAR)[2:-2], '')")
    return "'{' || concat_ws(',', " + ", ".join(members) + ") || '}' || chr(10)"


def _csv_line() -> str:
    """Write a record as RFC 4180 has it, safe to open in a spreadsheet."""
    cells = []
    for name, kind in [*((column.name, column.type) for column in COLUMNS), ("fields", "JSON")]:
        text = f'CAST("{name}" AS VARCHAR)'
        if kind == "TIMESTAMP":
            text = f"strftime(\"{name}\", '%Y-%m-%dT%H:%M:%S.%fZ')"
        elif kind == "VARCHAR":
            formula = f"{text}[1] IN ({', '.join(f'chr({ord(sign)})' for sign in _FORMULA)})"
            text = f"CASE WHEN {formula} THEN chr(39) || {text} ELSE {text} END"
        if kind in ("VARCHAR", "JSON"):
            text = f"'\"' || replace({text}, '\"', '\"\"') || '\"'"
        cells.append(f"coalesce({text}, '')")
    return " || ',' || ".join(cells) + " || chr(13) || chr(10)"


def _csv_header() -> bytes:
    return ",".join([*(column.name for column in COLUMNS), "fields"]).encode() + b"\r\n"
