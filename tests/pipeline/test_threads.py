import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fapilog.pipeline.threads import SinkFaultError, SinkThread, said


def on_thread(use: Callable[[SinkThread], Any]) -> Any:
    """Run a coroutine function of a thread on a loop of our own."""

    async def main() -> Any:
        thread = SinkThread("tried")
        try:
            async with asyncio.timeout(20):
                return await use(thread)
        finally:
            thread.stop()

    return asyncio.run(main())


def test_plain_functions_and_coroutines_run_on_the_thread_and_return_their_result() -> None:
    async def slow(number: int) -> tuple[int, str]:
        await asyncio.sleep(0.01)
        return number, threading.current_thread().name

    async def use(thread: SinkThread) -> list[Any]:
        return [await thread.call(slow, 1), await thread.call(lambda: threading.current_thread().name)]

    assert on_thread(use) == [(1, "fapilog-tried"), "fapilog-tried"]


def test_one_call_ends_before_the_next_begins() -> None:
    running: list[str] = []

    async def run(name: str) -> None:
        assert not running
        running.append(name)
        await asyncio.sleep(0.01)
        running.remove(name)

    async def use(thread: SinkThread) -> None:
        await asyncio.gather(*(thread.call(run, str(number)) for number in range(5)))

    on_thread(use)


def test_a_coroutine_that_ignores_its_cancelling_is_waited_for() -> None:
    ended = threading.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            ended.set()

    async def use(thread: SinkThread) -> None:
        call = thread.call(stubborn)
        await asyncio.sleep(0.05)
        call.cancel()
        assert await thread.call(ended.is_set)

    on_thread(use)


@pytest.mark.parametrize(
    "error", [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), StopIteration(), asyncio.CancelledError()], ids=repr
)
def test_what_would_end_the_thread_does_not(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def use(thread: SinkThread) -> Any:
        with pytest.raises(SinkFaultError, match=type(error).__name__):
            await thread.call(fail)
        return await thread.call(lambda: "still here")

    assert on_thread(use) == "still here"


def test_it_is_known_whether_the_thread_is_blocked_or_only_waits() -> None:
    gate, reached = threading.Event(), threading.Event()

    async def block() -> None:
        reached.set()
        gate.wait(20)

    async def use(thread: SinkThread) -> list[bool]:
        waiting = thread.call(asyncio.sleep, 60)
        known = [await thread.responds(waiting)]
        waiting.cancel()
        blocking = thread.call(block)
        assert await asyncio.get_running_loop().run_in_executor(None, reached.wait, 10)
        known.append(await thread.responds(blocking))
        gate.set()
        await blocking
        return known

    assert on_thread(use) == [True, False]


def test_it_ends_though_a_call_hangs() -> None:
    async def use(thread: SinkThread) -> SinkThread:
        thread.call(asyncio.sleep, 3600).cancel()
        thread.call(asyncio.sleep, 3600)
        return thread

    thread = on_thread(use)
    assert thread._thread is not None
    thread._thread.join(10)
    assert not thread._thread.is_alive()


def test_without_threads_it_runs_on_the_callers_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def use(thread: SinkThread) -> tuple[str, bool]:
        call = thread.call(lambda: threading.current_thread().name)
        return await call, await thread.responds(call)

    assert on_thread(use) == (threading.current_thread().name, True)


def test_an_error_is_told_with_its_type_and_what_it_says_whatever_it_is() -> None:
    class Mute(Exception):  # noqa: N818 - its name is not the point
        def __str__(self) -> str:
            raise ValueError

    assert said(OSError(5, "gone")) == "OSError: [Errno 5] gone"
    assert said(SinkFaultError(SystemExit(3))) == "SystemExit: 3"
    assert said(Mute()).startswith("Mute: ")
    assert len(said(ValueError("x" * 10_000))) < 1_000


def test_a_call_does_not_delay_the_loop_it_was_made_from() -> None:
    async def use(thread: SinkThread) -> float:
        call = thread.call(time.sleep, 0.3)
        began = time.monotonic()
        await asyncio.sleep(0.01)
        passed = time.monotonic() - began
        await call
        return passed

    assert on_thread(use) < 0.2
