"""Take lines of JSON that any program wrote into the store.

All lines are read before the first record is written, so a file that cannot be read, or an answer to Ctrl-C, leaves the
store as it was. Then the records go where a service's would: to segments, which queries see at once and which
compaction turns into Parquet.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import duckdb
import orjson

from fapilog.encoding import MAX_LINE_BYTES, encode, plain_fields
from fapilog.errors import StoreError
from fapilog.files.compression import damages, open_log
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE, FileLock
from fapilog.files.segment import SegmentWriter
from fapilog.store.directory import make_store
from fapilog.store.foreign import NotARecordError, Translator
from fapilog.store.manifest import SEGMENTS, DamagedManifestError, Manifest
from fapilog.store.query import LogStore
from fapilog.store.schema import literal
from fapilog.types import Event

LONGEST_LINE_BYTES: Final = 8 * 1024 * 1024
_LOCK: Final = "import.lock"
_BLOCK_BYTES: Final = 1024 * 1024
_KEPT_PROBLEMS: Final = 100
_KEPT_TEXT: Final = 64 * 1024
_STEP_LINES: Final = 10_000
_SURELY_FLAT: Final = 64

Progress = Callable[[int, int], None]
"""Called now and then with how many bytes are done and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A line that could not become a record."""

    source: str
    """Where it came from: the path of a file, or ``-`` for a stream."""

    line: int
    """Its number, from 1."""

    problem: str
    """What is wrong with it."""


@dataclass(kw_only=True)
class ImportResult:
    """What one import did."""

    records: int = 0
    """Records that are now in the store, and were not before."""

    duplicates: int = 0
    """Records left out because the store, or an earlier line, has their id."""

    rejected: int = 0
    """Lines that could not become records."""

    without_id: int = 0
    """Records that came without an id and got a new one; imported again, they would be there twice."""

    problems: list[Rejected] = field(default_factory=list)
    """The first hundred lines that were rejected."""

    unknown_levels: dict[str, int] = field(default_factory=dict)
    """Levels nobody knows, by how many records have them; they became ``info``."""

    examples: list[bytes] = field(default_factory=list)
    """The first ten records as they are in the store, each a line of JSON."""


def import_lines(
    path: str | os.PathLike[str],
    sources: Iterable[str | os.PathLike[str] | BinaryIO],
    *,
    translator: Translator | None = None,
    process: Callable[[Event], Event] | None = None,
    rejects: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> ImportResult:
    """Write the lines of JSON in *sources* to the store in the directory *path*, which is made if it is missing.

    A record whose id the store has is left out, so the same lines can be imported again. A record without an id gets a
    new one each time.

    Args:
        path: The directory of the store.
        sources: Files, decompressed as the ends of their names say, or streams of bytes.
        translator: How lines become records; None for what other libraries usually write.
        process: Changes each record before it is written, such as to mask secrets; None for nothing.
        rejects: A new file for the lines that could not become records, one JSON object each with ``source``, ``line``,
            ``problem`` and ``text``, made when there is one; None to only count them.
        dry_run: Whether to write nothing, and only say what would happen. Then no store needs to be there.
        progress: Told how far the reading is, in bytes of the files; a stream counts for nothing.

    Raises:
        FileExistsError: *rejects* exists.
        OSError: A source cannot be read, or the store not written. What was written by then stays, as it is told.
        StoreError: Another import into this store is running, or its ids cannot be looked up.
    """
    store = Path(path).expanduser().absolute()
    work = _Import(translator or Translator(), process, None if rejects is None else Path(rejects))
    with contextlib.ExitStack() as stack:
        if not dry_run:
            make_store(store)
            if (lock := FileLock.take(store / _LOCK)) is None:
                raise StoreError(f"another import into {str(store)!r} is running; wait for its end")
            stack.enter_context(contextlib.closing(_Held(lock)))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fapilog-")))
        staged = stack.enter_context(tempfile.TemporaryFile(dir=None if dry_run else store))
        ids = directory / "ids.jsonl"
        stack.callback(work.close)
        with ids.open("wb") as file:
            work.read(list(sources), staged, file, progress)
        known = _already_there(store, ids, work) if work.with_id else []
        work.result.duplicates = len(known)
        staged.seek(0)
        kept = _without(staged, known, work.result)
        if dry_run:
            for _ in kept:
                pass
        else:
            _append(store, kept)
    work.result.unknown_levels = dict(work.translator.unknown_levels)
    return work.result


class _Import:
    """The lines of one import, as they become records."""

    def __init__(self, translator: Translator, process: Callable[[Event], Event] | None, rejects: Path | None) -> None:
        self.translator = translator
        self.process = process
        self.rejects = rejects
        self.result = ImportResult()
        self.with_id = 0
        self.oldest: str | None = None
        self.newest: str | None = None
        self._instance = os.urandom(8).hex()
        self._aside: BinaryIO | None = None

    def close(self) -> None:
        if self._aside is not None:
            self._aside.close()

    def read(
        self, sources: list[str | os.PathLike[str] | BinaryIO], staged: BinaryIO, ids: BinaryIO, progress: Progress
    ) -> None:
        sizes = [Path(source).stat().st_size if isinstance(source, str | os.PathLike) else 0 for source in sources]
        position, before = 0, 0
        for source, size in zip(sources, sizes, strict=True):
            name = str(source) if isinstance(source, str | os.PathLike) else "-"
            done = 0
            for number, line in enumerate(_lines(source), start=1):
                done += len(line)
                if number % _STEP_LINES == 0:
                    progress(before + min(done, size), sum(sizes))
                if (made := self._record(name, number, line)) is not None:
                    body, found = made
                    staged.write(body + b"\n")
                    if found is not None:
                        ids.write(orjson.dumps({"position": position, "id": found}) + b"\n")
                    position += 1
            before += size
            progress(before, sum(sizes))

    def _record(self, name: str, number: int, line: bytes) -> tuple[bytes, str | None] | None:
        """Return a record as a line, and the id it came with, or None if *line* is none."""
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not text.strip():
            return None
        try:
            record = self.translator.record(_parsed(text))
        except (NotARecordError, RecursionError) as error:
            self._reject(name, number, line, str(error) or "it is nested too deeply")
            return None
        found = record.get("id") or None
        if found is None:
            self.result.without_id += 1
            record["id"] = f"{self._instance}-{self.result.without_id}"
        else:
            self.with_id += 1
            moment = record["timestamp"]
            self.oldest = moment if self.oldest is None else min(self.oldest, moment)
            self.newest = moment if self.newest is None else max(self.newest, moment)
        if self.process is not None:
            record = self.process(record)
        return _encoded(record, text), found

    def _reject(self, name: str, number: int, line: bytes, problem: str) -> None:
        self.result.rejected += 1
        if len(self.result.problems) < _KEPT_PROBLEMS:
            self.result.problems.append(Rejected(source=name, line=number, problem=problem))
        if self.rejects is None:
            return
        if self._aside is None:
            fd = os.open(self.rejects, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, PRIVATE_FILE)
            self._aside = os.fdopen(fd, "wb")
        text = line[:_KEPT_TEXT].decode("utf-8", "backslashreplace").rstrip("\r\n")
        self._aside.write(orjson.dumps({"source": name, "line": number, "problem": problem, "text": text}) + b"\n")


class _Held:
    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def close(self) -> None:
        self._lock.release()


def _lines(source: str | os.PathLike[str] | BinaryIO) -> Iterator[bytes]:
    """Yield the lines of *source*; of one that is too long no more than its beginning."""
    with open_log(Path(source)) if isinstance(source, str | os.PathLike) else contextlib.nullcontext(source) as file:
        try:
            while line := file.readline(LONGEST_LINE_BYTES + 1):
                yield line
                while not line.endswith(b"\n") and len(line) > LONGEST_LINE_BYTES:
                    line = file.readline(LONGEST_LINE_BYTES + 1)
        except damages() as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise OSError(f"{str(source)!r} is damaged: {error}") from None


def _parsed(line: bytes) -> Event:
    if len(line) > LONGEST_LINE_BYTES:
        raise NotARecordError(f"it is longer than {LONGEST_LINE_BYTES:,} bytes")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            value = json.loads(line)  # knows NaN and halves of surrogate pairs, which some programs write
        except ValueError:
            raise NotARecordError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise NotARecordError(f"it is JSON, but {type(value).__name__}, not an object")
    return value


def _encoded(record: Event, line: bytes) -> bytes:
    """Encode a record within the bounds that a logged one has."""
    if len(line) < MAX_LINE_BYTES // 2 and line.count(b"{") + line.count(b"[") < _SURELY_FLAT:
        with contextlib.suppress(TypeError):
            return orjson.dumps(record)
    return encode(plain_fields(record))


def _already_there(store: Path, ids: Path, work: _Import) -> list[int]:
    """Return the positions of records whose id the store has, or an earlier record, in order."""
    numbered = (
        "SELECT position, id, row_number() OVER (PARTITION BY id ORDER BY position) AS nth FROM read_json("  # noqa: S608 - quoted
        f"{literal(str(ids))}, format = 'newline_delimited', columns = {{position: 'BIGINT', id: 'VARCHAR'}})"
    )
    again = f"SELECT position FROM ({numbered}) WHERE nth > 1"  # noqa: S608 - as above
    # A record that comes again has the same time, so only files of that time need to be looked at.
    theirs = "SELECT id FROM logs WHERE timestamp BETWEEN $oldest::TIMESTAMP AND $newest::TIMESTAMP"
    try:
        if not (store / SEGMENTS).exists():  # only a dry run comes here without a store
            with duckdb.connect(":memory:") as connection:
                return [position for (position,) in connection.execute(f"{again} ORDER BY position").fetchall()]
        with LogStore(store) as opened:
            rows = opened.rows(
                f"{again} OR id IN ({theirs}) ORDER BY position", {"oldest": work.oldest, "newest": work.newest}
            )
            return [position for (position,) in rows]
    except duckdb.Error as error:
        raise StoreError(f"cannot look up the ids that {str(store)!r} has: {error}") from error


def _without(staged: BinaryIO, known: list[int], result: ImportResult) -> Iterator[bytes]:
    """Yield blocks of the lines that are not *known*, and count them."""
    skipped = iter(known)
    skip = next(skipped, -1)
    block: list[bytes] = []
    size = 0
    for position, line in enumerate(staged):
        if position == skip:
            skip = next(skipped, -1)
            continue
        if len(result.examples) < 10:
            result.examples.append(line)
        block.append(line)
        size += len(line)
        if size >= _BLOCK_BYTES:
            yield b"".join(block)
            result.records += len(block)
            block, size = [], 0
    if block:
        yield b"".join(block)
        result.records += len(block)


def _append(store: Path, blocks: Iterable[bytes]) -> None:
    writer = SegmentWriter(store / SEGMENTS, sealed=lambda slot: _sealed(store, slot))
    try:
        for block in blocks:
            writer.append(block)
        writer.flush()
    finally:
        writer.close()


def _sealed(store: Path, slot: int) -> int | None:
    try:
        return Manifest.load(store).sealed.get(str(slot), 0)
    except (DamagedManifestError, OSError):
        return None
