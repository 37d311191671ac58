import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog import LoggingSettings, bind_context, bind_request, configure_logging, lazy, log, redaction
from fapilog.capture.records import RecordHandler
from fapilog.context import RequestContext, current_request
from fapilog.detectors import texts
from fapilog.diagnostics import report
from fapilog.encoding import plain
from fapilog.errors import ConfigurationError
from fapilog.metrics import prometheus_text
from fapilog.processors.enrich import clear_enrichers, register_enricher
from fapilog.processors.redact import DEFAULT_FIELDS, SECRET_SUFFIXES, Redact
from fapilog.testing import CollectingSink, capture
from fapilog.types import Event
from tests.programs import untraced

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


PLACES: list[tuple[str, Event]] = [  # what is taken out has the value 0
    ("user.*.email", {"user": {"home": {"email": 0}, "email": 1}, "email": 2}),
    ("payload.card.number", {"payload": {"card": {"number": 0}}, "number": 1}),
    ("**.iban", {"iban": 0, "x": [{"y": {"IBAN": 0}}]}),
    ("users.email", {"users": [{"email": 0}, {"name": 1}]}),
    ("users.0.email", {"users": [{"email": 0}, {"email": 1}]}),
    ("users.*.email", {"users": [{"email": 0}]}),
    ("Order.Card-Holder", {"order": {"cardHolder": 0}}),
    ("a.b", {"a.b": 0, "a": {"b": 0, "c": {"b": 1}}}),
    ("*_pin", {"card_pin": 0, "pin": 1, "x": {"SIM-PIN": 0}}),
    ("a.**.z", {"a": {"z": 0, "b": {"c": {"z": 0}}}, "z": 1}),
    ("a.*", {"a": {"b": 0, "c": 0}, "b": 1}),
    ("a.x*y", {"a": {"xy": 0, "x1y": 0, "x": 1}}),
]


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return "REDACTED" if value == 0 else value


@pytest.mark.parametrize(("place", "event"), PLACES)
def test_a_place_is_secret(place: str, event: Event) -> None:
    assert Redact([place])(None, "", event) == masked(event)


def test_a_name_or_a_place_that_is_kept_is_no_secret() -> None:
    redact = Redact(["pin"], keep=["token", "batch.secret"])
    event = {"token": "a", "pin": 1, "batch": {"secret": "b"}, "secret": "c", "text": "token=a pin=1"}
    assert redact(None, "", event) == {
        **event, "pin": "REDACTED", "secret": "REDACTED", "text": "token=a pin=REDACTED"
    }  # fmt: skip


def test_of_an_allow_list_only_what_is_named_is_kept() -> None:
    with capture(redact_allow=["order_id", "user.name", "items"], service="shop") as captured:
        for _ in range(2):
            log.info("placed", order_id=7, user={"name": "ann", "city": "x"}, items=[{"sku": 1}], note="y", none=None)
        log.info("by %s", "ann", _args=["z"], password="p")
        first, second, third = captured.records
    assert {name: first[name] for name in ("order_id", "user", "items", "note", "none")} == {
        "order_id": 7,
        "user": {"name": "ann", "city": "REDACTED"},
        "items": [{"sku": 1}],
        "note": "REDACTED",
        "none": None,
    }
    assert (second["note"], second["event"], second["service"]) == ("REDACTED", "placed", "shop")
    assert (third["event"], third["_args"], third["password"]) == ("by ann", ["REDACTED"], "REDACTED")


