import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given

from fapilog.formats.gcp import REPORTED
from tests.formats.records import ACCESS, BASE, ENRICHED, NAMED, ODD_TEXTS, ORDER, RECORDS, as_json, canonical

AT = "logging.googleapis.com/"
SEVERITIES = {"DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"}

# The special fields of https://cloud.google.com/logging/docs/structured-logging, with the types of `LogEntry`.
SPECIAL: dict[str, type] = {
    "severity": str,
    "message": str,
    "time": str,
    "httpRequest": dict,
    f"{AT}insertId": str,
    f"{AT}labels": dict,
    f"{AT}sourceLocation": dict,
    f"{AT}spanId": str,
    f"{AT}trace": str,
    f"{AT}trace_sampled": bool,
    "serviceContext": dict,
    "stack_trace": str,
    "@type": str,
}
NOT_OURS = {"timestamp", "timestampSeconds", "timestampNanos", f"{AT}operation"}
# google/logging/type/http_request.proto in JSON: an int32 is a number, a duration text in seconds.
HTTP_REQUEST: dict[str, Any] = {
    "requestMethod": str,
    "requestUrl": str,
    "status": int,
    "userAgent": str,
    "remoteIp": str,
    "protocol": str,
    "latency": str,
}
SOURCE: dict[str, type] = {"file": str, "line": str, "function": str}


def check(record: dict[str, Any]) -> dict[str, Any]:
    made = as_json("gcp", record)
    assert not set(made) & NOT_OURS
    for name, kind in SPECIAL.items():
        assert name not in made or type(made[name]) is kind, name
    assert made["severity"] in SEVERITIES
    assert datetime.fromisoformat(made["time"]).tzinfo is not None
    for name, value in made.get("httpRequest", {}).items():
        assert type(value) is HTTP_REQUEST[name], name
    if "latency" in made.get("httpRequest", {}):
        assert re.fullmatch(r"\d+(\.\d{1,9})?s", made["httpRequest"]["latency"])
    assert all(type(value) is str for value in made[f"{AT}labels"].values())
    for name, value in made.get(f"{AT}sourceLocation", {}).items():
        assert type(value) is SOURCE[name]
    assert set(made.get("serviceContext", {"service": ""})) <= {"service", "version"}
    return made


def test_a_record_has_the_special_fields_and_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "tea-shop")
    assert check(ORDER) == {
        "severity": "INFO",
        "message": "order placed",
        "time": "2026-11-20T08:00:00.123456Z",
        f"{AT}insertId": ORDER["id"],
        f"{AT}trace": f"projects/tea-shop/traces/{ORDER['trace_id']}",
        f"{AT}spanId": ORDER["span_id"],
        f"{AT}trace_sampled": True,
        f"{AT}labels": {"logger": "shop.orders", "env": "production", "host": "web-1", "request_id": "req-1"},
        "serviceContext": {"service": "shop", "version": "1.2.0"},
        "order_id": 7,
        "sku": "tea",
        "price": 12.5,
        "express": True,
        "note": None,
        "pid": 4242,
    }


def test_without_a_project_the_trace_is_its_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    assert check(ORDER)[f"{AT}trace"] == ORDER["trace_id"]


def test_an_access_record_is_a_request_and_its_error_is_reported() -> None:
    made = check(ACCESS)
    assert made["httpRequest"] == {
        "requestMethod": "GET",
        "requestUrl": "/orders/7?full=1",
        "status": 500,
        "userAgent": "curl/8.1",
        "remoteIp": "10.0.0.8",
        "protocol": "HTTP/1.1",
        "latency": "0.012345s",
    }
    assert made["stack_trace"] == ACCESS["exception"]["stacktrace"]
    assert made["@type"] == REPORTED
    assert made["exception"] == {"type": "shop.errors.OutOfStock", "message": "no tea", "module": "shop.errors"}


@pytest.mark.parametrize(
    ("milliseconds", "latency"),
    [(0, "0s"), (12, "0.012s"), (100_000, "100s"), (0.5, "0.0005s"), (1e-7, "0s"), (1e-3, "0.000001s")],
)
def test_a_duration_is_text_in_seconds(milliseconds: float, latency: str) -> None:
    assert check({**ACCESS, "duration_ms": milliseconds})["httpRequest"]["latency"] == latency


def test_an_exception_below_error_is_no_error_event() -> None:
    made = check({**ACCESS, "level": "info"})
    assert "stack_trace" in made
    assert "@type" not in made


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("trace", "DEBUG"),
        ("debug", "DEBUG"),
        ("info", "INFO"),
        ("success", "NOTICE"),
        ("warning", "WARNING"),
        ("error", "ERROR"),
        ("critical", "CRITICAL"),
        ("loud", "DEFAULT"),
    ],
)
def test_a_level_has_its_severity(level: str, severity: str) -> None:
    assert check({**BASE, "level": level})["severity"] == severity


def test_the_call_site_is_the_source_location() -> None:
    made = check(ENRICHED)
    assert made[f"{AT}sourceLocation"] == {"file": "shop/orders.py", "line": "17", "function": "place"}
    assert made[f"{AT}labels"]["k8s_pod"] == "shop-5d9c"


def test_a_user_s_field_with_a_special_name_is_kept_beside_it() -> None:
    made = check({**BASE, "message": "mine", "severity": 3, "time": {"a": 1}, "stack_trace": "no", "timestamp_": 1})
    assert made["message"] == "order placed"
    assert (made["message_"], made["severity_"], made["time_"], made["stack_trace_"]) == ("mine", 3, {"a": 1}, "no")


def test_a_value_that_does_not_fit_is_kept_under_its_name() -> None:
    assert check(ODD_TEXTS)["status_code"] == "x"


@pytest.mark.parametrize("record", NAMED)
def test_no_known_record_breaks_the_special_fields(record: dict[str, Any]) -> None:
    check(record)


@given(RECORDS)
def test_no_record_whatever_breaks_the_special_fields(record: dict[str, Any]) -> None:
    made = check(record)
    for name, value in canonical(record).items():
        if name.isidentifier() and name not in SPECIAL and type(value) in (int, float, list):
            assert value in (made.get(name), made.get(f"{name}_")) or name in (
                "duration_ms",
                "status_code",
                "code_line",
            )
