"""Write records to the embedded store: a directory of segments that `fapilog.store.LogStore` reads with SQL."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from fapilog.diagnostics import report
from fapilog.errors import StoreError
from fapilog.files.segment import DEFAULT_MAX_BYTES as SEGMENT_MAX_BYTES
from fapilog.files.segment import SegmentWriter
from fapilog.plugins import OPTIONS
from fapilog.store.directory import make_store
from fapilog.store.manifest import SEGMENTS, DamagedManifestError, Manifest
from fapilog.store.retain import DEFAULT_MAX_AGE_DAYS, DEFAULT_MAX_BYTES, Bounds, retain
from fapilog.types import Batch


@dataclass(config=OPTIONS, kw_only=True)
class DuckDBSink:
    """Append records to a store on disk, which SQL, the command line and the dashboard read while it is written.

    Any number of processes may write to one store. DuckDB itself is not loaded here: it only reads.
    """

    path: Path = Path("logs")
    """Directory of the store. It is made if missing, readable by its owner alone."""

    segment_max_bytes: Annotated[int, Field(ge=1)] = SEGMENT_MAX_BYTES
    """How large one segment grows, in bytes, before the next is begun."""

    max_bytes: Annotated[int, Field(ge=1)] = DEFAULT_MAX_BYTES
    """How large the whole store may grow, in bytes; then the oldest records go. Checked when a segment is begun."""

    max_age_days: Annotated[float, Field(gt=0)] = DEFAULT_MAX_AGE_DAYS
    """How many days records are kept. Checked when a segment is begun."""

    def __post_init__(self) -> None:
        """Fix the directory now: the program may change its working directory later."""
        self._store = self.path.expanduser().absolute()
        self._writer = SegmentWriter(
            self._store / SEGMENTS, max_bytes=self.segment_max_bytes, sealed=self._sealed, opened=self._retain
        )

    def open(self) -> None:
        """Make the directory and see that it can be written. No slot is taken before the first record.

        Raises:
            OSError: It cannot; the message has the path and the reason.
        """
        make_store(self._store)

    def write(self, batch: Batch) -> None:
        """Append the batch with one write. When this returns, a killed process no longer loses it.

        Raises:
            OSError: Nothing of the batch was kept, and it can be given again.
        """
        self._writer.append(batch.payload)

    def flush(self) -> None:
        """Bring what was written to the disk itself, so that a power cut does not lose it."""
        self._writer.flush()

    def close(self) -> None:
        """Give the slot back to the next process."""
        self._writer.close()

    def _sealed(self, slot: int) -> int | None:
        try:
            return Manifest.load(self._store).sealed.get(str(slot), 0)
        except (DamagedManifestError, OSError) as error:
            report(f"cannot read the manifest of the store: {error}", key="store manifest")
            return None

    def _retain(self) -> None:
        try:
            retain(self._store, Bounds(max_bytes=self.max_bytes, max_age_days=self.max_age_days))
        except (OSError, StoreError) as error:
            report(f"cannot keep the store {str(self._store)!r} within its bounds: {error}", key="store retention")
