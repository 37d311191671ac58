import enum
from typing import Any

import pytest

from fapilog.encoding import MAX_LINE_BYTES, encode, plain
from fapilog.processors.redact import Redact
from tests.programs import parse


class Header(str, enum.Enum):
    AUTHORIZATION = "authorization"


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "harmless"


@pytest.mark.parametrize("key", [b"authorization", Header.AUTHORIZATION, Name("jwt"), "x" * 300 + "_token"])
def test_a_key_that_names_a_secret_still_does_as_text(key: Any) -> None:
    assert list(Redact()(None, "", plain({key: "canary"})).values()) == ["REDACTED"]


def test_keys_that_are_one_text_once_their_surrogates_are_mended_are_kept_apart() -> None:
    assert parse(encode({"a": {"\ud800": 1, "\ud801": 2}}) + b"\n") == {"a": {"\ufffd": 1, "\ufffd_": 2}}


def test_an_event_that_is_cut_to_its_head_keeps_the_ids_of_its_request() -> None:
    wide = {f"k{number}": {f"k{inner}": "\x01" * 1_024 for inner in range(64)} for number in range(64)}
    ids = {"trace_id": "t", "span_id": "s", "parent_span_id": "p", "request_id": "r"}
    line = encode({"timestamp": "now", "level": "info", "event": "e", "logger": "l", **ids, **wide})
    assert len(line) <= MAX_LINE_BYTES
    cut = parse(line + b"\n")
    assert cut.pop("_truncated")["bytes"] > MAX_LINE_BYTES
    assert cut == {"timestamp": "now", "level": "info", "event": "e", "logger": "l", **ids}
