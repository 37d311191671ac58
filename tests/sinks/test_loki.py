import asyncio
import dataclasses
import gzip
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cramjam
import pytest
from pydantic import SecretStr

from fapilog import configure_logging, log
from fapilog.assembly import check_sink
from fapilog.errors import (
    BatchRejectedError,
    BatchTooLargeError,
    ConfigurationError,
    CredentialsError,
    MisconfiguredError,
    MissingExtraError,
    RetryableError,
)
from fapilog.plugins import build_sink, parse_sink
from fapilog.settings import LoggingSettings
from fapilog.sinks.loki import LokiSink
from fapilog.testing import FarEnd, NetworkSinkContract, answer
from fapilog.types import Batch, Record, Sink
from tests.fake_loki import LokiReceiver
from tests.loki_wire import decode_push

Body = Literal["auto", "protobuf", "json"]
BODIES: tuple[Body, ...] = ("protobuf", "json")
RECORD = {
    "timestamp": "2026-11-20T12:00:00.000000Z",
    "level": "info",
    "event": "order placed",
    "logger": "shop",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "request_id": "r-1",
    "service": "shop",
    "env": "prod",
    "host": "web-1",
}


@pytest.fixture(autouse=True)
def _slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest) -> Body:
    found: Body = request.param
    return found


class TestLokiSink(NetworkSinkContract):
    success = answer(204)

    @pytest.fixture(autouse=True)
    def _serve(self, loki: LokiReceiver) -> None:
        self.loki = loki
        loki.limit(reject_old_seconds=10**9)

    def make_sink(self, tmp_path: Path) -> Sink:
        return LokiSink(endpoint=self.loki.url(""), slot_path=tmp_path / "slots")

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        return [line.encode() + b"\n" for entries in self.loki.streams().values() for _, line, _ in entries]

    def make_network_sink(self, endpoint: str, *, secret: str, timeout_seconds: float) -> Sink:
        return LokiSink(
            endpoint=endpoint.replace("http://", f"http://someone:{secret}@") + f"?key={secret}",
            headers={"X-Key": SecretStr(secret)},
            timeout_seconds=timeout_seconds,
        )


def batch_of(*records: dict[str, Any], at: int | None = None) -> Batch:
    """Return a batch of records, each of them a microsecond after the one before."""
    first = time.time_ns() if at is None else at
    return Batch(
        [
            Record(20, record.get("at", first + number * 1_000), json.dumps({**RECORD, **record}).encode() + b"\n")
            for number, record in enumerate(records)
        ]
    )


def numbered(count: int, **fields: Any) -> Batch:
    return batch_of(*[{"number": number, **fields} for number in range(count)])


def write(sink: Any, *batches: Batch) -> None:
    async def run() -> None:
        try:
            for batch in batches:
                await sink.write(batch)
        finally:
            await sink.close()

    asyncio.run(run())


def fail(sink: Any, batch: Batch, kind: type[Exception]) -> Any:
    with pytest.raises(kind) as raised:
        write(sink, batch)
    return raised.value


def numbers(loki: LokiReceiver) -> list[int]:
    """The numbers of the records that are stored, stream by stream."""
    return [record["number"] for record in loki.stored() if "number" in record]  # none in what tells of losses


def sent(far_end: FarEnd, batch: Batch, **options: Any) -> tuple[dict[str, str], list[Any]]:
    """Write to *far_end* and return the headers, and the streams as `decode_push` gives them."""
    write(build_sink(parse_sink("loki"), {"endpoint": far_end.url, **options}), batch)
    head, raw = far_end.requests[-1]
    lines = head.decode().split("\r\n")[1:]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers["content-type"] == "application/x-protobuf":
        return headers, decode_push(bytes(cramjam.snappy.decompress_raw(raw)))
    found = json.loads(gzip.decompress(raw))
    return headers, [
        (
            "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(stream["stream"].items())) + "}",
            [(int(at), line, dict(*rest)) for at, line, *rest in stream["values"]],
        )
        for stream in found["streams"]
    ]


# What is sent


def test_both_bodies_say_the_same(body: Body) -> None:
    batch = batch_of({"level": "info"}, {"level": "error"}, {"level": "info", "event": "žluťoučký kůň 🐎"})
    with FarEnd() as far_end:
        headers, streams = sent(far_end, batch, body=body)
    expected = "application/json" if body == "json" else "application/x-protobuf"
    assert headers["content-type"] == expected
    assert headers.get("content-encoding") == ("gzip" if body == "json" else None)
    metadata = {name: RECORD[name] for name in ("trace_id", "span_id", "request_id")}
    labels = '{{env="prod", host="web-1", level="{}", service="shop", slot="0"}}'
    lines = [line.rstrip(b"\n").decode() for line in batch.lines]
    at = [record.timestamp_ns for record in batch]
    assert streams == [
        (labels.format("info"), [(at[0], lines[0], metadata), (at[2], lines[2], metadata)]),
        (labels.format("error"), [(at[1], lines[1], metadata)]),
    ]


