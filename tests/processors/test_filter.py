from typing import Any

import pytest

from fapilog import bind_context, bind_request, configure_logging, get_logger, log
from fapilog.context import RequestContext, current_request
from fapilog.errors import ConfigurationError
from fapilog.processors.filter import Filter
from fapilog.testing import capture
from fapilog.types import Event


@pytest.mark.parametrize(
    "rule",
    [
        "event=cache hit",
        "event=cache *",
        "event=cache h?t",
        "event=[cd]ache*",
        "event~^cache",
        "event~hit$",
        "logger=shop.*",
        "level=warning",
        "path=/health*",
        "path~^/(health|ready)$",
        "n=7",
        "n~^7$",
        "express=true",
        "bound=yes",
        "wide=yes",
        "trace_id=1*",
        f"{__name__}:is_noise_here",
        lambda record: record["n"] == 7 and record["level"] == "warning" and record["logger"] == "shop.stock",
    ],
)
def test_a_rule_leaves_out_what_it_means_and_nothing_else(rule: Any) -> None:
    current_request.set(RequestContext({"trace_id": "1" * 32}))
    with capture(filter_drop=[rule]) as logged:
        log.info("other", path="/orders", n=70, express=False)
        log.info("other", n=None)
        bind_context(bound="yes")
        bind_request(wide="yes")
        get_logger("shop.stock").warning("cache hit", path="/health", n=7, express=True, trace_id="1" * 32)
        events = logged.events
        stats = logged.handle.stats()
    others = 0 if rule == "trace_id=1*" else 2
    assert events == ["other"] * others
    assert stats.filtered == {"filter": 3 - others}


def is_noise_here(record: Event) -> bool:
    return record.get("n") == 7


def test_only_what_is_to_be_kept_is_kept_and_of_that_nothing_that_is_to_be_dropped() -> None:
    with capture(filter_keep=["logger=shop*", "level=warning"], filter_drop=["event=noise"]) as logged:
        get_logger("shop").info("yes")
        get_logger("other").info("no")
        get_logger("other").warning("yes too")
        get_logger("shop").info("noise")
        get_logger("other").error("an error")
    assert logged.events == ["yes", "yes too", "an error"]


def test_errors_are_left_out_if_that_is_asked_for() -> None:
    with capture(filter_drop="event=noise", filter_errors=True) as logged:
        log.error("noise")
        log.info("noise", exc_info=ValueError("x"))
        log.error("other")
    assert logged.events == ["other"]


def test_rules_come_from_the_environment_apart_by_commas_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_FILTER_DROP", f"event=noise, path=/health*, {__name__}:is_noise_here")
    with capture() as logged:
        log.info("noise")
        log.info("x", path="/healthz")
        log.info("x", n=7)
        log.info("kept")
    assert logged.events == ["kept"]
    monkeypatch.setenv("FAPILOG_FILTER_DROP", '["event~^a{1,3}$"]')
    with capture() as logged:
        log.info("aa")
        log.info("aaaa")
    assert logged.events == ["aaaa"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("event~(a+)+$", "filter_drop: the pattern '(a+)+$' takes too long on some texts"),
        ("event~(", "filter_drop: the pattern '(' is not a regular expression: missing )"),
        ("noise", "filter_drop: cannot read the rule 'noise'; write field=glob, field~regex or module:function"),
        ("=x", "filter_drop: cannot read the rule '=x'"),
        ("no_such_module:f", "no processor at 'no_such_module:f'"),
        (7, "filter_drop: a rule is a text or a function, not int"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_and_what_ran_before_goes_on(rule: Any, said: str) -> None:
    with capture() as logged:
        with pytest.raises(ConfigurationError) as caught:
            configure_logging(filter_drop=[rule])
        assert said in str(caught.value)
        with pytest.raises(ConfigurationError) as caught:
            configure_logging(filter_keep=[rule])
        assert said.replace("drop", "keep") in str(caught.value)
        log.info("still here")
    assert logged.events == ["still here"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), RecursionError()])
