"""A record as Google Cloud Logging reads it from standard output, with the fields it lifts out of the payload.

https://cloud.google.com/logging/docs/structured-logging, the `LogEntry` and `HttpRequest` of its API, and
https://cloud.google.com/error-reporting/docs/formatting-error-messages.
"""

import os
from typing import Any, Final

from fapilog.formats.fields import (
    add_rest,
    dump,
    is_access,
    is_duration,
    is_flags,
    is_text,
    is_trace_id,
    named,
    parse,
    severity,
    take,
    take_exception,
)

_SEVERITY: Final = {
    "trace": "DEBUG",
    "debug": "DEBUG",
    "info": "INFO",
    "success": "NOTICE",
    "warning": "WARNING",
    "error": "ERROR",
    "critical": "CRITICAL",
}

_PROJECT_VARIABLES: Final = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT")
_AT: Final = "logging.googleapis.com/"

_REQUEST: Final = named(
    {
        "method": "requestMethod",
        "path": "requestUrl",
        "status_code": "status",
        "user_agent": "userAgent",
        "client_ip": "remoteIp",
    }
)
_SOURCE: Final = named(
    {
        "code_file": "file",
        "code_line": "line",
        "code_function": "function",
    }
)
_LABELS: Final = named(
    {
        name: name
        for name in ("logger", "env", "host", "request_id", "k8s_namespace", "k8s_pod", "k8s_node", "container_id")
    }
)
_IDS: Final = named({"id": f"{_AT}insertId", "span_id": f"{_AT}spanId"})

RESERVED: Final = frozenset(
    {"severity", "message", "time", "timestamp", "timestampSeconds", "timestampNanos", "httpRequest"}
    | {"serviceContext", "stack_trace", "@type", "context", "eventTime"}
    | {f"{_AT}{name}" for name in ("insertId", "labels", "operation", "sourceLocation", "spanId", "trace")}
    | {f"{_AT}{name}" for name in ("trace_sampled", "stack_trace")}
)
"""Names that mean something to Cloud Logging or Error Reporting; a field of the user's gets ``_`` appended."""

REPORTED: Final = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"


class Gcp:
    """The format called ``gcp``."""

    def __init__(self) -> None:
        """Read the project's id from the environment, for the full name of a trace."""
        project = next((os.environ[name] for name in _PROJECT_VARIABLES if os.environ.get(name)), "")
        self._traces = f"projects/{project}/traces/" if project else ""

    def __call__(self, line: bytes) -> bytes:
        """Return one record as a line of JSON for the logging agent."""
        record = parse(line)
        access = is_access(record)
        level = record.pop("level", None)
        made: dict[str, Any] = {
            "severity": severity(level, _SEVERITY, "DEFAULT"),
            "message": record.pop("event", ""),
            "time": record.pop("timestamp", None),
        }
        if level in ("trace", "success"):  # the two that Google has no name of its own for
            record["level"] = level
        made.update(take(record, _IDS))
        if is_trace_id(record.get("trace_id")):
            made[f"{_AT}trace"] = self._traces + record.pop("trace_id")
        if is_flags(record.get("trace_flags")):
            made[f"{_AT}trace_sampled"] = bool(int(record.pop("trace_flags"), 16) & 1)
        if access:
            made["httpRequest"] = _http_request(record)
        made[f"{_AT}labels"] = dict(take(record, _LABELS))
        source = dict(take(record, _SOURCE))
        if source:
            if "line" in source:
                source["line"] = str(source["line"])  # an int64 is text in their JSON
            made[f"{_AT}sourceLocation"] = source
        service = {name: record.pop(name) for name in ("service", "version") if is_text(record.get(name))}
        if "service" in service:
            made["serviceContext"] = service
        else:
            record.update(service)
        _add_error(made, record)
        add_rest(made, record.items(), RESERVED)
        return dump(made)


def _add_error(made: dict[str, Any], record: dict[str, Any]) -> None:
    """Add what Error Reporting groups by. It looks for a stack in ``stack_trace`` first."""
    error = take_exception(record, ("type", "message", "stack_trace"))
    if "stack_trace" in error:
        made["stack_trace"] = error.pop("stack_trace")
        if made["severity"] in ("ERROR", "CRITICAL"):
            made["@type"] = REPORTED
    if error:
        record["exception"] = {**error, **record.get("exception", {})}


def _http_request(record: dict[str, Any]) -> dict[str, Any]:
    request = dict(take(record, _REQUEST))
    if "requestUrl" in request and is_text(record.get("query")):
        request["requestUrl"] += f"?{record.pop('query')}"
    version = record.get("http_version")
    if is_text(version):
        request["protocol"] = f"HTTP/{record.pop('http_version')}"
    if is_duration(record.get("duration_ms")):
        request["latency"] = f"{record.pop('duration_ms') / 1_000:.9f}".rstrip("0").rstrip(".") + "s"
    return request
