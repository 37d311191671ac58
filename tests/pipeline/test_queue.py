import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.pipeline.queue import NEVER, Overflow, Queue, Sequence
from fapilog.types import CRITICAL, DEBUG, ERROR, INFO, LEVEL_NAMES, TRACE, WARNING
from tests.programs import parse

FRONT = b'{"id":"i-'
TAKE, CLOSE = (-1, 0), (-2, 0)


def make_queue(overflow: Overflow = "drop", **options: object) -> Queue:
    return Queue(Sequence(), overflow=overflow, **{"max_records": 10, "block_timeout_seconds": 0.0, **options})  # type: ignore[arg-type]


def offer(queue: Queue, level: int = INFO, front: bytes = FRONT) -> bool:
    """Log one record as the recorder does: ask at the door, then put."""
    return not (queue.pressed and queue.refuses(level)) and queue.put(level, 0, front)


def fill(queue: Queue, level: int, count: int) -> int:
    """Offer *count* records and return how many were taken in."""
    return sum(offer(queue, level) for _ in range(count))


def numbers(queue: Queue) -> list[int]:
    return [int(parse(line)["id"].partition("-")[2]) for _, _, line in queue.take()[0]]


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_a_record_is_numbered_and_closed_as_one_line_of_json() -> None:
    queue = make_queue()
    assert queue.put(WARNING, 7, FRONT)
    assert queue.take() == ([(WARNING, 7, b'{"id":"i-1"}\n')], 13)


def test_numbers_have_no_gap_where_a_record_was_refused() -> None:
    queue = make_queue()
    fill(queue, INFO, 20)
    first = numbers(queue)
    fill(queue, INFO, 2)
    assert first + numbers(queue) == list(range(1, len(first) + 3))


