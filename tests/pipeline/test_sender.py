import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fapilog.errors import (
    BatchRejectedError,
    BatchTooLargeError,
    CredentialsError,
    MisconfiguredError,
    RetryableError,
    SinkClosedError,
)
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.sender import Outcome, Sender
from fapilog.pipeline.threads import SinkThread
from fapilog.testing import make_batch
from fapilog.types import Batch, Sink


class Choosy:
    """A sink that raises what a function of the batch returns, and keeps the rest."""

    def __init__(self, judge: Callable[[Batch], BaseException | None]) -> None:
        self.judge = judge
        self.kept: list[bytes] = []
        self.asked: list[int] = []

    async def write(self, batch: Batch, /) -> None:
        self.asked.append(len(batch))
        error = self.judge(batch)
        if error is not None:
            raise error
        self.kept += batch.lines

    async def close(self) -> None: ...


@contextmanager
def sending(sink: Sink, **options: Any) -> Iterator[Callable[..., Outcome]]:
    """Send batches through one sender; it can be had from the function as ``sender``."""
    sender = Sender("tried", sink, DeliveryOptions(**options))

    async def main(batch: Batch) -> Outcome:
        sender.thread = SinkThread("tried")
        try:
            return await sender.send(batch)
        finally:
            sender.thread.stop()

    def send(*events: str) -> Outcome:
        return asyncio.run(main(make_batch(*events)))

    send.sender = sender  # type: ignore[attr-defined]
    yield send


def holding(word: str, error: BaseException) -> Callable[[Batch], BaseException | None]:
    """Judge a batch by whether a record of it has *word*."""
    return lambda batch: error if any(word.encode() in line for line in batch.lines) else None


EVENTS = [f"good {number}" for number in range(20)]


@pytest.mark.parametrize(
    ("error", "reason"), [(BatchRejectedError("no"), "rejected"), (BatchTooLargeError("no"), "too_large")]
)
def test_a_batch_is_split_until_the_culprits_are_alone(error: Exception, reason: str) -> None:
    events = [*EVENTS[:7], "bad", *EVENTS[7:19], "bad", EVENTS[19]]
    sink = Choosy(holding("bad", error))
    with sending(sink) as send:
        outcome = send(*events)
    assert (outcome.delivered, dict(outcome.dropped), outcome.error) == (20, {reason: 2}, None)
    assert [b"bad" in record.line for record in outcome.dead] == [True, True]
    assert sink.kept == [line for line in make_batch(*events).lines if b"bad" not in line]  # and in their order
    assert len(sink.asked) <= 24


def test_positions_that_a_sink_names_are_dropped_and_the_rest_is_delivered() -> None:
    with sending(Choosy(lambda _batch: BatchRejectedError("no", rejected=[0, 2]))) as send:
        outcome = send("a", "b", "c", "d")
    assert (outcome.delivered, dict(outcome.dropped)) == (2, {"rejected": 2})
    assert [b'"a"' in record.line or b'"c"' in record.line for record in outcome.dead] == [True, True]


def test_positions_that_do_not_exist_are_ignored() -> None:
    with sending(Choosy(lambda _batch: BatchRejectedError("no", rejected=[-1, 7]))) as send:
        outcome = send("a", "b")
    assert (outcome.delivered, outcome.processed) == (2, 2)


def test_it_stops_at_a_failure_and_says_what_is_done_with() -> None:
    def judge(batch: Batch) -> BaseException | None:
        if len(batch) > 5:
            return BatchTooLargeError("no")
        return RetryableError("busy") if b"good 10" in batch.payload else None

    with sending(Choosy(judge)) as send:
        outcome = send(*EVENTS)
    assert (outcome.delivered, outcome.processed, outcome.in_doubt) == (10, 10, 0)
    assert isinstance(outcome.error, RetryableError)


def test_the_records_of_an_attempt_without_an_answer_are_in_doubt() -> None:
    with sending(Choosy(lambda _batch: RetryableError("?", ambiguous=True))) as send:
        assert send("a", "b").in_doubt == 2


def test_an_attempt_of_a_coroutine_ends_in_time_and_is_in_doubt() -> None:
    class Silent(Choosy):
        async def write(self, batch: Batch, /) -> None:
            await asyncio.sleep(3600)

    with sending(Silent(lambda _batch: None), write_timeout_seconds=0.2) as send:
        began = time.monotonic()
        outcome = send("a", "b")
        assert time.monotonic() - began < 1
        assert (str(outcome.error), outcome.in_doubt) == ("no answer within 0.2 s", 2)
        assert send.sender.state == "up"  # type: ignore[attr-defined]


