import asyncio
import itertools
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from fapilog import bind_request, get_logger, log
from fapilog.processors.dynamic_fields import SAMPLE_SECONDS, Resources
from fapilog.recorder import slot
from fapilog.testing import capture


def test_the_thread_is_named() -> None:
    with capture(enrich=["thread"]) as captured:
        log.info("main")
        other = threading.Thread(target=log.info, args=("other",), name="packer")
        other.start()
        other.join()
        assert [record["thread_name"] for record in captured.records] == ["MainThread", "packer"]


def test_the_task_is_named_where_there_is_one() -> None:
    async def main() -> None:
        asyncio.current_task().set_name("packing")  # type: ignore[union-attr]
        log.info("inside")
        asyncio.get_running_loop().call_soon(log.info, "callback")
        await asyncio.sleep(0)

    with capture(enrich=["task"]) as captured:
        log.info("outside")
        asyncio.run(main())
        records = captured.records
    assert [(record["event"], record.get("task_name")) for record in records] == [
        ("outside", None),
        ("inside", "packing"),
        ("callback", None),
    ]


def test_a_field_of_the_record_s_own_stays() -> None:
    with capture(enrich=["thread"]) as captured:
        log.info("placed", thread_name="mine")
        assert captured.records[0]["thread_name"] == "mine"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_resources_are_measured_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    resources = Resources(clock=clock)
    measured: list[float] = []

    def measure() -> dict[str, Any]:
        measured.append(clock.now)
        return {"memory_mb": 80.0 + len(measured), "cpu_percent": 1.0}

    monkeypatch.setattr(resources, "_measure", measure)
    seen = []
    for _ in range(100):
        clock.now += SAMPLE_SECONDS / 10
        added: dict[str, Any] = {}
        resources(added, "root")
        seen.append(added.get("memory_mb"))
    assert 9 <= len(measured) <= 10
    assert all(later - earlier >= SAMPLE_SECONDS - 1e-9 for earlier, later in itertools.pairwise(measured))
    assert len(set(seen)) == len(measured) + 1


def test_memory_is_there_at_once_and_the_processor_time_when_there_is_some() -> None:
    clock = Clock()
    resources = Resources(clock=clock)
    first: dict[str, Any] = {}
    resources(first, "root")
    assert set(first) == {"memory_mb"}
    assert 1 < first["memory_mb"] < 10_000
    clock.now += SAMPLE_SECONDS
    second: dict[str, Any] = {}
    resources(second, "root")
    assert set(second) == {"memory_mb", "cpu_percent"}
    assert second["cpu_percent"] >= 0


def test_a_process_that_cannot_be_measured_has_its_last_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    clock = Clock()
    resources = Resources(clock=clock)

    def refuse(*_: Any) -> Any:
        raise psutil.AccessDenied

    monkeypatch.setattr(resources._process, "memory_info", refuse)
    clock.now += SAMPLE_SECONDS
    added: dict[str, Any] = {}
    resources(added, "root")
    assert set(added) == {"memory_mb"}


def test_the_call_site_is_the_line_that_logged_whichever_way_it_came() -> None:
    structlog_logger = structlog.get_logger("shop")
    with capture(enrich=["callsite"]) as captured:
        log.info("ours")
        line = sys._getframe().f_lineno - 1
        get_logger("shop").exception("with its level")
        log.log("warning", "by name")
        logging.getLogger("shop").warning("standard library")
        structlog_logger.info("structlog")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("a warning", stacklevel=1)
        records = captured.records
    assert len(records) == 6
    assert {record["code_function"] for record in records} == {
        "test_the_call_site_is_the_line_that_logged_whichever_way_it_came"
    }
    assert {record["code_file"] for record in records} == {__file__}
    assert records[0]["code_line"] == line


def test_a_nested_function_is_named_with_what_it_is_in() -> None:
    class Orders:
        def place(self) -> None:
            log.info("placed")

    with capture(enrich=["callsite"]) as captured:
        Orders().place()
        (record,) = captured.records
    assert record["code_function"].endswith("<locals>.Orders.place")


def test_what_fapilog_says_itself_has_no_call_site() -> None:
    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", hello)])
    with capture(app, enrich=["callsite"]) as captured:
        anyio.run(ask, app)
        assert "code_file" not in captured.find(event="request completed")


async def ask(app: Any, **headers: str) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        await client.get("/", headers=headers)


class Users(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        if "authorization" not in conn.headers:
            return None
        return AuthCredentials(["authenticated", "buyer"]), SimpleUser(conn.headers["authorization"].split()[-1])


def shop(handler: Callable[[Request], None]) -> Starlette:
    async def endpoint(request: Request) -> PlainTextResponse:
        handler(request)
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/", endpoint)], middleware=[Middleware(AuthenticationMiddleware, backend=Users())])


def test_every_record_of_a_request_has_its_user() -> None:
    app = shop(lambda _request: log.info("inside"))
    with capture(app, enrich=["user"]) as captured:
        anyio.run(lambda: ask(app, authorization="Bearer ann"))
        anyio.run(lambda: ask(app))
        log.info("outside")
        inside, _access, anonymous, _, outside = captured.records
    assert (inside["user_id"], inside["auth_scheme"]) == ("ann", "bearer")
    assert inside["user_roles"] == ["authenticated", "buyer"]
    assert not {"user_id", "user_roles", "auth_scheme"} & (anonymous.keys() | outside.keys())


def test_without_the_enricher_only_the_access_record_has_it() -> None:
    app = shop(lambda _request: log.info("inside"))
    with capture(app) as captured:
        anyio.run(lambda: ask(app, authorization="Bearer ann"))
        inside, access = captured.records
    assert "user_id" not in inside
    assert access["user_id"] == "ann"


def test_a_user_that_was_bound_wins() -> None:
    def handler(_request: Request) -> None:
        bind_request(user_id="bob")
        log.info("inside")

    app = shop(handler)
    with capture(app, enrich=["user"]) as captured:
        anyio.run(lambda: ask(app, authorization="Bearer ann"))
        assert captured.find(event="inside")["user_id"] == "bob"


class BadUser:
    is_authenticated = True
    display_name = "eve"

    @property
    def roles(self) -> list[str]:
        raise RuntimeError


def test_a_user_whose_class_fails_costs_its_roles_alone() -> None:
    def handler(request: Request) -> None:
        request.scope["user"] = BadUser()
        log.info("inside")
        request.scope["user"] = None
        log.info("nobody")

    app = shop(handler)
    with capture(app, enrich=["user"]) as captured:
        anyio.run(lambda: ask(app, authorization="Bearer ann"))
        inside, nobody = captured.find(event="inside"), captured.find(event="nobody")
    assert inside["user_id"] == "eve"
    assert "user_roles" not in inside
    assert "user_id" not in nobody


def test_flat_records_stay_on_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture(enrich=["thread", "task", "resources", "callsite"]) as captured:
        recorder = slot.recorder

        def log_one(number: int) -> None:
            log.info("placed", order_id=number)

        log_one(1)
        ways: list[Any] = []
        process = recorder._process
        monkeypatch.setattr(recorder, "_process", lambda *args: ways.append(args) or process(*args))  # type: ignore[func-returns-value]
        log_one(2)
        assert ways == []
        assert len(captured.records) == 2
