"""Loki's push message in protobuf, read and written field by field as ``push.proto`` numbers them.

Nothing here is shared with the package: what it encodes is checked against this. ``push.proto`` says: PushRequest
{repeated Stream streams = 1}; Stream {string labels = 1; repeated Entry entries = 2; uint64 hash = 3}; Entry {Timestamp
timestamp = 1; string line = 2; repeated LabelPair structuredMetadata = 3}; LabelPair {string name = 1; string value =
2}; Timestamp {int64 seconds = 1; int32 nanos = 2}.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

Entry: TypeAlias = tuple[int, str, dict[str, str]]
"""Nanoseconds, line, structured metadata."""


def decode_push(message: bytes) -> list[tuple[str, list[Entry]]]:
    """Return the streams of a PushRequest: the text of their labels, and their entries."""
    streams = []
    for number, stream in _fields(message):
        _expect(number, 1)
        labels, entries = "", []
        for inner, value in _fields(stream):
            if inner == 1:
                labels = value.decode()
            elif inner == 2:
                entries.append(_decode_entry(value))
            else:
                _expect(inner, 3)
        streams.append((labels, entries))
    return streams


def encode_push(streams: list[tuple[str, list[Entry]]]) -> bytes:
    """Return a PushRequest of these streams."""
    return b"".join(
        _message(
            1,
            _message(1, labels.encode())
            + b"".join(
                _message(
                    2,
                    _message(1, _number(1, at // 10**9) + _number(2, at % 10**9))
                    + _message(2, line.encode())
                    + b"".join(
                        _message(3, _message(1, name.encode()) + _message(2, value.encode()))
                        for name, value in metadata.items()
                    ),
                )
                for at, line, metadata in entries
            ),
        )
        for labels, entries in streams
    )


def _decode_entry(message: bytes) -> Entry:
    at, line, metadata = 0, "", {}
    for number, value in _fields(message):
        if number == 1:
            stamp = dict(_fields(value))
            at = stamp.get(1, 0) * 10**9 + stamp.get(2, 0)
        elif number == 2:
            line = value.decode()
        else:
            _expect(number, 3)
            pair = dict(_fields(value))
            metadata[pair[1].decode()] = pair[2].decode()
    return at, line, metadata


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == 2:
            if at + value > len(message):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, message[at : at + value]
            at += value
        elif tag & 7 == 0:
            yield tag >> 3, value
        else:
            raise ValueError(f"wire type {tag & 7}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _expect(number: int, expected: int) -> None:
    if number != expected:
        raise ValueError(f"field {number}")


def _message(number: int, body: bytes) -> bytes:
    return _encoded(number << 3 | 2) + _encoded(len(body)) + body


def _number(number: int, value: int) -> bytes:
    return _encoded(number << 3) + _encoded(value)


def _encoded(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes((low | 128,)) + _encoded(rest) if rest else bytes((low,))
