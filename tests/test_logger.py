from typing import Any

import pytest

from fapilog import get_logger, log
from fapilog.testing import capture
from fapilog.types import Event


def test_an_event_that_is_a_dict_becomes_text_without_its_secrets() -> None:
    with capture() as captured:
        log.info({"user": "ann", "password": "canary"})
        assert captured.events == ["{'user': 'ann', 'password': 'REDACTED'}"]


@pytest.mark.parametrize("name", ["event", "level", "service", "id", "trace_id", "exception"])
def test_a_reserved_name_is_kept_beside_a_field_of_the_name_it_gets(name: str) -> None:
    with capture() as captured:
        log.info("first", **{name: "a", f"{name}_": "b"}, exc_info=ValueError())
        log.info("last", **{f"{name}_": "b", name: "a"}, exc_info=ValueError())
        for event in ("first", "last"):
            record = captured.find(event=event)
            assert (record[f"{name}__"], record[f"{name}_"]) == ("a", "b")


class Hostile:
    """Whatever is asked of it, it raises."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def _raise(self, *_args: object) -> Any:
        raise self._error

    __str__ = __repr__ = __bool__ = __len__ = __iter__ = __eq__ = __format__ = __getitem__ = _raise
    __hash__ = _raise
    __class__ = property(_raise)


hostile = pytest.mark.parametrize("error", [ValueError(), SystemExit(), RecursionError(), GeneratorExit()], ids=repr)


@hostile
def test_a_hostile_value_costs_no_record_wherever_it_stands(error: BaseException) -> None:
    value = Hostile(error)
    with capture() as captured:
        log.info("field", value=value)
        log.info(value)
        log.info("%s", value)
        log.info(value, value)
        log.info("exc_info", exc_info=value)
        log.info("stack_info", stack_info=value)
        log.log(value, "level")  # type: ignore[arg-type]
        log.info("reserved", id=value, trace_id=value, event=value)
        assert len(captured.records) == 8
        assert captured.handle.stats().dropped == {}


@hostile
def test_a_processor_that_raises_costs_nothing_but_says_so(error: BaseException) -> None:
    def broken(logger: object, method_name: str, event: Event) -> Event:
        raise error

    with capture(processors=[broken]) as captured:
        log.info("x", kept=1)
        record = captured.find(event="x", kept=1)
        assert f"raised {type(error).__name__}" in record["_processor_error"]


def test_an_interrupt_by_the_user_in_the_middle_of_a_value_goes_through() -> None:
    with capture(), pytest.raises(KeyboardInterrupt):
        log.info("%s", Hostile(KeyboardInterrupt()))


def test_the_name_of_a_logger_is_text_whatever_it_was_given() -> None:
    with capture() as captured:
        get_logger(5).info("x")  # type: ignore[arg-type]
        assert captured.find(event="x")["logger"] == "5"
