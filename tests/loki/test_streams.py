from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.loki.streams import MAX_VALUE_BYTES, OTHER, Streams, check_label_names, label_name

VALUE = st.none() | st.booleans() | st.integers(-20, 20) | st.floats() | st.text(max_size=10) | st.lists(st.none())
RECORD = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUE)


@given(st.lists(RECORD, max_size=200))
def test_whatever_is_logged_labels_and_streams_stay_few_and_no_value_is_lost(records: list[dict[str, Any]]) -> None:
    streams = Streams({"app": "shop"}, ["a", "b", "c"], max_values=3, max_streams=10)
    met = {}
    for record in records:
        stream, over = streams.choose(record)
        met[stream.text] = stream
        again, _ = streams.choose(record)
        assert again is stream
        labels = {**stream.labels, **dict(over)}
        for name, value in record.items():
            if isinstance(value, bool | int) or (isinstance(value, str) and value.isprintable() and value):
                said = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
                assert labels[name] == said
    assert len(met) <= 10
    for name in ("a", "b", "c"):
        assert len({stream.labels[name] for stream in met.values() if name in stream.labels} - {OTHER}) <= 3
    assert all(stream.labels["app"] == "shop" for stream in met.values())


@given(st.text())
def test_every_field_has_a_name_that_is_a_label(field: str) -> None:
    assert len(label_name(field).encode()) <= MAX_VALUE_BYTES
    check_label_names([label_name(field)])


def test_what_is_over_after_loki_has_enough_goes_to_one_stream() -> None:
    streams = Streams({"app": "shop"}, ["user"], max_values=50, max_streams=100)
    taken, refused = streams.choose({"user": "ann"})[0], streams.choose({"user": "bob"})[0]
    taken.accepted = True
    rest, over = streams.spill(refused)
    assert rest.labels == {"app": "shop", "user": OTHER}
    assert over == (("user", "bob"),)
    assert streams.choose({"user": "ann"}) == (taken, ())
    assert streams.choose({"user": "bob"}) == (rest, (("user", "bob"),))
    assert streams.choose({"user": "cat"}) == (rest, (("user", "cat"),))


@pytest.mark.parametrize("name", ["a", "_a", "A1", "a_b"])
def test_names_of_labels_are_those_of_loki(name: str) -> None:
    check_label_names([name])
