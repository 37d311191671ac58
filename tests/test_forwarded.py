import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fapilog.forwarded import TrustedProxies


def scope(*headers: tuple[str, str], client: Any = ("10.0.0.1", 1234)) -> dict[str, Any]:
    return {"client": client, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}


def client_of(
    said: str, header: str = "x-forwarded-for", proxies: tuple[str, ...] = ("10.0.0.0/8",), **more: Any
) -> str | None:
    return TrustedProxies(proxies)(scope((header, said), **more))


def test_a_stranger_is_not_believed() -> None:
    assert client_of("1.2.3.4", client=("203.0.113.9", 1)) == "203.0.113.9"


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:DB8:0::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7"),
        ("203.0.113.7, unknown", "10.0.0.1"),
        ("203.0.113.7, nonsense\r\n, 10.0.0.2", "10.0.0.2"),
        ("", "10.0.0.1"),
        (",,,", "10.0.0.1"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_client(said: str, client: str) -> None:
    assert client_of(said) == client


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ('for="[2001:db8::1]:4711";proto=https', "2001:db8::1"),
        ("proto=https; For=203.0.113.7;by=10.0.0.9", "203.0.113.7"),
        ("for=1.1.1.1, for=203.0.113.7, for=10.0.0.2", "203.0.113.7"),
        ("for=203.0.113.7, for=_hidden", "10.0.0.1"),
        ("for=203.0.113.7, by=10.0.0.2", "10.0.0.1"),
    ],
)
def test_the_standard_header_is_read_too(said: str, client: str) -> None:
    assert client_of(said, "forwarded") == client


def test_headers_that_come_twice_are_one_list() -> None:
    asked = scope(("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "10.0.0.2"))
    assert TrustedProxies(["10.0.0.0/8"])(asked) == "203.0.113.7"


def test_the_header_that_is_named_first_is_read_alone() -> None:
    asked = scope(("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2"), ("x-real-ip", "3.3.3.3"))
    assert TrustedProxies(["10.0.0.1"])(asked) == "1.1.1.1"
    assert TrustedProxies(["10.0.0.1"], ["forwarded"])(asked) == "2.2.2.2"
    assert TrustedProxies(["10.0.0.1"], ["X-Real-IP"])(asked) == "3.3.3.3"


def test_a_peer_without_an_address_is_trusted_if_sockets_are() -> None:
    assert client_of("203.0.113.7", proxies=("unix",), client=None) == "203.0.113.7"
    assert client_of("203.0.113.7", proxies=("10.0.0.0/8",), client=None) is None
    assert client_of("203.0.113.7", proxies=("unix",), client=("", 0)) == "203.0.113.7"


def test_everybody_can_be_trusted() -> None:
    assert client_of("1.1.1.1, 2.2.2.2", proxies=("*",), client=("testclient", 0)) == "testclient"
    assert client_of("1.1.1.1, 2.2.2.2", proxies=("*",)) == "1.1.1.1"


def test_a_thousand_hops_cost_no_more_than_the_last_of_them() -> None:
    started = time.perf_counter()
    assert client_of(", ".join(["10.1.1.1"] * 1_000)) == "10.1.1.1"
    assert client_of("x" * 1_000_000) == "10.0.0.1"
    assert time.perf_counter() - started < 1


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="'localhost' is neither an address nor a network"):
        TrustedProxies(["localhost"])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"x-forwarded-for", b"forwarded"]))
def test_no_header_whatever_raises(value: bytes, name: bytes) -> None:
    found = TrustedProxies(["*"])({"client": ("10.0.0.1", 1), "headers": [(name, value)]})
    assert found is not None
