import dataclasses
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog import bind_context, bind_request, log
from fapilog.context import RequestContext, current_request
from fapilog.encoding import plain
from fapilog.processors.redact import DEFAULT_FIELDS, SECRET_SUFFIXES, Redact
from fapilog.testing import capture
from fapilog.types import Event

CANARY = "canary-9b1e"
REDACT = Redact()


def spellings(name: str) -> Iterator[str]:
    words = name.split("_")
    yield from (name, name.upper(), "-".join(words), "-".join(word.title() for word in words), " ".join(words))
    yield words[0] + "".join(word.title() for word in words[1:])
    yield "".join(word.title() for word in words)
    yield "".join(words)


@dataclasses.dataclass
class User:
    name: str
    password: str


class Login(pydantic.BaseModel):
    user: User
    api_key: str


@pytest.mark.parametrize("name", DEFAULT_FIELDS)
def test_every_secret_name_is_known_however_it_is_spelt(name: str) -> None:
    assert [spelling for spelling in spellings(name) if not REDACT.matches(spelling)] == []


@pytest.mark.parametrize("suffix", SECRET_SUFFIXES)
def test_a_name_that_ends_like_a_secret_is_one(suffix: str) -> None:
    assert REDACT.matches(f"stripe{suffix}")
    assert REDACT.matches(f"STRIPE{suffix.upper()}")
    assert REDACT.matches("stripe" + "".join(word.title() for word in suffix.split("_")))


@pytest.mark.parametrize(
    "name", ["user", "tokens_used", "path", "secretary", "order_id", "authorized", "id", "key", ""]
)
def test_a_name_that_only_resembles_a_secret_is_none(name: str) -> None:
    assert not REDACT.matches(name)


def test_names_of_the_user_s_are_secret_too_and_the_mask_is_theirs() -> None:
    redact = Redact(["Iban", "tax-number"], "***")
    event = {"iban": "a", "taxNumber": "b", "password": "c", "name": "d"}
    assert redact(None, "", event) == {"iban": "***", "taxNumber": "***", "password": "***", "name": "d"}


def test_a_secret_that_is_none_stays_none() -> None:
    assert REDACT(None, "", {"token": None}) == {"token": None}


def test_a_whole_object_under_a_secret_name_is_masked() -> None:
    assert REDACT(None, "", {"credentials": {"user": "ann"}, "cookies": ["a"]}) == {
        "credentials": "REDACTED",
        "cookies": "REDACTED",
    }


def test_the_event_it_is_given_stays_as_it_was() -> None:
    event = {"a": {"token": CANARY}}
    REDACT(None, "", event)
    assert event == {"a": {"token": CANARY}}


def nest(leaf: Any) -> list[Any]:
    """Return *leaf* inside everything a record can hold."""
    return [
        leaf,
        [leaf],
        (leaf,),
        {"inner": leaf},
        {"inner": [{"deeper": leaf}]},
        [[[leaf]]],
    ]


SECRETS = [
    {"password": CANARY},
    {"Set-Cookie": CANARY},
    {b"authorization": CANARY},
    User("ann", CANARY),
    Login(user=User("ann", "x"), api_key=CANARY),
    Login(user=User("ann", CANARY), api_key="x"),
    {"token": [CANARY, {"x": CANARY}]},
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_no_secret_is_left_at_any_depth(secret: Any) -> None:
    for value in nest(secret):
        assert CANARY not in str(REDACT(None, "", plain({"value": value})))


@given(
    st.recursive(
        st.just(CANARY) | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from([*DEFAULT_FIELDS, "X-Api-Key", "authToken", "dbPassword"]), inner, max_size=4
            )
        ),
    )
)
def test_nothing_below_a_secret_name_is_left(value: Any) -> None:
    redacted = REDACT(None, "", plain({"outer": {"token": value}, "list": [{"jwt": value}]}))
    assert redacted == {"outer": {"token": "REDACTED"}, "list": [{"jwt": "REDACTED"}]}


def add_a_secret(logger: object, method_name: str, event: Event) -> Event:
    return {**event, "session_id": CANARY, "added": {"client_secret": CANARY}}


def test_a_secret_is_redacted_wherever_it_comes_from() -> None:
    current_request.set(RequestContext({"trace_id": "1" * 32}))
    bind_context(auth_token=CANARY, user=User("ann", CANARY))
    bind_request(cookie=CANARY)
    log.info("early", password=CANARY)
    with capture(processors=[add_a_secret], redact_fields=["pin"], service="shop") as captured:
        log.bind(jwt=CANARY).info("x", pin=CANARY, headers={"Authorization": CANARY}, login=SECRETS[4])
        log.info({"password": CANARY})
        log.info("plain", token=CANARY)
        written = repr(captured.records)
    assert len(captured.events) == 4
    assert CANARY not in written


def test_a_name_that_was_harmless_before_stays_readable_and_a_secret_one_never_becomes_safe() -> None:
    with capture() as captured:
        for _ in range(3):
            log.info("x", user="ann", password=CANARY)
        assert [(record["user"], record["password"]) for record in captured.records] == [("ann", "REDACTED")] * 3


def test_a_redactor_that_fails_lets_nothing_through(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> bool:
        raise ValueError(CANARY)

    with capture() as captured:
        with monkeypatch.context() as patched:
            patched.setattr(Redact, "__call__", fail)
            log.info("x", value=CANARY)
            log.info({"password": CANARY})
        records = captured.records
    assert CANARY not in repr(records) + capfd.readouterr().err
    assert [record["_redaction"] for record in records] == ["<redaction failed>"] * 2
    assert records[0]["event"] == "x"
