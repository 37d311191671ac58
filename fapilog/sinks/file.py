"""Append records to a file, as JSON lines or in another format, and put it aside when it is full or old."""

import json
import re
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal

from pydantic import AfterValidator, BeforeValidator, PositiveFloat
from pydantic.dataclasses import dataclass

from fapilog.files.compression import parse_compression
from fapilog.files.keeper import Keeper
from fapilog.files.names import Names
from fapilog.files.retention import Retention
from fapilog.files.rotation import Rotation
from fapilog.files.shared import SharedFile
from fapilog.formats import FormatName, Formatter
from fapilog.plugins import OPTIONS, function_at
from fapilog.types import Batch

_BATCH_BYTES: Final = 512 * 1024
"""How large a batch may be. Each of the few system calls for one may cost a turn at the interpreter's lock, so a larger
batch is quicker where records come faster than they are written."""

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _found(value: Any) -> Any:
    """Read what a variable or a URI can hold: a list as JSON, and functions by their ``module:name``."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f'{value!r} is not JSON; write ["100 MB", "daily"]') from None
    if isinstance(value, list | tuple):
        return [_found(item) for item in value]
    return function_at(value) if isinstance(value, str) and _FUNCTION.fullmatch(value) else value


def _rotation(value: Any) -> Any:
    value = _found(value)
    Rotation.parse(value)  # before a type is looked for: a bool would become a number, and a number a duration
    return value


def _retention(value: Any) -> Any:
    value = _found(value)
    Retention.parse(value)
    return value


def _text(value: Any) -> Any:
    value = _found(value)
    if value is not None and not callable(value):
        raise ValueError(f"{value!r} is no function; give one that takes a path, or its 'module:function'")
    return value


RotationRule = str | int | float | timedelta | time | Callable[[str, BinaryIO], bool]
RetentionRule = str | int | timedelta | Callable[[list[Path]], object]
Text = Callable[[Path], str | bytes]


@dataclass(config=OPTIONS, kw_only=True)
class FileSink:
    """Append each record as one line to a regular file, which any number of processes may share."""

    path: Path
    """The file. It is created with mode 0600, its directory with 0700; a symbolic link is not followed. ``{pid}`` and
    ``{service}`` stand for the process id and the setting, ``{date}`` in the file's name for the day in local time."""

    format: FormatName = "json"
    """json; pretty for a person; logfmt; csv; the names of another system: otel, ecs, gcp, datadog; a template such as
    ``{timestamp} {level:8} {event}``; a function that is given a record as a dict, or its ``module:function``."""

    rotation: Annotated[RotationRule | list[RotationRule] | None, BeforeValidator(_rotation)] = None
    """When to put the file aside and begin a new one: a size (``500 MB``), an interval (``1 hour``), ``hourly``,
    ``daily``, ``weekly``, ``monthly``, ``yearly``, a time of day (``00:00``), a weekday (``monday 12:00``), a function
    ``(text, file) -> bool`` or its ``module:name``, or a list of these. None means never."""

    retention: Annotated[RetentionRule | list[RetentionRule] | None, BeforeValidator(_retention)] = None
    """Which files that were put aside to keep: a count (``10 files``), an age (``7 days``), a total size (``2 GB``), a
    function that is given their paths and removes some, or its ``module:name``, or a list of these. None means all."""

    compression: Annotated[str | None, AfterValidator(parse_compression)] = None
    """How to compress files that were put aside, beside the writing: ``gz``, ``bz2``, ``zip``, ``xz`` or ``zstd``."""

    fsync: Literal["never", "interval", "batch"] = "never"
    """When to bring what was written to the disk itself, so that a power cut does not lose it. ``never`` leaves that to
    the system and to `flush`; ``interval`` does it beside the writing; ``batch`` before a batch counts as delivered."""

    fsync_interval_seconds: PositiveFloat = 1.0
    """How long ``interval`` is."""

    header: Annotated[Text | None, BeforeValidator(_text)] = None
    """A function that is given the path of a new file and returns what it begins with, or its ``module:name``."""

    footer: Annotated[Text | None, BeforeValidator(_text)] = None
    """A function that is given the path of a file that is being put aside and returns what it ends with, or its
    ``module:name``."""

    service: str | None = None
    """What ``{service}`` stands for; None means FAPILOG_SERVICE."""

    def __post_init__(self) -> None:
        """Read the options, and fix the path now: each fork and each rotation opens it again, wherever that is."""
        self._formatter = Formatter(self.format)
        if "\0" in str(self.path):
            raise ValueError(f"the path {str(self.path)!r} holds a NUL, which no path does")
        try:
            self.path = self.path.expanduser().absolute()
        except RuntimeError:
            raise ValueError(f"the path {str(self.path)!r} begins with the home of a user there is not") from None
        names = Names(self.path, service=self.service)
        rotation = Rotation.parse(self.rotation)
        self._keeper = Keeper(
            names,
            retention=Retention.parse(self.retention),
            compression=self.compression,
            rotates=rotation.is_set,
            sync_seconds=float(self.fsync_interval_seconds) if self.fsync == "interval" else None,
        )
        kept = self._keeper.has_work
        self._file = self._keeper.file = SharedFile(
            names,
            rotation=rotation,
            header=self._header if self.header or self._formatter.header else None,
            footer=self.footer,
            put_aside=self._keeper.wake if kept else None,
            settle=self._keeper.settle if kept else None,
        )
        self._durable = self.fsync == "batch"
        # Small enough to fill a file nearly to its size.
        self.default_batch_max_bytes = max(1, min(_BATCH_BYTES, (rotation.max_bytes or 8 * _BATCH_BYTES) // 8))

    def _header(self, path: Path) -> bytes:
        """Return what a new file begins with: the user's text, and the names of the columns if the format has them."""
        said = self.header(path) if self.header else b""
        return (said.encode() if isinstance(said, str) else said) + (self._formatter.header or b"")

    @property
    def unformatted(self) -> int:
        """How many records were written as JSON because the format could not hold them."""
        return self._formatter.failed

    def open(self) -> None:
        """See that the file can be written.

        Raises:
            OSError: If it cannot be opened for appending.
            ConfigurationError: If it is not a regular file, or cannot be rotated here.
        """
        self._file.open()

    def start(self) -> None:
        """Start the thread that compresses and retains, if there is anything for it to do."""
        self._keeper.start()

    def write(self, batch: Batch) -> None:
        """Append all lines of *batch*. If the file was moved or deleted since, a new one is made.

        Raises:
            OSError: If the disk does not take them; then nothing of the batch is left in the file.
            BatchTooLargeError: If it is larger than a file may become.
        """
        payload = self._formatter.payload(batch)
        self._file.write(payload, divisible=len(batch) > 1, durable=self._durable)

    def flush(self) -> None:
        """Make everything written durable."""
        self._keeper.settle_all()
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._keeper.close()
        self._file.close()