def test_a_function_that_raises_has_no_say_and_the_record_is_marked_and_counted(error: BaseException) -> None:
    def broken(_record: Event) -> bool:
        raise error

    with capture(processors=[Filter([broken])], filter_drop="event=noise") as logged:
        log.info("kept", a=1)
        log.info("noise")
        assert logged.records[0]["_filter_error"].startswith(f"Filter raised {type(error).__name__}")
        assert (logged.events, logged.records[0]["a"]) == (["kept"], 1)
        assert logged.handle.stats().failures == {"filter": 1}


def test_keyboard_interrupt_reaches_the_user() -> None:
    def interrupted(_record: Event) -> bool:
        raise KeyboardInterrupt

    with capture(processors=[Filter([interrupted])]), pytest.raises(KeyboardInterrupt):
        log.info("x")


def raises(_record: object) -> bool:
    raise ValueError("bad")


@pytest.mark.parametrize("chain", [False, True], ids=["first", "behind a processor"])
@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ({"drop": [raises, "event=x"]}, ["y"]),
        ({"drop": ["event=x", raises]}, ["y"]),
        ({"keep": [raises, "event=x"]}, ["x"]),
        ({"keep": ["event=x", raises]}, ["x"]),
        ({"keep": [raises]}, ["x", "y"]),
        ({"drop": [raises, "event=x"], "keep": [raises, "event=x"]}, []),
    ],
)
def test_a_rule_that_raises_switches_no_other_off(
    rules: dict[str, Any], kept: list[str], chain: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    before: list[Any] = [lambda _logger, _name, event: event] if chain else []
    with capture(processors=[*before, Filter(**rules)]) as captured:
        log.info("x")
        log.info("y")
        assert captured.events == kept
    assert "raised ValueError" in capfd.readouterr().err


def test_a_value_that_raises_when_it_is_asked_costs_nothing() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError("no")

        def __bool__(self) -> bool:
            raise ValueError("no")

        def __eq__(self, other: object) -> bool:
            raise ValueError("no")

        __hash__ = None  # type: ignore[assignment]

    with capture(
        filter_drop=["odd=x", "odd~y"],
        sampling_rate=1.0,
        dedupe_window_seconds=60,
        dedupe_fields="event,odd",
        throttle_max_rate=10,
        throttle_key_field="odd",
        processors=[Filter(keep=["odd=*"])],
    ) as logged:
        log.info("a", odd=Odd())
        log.info("b", odd=Odd(), exc_info=Odd())
    assert logged.events == ["a", "b"]
    assert logged.handle.stats().failures == {}


def test_a_pattern_sees_the_first_thousand_characters_of_a_value() -> None:
    with capture(filter_drop="text~needle") as logged:
        log.info("a", text="x" * 1_018 + "needle")
        log.info("b", text="x" * 1_019 + "needle")
        log.info("c", text="x" * 50_000_000)
    assert logged.events == ["b", "c"]


def test_the_doctor_finds_a_rule_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from fapilog.doctor import examine

    monkeypatch.setenv("FAPILOG_FILTER_DROP", "event~(a+)+$")
    monkeypatch.setenv("FAPILOG_LEVELS", "a*=info")
    told, fine = examine()
    assert not fine
    assert "filter_drop: the pattern '(a+)+$' takes too long" in told
    assert "levels: got 'a*' for a logger" in told


def test_what_is_formatted_into_the_event_is_seen() -> None:
    with capture(filter_drop="event=user 7 *") as logged:
        log.info("user %d logged in", 7)
        log.info("user %d logged in", 8)
    assert logged.events == ["user 8 logged in"]


def test_what_the_standard_library_logs_is_filtered_too() -> None:
    import logging

    with capture(filter_drop="logger=noisy.*") as logged:
        logging.getLogger("noisy.lib").warning("no")
        logging.getLogger("other").warning("yes")
    assert logged.events == ["yes"]
