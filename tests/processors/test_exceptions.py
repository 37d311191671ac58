import sys
from typing import Any, NoReturn

import pytest

from fapilog import log
from fapilog.processors.exceptions import MAX_STACK_CHARACTERS, describe, find
from fapilog.testing import capture


class Unspeakable(Exception):  # noqa: N818 - it is what it is
    def __str__(self) -> str:
        raise SystemExit


def fail(error: BaseException, cause: BaseException | None = None) -> NoReturn:
    raise error from cause


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        fail(error, cause)
    except BaseException as caught:  # noqa: BLE001 - any is meant
        return caught


def recurse(depth: int) -> None:
    if not depth:
        raise ValueError("at the bottom")
    recurse(depth - 1)


def chain(length: int) -> BaseException:
    error: BaseException = ValueError("first")
    for number in range(length):
        error = raised(ValueError(f"number {number}"), error)
    return error


def test_an_exception_is_its_type_its_message_and_its_stack() -> None:
    described = describe(raised(ValueError("wrong")))
    assert (described["type"], described["message"]) == ("ValueError", "wrong")
    assert described["stacktrace"].startswith("Traceback (most recent call last):\n")
    assert described["stacktrace"].endswith("ValueError: wrong")


def test_the_type_of_an_exception_that_is_not_built_in_has_its_module() -> None:
    assert describe(Unspeakable())["type"] == f"{__name__}.Unspeakable"


def test_causes_are_in_the_stack() -> None:
    stack = describe(raised(ValueError("later"), KeyError("earlier")))["stacktrace"]
    assert "KeyError: 'earlier'" in stack
    assert "direct cause" in stack


@pytest.mark.parametrize(
    "make",
    [
        lambda: raised(Unspeakable()),
        lambda: chain(300),
        lambda: ExceptionGroup("many", [ValueError(str(number)) for number in range(300)]),
        lambda: ValueError("x" * 10_000_000),
        lambda: SyntaxError("odd", ("file", 1, 10**9, "text\n" * 1000)),
        lambda: SyntaxError("odd", (None, None, None, None)),
    ],
)
def test_any_exception_is_described_within_bounds(make: Any) -> None:
    described = describe(make())
    assert len(described["stacktrace"]) < MAX_STACK_CHARACTERS + 100
    assert len(described["message"]) < 40_000


def test_an_exception_that_is_its_own_cause_ends() -> None:
    error = raised(ValueError("x"))
    error.__cause__ = error.__context__ = error
    assert describe(error)["stacktrace"].endswith("ValueError: x")


def test_of_a_deep_stack_the_innermost_frames_are_kept() -> None:
    with pytest.raises(ValueError, match="bottom") as caught:
        recurse(400)
    stack = describe(caught.value)["stacktrace"]
    assert "at the bottom" in stack
    assert stack.count("recurse(depth - 1)") + stack.count("[Previous line repeated") <= 60


@pytest.mark.parametrize("exc_info", [None, False, 0, (), (None, None, None), True, "text"])
def test_what_stands_for_no_exception_is_none_outside_a_handler(exc_info: Any) -> None:
    assert find(exc_info) is None


@pytest.mark.parametrize("exc_info", [True, 1, "text"])
def test_anything_true_stands_for_the_exception_being_handled(exc_info: Any) -> None:
    try:
        fail(ValueError())
    except ValueError as error:
        found = find(exc_info), find(sys.exc_info()), find(None)
        expected = error, error, None
    assert found == expected


def test_an_exception_stands_for_itself() -> None:
    error = ValueError()
    assert find(error) is error
    assert find((ValueError, error, None)) is error


def test_the_record_of_an_exception_has_it_as_an_object_and_no_exc_info() -> None:
    with capture() as captured:
        try:
            fail(ValueError("wrong"))
        except ValueError:
            log.exception("one")
            log.error("two", exc_info=True)
        log.error("three", exc_info=ValueError("later"), exception="mine")
        one, two, three = captured.records
    assert one["level"] == "error"
    assert [record["exception"]["message"] for record in (one, two, three)] == ["wrong", "wrong", "later"]
    assert three["exception_"] == "mine"
    assert not any("exc_info" in record for record in (one, two, three))


def test_a_stack_that_was_asked_for_ends_where_it_was_asked() -> None:
    with capture() as captured:
        log.info("x", stack_info=True)
        assert captured.find(event="x")["stack"].endswith('log.info("x", stack_info=True)')
