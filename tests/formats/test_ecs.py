import re
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given

from fapilog.formats.ecs import VERSION
from tests.formats.records import ACCESS, BASE, ENRICHED, NAMED, ODD_TEXTS, ORDER, RECORDS, as_json, canonical

# generated/csv/fields.csv of elastic/ecs, v9.4.0: the fields we write, with their types.
PUBLISHED = {
    "@timestamp": "date",
    "message": "match_only_text",
    "ecs.version": "keyword",
    "client.ip": "ip",
    "container.id": "keyword",
    "error.message": "match_only_text",
    "error.stack_trace": "wildcard",
    "error.type": "keyword",
    "event.duration": "long",
    "event.id": "keyword",
    "host.architecture": "keyword",
    "host.name": "keyword",
    "host.os.full": "keyword",
    "http.request.body.bytes": "long",
    "http.request.id": "keyword",
    "http.request.method": "keyword",
    "http.response.body.bytes": "long",
    "http.response.status_code": "long",
    "http.version": "keyword",
    "log.level": "keyword",
    "log.logger": "keyword",
    "log.origin.file.line": "long",
    "log.origin.file.name": "keyword",
    "log.origin.function": "keyword",
    "orchestrator.cluster.name": "keyword",
    "orchestrator.namespace": "keyword",
    "orchestrator.resource.name": "keyword",
    "orchestrator.resource.type": "keyword",
    "orchestrator.type": "keyword",
    "process.name": "keyword",
    "process.pid": "long",
    "process.thread.name": "keyword",
    "service.environment": "keyword",
    "service.name": "keyword",
    "service.version": "keyword",
    "span.id": "keyword",
    "trace.id": "keyword",
    "transaction.id": "keyword",
    "url.path": "wildcard",
    "url.query": "keyword",
    "url.scheme": "keyword",
    "user.id": "keyword",
    "user_agent.original": "keyword",
}


def fits(value: Any, kind: str) -> bool:
    if kind == "long":
        return type(value) is int and -(2**63) <= value < 2**63
    if kind == "date":
        return datetime.fromisoformat(value).tzinfo is not None
    if kind == "ip":
        return bool(ip_address(value))
    return type(value) is str


def leaves(made: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in made.items():
        if type(value) is dict:
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def has_a_dot(value: Any) -> bool:
    if type(value) is dict:
        return any("." in name or not name or has_a_dot(item) for name, item in value.items())
    return type(value) is list and any(has_a_dot(item) for item in value)


def is_indexed(value: Any) -> bool:
    """Tell whether Elasticsearch takes every integer for the `long` that it makes of one."""
    if type(value) in (dict, list):
        return all(map(is_indexed, value.values() if type(value) is dict else value))
    return type(value) is not int or -(2**63) <= value < 2**63


def check(record: dict[str, Any]) -> dict[str, Any]:
    made = as_json("ecs", record)
    custom = made.pop("fapilog", {})
    labels = made.pop("labels", {})
    assert all(type(value) is str and name and "." not in name for name, value in labels.items())
    assert not has_a_dot(custom)
    assert is_indexed(custom)
    for name, value in leaves(made):
        assert fits(value, PUBLISHED[name]), name
    return {**made, "labels": labels, "fapilog": custom}


def test_a_record_has_the_core_fields() -> None:
    assert check(ORDER) == {
        "@timestamp": "2026-11-20T08:00:00.123456Z",
        "message": "order placed",
        "ecs": {"version": VERSION},
        "log": {"level": "info", "logger": "shop.orders"},
        "trace": {"id": ORDER["trace_id"]},
        "span": {"id": ORDER["span_id"]},
        "http": {"request": {"id": "req-1"}},
        "service": {"name": "shop", "environment": "production", "version": "1.2.0"},
        "host": {"name": "web-1"},
        "process": {"pid": 4242},
        "event": {"id": ORDER["id"]},
        "labels": {"trace_flags": "01", "sku": "tea"},
        "fapilog": {"order_id": 7, "price": 12.5, "express": True, "note": None},
    }


def test_an_access_record_is_a_request_with_its_duration_in_nanoseconds() -> None:
    made = check(ACCESS)
    assert made["event"]["duration"] == 12_345_000
    assert made["transaction"] == made["span"]
    assert made["http"]["response"] == {"status_code": 500, "body": {"bytes": 21}}
    assert made["url"] == {"path": "/orders/7", "query": "full=1", "scheme": "https"}
    assert made["client"] == {"ip": "10.0.0.8"}
    assert made["error"] == {
        "type": "shop.errors.OutOfStock",
        "message": "no tea",
        "stack_trace": ACCESS["exception"]["stacktrace"],
    }
    assert made["fapilog"] == {"exception": {"module": "shop.errors"}}
    assert made["labels"] == {"route": "/orders/{order_id}", "trace_flags": "01"}


def test_what_enrichers_add_has_its_field_or_stays_custom() -> None:
    made = check(ENRICHED)
    assert made["orchestrator"] == {
        "type": "kubernetes",
        "namespace": "shop",
        "cluster": {"name": "west"},
        "resource": {"type": "pod", "name": "shop-5d9c"},
    }
    assert made["log"]["origin"] == {"file": {"name": "shop/orders.py", "line": 17}, "function": "place"}
    assert made["fapilog"] == {"memory_mb": 81.5, "cpu_percent": 3.0}


def test_a_value_that_does_not_fit_its_field_is_custom() -> None:
    made = check(ODD_TEXTS)
    assert made["labels"]["status_code"] == "x"
    assert made["labels"]["client_ip"] == "x"
    assert "response" not in made.get("http", {})


def test_names_that_only_differ_in_a_dot_are_both_kept() -> None:
    made = check({**BASE, "a.b": "1", "a_b": "2", "": "3"})
    assert sorted(made["labels"].values()) == ["1", "2", "3"]


def test_an_integer_that_is_too_long_for_an_index_is_text() -> None:
    made = check({**BASE, "a": 2**63, "b": {"c.d": [1, 2**64 - 1]}, "e": -(2**63), "b_c_d_1": "taken"})
    assert made["labels"] == {"a": str(2**63), "b_c_d_1": "taken", "b_c_d_1_": str(2**64 - 1)}
    assert made["fapilog"] == {"b": {"c_d": [1, None]}, "e": -(2**63)}


def test_the_version_is_one_that_was_published() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


@pytest.mark.parametrize("record", NAMED)
def test_no_known_record_breaks_the_schema(record: dict[str, Any]) -> None:
    check(record)


@given(RECORDS)
def test_no_record_whatever_breaks_the_schema_or_loses_a_value(record: dict[str, Any]) -> None:
    made = check(record)
    kept = [value for _, value in leaves(made)]
    for name, value in canonical(record).items():
        if type(value) is str and name not in ("duration_ms",):
            assert value in kept
