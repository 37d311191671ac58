"""Find what segments hold that is no record, and set it aside in ``rejected.jsonl`` before they are deleted.

No writer leaves such lines but by dying within one; a power cut, a bad disk and other programs do. DuckDB skips them.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE
from fapilog.files.segment import Segment

REJECTED: Final = "rejected.jsonl"
MAX_BYTES: Final = 1024 * 1024
"""How large ``rejected.jsonl`` grows; what comes later is only counted."""

_TEXT_BYTES: Final = 4_096
_MOST_SEGMENTS: Final = 10_000
_CHUNK_BYTES: Final = 1024 * 1024
_LINE_BYTES: Final = 16 * 1024 * 1024


class _Looked(NamedTuple):
    inode: int
    size_bytes: int
    lines: int


class Inspector:
    """Counts the lines of live segments that cannot be records, each once, however often it is asked."""

    def __init__(self) -> None:
        self._looked: dict[Path, _Looked] = {}

    def lines(self, path: Path) -> int:
        """Return how many whole lines of the segment at *path* are plainly no objects of JSON, without parsing them."""
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            inode = os.fstat(file.fileno()).st_ino
            known = self._looked.get(path)
            if known is None or known.inode != inode:
                known = _Looked(inode, 0, 0)
            at, found = known.size_bytes, known.lines
            while chunk := os.pread(file.fileno(), _CHUNK_BYTES, at):
                whole = chunk[: chunk.rfind(b"\n") + 1]
                if not whole:  # one is longer, or not finished
                    break
                at += len(whole)
                found += _no_objects(whole)
            if len(self._looked) >= _MOST_SEGMENTS:  # most of them are Parquet by now
                self._looked.clear()
            self._looked[path] = _Looked(inode, at, found)
            return found
        return 0


def _no_objects(lines: bytes) -> int:
    objects = lines.startswith(b"{") + lines.count(b"\n{")
    if objects == lines.count(b"\n") and b"\0" not in lines:
        return 0
    return sum(1 for line in lines.split(b"\n") if line.strip() and (line[:1] != b"{" or b"\0" in line))


def set_aside(store: Path, segments: Iterable[Segment], directory: Path, *, now: float) -> None:
    """Append to ``rejected.jsonl`` the lines of *segments*, in *directory*, that are no records and not in it yet."""
    with contextlib.suppress(OSError):  # a full disk; that they were there is counted all the same
        fd = os.open(store / REJECTED, os.O_RDWR | os.O_CREAT | os.O_APPEND | OPEN_FLAGS, PRIVATE_FILE)
        try:
            content = os.pread(fd, MAX_BYTES, 0)
            known = {(each.get("segment"), each.get("offset")) for each in _objects(content)}
            room = MAX_BYTES - len(content)
            if content and not content.endswith(b"\n"):  # a power cut tore the last line
                room -= os.write(fd, b"\n")
            for segment in segments:
                for offset, line in _rejected(directory / segment.name):
                    entry = {"at": now, "segment": segment.name, "offset": offset, "size_bytes": len(line)}
                    text = line[:_TEXT_BYTES].decode("utf-8", "backslashreplace")
                    made = json.dumps(entry | {"text": text}).encode() + b"\n"
                    if (segment.name, offset) not in known and len(made) <= room:
                        room -= os.write(fd, made)
        finally:
            os.close(fd)


def _rejected(path: Path) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES):  # a longer one comes in pieces, which are none either
            if line.strip() and next(_objects(line), None) is None:
                yield offset, line.removesuffix(b"\n")
            offset += len(line)


def _objects(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.split(b"\n"):
        with contextlib.suppress(orjson.JSONDecodeError):
            if isinstance(found := orjson.loads(line), dict):
                yield found
