import base64
import re
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as incubating
from opentelemetry.semconv._incubating.attributes.host_attributes import HostArchValues

from tests.formats.records import ACCESS, BASE, ENRICHED, NAMED, ORDER, RECORDS, STATIC, as_json

# LogRecord of opentelemetry/proto/logs/v1/logs.proto in the JSON mapping of OTLP: 64 bits as text, enums as numbers,
# ids in hex.
LOG_RECORD: dict[str, Any] = {
    "timeUnixNano": r"\d{1,20}",
    "observedTimeUnixNano": r"\d{1,20}",
    "severityNumber": range(25),
    "severityText": r"(?s).*",
    "body": dict,
    "attributes": list,
    "flags": range(256),
    "traceId": r"[0-9a-f]{32}",
    "spanId": r"[0-9a-f]{16}",
}
ANY_VALUE: dict[str, type] = {
    "stringValue": str,
    "boolValue": bool,
    "intValue": str,
    "doubleValue": float,
    "arrayValue": dict,
    "kvlistValue": dict,
}
RESOURCE = {
    *(
        "service.name",
        "service.version",
        "service.instance.id",
        "deployment.environment.name",
        "host.name",
        "host.arch",
    ),
    *("process.pid", "process.executable.name", "process.runtime.name", "process.runtime.version", "os.description"),
    *("container.id", "k8s.cluster.name", "k8s.namespace.name", "k8s.node.name", "k8s.pod.name", "k8s.pod.uid"),
    *("k8s.pod.ip", "k8s.container.name", "vcs.ref.head.revision"),
}
ATTRIBUTES = {
    *("http.request.method", "url.path", "url.query", "url.scheme", "http.route", "http.response.status_code"),
    *("network.protocol.version", "http.request.body.size", "http.response.body.size", "client.address"),
    *("user_agent.original", "user.id", "exception.type", "exception.message", "exception.stacktrace"),
    *("thread.name", "code.file.path", "code.line.number", "code.function.name", "log.record.uid"),
}


def published() -> set[str]:
    """Return every attribute of the semantic conventions, as their own package has them."""
    import importlib
    import pkgutil

    found: set[str] = set()
    for package in (stable, incubating):
        for module in pkgutil.iter_modules(package.__path__):
            names = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
            found |= {value for name, value in names.items() if name.isupper() and isinstance(value, str)}
    return found