def test_structured_metadata_has_what_a_record_has_and_each_name_once(body: Body) -> None:
    record = {
        "retries": 0,
        "cached": False,
        "note": "",
        "owner": None,
        "tags": [],
        "http.route": "/a",
        "http_route": "/b",
    }
    with FarEnd() as far_end:
        _, streams = sent(far_end, batch_of(record), body=body, metadata_fields=[*record, "missing"], format="{event}")
        content = far_end.requests[0][1]
    assert [metadata for _, entries in streams for _, _, metadata in entries] == [
        {"retries": "0", "cached": "false", "tags": "[]", "http_route": "/b"}
    ]
    text = gzip.decompress(content) if body == "json" else bytes(cramjam.snappy.decompress_raw(content))
    assert text.count(b"http_route") == 1


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("{level:8} | {event} | {order_id}", "info     | order placed | 7"),
        (lambda record: f"{record['event']}\n{record['order_id']}", r"order placed\x0a7"),
        ("logfmt", 'timestamp=2026-11-20T12:00:00.000000Z level=info event="order placed" logger=shop'),
        ("csv", '2026-11-20T12:00:00.000000Z,info,"order placed",shop'),
        ("ecs", '{"@timestamp":"2026-11-20T12:00:00.000000Z","log":{"level":"info"'),
        ("Pretty", " info     order placed                   order_id=7"),
    ],
)
def test_a_line_has_the_format_that_is_asked_for_and_labels_and_metadata_are_the_same(
    wanted: Any, line: str, body: Body
) -> None:
    batch = batch_of({"order_id": 7})
    with FarEnd() as far_end:
        _, [(labels, [(at, said, metadata)])] = sent(far_end, batch, body=body, format=wanted)
        _, [(labels_of_json, [(at_of_json, _, metadata_of_json)])] = sent(far_end, batch, body=body)
    assert line in said
    assert not said.endswith("\n")
    assert (labels, at, metadata) == (labels_of_json, at_of_json, metadata_of_json)


def test_a_record_that_the_format_cannot_hold_is_sent_as_json_and_counted(body: Body) -> None:
    def fail_for_the_second(record: dict[str, Any]) -> str:
        return f"number {1 // (1 - record['number'])}"

    batch = Batch([*numbered(2), Record(20, 1, b"no JSON \xff\n")])
    sink = build_sink(parse_sink("loki"), {"endpoint": "http://loki", "format": fail_for_the_second})
    with FarEnd() as far_end:
        _, streams = sent(far_end, batch, body=body, format=fail_for_the_second)
        assert isinstance(sink, LokiSink)
        sink.endpoint = f"{far_end.url}/loki/api/v1/push"
        write(sink, batch)
    lines = [said for _, entries in streams for _, said, _ in entries]
    assert lines == ["number 1", batch.lines[1].decode().rstrip("\n"), "no JSON \ufffd"]
    assert sink.unformatted == 2


def test_a_line_of_text_that_is_too_long_is_cut_as_text(loki: LokiReceiver, body: Body) -> None:
    sink = LokiSink(endpoint=loki.url(""), body=body, line_max_bytes=4_096, format="{event}")
    write(sink, batch_of({"event": "é" * 5_000}))
    ((line,),) = [[line for _, line, _ in entries] for entries in loki.streams().values()]
    assert line == "é" * 2_048


def test_a_format_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sink 'loki': option 'format': got 'xml'; known: csv, "):
        configure_logging(sinks=["loki://loki:3100?format=xml"])
    with pytest.raises(ConfigurationError, match=r"option 'format': '\{level' is no template"):
        configure_logging(sinks=["loki://loki:3100"], loki={"format": "{level"})


@pytest.mark.parametrize("at", [0, 1, 127, 10**9 - 1, 10**9, 1_795_159_749 * 10**9, 1_795_159_749_950_137_754])
@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 200_000])
def test_every_time_and_length_survives_the_encoding(at: int, length: int) -> None:
    batch = Batch([Record(20, at, b"x" * length + b"\n"), Record(20, at + 1, b"{}\n")])
    with FarEnd() as far_end:
        _, streams = sent(far_end, batch, body="protobuf")
    assert [(when, len(line)) for _, entries in streams for when, line, _ in entries] == [(at, length), (at + 1, 2)]


def test_a_batch_is_sent_the_same_to_the_byte_by_another_process(body: Body) -> None:
    batch = numbered(10)
    with FarEnd() as far_end:
        for _ in range(2):
            sent(far_end, batch, body=body)
        assert far_end.requests[0] == far_end.requests[1]


def test_without_snappy_it_is_json_and_who_insists_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cramjam", None)
    monkeypatch.setitem(sys.modules, "snappy", None)
    with FarEnd() as far_end:
        assert sent(far_end, numbered(1))[0]["content-type"] == "application/json"
    with pytest.raises(MissingExtraError, match=r"pip install 'fapilog\[loki\]'"):
        LokiSink(endpoint="http://h", body="protobuf")


def test_python_snappy_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    class Snappy:
        @staticmethod
        def compress(data: bytes) -> bytes:
            return compress(data)

    def compress(data: bytes, packed: Any = cramjam.snappy.compress_raw) -> bytes:
        return bytes(packed(data))

    monkeypatch.setitem(sys.modules, "cramjam", None)
    monkeypatch.setitem(sys.modules, "snappy", Snappy)
    with FarEnd() as far_end:
        headers, streams = sent(far_end, numbered(3), body="protobuf")
    assert headers["content-type"] == "application/x-protobuf"
    assert len(streams[0][1]) == 3


