import gzip
import json

import cramjam
from hypothesis import given
from hypothesis import strategies as st

from fapilog.loki.push import Entry, json_body, protobuf_body, require_snappy, size_of
from fapilog.loki.streams import Stream
from tests.fake_loki import Loki
from tests.loki_wire import decode_push

TEXT = st.text(st.characters(codec="utf-8"), max_size=300)
NAME = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
ENTRY = st.builds(
    Entry,
    st.just(0),
    st.integers(0, 2**63 - 1),
    TEXT.map(str.encode),
    st.dictionaries(NAME, TEXT, max_size=4).map(lambda pairs: tuple(pairs.items())),
)
PUSH = st.lists(
    st.tuples(st.dictionaries(NAME, TEXT, min_size=1, max_size=4), st.lists(ENTRY, max_size=20)), max_size=4
)


@given(PUSH)
def test_both_bodies_hold_what_was_pushed(streams: list[tuple[dict[str, str], list[Entry]]]) -> None:
    push = {Stream(labels, is_overflow=False): entries for labels, entries in streams}
    expected = [[(at, line.decode(), dict(metadata)) for _, at, line, metadata in entries] for entries in push.values()]
    decoded = decode_push(bytes(cramjam.snappy.decompress_raw(require_snappy()(protobuf_body(push)))))
    assert [entries for _, entries in decoded] == expected
    assert [text for text, _ in decoded] == [stream.text for stream in push]
    found = json.loads(gzip.decompress(json_body(push)))["streams"]
    assert [[(int(at), line, dict(*rest)) for at, line, *rest in each["values"]] for each in found] == expected
    assert [each["stream"] for each in found] == [labels for labels, _ in streams]


@given(st.dictionaries(NAME, TEXT, min_size=1, max_size=4))
def test_labels_of_any_text_are_read_as_they_were_meant(labels: dict[str, str]) -> None:
    headers = {"content-type": "application/x-protobuf"}
    push = {Stream(labels, is_overflow=False): [Entry(0, 1, b"x", ())]}
    ((found, _),) = Loki()._read(headers, require_snappy()(protobuf_body(push)))
    assert found == labels


def test_the_size_is_that_of_lines_and_metadata() -> None:
    entries = [Entry(0, 1, b"abc", (("a", "ž"),)), Entry(1, 1, b"", ())]
    assert size_of({Stream({"a": "b"}, is_overflow=False): entries}) == 3 + 1 + 2