def unpack(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    unpacked: dict[str, Any] = {}
    for pair in pairs:
        assert set(pair) == {"key", "value"}
        assert pair["key"] not in unpacked
        unpacked[pair["key"]] = value_of(pair["value"])
    return unpacked


def value_of(value: dict[str, Any]) -> Any:
    """Return what an AnyValue stands for, and see that it is one."""
    if not value:
        return None
    ((kind, held),) = value.items()
    assert type(held) in ({float, int} if kind == "doubleValue" else {ANY_VALUE[kind]})
    if kind == "intValue":
        assert -(2**63) <= int(held) < 2**63
        return int(held)
    if kind == "arrayValue":
        assert set(held) == {"values"}
        return [value_of(item) for item in held["values"]]
    return unpack(held["values"]) if kind == "kvlistValue" else held


def check(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]:
    """Format a record, check the shape, and return resource, log record, attributes and scope."""
    made = as_json("otel", record)
    assert set(made) == {"resourceLogs"}
    (resource_logs,) = made["resourceLogs"]
    assert set(resource_logs) == {"resource", "scopeLogs"}
    (scope_logs,) = resource_logs["scopeLogs"]
    assert set(scope_logs) == {"scope", "logRecords"}
    (log_record,) = scope_logs["logRecords"]
    for name, value in log_record.items():
        wanted = LOG_RECORD[name]
        if isinstance(wanted, str):
            assert re.fullmatch(wanted, value), name
        else:
            assert value in wanted if isinstance(wanted, range) else type(value) is wanted, name
    value_of(log_record["body"])
    resource = unpack(resource_logs["resource"]["attributes"])
    assert set(resource) <= RESOURCE
    return resource, log_record, unpack(log_record["attributes"]), scope_logs["scope"]["name"]


def test_every_attribute_is_one_of_the_semantic_conventions() -> None:
    assert published() >= RESOURCE | ATTRIBUTES


def test_a_record_is_one_log_record_of_its_resource_and_scope() -> None:
    resource, made, attributes, scope = check(ORDER)
    assert scope == "shop.orders"
    assert resource == {
        "service.name": "shop",
        "service.version": "1.2.0",
        "service.instance.id": "00112233aabbccdd",
        "deployment.environment.name": "production",
        "host.name": "web-1",
        "process.pid": 4242,
    }
    assert made["timeUnixNano"] == "1795161600123456000"
    assert (made["severityNumber"], made["severityText"]) == (9, "info")
    assert made["body"] == {"stringValue": "order placed"}
    assert (made["traceId"], made["spanId"], made["flags"]) == (ORDER["trace_id"], ORDER["span_id"], 1)
    assert attributes == {
        "log.record.uid": STATIC["id"],
        "request_id": "req-1",
        "order_id": 7,
        "sku": "tea",
        "price": 12.5,
        "express": True,
        "note": None,
    }


def test_an_access_record_has_the_conventions_for_http_and_exceptions() -> None:
    attributes = check(ACCESS)[2]
    assert attributes["http.response.status_code"] == 500
    assert attributes["url.path"] == "/orders/7"
    assert attributes["http.route"] == "/orders/{order_id}"
    assert attributes["exception.type"] == "shop.errors.OutOfStock"
    assert attributes["exception.stacktrace"].startswith("Traceback")
    assert attributes["exception"] == {"module": "shop.errors"}
    assert {name for name in attributes if name not in ATTRIBUTES} == {"duration_ms", "request_id", "exception"}


def test_what_enrichers_add_is_the_resource_or_has_its_convention() -> None:
    resource, _, attributes, _ = check(ENRICHED)
    assert set(resource) == RESOURCE
    assert set(attributes) - ATTRIBUTES == {"task_name", "memory_mb", "cpu_percent"}


@pytest.mark.parametrize(
    ("machine", "said"), [("x86_64", "amd64"), ("AMD64", "amd64"), ("aarch64", "arm64"), ("s390x", "s390x")]
)
def test_processor_and_runtime_are_in_the_words_of_the_conventions(machine: str, said: str) -> None:
    resource, *_ = check({**BASE, "os_arch": machine, "python_implementation": "CPython"})
    assert (resource["host.arch"], resource["process.runtime.name"]) == (said, "cpython")
    assert said in {each.value for each in HostArchValues}


@pytest.mark.parametrize(
    ("level", "number"),
    [("trace", 1), ("debug", 5), ("info", 9), ("success", 10), ("warning", 13), ("error", 17), ("critical", 21)],
)
def test_a_level_is_in_the_range_of_its_severity(level: str, number: int) -> None:
    assert check({**BASE, "level": level})[1]["severityNumber"] == number


def test_a_user_s_path_is_no_path_of_a_request() -> None:
    assert check({**BASE, "path": "/tmp/x"})[2] == {"path": "/tmp/x"}


def test_an_integer_beyond_64_bits_with_sign_is_text() -> None:
    assert check({**BASE, "n": 2**63})[2] == {"n": str(2**63)}


def test_a_timestamp_that_is_none_is_an_attribute() -> None:
    _, made, attributes, _ = check({**BASE, "timestamp": "yesterday"})
    assert "timeUnixNano" not in made
    assert attributes == {"timestamp": "yesterday"}


@pytest.mark.parametrize("record", NAMED)
def test_no_known_record_breaks_the_shape(record: dict[str, Any]) -> None:
    check(record)


@pytest.mark.parametrize("record", NAMED)
def test_the_published_definitions_parse_it_without_an_unknown_field(record: dict[str, Any]) -> None:
    made = as_json("otel", record)
    log_record = made["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    for name in ("traceId", "spanId"):  # hex in OTLP, base64 in the JSON of protobuf
        if name in log_record:
            log_record[name] = base64.b64encode(bytes.fromhex(log_record[name])).decode()
    parsed = json_format.ParseDict(made, LogsData(), ignore_unknown_fields=False)
    (found,) = parsed.resource_logs[0].scope_logs[0].log_records
    assert found.body.string_value == record["event"]
    assert len(found.attributes) == len(log_record["attributes"])


@given(RECORDS)
def test_no_record_whatever_breaks_the_shape(record: dict[str, Any]) -> None:
    check(record)
