import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fapilog.errors import QueryError
from fapilog.store import LogStore, traces
from fapilog.store.compact import compact

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def write(path: Path, *records: dict[str, Any], name: str = "0-1.jsonl") -> Path:
    (path / "segments").mkdir(parents=True, exist_ok=True)
    with (path / "segments" / name).open("a") as segment:
        segment.writelines(json.dumps(record) + "\n" for record in records)
    return path


def at(milliseconds: float, span: str | None = None, parent: str | None = None, **fields: Any) -> dict[str, Any]:
    moment = NOON + timedelta(milliseconds=milliseconds)
    ids = {"trace_id": TRACE, "span_id": span, "parent_span_id": parent}
    given = {name: value for name, value in ids.items() if value is not None}
    number = next(counter)
    return {
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "id": f"00000000000000aa-{number}",
        "level": "info",
        "event": f"at {milliseconds}",
        **given,
        **fields,
    }


counter = iter(range(1, 1_000_000))


def test_a_trace_has_its_records_in_order_and_its_spans_nested(tmp_path: Path) -> None:
    access = {"logger": "fapilog.access", "duration_ms": 95.0, "service": "shop"}
    write(
        tmp_path,
        at(40, "b", "a", service="pay"),
        at(100, "a", "outside", **access),
        at(10, "a", "outside"),
        at(60, "c", "a"),
        at(80, "d", "c"),
        at(30, "b", "a"),
        at(5),
        at(70, "c", trace_id="another"),
    )
    with LogStore(tmp_path) as store:
        trace = store.trace(TRACE)
    assert [record.event for record in trace.records] == [f"at {ms}" for ms in (5, 10, 30, 40, 60, 80, 100)]
    assert [(depth, span.span_id) for depth, span in trace.walk()] == [
        (0, None),
        (0, "a"),
        (1, "b"),
        (1, "c"),
        (2, "d"),
    ]
    root = trace.spans[1]
    assert (root.service, root.duration_ms, root.start) == ("shop", 95.0, NOON + timedelta(milliseconds=5))
    assert (root.children[0].duration_ms, root.children[0].service, root.children[0].access) == (10.0, "pay", None)


@pytest.mark.parametrize("parents", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a", "d": "a"}])
def test_spans_that_call_themselves_are_all_there_once(tmp_path: Path, parents: dict[str, str]) -> None:
    write(tmp_path, *(at(number, span, parent) for number, (span, parent) in enumerate(parents.items())))
    with LogStore(tmp_path) as store:
        assert sorted(str(span.span_id) for _, span in store.trace(TRACE).walk()) == sorted(parents)


def test_a_very_deep_trace_is_walked(tmp_path: Path) -> None:
    write(tmp_path, *(at(n, f"{n:016x}", f"{n - 1:016x}") for n in range(1_500)))
    with LogStore(tmp_path) as store:
        assert [depth for depth, _ in store.trace(TRACE).walk()] == list(range(1_500))


def test_a_trace_that_is_not_there_is_empty(tmp_path: Path) -> None:
    with LogStore(write(tmp_path, at(1))) as store:
        assert store.trace("f" * 32).records == []
        assert store.trace("' OR true --").records == []
        assert store.trace(TRACE, since="2026-11-21").spans == []
        assert len(store.trace(TRACE, since=NOON, until=NOON + timedelta(seconds=1)).records) == 1
        with pytest.raises(QueryError, match="since: 'soon' is no time"):
            store.trace(TRACE, since="soon")


def test_only_so_much_of_a_trace_is_read_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_RECORDS", 3)
    monkeypatch.setattr("fapilog.store.query.MAX_RECORDS", 3)
    with LogStore(write(tmp_path, *(at(n) for n in range(5)))) as store:
        trace = store.trace(TRACE)
    assert len(trace.records) == 3
    assert trace.warnings == ("only the first 3 records with that trace_id are here",)


def test_a_request_has_its_records_in_order(tmp_path: Path) -> None:
    with LogStore(write(tmp_path, at(2, request_id="r"), at(1, request_id="r"), at(3, request_id="s"))) as store:
        assert [record.event for record in store.request("r")] == ["at 1", "at 2"]
        assert store.request("t") == []


def test_the_context_of_a_record_is_what_its_process_logged_around_it(tmp_path: Path) -> None:
    records = [at(n, event=f"event {n}") for n in range(10)]
    other = [at(n, id=f"00000000000000bb-{n}", event="other") for n in range(10)]
    same_moment = [at(20, event=f"same {n}", id=f"00000000000000aa-9000{n}") for n in range(5)]
    write(tmp_path, *records, *other)
    compact(tmp_path)
    write(tmp_path, *same_moment, name="0-2.jsonl")
    with LogStore(tmp_path) as store:
        found = store.context(records[5]["id"], before=2, after=1)
        assert [record.event for record in found] == ["event 3", "event 4", "event 5", "event 6"]
        assert store.context(found[2], before=2, after=1) == found
        assert [record.event for record in store.context(records[0]["id"], 5, 0)] == ["event 0"]
        assert [record.event for record in store.context(same_moment[2]["id"], 3, 3)] == [
            "event 9", "same 0", "same 1", "same 2", "same 3", "same 4",
        ]  # fmt: skip
        for missing in ("00000000000000aa-777", ""):
            with pytest.raises(QueryError, match="there is no record with the id"):
                store.context(missing)
