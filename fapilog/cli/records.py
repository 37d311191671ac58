"""Show records of the store, as people or programs read them."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from fapilog.cli.terminal import screen

if TYPE_CHECKING:
    from fapilog.store import LogRecord

FORMATS: Final = ("pretty", "json", "csv", "datadog", "ecs", "gcp", "logfmt", "otel")
"""What a record can be shown as; a test holds this to what there is."""


class Shown:
    """Records on standard output, in one of the formats that sinks have too."""

    def __init__(self, form: str) -> None:
        """Show them in the format called *form*."""
        from fapilog.formats import Formatter  # noqa: PLC0415 - help and completion do without

        self._formatter = Formatter(form, screen())
        self._escapes = form != "pretty" and sys.stdout.isatty()  # pretty does so itself, and has colours
        self._header = self._formatter.header

    def show(self, records: "Iterable[LogRecord]") -> None:
        """Write *records*, and what comes before the first if the format has such a thing."""
        from fapilog.formats import escape  # noqa: PLC0415 - as above
        from fapilog.types import Batch  # noqa: PLC0415 - as above

        lines = self._formatter.lines(Batch([(0, 0, line_of(record.flat())) for record in records]))
        if not lines:
            return
        if self._escapes:
            lines = [escape(line.decode("utf-8", "replace").rstrip("\r\n")).encode() + b"\n" for line in lines]
        out = sys.stdout.buffer
        out.write(self._header + b"".join(lines))
        self._header = b""
        out.flush()


def line_of(record: dict[str, Any]) -> bytes:
    """Encode a record that the store gave, with what could control a terminal escaped."""
    from fapilog.encoding import encode, plain_fields  # noqa: PLC0415 - as above
    from fapilog.formats.escaping import json_text  # noqa: PLC0415 - as above

    try:
        return json_text(record).encode() + b"\n"
    except TypeError:  # a number beyond 64 bits, which only the standard library reads
        return encode(plain_fields(record)) + b"\n"
