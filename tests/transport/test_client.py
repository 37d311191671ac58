import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from fapilog.errors import MisconfiguredError, RetryableError
from fapilog.testing import FarEnd, answer
from fapilog.transport.answer import Answer
from fapilog.transport.client import RESPONSE_MAX_BYTES, Client
from fapilog.transport.options import Url
from fapilog.transport.resolver import Resolver
from tests.receiver import Receiver

LINE = b'{"id":"0-1"}\n'


def use(client: Client, work: Callable[[Client], Awaitable[Answer]] | None = None) -> Answer:
    """Send one request, or do *work*, and close."""

    async def run() -> Answer:
        try:
            return await (client.send("POST", [], LINE) if work is None else work(client))
        finally:
            await client.close()

    return asyncio.run(run())


def client_of(url: str, *addresses: str, timeout_seconds: float = 5.0) -> Client:
    """Return a client for *url*, whose host has these addresses."""
    resolver = Resolver(lambda _host, _port: list(addresses)) if addresses else None
    return Client(Url.parse(url), timeout_seconds=timeout_seconds, resolver=resolver)


def test_the_host_stays_named_although_an_address_is_connected_to(receiver: Receiver) -> None:
    use(client_of(f"http://shop.example:{receiver.port}/a?b=c", "127.0.0.1"))
    request = receiver.report()["requests"][0]
    assert request["headers"]["host"] == f"shop.example:{receiver.port}"
    assert request["target"] == "/a?b=c"


def test_a_dead_address_is_passed_over_and_the_living_one_remembered(receiver: Receiver) -> None:
    client = client_of(receiver.url(host="shop.example"), "::1", "127.0.0.2", "127.0.0.1")

    async def twice(client: Client) -> Answer:
        await client.send("POST", [], LINE)
        await client._drop()
        assert client._network._last == ["127.0.0.1"]
        return await client.send("POST", [], LINE)

    assert use(client, twice).status == 200
    assert receiver.report()["connections"] == 2


