import asyncio
import threading
from contextvars import copy_context
from typing import Any

import pytest

from fapilog import bind_context, bind_request, bound_context, get_trace_id, log, unbind_context
from fapilog.context import RequestContext, current_fields, current_request, remember_request, remembered_request
from fapilog.testing import Captured, capture

IDS = {"trace_id": "1" * 32, "span_id": "2" * 16, "request_id": "r-1"}


@pytest.fixture
def request_context() -> RequestContext:
    request = RequestContext(IDS)
    current_request.set(request)
    return request


def fields(captured: Captured, event: str) -> dict[str, Any]:
    ours = {"timestamp", "level", "event", "logger", "id", "host", "pid"}
    return {name: value for name, value in captured.find(event=event).items() if name not in ours}


def test_bound_fields_are_on_every_record_from_there_on() -> None:
    with capture() as captured:
        log.info("before")
        bind_context(user="ann")
        bind_context(tenant=7)
        log.info("after")
        unbind_context("user", "never bound")
        log.info("last")
        assert [fields(captured, event) for event in ("before", "after", "last")] == [
            {},
            {"user": "ann", "tenant": 7},
            {"tenant": 7},
        ]


def test_a_bound_field_ends_with_its_block_even_by_an_exception() -> None:
    seen: list[object] = []

    def leave() -> None:
        with bound_context(user="ann"):
            seen.append(current_fields.get())
            raise ValueError("left")

    with pytest.raises(ValueError, match="left"):
        leave()
    assert [*seen, current_fields.get()] == [{"user": "ann"}, {}]


def test_a_token_undoes_one_binding() -> None:
    bind_context(user="ann")
    token = bind_context(user="bob")
    current_fields.reset(token)
    assert current_fields.get() == {"user": "ann"}


def test_a_binding_may_end_in_another_context_than_it_began_in() -> None:
    bound = bound_context(user="ann")
    copy_context().run(bound.__enter__)
    copy_context().run(bound.__exit__, None, None, None)
    assert current_fields.get() == {}


def test_what_a_task_binds_is_seen_by_what_it_calls_and_not_by_its_caller_or_siblings() -> None:
    async def inner() -> dict[str, Any]:
        return dict(current_fields.get())

    async def task(name: str) -> dict[str, Any]:
        bind_context(**{name: 1})
        await asyncio.sleep(0)
        return await asyncio.create_task(inner())

    async def main() -> list[dict[str, Any]]:
        seen = await asyncio.gather(task("a"), task("b"))
        return [*seen, dict(current_fields.get())]

    assert asyncio.run(main()) == [{"a": 1}, {"b": 1}, {}]


def test_what_is_bound_to_a_request_is_seen_by_all_that_serves_it(request_context: RequestContext) -> None:
    with capture() as captured:
        in_thread = copy_context()
        thread = threading.Thread(target=in_thread.run, args=(lambda: bind_request(user="ann"),))
        thread.start()
        thread.join()
        log.info("x")
        assert fields(captured, "x") == {**IDS, "user": "ann"}


def test_outside_a_request_bind_request_binds_to_the_context() -> None:
    bind_request(user="ann")
    assert current_fields.get() == {"user": "ann"}


def test_one_request_never_sees_what_another_bound() -> None:
    async def serve(number: int) -> tuple[int, dict[str, Any], str | None]:
        current_request.set(RequestContext({**IDS, "trace_id": f"{number:032x}"}))
        bind_request(number=number)
        await asyncio.sleep(0)
        log.info("served", told=number)
        request = current_request.get()
        assert request is not None
        return number, request.bound, get_trace_id()

    async def main() -> list[tuple[int, dict[str, Any], str | None]]:
        return await asyncio.gather(*[serve(number) for number in range(1, 200)])

    with capture() as captured:
        for number, bound, trace_id in asyncio.run(main()):
            assert (bound, trace_id) == ({"number": number}, f"{number:032x}")
        for record in captured.records:
            assert record["number"] == record["told"] == int(record["trace_id"], 16)


def test_the_nearer_a_field_is_to_the_call_the_more_it_counts(request_context: RequestContext) -> None:
    bind_request(a="request", b="request", c="request", d="request")
    bind_context(b="context", c="context", d="context")
    with capture() as captured:
        log.bind(c="logger", d="logger").info("x", d="call")
        assert fields(captured, "x") == {**IDS, "a": "request", "b": "context", "c": "logger", "d": "call"}


def test_the_trace_id_is_that_of_the_request_and_none_outside() -> None:
    assert get_trace_id() is None
    current_request.set(RequestContext(IDS))
    assert get_trace_id() == "1" * 32


@pytest.mark.parametrize("way", [bind_context, bind_request])
def test_what_is_bound_may_have_any_name(way: Any, request_context: RequestContext) -> None:
    with capture() as captured:
        way(self=1, event="e", fields=2, level="l")
        log.info("x")
        assert fields(captured, "x") == {**IDS, "self": 1, "event_": "e", "fields": 2, "level_": "l"}


def test_a_request_without_ids_adds_nothing_to_a_line() -> None:
    current_request.set(RequestContext({}))
    with capture() as captured:
        log.info("x")
        assert fields(captured, "x") == {}


def test_an_error_remembers_which_request_it_left(request_context: RequestContext) -> None:
    error = ValueError()
    remember_request(error, request_context)
    assert remembered_request(error) is request_context
    assert remembered_request(ValueError()) is None
    assert remembered_request(None) is None


def test_an_error_that_refuses_attributes_is_left_as_it_is(request_context: RequestContext) -> None:
    class Sealed(Exception):  # noqa: N818 - it is what it is
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    error = Sealed()
    remember_request(error, request_context)
    assert remembered_request(error) is None
