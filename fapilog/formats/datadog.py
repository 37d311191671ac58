"""A record with the reserved and standard attributes of Datadog.

https://docs.datadoghq.com/logs/log_configuration/attributes_naming_convention/, and for the ids
https://docs.datadoghq.com/opentelemetry/correlate/logs_and_traces/: Datadog's own are the lower 64 bits as a decimal
number.
"""

from typing import Final

from fapilog.formats.fields import (
    add_rest,
    dump,
    duration_ns,
    is_duration,
    is_span_id,
    is_text,
    is_trace_id,
    named,
    parse,
    take_nested,
)

_NAMES: Final = named(
    {
        "timestamp": "timestamp",
        "level": "status",
        "event": "message",
        "logger": "logger.name",
        "thread_name": "logger.thread_name",
        "code_function": "logger.method_name",
        "service": "service",
        "env": "env",
        "version": "version",
        "host": "host",
        "method": "http.method",
        "status_code": "http.status_code",
        "user_agent": "http.useragent",
        "http_version": "http.version",
        "request_id": "http.request_id",
        "scheme": "http.url_details.scheme",
        "path": "http.url_details.path",
        "client_ip": "network.client.ip",
        "user_id": "usr.id",
    }
)

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
        made = take_nested(record, _NAMES, _EXCEPTION)
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
        add_rest(made, record.items(), RESERVED)
        return dump(made)