@pytest.mark.parametrize(
    ("mode", "password", "text"),
    [
        ("mask", "REDACTED", "key <redacted:aws_key>."),
        ("partial", "REDACTED-ABCD", "key REDACTED-MPLE."),
        ("drop", None, "key ."),
        ("hash", r"<hash:[0-9a-f]{24}>", r"key <hash:[0-9a-f]{24}>\."),
        ("tokenize", "16:field:password", "key 20:aws_key."),
    ],
)
def test_a_secret_is_masked_shown_in_part_dropped_hashed_or_tokenized(
    mode: str, password: str | None, text: str
) -> None:
    with capture(
        redact_mode=mode, redact_key="k", redact_tokenizer=lambda said, rule: f"{len(said)}:{rule}"
    ) as captured:
        log.info("key AKIAIOSFODNN7EXAMPLE.", password="long-enough-ABCD", short={"pin_token": "1234", "n_token": 5})
        record = captured.records[0]
    assert re.fullmatch(text, record["event"])
    assert "1234" not in repr(record["short"])
    assert "5" not in repr(record["short"]).partition("n_token")[2][:5]
    assert ("password" in record) == (password is not None)
    assert password is None or re.fullmatch(password, record["password"])


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("password: ", (CANARY,)),
        ("token", (CANARY,)),
        ("password=%s", (CANARY, CANARY)),
        ("the API key of %s is", ("ann", CANARY)),
        ("%d=%s", ("password", CANARY)),
        ("userToken %d", (CANARY,)),
        ("zz pin", (CANARY,)),
        ("пароль", (CANARY,)),
    ],
)
@pytest.mark.parametrize("stdlib", [False, True])
def test_arguments_that_could_not_be_formatted_are_masked_if_a_secret_is_named(
    event: str, arguments: tuple[Any, ...], stdlib: bool
) -> None:
    with capture(redact_fields=["zz_pin", "пароль"]) as captured:
        if stdlib:  # not through a logger, to which pytest adds a handler that raises
            RecordHandler().handle(logging.LogRecord("shop", logging.ERROR, "f", 1, event, arguments, None))
        else:
            log.error(event, *arguments)
        record = captured.records[0]
    assert record["_args"] == "REDACTED"
    assert CANARY not in repr(record)


def test_arguments_are_kept_where_no_secret_is_named() -> None:
    with capture() as captured:
        log.info("records needed: ", 5)
        log.info("max_tokens %d", "many")
        assert [record["_args"] for record in captured.records] == [[5], ["many"]]
    with capture(redact_off=["texts"]) as captured:
        log.info("password: ", "x")
        assert captured.records[0]["_args"] == ["x"]
    with capture(redact_fields=["*_pin"]) as captured:
        log.info("zz_pin", "x")
        assert captured.records[0]["_args"] == "REDACTED"


def test_stderr_is_redacted_as_what_runs_is(capfd: pytest.CaptureFixture[str]) -> None:
    def enricher() -> None:
        raise ValueError(f"zz-{CANARY} ann@example.com iban_of_ann={CANARY}")

    register_enricher(enricher)
    try:
        with capture(redact_presets=["gdpr"], redact_patterns=["zz-[\\w-]+"], redact_fields=["iban_of_ann"]):
            log.info("x", value=lazy(enricher))
        said = capfd.readouterr().err
        assert CANARY not in said
        assert "ann@" not in said
        assert "iban_of_ann=REDACTED" in said
        report("zz-abc token=abc")
        assert "zz-abc token=REDACTED" in capfd.readouterr().err
    finally:
        clear_enrichers()


def test_equal_values_have_equal_hashes_by_one_key_and_others_by_another() -> None:
    one, other = Redact(["email"], mode="hash", key="a"), Redact(["email"], mode="hash", key="b")
    first = one(None, "", {"email": "ann@example.com"})["email"]
    assert first == one(None, "", {"x": {"email": "ann@example.com"}})["x"]["email"]
    assert first == one.text("email=ann@example.com")[len("email=") :]
    assert first != other(None, "", {"email": "ann@example.com"})["email"]


def test_a_rule_may_have_a_mode_of_its_own() -> None:
    with capture(redact_presets="pci,gdpr", redact_modes="card=partial, email=drop") as captured:
        log.info("x", text="4111111111111111 of ann@example.com", password="long-enough-ABCD")
        record = captured.records[0]
    assert (record["text"], record["password"]) == ("REDACTED-1111 of ", "REDACTED")


