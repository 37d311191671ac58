"""A record as OpenTelemetry's OTLP/JSON, one `LogsData` object a line, as its file exporter writes and collectors read.

https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/,
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/logs/v1/logs.proto and
https://opentelemetry.io/docs/specs/semconv/ for the names of attributes.
"""

from collections.abc import Iterable
from typing import Any, Final

from fapilog.formats.fields import (
    Names,
    add_rest,
    dump,
    is_flags,
    is_integer,
    is_span_id,
    is_status,
    is_text,
    is_trace_id,
    nanoseconds,
    parse,
    take,
    take_exception,
)

_SEVERITY: Final = {"trace": 1, "debug": 5, "info": 9, "success": 10, "warning": 13, "error": 17, "critical": 21}

_RESOURCE: Final[Names] = {
    "service": ("service.name", is_text),
    "version": ("service.version", is_text),
    "env": ("deployment.environment.name", is_text),
    "host": ("host.name", is_text),
    "pid": ("process.pid", is_integer),
    "process_name": ("process.executable.name", is_text),
    "python_implementation": ("process.runtime.name", is_text),
    "python_version": ("process.runtime.version", is_text),
    "os_version": ("os.description", is_text),
    "os_arch": ("host.arch", is_text),
    "git_commit": ("vcs.ref.head.revision", is_text),
    "container_id": ("container.id", is_text),
    "k8s_cluster": ("k8s.cluster.name", is_text),
    "k8s_namespace": ("k8s.namespace.name", is_text),
    "k8s_node": ("k8s.node.name", is_text),
    "k8s_pod": ("k8s.pod.name", is_text),
    "k8s_pod_uid": ("k8s.pod.uid", is_text),
    "k8s_pod_ip": ("k8s.pod.ip", is_text),
    "k8s_container": ("k8s.container.name", is_text),
}

_ATTRIBUTES: Final[Names] = {
    "method": ("http.request.method", is_text),
    "path": ("url.path", is_text),
    "query": ("url.query", is_text),
    "scheme": ("url.scheme", is_text),
    "route": ("http.route", is_text),
    "status_code": ("http.response.status_code", is_status),
    "http_version": ("network.protocol.version", is_text),
    "request_bytes": ("http.request.body.size", is_integer),
    "response_bytes": ("http.response.body.size", is_integer),
    "client_ip": ("client.address", is_text),
    "user_agent": ("user_agent.original", is_text),
    "user_id": ("user.id", is_text),
    "thread_name": ("thread.name", is_text),
    "code_file": ("code.file.path", is_text),
    "code_line": ("code.line.number", is_integer),
    "code_function": ("code.function.name", is_text),
}

_EXCEPTION: Final = ("exception.type", "exception.message", "exception.stacktrace")


class Otel:
    """The format called ``otel``."""

    def __call__(self, line: bytes) -> bytes:
        """Return one record as a line of OTLP/JSON."""
        record = parse(line)
        resource: dict[str, Any] = {"service.name": "unknown_service"}  # what the specification has for one without
        resource.update(take(record, _RESOURCE))
        made: dict[str, Any] = {}
        time = nanoseconds(record.get("timestamp"))
        if time is not None:
            del record["timestamp"]
            made["timeUnixNano"] = made["observedTimeUnixNano"] = str(time)
        level = record.pop("level", None)
        made["severityNumber"] = _SEVERITY.get(level, 0) if type(level) is str else 0
        made["severityText"] = str(level)
        made["body"] = _value(record.pop("event", ""))
        for name, theirs, fits in _IDS:
            if name in record and fits(record[name]):
                made[theirs] = record.pop(name)
        if is_flags(record.get("trace_flags")):
            made["flags"] = int(record.pop("trace_flags"), 16)
        attributes = dict(take(record, _ATTRIBUTES))
        scope = record.pop("logger", "")
        identity = record.pop("id", None)
        if type(identity) is str:
            attributes["log.record.uid"] = identity
            resource["service.instance.id"] = identity.partition("-")[0]
        attributes |= take_exception(record, _EXCEPTION)
        add_rest(attributes, record.items())
        made["attributes"] = _pairs(attributes.items())
        return dump(
            {
                "resourceLogs": [
                    {
                        "resource": {"attributes": _pairs(resource.items())},
                        "scopeLogs": [{"scope": {"name": str(scope)}, "logRecords": [made]}],
                    }
                ]
            }
        )


_IDS: Final = (("trace_id", "traceId", is_trace_id), ("span_id", "spanId", is_span_id))


def _pairs(items: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in items]


def _value(value: Any) -> dict[str, Any]:
    """Return a value as an `AnyValue`; null is the empty one, and an integer of 64 bits is text in JSON."""
    kind = type(value)
    if kind is str:
        return {"stringValue": value}
    if kind is bool:
        return {"boolValue": value}
    if kind is int:
        return {"intValue" if is_integer(value) else "stringValue": str(value)}
    if kind is float:
        return {"doubleValue": value}
    if kind is list:
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if kind is dict:
        return {"kvlistValue": {"values": _pairs(value.items())}}
    return {}
