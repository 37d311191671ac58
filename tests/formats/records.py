"""Records to format: those fapilog writes, and any that a user could."""

from typing import Any

import orjson
from hypothesis import strategies as st

from fapilog.encoding import encode, plain_fields
from fapilog.formats import Formatter
from fapilog.types import Batch, Record
from tests.test_encoding import ANYTHING

BASE: dict[str, Any] = {
    "timestamp": "2026-11-20T08:00:00.123456Z",
    "level": "info",
    "event": "order placed",
    "logger": "shop.orders",
}
IDS: dict[str, Any] = {
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "request_id": "req-1",
    "trace_flags": "01",
}
STATIC: dict[str, Any] = {
    "service": "shop",
    "env": "production",
    "version": "1.2.0",
    "host": "web-1",
    "pid": 4242,
    "id": "00112233aabbccdd-7",
}
ORDER = {**BASE, **IDS, "order_id": 7, "sku": "tea", "price": 12.5, "express": True, "note": None, **STATIC}
ACCESS: dict[str, Any] = {
    **BASE,
    "level": "error",
    "event": "request failed",
    "logger": "fapilog.access",
    **IDS,
    "method": "GET",
    "path": "/orders/7",
    "query": "full=1",
    "route": "/orders/{order_id}",
    "status_code": 500,
    "duration_ms": 12.345,
    "request_bytes": 0,
    "response_bytes": 21,
    "scheme": "https",
    "http_version": "1.1",
    "client_ip": "10.0.0.8",
    "user_agent": "curl/8.1",
    "user_id": "ann",
    "exception": {
        "type": "shop.errors.OutOfStock",
        "message": "no tea",
        "stacktrace": 'Traceback (most recent call last):\n  File "a.py", line 1\nshop.errors.OutOfStock: no tea',
        "module": "shop.errors",
    },
    **STATIC,
}
ENRICHED: dict[str, Any] = {
    **BASE,
    "process_name": "uvicorn",
    "thread_name": "MainThread",
    "task_name": "Task-1",
    "python_version": "3.13.1",
    "python_implementation": "CPython",
    "os_version": "Linux 6.1",
    "os_arch": "x86_64",
    "git_commit": "0" * 40,
    "container_id": "c" * 64,
    "k8s_cluster": "west",
    "k8s_namespace": "shop",
    "k8s_node": "node-3",
    "k8s_pod": "shop-5d9c",
    "k8s_pod_uid": "1234",
    "k8s_pod_ip": "10.1.2.3",
    "k8s_container": "app",
    "code_file": "shop/orders.py",
    "code_line": 17,
    "code_function": "place",
    "memory_mb": 81.5,
    "cpu_percent": 3.0,
    **STATIC,
}
ODD_VALUES: dict[str, Any] = {
    **{name: {"nested": [name]} for name in ACCESS if name not in ("timestamp", "level", "event", "logger")},
    **BASE,
    "logger": "fapilog.access",
    "path": "/",
}
"""Every well-known name, with a value of a type it does not have."""

ODD_TEXTS: dict[str, Any] = {**ODD_VALUES, **{name: "x" for name in ODD_VALUES if name not in BASE}}

NAMED = (ORDER, ACCESS, ENRICHED, ODD_VALUES, ODD_TEXTS, BASE)

NAMES = st.sampled_from([*ACCESS, *ENRICHED, "message", "severity", "labels", "http", "a.b", "", "fields"]) | st.text(
    max_size=12
)
ANY_RECORD = st.dictionaries(NAMES, ANYTHING, max_size=8).map(lambda fields: {**fields, **BASE})
ACCESS_LIKE = st.dictionaries(NAMES, ANYTHING, max_size=8).map(
    lambda fields: {"path": "/", **fields, **BASE, "logger": "fapilog.access"}
)
RECORDS = ANY_RECORD | ACCESS_LIKE


def line_of(record: dict[str, Any]) -> bytes:
    """Return a record as the canonical line."""
    return encode(plain_fields(record)) + b"\n"


def canonical(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as its canonical line has it."""
    parsed: dict[str, Any] = orjson.loads(line_of(record))
    return parsed


def formatted(name: str, record: dict[str, Any]) -> bytes:
    """Return a record in a format, and see that it is one line and that the format did hold it."""
    formatter = Formatter(name)
    made = formatter.payload(Batch([Record(20, 0, line_of(record))]))
    assert formatter.failed == 0
    assert made.endswith(b"\n")
    assert made.count(b"\n") == 1
    assert not set(made[:-1]) & set(range(32))
    return made


def as_json(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record in a format that is JSON, parsed."""
    parsed: dict[str, Any] = orjson.loads(formatted(name, record))
    return parsed
