import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fapilog.decorators import log_execution, timed_operation
from fapilog.errors import ConfigurationError
from fapilog.testing import Captured, capture


@pytest.fixture
def logged() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


def told(logged: Captured) -> list[tuple[str, str]]:
    return [(record["level"], record["event"]) for record in logged.records]


@log_execution
def plain(a: int, *, b: int = 2) -> int:
    """Add."""
    return a + b


@log_execution()
def called() -> None:
    """Do nothing."""


@log_execution("charge card")
async def charge(amount: int) -> int:
    await asyncio.sleep(0)
    if amount < 0:
        raise ValueError("negative")
    return amount


class Shop:
    @log_execution
    def sell(self) -> "Shop":
        return self

    @classmethod
    @log_execution
    def open(cls) -> type["Shop"]:
        return cls

    @staticmethod
    @log_execution
    async def close() -> str:
        return "closed"


class TestLogExecution:
    def test_a_call_is_told_from_start_to_end(self, logged: Captured) -> None:
        assert plain(1, b=4) == 5
        assert told(logged) == [("debug", "plain started"), ("info", "plain completed")]
        started, completed = logged.records
        assert started["logger"] == completed["logger"] == __name__
        assert started["action"] == completed["action"] == "plain"
        assert completed["success"] is True
        assert completed["duration_ms"] >= 0
        assert "duration_ms" not in started

    def test_a_coroutine_is_timed_to_its_end(self, logged: Captured) -> None:
        assert asyncio.run(charge(7)) == 7
        assert told(logged) == [("debug", "charge card started"), ("info", "charge card completed")]

    def test_a_failure_has_its_exception_and_goes_on_unchanged(self, logged: Captured) -> None:
        with pytest.raises(ValueError, match="negative"):
            asyncio.run(charge(-1))
        failed = logged.records[-1]
        assert (failed["level"], failed["event"], failed["success"]) == ("error", "charge card failed", False)
        assert (failed["exception"]["type"], failed["exception"]["message"]) == ("ValueError", "negative")
        assert "duration_ms" in failed

    @pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_what_is_interrupted_has_not_failed(self, logged: Captured, kind: type[BaseException]) -> None:
        @log_execution("wait")
        def wait() -> None:
            raise kind

        with pytest.raises(kind):
            wait()
        record = logged.records[-1]
        assert (record["level"], record["event"], record["success"]) == ("warning", "wait interrupted", False)
        assert record["interrupted_by"] == kind.__name__
        assert "exception" not in record

    def test_a_task_that_is_cancelled_says_so(self, logged: Captured) -> None:
        @log_execution("wait")
        async def wait() -> None:
            await asyncio.sleep(60)

        async def run() -> None:
            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert logged.records[-1]["interrupted_by"] == "CancelledError"

    def test_methods_of_every_kind_can_be_decorated(self, logged: Captured) -> None:
        shop = Shop()
        assert shop.sell() is shop
        assert Shop.open() is Shop
        assert asyncio.run(Shop.close()) == "closed"
        assert [event for level, event in told(logged) if level == "info"] == [
            "Shop.sell completed",
            "Shop.open completed",
            "Shop.close completed",
        ]

    def test_the_function_looks_as_before(self) -> None:
        assert plain.__name__ == "plain"
        assert plain.__doc__ == "Add."
        assert str(inspect.signature(plain)) == "(a: int, *, b: int = 2) -> int"
        assert inspect.iscoroutinefunction(charge)
        assert not inspect.iscoroutinefunction(called)

    def test_a_path_operation_can_be_decorated(self, logged: Captured) -> None:
        app = FastAPI()

        @app.get("/{order_id}")
        @log_execution("get order")
        async def order(order_id: int) -> int:
            return order_id

        async def run() -> Any:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                return (await client.get("/7")).json()

        assert asyncio.run(run()) == 7
        assert ("info", "get order completed") in told(logged)

    def test_generators_are_refused_when_they_are_decorated(self) -> None:
        def numbers() -> Iterator[int]:
            yield 1

        async def async_numbers() -> AsyncIterator[int]:
            yield 1

        for function in (numbers, async_numbers):
            with pytest.raises(ConfigurationError, match=r"is a generator function.*; use timed_operation inside it$"):
                log_execution("count")(function)

    @pytest.mark.parametrize("thing", [42, Shop, functools.partial(int, "1")])
    def test_what_is_no_function_is_refused(self, thing: Any) -> None:
        with pytest.raises(ConfigurationError, match="is not a function"):
            log_execution(thing)

    @pytest.mark.parametrize("decorator", [staticmethod, classmethod])
    def test_the_wrong_order_of_decorators_is_explained(self, decorator: Callable[..., Any]) -> None:
        with pytest.raises(ConfigurationError, match="put log_execution below that decorator"):
            log_execution(decorator(plain))


class TestTimedOperation:
    def test_a_block_is_told_with_its_fields(self, logged: Captured) -> None:
        with timed_operation("load orders", source="s3"):
            pass
        assert told(logged) == [("debug", "load orders started"), ("info", "load orders completed")]
        for record in logged.records:
            assert (record["logger"], record["action"], record["source"]) == (__name__, "load orders", "s3")
        assert logged.records[1]["success"] is True

    def test_it_works_in_async_with(self, logged: Captured) -> None:
        async def run() -> None:
            async with timed_operation("load orders"):
                await asyncio.sleep(0.01)

        asyncio.run(run())
        assert logged.records[1]["duration_ms"] >= 10

    def test_a_failure_goes_on_unchanged(self, logged: Captured) -> None:
        with pytest.raises(KeyError), timed_operation("load orders"):
            raise KeyError("id")
        failed = logged.records[1]
        assert (failed["event"], failed["success"]) == ("load orders failed", False)
        assert failed["exception"]["type"] == "KeyError"

    def test_it_can_be_used_again_and_within_itself(self, logged: Captured) -> None:
        load = timed_operation("load")
        with load, load:
            pass
        with load:
            pass
        assert [event for _, event in told(logged)] == [
            "load started",
            "load started",
            "load completed",
            "load completed",
            "load started",
            "load completed",
        ]

    @pytest.mark.parametrize("name", ["duration_ms", "success", "interrupted_by"])
    def test_a_field_with_a_name_of_its_own_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"sets '{name}' itself"):
            timed_operation("load", **{name: 1})
