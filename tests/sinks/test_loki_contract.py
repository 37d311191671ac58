"""The Loki of our tests answers what a real Loki 3 answered, row by row."""

import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
import pytest

from tests.fake_loki import LIMITS, NS, Loki
from tests.loki_wire import encode_push

ROWS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("loki_contract.json").read_text())
CONTRACT = {row["case"]: row for row in ROWS}
NOW = time.time_ns()
SHOP = {"service": "shop"}

Request = tuple[dict[str, str], bytes]


def push(*values: list[Any], labels: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"streams": [{"stream": SHOP if labels is None else labels, "values": list(values)}]}


def at(seconds: float) -> list[Any]:
    return [str(NOW + int(seconds * NS)), "x"]


def line(text: str) -> list[Any]:
    return [str(NOW), text]


def letters(count: int) -> dict[str, str]:
    return {f"l{number}": "1" for number in range(count)}


BOTH: dict[str, list[dict[str, Any]]] = {
    "ok json": [push(at(0))],
    "ok structured metadata": [push([str(NOW), "x", {"trace_id": "abc"}])],
    "structured metadata dotted key": [push([str(NOW), "x", {"http.status": "200"}])],
    "older than newest in stream (1 min)": [push(at(0)), push(at(-60))],
    "too far behind (3 h)": [push(at(0)), push(at(-10_800))],
    "greater than max age (8 d)": [push(at(-8 * 86_400))],
    "future 5 min": [push(at(300))],
    "future 1 h": [push(at(3_600))],
    "empty labels": [push(at(0), labels={})],
    "bad label name dash": [push(at(0), labels={"a-b": "c"})],
    "bad label name dot": [push(at(0), labels={"a.b": "c"})],
    "16 labels": [push(at(0), labels=letters(16))],
    "15 labels": [push(at(0), labels=letters(15))],
    "label value 2049 chars": [push(at(0), labels={"a": "v" * 2_049})],
    "label name 1025 chars": [push(at(0), labels={"a" * 1_025: "v"})],
    "line 256KB+1": [push(line("x" * 262_145))],
    "line exactly 256KB": [push(line("x" * 262_144))],
    "one bad line of three": [push(line("a"), line("x" * 262_145), line("b"), labels={"service": "mix"})],
    "timestamp in seconds": [push([str(NOW // NS), "x"])],
    "empty values": [push()],
    "no streams": [{"streams": []}],
    "nul and control chars in line": [push(line("a\0b\x01\x1b"))],
    "duplicate entry": [push(at(0)), push(at(0))],
    "rate limited after 3 pushes of 2 MB": [
        push(*[[str(NOW), f"{push_number}{number}" + "x" * 199_998] for number in range(10)])
        for push_number in range(4)
    ],
}
"""Cases that can be said in JSON and in protobuf: pushes, of which the last has the answer."""


def as_json(body: Any, *, packed: bool = False) -> Request:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **({"content-encoding": "gzip"} if packed else {})}
    return headers, gzip.compress(text) if packed else text


def as_protobuf(body: dict[str, Any]) -> Request:
    streams = [
        (
            "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in each["stream"].items()) + "}",
            [(int(when), text, dict(*rest)) for when, text, *rest in each["values"]],
        )
        for each in body["streams"]
    ]
    return {"content-type": "application/x-protobuf"}, bytes(cramjam.snappy.compress_raw(encode_push(streams)))


ONE_SHAPE: dict[str, list[Request]] = {
    "ok gzip": [as_json(push(at(0)), packed=True)],
    "structured metadata non-string value": [as_json(push([str(NOW), "x", {"status": 200}]))],
    "label value non-string": [as_json(push(at(0), labels={"a": 5}))],
    "timestamp as number": [as_json(push([NOW, "x"]))],
    "invalid json": [as_json(b'{"streams":')],
    "wrong content type": [({"content-type": "text/plain"}, json.dumps(push(at(0))).encode())],
    "unsupported encoding": [({"content-type": "application/json", "content-encoding": "zstd"}, b"abc")],
    "empty body": [as_json(b"")],
    "lone surrogate escape": [as_json(push(line("\ud800")))],
    "tenant header (auth off)": [({"content-type": "application/json", "x-scope-orgid": "a"}, as_json(push(at(0)))[1])],
    "body of 110016010 bytes": [as_json(b" " * 110_016_010)],
}


def said(text: str) -> str:
    """Return an answer without the times in it, and without what a parser quotes of the body."""
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+ \+0000 UTC|Z)", "<time>", text)
    return text.partition("error found in")[0]


def replay(requests: list[Request]) -> tuple[int, str, Loki]:
    loki = Loki(clock=lambda: 0.0)  # so that no rate limit recovers meanwhile
    loki.limits = {**LIMITS, "rate_bytes": 4_194_304}
    answers = [loki.push(headers, body, NOW) for headers, body in requests]
    return *answers[-1], loki


@pytest.mark.parametrize("case", sorted(CONTRACT))
def test_every_row_has_a_request(case: str) -> None:
    assert (case in BOTH) != (case in ONE_SHAPE)


@pytest.mark.parametrize(
    ("case", "requests"),
    [
        *[
            (case, [shape(each) for each in pushes])
            for case, pushes in BOTH.items()
            for shape in (as_json, as_protobuf)
        ],
        *ONE_SHAPE.items(),
    ],
)
def test_it_answers_as_loki_did(case: str, requests: list[Request]) -> None:
    row = CONTRACT[case]
    status, text, _ = replay(requests)
    assert status == row["status"]
    expected = said(row["body"])
    assert said(text)[: len(expected)] == expected
    if len(row["body"]) < 500:  # longer ones were kept in part
        assert len(said(text)) == len(expected)


@pytest.mark.parametrize("shape", [as_json, as_protobuf])
def test_of_three_lines_with_a_bad_one_two_are_stored(shape: Callable[[Any], Request]) -> None:
    _, _, loki = replay([shape(each) for each in BOTH["one bad line of three"]])
    assert [entry[1] for entries in loki.streams.values() for entry in entries.values()] == ["a", "b"]


@pytest.mark.parametrize("shape", [as_json, as_protobuf])
def test_of_a_body_that_cannot_be_read_nothing_is_stored(shape: Callable[[Any], Request]) -> None:
    pushed = push(at(0))
    pushed["streams"].append({"stream": {"a-b": "c"}, "values": [at(0)]})
    status, _, loki = replay([shape(pushed)])
    assert (status, loki.streams) == (400, {})


@pytest.mark.parametrize("shape", [as_json, as_protobuf])
def test_an_entry_that_is_sent_twice_is_stored_once(shape: Callable[[Any], Request]) -> None:
    _, _, loki = replay([shape(each) for each in BOTH["duplicate entry"]])
    assert [len(entries) for entries in loki.streams.values()] == [1]