@pytest.fixture
def black_hole(receiver: Receiver) -> Iterator[str]:
    """An address that takes no connection to the receiver's port, and does not say so."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.3", receiver.port))
        full.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.3", receiver.port))
        probe = stack.enter_context(socket.socket())
        probe.settimeout(0.2)
        try:
            probe.connect(("127.0.0.3", receiver.port))
        except TimeoutError:
            yield "127.0.0.3"
        else:
            pytest.skip("a full backlog still takes connections here")


def test_an_address_that_says_nothing_leaves_time_for_the_next(receiver: Receiver, black_hole: str) -> None:
    started = time.monotonic()
    client = client_of(receiver.url(host="shop.example"), black_hole, "127.0.0.1", timeout_seconds=1.0)
    assert use(client).status == 200
    assert time.monotonic() - started < 1.0


def test_a_far_end_that_takes_no_connection_is_given_up_at_the_deadline(receiver: Receiver, black_hole: str) -> None:
    started = time.monotonic()
    with pytest.raises(RetryableError, match=r"cannot connect to http://shop\.example:\d+ within 0\.5 s") as raised:
        use(client_of(receiver.url(host="shop.example"), black_hole, timeout_seconds=0.5))
    assert time.monotonic() - started < 2
    assert not raised.value.ambiguous


def test_a_name_is_looked_up_again_after_a_failure(receiver: Receiver) -> None:
    answers = [["127.0.0.2"], ["127.0.0.1"]]
    resolver = Resolver(lambda _host, _port: answers.pop(0))
    client = Client(Url.parse(receiver.url(host="shop.example")), timeout_seconds=5.0, resolver=resolver)

    async def twice(client: Client) -> Answer:
        with pytest.raises(RetryableError, match=r"cannot connect to .* \(connection refused\)") as raised:
            await client.send("POST", [], LINE)
        assert not raised.value.ambiguous
        return await client.send("POST", [], LINE)

    assert use(client, twice).status == 200


def test_where_it_was_serves_while_the_name_server_is_away(receiver: Receiver) -> None:
    answers = [["127.0.0.1"]]

    def look_up(_host: str, _port: int) -> list[str]:
        if not answers:
            raise OSError(-3, "Temporary failure in name resolution")
        return answers.pop()

    client = Client(Url.parse(receiver.url(host="h.example")), timeout_seconds=5.0, resolver=Resolver(look_up))

    async def twice(client: Client) -> Answer:
        await client.send("POST", [], LINE)
        await client._drop()
        return await client.send("POST", [], LINE)

    assert use(client, twice).status == 200


def test_a_name_without_an_address_is_worth_another_try() -> None:
    def look_up(_host: str, _port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    client = Client(Url.parse("http://ann:hunter2@no.example/"), timeout_seconds=5.0, resolver=Resolver(look_up))
    with pytest.raises(RetryableError, match=r"^cannot look up 'no\.example': Name or service not known$") as raised:
        use(client)
    assert not raised.value.ambiguous


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("silent", "did not answer within 0.5 s"),
        ("drip", "did not answer within 0.5 s"),
        ("reset", "closed the connection before it answered"),
        ("garbage", "answered something that is not HTTP"),
    ],
)
def test_no_answer_to_a_request_that_was_sent_is_ambiguous(receiver: Receiver, does: str, said: str) -> None:
    receiver.behave({"do": does, "seconds": 0.1})
    with pytest.raises(RetryableError) as raised:
        use(client_of(receiver.url(), timeout_seconds=0.5))
    assert str(raised.value) == f"http://localhost:{receiver.port} {said}"
    assert raised.value.ambiguous
    assert not isinstance(raised.value, MisconfiguredError)
    assert len(receiver.lines()) == 1


def test_an_answer_in_time_is_an_answer_however_late(receiver: Receiver) -> None:
    receiver.behave({"do": "late", "seconds": 0.3})
    assert use(client_of(receiver.url(), timeout_seconds=2.0)).status == 200


def test_a_status_stands_although_the_rest_of_the_answer_does_not_come(receiver: Receiver) -> None:
    receiver.behave({"do": "drip_body", "seconds": 0.05})
    started = time.monotonic()
    found = use(client_of(receiver.url(), timeout_seconds=0.5))
    assert (found.status, found.complete) == (200, False)
    assert time.monotonic() - started < 2


def test_an_answer_is_read_up_to_64_kib_and_the_connection_then_closed(receiver: Receiver) -> None:
    receiver.behave({"do": "flood", "times": 1})

    async def twice(client: Client) -> Answer:
        found = await client.send("POST", [], LINE)
        assert (len(found.body), found.complete) == (RESPONSE_MAX_BYTES, False)
        return await client.send("POST", [], LINE)

    assert use(client_of(receiver.url()), twice).complete
    assert receiver.report()["connections"] == 2


def test_a_compressed_answer_is_not_unpacked() -> None:
    with FarEnd() as far_end:
        far_end.say(answer(200, b"\x1f\x8bbomb", Content_Encoding="gzip"))
        assert use(client_of(far_end.url)).body == b"\x1f\x8bbomb"


def test_an_early_refusal_of_a_large_body_is_heard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        async def refuse(client: Client) -> Answer:
            server.setblocking(False)
            sending = asyncio.ensure_future(client.send("POST", [], b"x" * 8_000_000))
            connection, _ = await asyncio.get_running_loop().sock_accept(server)
            with connection:
                await asyncio.get_running_loop().sock_recv(connection, 1000)
                await asyncio.get_running_loop().sock_sendall(connection, answer(413, Connection="close"))
                connection.shutdown(socket.SHUT_WR)
                while await asyncio.get_running_loop().sock_recv(connection, 1_000_000):
                    pass
                return await sending

        assert use(client_of(f"http://127.0.0.1:{port}/"), refuse).status == 413


def test_a_connection_that_was_closed_while_it_rested_is_not_used_again(receiver: Receiver) -> None:
    receiver.behave({"do": "close", "times": 1})

    async def twice(client: Client) -> Answer:
        await client.send("POST", [], LINE)
        pool = client._pool
        assert pool is not None
        async with asyncio.timeout(5):
            while any(not each.has_expired() for each in pool.connections):  # noqa: ASYNC110 - their close comes in its time
                await asyncio.sleep(0.01)
        return await client.send("POST", [], LINE)

    assert use(client_of(receiver.url()), twice).status == 200
    assert receiver.report()["connections"] == 2


def test_after_a_failure_it_begins_afresh(receiver: Receiver) -> None:
    async def work(client: Client) -> Answer:
        await client.send("POST", [], LINE)
        receiver.refuse()
        for _ in range(3):
            with pytest.raises(RetryableError):
                await client.send("POST", [], LINE)
        receiver.listen()
        return await client.send("POST", [], LINE)

    assert use(client_of(receiver.url()), work).status == 200


def test_a_cancelled_request_leaves_nothing_behind(receiver: Receiver) -> None:
    receiver.behave({"do": "silent", "times": 1})

    async def work(client: Client) -> Answer:
        sending = asyncio.ensure_future(client.send("POST", [], LINE))
        await asyncio.sleep(0.2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        return await client.send("POST", [], LINE)

    assert use(client_of(receiver.url()), work).status == 200


def test_another_event_loop_gets_a_connection_of_its_own(receiver: Receiver) -> None:
    client = client_of(receiver.url())
    first = asyncio.new_event_loop()
    assert first.run_until_complete(client.send("POST", [], LINE)).status == 200
    assert use(client).status == 200
    first.close()


def test_a_forked_child_does_not_touch_the_connection_it_inherits(receiver: Receiver) -> None:
    client = client_of(receiver.url())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.send("POST", [], LINE))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if use(client).status == 200 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    loop.run_until_complete(client.send("POST", [], LINE))
    loop.run_until_complete(client.close())
    loop.close()
    assert [request["connection"] for request in receiver.report()["requests"]] == [1, 2, 1]


def test_no_library_logs_a_secret_nor_anything_above_debug(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = client_of(receiver.url("/hunter2?token=hunter2"))
    use(client, lambda client: client.send("POST", [(b"Authorization", b"Bearer hunter2")], LINE))
    assert caplog.records
    assert "hunter2" not in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
