from typing import Any

import pytest
from pydantic import ValidationError

from fapilog.pipeline.options import DeliveryOptions
from fapilog.plugins import options_of


def make(**options: Any) -> DeliveryOptions:
    return DeliveryOptions(**options)


def wanted(_record: dict[str, Any]) -> bool:
    return True


def test_every_option_says_what_it_does() -> None:
    for name, option in options_of(DeliveryOptions).items():
        assert option.description, name


def test_a_filter_may_be_named() -> None:
    assert make(filter=f"{__name__}:wanted").filter is wanted
    assert DeliveryOptions(filter=wanted).filter is wanted


@pytest.mark.parametrize("filter_", ["no.such.module:f", "not a name", 5])
def test_a_filter_that_is_none_is_refused(filter_: Any) -> None:
    with pytest.raises((ValidationError, ValueError)):
        DeliveryOptions(filter=filter_)


def test_options_come_as_text_from_the_environment() -> None:
    given = {"level": "WARN", "batch_max_records": "5", "circuit_breaker_threshold": "3"}
    options = make(**given, spool="false", spool_max_bytes="4096")
    assert (options.level, options.batch_max_records, options.circuit_breaker_threshold) == ("warning", 5, 3)
    assert (options.spool, options.spool_max_bytes) == (False, 4096)


@pytest.mark.parametrize(
    "option",
    [
        {"write_timeout_seconds": 0},
        {"max_retry_attempts": -1},
        {"circuit_breaker_threshold": 0},
        {"circuit_breaker_timeout_seconds": 0},
        {"batch_max_bytes": 0},
        {"spool": "perhaps"},
        {"spool_max_bytes": 0},
        {"spool_max_age_seconds": -1},
    ],
    ids=str,
)
def test_a_value_that_makes_no_sense_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeliveryOptions(**option)
