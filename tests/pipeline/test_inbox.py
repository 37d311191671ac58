import asyncio
from itertools import chain, groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.pipeline.inbox import Inbox, size_of
from fapilog.pipeline.queue import Item, Overflow, Queue, Sequence
from fapilog.types import DEBUG, ERROR, INFO, WARNING

items = st.lists(
    st.builds(
        lambda level, size: (level, 0, b"x" * size), st.sampled_from([DEBUG, INFO, WARNING, ERROR]), st.integers(1, 9)
    )
)
equal = st.lists(st.builds(lambda level: (level, 0, b"x"), st.sampled_from([DEBUG, INFO, WARNING, ERROR])))
policies: st.SearchStrategy[Overflow] = st.sampled_from(["auto", "drop", "drop_oldest", "block", "sample"])
dropping: st.SearchStrategy[Overflow] = st.sampled_from(["auto", "drop", "block", "sample"])


def make(*sizes: int, level: int = INFO) -> list[Item]:
    return [(level, number, b"x" * size) for number, size in enumerate(sizes)]


def numbered(items: list[Item], first: int = 0) -> list[Item]:
    """Give each a number of its own in place of a time."""
    return [(level, number, line) for number, (level, _, line) in enumerate(items, first)]


def put(inbox: Inbox, items: list[Item]) -> list[Item]:
    """Put them, and return what went."""
    return list(chain.from_iterable(inbox.put(items, size_of(items)).values()))


def holding(items: list[Item], max_records: int, max_bytes: int, overflow: Overflow) -> Inbox:
    """Make an inbox that holds them, whatever its bounds."""
    inbox = Inbox(max_records, max_bytes, overflow)
    inbox.give_back(items)
    return inbox


def levels(items: list[Item]) -> list[tuple[int, int]]:
    """The levels in their order, each with how often in a row."""
    return [(level, len(list(run))) for level, run in groupby(item[0] for item in items)]


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
    inbox = Inbox(4, 1_000, "block")
    put(inbox, make(1, 1, 1, 1))
    taken = inbox.take(2, 100)
    put(inbox, make(1, 1))
    inbox.give_back(taken)
    assert len(inbox) == 6
    assert inbox.full


def test_filled_and_full_count_records_and_bytes() -> None:
    by_records, by_bytes = Inbox(4, 1_000, "block"), Inbox(100, 40, "block")
    seen = []
    for inbox in (by_records, by_bytes):
        for _ in range(4):
            put(inbox, make(10))
            seen.append((inbox.is_filled(2), inbox.full))
    assert seen == [(False, False), (True, False), (True, False), (True, True)] * 2


def test_an_empty_inbox_takes_all_that_a_queue_can_hold() -> None:
    inbox = Inbox(2, 10, "drop")
    assert put(inbox, make(9, 9, 9)) == []
    assert list(inbox.items) == make(9, 9, 9)


@pytest.mark.parametrize("overflow", ["auto", "drop", "drop_oldest", "block", "sample"])
def test_nothing_goes_when_nothing_comes(overflow: Overflow) -> None:
    inbox = holding(make(1, 1, 1), 2, 10, overflow)
    assert inbox.put([], 0) == {}
    assert list(inbox.items) == make(1, 1, 1)


@pytest.mark.parametrize("waited_for", [False, True])
@pytest.mark.parametrize("overflow", ["auto", "drop", "drop_oldest", "block"])
@pytest.mark.parametrize("level", [DEBUG, INFO, WARNING])
def test_an_inbox_that_fills_up_keeps_as_much_as_a_queue_would(
    overflow: Overflow, level: int, waited_for: bool
) -> None:
    queue = Queue(Sequence(), max_records=100, overflow=overflow)
    inbox = holding(make(1), 100, 1_000, overflow)

    def fill() -> None:
        for _ in range(150):
            if queue.pressed:
                queue.refuses(level)
            queue.put(level, 0, b'{"id":"i-')
            inbox.put([(level, 0, b"x")], 1, waited_for=waited_for)

    async def fill_on_a_loop() -> None:
        fill()

    if waited_for and overflow == "auto":  # then the thread that logs has waited, and nothing is refused
        queue = Queue(Sequence(), max_records=100, overflow="block")
    asyncio.run(fill_on_a_loop())
    assert len(inbox) == len(queue.items)


def test_sampling_keeps_a_falling_share_of_what_is_not_severe() -> None:
    chances = iter([0.79, 0.61, 0.59, 0.41])
    inbox = Inbox(10, 1_000, "sample", chance=lambda: next(chances))
    inbox.give_back(make(1, 1, 1, 1, 1))
    wanted = numbered([(INFO, 0, b"x"), (INFO, 0, b"x"), (INFO, 0, b"x"), (INFO, 0, b"x"), (ERROR, 0, b"x")], 5)
    assert inbox.put(wanted, 5) == {"sampled_under_pressure": [wanted[1], wanted[3]]}
    assert [item[1] for item in inbox.items] == [0, 1, 2, 3, 4, 5, 7, 9]


