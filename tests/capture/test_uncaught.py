import asyncio
import gc
import sys
import threading
from typing import Any

import pytest

from fapilog.capture.uncaught import Hooks
from fapilog.context import RequestContext, current_request
from fapilog.testing import capture
from tests.programs import parse_all, run


def test_the_exception_that_ends_a_program_is_its_last_record_and_printed_as_before() -> None:
    ended = run(
        """
        import fapilog
        fapilog.configure_logging(sinks=["stdout"])
        fapilog.log.info("begins")
        raise ValueError("boom")
        """
    )
    _, last = parse_all(ended.stdout)
    assert (last["event"], last["level"], last["logger"]) == ("uncaught exception", "critical", "fapilog.uncaught")
    assert (last["exception"]["type"], last["exception"]["message"]) == ("ValueError", "boom")
    assert ended.stderr.startswith(b"Traceback (most recent call last):")
    assert ended.returncode == 1


@pytest.mark.parametrize("ending", ["raise KeyboardInterrupt", "raise SystemExit(3)"])
def test_an_end_that_is_wanted_is_no_record(ending: str) -> None:
    ended = run(f"import fapilog; fapilog.configure_logging(sinks=['stdout'])\n{ending}")
    assert ended.stdout == b""


def test_an_exception_that_ends_a_thread_is_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def fail() -> None:
        raise ValueError("boom")

    with capture() as logged:
        thread = threading.Thread(target=fail, name="nightly")
        thread.start()
        thread.join(10)
        record = logged.find(event="uncaught exception in a thread")
    assert (record["thread"], record["level"], record["exception"]["message"]) == ("nightly", "error", "boom")
    assert [args.exc_type for args in told] == [ValueError]


async def fail_unseen() -> None:
    async def fail() -> None:
        raise ValueError("boom")

    task = asyncio.create_task(fail(), name="nightly")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()


@pytest.mark.parametrize("stdlib", [True, False])
def test_an_exception_that_nobody_fetched_from_a_task_is_a_record(stdlib: bool) -> None:
    async def main() -> dict[str, Any]:
        with capture(capture_stdlib=stdlib) as logged:
            await fail_unseen()
            return logged.find(level="error")

    record = asyncio.run(main())
    assert (record["event"], record["logger"]) == ("Task exception was never retrieved", "asyncio")
    assert record["exception"]["message"] == "boom"
    assert "nightly" in record["asyncio_future"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a task does not tell its context before Python 3.12")
def test_a_task_that_a_request_has_left_behind_fails_with_its_ids() -> None:
    async def main() -> dict[str, Any]:
        with capture() as logged:
            token = current_request.set(RequestContext({"request_id": "r-1"}))
            failing = asyncio.create_task(fail_at_once())
            current_request.reset(token)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del failing
            gc.collect()
            return logged.find(level="error")

    assert asyncio.run(main())["request_id"] == "r-1"


async def fail_at_once() -> None:
    raise ValueError("boom")


def test_a_loop_that_has_an_exception_handler_keeps_it() -> None:
    told: list[dict[str, Any]] = []

    async def main() -> list[str]:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        with capture() as logged:
            await fail_unseen()
            return logged.events

    assert asyncio.run(main()) == []
    assert len(told) == 1


def test_a_loop_is_as_it_was_afterwards() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with capture():
            assert loop.get_exception_handler() is not None
        assert loop.get_exception_handler() is None

    asyncio.run(main())


def test_what_python_cannot_raise_is_a_record_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))

    class Stubborn:
        def __del__(self) -> None:
            raise ValueError("boom")

    with capture(capture_uncaught="unraisable") as logged:
        Stubborn()
        assert logged.find(event="unraisable exception")["exception"]["message"] == "boom"
    with capture() as logged:
        Stubborn()
        assert logged.events == []
    assert told == [ValueError, ValueError]


def test_a_hook_that_somebody_has_wrapped_does_nothing_more_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda *_: told.append("before"))
    hooks = Hooks()
    hooks.capture(["main"], through_logging=True)
    ours = sys.excepthook

    def theirs(*args: Any) -> None:
        told.append("theirs")
        ours(*args)

    monkeypatch.setattr(sys, "excepthook", theirs)
    hooks.release()
    with capture(capture_uncaught="") as logged:
        sys.excepthook(ValueError, ValueError("boom"), None)
        assert logged.events == []
    assert told == ["theirs", "before"]


def test_a_place_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="capture_uncaught"), capture(capture_uncaught="everywhere"):
        pass
