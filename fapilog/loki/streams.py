"""Which stream a record goes to: few labels, from an allow-list, cleaned, and no more of them than agreed.

A value or a stream too many does not get a label: it goes to ``__other__``, and the value to structured metadata.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from fapilog.diagnostics import report

Pairs: TypeAlias = tuple[tuple[str, str], ...]

OTHER: Final = "__other__"
MAX_LABELS: Final = 15
MAX_NAME_BYTES: Final = 1_024
MAX_FIELD_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 1_024
"""Loki takes 2 048 of a label's value; this is for values of labels and of metadata alike."""

_LABEL_NAME: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
TEXTS: Final = frozenset({str, type(None)})
"""Types of values that are equal to nothing of another type, as 1 is to True and 1.0."""

_MAX_REMEMBERED: Final = 1_000
_UNLABELLED: Final = {"service_name": "unknown_service"}
"""What Loki itself says of a stream without labels; where it is told not to, it refuses one."""


class Stream:
    """One set of labels, in the two ways in which they are sent."""

    __slots__ = ("accepted", "is_capped", "is_overflow", "labels", "text")

    def __init__(self, labels: Mapping[str, str], *, is_overflow: bool) -> None:
        """Make the stream of these labels, of which there is at least one."""
        self.labels = dict(labels)
        self.text = "{" + ", ".join(f"{name}={_quoted(value)}" for name, value in sorted(labels.items())) + "}"
        self.is_overflow = is_overflow
        """Whether its labels stand for what had to be left out."""
        self.is_capped = OTHER in self.labels.values()
        """Whether a record in it has a value that is not among its labels."""
        self.accepted = False
        """Whether Loki has taken an entry of it."""

    def __repr__(self) -> str:
        return f"<Stream {self.text}>"


class Streams:
    """The streams of one process: at most so many, and at most so many values of each label."""

    def __init__(self, label: Mapping[str, str], fields: Sequence[str], *, max_values: int, max_streams: int) -> None:
        """Label each record with *label* and with what it has in these fields."""
        self._label = dict(label)
        self._fields = [(field, label_name(field)) for field in fields]
        self._names = [field for field, _ in self._fields]
        self._max_values = max_values
        self._max_streams = max_streams
        self._values: dict[str, set[str]] = {name: set() for _, name in self._fields}
        self._streams: dict[Pairs, Stream] = {}
        self._known: dict[tuple[Any, ...], tuple[Stream, Pairs]] = {}

    def choose(self, fields: Mapping[str, Any]) -> tuple[Stream, Pairs]:
        """Return the stream of a record, and what of its labels goes to structured metadata instead."""
        key = tuple(map(fields.get, self._names))
        try:
            return self._known[key]
        except (KeyError, TypeError):  # not met yet, or a value that is a list or a dict
            chosen = self._choose(key)
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        if TEXTS.issuperset(map(type, key)):
            self._known[key] = chosen
        return chosen

    def spill(self, stream: Stream) -> tuple[Stream, Pairs]:
        """Make no stream any more but the overflow, as Loki has as many as it takes.

        Returns:
            The overflow, and what of the labels of *stream* goes to structured metadata instead.
        """
        self._max_streams = 0
        self._streams = {labels: each for labels, each in self._streams.items() if each.accepted}
        self._known.clear()
        over = {name: value for name, value in stream.labels.items() if name in self._values and value != OTHER}
        return self._overflow(), tuple(over.items())

    def _choose(self, key: tuple[Any, ...]) -> tuple[Stream, Pairs]:
        labels = dict(self._label)
        found: dict[str, str] = {}
        over: dict[str, str] = {}
        for (_, name), value in zip(self._fields, key, strict=True):
            text = label_value(value)
            if not text or name in self._label:
                continue
            found[name] = labels[name] = text
            if not self._is_within(name, text):
                over[name] = text
                labels[name] = OTHER
        pairs = tuple(sorted(labels.items()))
        stream = self._streams.get(pairs)
        if stream is None and len(self._streams) >= self._max_streams - 1:
            if found:
                report("too many streams for Loki; further records share one", key="loki streams")
            return self._overflow(), tuple(found.items())
        if stream is None:
            stream = self._streams[pairs] = Stream(labels or _UNLABELLED, is_overflow=over == found)
        return stream, tuple(over.items())

    def _overflow(self) -> Stream:
        labels = {**dict.fromkeys(self._values, OTHER), **self._label}
        return self._streams.setdefault(tuple(sorted(labels.items())), Stream(labels or _UNLABELLED, is_overflow=True))

    def _is_within(self, name: str, value: str) -> bool:
        values = self._values[name]
        if value in values:
            return True
        if len(values) >= self._max_values:
            report(
                f"the Loki label {name!r} has more than {self._max_values} values; further ones go to its metadata",
                key=f"loki label {name}",
            )
            return False
        values.add(value)
        return True


def label_name(field: str) -> str:
    """Return the name of the label that a record's field becomes: ``http.route`` is ``http_route``."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", field).lstrip("_")[:MAX_FIELD_BYTES]
    return name if name and not name[0].isdigit() else f"_{name}"


def label_value(value: Any) -> str:
    """Return what of a value can be a label's, cut and on one line; empty if it has no text of its own."""
    if isinstance(value, bool | int | float):
        return orjson.dumps(value).decode()
    return cut(_CONTROL.sub("_", value)) if isinstance(value, str) else ""


def metadata_value(value: Any) -> str:
    """Return what of a value can be structured metadata, which may hold any character."""
    return cut(value if isinstance(value, str) else orjson.dumps(value).decode())


def cut(value: str) -> str:
    """Return as much of *value* as may be sent, without half a character."""
    if len(value) <= MAX_VALUE_BYTES // 4:
        return value
    return value.encode("utf-8", "replace")[:MAX_VALUE_BYTES].decode("utf-8", "ignore")


def check_label_names(names: Iterable[str]) -> None:
    """See that these are names that Loki takes.

    Raises:
        ValueError: If one is not.
    """
    for name in names:
        if not _LABEL_NAME.fullmatch(name) or len(name) > MAX_NAME_BYTES:
            raise ValueError(
                f"{name[:100]!r} is no name of a label; it begins with a letter or _, holds letters, digits and _, "
                "and does not begin with __"
            )


def _quoted(value: str) -> str:
    """Quote as Loki reads it: every escape that JSON has means the same there."""
    return orjson.dumps(value).decode()
