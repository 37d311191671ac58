from hypothesis import given
from hypothesis import strategies as st

from fapilog.pipeline.inbox import Inbox, size_of
from fapilog.pipeline.queue import Item
from fapilog.types import ERROR, INFO

items = st.lists(
    st.builds(lambda level, size: (level, 0, b"x" * size), st.sampled_from([INFO, ERROR]), st.integers(1, 9))
)


def make(*sizes: int, level: int = INFO) -> list[Item]:
    return [(level, number, b"x" * size) for number, size in enumerate(sizes)]


def put(inbox: Inbox, items: list[Item]) -> None:
    inbox.extend(items, size_of(items))


def test_what_is_taken_is_the_oldest_within_both_bounds() -> None:
    inbox = Inbox(100, 1_000, "drop")
    put(inbox, make(10, 10, 10, 10))
    assert [item[1] for item in inbox.take(3, 25)] == [0, 1]
    assert [item[1] for item in inbox.take(1, 25)] == [2]
    assert (len(inbox), inbox.bytes) == (1, 10)


def test_a_record_larger_than_a_batch_comes_alone() -> None:
    inbox = Inbox(100, 1_000, "drop")
    put(inbox, make(500, 1))
    assert [len(item[2]) for item in inbox.take(10, 20)] == [500]


def test_what_is_given_back_comes_first_and_in_its_order() -> None:
    inbox = Inbox(100, 1_000, "drop")
    put(inbox, make(1, 2, 3, 4))
    taken = inbox.take(3, 100)
    inbox.give_back(taken[1:])
    assert [len(item[2]) for item in inbox.take(9, 100)] == [2, 3, 4]


def test_what_is_given_back_fits_though_the_inbox_has_filled_up_meanwhile() -> None:
    inbox = Inbox(4, 1_000, "drop")
    put(inbox, make(1, 1, 1, 1))
    taken = inbox.take(2, 100)
    put(inbox, make(1, 1))
    inbox.give_back(taken)
    assert len(inbox) == 6
    assert inbox.full


def test_filled_and_full_count_records_and_bytes() -> None:
    by_records, by_bytes = Inbox(4, 1_000, "drop"), Inbox(100, 40, "drop")
    seen = []
    for inbox in (by_records, by_bytes):
        for _ in range(4):
            put(inbox, make(10))
            seen.append((inbox.is_filled(2), inbox.full))
    assert seen == [(False, False), (True, False), (True, False), (True, True)] * 2


def test_an_empty_inbox_takes_all_that_a_queue_can_hold() -> None:
    assert Inbox(2, 10, "drop").fit(make(9, 9, 9), 27) == (make(9, 9, 9), 0)


@given(held=items, wanted=items)
def test_what_fits_is_within_the_bounds_and_in_order(held: list[Item], wanted: list[Item]) -> None:
    inbox = Inbox(5, 30, "drop")
    put(inbox, held[:3])
    had_some = len(inbox) > 0
    kept, evicted = inbox.fit(wanted, size_of(wanted))
    assert evicted == 0
    assert [item for item in wanted if any(item is one for one in kept)] == kept
    if had_some:
        assert len(inbox) + len(kept) <= max(5, len(inbox))
        assert inbox.bytes + sum(len(item[2]) for item in kept) <= max(30, inbox.bytes)


@given(held=items, wanted=items)
def test_with_drop_oldest_the_oldest_make_room(held: list[Item], wanted: list[Item]) -> None:
    inbox = Inbox(5, 30, "drop_oldest")
    put(inbox, held[:3])
    before = list(inbox.items)
    kept, evicted = inbox.fit(wanted, size_of(wanted))
    assert inbox.evict(evicted) == before[:evicted]
    if before:
        assert len(inbox) + len(kept) <= 5
        assert inbox.bytes + sum(len(item[2]) for item in kept) <= 30
    assert inbox.bytes == sum(len(item[2]) for item in inbox.items)
