"""Remember what left the store because of its bounds, in ``deleted.jsonl``, one line a file.

The manifest has it first, in the same step that takes the file out, so a crash leaves no deletion untold.
"""

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fapilog.failpoints import hit
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE
from fapilog.store.manifest import Deletion, Manifest

DELETED: Final = "deleted.jsonl"
_TAIL_BYTES: Final = 256 * 1024


def read_deletions(store: Path) -> list[Deletion]:
    """Return what was ever deleted from *store* because of its bounds, oldest first.

    Raises:
        StoreError: The manifest is damaged.
        OSError: It cannot be read.
    """
    with contextlib.suppress(FileNotFoundError):
        recorded = [_parse(line) for line in (store / DELETED).read_bytes().splitlines()]
        found = [each for each in recorded if each is not None]
        known = {(each.generation, each.file) for each in found}
        return [*found, *(each for each in Manifest.load(store).deletions if (each.generation, each.file) not in known)]
    return list(Manifest.load(store).deletions)


def record_deletions(store: Path, deletions: tuple[Deletion, ...]) -> bool:
    """Append to ``deleted.jsonl`` what is not in it; False if that must be tried again."""
    try:
        fd = os.open(store / DELETED, os.O_RDWR | os.O_CREAT | os.O_APPEND | OPEN_FLAGS, PRIVATE_FILE)
        try:
            size = os.fstat(fd).st_size
            tail = os.pread(fd, _TAIL_BYTES, max(size - _TAIL_BYTES, 0))
            known = {(each.generation, each.file) for each in map(_parse, tail.splitlines()) if each is not None}
            lines = [b"\n"] if tail and not tail.endswith(b"\n") else []  # a power cut tore the last line
            lines += [
                json.dumps(asdict(each)).encode() + b"\n"
                for each in deletions
                if (each.generation, each.file) not in known
            ]
            if lines:
                os.write(fd, b"".join(lines))
                os.fsync(fd)
            hit("store.retain.recorded")
        finally:
            os.close(fd)
    except OSError:  # a full disk must not keep us from making room on it
        return False
    return True


def _parse(line: bytes) -> Deletion | None:
    try:
        body = json.loads(line)
        levels = body.pop("levels")
        return Deletion(**body, levels=None if levels is None else tuple(levels))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
