"""A record with the names of the Elastic Common Schema, nested as its fields are.

https://www.elastic.co/docs/reference/ecs/ecs-field-reference. What it has no name for follows its advice on custom
fields: text is one of ``labels``, whose values are keywords; every other value keeps its type below a proper name,
``fapilog``, where it cannot clash with a field of today or of a later version.
"""

from typing import Any, Final

from fapilog.formats.fields import (
    Names,
    add_rest,
    dump,
    duration_ns,
    is_access,
    is_address,
    is_duration,
    is_integer,
    is_span_id,
    is_status,
    is_text,
    is_trace_id,
    nest,
    parse,
    take,
    take_exception,
)

VERSION: Final = "9.4.0"
"""The version of the schema that the names are from."""

_NAMES: Final[Names] = {
    "timestamp": ("@timestamp", is_text),
    "level": ("log.level", is_text),
    "event": ("message", is_text),
    "logger": ("log.logger", is_text),
    "id": ("event.id", is_text),
    "service": ("service.name", is_text),
    "version": ("service.version", is_text),
    "env": ("service.environment", is_text),
    "host": ("host.name", is_text),
    "os_arch": ("host.architecture", is_text),
    "os_version": ("host.os.full", is_text),
    "pid": ("process.pid", is_integer),
    "process_name": ("process.name", is_text),
    "thread_name": ("process.thread.name", is_text),
    "container_id": ("container.id", is_text),
    "k8s_cluster": ("orchestrator.cluster.name", is_text),
    "k8s_namespace": ("orchestrator.namespace", is_text),
    "k8s_pod": ("orchestrator.resource.name", is_text),
    "code_file": ("log.origin.file.name", is_text),
    "code_line": ("log.origin.file.line", is_integer),
    "code_function": ("log.origin.function", is_text),
    "trace_id": ("trace.id", is_trace_id),
    "span_id": ("span.id", is_span_id),
    "request_id": ("http.request.id", is_text),
    "method": ("http.request.method", is_text),
    "status_code": ("http.response.status_code", is_status),
    "request_bytes": ("http.request.body.bytes", is_integer),
    "response_bytes": ("http.response.body.bytes", is_integer),
    "http_version": ("http.version", is_text),
    "path": ("url.path", is_text),
    "query": ("url.query", is_text),
    "scheme": ("url.scheme", is_text),
    "client_ip": ("client.ip", is_address),
    "user_agent": ("user_agent.original", is_text),
    "user_id": ("user.id", is_text),
}

_EXCEPTION: Final = ("error.type", "error.message", "error.stack_trace")


class Ecs:
    """The format called ``ecs``."""

    def __call__(self, line: bytes) -> bytes:
        """Return one record as a line of JSON with the schema's names."""
        record = parse(line)
        access = is_access(record)
        made: dict[str, Any] = {}
        for name, value in take(record, _NAMES):
            nest(made, name, value)
        made["ecs"] = {"version": VERSION}
        if access and "span" in made:  # the span that serves a request is what APM calls its transaction
            made["transaction"] = {"id": made["span"]["id"]}
        if is_duration(record.get("duration_ms")):
            nest(made, "event.duration", duration_ns(record.pop("duration_ms")))
        if "orchestrator" in made:
            made["orchestrator"]["type"] = "kubernetes"
            if "resource" in made["orchestrator"]:
                made["orchestrator"]["resource"]["type"] = "pod"
        for name, said in take_exception(record, _EXCEPTION).items():
            nest(made, name, said)
        texts = {name: value for name, value in record.items() if type(value) is str}
        if texts:
            made["labels"] = _undotted(texts)
        if len(texts) < len(record):
            made["fapilog"] = _undotted({name: value for name, value in record.items() if name not in texts})
        return dump(made)


def _undotted(value: Any) -> Any:
    """Put ``_`` for dots in names, at any depth: a dot makes an object, and Elasticsearch refuses some of those."""
    if type(value) is dict:
        made: dict[str, Any] = {}
        add_rest(made, ((name.replace(".", "_"), _undotted(item)) for name, item in value.items()))
        return made
    return [_undotted(item) for item in value] if type(value) is list else value