def test_the_mask_names_its_rule_where_the_replacement_asks_for_it() -> None:
    redact = Redact(replacement="<{rule}>", presets=["pci"])
    event = {"password": "x", "text": "4111111111111111 token=y"}
    assert redact(None, "", event) == {"password": "<field:password>", "text": "<card> token=<field:token>"}


@pytest.mark.parametrize(
    ("off", "event"),
    [
        ("fields", {"password": "x"}),
        ("texts", {"text": "password=x"}),
        ("urls", {"text": "http://a:b@c/?sig=d"}),
        ("credentials", {"text": "AKIAIOSFODNN7EXAMPLE"}),
        ("aws_key", {"text": "AKIAIOSFODNN7EXAMPLE"}),
    ],
)
def test_a_group_or_a_rule_can_be_turned_off(off: str, event: Event) -> None:
    assert Redact()(None, "", event) != event
    assert Redact(off=[off])(None, "", event) == event


def test_personal_data_is_looked_for_only_when_a_preset_says_so() -> None:
    event = {
        "said": "ann@example.com from 10.0.0.1, 4111 1111 1111 1111",
        "card": 4111111111111111,
        "ms": 1700000000000,
    }
    assert Redact()(None, "", event) == event
    redacted = Redact(presets=["gdpr"])(None, "", event)
    assert redacted == {
        "said": "<redacted:email> from <redacted:ip>, <redacted:card>", "card": "<redacted:card>", "ms": 1700000000000
    }  # fmt: skip
    for _ in range(2):
        with capture(redact_presets=["pci"]) as captured:
            log.info("x", n=4111111111111111)
            log.info("x", n=7)
            log.info("x", n=4111111111111111)
            assert [record["n"] for record in captured.records] == ["<redacted:card>", 7, "<redacted:card>"]


def test_what_was_logged_before_it_was_configured_is_redacted_as_configured() -> None:
    log.info("to ann@example.com", shoe_size="41")
    with capture(redact_presets="gdpr", redact_fields="shoe_size") as captured:
        early = captured.records[0]
    assert (early["event"], early["shoe_size"]) == ("to <redacted:email>", "REDACTED")


def test_a_pattern_of_the_user_s_takes_out_its_secret_group_or_all_of_it() -> None:
    patterns = {"order": r"ORD-(?P<secret>\d{6})", "room": r"room \d+"}
    with capture(redact_patterns=patterns) as captured:
        log.info("ORD-123456 in room 7")
        assert captured.events == ["ORD-<redacted:order> in <redacted:room>"]
        redacted = captured.handle.stats().redacted
    assert (redacted["order"], redacted["room"]) == (1, 1)