def test_the_tenant_is_a_header_and_a_part_of_where_records_go() -> None:
    with FarEnd() as far_end:
        assert sent(far_end, numbered(1), tenant="shop-1")[0]["x-scope-orgid"] == "shop-1"
        assert "x-scope-orgid" not in sent(far_end, numbered(1))[0]
    one, other = (LokiSink(endpoint="http://h:3100", tenant=tenant).destination for tenant in ("a", "b"))
    assert one == "http://h:3100/loki/api/v1/push#a"
    assert one != other


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("", "/loki/api/v1/push"),
        ("/", "/loki/api/v1/push"),
        ("/logs", "/logs/loki/api/v1/push"),
        ("/api/push", "/api/push"),
    ],
)
def test_the_path_is_found_unless_it_is_given(written: str, path: str) -> None:
    assert LokiSink(endpoint=f"http://h:3100{written}").endpoint == f"http://h:3100{path}"


def test_it_authenticates_as_every_network_sink() -> None:
    with FarEnd() as far_end:
        assert sent(far_end, numbered(1), token="abc")[0]["authorization"] == "Bearer abc"
        assert sent(far_end, numbered(1), username="a", password="b")[0]["authorization"].startswith("Basic ")
        assert sent(far_end, numbered(1), headers={"X-Team": "shop"})[0]["x-team"] == "shop"


# Labels


def test_a_uri_has_labels_and_a_tenant() -> None:
    spec = parse_sink("loki://loki.example:3100?label.app=shop&label.env=prod&tenant=a&label_fields=level+logger")
    sink = build_sink(spec, spec.options)
    assert isinstance(sink, LokiSink)
    assert sink.endpoint == "http://loki.example:3100/loki/api/v1/push"
    assert (sink.label, sink.tenant) == ({"app": "shop", "env": "prod"}, "a")
    assert sink.label_fields == ["level", "logger"]


def test_a_uri_over_tls_says_so() -> None:
    spec = parse_sink("loki+https://loki.example/")
    sink = build_sink(spec, spec.options)
    assert isinstance(sink, LokiSink)
    assert (spec.name, sink.endpoint) == ("loki", "https://loki.example/loki/api/v1/push")


def test_variables_set_labels(monkeypatch: pytest.MonkeyPatch, loki: LokiReceiver) -> None:
    monkeypatch.setenv("FAPILOG_SINKS", "loki")
    monkeypatch.setenv("FAPILOG_LOKI__ENDPOINT", loki.url(""))
    monkeypatch.setenv("FAPILOG_LOKI__LABEL__APP", "shop")
    monkeypatch.setenv("FAPILOG_LOKI__LABEL_FIELDS", "level,logger")
    monkeypatch.setenv("FAPILOG_SERVICE", "shop")
    with configure_logging(access_log=False) as handle:
        log.info("order")
        assert handle.flush(10).ok
    (labels,) = loki.streams()
    assert labels == '{app="shop", level="info", logger="root", service_name="shop", slot="0"}'


def test_values_of_labels_are_cleaned(loki: LokiReceiver, body: Body) -> None:
    hostile = [
        'a"b\\c',
        "line\nbreak\x00\x1b[31m",
        "\u202e",
        "x" * 5_000,
        "ž" * 3_000,
        True,
        1.5,
        7,
        None,
        "",
        ["a"],
        {"b": 1},
    ]
    sink = LokiSink(endpoint=loki.url(""), body=body, label_fields=["http.route"], slot_label="")
    write(sink, batch_of(*[{"http.route": value, "number": number} for number, value in enumerate(hostile)]))
    assert sorted(numbers(loki)) == list(range(len(hostile)))
    routes = {json.loads(entries[0][1])["number"]: labels for labels, entries in loki.streams().items()}
    assert routes[0] == r'{http_route="a\"b\\c", service_name="unknown_service"}'
    assert 'http_route="line_break__[31m"' in routes[1]
    assert 'http_route="true"' in routes[5]
    assert 'http_route="1.5"' in routes[6]
    assert len(loki.streams()) == 9


