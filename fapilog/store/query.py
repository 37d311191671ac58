"""Ask the store with SQL, at any time, while any number of processes write to it and compact it."""

import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, cast

import duckdb
from pydantic import ValidationError

from fapilog.errors import QueryError
from fapilog.files.segment import is_torn, longest_line
from fapilog.store.fingerprint import ErrorGroup, errors
from fapilog.store.follow import LOOK_SECONDS, Follower, Run
from fapilog.store.manifest import (
    FORMAT,
    PARQUET,
    SEGMENTS,
    DamagedManifestError,
    Manifest,
    ParquetFile,
    list_parquet,
    require_store,
    strangers,
)
from fapilog.store.matching import Record, Test, matcher
from fapilog.store.models import LogQuery, LogRecord, Moment
from fapilog.store.needed import needed_columns
from fapilog.store.page import Page
from fapilog.store.parser import parse
from fapilog.store.rebuild import is_newer, is_readable, is_sound, is_whole, load_or_rebuild
from fapilog.store.rejected import Inspector
from fapilog.store.sandbox import SandboxLimits, SandboxQuery, job_of
from fapilog.store.schema import (
    COLUMN_LIST,
    MAX_LINE_BYTES,
    file_literal,
    lines_query,
    live_query,
    logs_query,
    parquet_query,
    part_of,
)
from fapilog.store.searching import Stretch, hints, records_of, search, surroundings
from fapilog.store.splitting import parse_timestamp
from fapilog.store.statistics import Statistics, statistics
from fapilog.store.traces import MAX_RECORDS, Trace, nest, records_with
from fapilog.store.views import VIEWS, view_query, views_named_in

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
        self._inspector = Inspector()
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
        cursor = self._view(statement=query)
        _add_views(cursor, query)
        try:
            return cursor.sql(query, params=params)
        except duckdb.Error as error:
            raise _query_error(error) from error

    def rows(
        self,
        query: str,
        params: Parameters | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Rows:
        """Run one SELECT as `sql` does, and read the answer in pieces, so that it may be larger than memory.

        Times with a zone come as naive datetimes in UTC, like the column `timestamp`. With *since* or *until*, as
        `LogQuery` takes them, `logs` has no other records than those of that time range.

        Raises:
            QueryError: As `sql`, and also while the rows are read.
        """
        _require_select(query)
        begin, end = as_query(None, _given(since=since, until=until)).bounds(datetime.now(UTC))
        while True:
            cursor = self._view(begin, end, query, exact=begin is not None or end is not None)
            _add_views(cursor, query)
            try:
                return _execute(cursor, query, params)
            except duckdb.Error as error:
                if not self._blames_a_file(error):
                    raise _query_error(error) from error

    def search(self, query: LogQuery | str | None = None, /, **fields: Any) -> Page:
        """Find records: one page of them, the newest first unless the query says otherwise.

        Args:
            query: The query, or its text in the query language; None for what *fields* say alone.
            **fields: Fields of `LogQuery`, which go before those of *query*.

        Raises:
            QueryError: The query cannot be understood; `QuerySyntaxError` if it is its text, with the place.
        """
        asked = as_query(query, fields)
        records, next_cursor = search(asked, self._fetch, now=datetime.now(UTC), stretches=self._stretches())
        if not records and asked.cursor is None:
            self.warnings += hints(asked)
        return Page(records, next_cursor, tuple(self.warnings))

    def trace(self, trace_id: str, *, since: Moment | None = None, until: Moment | None = None) -> Trace:
        """Find the records of one trace, in order and by span; at most `fapilog.store.traces.MAX_RECORDS` of them.

        It is quicker with a time range that the trace is known to be in, given as `LogQuery` takes it.

        Raises:
            QueryError: The time range cannot be understood.
        """
        begin, end = as_query(None, {"since": since, "until": until}).bounds(datetime.now(UTC))
        records = self._records_with("trace_id", trace_id, begin, end)
        return Trace(trace_id, records, nest(records), tuple(self.warnings))

    def request(self, request_id: str) -> list[LogRecord]:
        """Find the records of one request, in order; at most `fapilog.store.traces.MAX_RECORDS` of them."""
        return self._records_with("request_id", request_id, None, None)

    def stats(
        self, since: Moment | None = None, until: Moment | None = None, query: LogQuery | str | None = None
    ) -> Statistics:
        """Count what was logged in a time range, all of it by default, or what of it *query* finds.

        Raises:
            QueryError: The query or the time range cannot be understood.
        """
        asked = as_query(query, _given(since=since, until=until))
        counted = statistics(asked, self._fetch, now=datetime.now(UTC))
        return counted.model_copy(update={"warnings": list(self.warnings)})

    def errors(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 20,
        query: LogQuery | str | None = None,
    ) -> list[ErrorGroup]:
        """Group the records at level error and above by what went wrong, the most frequent first.

        Args:
            since: The first moment that is wanted; None for no bound.
            until: The first moment that is no longer wanted; None for no bound.
            limit: How many groups are wanted.
            query: Which records; None for all.

        Raises:
            QueryError: The query or the time range cannot be understood.
        """
        asked = as_query(query, _given(since=since, until=until))
        return errors(asked, self._fetch, now=datetime.now(UTC), limit=limit)

    def context(self, record_id: str | LogRecord, before: int = 5, after: int = 5) -> list[LogRecord]:
        """Find what the process that logged a record logged just before and after it, in order, the record included.

        Args:
            record_id: The `id` of the record, or the record itself, which is found more quickly.
            before: How many records before it are wanted.
            after: How many after it.

        Raises:
            QueryError: There is no such record.
        """
        return surroundings(record_id, self._fetch, before=before, after=after, stretches=self._stretches())

    def tail(self, query: LogQuery | str | None = None, *, last: int = 10, follow: bool = True) -> Iterator[LogRecord]:
        """Give the last records, oldest first, then new ones of all processes as they come, within about 0.2 s.

        It begins when it is called. Compaction and deletion make it miss or double no record that has an id of ours.
        Closing the iterator lets go of what it holds.

        Args:
            query: Which records; None for all. Its order, limit and cursor do not matter.
            last: How many that are there already are given first.
            follow: Whether to go on with new ones, for ever; else that was all.

        Raises:
            QueryError: The query cannot be understood.
        """
        records = self._tail(as_query(query, {"cursor": None}), last, follow=follow)
        next(records)
        return cast("Iterator[LogRecord]", records)

    def follower(self, query: LogQuery | str | None = None) -> Follower:
        """Follow the store from now on, for a caller who does the waiting; see `tail`.

        Raises:
            QueryError: The query cannot be understood.
        """
        return self._follower(as_query(query, {"cursor": None}))

    def _follower(self, asked: LogQuery) -> Follower:
        now = datetime.now(UTC)
        since, until = asked.bounds(now)
        test = matcher(asked.node(), now=now)

        def fits(record: Record) -> bool:
            if since is not None or until is not None:
                moment = parse_timestamp(record.get("timestamp"))
                if moment is None or (since is not None and moment < since) or (until is not None and moment >= until):
                    return False
            return test(record)

        return Follower(self.path, fits, _Parquet(self, fits))

    def _tail(self, asked: LogQuery, last: int, *, follow: bool) -> Iterator[LogRecord | None]:
        follower = self._follower(asked)
        try:
            found = self.search(asked, limit=last, order="newest").records if last > 0 else []
            yield None  # what is written from now on is seen
            for record in reversed(found):
                follower.note(record)
                yield record
            while follow:
                records = follower.poll()
                yield from records
                if not records and not follower.behind:
                    time.sleep(LOOK_SECONDS)
        finally:
            follower.close()

    def sandbox(
        self, query: str, params: Parameters | None = None, *, limits: SandboxLimits | None = None
    ) -> SandboxQuery:
        """Run one SELECT of somebody we do not know, in a process that can read this store and nothing else.

        Args:
            query: The statement, over `logs`, `job_logs` and `pipeline_logs`.
            params: What fills ``$1``, ``?`` or ``$name`` in it: values of JSON.
            limits: How much it may take; None for the defaults.

        Returns:
            The query under way; `SandboxQuery.answer` waits for its rows.

        Raises:
            QueryError: *params* cannot be given. What is wrong with the query itself is raised by `answer`.
        """
        limits = limits or SandboxLimits()

        def job() -> tuple[dict[str, Any], list[str]]:
            paths: list[Path] = []
            cursor = self._view()  # finds what is damaged
            logs = self._logs(cursor, None, None, paths=paths)
            views = {"logs": logs, **{name: view_query(name) for name in VIEWS}}
            return job_of(query, params, limits, views=views, paths=paths), self.warnings

        return SandboxQuery(job, limits, blames=self._blames)

    def close(self) -> None:
        """Let go of DuckDB. Relations that were got from here can no longer be read."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _records_with(self, column: str, value: str, since: datetime | None, until: datetime | None) -> list[LogRecord]:
        records = records_with(column, value, self._fetch, since=since, until=until)
        if len(records) > MAX_RECORDS:
            self.warnings.append(f"only the first {MAX_RECORDS} records with that {column} are here")
        return records[:MAX_RECORDS]

    def _stretches(self) -> list[Stretch]:
        try:
            files = Manifest.load(self.path).parquet
        except DamagedManifestError:  # the query itself says so
            return []
        return [
            Stretch(file.oldest, file.newest, file.rows)
            for file in files
            if file.oldest is not None and file.newest is not None
        ]

    def _fetch(
        self,
        statement: str,
        values: Sequence[Any] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        needles: Sequence[str] = (),
    ) -> list[tuple[Any, ...]]:
        """Run a statement of ours over `logs`.

        What is older than *since* or not older than *until* may be missing, and what has not all *needles* in its line.
        """
        while True:
            cursor = self._view(since, until, statement, needles)
            try:
                return cursor.execute(statement, values).fetchall()
            except duckdb.Error as error:
                if not self._blames_a_file(error):
                    raise _query_error(error) from error

    def _view(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        statement: str | None = None,
        needles: Sequence[str] = (),
        *,
        exact: bool = False,
    ) -> duckdb.DuckDBPyConnection:
        """Make a connection in which `logs` is the store as it is now, or the part from *since* to *until*.

        That part has some more records unless it is to be *exact*. Each query has a connection of its own, so none
        disturbs another; for one *statement* it may have no other columns than that reads.
        """
        cursor = self._database.cursor()
        cursor.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")  # it would write to our stdout
        needed = None if statement is None else needed_columns(cursor, statement)
        if exact and needed is not None:
            needed |= {"timestamp"}

        def make() -> None:
            logs = self._logs(cursor, since, until, needed, needles)
            cursor.execute(f"CREATE TEMP VIEW logs AS {part_of(logs, since, until) if exact else logs}")

        try:
            make()
        except duckdb.Error:  # a file that looked sound is not, or one vanished while we listed them
            self._find_broken(cursor)
            try:
                make()
            except duckdb.Error as error:
                raise _query_error(error) from error
        return cursor

    def _logs(
        self,
        cursor: duckdb.DuckDBPyConnection,
        since: datetime | None,
        until: datetime | None,
        needed: frozenset[str] | None = None,
        needles: Sequence[str] = (),
        paths: list[Path] | None = None,
    ) -> str:
        """Compose the view, of live lines with those columns alone that are *needed*; add to *paths* what it reads.

        The manifest comes before the list of segments: a segment that becomes Parquet in between is still there.
        """
        self.warnings = []
        manifest, problem = load_or_rebuild(self.path, cursor, now=time.time())
        if problem is not None:
            self.warnings.append(problem)
        parquet = []
        for file in manifest.newest_first():
            if _is_outside(file, since, until):
                continue
            path = self.path / PARQUET / file.name
            if file.format > FORMAT:
                self.warnings.append(f"{str(path)!r} was written by a later version of fapilog and was left out")
            elif file.name in self._broken or not self._is_sound(file):
                self.warnings.append(f"{str(path)!r} is damaged and was left out, with {file.rows} records")
            else:
                parquet.append(path)
        segments: list[Path] = []
        live, limit = [], MAX_LINE_BYTES
        for segment in manifest.live_segments(self.path):
            path = self.path / SEGMENTS / segment.name
            if not os.access(path, os.R_OK):
                self.warnings.append(f"{str(path)!r} cannot be read and was left out")
            elif segment.size_bytes:
                if is_torn(path, segment):
                    self.warnings.append(f"{str(path)!r} ends within a line, which was left out")
                if lines := self._inspector.lines(path):
                    are = "line that is no record, which was" if lines == 1 else "lines that are no records, which were"
                    self.warnings.append(f"{str(path)!r} has {lines} {are} left out")
                live.append(file_literal(path))
                segments.append(path)
                limit = max(limit, longest_line(path, segment.size_bytes, at_least=MAX_LINE_BYTES))
        if paths is not None:
            paths += [*parquet, *segments]
        self.warnings += [
            f"{str(path)!r} is no file of this version of the store and was left out"
            for path in [*strangers(self.path), *self._newer(manifest, cursor)]
        ]
        sources = [parquet_query(parquet)] if parquet else []
        if live:
            sources.append(live_query(lines_query(f"[{', '.join(live)}]", max_line_bytes=limit), needed, needles))
        return logs_query(sources)

    def _newer(self, manifest: Manifest, cursor: duckdb.DuckDBPyConnection) -> list[Path]:
        """Find the Parquet files that a later version wrote and *manifest* does not know."""
        named = manifest.file_names()
        paths = (self.path / PARQUET / name for name in list_parquet(self.path) if name not in named)
        return [path for path in paths if is_newer(path, cursor)]

    def _is_sound(self, file: ParquetFile) -> bool:
        if (file.name, file.size_bytes) not in self._sound:
            if not is_sound(self.path / PARQUET / file.name, file.size_bytes, file.footer_crc32):
                return False
            self._sound.add((file.name, file.size_bytes))
        return True

    def _blames_a_file(self, error: duckdb.Error) -> bool:
        """Whether *error* comes of a Parquet file that looked sound and is not; it is left out from now on."""
        return self._blames(type(error).__name__, str(error))

    def _blames(self, kind: str, text: str) -> bool:
        """The same for an error of DuckDB's class *kind*, which says *text*."""
        names = {name for name, _ in self._sound} - self._broken
        found = {name for name in names if name in text} if kind == "InvalidInputException" else set()
        if not found and (kind == "Error" or "in Parquet file" in text):  # of some damage it gives no name
            cursor = self._database.cursor()
            found = {name for name in names if not is_whole(self.path / PARQUET / name, cursor)}
        self._broken |= found
        return bool(found)

    def _find_broken(self, cursor: duckdb.DuckDBPyConnection) -> None:
        names = {name for name, _ in self._sound}
        self._broken |= {name for name in names if not is_readable(self.path / PARQUET / name, cursor)}


class _Parquet:
    """Read Parquet files for a follower."""

    def __init__(self, store: LogStore, fits: Test) -> None:
        self._store = store
        self._fits = fits

    def runs(self, file: ParquetFile, began: float) -> list[Run]:
        rows = self._rows(
            "split_part(id, '-', 1) AS instance, min(CAST(split_part(id, '-', 2) AS BIGINT)), "
            "max(CAST(split_part(id, '-', 2) AS BIGINT))",
            file,
            began,
            "AND regexp_full_match(id, '[0-9a-f]{16}-[0-9]{1,18}') GROUP BY instance",
        )
        return [Run(*row) for row in rows]

    def records(self, file: ParquetFile, began: float) -> list[LogRecord]:
        return [
            record
            for record in records_of(self._rows(COLUMN_LIST, file, began, "ORDER BY timestamp"))
            if self._fits(record.flat())
        ]

    def _rows(self, columns: str, file: ParquetFile, began: float, rest: str) -> list[tuple[Any, ...]]:
        path = self._store.path / PARQUET / file.name
        cursor = self._store._database.cursor()
        try:
            return cursor.execute(
                f"SELECT {columns} FROM ({parquet_query([path])}) WHERE timestamp >= make_timestamp($1) {rest}",  # noqa: S608 - ours
                [int(began * 1e6)],
            ).fetchall()
        except duckdb.Error:  # damaged, or merged into another since
            return []


def as_query(query: LogQuery | str | None, fields: dict[str, Any]) -> LogQuery:
    """Make one query of what `LogStore.search` was called with.

    Raises:
        QueryError: It cannot be understood.
    """
    given = query.model_dump(exclude_unset=True) if isinstance(query, LogQuery) else {}
    if isinstance(query, str):
        given = {"query": query}
    if isinstance(text := {**given, **fields}.get("query"), str):
        parse(text)  # so that the place of what is wrong in it is told
    try:
        return LogQuery(**{**given, **fields})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False))
        raise QueryError("; ".join(problems).replace("Value error, ", "")) from error


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _is_outside(file: ParquetFile, since: datetime | None, until: datetime | None) -> bool:
    """Whether no record of *file* is between *since* and *until*, give or take a second for what is rounded."""
    if file.oldest is None or file.newest is None:
        return False
    return (since is not None and file.newest < since.timestamp() - 1) or (
        until is not None and file.oldest > until.timestamp() + 1
    )


def _require_select(query: str) -> None:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise _query_error(error) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        found = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise QueryError(f"a query is one SELECT statement, not {found}; the store is only read here")


def _add_views(cursor: duckdb.DuckDBPyConnection, query: str) -> None:
    for name in views_named_in(query):
        cursor.execute(f"CREATE TEMP VIEW {name} AS {view_query(name)}")


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