@pytest.mark.parametrize("overflow", ["auto", "drop", "block", "sample"])
def test_the_oldest_of_the_lowest_level_give_way_to_what_is_severe(overflow: Overflow) -> None:
    held = numbered([(level, 0, b"x") for level in (ERROR, INFO, DEBUG, WARNING, DEBUG, DEBUG)])
    inbox = holding(held, 6, 1_000, overflow)
    assert inbox.put([(ERROR, 6, b"x"), (WARNING, 7, b"x")], 2) == {"inbox_full": [held[2], held[4]]}
    assert [item[1] for item in inbox.items] == [0, 1, 3, 5, 6, 7]
    assert inbox.put([(WARNING, 8, b"x"), (INFO, 9, b"x"), (ERROR, 10, b"x")], 3) == {
        "inbox_full": [(INFO, 9, b"x"), held[5], held[1]]
    }
    assert [item[1] for item in inbox.items] == [0, 3, 6, 7, 8, 10]
    assert put(inbox, [(WARNING, 11, b"x"), (ERROR, 12, b"x")]) == [held[3], (WARNING, 11, b"x")]
    assert [item[1] for item in inbox.items] == [0, 6, 7, 8, 10, 12]
    assert inbox.bytes == 6


def test_nothing_gives_way_in_vain() -> None:
    inbox = holding(make(5, 5), 100, 10, "drop")
    large, small = (ERROR, 2, b"x" * 11), (ERROR, 3, b"x" * 6)
    assert put(inbox, [large]) == [large]
    assert put(inbox, [large, small]) == [*make(5, 5), large]
    assert list(inbox.items) == [small]


def test_many_severe_records_cost_no_more_than_one_look_at_each_that_gives_way() -> None:
    class Watched(int):
        looks = 0

        def __eq__(self, other: object) -> bool:
            Watched.looks += 1
            return int(self) == other

        __hash__ = int.__hash__

    inbox = holding([(Watched(INFO), 0, b"x") for _ in range(2_000)], 2_000, 10_000, "drop")
    assert len(put(inbox, [(ERROR, 0, b"x")] * 2_000)) == 2_000
    assert levels(list(inbox.items)) == [(ERROR, 2_000)]
    assert Watched.looks < 10_000


@given(held=items, wanted=items, overflow=policies)
def test_what_is_put_is_within_the_bounds_in_order_and_all_accounted_for(
    held: list[Item], wanted: list[Item], overflow: Overflow
) -> None:
    held = numbered(held)
    wanted = numbered(wanted, len(held))
    inbox = holding(held, 5, 30, overflow)
    lost = put(inbox, wanted)
    assert sorted([*inbox.items, *lost], key=lambda item: item[1]) == held + wanted
    assert [item[1] for item in inbox.items] == sorted(item[1] for item in inbox.items)
    assert inbox.bytes == size_of(inbox.items)
    if held:
        assert len(inbox) <= max(5, len(held))
        assert inbox.bytes <= max(30, size_of(held))


@given(held=equal, wanted=equal, overflow=dropping)
def test_only_the_lowest_and_oldest_give_way_and_only_where_they_must(
    held: list[Item], wanted: list[Item], overflow: Overflow
) -> None:
    held = numbered(held)
    wanted = numbered(wanted, len(held))
    inbox = holding(held, 8, 1_000, overflow)
    lost = put(inbox, wanted)
    refused = [item[0] for item in lost if item in wanted and item[0] >= WARNING]
    if refused:
        assert min(item[0] for item in inbox.items) >= max(refused)
    gave_way = [item for item in lost if item in held]
    if gave_way:
        assert len(inbox) == max(8, len(held))
        assert max(item[0] for item in gave_way) <= min(item[0] for item in inbox.items)
        for level in {item[0] for item in gave_way}:
            count = sum(item[0] == level for item in gave_way)
            oldest = [item for item in held if item[0] == level][:count]
            assert oldest == [item for item in gave_way if item[0] == level]


@given(held=items, wanted=items)
def test_with_drop_oldest_the_oldest_make_room(held: list[Item], wanted: list[Item]) -> None:
    held = numbered(held)
    wanted = numbered(wanted, len(held))
    inbox = holding(held, 5, 30, "drop_oldest")
    lost = put(inbox, wanted)
    assert [*lost, *inbox.items] == held + wanted
    if held and wanted:
        assert len(inbox) <= 5
        assert inbox.bytes <= 30
        assert not lost or len(inbox) == 5 or inbox.bytes + len(lost[-1][2]) > 30
