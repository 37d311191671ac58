import threading
from typing import Any

import pydantic
import pytest

import fapilog
from fapilog import event_schema, get_logger, lazy, log, register_serializer
from fapilog.errors import ConfigurationError
from fapilog.serializers import BUILT_IN_KINDS
from fapilog.testing import capture
from fapilog.types import Event


class Money:
    def __init__(self, amount: int, currency: str = "EUR") -> None:
        self.amount = amount
        self.currency = currency


class Price(Money):
    pass


@pytest.fixture(autouse=True)
def _take_back() -> Any:
    yield
    for kind in (Money, Price, ValueError):
        register_serializer(kind, None)


def test_a_serializer_says_what_its_class_and_the_subclasses_become() -> None:
    register_serializer(Money, lambda money: {"amount": money.amount, "currency": money.currency})
    with capture() as logged:
        log.info("paid", money=Money(7), prices=[Price(1)], by={"ann": Price(2)})
        record = logged.find(event="paid", money={"amount": 7, "currency": "EUR"})
    assert record["prices"] == [{"amount": 1, "currency": "EUR"}]
    assert record["by"] == {"ann": {"amount": 2, "currency": "EUR"}}


def test_the_nearest_class_counts() -> None:
    register_serializer(Money, lambda money: money.amount)
    register_serializer(Price, lambda price: f"{price.amount} {price.currency}")
    with capture() as logged:
        log.info("paid", money=Money(7), price=Price(1))
        logged.find(event="paid", money=7, price="1 EUR")


def test_a_serializer_may_be_taken_back() -> None:
    register_serializer(Money, lambda money: money.amount)
    register_serializer(Money, None)
    register_serializer(Money, None)
    with capture() as logged:
        log.info("paid", money=Money(7))
        assert "Money object" in logged.records[0]["money"]


def test_what_a_serializer_returns_is_made_plain_bounded_and_redacted() -> None:
    register_serializer(Money, lambda money: {"api_key": "canary", "rest": Price(2), "long": "x" * 100_000})
    register_serializer(Price, lambda price: {price.amount})
    with capture() as logged:
        log.info("paid", money=Money(7))
        record = logged.find(event="paid")
    assert record["money"]["api_key"] == "REDACTED"
    assert record["money"]["rest"] == [2]
    assert record["money"]["long"].endswith("<+67232 more>")
    assert record["_truncated"] == {"money.long": 100_000}


