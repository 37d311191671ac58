"""Push batches to Grafana Loki.

https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt
from pydantic.dataclasses import dataclass

from fapilog.diagnostics import report
from fapilog.errors import BatchRejectedError, BatchTooLargeError, ConfigurationError, MisconfiguredError
from fapilog.files.lock import FileLock
from fapilog.files.private import make_directory
from fapilog.formats import FormatName, Formatter
from fapilog.loki.answers import read
from fapilog.loki.lines import MIN_LINE_BYTES, shorten
from fapilog.loki.push import Entry, Push, find_snappy, json_body, protobuf_body, require_snappy
from fapilog.loki.streams import (
    MAX_LABELS,
    TEXTS,
    Pairs,
    Stream,
    Streams,
    check_label_names,
    label_name,
    label_value,
    metadata_value,
)
from fapilog.plugins import OPTIONS
from fapilog.transport.answer import Answer
from fapilog.transport.client import Headers
from fapilog.transport.sink import NetworkSink
from fapilog.types import LEVEL_NAMES, Batch

PUSH_PATH: Final = "/loki/api/v1/push"
MAX_TENANT_BYTES: Final = 150
MAX_METADATA_FIELDS: Final = 32
_MAX_SLOTS: Final = 1_000
_MAX_FURTHER_PUSHES: Final = 64
"""How many pushes one attempt may take to find out who was refused; then the pipeline splits the batch."""


def _names(value: Any) -> Any:
    return [name for name in re.split(r"[\s,]+", value) if name] if isinstance(value, str) else value


def _labels(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('this is not JSON; write {"name": "value"}') from None


def _checked_tenant(tenant: str | None) -> str | None:
    """See that a tenant is one: it is sent in a header, and stands for a directory there."""
    if tenant is None:
        return None
    if not re.fullmatch(r"[A-Za-z0-9!_.*'()-]+", tenant) or tenant in (".", "..") or len(tenant) > MAX_TENANT_BYTES:
        raise ValueError(
            f"{tenant[:200]!r} is no tenant; it has at most {MAX_TENANT_BYTES} letters, digits and any of !-_.*'()"
        )
    return tenant


Names = Annotated[list[str], BeforeValidator(_names)]


@dataclass(config=OPTIONS, kw_only=True)
class LokiSink(NetworkSink):
    """Push records to Grafana Loki, each stream in order.

    What its answers mean is a table in `fapilog.loki.answers`.
    """

    label: Annotated[dict[str, str], BeforeValidator(_labels)] = field(default_factory=dict)
    """Labels that every record has, by name, such as ``app``; ``label.app=shop`` in a URI, JSON in a variable."""

    label_fields: Names = field(default_factory=lambda: ["level", "service", "env", "host"])
    """Fields of a record that become labels where it has them. Choose few, with few values: each set of values is a
    stream."""

    metadata_fields: Names = field(default_factory=lambda: ["trace_id", "span_id", "request_id"])
    """Fields of a record that are sent as structured metadata too, so that they can be searched without parsing; empty
    for a Loki that does not take any."""

    label_max_values: PositiveInt = 50
    """How many values one label may have in the life of a process; a record with a further one has ``__other__`` there,
    and the value in its structured metadata."""

    max_streams: PositiveInt = 100
    """How many streams one process may have; further records share one that has ``__other__`` for all its fields."""

    slot_label: str | None = "slot"
    """The name of a label that tells the processes of a host apart: 0, 1, 2…, the lowest number that no running one
    has. Empty for none: the replay of one process then makes Loki refuse what is an hour older than what another has
    sent."""

    slot_path: Path = Path("logs/spool/slots")
    """The directory in which the processes agree on those numbers; a part of ``FAPILOG_SPOOL_PATH`` unless given."""

    format: FormatName = "json"
    """How each line looks: json; logfmt; pretty for a person; csv, without the names of the columns; the names of
    another system: ecs, datadog, gcp, otel; a template such as ``{level:8} {event}``; a function that is given a record
    as a dict, or its ``module:function``. Labels and structured metadata are the same in all."""

    tenant: Annotated[str | None, AfterValidator(_checked_tenant)] = None
    """Whose logs these are, for a Loki with several tenants: the header ``X-Scope-OrgID``."""

    body: Literal["auto", "protobuf", "json"] = "auto"
    """How a push is encoded: protobuf and snappy, JSON and gzip, or auto: protobuf where cramjam or python-snappy is
    installed, as by ``fapilog[loki]``."""

    line_max_bytes: Annotated[int, Field(ge=MIN_LINE_BYTES)] = 256 * 1024
    """How long a line may be, as in Loki's ``max_line_size``; a longer one is cut, and if it was JSON
    it still is."""

    push_max_bytes: Annotated[int, Field(ge=64 * 1024)] = 1_000_000
    """How many bytes of lines and metadata one push may have before compression. Loki refuses for good what is larger
    than its ``ingestion_burst_size_mb``."""

    default_linger_seconds: ClassVar[float] = 0.5
    default_batch_max_bytes: ClassVar[int] = 768 * 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.endpoint.endswith("/push"):
            self.endpoint = self.endpoint.rstrip("/") + PUSH_PATH
        self.slot_label = self.slot_label or None
        check_label_names(self.label)
        if self.slot_label is not None:
            check_label_names([self.slot_label])
        for name, value in self.label.items():
            if not value or label_value(value) != value:
                raise ValueError(f"the value of the label {name!r} is empty, longer than 1 024 bytes or not one line")
        names = {*self.label, *map(label_name, self.label_fields)} | ({self.slot_label} if self.slot_label else set())
        if not names:
            raise ValueError("there is no label; Loki wants at least one, such as label.app=shop")
        if len(names) > MAX_LABELS:
            raise ValueError(f"{len(names)} labels are more than the {MAX_LABELS} that Loki takes")
        if len(self.metadata_fields) > MAX_METADATA_FIELDS:
            raise ValueError(f"metadata_fields has more than {MAX_METADATA_FIELDS} names")
        if any(name.lower() == "x-scope-orgid" for name in self.headers) and self.tenant is not None:
            raise ValueError("the tenant is given both as an option and as the header X-Scope-OrgID; give one")
        self._formatter = Formatter(self.format)
        self._compress = self._find_snappy()
        self._metadata = [(name, label_name(name)) for name in self.metadata_fields]
        self._streams: Streams | None = None
        self._lock: FileLock | None = None
        self.label_capped = 0
        """How many records were sent with ``__other__`` for a label, and its value as structured metadata."""

    @property
    def unformatted(self) -> int:
        """How many records were written as JSON because the format could not hold them."""
        return self._formatter.failed

    @property
    def destination(self) -> str:
        """Where records go, and whose they are there."""
        return super().destination + (f"#{self.tenant}" if self.tenant else "")

    async def write(self, batch: Batch) -> None:
        """Push *batch* and return when all of it is stored.

        Raises:
            DeliveryError: If not all of it is.
        """
        if not batch:  # Loki refuses a push without a stream
            return
        push, size = self._prepare(batch)
        if len(batch) > 1 and size > self.push_max_bytes:
            raise BatchTooLargeError("the batch is larger than push_max_bytes")
        further = iter(range(_MAX_FURTHER_PUSHES))
        self._capped = 0
        refused = await self._push(push, further)
        self.label_capped += self._capped  # now, for a batch that is tried again is sent again
        if refused:
            raise BatchRejectedError("Loki does not take records of their age, or of their kind", rejected=refused)

    async def close(self) -> None:
        """Close the connection and leave the slot to the next process. Safe to call twice."""
        lock, self._lock, self._streams = self._lock, None, None
        if lock is not None:
            lock.release()
        await super().close()

    async def _push(self, push: Push, further: Iterator[int]) -> set[int]:
        """Push, and again in parts where that is needed; return the positions of what Loki will never take."""
        reading = read(await self._post(push), push)
        if reading.kind == "stored":
            for stream, entries in push.items():
                stream.accepted = True
                if stream.is_capped:
                    self._capped += len(entries)
            return set()
        if reading.kind == "no_metadata":
            if not self._metadata and not any(entry.metadata for entries in push.values() for entry in entries):
                raise BatchRejectedError("Loki refuses structured metadata where there is none")
            report(f"the Loki at {self.destination} takes no structured metadata; it gets none from now on")
            self._metadata = []
            return await self._again([_without_metadata(push)], further)
        if reading.kind == "too_long":
            return await self._again(self._cut_to(push, reading.max_line_bytes), further)
        if reading.kind == "too_many_streams" and len(push) == 1:
            return await self._again([self._regroup(push)], further)
        refused = set(reading.refused) | await self._again(reading.doubtful, further)
        low, high = 0, len(reading.by_age)
        while low < high:
            middle = (low + high) // 2
            stream, entry = reading.by_age[middle]
            if await self._again([{stream: [entry]}], further):
                low = middle + 1
            else:
                high = middle
        return refused | {entry.position for _, entry in reading.by_age[:low]}

    async def _again(self, parts: list[Push], further: Iterator[int]) -> set[int]:
        refused: set[int] = set()
        for part in parts:
            if next(further, None) is None:
                raise BatchRejectedError("Loki refuses records and does not say which")
            refused |= await self._push(part, further)
        return refused

    def _cut_to(self, push: Push, max_bytes: int) -> list[Push]:
        """Cut what Loki finds too long, as every later line, and send both parts again."""
        if max_bytes < MIN_LINE_BYTES:
            raise MisconfiguredError(f"Loki takes no line longer than {max_bytes} bytes; raise its max_line_size")
        if max_bytes < self.line_max_bytes:
            report(f"the Loki at {self.destination} takes no line longer than {max_bytes} bytes; they are cut to that")
            self.line_max_bytes = max_bytes
        cut = {
            stream: [
                entry._replace(line=shorten(entry.line, max_bytes)) for entry in entries if len(entry.line) > max_bytes
            ]
            for stream, entries in push.items()
        }
        long = {stream: entries for stream, entries in cut.items() if entries}
        if not long:
            raise BatchRejectedError("Loki says that a line is too long, and none is")
        others = {
            stream: short
            for stream, entries in push.items()
            if (short := [entry for entry in entries if len(entry.line) <= max_bytes])
        }
        return [others, long] if others else [long]  # of the others nothing was said, so that is asked

    def _regroup(self, push: Push) -> Push:
        """Put into one stream what would make a stream too many.

        Raises:
            MisconfiguredError: It does, even so.
        """
        ((stream, entries),) = push.items()
        if stream.is_overflow:
            raise MisconfiguredError("Loki takes no further stream; raise its max_streams_per_user", ambiguous=True)
        report(f"the Loki at {self.destination} takes no further stream; new ones share one from now on")
        other, pairs = self._opened_streams().spill(stream)
        return {other: [entry._replace(metadata=self._sent(entry.metadata + pairs)) for entry in entries]}

    async def _post(self, push: Push) -> Answer:
        headers: Headers = []
        if self._compress is not None:
            content = self._compress(protobuf_body(push))
            headers.append((b"Content-Type", b"application/x-protobuf"))
        else:
            content = json_body(push)
            headers += [(b"Content-Type", b"application/json"), (b"Content-Encoding", b"gzip")]
        if self.tenant is not None:
            headers.append((b"X-Scope-OrgID", self.tenant.encode()))
        return await self.send("POST", headers, content)

    def _prepare(self, batch: Batch) -> tuple[Push, int]:
        """Find the stream of each record, and what else Loki wants to know of it; return the size of all, too."""
        choose = self._opened_streams().choose
        longest, loads = self.line_max_bytes, orjson.loads
        label_fields = self.label_fields
        names, sent_as = [name for name, _ in self._metadata], [name for _, name in self._metadata]
        doubled = len(set(sent_as)) < len(sent_as)  # fields whose names become one
        push: Push = {}
        labels: tuple[Any, ...] | None = None
        known: tuple[Any, ...] | None = None  # what the record before had, as long as only equal texts are equal to it
        stream: Stream | None = None
        over: Pairs = ()
        same: Pairs = ()
        size = extra = 0
        entries: list[Entry] = []
        make = partial(tuple.__new__, Entry)  # a third of what calling Entry takes
        lines = batch.lines
        shown = self._formatter.lines(batch) if self.format != "json" else lines
        for position, at, line, form in zip(range(len(batch)), batch.timestamps_ns, lines, shown, strict=True):
            text = line.removesuffix(b"\n")
            try:
                get = loads(text).get
            except (orjson.JSONDecodeError, AttributeError):  # no object of JSON, which no log call makes
                text = text.decode("utf-8", "replace").encode()
                get = {"level": LEVEL_NAMES.get(batch[position].level)}.get
            if form is not line:
                text = form.removesuffix(b"\n")
            if len(text) > longest:
                text = shorten(text, longest)
            values = tuple(map(get, names))
            key = tuple(map(get, label_fields))
            if key != labels or values != known:
                stream, over = choose(dict(zip(label_fields, key, strict=True)))
                entries = push.setdefault(stream, [])
                same = tuple([pair for pair in zip(sent_as, map(_metadata, values), strict=True) if pair[1]])
                if over or doubled:
                    same = self._sent(same + over)
                extra = sum([len(name) + len(value.encode()) for name, value in same])
                labels = key if TEXTS.issuperset(map(type, key)) else None
                known = values if TEXTS.issuperset(map(type, values)) else None
            size += len(text) + extra
            entries.append(make((position, at, text, same)))
        return push, size

    def _sent(self, pairs: Pairs) -> Pairs:
        """Return what of structured metadata is to be sent, each name once."""
        return tuple(dict(pairs).items()) if self._metadata else ()

    def _opened_streams(self) -> Streams:
        """Return the streams of this process, which knows its slot with its first batch."""
        if self._streams is None:
            label = dict(self.label)
            if self.slot_label is not None:
                label = {self.slot_label: self._take_slot(), **label}
            self._streams = Streams(
                label, self.label_fields, max_values=self.label_max_values, max_streams=self.max_streams
            )
        return self._streams

    def _take_slot(self) -> str:
        """Claim the lowest free number; ``none`` where the processes cannot agree on one."""
        try:
            make_directory(self.slot_path, private=True)
            for number in range(_MAX_SLOTS):
                self._lock = FileLock.take(self.slot_path / f"{number}.lock")
                if self._lock is not None:
                    return str(number)
            why = f"{_MAX_SLOTS} processes have one each"
        except (OSError, ConfigurationError) as error:
            why = str(error)
        report(f"no slot for the Loki label {self.slot_label!r}: {why}", key="loki slot")
        return "none"

    def _find_snappy(self) -> Callable[[bytes], bytes] | None:
        if self.body == "json":
            return None
        return require_snappy() if self.body == "protobuf" else find_snappy()


def _metadata(value: Any) -> str:
    return "" if value is None else metadata_value(value)


def _without_metadata(push: Push) -> Push:
    return {stream: [entry._replace(metadata=()) for entry in entries] for stream, entries in push.items()}