def test_a_label_has_so_many_values_and_the_rest_is_metadata(
    loki: LokiReceiver, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = LokiSink(endpoint=loki.url(""), label_fields=["level", "user"], label_max_values=5)
    write(sink, *[batch_of({"user": f"u{number}", "number": number}) for number in range(20)])
    streams = loki.streams()
    other = '{level="info", service_name="unknown_service", slot="0", user="__other__"}'
    assert len(streams) == 6
    assert [metadata["user"] for _, _, metadata in streams[other]] == [f"u{number}" for number in range(5, 20)]
    assert "the Loki label 'user' has more than 5 values" in capfd.readouterr().err
    assert sink.label_capped == 15


def test_a_process_has_so_many_streams(loki: LokiReceiver, capfd: pytest.CaptureFixture[str]) -> None:
    sink = LokiSink(endpoint=loki.url(""), label_fields=["a", "b", "c"], label_max_values=1_000)
    records = [
        {"number": number, "a": f"{number % 40}", **({"b": f"{number % 41}"} if number % 3 else {})}
        for number in range(2_000)
    ]
    write(sink, batch_of(*records))
    streams = loki.streams()
    assert len(streams) == 100
    other = streams['{a="__other__", b="__other__", c="__other__", service_name="unknown_service", slot="0"}']
    assert all(metadata["a"] == json.loads(line)["a"] for _, line, metadata in other)
    assert sorted(numbers(loki)) == list(range(2_000))
    assert "too many streams" in capfd.readouterr().err
    assert sink.label_capped == len(other)


def test_what_is_remembered_of_labels_is_bounded(loki: LokiReceiver) -> None:
    sink = LokiSink(endpoint=loki.url(""), label_fields=["user"])
    write(
        sink, numbered(1), *[batch_of(*[{"user": f"{batch}-{number}"} for number in range(500)]) for batch in range(10)]
    )
    streams = LokiSink(endpoint=loki.url(""), label_fields=["user"])._opened_streams()
    for number in range(10_000):
        streams.choose({"user": f"{number}"})
    assert len(streams._known) <= 1_000
    assert len(streams._streams) <= 100


def test_processes_at_once_have_different_slots_and_one_after_the_other_the_same(loki: LokiReceiver) -> None:
    def slots() -> set[str]:
        return {labels.partition('slot="')[2][0] for labels in loki.streams()}

    async def both() -> None:
        one, other = (LokiSink(endpoint=loki.url("")) for _ in range(2))
        await one.write(numbered(1))
        await other.write(numbered(1))
        await one.close()
        await other.close()

    write(LokiSink(endpoint=loki.url("")), numbered(1))
    write(LokiSink(endpoint=loki.url("")), numbered(1))
    assert slots() == {"0"}
    asyncio.run(both())
    assert slots() == {"0", "1"}


def test_a_forked_child_has_a_slot_of_its_own(loki: LokiReceiver, tmp_path: Path) -> None:
    with configure_logging(
        sinks=[loki.url("").replace("http", "loki")], access_log=False, spool_path=tmp_path
    ) as handle:
        log.info("parent")
        handle.flush(10)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                log.info("child")
                from fapilog import runtime

                assert runtime._state.runtime is not None
                status = 0 if runtime._state.runtime.worker.flush(10).ok else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        log.info("parent again")
        handle.flush(10)
    found = {
        labels.partition('slot="')[2][0]: [json.loads(line)["event"] for _, line, _ in entries]
        for labels, entries in loki.streams().items()
    }
    assert found == {"0": ["parent", "parent again"], "1": ["child"]}
    assert (tmp_path / "slots" / "0.lock").exists()


def test_where_no_slot_can_be_taken_it_says_so_and_goes_on(
    loki: LokiReceiver, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    write(LokiSink(endpoint=loki.url(""), slot_path=tmp_path / "file"), numbered(1))
    assert 'slot="none"' in next(iter(loki.streams()))
    assert "no slot for the Loki label 'slot'" in capfd.readouterr().err


def test_records_without_any_label_are_those_of_an_unknown_service() -> None:
    with FarEnd() as far_end:
        _, streams = sent(far_end, numbered(1), label_fields=["nothing"], slot_label="")
    assert streams[0][0] == '{service_name="unknown_service"}'


# Lines


def test_a_long_line_is_cut_and_is_still_json(loki: LokiReceiver, body: Body) -> None:
    long: list[dict[str, Any]] = [
        {"number": 0, "event": "x" * 300_000},
        {"number": 1, "nested": {"deep": ["ž" * 200_000, {"more": "🐎" * 100_000}]}},
        {"number": 2, **{f"field{each}": "y" * 10_000 for each in range(40)}},
        {"number": 3, "many": list(range(100_000))},
        {"number": 4, "x" * 300_000: "name"},
        {"number": 5, "quotes": '"\\\n\x00' * 100_000},
        {"number": 6, **{f"{each}": each for each in range(40_000)}},
    ]
    batch = batch_of(*long)
    for index in range(len(batch)):
        write(LokiSink(endpoint=loki.url(""), body=body), batch[index : index + 1])
    assert all(len(line.encode()) <= 262_144 for entries in loki.streams().values() for _, line, _ in entries)
    stored = {record.get("number", "left out"): record for record in loki.stored()}
    assert len(loki.stored()) == len(long)
    for record in loki.stored():
        assert record["_truncated"]["bytes"] > 262_144
        assert record["trace_id"] == RECORD["trace_id"]
    assert len(stored[0]["event"]) > 255_000
    assert len(json.dumps(stored[2])) > 200_000


def test_a_line_at_the_limit_is_left_alone(loki: LokiReceiver) -> None:
    line = json.dumps(RECORD)[:-1] + ',"text":"'
    line += "x" * (262_144 - len(line) - 2) + '"}'
    write(LokiSink(endpoint=loki.url("")), Batch([Record(20, time.time_ns(), line.encode() + b"\n")]))
    assert [found for entries in loki.streams().values() for _, found, _ in entries] == [line]


def test_a_lower_limit_of_loki_is_learnt_and_the_line_cut_to_it(loki: LokiReceiver, body: Body) -> None:
    loki.limit(max_line_size=4_096)
    sink = LokiSink(endpoint=loki.url(""), body=body)
    write(
        sink,
        batch_of(*[{"number": number, "text": "x" * (10_000 if number % 10 == 0 else 10)} for number in range(50)]),
    )
    assert sorted(numbers(loki)) == list(range(50))
    assert sink.line_max_bytes == 4_096
    assert len(loki.report()["requests"]) == 3


def test_records_that_are_refused_for_different_reasons_are_told_apart(loki: LokiReceiver, body: Body) -> None:
    loki.limit(max_line_size=4_096, max_label_names=4)
    now, week = time.time_ns(), 8 * 86_400 * 10**9
    records: list[dict[str, Any]] = [{"number": number, "at": now + number} for number in range(60)]
    for number in range(0, 60, 10):
        records[number]["at"] = now - week
        records[number + 3]["text"] = "x" * 5_000
        records[number + 5]["user"] = "ann"
        records[number + 7]["at"] = now + week
    sink = LokiSink(endpoint=loki.url(""), body=body, label_fields=["level", "env", "host", "user"])
    error = fail(sink, batch_of(*records), BatchRejectedError)
    assert sorted(error.rejected) == [number for number in range(60) if number % 10 in (0, 5, 7)]
    assert sorted(numbers(loki)) == [number for number in range(60) if number % 10 not in (0, 5, 7)]


def test_equal_values_of_different_types_are_not_confused(loki: LokiReceiver) -> None:
    values = [1, True, 1.0, 0, False, None, "1", "true"]
    sink = LokiSink(endpoint=loki.url(""), label_fields=["level"], metadata_fields=["user", "request_id"])
    write(sink, batch_of(*[{"number": number, "user": value} for number, value in enumerate(values)]))
    ((_, entries),) = loki.streams().items()
    assert [metadata.get("user") for _, _, metadata in entries] == ["1", "true", "1.0", "0", "false", None, "1", "true"]
    labelled = LokiSink(endpoint=loki.url(""), label_fields=["user"])
    write(labelled, batch_of(*[{"number": number, "user": value} for number, value in enumerate(values)]))
    found = {labels: len(entries) for labels, entries in loki.streams().items() if "user=" in labels}
    assert {labels.partition('user="')[2][:-2]: count for labels, count in found.items()} == {
        "1": 2,
        "true": 2,
        "1.0": 1,
        "0": 1,
        "false": 1,
    }


def test_a_limit_too_low_to_be_meant_keeps_the_records(loki: LokiReceiver) -> None:
    loki.limit(max_line_size=100)
    fail(LokiSink(endpoint=loki.url("")), numbered(2), MisconfiguredError)


def test_what_is_no_json_is_sent_as_it_is(loki: LokiReceiver, body: Body) -> None:
    lines = [
        b"plain text\n",
        b"\xff\xfe not utf-8\n",
        b"[1, 2]\n",
        b"NaN\n",
        b'"\\ud800"\n',
        b"\n",
        b"{" * 3_000 + b"\n",
    ]
    batch = Batch([Record(40, time.time_ns() + number, line) for number, line in enumerate(lines)])
    write(LokiSink(endpoint=loki.url(""), body=body), batch)
    ((labels, entries),) = loki.streams().items()
    assert 'level="error"' in labels
    assert [line for _, line, _ in entries] == [line[:-1].decode("utf-8", "replace") for line in lines]


# What Loki answers


def test_a_push_is_below_a_megabyte(loki: LokiReceiver) -> None:
    loki.limit(rate_bytes=10**9, burst_bytes=1_000_000)  # what is larger is never taken
    batch = numbered(20, text="x" * 90_000)
    fail(LokiSink(endpoint=loki.url("")), batch, BatchTooLargeError)
    with configure_logging(sinks=[LokiSink(endpoint=loki.url(""), body="json")], access_log=False) as handle:
        for number in range(100):
            log.info("order", number=number, parts=["x" * 30_000] * 3)
        assert handle.flush(20).ok
    assert sorted(numbers(loki)) == list(range(100))
    assert {request["status"] for request in loki.report()["requests"]} == {204}


def test_its_batches_fit_into_one_push_unless_the_options_say_otherwise(loki: LokiReceiver) -> None:
    loki.limit(rate_bytes=10**9, burst_bytes=10**9)
    for number, options in enumerate(({}, {"batch_max_bytes": 100_000})):
        with configure_logging(
            sinks=["loki"], loki={"endpoint": loki.url(""), "linger_seconds": 0.3, **options}, access_log=False
        ) as handle:
            for _ in range(40):
                log.info("order", number=number, text="x" * 30_000)
            assert handle.flush(20).ok
    sizes = [request["bytes"] for request in loki.report()["requests"]]
    assert len(sizes) >= 2 + 13
    assert len(numbers(loki)) == 80
    assert {request["status"] for request in loki.report()["requests"]} == {204}


@pytest.mark.parametrize("kind", ["old", "behind", "new"])
def test_of_a_batch_with_records_that_are_refused_the_rest_is_stored_and_they_are_named(
    loki: LokiReceiver, body: Body, kind: str
) -> None:
    now, hour = time.time_ns(), 3_600 * 10**9
    bad = {"old": now - 200 * hour, "behind": now - 3 * hour, "new": now + 2 * hour}[kind]
    levels = ("info", "error")
    records = [
        {"number": number, "level": levels[number % 2], "at": (bad if number % 5 == 0 else now) + number}
        for number in range(100)
    ]
    sink = LokiSink(endpoint=loki.url(""), body=body)
    batch = batch_of(*records)
    if kind == "behind":  # the newest of a stream decides, and it is stored already
        write(
            LokiSink(endpoint=loki.url("")), *[batch_of({"number": 1_000, "level": level}, at=now) for level in levels]
        )
    error = fail(sink, batch, BatchRejectedError)
    assert sorted(error.rejected) == list(range(0, 100, 5))
    assert sorted(number for number in numbers(loki) if number < 1_000) == [n for n in range(100) if n % 5]


def test_records_within_the_second_of_the_limit_are_told_apart(loki: LokiReceiver, body: Body) -> None:
    loki.limit(reject_old_seconds=3_600)
    edge = time.time_ns() - 3_600 * 10**9 + 200_000_000
    batch = batch_of(*[{"number": number, "at": edge + (number - 50) * 20_000_000} for number in range(100)])
    error = fail(LokiSink(endpoint=loki.url(""), body=body), batch, BatchRejectedError)
    assert {*error.rejected, *numbers(loki)} == set(range(100))
    assert len(set(numbers(loki)) & set(error.rejected)) <= 20, "the limit moves while it is looked for"


def test_a_whole_batch_that_is_too_far_behind_takes_few_requests(loki: LokiReceiver) -> None:
    now, behind = time.time_ns(), time.time_ns() - 3 * 3_600 * 10**9
    write(
        LokiSink(endpoint=loki.url("")), batch_of({"level": "info"}, {"level": "error"}, {"level": "warning"}, at=now)
    )
    batch = batch_of(*[{"level": ("info", "error", "warning")[n % 3], "at": behind + n} for n in range(1_000)])
    error = fail(LokiSink(endpoint=loki.url("")), batch, BatchRejectedError)
    assert len(error.rejected) == 1_000
    assert len(loki.report()["requests"]) == 1 + 4


def test_a_body_that_is_refused_for_one_record_costs_that_record_alone(loki: LokiReceiver) -> None:
    """What cannot happen, since nothing that Loki cannot parse is sent: a push of which nothing is stored."""
    sink = LokiSink(endpoint=loki.url(""), body="json")

    async def post(push: Any, real: Any = sink._post) -> Any:
        found = await real(push)
        if any(json.loads(entry.line)["number"] == 37 for entries in push.values() for entry in entries):
            return found._replace(status=400, body=b"loghttp.PushRequest.Streams: unmarshalerDecoder")
        return found

    sink.__dict__["_post"] = post
    error = fail(sink, numbered(100), BatchRejectedError)
    assert sorted(error.rejected) == [37]
    assert sorted(set(range(100)) - set(numbers(loki))) in ([], [37])


def test_a_rate_limit_is_waited_for_and_a_push_above_it_split(loki: LokiReceiver, body: Body) -> None:
    loki.limit(rate_bytes=100_000, burst_bytes=150_000)
    large = numbered(400, text="x" * 500)
    fail(LokiSink(endpoint=loki.url(""), body=body), large, BatchTooLargeError)
    write(LokiSink(endpoint=loki.url(""), body=body), large[:150])
    loki.limit(burst_bytes=1_000)  # however slow this test is, there is no room
    error = fail(LokiSink(endpoint=loki.url(""), body=body), large[150:250], RetryableError)
    assert not error.ambiguous
    assert len(loki.stored()) == 150


def test_a_limit_of_one_stream_is_waited_for_and_ambiguous() -> None:
    said = b"entry with timestamp x ignored, reason: 'Per stream rate limit exceeded (limit: 3MB/sec) while attempting'"
    with FarEnd() as far_end:
        far_end.say(answer(429, said))
        error = fail(LokiSink(endpoint=far_end.url), numbered(2), RetryableError)
    assert error.ambiguous
    assert not isinstance(error, MisconfiguredError)


def test_streams_beyond_the_limit_of_loki_share_one(
    loki: LokiReceiver, body: Body, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = LokiSink(endpoint=loki.url(""), body=body, label_fields=["level", "user"])

    async def run() -> None:
        await sink.write(batch_of({"number": 100}))
        loki.limit(max_streams=5)
        await sink.write(
            batch_of(
                {"number": 101, "level": "info", "user": "__other__"},
                {"number": 102, "level": "__other__", "user": "__other__"},
            )
        )
        await sink.write(batch_of(*[{"number": number, "user": f"u{number}"} for number in range(10)]))
        requests = len(loki.report()["requests"])
        await sink.write(batch_of(*[{"number": 10 + number, "user": f"v{number}"} for number in range(10)]))
        assert len(loki.report()["requests"]) == requests + 1
        await sink.close()

    asyncio.run(run())
    assert sorted(numbers(loki)) == [*range(20), 100, 101, 102]
    streams = loki.streams()
    assert len(streams) == 5
    other = streams['{level="__other__", service_name="unknown_service", slot="0", user="__other__"}']
    assert [metadata.get("user") for _, _, metadata in other][1:] == [f"u{n}" for n in range(2, 10)] + [
        f"v{n}" for n in range(10)
    ]
    assert "takes no further stream" in capfd.readouterr().err


def test_where_loki_takes_no_stream_at_all_the_records_are_kept_and_it_is_tried_rarely(loki: LokiReceiver) -> None:
    loki.limit(max_streams=0)
    error = fail(LokiSink(endpoint=loki.url("")), numbered(10), MisconfiguredError)
    assert "max_streams_per_user" in str(error)
    assert len(loki.report()["requests"]) == 2


def test_a_loki_without_structured_metadata_gets_none(loki: LokiReceiver, body: Body) -> None:
    loki.limit(metadata=False)
    write(LokiSink(endpoint=loki.url(""), body=body), numbered(10), numbered(10))
    assert len(numbers(loki)) == 20
    assert len(loki.report()["requests"]) == 3


def test_a_missing_tenant_keeps_the_records(loki: LokiReceiver) -> None:
    loki.limit(auth=True)
    fail(LokiSink(endpoint=loki.url("")), numbered(1), CredentialsError)
    write(LokiSink(endpoint=loki.url(""), tenant="shop"), numbered(1))


def test_blocked_ingestion_keeps_the_records(loki: LokiReceiver) -> None:
    loki.limit(blocked=True)
    assert "260" in str(fail(LokiSink(endpoint=loki.url("")), numbered(1), MisconfiguredError))
    assert loki.streams() == {}


@pytest.mark.parametrize("status", [200, 202, 206])
def test_only_204_is_a_success(status: int) -> None:
    with FarEnd() as far_end:
        far_end.say(answer(status, b"<html>please log in</html>"))
        assert fail(LokiSink(endpoint=far_end.url), numbered(1), MisconfiguredError).ambiguous


@pytest.mark.parametrize("said", [b"snappy: corrupt input", b'Content-Encoding "gzip" not supported', b"EOF"])
def test_a_far_end_that_reads_no_push_at_all_keeps_the_records(said: bytes) -> None:
    with FarEnd() as far_end:
        far_end.say(answer(400, said))
        fail(LokiSink(endpoint=far_end.url), numbered(10), MisconfiguredError)
        assert len(far_end.requests) == 1


def test_who_is_refused_without_end_is_left_to_the_pipeline_to_find() -> None:
    with FarEnd() as far_end:
        far_end.say(answer(400, b"no"))
        assert fail(LokiSink(endpoint=far_end.url), numbered(1_000), BatchRejectedError).rejected is None
        assert len(far_end.requests) <= 65


# What cannot be used


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": "loki.example:3100"}, "write http://host:port/path"),
        ({"endpoint": "ftp://loki.example:3100"}, "got the scheme 'ftp'"),
        ({"endpoint": "http:///loki"}, "names no host"),
        ({"label": {"a-b": "c"}}, "'a-b' is no name of a label"),
        ({"label": {"a.b": "c"}}, "'a.b' is no name of a label"),
        ({"label": {"1a": "c"}}, "'1a' is no name of a label"),
        ({"label": {"__a": "c"}}, "'__a' is no name of a label"),
        ({"label": {"": "c"}}, "'' is no name of a label"),
        ({"slot_label": "a b"}, "'a b' is no name of a label"),
        ({"label": {"a": ""}}, "the value of the label 'a' is empty"),
        ({"label": {"a": "b\nc"}}, "not one line"),
        ({"label": {"a": "b" * 3_000}}, "longer than 1 024 bytes"),
        ({"label": {f"l{number}": "x" for number in range(11)}}, "16 labels are more than the 15"),
        ({"label_fields": [], "slot_label": ""}, "there is no label"),
        ({"label": "app=shop"}, "this is not JSON"),
        ({"labels": {"app": "shop"}}, "did you mean 'label'"),
        ({"tenant_id": "a"}, "did you mean 'tenant'"),
        ({"tenant": "a|b"}, "is no tenant"),
        ({"tenant": "a\r\nX-Injected: b"}, "is no tenant"),
        ({"tenant": "x" * 151}, "is no tenant"),
        ({"tenant": ".."}, "is no tenant"),
        ({"tenant": ""}, "is no tenant"),
        ({"tenant": "a", "headers": {"X-Scope-OrgID": "b"}}, "given both"),
        ({"line_max_bytes": 100}, "line_max_bytes"),
        ({"push_max_bytes": 1_000}, "push_max_bytes"),
        ({"metadata_fields": [f"f{number}" for number in range(40)]}, "more than 32 names"),
        ({"body": "xml"}, "body"),
    ],
)
def test_what_cannot_be_used_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        build_sink(parse_sink("loki"), {"endpoint": "http://h:3100", **options})
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "uri", ["ann:hunter2@loki:3100", "loki:3100/?token=hunter2", "loki.example/hunter2", "loki:3100"]
)
def test_a_uri_without_a_scheme_is_refused_and_not_repeated(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="needs a scheme, such as loki://host:3100") as raised:
        configure_logging(sinks=[uri])
    assert "hunter2" not in str(raised.value)
    monkeypatch.setenv("FAPILOG_SINKS", json.dumps([uri]))
    if "@" in uri:
        assert "hunter2" not in repr(LoggingSettings())


