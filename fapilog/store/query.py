"""Ask the store with SQL, at any time, while any number of processes write to it and compact it."""

import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import duckdb

from fapilog.errors import QueryError
from fapilog.files.segment import is_torn, longest_line
from fapilog.store.manifest import FORMAT, PARQUET, SEGMENTS, ParquetFile, require_store, strangers
from fapilog.store.rebuild import is_readable, is_sound, is_whole, load_or_rebuild
from fapilog.store.schema import MAX_LINE_BYTES, file_literal, lines_query, live_query, logs_query, parquet_query

Parameters = Sequence[Any] | Mapping[str, Any]

_CHUNK_ROWS: Final = 1_000
_WITH_ZONE: Final = "TIMESTAMP WITH TIME ZONE"


class Rows:
    """The answer to a query, read piece by piece as it is iterated over, once."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Read the first rows of what *cursor* has executed."""
        self.columns: tuple[str, ...] = tuple(column[0] for column in cursor.description or ())
        self.types: tuple[str, ...] = tuple(str(column[1]) for column in cursor.description or ())
        """DuckDB's name of each column's type, such as ``VARCHAR``."""
        self._cursor = cursor
        self._chunk = cursor.fetchmany(_CHUNK_ROWS)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while self._chunk:
            yield from self._chunk
            try:
                self._chunk = self._cursor.fetchmany(_CHUNK_ROWS)
            except duckdb.Error as error:
                raise _query_error(error) from error


