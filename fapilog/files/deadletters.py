"""Dead letters: records that no far end will take, kept for a person to look at."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fapilog.files.lock import PRIVATE_DIRECTORY
from fapilog.types import Record

MAX_BYTES: Final = 10 * 1024 * 1024


class DeadLetters:
    """A file of records as lines of JSON. When it is full it becomes ``.1`` in place of the one before."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Keep at most twice *max_bytes* at *path*, which is made with the first record."""
        self.path = path
        self._max_bytes = max_bytes

    def append(self, records: Iterable[Record]) -> None:
        """Add *records*, several processes at a time if it must be.

        Raises:
            OSError: They could not be written.
        """
        self.path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            for record in records:
                os.write(fd, record.line)
            full = os.fstat(fd).st_size > self._max_bytes
        finally:
            os.close(fd)
        if full:
            self.path.replace(self.path.with_suffix(".1"))
