"""A push: records in streams, and the two shapes of its body.

Protobuf is the ``PushRequest`` of ``pkg/push/push.proto`` in Loki's repository, compressed as one block of snappy; the
message is small, so it is written here by hand. JSON is compressed with gzip.
"""

import gzip
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

import orjson

from fapilog.errors import MissingExtraError
from fapilog.loki.streams import Pairs, Stream

_GZIP_LEVEL: Final = 1
_SECOND: Final = 1_000_000_000


class Entry(NamedTuple):
    """One line of a stream."""

    position: int
    """Where its record stands in the batch."""

    timestamp_ns: int
    line: bytes
    """Valid UTF-8, without a newline at its end."""

    metadata: Pairs
    """Structured metadata: names and values."""

    @property
    def size_bytes(self) -> int:
        """How much Loki counts for it."""
        return len(self.line) + sum([len(name) + len(value.encode()) for name, value in self.metadata])


Push: TypeAlias = dict[Stream, list[Entry]]
"""What one request carries: entries by stream, each in the order of the batch."""


def size_of(push: Push) -> int:
    """Return how many bytes Loki counts for *push*: lines and metadata, not compressed."""
    return sum([entry.size_bytes for entries in push.values() for entry in entries])


def json_body(push: Push) -> bytes:
    """Return *push* as JSON, compressed with gzip; the same push gives the same bytes."""
    streams = [
        {
            "stream": stream.labels,
            "values": [
                [str(at), line.decode(), dict(metadata)] if metadata else [str(at), line.decode()]
                for _, at, line, metadata in entries
            ],
        }
        for stream, entries in push.items()
    ]
    return gzip.compress(orjson.dumps({"streams": streams}), _GZIP_LEVEL, mtime=0)


def protobuf_body(push: Push) -> bytes:
    """Return *push* as a ``PushRequest``, not compressed."""
    parts: list[bytes] = []
    for stream, entries in push.items():
        body = b"\x0a" + _sized(stream.text.encode()) + b"".join(_entries(entries))
        parts += (b"\x0a", _varint(len(body)), body)
    return b"".join(parts)


def find_snappy() -> Callable[[bytes], bytes] | None:
    """Return what compresses a block with snappy, from cramjam or python-snappy; None if neither is installed."""
    try:
        import cramjam  # noqa: PLC0415 - an extra, needed by those who push to Loki alone
    except ImportError:
        pass
    else:
        return lambda data: bytes(cramjam.snappy.compress_raw(data))
    try:
        import snappy  # noqa: PLC0415 - as above
    except ImportError:
        return None
    compress: Callable[[bytes], bytes] = snappy.compress
    return compress


def require_snappy() -> Callable[[bytes], bytes]:
    """Return the same.

    Raises:
        MissingExtraError: Neither is installed.
    """
    found = find_snappy()
    if found is None:
        raise MissingExtraError("the loki sink with body=protobuf", extra="loki")
    return found


def _entries(entries: Iterable[Entry]) -> list[bytes]:
    """Encode each entry as field 2 of its stream: timestamp 1, line 2, structured metadata 3."""
    parts: list[bytes] = []
    add, known = parts.append, _Varints()
    second, stamp = -1, b""
    last: Pairs = ()
    metadata = b""
    for _, at, line, pairs in entries:
        seconds, nanos = divmod(at, _SECOND)
        if seconds != second:
            second, stamp = seconds, (b"\x08" + _varint(seconds) if seconds else b"")
        if pairs is not last and pairs != last:  # records of one request have the same
            last, metadata = pairs, b"".join(map(_pair, pairs))
        when = stamp + b"\x10" + _varint(nanos) if nanos else stamp
        size = known[len(line)]
        # tag and length of the timestamp are two bytes, the tag of the line is one
        rest = known[3 + len(when) + len(size) + len(line) + len(metadata)]
        add(b"\x12%b\x0a%c%b\x12%b" % (rest, len(when), when, size))
        add(line)
        if metadata:
            add(metadata)
    return parts


def _pair(pair: tuple[str, str]) -> bytes:
    body = b"\x0a" + _sized(pair[0].encode()) + b"\x12" + _sized(pair[1].encode("utf-8", "replace"))
    return b"\x1a" + _sized(body)


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


class _Varints(dict[int, bytes]):
    """Numbers that come again and again, encoded once."""

    def __missing__(self, number: int) -> bytes:
        encoded = self[number] = _varint(number)
        return encoded


def _varint(number: int) -> bytes:
    """Encode a number that is not negative, seven bits a byte, the lowest first."""
    if 1 << 28 <= number < 1 << 35:  # most fractions of a second
        return bytes(
            (
                number & 127 | 128,
                number >> 7 & 127 | 128,
                number >> 14 & 127 | 128,
                number >> 21 & 127 | 128,
                number >> 28,
            )
        )
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
