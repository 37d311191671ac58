import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fapilog.masks import MAX_HEADER, MAX_QUERY, HeaderChoice, Masks
from fapilog.processors.redact import Redact

MASKS = Masks(Redact(["tenant"]).matches)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (b"page=2&sort=name", "page=2&sort=name"),
        (b"flag", "flag"),
        (b"token=abc&page=2", "token=REDACTED&page=2"),
        (b"API_KEY=abc", "API_KEY=REDACTED"),
        (b"api%5Fkey=abc", "api%5Fkey=REDACTED"),
        (b"user[password]=abc", "user[password]=REDACTED"),
        (b"password[]=abc&password[0]=abc", "password[]=REDACTED&password[0]=REDACTED"),
        (b"tenant=acme", "tenant=REDACTED"),
        (b"code=abc&state=1", "code=REDACTED&state=1"),
        (b"X-Amz-Signature=abc&X-Amz-Date=1", "X-Amz-Signature=REDACTED&X-Amz-Date=1"),
        (b"next=%2Fhome%3Ftoken%3Dabc&x=1", "next=REDACTED&x=1"),
        (b"next=%252Fhome%253Ftoken%253Dabc", "next=REDACTED"),
        (b"next=%2Fhome%3Fpage%3D2", "next=%2Fhome%3Fpage%3D2"),
        (b"token=", "token="),
        (b"a=\xff\xfe", "a=\xff\xfe"),
        (b"=&&==", "=&&=="),
    ],
)
def test_a_secret_parameter_is_masked_and_the_rest_stays_as_it_came(query: bytes, told: str) -> None:
    assert MASKS.query(query) == told


def test_a_long_query_is_cut_and_says_so() -> None:
    assert MASKS.query(b"a=" + b"x" * 1_000_000).endswith(f"x<+{1_000_002 - MAX_QUERY} more>")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_query_whatever_raises(query: bytes) -> None:
    assert isinstance(MASKS.query(query), str)


def chosen(*headers: tuple[bytes, bytes], names: tuple[str, ...] = ("*",)) -> dict[str, str]:
    return HeaderChoice(names, MASKS)(headers)


def test_only_headers_that_are_named_are_told() -> None:
    headers = [(b"Accept", b"a"), (b"x-one", b"1"), (b"x-two", b"2"), (b"host", b"h")]
    assert chosen(*headers, names=("accept", "X-*")) == {"accept": "a", "x-one": "1", "x-two": "2"}


@pytest.mark.parametrize(
    "name", ["authorization", "Proxy-Authorization", "cookie", "set-cookie", "x-api-key", "x-csrf-token", "tenant"]
)
def test_a_secret_header_is_masked_whatever_is_named(name: str) -> None:
    assert chosen((name.encode(), b"secret")) == {name.lower(): "REDACTED"}


def test_a_secret_in_the_address_of_a_header_is_masked() -> None:
    assert chosen((b"referer", b"https://x/y?token=abc&a=1")) == {"referer": "https://x/y?token=REDACTED&a=1"}


def test_headers_of_one_name_are_joined_and_a_long_one_is_cut() -> None:
    assert chosen((b"via", b"a"), (b"via", b"b")) == {"via": "a, b"}
    assert len(chosen((b"via", b"x" * 100_000), (b"via", b"x" * 100_000))["via"]) < MAX_HEADER + 40


def test_what_is_no_header_is_left_out() -> None:
    assert HeaderChoice(["*"], MASKS)([("text", "text"), (b"\xff", b"\xfe")]) == {"\xff": "\xfe"}


class TestBody:
    def test_json_that_is_whole_is_what_it_means(self) -> None:
        raw = b'{"name": "ann", "list": [1, 2]}'
        assert MASKS.body("application/json", raw, len(raw)) == {"name": "ann", "list": [1, 2]}

    @pytest.mark.parametrize(
        ("raw", "told"),
        [
            (b'{"name": "ann", "password": "abc", "x": ', '{"name": "ann", "password": "REDACTED", "x": '),
            (b'{"pass\\u0077ord": "ab', '{"pass\\u0077ord": "REDACTED"'),
            (b'{"password": "ab', '{"password": "REDACTED"'),
            (b'{"password": "ab\\', '{"password": "REDACTED"'),
            (b'{"pin": 1, "password": 1234', '{"pin": 1, "password": "REDACTED"'),
            (b'{"credentials": {"a": "abc"}, "x": "y', '{"credentials": "REDACTED"'),
            (b'{"tokens": 1, "token": ["abc", "x', '{"tokens": 1, "token": "REDACTED"'),
        ],
    )
    def test_json_that_was_cut_is_text_with_its_secrets_masked(self, raw: bytes, told: str) -> None:
        assert MASKS.body("application/problem+json", raw, 10_000) == f"{told}<+{10_000 - len(raw)} more>"

    def test_json_that_is_none_is_text(self) -> None:
        assert MASKS.body("application/json", b"{]", 2) == "{]"

    def test_a_form_is_masked_as_a_query_is(self) -> None:
        raw = b"user=ann&password=abc"
        assert MASKS.body("application/x-www-form-urlencoded", raw, len(raw)) == "user=ann&password=REDACTED"

    def test_text_may_be_any_bytes(self) -> None:
        assert MASKS.body("text/plain", b"a\xff", 2) == "a\\xff"

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=40), st.integers(0, 200))
    def test_a_secret_never_shows_wherever_json_was_cut(self, around: str, at: int) -> None:
        raw = json.dumps({"a": around, "password": "XYZZY" * 20, "b": around}).encode()
        told = MASKS.body("application/json", raw[:at], len(raw) + 1)
        assert "XYZZY" not in told