def test_a_serializer_that_returns_its_argument_leaves_it_to_what_is_known() -> None:
    register_serializer(ValueError, lambda error: error)
    with capture() as logged:
        log.info("x", error=ValueError("wrong"))
        logged.find(event="x", error="ValueError: wrong")


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(), RecursionError()], ids=repr)
def test_a_serializer_that_raises_marks_the_field_is_counted_and_keeps_the_record(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(money: Money) -> Any:
        raise error

    register_serializer(Money, broken)
    with capture() as logged:
        log.info("paid", money=Money(7), kept=1)
        logged.find(event="paid", kept=1, money=f"<serializer failed: {type(error).__name__}>")
        assert logged.handle.stats().failures == {"serializer": 1}
        assert logged.handle.stats().dropped == {}
    assert f"broken raised {type(error).__name__}" in capfd.readouterr().err


def test_a_serializer_that_makes_ever_more_of_its_kind_ends() -> None:
    register_serializer(Money, lambda money: Money(money.amount + 1))
    register_serializer(Price, lambda price: [price])
    with capture() as logged:
        log.info("paid", money=Money(0), price=Price(0))
        logged.find(event="paid", money="<depth>", price=["<cycle>"])


@pytest.mark.parametrize("kind", [*BUILT_IN_KINDS, "Money", 5, None])
def test_what_json_has_itself_cannot_be_changed(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="a serializer is for a class"):
        register_serializer(kind, str)


def test_a_serializer_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be called: 5"):
        register_serializer(Money, 5)  # type: ignore[arg-type]


class Counted:
    """A function that counts its calls."""

    def __init__(self, value: Any = "made") -> None:
        self.calls = 0
        self.value = value
        self.thread: threading.Thread | None = None

    def __call__(self) -> Any:
        self.calls += 1
        self.thread = threading.current_thread()
        return self.value


def test_a_lazy_value_is_made_once_in_the_thread_that_logs() -> None:
    function = Counted({"when": 1, "password": "canary"})
    with capture() as logged:
        value = lazy(function)
        log.info("x", first=value, nested=[value, {"again": value}])
        record = logged.find(event="x", first={"when": 1, "password": "REDACTED"})
    assert record["nested"] == [record["first"], {"again": record["first"]}]
    assert (function.calls, function.thread) == (1, threading.current_thread())


def test_a_lazy_value_is_made_once_even_if_the_record_has_to_be_cut() -> None:
    function = Counted()
    with capture() as logged:
        log.info("x", made=lazy(function), **{f"k{number}": "x" * 30_000 for number in range(50)})
        logged.find(event="x", made="made")
    assert function.calls == 1


def test_a_lazy_value_below_the_level_is_not_made() -> None:
    function = Counted()
    with capture(level="warning") as logged:
        log.info("x", made=lazy(function))
        log.info("%s", lazy(function))
        assert logged.records == []
    assert function.calls == 0


def test_a_lazy_value_of_a_record_that_a_processor_drops_is_not_made() -> None:
    import structlog

    def drop(logger: object, method_name: str, event: Event) -> Event:
        raise structlog.DropEvent

    function = Counted()
    with capture(processors=[drop]) as logged:
        log.info("x", made=lazy(function))
        log.info(lazy(function))
        assert logged.handle.stats().filtered == {"processor": 2}
    assert function.calls == 0


def test_a_lazy_value_of_a_record_that_is_refused_is_not_made() -> None:
    function = Counted()
    with capture(queue_overflow="drop", queue_maxsize=1) as logged:
        queue = logged.handle._runtime.queue
        with queue.lock:
            queue.pressed = True
            queue.refuses = lambda level: True  # type: ignore[method-assign]
        log.info("x", made=lazy(function))
    assert function.calls == 0


class Sized(pydantic.BaseModel):
    size: int


@pytest.mark.parametrize("schema", [Sized, {"properties": {"size": {"type": "integer"}}}])
def test_a_lazy_value_is_made_once_whatever_reads_it_and_a_schema_sees_the_value(schema: Any) -> None:
    function = Counted(7)
    event_schema("sized", schema)
    with capture(
        filter_drop=["size=8", "size~9", lambda event: str(event["size"]) == "x"],
        filter_keep=["size=7"],
        throttle_max_rate=5,
        throttle_key_field="size",
        dedupe_window_seconds=5,
        dedupe_fields=["size"],
        processors=[lambda _logger, _name, event: {**event, "said": str(event["size"])}],
    ) as logged:
        log.info("sized", size=lazy(function))
        record = logged.records[0]
    assert (record["size"], record["said"]) == (7, "7")
    assert "_schema_errors" not in record
    assert function.calls == 1


def test_a_lazy_value_is_not_made_for_a_record_that_something_else_leaves_out() -> None:
    function = Counted("v")
    with capture(filter_drop=["event=x", "made=w"]) as logged:
        log.info("x", made=lazy(function))
        assert function.calls == 0
        log.info("y", made=lazy(function))
        log.info(lazy(lambda: "x"))
        assert [record["made"] for record in logged.records] == ["v"]
    assert function.calls == 1


def test_a_lazy_value_that_raises_where_a_filter_reads_it_is_counted_once() -> None:
    def fail() -> None:
        raise ValueError

    with capture(filter_drop=["made=w", "made=v"]) as logged:
        log.info("x", made=lazy(fail))
        assert logged.records[0]["made"] == "<lazy failed: ValueError>"
        assert logged.handle.stats().failures == {"lazy": 1}


def test_a_lazy_value_that_is_bound_is_made_for_each_record() -> None:
    function = Counted()
    with capture() as logged:
        bound = get_logger("shop", made=lazy(function))
        bound.info("one")
        bound.info("two")
        assert [record["made"] for record in logged.records] == ["made", "made"]
    assert function.calls == 2


def test_the_event_may_be_lazy_and_have_lazy_arguments() -> None:
    with capture() as logged:
        log.info(lazy(lambda: "said late"))
        log.info("%s said", lazy(lambda: "ann"))
        assert logged.events == ["said late", "ann said"]


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(), GeneratorExit()], ids=repr)
def test_a_lazy_value_that_raises_marks_the_field_is_counted_and_keeps_the_record(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Any:
        raise error

    with capture() as logged:
        log.info("x", made=lazy(fail), kept=1)
        logged.find(event="x", kept=1, made=f"<lazy failed: {type(error).__name__}>")
        assert logged.handle.stats().failures == {"lazy": 1}
    assert f"a lazy value raised {type(error).__name__}" in capfd.readouterr().err


def test_a_lazy_value_that_cannot_be_called_marks_the_field() -> None:
    with capture() as logged:
        log.info("x", made=lazy(5))  # type: ignore[arg-type]
        logged.find(event="x", made="<lazy failed: TypeError>")


def test_an_interrupt_by_the_user_goes_through_what_users_wrote() -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    register_serializer(Money, interrupted)
    with capture():
        with pytest.raises(KeyboardInterrupt):
            log.info("x", money=Money(7))
        with pytest.raises(KeyboardInterrupt):
            log.info("x", made=lazy(interrupted))


def test_a_lazy_value_says_what_it_is_without_being_made() -> None:
    function = Counted()
    assert repr(fapilog.lazy(function)) == "<lazy>"
    assert function.calls == 0
