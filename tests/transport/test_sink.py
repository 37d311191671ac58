import asyncio
import contextlib
import datetime
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from fapilog.errors import ConfigurationError, CredentialsError, MisconfiguredError, RetryableError
from fapilog.plugins import build_sink, options_of, parse_sink
from fapilog.testing import FarEnd, answer
from fapilog.transport.answer import Answer
from fapilog.transport.sink import NetworkSink
from tests.receiver import Receiver


def make(**options: Any) -> Any:
    return build_sink(parse_sink("http"), options)


def post(**options: Any) -> Answer:
    async def run() -> Answer:
        sink = make(**options)
        try:
            found: Answer = await sink.send("POST", [], b"{}\n")
            return found
        finally:
            await sink.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@contextlib.contextmanager
def serving(certificate: trustme.LeafCert, tmp_path: Path, *arguments: str) -> Iterator[Receiver]:
    path = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    with Receiver("--certificate", str(path), *arguments) as receiver:
        yield receiver


def test_a_certificate_is_verified_for_the_name_although_an_address_is_connected_to(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    with serving(authority.issue_cert("localhost"), tmp_path) as receiver:
        assert post(endpoint=receiver.url(scheme="https"), ca_file=ca_file).status == 200
        with pytest.raises(MisconfiguredError, match=r"TLS failed: .*IP address mismatch"):
            post(endpoint=receiver.url(scheme="https", host="127.0.0.1"), ca_file=ca_file)


def test_a_certificate_of_nobody_we_know_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    with serving(authority.issue_cert("localhost"), tmp_path) as receiver:
        with pytest.raises(MisconfiguredError, match=r"TLS failed: .*certificate") as raised:
            post(endpoint=receiver.url(scheme="https", host="localhost").replace("//", "//ann:hunter2@"))
        assert not raised.value.ambiguous
        assert "hunter2" not in str(raised.value)
        assert receiver.report()["requests"] == []


def test_a_certificate_that_expired_is_refused(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired = authority.issue_cert("localhost", not_before=past, not_after=past)
    with (
        serving(expired, tmp_path) as receiver,
        pytest.raises(MisconfiguredError, match="TLS failed: certificate has expired"),
    ):
        post(endpoint=receiver.url(scheme="https"), ca_file=ca_file)


def test_any_certificate_will_do_only_if_that_is_asked_for_and_it_is_said(
    authority: trustme.CA, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(authority.issue_cert("elsewhere.example"), tmp_path) as receiver:
        assert post(endpoint=receiver.url(scheme="https"), insecure_skip_verify=True).status == 200
    assert (
        f"insecure_skip_verify is set: whoever answers as https://localhost:{receiver.port}" in capfd.readouterr().err
    )
    for nearly in ("no", 0, False):
        sink = make(endpoint="https://localhost/", insecure_skip_verify=nearly)
        assert sink._tls_context().verify_mode == ssl.CERT_REQUIRED


def test_certificates_are_read_again_by_each_start_but_not_by_a_forked_child(ca_file: Path) -> None:
    def opened() -> ssl.SSLContext | None:
        sink = make(endpoint="https://h/", ca_file=ca_file)
        sink.open()
        context: ssl.SSLContext | None = sink._client._tls
        return context

    first, second = opened(), opened()
    assert first is not second
    pid = os.fork()
    if pid == 0:
        os._exit(0 if opened() is second else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_server_may_ask_for_our_certificate(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    ours = authority.issue_cert("client.example")
    ours.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    with serving(authority.issue_cert("localhost"), tmp_path, "--client-ca", str(ca_file)) as receiver:
        url = receiver.url(scheme="https")
        keys = {"client_cert": tmp_path / "client.pem", "client_key": tmp_path / "client.key"}
        assert post(endpoint=url, ca_file=ca_file, **keys).status == 200
        with pytest.raises(RetryableError):  # its alert, or the reset that overtakes the alert
            post(endpoint=url, ca_file=ca_file)
        assert len(receiver.lines()) == 1


def test_a_server_that_does_not_speak_tls_is_a_mistake_of_the_options() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        sink = make(endpoint=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        async with server:
            with pytest.raises(MisconfiguredError, match=r"TLS failed: .*wrong version number"):
                await sink.send("POST", [], b"")
            await sink.close()

    asyncio.run(run())


def test_a_handshake_that_does_not_end_is_cut_at_the_deadline_and_worth_another_try(receiver: Receiver) -> None:
    with pytest.raises(RetryableError, match=r"cannot connect to https://localhost:\d+ within 0\.5 s") as raised:
        post(endpoint=receiver.url(scheme="https"), timeout_seconds=0.5)
    assert not isinstance(raised.value, MisconfiguredError)
    assert not raised.value.ambiguous


def test_a_certificate_that_cannot_be_used_stops_the_start(ca_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ConfigurationError, match=r"empty\.pem' holds no certificate"):
        make(endpoint="https://h/", ca_file=tmp_path / "empty.pem").open()
    with pytest.raises(ConfigurationError, match=r"ca\.pem' and its key cannot be used"):
        make(endpoint="https://h/", client_cert=ca_file).open()
    with pytest.raises(ConfigurationError, match=r"missing\.pem' cannot be read: No such file or directory"):
        make(endpoint="https://h/", ca_file=tmp_path / "missing.pem").open()
    for options in ({"client_cert": tmp_path / "no.pem"}, {"client_cert": ca_file, "client_key": tmp_path / "no.pem"}):
        with pytest.raises(ConfigurationError, match=r"no\.pem' cannot be read: No such file or directory"):
            make(endpoint="https://h/", **options).open()
    with pytest.raises(ConfigurationError, match="client_key is given without client_cert"):
        make(endpoint="https://h/", client_key=ca_file)


def test_a_proxy_is_used_if_it_is_given() -> None:
    with FarEnd() as proxy:
        proxy.say(answer(200))
        with_user = proxy.url.replace("//", "//ann:hunter2@")
        assert post(endpoint="http://shop.example/a?b=c", proxy=with_user).status == 200
        head = proxy.requests[0][0]
        assert head.startswith(b"POST http://shop.example:80/a?b=c HTTP/1.1\r\n")
        assert b"proxy-authorization: basic " in head.lower()


def test_the_environment_names_a_proxy_if_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with FarEnd() as proxy, FarEnd() as far_end:
        proxy.say(answer(200))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert post(endpoint=far_end.url, trust_env=True).status == 200
        monkeypatch.setenv("no_proxy", "localhost")
        assert post(endpoint=far_end.url, trust_env=True).status == 204
        monkeypatch.delenv("no_proxy")
        assert post(endpoint=far_end.url).status == 204


def test_a_proxy_that_refuses_to_tunnel_has_not_seen_the_batch() -> None:
    with FarEnd() as proxy:
        proxy.say(answer(407))
        with pytest.raises(CredentialsError, match=r"the proxy to https://shop\.example does not accept") as refused:
            post(endpoint="https://shop.example/", proxy=proxy.url)
        proxy.say(answer(502))
        with pytest.raises(RetryableError, match=r"the proxy to .* answered 502") as failed:
            post(endpoint="https://shop.example/", proxy=proxy.url)
        assert (refused.value.ambiguous, failed.value.ambiguous) == (False, False)


def test_the_endpoint_keeps_no_secret(receiver: Receiver) -> None:
    sink = make(endpoint=receiver.url("/a?token=hunter2").replace("//", "//ann:hunter2@"))
    assert sink.endpoint == receiver.url("/a")
    assert sink.username == SecretStr("ann")
    assert "hunter2" not in repr(sink)
    post(endpoint=receiver.url("/a?token=hunter2"))
    assert receiver.report()["requests"][0]["target"] == "/a?token=hunter2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": "ftp://h/"}, "option 'endpoint': got the scheme 'ftp'"),
        ({"endpoint": "http://h/?a=hunter2", "query": "b=hunter2"}, "a query is given both"),
        ({"endpoint": "http://a:hunter2@h/", "password": "hunter2"}, "a user is given both"),
        ({"endpoint": "http://h/", "password": "hunter2"}, "a password is given without a username"),
        ({"endpoint": "http://h/", "query": "a=hunter2\r\n"}, "the query holds a space"),
        ({"endpoint": "http://h/", "proxy": "socks5://a:hunter2@h"}, "option 'proxy': got the scheme 'socks5'"),
        ({"endpoint": "http://h/", "timeout_seconds": 0}, "option 'timeout_seconds'"),
        ({}, "option 'endpoint' is missing"),
    ],
)
def test_options_that_cannot_be_used_are_refused_without_a_secret(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        make(**options)
    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_opening_makes_no_thread_and_starting_makes_one_for_a_name_only() -> None:
    def resolvers() -> int:
        return sum(thread.name == "fapilog-resolver" for thread in threading.enumerate())

    for host, threads in (("localhost", 1), ("127.0.0.1", 0)):
        sink = make(endpoint=f"http://{host}/")
        sink.open()
        assert resolvers() == 0
        sink.start()
        assert resolvers() == threads
        asyncio.run(sink.close())
        for thread in threading.enumerate():
            if thread.name == "fapilog-resolver":
                thread.join(5)


def test_every_inherited_option_keeps_its_description() -> None:
    ours, inherited = options_of(NetworkSink), options_of(type(make(endpoint="http://h/")))
    assert ours.keys() < inherited.keys()
    assert all(option.description == inherited[name].description for name, option in ours.items())
    assert all(option.description for option in inherited.values())
