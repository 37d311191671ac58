"""Choose which small Parquet files of a day to make one of, so that neither days nor restarts leave many."""

from collections.abc import Iterable
from typing import Final

from fapilog.store.manifest import ParquetFile

MERGED_BYTES: Final = 64 * 1024 * 1024
MERGED_ROWS: Final = 2_000_000
MERGE_TODAY: Final = 8
"""How many small files a day has that has not ended before they are merged; of one that has, two are enough."""


def small_files(files: Iterable[ParquetFile], today: str) -> list[list[ParquetFile]]:
    """Find the files that are worth merging, in batches of one day each, which follow each other in time."""
    days: dict[str, list[ParquetFile]] = {}
    for file in files:
        if file.day is not None and file.size_bytes < MERGED_BYTES // 2 and file.rows < MERGED_ROWS // 2:
            days.setdefault(file.day, []).append(file)
    batches = []
    for day, small in sorted(days.items()):
        if len(small) < (2 if day < today else MERGE_TODAY):
            continue
        batch: list[ParquetFile] = []
        for file in sorted(small, key=lambda file: (file.oldest or 0.0, file.name)):
            batch.append(file)
            if sum(each.size_bytes for each in batch) > MERGED_BYTES or sum(each.rows for each in batch) > MERGED_ROWS:
                batches.append(batch)
                batch = []
        batches.append(batch)
    return [batch for batch in batches if len(batch) > 1]
