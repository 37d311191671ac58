import asyncio
import os
import threading
import time
from collections.abc import Callable

import pytest

from fapilog.transport import resolver as module
from fapilog.transport.resolver import Resolver


def ask(resolver: Resolver, *hosts: str) -> list[str]:
    async def run() -> list[str]:
        try:
            return [address for host in hosts for address in await resolver.addresses(host, 80)]
        finally:
            resolver.stop()

    return asyncio.run(run())


def test_a_name_is_looked_up_on_a_thread_of_its_own() -> None:
    threads: list[str] = []

    def look_up(_host: str, _port: int) -> list[str]:
        threads.append(threading.current_thread().name)
        return ["127.0.0.1"]

    assert ask(Resolver(look_up), "a.example", "b.example") == ["127.0.0.1"] * 2
    assert threads == ["fapilog-resolver"] * 2


def test_the_system_knows_localhost() -> None:
    assert "127.0.0.1" in ask(Resolver(), "localhost")


def test_an_address_needs_no_looking_up() -> None:
    def look_up(_host: str, _port: int) -> list[str]:
        raise AssertionError

    assert ask(Resolver(look_up), "127.0.0.1", "::1") == ["127.0.0.1", "::1"]


def test_what_cannot_be_looked_up_is_an_os_error() -> None:
    def fails(error: Exception) -> Callable[[str, int], list[str]]:
        def look_up(_host: str, _port: int) -> list[str]:
            raise error

        return look_up

    with pytest.raises(OSError, match="no such name"):
        ask(Resolver(fails(OSError(-2, "no such name"))), "a.example")
    with pytest.raises(OSError, match="UnicodeError"):
        ask(Resolver(fails(UnicodeError("label too long"))), "a.example")


def test_a_slow_name_server_holds_up_nothing_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLVE_TIMEOUT_SECONDS", 0.1)
    answer, asked = threading.Event(), []

    def look_up(host: str, _port: int) -> list[str]:
        asked.append(host)
        answer.wait(10)
        return ["127.0.0.1"]

    async def run() -> tuple[float, list[str]]:
        resolver = Resolver(look_up)
        try:
            for _ in range(2):
                looking = asyncio.ensure_future(resolver.addresses("slow.example", 80))
                started = longest = time.monotonic()
                longest = 0.0
                while not looking.done():
                    before = time.monotonic()
                    await asyncio.sleep(0.001)
                    longest = max(longest, time.monotonic() - before)
                with pytest.raises(TimeoutError, match=r"no address within 0\.1 s"):
                    await looking
                assert time.monotonic() - started < 2
            answer.set()
            return longest, await resolver.addresses("slow.example", 80)
        finally:
            resolver.stop()

    longest, found = asyncio.run(run())
    assert found == ["127.0.0.1"]
    assert asked == ["slow.example"]
    assert longest < 0.09


def test_where_no_thread_can_be_made_names_are_still_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert ask(Resolver(lambda _host, _port: ["127.0.0.1"]), "a.example") == ["127.0.0.1"]


def test_it_ends_and_begins_again() -> None:
    resolver = Resolver(lambda _host, _port: ["127.0.0.1"])
    resolver.start()
    resolver.start()
    assert sum(thread.name == "fapilog-resolver" for thread in threading.enumerate()) == 1
    resolver.stop()
    resolver.stop()
    assert ask(resolver, "a.example") == ["127.0.0.1"]


def test_nothing_runs_before_it_is_started() -> None:
    before = threading.active_count()
    Resolver()
    assert threading.active_count() == before
    assert os.getpid()
