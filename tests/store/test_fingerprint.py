import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fapilog import configure_logging, log
from fapilog.store import LogStore
from fapilog.store.compact import compact

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def write(path: Path, *records: dict[str, Any]) -> Path:
    (path / "segments").mkdir(parents=True, exist_ok=True)
    with (path / "segments" / "0-1.jsonl").open("a") as segment:
        for number, record in enumerate(records, start=1):
            moment = NOON + timedelta(seconds=number)
            base = {"timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "id": f"00000000000000aa-{number}"}
            segment.write(json.dumps(base | {"level": "error"} | record) + "\n")
    return path


def raised(kind: str, message: str, *frames: str) -> dict[str, Any]:
    stack = [
        {"file": f"/app/{number}/{frame}.py", "line": number, "function": frame} for number, frame in enumerate(frames)
    ]
    return {"event": "failed", "exception": {"type": kind, "message": message, "stack": stack}}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("order 7 not found", "order 4711 not found"),
        ("took 1.5 s", "took 12.25 s"),
        ("invalid literal: 'x7'", "invalid literal: 'something else'"),
        ('no key "a"', 'no key "b c"'),
        ("at 0x7f3a", "at 0x11"),
        ("user 550e8400-e29b-41d4-a716-446655440000", "user 6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ("trace 4bf92f3577b34da6a3ce929d0e0e4736", "trace 0af7651916cd43dd8448eb211c80319c"),
        ("from 10.0.0.1:5432", "from 192.168.1.20:80"),
    ],
)
def test_errors_that_differ_in_numbers_ids_and_quoted_text_are_one(tmp_path: Path, first: str, second: str) -> None:
    write(tmp_path, raised("E", first, "f"), raised("E", second, "f"))
    with LogStore(tmp_path) as store:
        (group,) = store.errors()
    assert group.count == 2
    assert "*" in str(group.message)


def test_errors_of_another_type_message_or_place_are_others(tmp_path: Path) -> None:
    write(
        tmp_path,
        raised("E", "x", "main", "f"),
        raised("F", "x", "main", "f"),
        raised("E", "y", "main", "f"),
        raised("E", "x", "main", "g"),
        raised("E", "it isn't there and can't be", "f"),
        {"event": "x"},
    )
    with LogStore(tmp_path) as store:
        groups = store.errors()
    assert [group.count for group in groups] == [1] * 6
    assert len({group.fingerprint for group in groups}) == 6
    assert "it isn't there and can't be" in [group.message for group in groups]


def test_a_group_has_its_count_its_first_and_last_and_the_newest_as_example(tmp_path: Path) -> None:
    frames = ("main", "handle", "pay", "charge")
    records = [raised("ValueError", f"card {number} declined", *frames) for number in range(5)]
    write(tmp_path, *records, {"event": "cannot reach 10.0.0.1"}, {"event": "fine", "level": "info"})
    compact(tmp_path)
    with LogStore(tmp_path) as store:
        group, other = store.errors()
        assert store.errors(limit=1) == [group]
        assert store.errors(since=NOON + timedelta(seconds=6)) == [other]
        assert store.errors(query="exception.type:ValueError") == [group]
    assert (group.type, group.message, group.count) == ("ValueError", "card * declined", 5)
    assert group.frames == ["handle.py:handle", "pay.py:pay", "charge.py:charge"]
    assert group.first_seen == NOON + timedelta(seconds=1)
    assert group.last_seen == group.example.timestamp == NOON + timedelta(seconds=5)
    assert group.example.exception["message"] == "card 4 declined"
    assert (other.type, other.message, other.frames) == (None, "cannot reach *", [])


def test_what_has_no_id_or_time_is_grouped_too(tmp_path: Path) -> None:
    write(tmp_path, {"event": "odd 1", "id": None}, {"event": "odd 2", "id": None, "timestamp": None})
    with LogStore(tmp_path) as store:
        (group,) = store.errors()
    assert (group.count, group.example.event) == (2, "odd 1")


def test_what_was_logged_with_an_exception_is_grouped_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with configure_logging(sinks=["duckdb"]):
        for text in ("x1", "x2"):
            try:
                int(text)
            except ValueError:
                log.exception("no number", given=text)
    with LogStore("logs") as store:
        (group,) = store.errors()
    assert (group.count, group.type) == (2, "ValueError")
    assert group.frames == ["test_fingerprint.py:test_what_was_logged_with_an_exception_is_grouped_by_it"]
    assert group.message == "invalid literal for int() with base *: *"
