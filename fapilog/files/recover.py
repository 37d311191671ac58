"""Find what a directory of numbered records holds, whatever happened to its files.

Every record has a number, counted without gaps, in a line that carries a checksum (`fapilog.files.checked`). So it is
known how many records a segment had, which of them can still be read, and where each stands in the order; a line that
is found twice is one record. A segment ends where the next one begins, whatever else is in it.

The header is ``crc32 SP fapilog-journal SP 1 SP owner SP timestamp_ns LF``: the version of this layout, what the
records are for, and when the first of them was logged. The lock file holds a copy.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fapilog.files.checked import OVERHEAD_BYTES, Numbered, checked, record_of, scan, text_of
from fapilog.files.lock import OPEN_FLAGS

_LAYOUT: Final = b"fapilog-journal"
_VERSION: Final = b"1"
_NAME: Final = re.compile(r"(\d{1,9})-(\d{1,18})\.log", re.ASCII)
_HEADER_BYTES: Final = 4096
_TAIL_BYTES: Final = 256 * 1024
_USUAL_BYTES: Final = 16 * 1024 * 1024
_LEAST_LINE_BYTES: Final = OVERHEAD_BYTES + len("1 5 0 ")


class ForeignJournalError(Exception):
    """The journal holds something else than what was asked for, or was written by another version."""


@dataclass(slots=True)
class JournalSegment:
    """One file of a journal: the records from number `first` up to, not including, `end`."""

    path: Path
    first: int
    end: int
    size_bytes: int
    timestamp_ns: int
    """When the first record was logged."""

    known: tuple[int, int]
    """A number, and where in the file its record is."""


def segment_name(serial: int, first: int) -> str:
    """Name the segment of that serial number whose first record is number *first*."""
    return f"{serial:06}-{first:012}.log"


def header(owner: bytes, timestamp_ns: int) -> bytes:
    """Make the first line of a segment."""
    return checked(b"%b %b %b %d" % (_LAYOUT, _VERSION, owner, timestamp_ns))


def find_segments(path: Path, lock_fd: int, owner: bytes) -> tuple[list[JournalSegment], int]:
    """Find the segments in *path*, and the highest serial number, from names and headers alone."""
    found: list[tuple[int, int, Path, int]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            status = entry.stat(follow_symlinks=False)
            if match and stat.S_ISREG(status.st_mode):
                found.append((int(match[2]), int(match[1]), path / entry.name, status.st_size))
    found.sort()
    begun = _header_time(os.pread(lock_fd, _HEADER_BYTES, 0), owner)
    segments: list[JournalSegment] = []
    readable = begun is not None
    for first, _, name, size in found:
        fd = os.open(name, os.O_RDONLY | OPEN_FLAGS)
        try:
            timestamp_ns = _header_time(os.pread(fd, _HEADER_BYTES, 0), owner)
            if name == found[-1][2]:
                end = _end_of_last(fd, first, size)
        finally:
            os.close(fd)
        readable = readable or timestamp_ns is not None
        if timestamp_ns is None:
            timestamp_ns = segments[-1].timestamp_ns if segments else begun or 0
        if segments:
            segments[-1].end = first
        segments.append(JournalSegment(name, first, first, size, timestamp_ns, (first, 0)))
    if segments:
        segments[-1].end = end
        if not readable:
            raise ForeignJournalError("no header in it can be read")
    return segments, max([serial for _, serial, _, _ in found], default=0)


def _header_time(data: bytes, owner: bytes) -> int | None:
    """Return when the first record was logged, or None if the header is damaged."""
    text = text_of(data.partition(b"\n")[0])
    if text is None:
        return None
    layout, _, rest = text.partition(b" ")
    version, _, rest = rest.partition(b" ")
    whose, _, timestamp_ns = rest.rpartition(b" ")
    if layout != _LAYOUT:  # a record, after the header was cut out
        return None
    if version != _VERSION:
        raise ForeignJournalError(f"it was written by another version (layout {version.decode(errors='replace')})")
    if whose != owner:
        raise ForeignJournalError(f"it is for {whose.decode(errors='replace')!r}, this is {owner.decode()!r}")
    return int(timestamp_ns) if timestamp_ns.isdigit() else None


def _end_of_last(fd: int, first: int, size: int) -> int:
    """Return the number after the last record that was begun in a segment of which only the beginning is known."""
    end = _end_if_whole(fd, first, size) if size > _TAIL_BYTES else None
    if end is not None:
        return end
    limit = first + max(size, _USUAL_BYTES) // _LEAST_LINE_BYTES  # more do not fit, whatever a line says
    end, bad = first, 0
    for place, line in scan(fd):
        record = record_of(line)
        if record is not None and first <= record.number < limit:
            if record.number >= end:
                end, bad = record.number + 1, 0
        elif place:  # what comes first is the header
            bad += 1
    return end + bad


def _end_if_whole(fd: int, first: int, size: int) -> int | None:
    """Return the same, many times faster, if the last line is good and has the number that the count of lines gives."""
    lines = 0
    for offset in range(0, size, _TAIL_BYTES):
        lines += os.pread(fd, _TAIL_BYTES, offset).count(b"\n")
    data = os.pread(fd, _TAIL_BYTES, size - _TAIL_BYTES)
    record = record_of(data[:-1].rpartition(b"\n")[2]) if data.endswith(b"\n") else None
    end = first + lines - 1  # one of them is the header
    return end if record is not None and record.number == end - 1 else None


def records_of(segment: JournalSegment, number: int) -> Iterator[tuple[JournalSegment, int, Numbered]]:
    """Read the records of *segment* from *number* on; where lines are missing, look for them in the whole file."""
    fd = os.open(segment.path, os.O_RDONLY | OPEN_FLAGS)
    try:
        for place, line in scan(fd, segment.known[1] if segment.known[0] <= number else 0):
            record = record_of(line)
            if record is None or record.number < number:
                continue
            if record.number != number:
                break
            number += 1
            yield segment, place + len(line) + 1, record
            if number == segment.end:
                return
        yield from _sorted_records(fd, segment, number)
    except OSError as error:
        if error.errno != errno.EIO:  # where the disk is broken, the rest is as lost as if it were not there
            raise
    finally:
        os.close(fd)


def _sorted_records(fd: int, segment: JournalSegment, number: int) -> Iterator[tuple[JournalSegment, int, Numbered]]:
    places: dict[int, tuple[int, int]] = {}
    for place, line in scan(fd):
        record = record_of(line)
        if record is not None and number <= record.number < segment.end:
            places.setdefault(record.number, (place, len(line)))
    for found in sorted(places):
        place, length = places[found]
        record = record_of(os.pread(fd, length, place))
        if record is not None:
            yield segment, place + length + 1, record
