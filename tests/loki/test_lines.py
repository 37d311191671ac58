import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.loki.lines import MIN_LINE_BYTES, shorten

TEXT = st.text(st.characters(codec="utf-8"), max_size=1_000)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(TEXT, inner, max_size=20),
    max_leaves=30,
)


@given(st.dictionaries(TEXT, VALUE, max_size=20), st.integers(MIN_LINE_BYTES, 20_000))
def test_any_record_is_json_within_the_limit_and_says_how_long_it_was(record: dict[str, Any], limit: int) -> None:
    record.pop("_truncated", None)
    line = orjson.dumps({"event": "x", "id": "a-1", **record})
    short = shorten(line, limit)
    assert len(short) <= limit
    found = json.loads(short)
    if len(line) <= limit:
        assert short == line
    else:
        assert found["_truncated"] == {"bytes": len(line)}


@given(st.binary(max_size=10_000))
def test_what_is_no_json_is_cut_as_text(line: bytes) -> None:
    text = b"x" + line.decode("utf-8", "replace").encode()
    assert text.startswith(shorten(text, MIN_LINE_BYTES))
    assert len(shorten(text, MIN_LINE_BYTES)) <= MIN_LINE_BYTES


def test_only_long_texts_are_cut_while_that_is_enough() -> None:
    line = orjson.dumps({"event": "x" * 100, "text": "y" * 10_000, "list": [1, 2], "more": {"deep": "z" * 100}})
    found = json.loads(shorten(line, 5_000))
    assert (found["event"], found["list"], found["more"]) == ("x" * 100, [1, 2], {"deep": "z" * 100})
    assert found["text"].endswith("y…")
    assert len(found["text"]) > 4_500


def test_what_tells_a_record_from_others_stays_longest() -> None:
    own = {"timestamp": "t", "level": "info", "event": "e", "id": "a-1", "trace_id": "4b", "service": "shop"}
    line = orjson.dumps({**own, **{f"field{number}": list(range(100)) for number in range(100)}})
    found = json.loads(shorten(line, 4_096))
    assert {name: found[name] for name in own} == own
    assert len(found) > len(own) + 1


def test_a_line_that_was_cut_before_says_how_long_it_was_at_first() -> None:
    line = orjson.dumps({"event": "x" * 9_000, "_truncated": {"bytes": 1_000_000}})
    assert json.loads(shorten(line, 4_096))["_truncated"] == {"bytes": 1_000_000}


@pytest.mark.parametrize("line", [b'{"a":' * 2_000 + b"1" + b"}" * 2_000, b"[" * 5_000, b'"' + b"x" * 5_000 + b'"'])
def test_what_cannot_be_taken_apart_is_cut_as_text(line: bytes) -> None:
    assert shorten(line, MIN_LINE_BYTES) == line[:MIN_LINE_BYTES]
