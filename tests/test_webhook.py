import contextlib
import http.client
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fapilog.errors import ConfigurationError
from fapilog.webhook import Webhook, is_public
from tests.hook_server import SECRET, HookServer


@pytest.fixture
def server() -> Iterator[HookServer]:
    with HookServer() as running:
        yield running


def test_a_body_is_posted_as_json_and_the_status_returned(server: HookServer) -> None:
    assert Webhook(server.url, private=True).post(b'{"a": 1}') == 204
    [(path, headers, body)] = server.requests
    assert path == f"/hook/{SECRET}?token={SECRET}"
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["Content-Type"] == "application/json"
    assert body == {"a": 1}


def test_a_proxy_of_the_environment_is_not_used(server: HookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert Webhook(server.url, private=True).post(b"{}") == 204


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"SSH-2.0-OpenSSH_9.9\r\n", b"\xff" * 10_000, b"HTTP/1.1 ok\r\n"]
)
def test_an_answer_that_is_not_http_has_no_status(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connected, _ = listener.accept()
            with connected:
                connected.recv(65536)
                connected.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        webhook = Webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/", private=True)
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            webhook.post(b"{}")
        thread.join()


def test_a_server_that_hangs_is_given_up_after_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(TimeoutError):
            Webhook(url, private=True, timeout_seconds=0.1).post(b"{}")


def test_a_server_that_answers_a_byte_at_a_time_is_given_up_after_the_same_time() -> None:
    given_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connected, _ = listener.accept()
            with connected:
                for _ in range(60):
                    with contextlib.suppress(OSError):
                        connected.sendall(b"H")
                    if given_up.wait(0.05):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(TimeoutError):
            Webhook(url, private=True, timeout_seconds=0.3).post(b"{}")
        given_up.set()
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for localhost and its key."""
    folder = tmp_path_factory.mktemp("tls")
    options = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = ["openssl", "req", *options.split(), "-keyout", "key", "-out", "certificate"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate", folder / "key"


def test_over_tls_the_far_end_must_prove_who_it_is(server: HookServer, certificate: tuple[Path, Path]) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    server.server.socket = serving.wrap_socket(server.server.socket, server_side=True)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    url = f"https://localhost:{server.port}/"
    assert Webhook(url, private=True, tls=trusting).post(b"{}") == 204
    for doubtful in (
        Webhook(url, private=True),
        Webhook(url.replace("localhost", "127.0.0.1"), private=True, tls=trusting),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            doubtful.post(b"{}")
    assert len(server.requests) == 1


def test_posting_logs_nothing(server: HookServer) -> None:
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[assignment,method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        Webhook(server.url, private=True).post(b"{}")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert seen == []


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - it is what must not be posted to
        "10.0.0.8",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "64:ff9b::10.0.0.8",
        "64:ff9b:1::1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_an_address_that_is_not_public_is_known_in_every_spelling(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "LOCALHOST", "localhost."]
)
def test_a_name_for_an_address_that_is_not_public_is_not_posted_to(host: str, server: HookServer) -> None:
    with pytest.raises((ConfigurationError, socket.gaierror)):
        Webhook(f"http://{host}:{server.port}/").post(b"{}")
    assert server.requests == []
