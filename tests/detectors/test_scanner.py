"""The glance that most records get sees whatever a close look finds."""

import random
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog import get_logger, log
from fapilog.context import RequestContext, current_request
from fapilog.detectors.scanner import Scanner
from fapilog.processors.redact import Redact
from fapilog.testing import capture
from tests.detectors.test_credentials import SECRETS

REDACT = Redact()
PARTS = st.sampled_from(
    [
        *[secret for _, secret in SECRETS],
        *(
            "password",
            "token",
            "api key",
            "Authorization",
            "=",
            ": ",
            ":",
            " ",
            ",",
            ";",
            "'",
            '"',
            "\\",
            "--",
            "\n",
            "?",
            "&",
        ),
        *(
            "://",
            "@",
            "/",
            "<",
            ">",
            "</",
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            "x",
            "7",
            "é",
            "code",
            "ann",
            "http",
            "Bearer ",
        ),
    ]
)
TEXTS = st.lists(PARTS, max_size=8).map("".join)


def passes(redact: Redact, event: str, fields: dict[str, Any]) -> bool:
    scanner = redact.scanner
    return (event in scanner.seen or scanner.is_clean(event)) and scanner.passes(fields)


def glance(event: str, fields: dict[str, Any]) -> bool:
    return passes(Redact(), event, fields)


@given(TEXTS, TEXTS)
def test_what_the_glance_lets_through_has_nothing_in_it(event: str, value: str) -> None:
    fields = {"n": 7, "said": value}
    if glance(event, fields):
        assert REDACT.text(event) == event
        assert REDACT.text(value) == value


@pytest.mark.parametrize(("rule", "secret"), SECRETS)
def test_the_glance_lets_no_credential_through(rule: str, secret: str) -> None:
    assert not glance(secret, {}), rule
    assert not glance("x", {"said": f"a {secret} b"}), rule
    assert not REDACT.scanner.passes({"said": secret}), rule


@given(TEXTS)
def test_redacting_twice_changes_nothing_more_that_counts(text: str) -> None:
    once = REDACT.text(text)
    assert not [each for each in REDACT._find(REDACT.text(once)) if once[each[0] : each[1]] not in once]


def test_a_text_that_was_looked_at_is_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"order_id": 7, "sku": "tea", "agent": "Mozilla/5.0 (X11; rv:1)", "express": True}
    redact = Redact()
    assert passes(redact, "order placed", fields)

    def look(*_: object) -> bool:
        raise AssertionError("a second look")

    monkeypatch.setattr(Scanner, "_spans", look)
    assert passes(redact, "order placed", fields)
    assert not passes(redact, "another", {"text": "of: another"})


def test_no_more_texts_are_remembered_than_a_bound() -> None:
    redact = Redact()
    for number in range(10_000):
        assert passes(redact, f"number {number}", {"text": "-" * 600})
    assert max(map(len, redact.scanner.seen)) <= 256
    assert len(redact.scanner.seen) <= 4_096


def ids(count: int) -> list[str]:
    """Return random ids and times."""
    chance = random.Random(11)  # noqa: S311 - no secret
    made = []
    for _ in range(count // 5):
        made += [
            f"{chance.getrandbits(128):032x}",
            f"{chance.getrandbits(64):016x}",
            str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            f"20{chance.randrange(10, 99)}-0{chance.randrange(1, 9)}-11T00:00:00.{chance.randrange(10**6):06d}Z",
            str(chance.randrange(10**9, 10**19)),
        ]
    return made


def test_no_id_is_changed_by_default(many: int) -> None:
    assert [said for said in ids(many) if REDACT.text(said) != said] == []


def test_our_own_ids_and_times_stay_byte_for_byte_whatever_is_on() -> None:
    card = "4111111111111111"  # sixteen digits are a span id, too
    own = {"trace_id": card * 2, "span_id": card, "request_id": "ann-10.0.0.1", "trace_flags": "01"}
    current_request.set(RequestContext(own))
    options: dict[str, Any] = {"redact_presets": "gdpr,hipaa,pci", "redact_patterns": [r"\d+"], "service": "shop"}
    with capture(**options, redact_allow=["nothing"]) as captured:
        log.info("paid with 4111 1111 1111 1111", trace_id="4" * 32)
        get_logger("shop").info("x", items=[1])
        for record in captured.records:
            assert record["span_id"] == card
            assert record["request_id"] == "ann-10.0.0.1"
            assert record["timestamp"].endswith("Z")
            assert len(record["timestamp"]) == 27
            assert "redacted" not in record["id"]