@pytest.mark.parametrize(
    ("said", "patterns"),
    [
        (r"ORD-\d{2,6}, [a,b]x,(a|b,c)", [r"ORD-\d{2,6}", "[a,b]x", "(a|b,c)"]),
        (r'["a,b", "c"]', ["a,b", "c"]),
        (r"[ab]+c", ["[ab]+c"]),
        ("", []),
    ],
)
def test_patterns_come_from_the_environment(said: str, patterns: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_REDACT_PATTERNS", said)
    assert list(LoggingSettings().redact_patterns.values()) == patterns


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"redact_patterns": ["(a+)+$"]}, "a repetition inside a repetition"),
        ({"redact_patterns": ["("]}, "is no regular expression"),
        ({"redact_patterns": ["a*"]}, "matches the empty text"),
        ({"redact_presets": "ccpa"}, "redact_presets"),
        ({"redact_off": "everything"}, "'everything'"),
        ({"redact_modes": "card=shred"}, "'shred'"),
        ({"redact_modes": "carde=hash", "redact_key": "k"}, "'carde'"),
        ({"redact_mode": "hash"}, "FAPILOG_REDACT_KEY"),
        ({"redact_mode": "tokenize"}, "redact_tokenizer"),
        ({"redact_mode": "tokenize", "redact_tokenizer": "nowhere:at_all"}, "cannot import 'nowhere:at_all'"),
        ({"redact_functions": [7]}, "give a function"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        configure_logging(sinks=[], **options)


def fail(*_: object) -> str:
    raise SystemExit(CANARY)


@pytest.mark.parametrize(
    "options",
    [
        {"redact_mode": "tokenize", "redact_tokenizer": fail},
        {"redact_mode": "tokenize", "redact_tokenizer": lambda *_: 7},
        {"redact_functions": [fail]},
        {"redact_functions": [lambda *_: None]},
    ],
    ids=["tokenizer raises", "tokenizer returns no text", "function raises", "function returns no text"],
)
def test_a_function_of_the_user_s_that_fails_masks_the_whole_field(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with configure_logging(sinks=[sink := CollectingSink()], **options) as handle:
        log.info("x", text=f"{CANARY} token=abc", kept=7, deep={"password": CANARY, "a": f"b {CANARY}"})
        handle.flush()
        assert handle.stats().redacted["failed"] >= 2
        assert (
            f'fapilog_redacted_total{{rule="failed"}} {float(handle.stats().redacted["failed"])}' in prometheus_text()
        )
    (record,) = sink.records
    assert (record["text"], record["deep"], record["kept"]) == ("<redaction failed>", "<redaction failed>", 7)
    assert CANARY not in repr(sink.records) + capfd.readouterr().err


MIXED = "ann@example.com +49 170 1234567 DE89370400440532013000 4111 1111 1111 1111 192.168.0.1 123-45-6789 "


@pytest.mark.parametrize("presets", [[], ["gdpr", "hipaa", "pci"]])
@pytest.mark.parametrize(
    "fields",
    [
        {f"s{n}": "a:b key " * 4_096 for n in range(8)},
        {"l": ["password=x " * 20] * 1_000},
        {f"s{n}": MIXED * 60 for n in range(32)},
        {f"s{n}": MIXED * 320 for n in range(8)},
        {f"s{n}": "http://a:b@c/d?x=1&token=3 " * 1_200 for n in range(8)},
        {f"s{n}": "token=" * 5_400 for n in range(8)},
        {f"s{n}": "a:b key " * 128 for n in range(256)},
        {f"s{n}": "x" * 4_000 for n in range(8)},
    ],
    ids=["pairs", "secrets", "personal", "more personal", "urls", "names", "many", "patterns"],
)
def test_no_record_within_its_limits_takes_long_and_none_passes_unseen(
    fields: dict[str, Any], presets: list[str]
) -> None:
    with capture(redact_presets=presets, redact_patterns={"xs": "x{1,9}" * 8 + "y"}) as captured:
        took = []
        for _ in range(4):
            with untraced():
                began = time.thread_time()
                log.info("x", before=f"password={CANARY}", **fields, after=f"password={CANARY}")
                took.append(time.thread_time() - began)
        records = captured.records
        failed = captured.handle.stats().redacted["failed"]
    assert min(took) < 0.06  # 43 ms at most on an idle machine
    assert {record["before"] for record in records} == {"password=REDACTED"}
    assert CANARY not in repr(records)
    assert sum(value == "<redaction failed>" for record in records for value in record.values()) <= failed


def test_a_record_that_a_function_logs_has_a_time_of_its_own() -> None:
    def slow(path: str, said: str) -> str:
        if path == "text":
            log.info("y", other="z")
            until = time.thread_time() + 0.05
            while time.thread_time() < until:
                pass
        return said

    with capture(redact_functions=[slow]) as captured:
        log.info("x", text="a", **{f"s{n}": "b " * 1_000 for n in range(8)})
        inner, outer = captured.records
    assert inner["other"] == "z"
    assert outer["text"] == "a"
    assert outer["s7"] == "<redaction failed>"


def test_of_a_field_that_failed_the_name_is_kept_only_if_it_is_clean() -> None:
    with capture(redact_mode="tokenize", redact_tokenizer=fail) as captured:
        log.info("x", **{f"password={CANARY}": 1, "deep": {f"token={CANARY}": 1}})
        record = captured.records[0]
    assert CANARY not in repr(record)
    assert record["deep"] == record["<redaction failed>"] == "<redaction failed>"


def test_a_detector_that_fails_masks_the_field_and_keeps_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture() as captured:
        monkeypatch.setattr(texts, "pairs", fail)
        log.info("x", text=f"password={CANARY}", other="y", raw=[1])
        record = captured.records[0]
    assert (record["text"], record["other"], record["event"]) == ("<redaction failed>", "y", "x")


def test_a_redactor_that_fails_at_every_field_leaves_records_without_values() -> None:
    script = f"""
from fapilog import configure_logging, log
with configure_logging(sinks=["stdout"], json_console="json"):
    log.info("x", nested=["{CANARY}"], other="y")
"""
    environment = {**os.environ, "FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": "redact:raise:always"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    (line,) = done.stdout.splitlines()
    record = json.loads(line)
    assert (record["nested"], record["other"], record["event"]) == ("<redaction failed>",) * 3
    assert record["level"] == "info"
    assert CANARY not in done.stdout + done.stderr


def test_a_function_of_the_user_s_sees_each_text_with_its_path() -> None:
    seen = []

    def function(path: str, text: str) -> str:
        seen.append(path)
        return text.replace("ann", "?")

    with capture(redact_functions=[function]) as captured:
        for _ in range(2):
            log.info("ann was here", user={"names": ["ann"]}, n=1)
        assert [(each["event"], each["user"]) for each in captured.records] == [("? was here", {"names": ["?"]})] * 2
    assert "user.names.0" in seen


def test_explain_says_what_would_go_and_why_and_never_what_it_is() -> None:
    with capture(redact_fields=["user.*.shoe"], redact_presets=["gdpr"], redact_modes={"email": "drop"}) as captured:
        found = redaction.explain(
            {
                "event": f"token={CANARY}",
                "user": {"a": {"shoe": CANARY, "mail": ["ann@example.com"]}},
                "Pass-Word": CANARY,
            }
        )
        assert captured.records == []
    assert [(each.path, each.rule, each.confidence, each.mode) for each in found] == [
        ("event", "field:token", 0.9, "mask"),
        ("user.a.shoe", "path:user.*.shoe", 1.0, "mask"),
        ("user.a.mail.0", "email", 0.95, "drop"),
        ("Pass-Word", "field:password", 1.0, "mask"),
    ]
    assert CANARY not in repr(found)
    assert redaction.explain("order placed") == []


def test_every_rule_is_counted_from_nought() -> None:
    with configure_logging(sinks=[]) as handle:
        assert set(handle.stats().redacted.values()) == {0}
        log.info("x", password="a", url="http://u:p@h/", text="AKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLE")
        redacted = handle.stats().redacted
        told = prometheus_text()
    assert {rule: count for rule, count in redacted.items() if count} == {
        "field:password": 1, "url_userinfo": 1, "aws_key": 2
    }  # fmt: skip
    assert 'fapilog_redacted_total{rule="aws_key"} 2.0' in told
    assert 'fapilog_redacted_total{rule="jwt"} 0.0' in told


def test_the_key_of_the_hashes_is_in_no_repr() -> None:
    settings = LoggingSettings(redact_mode="hash", redact_key=CANARY)
    assert CANARY not in repr(settings) + str(settings) + settings.model_dump_json()


def test_what_many_threads_take_out_is_counted_exactly() -> None:
    redact = Redact()

    def work() -> None:
        for _ in range(2_000):
            redact(None, "", {"password": "x", "text": "token=y AKIAIOSFODNN7EXAMPLE"})

    threads = [threading.Thread(target=work) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert {rule: count for rule, count in redact.counts.items() if count} == {
        "field:password": 8_000, "field:token": 8_000, "aws_key": 8_000
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (["mysql", "--password", "lower"], ["mysql", "--password", "REDACTED"]),
        ([["x-api-key", "lower"]], [["x-api-key", "REDACTED"]]),
        ([("Authorization", CANARY, True)], [["Authorization", "REDACTED", True]]),
        (("Authorization", CANARY), ["Authorization", "REDACTED"]),
        (
            ["Host", "h", "Authorization", CANARY, "Accept", "a"],
            ["Host", "h", "Authorization", "REDACTED", "Accept", "a"],
        ),
        ({"Name": "DB_PASSWORD", "Value": CANARY}, {"Name": "DB_PASSWORD", "Value": "REDACTED"}),
        ({"VALUE": CANARY, "KEY": "DB_PASSWORD"}, {"VALUE": "REDACTED", "KEY": "DB_PASSWORD"}),
        ({"header": "cookie", "value": CANARY}, {"header": "cookie", "value": "REDACTED"}),
        ({"name": "cookie", "values": [CANARY]}, {"name": "cookie", "values": "REDACTED"}),
        ({"loc": ("body", "password"), "input": CANARY}, {"loc": ["body", "password"], "input": "REDACTED"}),
        (["password", "email"], ["password", "email"]),
        (["token", None], ["token", None]),
        (["ls", "--verbose", "x"], ["ls", "--verbose", "x"]),
        ({"name": "colour", "value": "red"}, {"name": "colour", "value": "red"}),
        ({"name": "max_tokens", "value": 5}, {"name": "max_tokens", "value": 5}),
        ({"name": "password", "value": None}, {"name": "password", "value": None}),
    ],
)
def test_what_stands_beside_a_value_may_name_it(value: Any, kept: Any) -> None:
    assert REDACT(None, "", plain({"x": value})) == {"x": kept}


@pytest.mark.parametrize("name", ["phone", "homePhone", "phone_number", "Mobile", "tel", "fax"])
@pytest.mark.parametrize(
    "value",
    [
        *("2125550147", "5551234567", "15551234567", "01711234567", "0301234567", "491711234567", "9876543210"),
        *("(0)171 1234567", "+49 171 1234567", 2125550147, ["5551234567"]),
    ],
)
def test_a_number_under_the_name_of_a_telephone_is_one(name: str, value: Any) -> None:
    redact = Redact(presets=["gdpr"])
    assert not redact.leaves(name)
    said = redact(None, "", {name: value})[name]
    assert said == (["<redacted:phone>"] if type(value) is list else "<redacted:phone>")
    assert REDACT(None, "", {name: value}) == {name: value}
    assert Redact(presets=["gdpr"], off=["phone"])(None, "", {name: value}) == {name: value}
    assert Redact(presets=["gdpr"], keep=["**." + name])(None, "", {"a": 1, name: 12}) == {"a": 1, name: 12}


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ({"email": "ann@localhost"}, "email"),
        ({"iban": "DE00 3704 0044 0532 0130 00"}, "iban"),
        ({"client_ip": "0.0.0.1"}, "ip"),
        ({"ssn_number": "123456789"}, None),
    ],
)
def test_what_a_name_says_is_taken_out_though_its_form_is_not_strict(field: dict[str, str], rule: str | None) -> None:
    redact = Redact(presets=["gdpr", "hipaa"], replacement="X")
    assert list(redact(None, "", field).values()) == [f"<x:{rule}>" if rule else "X"]


@pytest.mark.parametrize(
    "field",
    [
        *({"phone": "iPhone 12"}, {"phone": True}, {"phone": 12}, {"phone_id": 5551234567}, {"mobile": "yes"}),
        *({"ip": "n/a"}, {"ip": 3232235777}, {"email": "sent"}, {"hotel": "5551234567"}, {"ship": "10.0"}),
    ],
)
def test_what_is_not_what_its_name_says_stays(field: dict[str, Any]) -> None:
    assert Redact(presets=["gdpr", "hipaa", "pci"])(None, "", field) == field
