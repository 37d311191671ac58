"""The table and the examples on the page about formats say what the code does."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from fapilog.formats import datadog, ecs, gcp, otel, pretty
from fapilog.formats.fields import ACCESS, Names
from tests.formats.records import line_of

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| `([\w.]+)`(?: ᵃ)? \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize(
    ("names", "column", "before"),
    [
        (otel._RESOURCE, 0, ""),
        (otel._ATTRIBUTES, 0, ""),
        (ecs._NAMES, 1, ""),
        (gcp._REQUEST, 2, "httpRequest."),
        (gcp._LABELS, 2, ""),
        (datadog._NAMES, 3, ""),
    ],
)
def test_the_table_has_the_name_of_every_field(names: Names, column: int, before: str) -> None:
    for field, (name, _) in names.items():
        assert f"`{before}{name}`" in ROWS[field][column], field


def test_of_the_resource_is_marked_what_is() -> None:
    marked = {field for field, cells in ROWS.items() if "ʳ" in cells[0]}
    assert marked == set(otel._RESOURCE)


def test_the_page_names_the_fields_of_the_access_record_alone() -> None:
    marked = set(re.findall(r"^\| `(\w+)` ᵃ \|", PAGE, re.MULTILINE))
    assert marked == ACCESS


# What pretty looks like

TIME = {"timestamp": "2026-11-20T08:00:00.123456Z", "logger": "shop.orders"}
SHOWN: tuple[dict[str, Any], ...] = (
    {**TIME, "level": "info", "event": "order placed", "order_id": 7, "sku": "green tea", "price": 12.5},
    {
        **TIME,
        "level": "info",
        "event": "request completed",
        "logger": "fapilog.access",
        "method": "GET",
        "path": "/orders/7",
        "status_code": 200,
        "duration_ms": 12.345,
        "response_bytes": 21,
        "client_ip": "10.0.0.8",
        "user_agent": "curl/8.1",
    },
    {
        **TIME,
        "level": "warning",
        "event": "stock low",
        "basket": {"items": [{"sku": "green tea", "left": 2}, {"sku": "milk", "left": 1}], "shop": "Kreuzberg"},
        "note": "the next delivery comes on Monday, and nobody has told the customers who wait for it",
    },
    {**TIME, "level": "info", "event": "said \x1b[2J\u202e", "by": "ann\n08:00:00.124 info     forged"},
)
FAILED: dict[str, Any] = {
    **TIME,
    "level": "error",
    "event": "order failed",
    "order_id": 7,
    "exception": {
        "type": "OutOfStock",
        "message": "no tea",
        "module": "shop.orders",
        "stacktrace": "",
        "stack": [
            {"file": "/app/shop/api.py", "line": 21, "function": "place", "code": "reserve(order)"},
            {
                "file": "/app/shop/orders.py",
                "line": 7,
                "function": "reserve",
                "code": 'raise OutOfStock("no tea") from error',
            },
        ],
        "causes": [
            {
                "relation": "cause",
                "type": "KeyError",
                "message": "'tea'",
                "stack": [
                    {
                        "file": "/app/shop/orders.py",
                        "line": 5,
                        "function": "reserve",
                        "code": "left = stock[order.sku]",
                    },
                ],
            }
        ],
    },
}


@pytest.mark.parametrize(("name", "width"), [("lines", 100), ("boxes", 80), ("plain", None)])
def test_the_page_shows_what_pretty_writes(name: str, width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    try:
        records = SHOWN if name == "lines" else (FAILED,)
        written = "".join([pretty(line_of(record), colour=False, width=width) for record in records])
    finally:
        monkeypatch.undo()
        time.tzset()
    (block,) = re.findall(rf"<!-- pretty: {name} -->\n+```text\n(.*?)```", PAGE, re.DOTALL)
    assert block == "".join([f"{line.rstrip()}\n" for line in written.splitlines()])
