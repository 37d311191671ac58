"""A store as a small service leaves it."""

import json
from pathlib import Path
from typing import Any

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_IDS = {"trace_id": TRACE, "request_id": TRACE, "service": "shop", "host": "web-1", "pid": 41}

RECORDS: list[dict[str, Any]] = [
    {"event": "started", "level": "info", "logger": "shop", "service": "shop", "host": "web-1", "pid": 41},
    {"event": "order placed", "level": "info", "logger": "shop", "span_id": "aa" * 8, "order_id": 7, **_IDS},
    {"event": "charging", "level": "debug", "logger": "pay", "span_id": "bb" * 8, "parent_span_id": "aa" * 8, **_IDS},
    {
        "event": "card \x1b[31mdeclined\u202e",
        "level": "error",
        "logger": "pay",
        "span_id": "bb" * 8,
        "parent_span_id": "aa" * 8,
        "exception": {
            "type": "Declined",
            "message": "card 4111 declined",
            "stacktrace": "Declined: card 4111 declined",
        },
        **_IDS,
    },
    {
        "event": "request completed",
        "level": "error",
        "logger": "fapilog.access",
        "span_id": "aa" * 8,
        "method": "POST",
        "path": "/orders/7",
        "route": "/orders/{id}",
        "status_code": 500,
        "duration_ms": 2500.0,
        **_IDS,
    },
    {"event": "last", "level": "warning", "logger": "shop", "service": "shop", "host": "web-1", "pid": 42},
]


def make(path: Path) -> Path:
    """Write `RECORDS` to a new store at *path*, one a second from 2026-11-20T08:00:00Z on."""
    (path / "segments").mkdir(parents=True)
    append(path, *RECORDS)
    return path


def append(path: Path, *records: dict[str, Any], slot: int = 0) -> None:
    """Write *records* as the process of a slot does."""
    file = path / "segments" / f"{slot}-1.jsonl"
    begun = len(file.read_bytes().splitlines()) if file.exists() else 0
    with file.open("a") as segment:
        for number, record in enumerate(records, start=begun):
            stamped = {"timestamp": f"2026-11-20T08:00:{number:02}.000000Z", "id": f"{'0' * 16}-{number}", **record}
            segment.write(json.dumps(stamped) + "\n")