def test_two_sequences_never_have_the_same_instance() -> None:
    assert len({Sequence().instance for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("overflow", ["drop", "auto"])
def test_drop_refuses_below_info_at_80_percent_below_warning_at_90_and_all_when_full(overflow: Overflow) -> None:
    queue = make_queue(overflow, max_records=100)
    taken = {LEVEL_NAMES[level]: fill(queue, level, 100) for level in (TRACE, INFO, WARNING)}
    assert taken == {"trace": 80, "info": 9, "warning": 11}
    assert fill(queue, CRITICAL, 5) == 0
    assert queue.dropped == {"queue_full": 20 + 91 + 89 + 5}


def test_block_refuses_nothing_before_the_queue_is_truly_full() -> None:
    queue = make_queue("block", max_records=100)
    assert fill(queue, TRACE, 120) == 100
    assert queue.dropped == {"queue_full": 20}


def test_drop_oldest_keeps_the_newest_and_counts_the_others_as_evicted() -> None:
    queue = make_queue("drop_oldest")
    assert fill(queue, INFO, 25) == 25
    assert (queue.evicted, queue.accepted, queue.dropped) == (15, 25, {})
    assert numbers(queue) == list(range(16, 26))


def test_drop_oldest_refuses_a_record_that_no_room_would_be_enough_for() -> None:
    queue = make_queue("drop_oldest", max_bytes=100)
    fill(queue, INFO, 8)
    assert not offer(queue, front=b"x" * 200)
    assert queue.dropped == {"queue_full": 1}


def test_sample_keeps_a_share_that_falls_from_all_at_half_full_to_none_when_full() -> None:
    queue = make_queue("sample", max_records=100, chance=lambda: 0.5)
    assert fill(queue, INFO, 100) == 74
    assert queue.dropped == {"sampled_under_pressure": 26}


def test_sample_asks_chance_once_for_each_record() -> None:
    asked: Iterator[float] = iter([0.0, 0.99, 0.0, 0.99])
    queue = make_queue("sample", chance=lambda: next(asked))
    fill(queue, INFO, 5)
    assert [offer(queue, INFO) for _ in range(4)] == [True, False, True, False]


def test_sample_keeps_warnings_until_the_queue_is_truly_full() -> None:
    queue = make_queue("sample", chance=lambda: 1.0)
    assert fill(queue, WARNING, 12) == 10
    assert queue.dropped == {"queue_full": 2}


@pytest.mark.parametrize("overflow", ["auto", "block"])
def test_a_thread_waits_for_room_and_its_record_is_kept(overflow: Overflow) -> None:
    queue = make_queue(overflow, block_timeout_seconds=30.0)
    fill(queue, INFO, 10)
    woken = threading.Event()
    queue.wake, queue.wake_at = woken.set, NEVER
    waiting = in_thread(lambda: offer(queue, INFO))
    assert woken.wait(10)
    assert len(queue.take()[0]) == 10
    waiting.join(10)
    assert numbers(queue) == [11]
    assert queue.dropped == {}


def test_a_thread_that_waited_in_vain_has_its_record_counted() -> None:
    queue = make_queue("auto", block_timeout_seconds=0.01)
    assert fill(queue, INFO, 11) == 10
    assert queue.dropped == {"block_timeout": 1}


@pytest.mark.parametrize("overflow", get_args(Overflow))
def test_an_event_loop_never_waits(overflow: Overflow) -> None:
    queue = make_queue(overflow, block_timeout_seconds=60.0)

    async def log() -> float:
        began = time.monotonic()
        fill(queue, INFO, 30)
        return time.monotonic() - began

    assert asyncio.run(log()) < 5


def test_a_thread_of_the_pipeline_never_waits_for_itself() -> None:
    queue = make_queue("block", block_timeout_seconds=60.0)
    thread = threading.Thread(target=fill, args=(queue, INFO, 11), name="fapilog-worker", daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert queue.dropped == {"queue_full": 1}


def test_closing_wakes_who_waits_and_refuses_the_rest_as_closed() -> None:
    queue = make_queue("block", block_timeout_seconds=60.0)
    fill(queue, INFO, 10)
    woken = threading.Event()
    queue.wake = woken.set
    waiting = in_thread(lambda: offer(queue, INFO))
    assert woken.wait(10)
    queue.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert not offer(queue, CRITICAL)
    assert queue.dropped.total() == 2


def test_a_closed_queue_stays_closed_when_it_has_been_emptied() -> None:
    queue = make_queue()
    queue.close()
    queue.take()
    assert not offer(queue)
    assert queue.dropped == {"closed": 1}


def test_who_waits_for_room_when_the_queue_is_replaced_goes_to_its_heir() -> None:
    queue, heir = make_queue("block", block_timeout_seconds=60.0), make_queue()
    fill(queue, INFO, 10)
    woken = threading.Event()
    queue.wake = woken.set
    waiting = in_thread(lambda: offer(queue, INFO))
    assert woken.wait(10)
    queue.heir = heir
    queue.close()
    waiting.join(10)
    assert (len(heir.items), queue.dropped) == (1, {})


def test_the_worker_is_woken_once_when_enough_waits() -> None:
    queue = make_queue()
    calls: list[int] = []
    queue.wake, queue.wake_at = lambda: calls.append(len(queue.items)), 30
    fill(queue, INFO, 6)
    assert calls == [3]


def rests(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return how long the calling thread rests while it queues a little more than 3 MiB."""
    rested: list[float] = []
    monkeypatch.setattr(time, "sleep", rested.append)
    queue.wake_at = 256 * 1024
    for _ in range(3_100):
        assert queue.put(INFO, 0, b"x" * 1_024)
    return rested


def test_a_loop_that_outruns_the_sinks_gives_way_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = make_queue("auto", max_records=10_000)
    assert rests(queue, monkeypatch) == [0.0002] * 6 + [0.001] * 5  # at half a MiB, and for each quarter more


def test_what_a_sink_has_still_to_write_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = make_queue("auto", max_records=10_000)
    queue.behind = 1024 * 1024
    assert len(rests(queue, monkeypatch)) == 12


@pytest.mark.parametrize("overflow", ["drop", "drop_oldest", "sample"])
def test_nobody_gives_way_where_nobody_is_to_wait(overflow: Overflow, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = make_queue(overflow, max_records=10_000, max_bytes=64 * 1024 * 1024)
    assert rests(queue, monkeypatch) == []


def test_an_event_loop_never_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = make_queue("auto", max_records=10_000)

    async def log() -> list[float]:
        return rests(queue, monkeypatch)

    assert asyncio.run(log()) == []


def test_bytes_bound_the_queue_whatever_the_number_of_records() -> None:
    queue = make_queue("block", max_records=1_000, max_bytes=1_000)
    taken = sum(offer(queue, front=b"x" * 100) for _ in range(20))
    assert taken == 10
    assert queue.bytes < 1_000 + 110  # one record may go over the edge


def test_a_thread_that_holds_the_lock_is_told_so_and_no_other() -> None:
    queue = make_queue()
    assert not queue.held_here()
    with queue.lock:
        assert queue.held_here()
        seen: list[bool] = []
        in_thread(lambda: seen.append(queue.held_here())).join(10)
        assert seen == [False]


@given(
    overflow=st.sampled_from(get_args(Overflow)),
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from([TRACE, DEBUG, INFO, WARNING, ERROR]), st.integers(0, 120)),
            st.sampled_from([TAKE, CLOSE]),
        ),
        max_size=120,
    ),
    chance=st.floats(0, 1),
)
def test_everything_put_is_taken_or_counted(overflow: Overflow, steps: list[tuple[int, int]], chance: float) -> None:
    queue = make_queue(overflow, max_records=12, max_bytes=900, chance=lambda: chance)
    offered = taken = 0
    accepted: Counter[bool] = Counter()
    for step in steps:
        if step == TAKE:
            taken += len(queue.take()[0])
        elif step == CLOSE:
            queue.close()
        else:
            offered += 1
            accepted[offer(queue, step[0], b"x" * step[1])] += 1
        assert len(queue.items) <= 12
        assert queue.bytes == sum(len(line) for _, _, line in queue.items)
        assert queue.bytes < 900 + 150  # one record may go over the edge
        assert queue.accepted == accepted[True] == taken + queue.evicted + len(queue.items)
        assert offered == queue.accepted + queue.dropped.total()


def test_four_threads_lose_nothing_between_them() -> None:
    queue = make_queue("drop", max_records=50_000)
    put: Counter[int] = Counter()

    def log(thread: int) -> None:
        for _ in range(2_000):
            put[thread] += offer(queue)

    threads = [in_thread(lambda thread=thread: log(thread)) for thread in range(4)]  # type: ignore[misc]
    taken: list[int] = []
    while any(thread.is_alive() for thread in threads):
        taken += numbers(queue)
    taken += numbers(queue)
    assert put.total() == 8_000
    assert taken == list(range(1, 8_001))
