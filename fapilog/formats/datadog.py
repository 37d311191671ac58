"""A record with the reserved and standard attributes of Datadog.

https://docs.datadoghq.com/logs/log_configuration/attributes_naming_convention/, and for the ids
https://docs.datadoghq.com/opentelemetry/correlate/logs_and_traces/: Datadog's own are the lower 64 bits as a decimal
number.
"""

from typing import Any, Final

from fapilog.formats.fields import (
    Names,
    add_rest,
    dump,
    duration_ns,
    is_address,
    is_duration,
    is_span_id,
    is_status,
    is_text,
    is_trace_id,
    nest,
    parse,
    take,
    take_exception,
)

_NAMES: Final[Names] = {
    "timestamp": ("timestamp", is_text),
    "level": ("status", is_text),
    "event": ("message", is_text),
    "logger": ("logger.name", is_text),
    "thread_name": ("logger.thread_name", is_text),
    "code_function": ("logger.method_name", is_text),
    "service": ("service", is_text),
    "env": ("env", is_text),
    "version": ("version", is_text),
    "host": ("host", is_text),
    "method": ("http.method", is_text),
    "status_code": ("http.status_code", is_status),
    "user_agent": ("http.useragent", is_text),
    "http_version": ("http.version", is_text),
    "request_id": ("http.request_id", is_text),
    "scheme": ("http.url_details.scheme", is_text),
    "path": ("http.url_details.path", is_text),
    "client_ip": ("network.client.ip", is_address),
    "user_id": ("usr.id", is_text),
}

_EXCEPTION: Final = ("error.kind", "error.message", "error.stack")
_LOWER_64: Final = 2**64 - 1

RESERVED: Final = frozenset(
    {"timestamp", "status", "message", "service", "env", "version", "host", "source", "ddsource", "ddtags", "date"}
    | {"logger", "http", "network", "usr", "error", "dd", "duration", "level", "severity", "syslog"}
)
"""Names that mean something to Datadog; a field of the user's gets ``_`` appended."""


class Datadog:
    """The format called ``datadog``."""

    def __call__(self, line: bytes) -> bytes:
        """Return one record as a line of JSON with Datadog's names."""
        record = parse(line)
        made: dict[str, Any] = {}
        for name, value in take(record, _NAMES):
            nest(made, name, value)
        if "http" in made and "url_details" in made["http"]:
            details = made["http"]["url_details"]
            if "path" in details:
                query = record.get("query")
                made["http"]["url"] = details["path"] + (f"?{record.pop('query')}" if is_text(query) else "")
        ids = {}
        if is_trace_id(record.get("trace_id")):  # these stay as well: they are what other systems know
            ids["trace_id"] = str(int(record["trace_id"], 16) & _LOWER_64)
        if is_span_id(record.get("span_id")):
            ids["span_id"] = str(int(record["span_id"], 16))
        if ids:
            made["dd"] = {**ids, **{name: made[name] for name in ("service", "env", "version") if name in made}}
        if is_duration(record.get("duration_ms")):
            made["duration"] = duration_ns(record.pop("duration_ms"))
        for name, said in take_exception(record, _EXCEPTION).items():
            nest(made, name, said)
        add_rest(made, record.items(), RESERVED)
        return dump(made)
