import pytest

from fapilog.testing import make_batch
from fapilog.types import LEVEL_ALIASES, LEVEL_NAMES, LEVELS, Batch, Record, nearest_level


def test_levels_rise_in_the_order_they_are_listed() -> None:
    assert list(LEVELS) == ["trace", "debug", "info", "success", "warning", "error", "critical"]
    assert list(LEVELS.values()) == sorted(LEVELS.values())


def test_every_alias_stands_for_a_level() -> None:
    assert set(LEVEL_ALIASES.values()) <= set(LEVEL_NAMES.values())


@pytest.mark.parametrize(
    ("number", "level"), [(-5, 5), (0, 5), (5, 5), (7, 5), (10, 10), (29, 25), (35, 30), (50, 50), (10**30, 50)]
)
def test_a_number_counts_as_the_level_below_it_or_the_lowest(number: int, level: int) -> None:
    assert nearest_level(number) == level


def test_a_batch_is_a_sequence_of_records() -> None:
    batch = make_batch("one", "two")
    assert len(batch) == 2
    assert isinstance(batch[0], Record)
    assert batch[-1] == list(batch)[1]
    assert [record.line for record in batch] == batch.lines


def test_a_slice_of_a_batch_is_a_batch_with_a_size_of_its_own() -> None:
    batch = make_batch("one", "two", "three")
    assert isinstance(batch[1:], Batch)
    assert batch[1:].lines == batch.lines[1:]
    assert batch[1:].size_bytes == len(batch[1:].payload) < batch.size_bytes


def test_a_batch_does_not_follow_the_list_it_was_made_from() -> None:
    records = list(make_batch("one", "two"))
    batch = Batch(records)
    records.clear()
    assert len(batch) == 2


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        make_batch("one")[0].line = b""


def test_a_batch_shows_its_size_and_not_its_records() -> None:
    assert repr(make_batch("canary")) == f"<Batch of 1 records, {make_batch('canary').size_bytes} bytes>"
