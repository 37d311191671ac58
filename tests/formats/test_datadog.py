from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given

from tests.formats.records import ACCESS, BASE, ENRICHED, NAMED, ODD_TEXTS, ORDER, RECORDS, as_json

# The reserved and the default standard attributes we write, with their types, as of
# https://docs.datadoghq.com/logs/log_configuration/attributes_naming_convention/.
PUBLISHED = {
    "status": "string",
    "message": "string",
    "service": "string",
    "host": "string",
    "env": "string",
    "version": "string",
    "timestamp": "string",
    "duration": "number",
    "logger.name": "string",
    "logger.thread_name": "string",
    "logger.method_name": "string",
    "error.kind": "string",
    "error.message": "string",
    "error.stack": "string",
    "http.url": "string",
    "http.method": "string",
    "http.status_code": "number",
    "http.useragent": "string",
    "http.version": "string",
    "http.request_id": "string",
    "http.url_details.path": "string",
    "http.url_details.scheme": "string",
    "network.client.ip": "ip",
    "usr.id": "string",
    "dd.trace_id": "string",
    "dd.span_id": "string",
    "dd.service": "string",
    "dd.env": "string",
    "dd.version": "string",
}
GROUPS = {name.partition(".")[0] for name in PUBLISHED}


def fits(value: Any, kind: str) -> bool:
    if kind == "number":
        return type(value) in (int, float)
    return type(value) is str and (kind == "string" or bool(ip_address(value)))


def check(record: dict[str, Any]) -> dict[str, Any]:
    made = as_json("datadog", record)
    assert not set(made) & {"source", "ddsource", "ddtags", "date", "level", "severity"}

    def look(below: dict[str, Any], above: str) -> None:
        for name, value in below.items():
            if type(value) is dict:
                look(value, f"{above}{name}.")
            else:
                assert fits(value, PUBLISHED[f"{above}{name}"]), f"{above}{name}"

    look({name: value for name, value in made.items() if name in GROUPS}, "")
    return made


def test_a_record_has_the_reserved_attributes_and_keeps_its_own() -> None:
    assert check(ORDER) == {
        "timestamp": "2026-11-20T08:00:00.123456Z",
        "status": "info",
        "message": "order placed",
        "logger": {"name": "shop.orders"},
        "service": "shop",
        "env": "production",
        "version": "1.2.0",
        "host": "web-1",
        "dd": {
            "trace_id": str(0xA3CE929D0E0E4736),
            "span_id": str(0x00F067AA0BA902B7),
            "service": "shop",
            "env": "production",
            "version": "1.2.0",
        },
        "http": {"request_id": "req-1"},
        "trace_id": ORDER["trace_id"],
        "span_id": ORDER["span_id"],
        "trace_flags": "01",
        "order_id": 7,
        "sku": "tea",
        "price": 12.5,
        "express": True,
        "note": None,
        "pid": 4242,
        "id": ORDER["id"],
    }


def test_an_access_record_has_the_standard_attributes_of_a_request() -> None:
    made = check(ACCESS)
    assert made["duration"] == 12_345_000
    assert made["network"] == {"client": {"ip": "10.0.0.8"}}
    assert made["usr"] == {"id": "ann"}
    assert made["http"] == {
        "method": "GET",
        "status_code": 500,
        "url": "/orders/7?full=1",
        "url_details": {"path": "/orders/7", "scheme": "https"},
        "useragent": "curl/8.1",
        "version": "1.1",
        "request_id": "req-1",
    }
    assert made["error"] == {
        "kind": "shop.errors.OutOfStock",
        "message": "no tea",
        "stack": ACCESS["exception"]["stacktrace"],
    }
    assert made["exception"] == {"module": "shop.errors"}
    assert made["route"] == "/orders/{order_id}"


def test_thread_and_function_are_those_of_the_logger() -> None:
    assert check(ENRICHED)["logger"] == {
        "name": "shop.orders",
        "thread_name": "MainThread",
        "method_name": "place",
    }


def test_a_user_s_field_with_a_reserved_name_is_kept_beside_it() -> None:
    made = check({**BASE, "message": "mine", "http": "mine", "status": 3, "ddtags": "a:b"})
    assert (made["message_"], made["http_"], made["status_"], made["ddtags_"]) == ("mine", "mine", 3, "a:b")


def test_a_value_that_does_not_fit_is_kept_under_its_name() -> None:
    made = check(ODD_TEXTS)
    assert made["status_code"] == "x"
    assert made["trace_id"] == "x"
    assert "dd" not in made


@pytest.mark.parametrize("record", NAMED)
def test_no_known_record_breaks_the_attributes(record: dict[str, Any]) -> None:
    check(record)


@given(RECORDS)
def test_no_record_whatever_breaks_the_attributes(record: dict[str, Any]) -> None:
    check(record)
