"""A record as OpenTelemetry's OTLP/JSON, one `LogsData` object a line, as its file exporter writes and collectors read.

https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/,
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/logs/v1/logs.proto and
https://opentelemetry.io/docs/specs/semconv/ for the names of attributes.
"""

from collections.abc import Iterable
from typing import Any, Final

from fapilog.formats.fields import (
    add_rest,
    dump,
    is_flags,
    is_integer,
    is_text,
    named,
    nanoseconds,
    parse,
    severity,
    take,
    take_exception,
)

_SEVERITY: Final = {"trace": 1, "debug": 5, "info": 9, "success": 10, "warning": 13, "error": 17, "critical": 21}

_RESOURCE: Final = named(
    {
        "service": "service.name",
        "version": "service.version",
        "env": "deployment.environment.name",
        "host": "host.name",
        "pid": "process.pid",
        "process_name": "process.executable.name",
        "python_implementation": "process.runtime.name",
        "python_version": "process.runtime.version",
        "os_version": "os.description",
        "os_arch": "host.arch",
        "git_commit": "vcs.ref.head.revision",
        "container_id": "container.id",
        "k8s_cluster": "k8s.cluster.name",
        "k8s_namespace": "k8s.namespace.name",
        "k8s_node": "k8s.node.name",
        "k8s_pod": "k8s.pod.name",
        "k8s_pod_uid": "k8s.pod.uid",
        "k8s_pod_ip": "k8s.pod.ip",
        "k8s_container": "k8s.container.name",
    }
)

_ATTRIBUTES: Final = named(
    {
        "method": "http.request.method",
        "path": "url.path",
        "query": "url.query",
        "scheme": "url.scheme",
        "route": "http.route",
        "status_code": "http.response.status_code",
        "http_version": "network.protocol.version",
        "request_bytes": "http.request.body.size",
        "response_bytes": "http.response.body.size",
        "client_ip": "client.address",
        "user_agent": "user_agent.original",
        "user_id": "user.id",
        "thread_name": "thread.name",
        "code_file": "code.file.path",
        "code_line": "code.line.number",
        "code_function": "code.function.name",
    },
    client_ip=is_text,  # or the path of a socket
)

_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv6l": "arm32",
    "armv7l": "arm32",
    "armv8l": "arm32",
    "i386": "x86",
    "i686": "x86",
    "ppc": "ppc32",
    "ppc64le": "ppc64",
}
"""What the conventions call processors that Python, or the system, has another name for."""

_IDS: Final = named({"trace_id": "traceId", "span_id": "spanId"})
_EXCEPTION: Final = ("exception.type", "exception.message", "exception.stacktrace")


class Otel:
    """The format called ``otel``."""

    def __call__(self, line: bytes) -> bytes:
        """Return one record as a line of OTLP/JSON."""
        record = parse(line)
        resource: dict[str, Any] = {"service.name": "unknown_service"}  # what the specification has for one without
        resource.update(take(record, _RESOURCE))
        if "host.arch" in resource:
            said = resource["host.arch"].lower()
            resource["host.arch"] = _ARCHITECTURES.get(said, said)
        if "process.runtime.name" in resource:  # as `sys.implementation.name` has it
            resource["process.runtime.name"] = resource["process.runtime.name"].lower()
        made: dict[str, Any] = {}
        time = nanoseconds(record.get("timestamp"))
        if time is not None:
            del record["timestamp"]
            made["timeUnixNano"] = made["observedTimeUnixNano"] = str(time)
        level = record.pop("level", None)
        made["severityNumber"] = severity(level, _SEVERITY, 0)
        made["severityText"] = str(level)
        made["body"] = _value(record.pop("event", ""))
        made.update(take(record, _IDS))
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
