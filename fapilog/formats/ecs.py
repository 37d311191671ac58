"""A record with the names of the Elastic Common Schema, nested as its fields are.

https://www.elastic.co/docs/reference/ecs/ecs-field-reference. What it has no name for follows its advice on custom
fields: text is one of ``labels``, whose values are keywords; every other value keeps its type below a proper name,
``fapilog``, where it cannot clash with a field of today or of a later version.
"""

from typing import Any, Final

from fapilog.formats.fields import (
    add_rest,
    dump,
    duration_ns,
    is_access,
    is_duration,
    is_integer,
    named,
    nest,
    parse,
    take_nested,
)

VERSION: Final = "9.4.0"
"""The version of the schema that the names are from."""

_NAMES: Final = named(
    {
        "timestamp": "@timestamp",
        "level": "log.level",
        "event": "message",
        "logger": "log.logger",
        "id": "event.id",
        "service": "service.name",
        "version": "service.version",
        "env": "service.environment",
        "host": "host.name",
        "os_arch": "host.architecture",
        "os_version": "host.os.full",
        "pid": "process.pid",
        "process_name": "process.name",
        "thread_name": "process.thread.name",
        "container_id": "container.id",
        "k8s_cluster": "orchestrator.cluster.name",
        "k8s_namespace": "orchestrator.namespace",
        "k8s_pod": "orchestrator.resource.name",
        "code_file": "log.origin.file.name",
        "code_line": "log.origin.file.line",
        "code_function": "log.origin.function",
        "trace_id": "trace.id",
        "span_id": "span.id",
        "request_id": "http.request.id",
        "method": "http.request.method",
        "status_code": "http.response.status_code",
        "request_bytes": "http.request.body.bytes",
        "response_bytes": "http.response.body.bytes",
        "http_version": "http.version",
        "path": "url.path",
        "query": "url.query",
        "scheme": "url.scheme",
        "client_ip": "client.ip",
        "user_agent": "user_agent.original",
        "user_id": "user.id",
    }
)

_EXCEPTION: Final = ("error.type", "error.message", "error.stack_trace")


class Ecs:
    """The format called ``ecs``."""

    def __call__(self, line: bytes) -> bytes:
        """Return one record as a line of JSON with the schema's names."""
        record = parse(line)
        access = is_access(record)
        made = take_nested(record, _NAMES, _EXCEPTION)
        made["ecs"] = {"version": VERSION}
        if access and "span" in made:  # the span that serves a request is what APM calls its transaction
            made["transaction"] = {"id": made["span"]["id"]}
        if is_duration(record.get("duration_ms")):
            nest(made, "event.duration", duration_ns(record.pop("duration_ms")))
        if "orchestrator" in made:
            made["orchestrator"]["type"] = "kubernetes"
            if "resource" in made["orchestrator"]:
                made["orchestrator"]["resource"]["type"] = "pod"
        texts = {name: value for name, value in record.items() if type(value) is str}
        others = {name: value for name, value in record.items() if name not in texts}
        big: list[tuple[str, str]] = []
        if others:
            others = _undotted(others, (), big)
        labels: dict[str, Any] = _undotted(texts, (), big)
        add_rest(labels, big)
        if labels:
            made["labels"] = labels
        if others:
            made["fapilog"] = others
        return dump(made)


def _undotted(value: Any, path: tuple[str, ...], big: list[tuple[str, str]]) -> Any:
    """Put ``_`` for dots in names, at any depth: a dot makes an object, and Elasticsearch refuses some of those.

    It refuses integers of more than 63 bits as well: they go to *big*, with their path as a name, as text. A list has
    null in their place.
    """
    if type(value) is dict:
        made: dict[str, Any] = {}
        for name, item in value.items():
            key = name.replace(".", "_")
            kept = _undotted(item, (*path, key), big)
            if kept is not None or item is None:
                add_rest(made, [(key, kept)])
        return made
    if type(value) is list:
        return [_undotted(item, (*path, str(at)), big) for at, item in enumerate(value)]
    if type(value) is int and not is_integer(value):
        big.append(("_".join(path), str(value)))
        return None
    return value