class LogStore:
    """The records of one store, as the view `logs`.

    Every query looks at the directory anew, so it sees what was written up to that moment, by whichever process.
    Reading takes no lock and changes nothing on disk.

        with LogStore("logs") as store:
            print(store.sql("select level, count(*) from logs group by level"))
    """

    warnings: list[str]
    """What the last query had to leave out, such as a damaged file; empty if nothing."""

    def __init__(self, path: str | os.PathLike[str] = "logs") -> None:
        """Open the store in the directory *path*.

        Raises:
            StoreNotFoundError: There is none.
        """
        self.path = Path(path).expanduser().absolute()
        require_store(self.path)
        self.warnings = []
        self._sound: set[tuple[str, int]] = set()
        self._broken: set[str] = set()
        spill = Path(tempfile.gettempdir()) / f"fapilog-{uuid.uuid4().hex}"  # DuckDB makes it if it ever needs it
        self._database = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",  # a name in a query is never one of our variables
                "temp_directory": str(spill),
            },
        )
        self._database.execute("SET GLOBAL parquet_metadata_cache = true")  # what a file holds never changes

    def sql(self, query: str, params: Parameters | None = None) -> duckdb.DuckDBPyRelation:
        """Run one SELECT over the view `logs`; *params* fill ``$1``, ``?`` or ``$name`` in it.

        The relation reads the files when it is first fetched from, which should be within a minute.

        Raises:
            QueryError: The statement is not a single SELECT, does not parse, or names what is not there. What goes
                wrong only while rows are fetched from the relation is a `duckdb.Error`.
        """
        _require_select(query)
        cursor = self._view()
        try:
            return cursor.sql(query, params=params)
        except duckdb.Error as error:
            raise _query_error(error) from error

    def rows(self, query: str, params: Parameters | None = None) -> Rows:
        """Run one SELECT as `sql` does, and read the answer in pieces, so that it may be larger than memory.

        Times with a zone come as naive datetimes in UTC, like the column `timestamp`.

        Raises:
            QueryError: As `sql`, and also while the rows are read.
        """
        _require_select(query)
        while True:
            cursor = self._view()
            try:
                return _execute(cursor, query, params)
            except duckdb.Error as error:
                if not self._blames_a_file(error):
                    raise _query_error(error) from error

    def close(self) -> None:
        """Let go of DuckDB. Relations that were got from here can no longer be read."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _view(self) -> duckdb.DuckDBPyConnection:
        """Make a connection in which `logs` is the store as it is now.

        Each query has its own, so none disturbs another.
        """
        cursor = self._database.cursor()
        cursor.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")  # it would write to our stdout
        try:
            cursor.execute(f"CREATE TEMP VIEW logs AS {self._logs(cursor)}")
        except duckdb.Error:  # a file that looked sound is not, or one vanished while we listed them
            self._find_broken(cursor)
            try:
                cursor.execute(f"CREATE TEMP VIEW logs AS {self._logs(cursor)}")
            except duckdb.Error as error:
                raise _query_error(error) from error
        return cursor

    def _logs(self, cursor: duckdb.DuckDBPyConnection) -> str:
        """Compose the view.

        The manifest comes before the list of segments: a segment that becomes Parquet in between is still there.
        """
        self.warnings = []
        manifest, problem = load_or_rebuild(self.path, cursor, now=time.time())
        if problem is not None:
            self.warnings.append(problem)
        parquet = []
        for file in manifest.newest_first():
            path = self.path / PARQUET / file.name
            if file.format > FORMAT:
                self.warnings.append(f"{str(path)!r} was written by a later version of fapilog and was left out")
            elif file.name in self._broken or not self._is_sound(file):
                self.warnings.append(f"{str(path)!r} is damaged and was left out, with {file.rows} records")
            else:
                parquet.append(path)
        live, limit = [], MAX_LINE_BYTES
        for segment in manifest.live_segments(self.path):
            path = self.path / SEGMENTS / segment.name
            if not os.access(path, os.R_OK):
                self.warnings.append(f"{str(path)!r} cannot be read and was left out")
            elif segment.size_bytes:
                if is_torn(path, segment):
                    self.warnings.append(f"{str(path)!r} ends within a line, which was left out")
                live.append(file_literal(path))
                limit = max(limit, longest_line(path, segment.size_bytes, at_least=MAX_LINE_BYTES))
        self.warnings += [
            f"{str(path)!r} is no file of this version of the store and was left out" for path in strangers(self.path)
        ]
        sources = [parquet_query(parquet)] if parquet else []
        if live:
            sources.append(live_query(lines_query(f"[{', '.join(live)}]", max_line_bytes=limit)))
        return logs_query(sources)

    def _is_sound(self, file: ParquetFile) -> bool:
        if (file.name, file.size_bytes) not in self._sound:
            if not is_sound(self.path / PARQUET / file.name, file.size_bytes, file.footer_crc32):
                return False
            self._sound.add((file.name, file.size_bytes))
        return True

    def _blames_a_file(self, error: duckdb.Error) -> bool:
        """Whether *error* comes of a Parquet file that looked sound and is not; it is left out from now on."""
        names = {name for name, _ in self._sound} - self._broken
        if isinstance(error, duckdb.InvalidInputException):
            found = {name for name in names if name in str(error)}
        elif type(error) is duckdb.Error:  # what DuckDB's reader of Parquet says of some damage, without a name
            cursor = self._database.cursor()
            found = {name for name in names if not is_whole(self.path / PARQUET / name, cursor)}
        else:
            return False
        self._broken |= found
        return bool(found)

    def _find_broken(self, cursor: duckdb.DuckDBPyConnection) -> None:
        names = {name for name, _ in self._sound}
        self._broken |= {name for name in names if not is_readable(self.path / PARQUET / name, cursor)}


def _require_select(query: str) -> None:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise _query_error(error) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        found = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise QueryError(f"a query is one SELECT statement, not {found}; the store is only read here")


def _execute(cursor: duckdb.DuckDBPyConnection, query: str, params: Parameters | None) -> Rows:
    cursor.execute(query, params)
    described = [(column[0], str(column[1])) for column in cursor.description or ()]
    if all(kind != _WITH_ZONE for _, kind in described):
        return Rows(cursor)
    # Python gets a time with a zone only with the help of pytz. Two columns may have one name, hence their numbers.
    numbers = [f"c{number}" for number in range(len(described))]
    values = [
        f"{f'CAST({number} AS TIMESTAMP)' if kind == _WITH_ZONE else number} AS {_quoted(name)}"
        for number, (name, kind) in zip(numbers, described, strict=True)
    ]
    inner = query.rstrip().rstrip(";")
    cursor.execute(f"SELECT {', '.join(values)} FROM (\n{inner}\n) AS q({', '.join(numbers)})", params)  # noqa: S608 - it is the user's query
    return Rows(cursor)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _query_error(error: duckdb.Error) -> QueryError:
    return QueryError(re.sub(r"\n{3,}", "\n\n", str(error)).strip())
