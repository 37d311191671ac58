"""Lines that prove themselves: ``crc32 SP text LF``, and how to find the good ones in a file that was damaged.

The checksum is eight hex digits over the text, without the line feed. Whatever happened to a file, the next line feed
is where reading can go on.
"""

import os
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_TEXT_BYTES: Final = 1024 * 1024
"""No line is longer: what is, was not written by us, and is skipped without being held in memory."""

OVERHEAD_BYTES: Final = len("00000000 \n")
_CHUNK_BYTES: Final = 256 * 1024


class Numbered(NamedTuple):
    """One record in a file: ``crc32 SP number SP level SP timestamp_ns SP line LF``."""

    number: int
    """Its place among all records of its writer, without gaps."""

    level: int
    timestamp_ns: int
    line: bytes
    """The record as it was given, its line feed included."""


def checked(text: bytes) -> bytes:
    """Make a line of *text*, which holds no line feed."""
    return b"%08x %b\n" % (zlib.crc32(text), text)


def text_of(line: bytes) -> bytes | None:
    """Return the text of *line*, which comes without its line feed, or None if the line is damaged."""
    text = line[9:]
    return text if line[:9] == b"%08x " % zlib.crc32(text) else None


def numbered(number: int, level: int, timestamp_ns: int, line: bytes) -> bytes:
    """Make a line of a record whose own line ends in its only line feed."""
    start = b"%d %d %d " % (number, level, timestamp_ns)
    return b"%08x %b%b" % (zlib.crc32(memoryview(line)[:-1], zlib.crc32(start)), start, line)


def record_of(line: bytes) -> Numbered | None:
    """Return the record in *line*, which comes without its line feed, or None if it is damaged or something else."""
    text = text_of(line)
    if text is None:
        return None
    try:
        number, level, timestamp_ns, record = text.split(b" ", 3)
        return Numbered(int(number), int(level), int(timestamp_ns), record + b"\n")
    except ValueError:
        return None


def scan(fd: int, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Read line by line from *offset*: where each line begins, and the line without its line feed.

    A part without a line feed at the end of the file is given as a line too, and so is the beginning of a line that is
    too long.

    Raises:
        OSError: The disk cannot read it.
    """
    rest, place, too_long = b"", offset, False
    while chunk := os.pread(fd, _CHUNK_BYTES, place + len(rest)):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not too_long:
                yield place, line
            place += len(line) + 1
            too_long = False
        if len(rest) > MAX_TEXT_BYTES + OVERHEAD_BYTES:
            if not too_long:
                yield place, rest
            place += len(rest)
            rest, too_long = b"", True
    if rest and not too_long:
        yield place, rest
