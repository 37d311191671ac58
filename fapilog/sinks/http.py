"""Send records to any HTTP server, one a line or as a JSON array."""

import gzip
import hashlib
import hmac
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, InstanceOf, SecretStr
from pydantic.dataclasses import dataclass

from fapilog.formats import JSON_LINES, FormatName, Formatter
from fapilog.plugins import OPTIONS
from fapilog.transport.client import Headers
from fapilog.transport.options import HeaderName, HeaderSecret
from fapilog.transport.sink import NetworkSink
from fapilog.types import Batch

_GZIP_LEVEL = 1


def _numbers(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


@dataclass(config=OPTIONS, kw_only=True)
class HttpSink(NetworkSink):
    """Send each batch as the body of one request.

    A batch that was not accepted is sent again as it was, with the same ``Idempotency-Key``, so that the far end can
    tell if it has it already. Only where some of its records are given up for want of room, and where the next process
    sends what this one left in the spool, is it another batch. What the answers mean is a table in
    `fapilog.transport.answer`.
    """

    method: Literal["POST", "PUT"] = "POST"
    """How to send."""

    format: Literal["jsonl", "array"] = "jsonl"
    """How the body looks: one record a line, or one JSON array."""

    record_format: FormatName = "json"
    """How each record looks: json; the names of another system: ecs, datadog, gcp, otel; logfmt; csv; a template; a
    function that is given a record as a dict, or its ``module:function``. Only JSON can be in an array."""

    compression: Literal["gzip", "none"] = "gzip"
    """How the body is compressed."""

    api_key: HeaderSecret | None = None
    """A key that is sent in a header of its own."""

    api_key_header: HeaderName = "X-API-Key"
    """The name of that header."""

    hmac_secret: SecretStr | None = None
    """A secret that each body is signed with: ``sha256=`` and the HMAC-SHA256 in hex of the body as it is sent, that
    is compressed."""

    hmac_header: HeaderName = "X-Signature"
    """The name of the header that holds the signature."""

    success_status: Annotated[list[int], BeforeValidator(_numbers)] | None = None
    """The statuses that mean a batch was accepted; None means any from 200 to 299."""

    _formatter: InstanceOf[Formatter] = field(
        default_factory=lambda: Formatter("json"), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._formatter = Formatter(self.record_format)
        if self.format == "array" and self._formatter.media_type != JSON_LINES:
            raise ValueError(f"an array holds JSON, which {self._formatter.name} is not; use the format 'jsonl'")

    @property
    def unformatted(self) -> int:
        """How many records were written as JSON because the format could not hold them."""
        return self._formatter.failed

    async def write(self, batch: Batch) -> None:
        """Send *batch* and return when it was accepted.

        Raises:
            DeliveryError: If it was not.
        """
        key = hashlib.sha256(batch.payload).hexdigest()
        lines = self._formatter.lines(batch)
        if self.format == "array":
            content, kind = b"[" + b",".join(lines) + b"]", "application/json"
        else:
            content, kind = self._formatter.header + b"".join(lines), self._formatter.media_type
        headers: Headers = [(b"Content-Type", kind.encode()), (b"Idempotency-Key", key.encode())]
        if self.compression == "gzip":
            content = gzip.compress(content, _GZIP_LEVEL, mtime=0)  # no time in it: the same batch, the same bytes
            headers.append((b"Content-Encoding", b"gzip"))
        if self.api_key is not None:
            headers.append((self.api_key_header.encode(), self.api_key.get_secret_value().encode()))
        if self.hmac_secret is not None:
            signature = hmac.new(self.hmac_secret.get_secret_value().encode(), content, hashlib.sha256).hexdigest()
            headers.append((self.hmac_header.encode(), b"sha256=" + signature.encode()))
        answer = await self.send(self.method, headers, content)
        answer.check(self.success_status)

    def _authenticates(self) -> list[str]:
        return super()._authenticates() + (["api_key"] if self.api_key is not None else [])
