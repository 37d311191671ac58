import json
import statistics
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fapilog.errors import QueryError
from fapilog.store import LogStore
from fapilog.store.compact import compact

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def write(path: Path, *records: dict[str, Any], name: str = "0-1.jsonl") -> Path:
    (path / "segments").mkdir(parents=True, exist_ok=True)
    with (path / "segments" / name).open("a") as segment:
        segment.writelines(json.dumps(record) + "\n" for record in records)
    return path


def record(seconds: float, level: str = "info", event: str = "placed", **fields: Any) -> dict[str, Any]:
    moment = NOON + timedelta(seconds=seconds)
    return {"timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "level": level, "event": event} | fields


def access(seconds: float, duration_ms: float, status: int = 200, route: str | None = "/orders/{id}") -> dict[str, Any]:
    fields: dict[str, Any] = {"method": "GET", "route": route, "status_code": status, "duration_ms": duration_ms}
    return record(seconds, event="request", logger="fapilog.access", pid=7, host="one", service="shop", **fields)


def test_statistics_count_what_there_is(tmp_path: Path) -> None:
    durations = [float(number) for number in range(1, 102)]
    requests = [access(number, duration, 500 if number < 10 else 200) for number, duration in enumerate(durations)]
    others = [
        record(number * 10, "error" if number % 5 == 0 else "info", f"event {number % 2}") for number in range(30)
    ]
    write(tmp_path, *requests, access(300, 5.0, 404, route=None))
    compact(tmp_path)
    write(tmp_path, *others, {"event": "without a time", "level": "notice"}, name="0-2.jsonl")
    with LogStore(tmp_path) as store:
        found = store.stats(NOON, NOON + timedelta(seconds=600))
        everything = store.stats()
    assert found.records == 132
    assert found.levels == {"info": 126, "error": 6}
    assert (found.bucket_seconds, len(found.volume)) == (10, 31)
    assert sum(bucket.records for bucket in found.volume) == 132
    assert found.volume[0].start == NOON
    assert found.volume[0].levels == {"info": 10, "error": 1}
    assert found.volume[-2].levels == {"info": 1}
    assert [(each.event, each.level, each.records) for each in found.events[:3]] == [
        ("request", "info", 102),
        ("event 0", "info", 12),
        ("event 1", "info", 12),
    ]
    assert (found.requests, found.errors, found.error_rate) == (102, 10, 10 / 102)
    orders, unrouted = found.routes
    assert (orders.method, orders.route, orders.requests, orders.errors) == ("GET", "/orders/{id}", 101, 10)
    assert (orders.p50_ms, orders.p95_ms) == (statistics.median(durations), 96.0)
    assert orders.p99_ms == pytest.approx(100.0)
    assert orders.per_second == pytest.approx(101 / 600)
    assert (unrouted.route, unrouted.errors) == (None, 0)
    assert [(worker.pid, worker.records) for worker in found.workers] == [(7, 102), (None, 30)]
    assert found.workers[0].last_seen == NOON + timedelta(seconds=300)
    assert everything.records == 133
    assert everything.levels["notice"] == 1
    assert everything.since == NOON


def test_statistics_may_be_of_a_query(tmp_path: Path) -> None:
    write(tmp_path, access(1, 5.0), record(2, "error", "declined"), record(3))
    with LogStore(tmp_path) as store:
        assert store.stats(query="level:error").records == 1
        assert store.stats(query="level:error").requests == 0
        assert store.stats(query="route:/orders/*", since="2026-11-20").requests == 1
        with pytest.raises(QueryError):
            store.stats(query="level:eror")


def test_statistics_of_nothing_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    with LogStore(tmp_path) as store:
        found = store.stats()
    assert (found.records, found.since, found.volume, found.routes, found.error_rate) == (0, None, [], [], 0.0)


def test_a_clock_that_was_wrong_does_not_make_millions_of_steps(tmp_path: Path) -> None:
    write(tmp_path, record(0), record(1), record(86_400 * 3_000))
    with LogStore(tmp_path) as store:
        found = store.stats(NOON, NOON + timedelta(days=4_000))
        assert len(found.volume) <= 60
        assert len(store.stats(query="placed", until=None, since=NOON).volume) == 2


def test_what_had_to_be_left_out_is_told(tmp_path: Path) -> None:
    compact(write(tmp_path, record(1)))
    (file,) = (tmp_path / "parquet").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    with LogStore(tmp_path) as store:
        assert len(store.stats().warnings) == 1