def test_a_timeout_of_the_sinks_own_is_told_as_it_is() -> None:
    with sending(Choosy(lambda _batch: TimeoutError("the lock"))) as send:
        outcome = send("a")
    assert (str(outcome.error), outcome.in_doubt) == ("the lock", 0)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_sink_that_blocks_its_thread_is_named_as_stalled(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    gate = threading.Event()
    states: list[str] = []

    class Plain:
        def write(self, _batch: Batch, /) -> None:
            gate.wait(20)

        def close(self) -> None: ...

    class Coroutine:
        async def write(self, _batch: Batch, /) -> None:
            gate.wait(20)

        async def close(self) -> None: ...

    with sending(Plain() if kind == "plain" else Coroutine()) as send:

        def look() -> None:
            until = time.monotonic() + 10
            while send.sender.state != "stalled" and time.monotonic() < until:  # type: ignore[attr-defined]
                time.sleep(0.01)
            states.append(send.sender.state)  # type: ignore[attr-defined]
            gate.set()

        looking = threading.Thread(target=look)
        looking.start()
        began = time.monotonic()
        assert send("a").delivered == 1
        assert time.monotonic() - began < 4
        looking.join(10)
        assert (states, send.sender.state) == (["stalled"], "up")  # type: ignore[attr-defined]
    assert capfd.readouterr().err == "fapilog: sink tried is stuck in write(); its records wait\n"


def test_a_far_end_that_is_slow_to_answer_is_not_stalled(capfd: pytest.CaptureFixture[str]) -> None:
    class Slow(Choosy):
        async def write(self, batch: Batch, /) -> None:
            await asyncio.sleep(1.3)

    with sending(Slow(lambda _batch: None)) as send:
        assert send("a").delivered == 1
    assert capfd.readouterr().err == ""


def test_a_batch_is_tried_again_as_often_as_was_said_and_the_next_one_as_often(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with sending(Choosy(lambda _batch: RetryableError("busy")), max_retry_attempts=2) as send:
        for _ in range(2):
            for _ in range(2):
                assert send("a").processed == 0
            outcome = send("a")
            assert dict(outcome.dropped) == {"retries_exhausted": 1}
            assert outcome.error is not None  # so that the sink is left alone for a while all the same
    assert "gave up on 1 records: RetryableError: busy" in capfd.readouterr().err


def test_with_no_retries_a_batch_is_tried_once() -> None:
    with sending(Choosy(lambda _batch: RetryableError("busy")), max_retry_attempts=0) as send:
        assert dict(send("a").dropped) == {"retries_exhausted": 1}


def test_it_is_down_after_so_many_failures_in_a_row_and_up_with_the_first_success() -> None:
    sink = Choosy(lambda _batch: None)
    with sending(sink, circuit_breaker_threshold=3) as send:
        sender: Sender = send.sender  # type: ignore[attr-defined]
        states = []
        for _ in range(3):
            sender.fail(RetryableError("busy"))
            states.append(sender.state)
        send("a")
    assert [*states, sender.state, sender.failures] == ["up", "up", "down", "up", 0]


@pytest.mark.parametrize("error", [MisconfiguredError("404"), CredentialsError("401")])
def test_what_somebody_has_to_mend_takes_it_down_at_once(error: Exception) -> None:
    sender = Sender("tried", Choosy(lambda _batch: None), DeliveryOptions())
    sender.fail(error)
    assert sender.state == "down"


def test_the_delay_grows_to_half_a_minute_with_full_jitter() -> None:
    sender = Sender("tried", Choosy(lambda _batch: None), DeliveryOptions(circuit_breaker_threshold=100))
    error, longest = RetryableError("busy"), []
    for _ in range(9):
        sender.fail(error)
        assert sender.delay_seconds(error, 0.0) == 0.0
        assert sender.delay_seconds(error, 0.5) == sender.delay_seconds(error, 1.0) / 2
        longest.append(sender.delay_seconds(error, 1.0))
    assert longest == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_sink_that_is_down_is_probed_within_its_timeout() -> None:
    sender = Sender("tried", Choosy(lambda _batch: None), DeliveryOptions(circuit_breaker_timeout_seconds=60))
    error = MisconfiguredError("404")
    sender.fail(error)
    assert [sender.delay_seconds(error, chance) for chance in (0.0, 0.5, 1.0)] == [30.0, 45.0, 60.0]


def test_what_the_far_end_asks_for_is_the_least_delay() -> None:
    sender = Sender("tried", Choosy(lambda _batch: None), DeliveryOptions())
    error = RetryableError("busy", retry_after_seconds=7.0)
    sender.fail(error)
    assert [sender.delay_seconds(error, chance) for chance in (0.0, 1.0)] == [7.0, 7.0]
    assert sender.delay_seconds(RetryableError("busy", retry_after_seconds=0.1), 1.0) == 0.5


def test_a_sink_that_closes_loses_the_batch_and_all_its_parts() -> None:
    def judge(batch: Batch) -> BaseException | None:
        return (
            BatchTooLargeError("no") if len(batch) > 2 else SinkClosedError("gone") if b'"c"' in batch.payload else None
        )

    with sending(Choosy(judge)) as send:
        outcome = send("a", "b", "c", "d")
        assert send.sender.state == "closed"  # type: ignore[attr-defined]
    assert (outcome.delivered, dict(outcome.dropped)) == (2, {"sink_closed": 2})


@pytest.mark.parametrize("nonsense", [42, "ok", object(), [1], False])
def test_whatever_write_returns_means_that_the_batch_was_delivered(nonsense: object) -> None:
    class Odd:
        def write(self, _batch: Batch, /) -> Any:
            return nonsense

        def close(self) -> None: ...

    with sending(Odd()) as send:
        assert send("a", "b").delivered == 2


def test_a_sink_cannot_change_its_batch() -> None:
    class Vandal:
        def write(self, batch: Any, /) -> None:
            batch.lines.clear()
            with pytest.raises(AttributeError):
                batch.clear()
            with pytest.raises(TypeError):
                batch[0] = b""
            assert [len(batch), len(batch.lines)] == [2, 2]

        def close(self) -> None: ...

    with sending(Vandal()) as send:
        assert send("a", "b").delivered == 2
