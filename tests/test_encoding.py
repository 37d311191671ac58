import enum
from typing import Any

import pytest

from fapilog.encoding import MAX_LINE_BYTES, encode, plain
from fapilog.processors.redact import Redact
from tests.programs import parse


class Header(str, enum.Enum):  # noqa: UP042 - StrEnum has the better str()
    AUTHORIZATION = "authorization"


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "harmless"


@pytest.mark.parametrize("key", [b"authorization", Header.AUTHORIZATION, Name("jwt"), "x" * 300 + "_token"])
def test_a_key_that_names_a_secret_still_does_as_text(key: Any) -> None:
    assert list(Redact()(None, "", plain({key: "canary"})).values()) == ["REDACTED"]


def test_keys_that_are_one_text_once_their_surrogates_are_mended_are_kept_apart() -> None:
    surrogates = [("\ud800", 1), ("\ud801", 2)]
    assert parse(encode({"a": dict(surrogates)}) + b"\n") == {"a": {"\ufffd": 1, "\ufffd_": 2}}


def test_an_event_that_is_cut_to_its_head_keeps_the_ids_of_its_request() -> None:
    wide = {f"k{number}": {f"k{inner}": "\x01" * 1_024 for inner in range(64)} for number in range(64)}
    ids = {"trace_id": "t", "span_id": "s", "parent_span_id": "p", "request_id": "r"}
    line = encode({"timestamp": "now", "level": "info", "event": "e", "logger": "l", **ids, **wide})
    assert len(line) <= MAX_LINE_BYTES
    cut = parse(line + b"\n")
    assert cut.pop("_truncated")["bytes"] > MAX_LINE_BYTES
    assert cut == {"timestamp": "now", "level": "info", "event": "e", "logger": "l", **ids}


def nested_lists(depth: int) -> list[Any]:
    made: list[Any] = ["leaf"] * 1_000
    for _ in range(depth):
        made = [made] * 1_000
    return made


class Hydra(enum.Enum):
    HEAD = list[Any]()  # noqa: RUF012 - it comes to hold itself


def test_lists_that_hold_one_another_a_thousand_times_are_cut_in_all() -> None:
    kept = str(plain(nested_lists(6)))
    assert kept.count("leaf") < 50_000
    assert "<+999 more>" in kept


def test_many_references_to_one_long_text_are_cut_in_all() -> None:
    kept = plain([["x" * 32_000] * 1_000] * 1_000)
    assert sum(len(text) for items in kept for text in items) < 5_000_000


def test_an_enum_that_holds_itself_ends() -> None:
    Hydra.HEAD.value[:] = [Hydra.HEAD] * 100
    assert "<depth>" in str(plain(Hydra.HEAD)) or "<cycle>" in str(plain(Hydra.HEAD))