def test_credentials_in_the_address_are_moved_out_and_masked_everywhere(
    loki: LokiReceiver, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from fapilog.doctor import examine

    uri = loki.url("").replace("http://", "loki://ann:canary-hunter2@") + "?query=key%3Dcanary-hunter2"
    sink = build_sink(parse_sink(uri), parse_sink(uri).options)
    assert isinstance(sink, LokiSink)
    assert (sink.username, sink.endpoint) == (SecretStr("ann"), loki.url("/loki/api/v1/push"))
    said = [repr(sink), repr(dataclasses.asdict(sink)), sink.destination, repr(parse_sink(uri))]
    token = build_sink(parse_sink("loki://canary-token@loki"), parse_sink("loki://canary-token@loki").options)
    said += [repr(token), repr(dataclasses.asdict(token))]  # type: ignore[call-overload]
    monkeypatch.setenv("FAPILOG_SINKS", json.dumps([uri]))
    said += [examine()[0], repr(LoggingSettings()), LoggingSettings().model_dump_json()]
    loki.behave({"do": "status", "status": 401})
    with configure_logging(access_log=False, shutdown_timeout_seconds=0.5) as handle:
        log.info("order")
        handle.flush(0.5)
        said += [repr(handle.stats()), repr(handle.settings)]
    said += [capfd.readouterr().err, *map(str, tmp_path.rglob("*"))]
    assert [text for text in map(str, said) if "canary" in text] == []
    authorization = loki.report()["requests"][0]["headers"]["authorization"]
    assert authorization.startswith("Basic ")


def test_doctor_checks_it_without_taking_a_slot(loki: LokiReceiver, tmp_path: Path) -> None:
    spec = parse_sink(loki.url("").replace("http", "loki"))
    check_sink(spec, LoggingSettings(spool_path=tmp_path / "spool"))
    assert not (tmp_path / "spool").exists()


# Through the pipeline


def hostile(number: int, chance: random.Random) -> dict[str, Any]:
    """Return the fields of a record that something is wrong with."""
    return chance.choice(
        [
            {"text": "x" * 400_000},
            {"parts": ["y" * 31_000] * 12},
            {"lone": "\ud800 surrogate", "nan": float("nan"), "infinite": float("inf")},
            {"number_": 10**40, "bytes_": b"\xff\x00", "type_": object, "nothing": None},
            {"trace_id": "not an id", "span_id": 7, "request_id": "a\r\nb"},
            {"user": {"id": [number]}, "app": "other", "level": 5, "service": "fake"},
            {"user": f"{number}" * 1_000, "a-b": "c", "x" * 5_000: 1, "": 2},
            {"control": "\x00\x1b[31m\u202e\u2028\n", 'quo"te': '}{"'},
            {"user": "\x00\n" + "ž" * 2_000},
        ]
    )


def test_of_many_records_with_hostile_ones_all_are_stored(loki: LokiReceiver, body: Body) -> None:
    check_hostile(loki, body, 10_000)


@pytest.mark.faults_long
def test_of_a_hundred_thousand_records_with_hostile_ones_all_are_stored(loki: LokiReceiver, body: Body) -> None:
    check_hostile(loki, body, 100_000)


def check_hostile(loki: LokiReceiver, body: Body, count: int) -> None:
    loki.limit(rate_bytes=10**9, burst_bytes=10**9)
    chance = random.Random(6)  # noqa: S311 - the same records every time
    options = {"body": body, "label_fields": "level,user,service", "label": {"app": "shop"}}
    uri = loki.url("").replace("http", "loki")
    with configure_logging(
        sinks=[uri], loki=options, service="shop", access_log=False, queue_overflow="block", block_timeout_seconds=30
    ) as handle:
        for number in range(count):
            if number % 1_000 == 500:
                fields: dict[Any, Any] = {**hostile(number, chance), "number": number}
                log.info("order", **fields)
            else:
                log.info("order", number=number, user="ann")
        assert handle.flush(60).ok
        until = time.monotonic() + 60  # what went to the spool is safe, and on its way
        while (stats := handle.stats().sinks["loki"]).delivered < count and time.monotonic() < until:
            time.sleep(0.02)
    assert (stats.delivered, stats.dropped, stats.ambiguous) == (count, {}, 0)
    assert stats.balanced
    stored = loki.stored()
    assert len(stored) == count
    found = [record["number"] for record in stored if "number" in record]
    assert set(range(count)) - set(found) == set()
    assert all(request["status"] == 204 for request in loki.report()["requests"])
    for labels, entries in loki.streams().items():
        assert 'app="shop"' in labels
        ids = [int(json.loads(line)["id"].rpartition("-")[2]) for _, line, _ in entries]
        assert ids == sorted(ids)


def test_records_that_loki_refuses_are_counted_and_kept_for_a_person(loki: LokiReceiver, tmp_path: Path) -> None:
    loki.limit(max_label_names=3)
    uri = loki.url("").replace("http", "loki") + "?label_fields=level+user&linger_seconds=0.2&label.app=shop"
    with configure_logging(sinks=[uri], access_log=False, spool_path=tmp_path) as handle:
        for number in range(100):
            if number % 10:
                log.info("order", number=number)
            else:
                log.info("order", number=number, user="ann")
        assert handle.flush(10).ok
        stats = handle.stats().sinks["loki"]
    assert (stats.delivered, stats.dropped) == (90, {"rejected": 10})
    assert stats.balanced
    assert sorted(numbers(loki)) == [number for number in range(100) if number % 10]
    assert len((tmp_path / "dead" / "loki.jsonl").read_bytes().splitlines()) == 10


@pytest.fixture
def tls() -> Iterator[tuple[Path, Path, LokiReceiver]]:
    import tempfile

    import trustme

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / "ca.pem")
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
        authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(directory / "client.pem")
        arguments = ("--certificate", str(directory / "server.pem"), "--client-ca", str(directory / "ca.pem"))
        with LokiReceiver(*arguments) as running:
            yield directory / "ca.pem", directory / "client.pem", running


def test_it_pushes_over_tls_with_a_certificate_of_its_own(tls: tuple[Path, Path, LokiReceiver]) -> None:
    ca_file, client, loki = tls
    uri = f"loki+https://localhost:{loki.port}"
    with configure_logging(sinks=[uri], loki={"ca_file": ca_file, "client_cert": client}, access_log=False) as handle:
        log.info("order", number=7)
        assert handle.flush(10).ok
    assert numbers(loki) == [7]
    sink = build_sink(parse_sink(uri), {**parse_sink(uri).options, "client_cert": str(client)})
    fail(sink, numbered(1), MisconfiguredError)
