"""Find the journals that dead processes left, and take them over under their locks."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from fapilog.diagnostics import report
from fapilog.files.journal import Journal
from fapilog.files.private import is_ours
from fapilog.files.recover import ForeignJournalError

_INSTANCE: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


class Orphans:
    """The journals in one directory that nobody holds."""

    def __init__(self, directory: Path, owner: bytes) -> None:
        """Look in *directory* for what is for *owner*, whenever asked."""
        self._directory = directory
        self._owner = owner
        self._refused: set[str] = set()

    def take(self, *, but: Collection[Path]) -> list[Journal]:
        """Take over all but those at the paths in *but*, oldest first.

        What is for somebody else, was written by another version or cannot be read is left alone and said once.
        """
        taken = []
        for path in self._paths():
            if path in but:
                continue
            try:
                journal = Journal.take_over(path, self._owner)
            except (OSError, ForeignJournalError) as error:
                self._refuse(path, error)
            else:
                if journal is not None:
                    taken.append(journal)
        return sorted(taken, key=lambda journal: journal.timestamp_ns)

    def _paths(self) -> list[Path]:
        try:
            paths = sorted(self._directory.iterdir())
        except OSError:
            return []
        return [path for path in paths if _INSTANCE.fullmatch(path.name) and is_ours(path)]

    def _refuse(self, path: Path, error: Exception) -> None:
        if path.name not in self._refused:
            self._refused.add(path.name)
            report(f"the records in {str(path)!r} are left alone: {error}")
