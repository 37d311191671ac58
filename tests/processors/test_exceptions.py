import sys
import time
import types
from typing import Any, NoReturn
from unittest.mock import ANY

import orjson
import pytest

from fapilog import log
from fapilog.encoding import MAX_LINE_BYTES
from fapilog.processors.exceptions import (
    MAX_FRAMES,
    MAX_MEMBERS,
    MAX_NOTES,
    MAX_STACK_CHARACTERS,
    describe,
    find,
)
from fapilog.testing import capture
from tests.programs import parse, untraced


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


@pytest.mark.parametrize(("length", "kept"), [(8_000, 8_000), (9_000, 8_000), (50_000, 8_000)])
def test_the_stack_repeats_the_beginning_of_a_long_message_and_says_how_much_is_missing(length: int, kept: int) -> None:
    described = describe(ValueError("x" * length))
    missing = f"<+{length - kept} more>" if length > kept else ""
    assert described["stacktrace"] == "ValueError: " + "x" * kept + missing
    assert described["message"].count("x") == min(length, 32_768)


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


def deep(depth: int) -> BaseException:
    """Return an exception with a stack of so many frames, made without going so deep."""
    try:
        fail(ValueError("bottom"))
    except ValueError as caught:
        error = caught
    traceback = error.__traceback__
    assert traceback is not None
    for _ in range(depth):
        traceback = types.TracebackType(traceback, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)
    return error.with_traceback(traceback)


def within(seconds: float, work: Any) -> Any:
    """Do *work* a few times, and see that the fastest took no more of this thread; return what it returned."""
    best = float("inf")
    for _ in range(5):
        with untraced():
            started = time.thread_time()
            made = work()
            best = min(best, time.thread_time() - started)
    assert best <= seconds, f"{best * 1e3:.2f} ms"
    return made


def size(described: dict[str, Any]) -> int:
    return len(orjson.dumps(described))


def test_each_frame_is_its_file_its_line_its_function_and_its_code() -> None:
    described = describe(raised(ValueError("wrong")))
    assert described["module"] == "builtins"
    assert described["stack"] == [
        {"file": __file__, "line": ANY, "function": "raised", "code": "fail(error, cause)"},
        {"file": __file__, "line": ANY, "function": "fail", "code": "raise error from cause"},
    ]
    assert all(f'"{frame["file"]}", line {frame["line"]}' in described["stacktrace"] for frame in described["stack"])


def test_a_frame_without_source_has_no_code() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", "<typed>", "exec"))  # noqa: S102 - that is where there is none
    assert describe(caught.value)["stack"][-1] == {"file": "<typed>", "line": 1, "function": "<module>"}


def test_causes_are_listed_the_nearest_first_with_how_they_led_here() -> None:
    try:
        try:
            fail(ValueError("second"), KeyError("first"))
        except ValueError:
            raise TypeError("third")  # noqa: B904 - without a cause
    except TypeError as error:
        described = describe(error)
    causes = described["causes"]
    assert [(each["relation"], each["type"], each["message"]) for each in causes] == [
        ("context", "ValueError", "second"), ("cause", "KeyError", "'first'")
    ]  # fmt: skip
    assert [frame["function"] for frame in causes[0]["stack"]][-1] == "fail"
    assert not any("stacktrace" in each for each in causes)
    told = described["stacktrace"]
    assert told.index("KeyError") < told.index("ValueError: second") < told.index("TypeError: third")
    assert told.index("direct cause") < told.index("During handling")


def test_a_context_that_was_suppressed_is_none() -> None:
    try:
        try:
            fail(ValueError("hidden"))
        except ValueError:
            raise TypeError("seen") from None
    except TypeError as error:
        described = describe(error)
    assert "causes" not in described
    assert "hidden" not in str(described)


def test_of_a_long_chain_the_nearest_and_the_first_are_kept() -> None:
    described = within(0.01, lambda: describe(long))
    messages = [each if type(each) is str else each["message"] for each in described["causes"]]
    assert messages == ["number 298", "number 297", "number 296", "number 295", "number 294", "<+290 more>",
                        "number 3", "number 2", "number 1", "number 0", "first"]  # fmt: skip
    assert size(described) < 100_000


long = chain(300)


def test_a_group_has_its_members_and_theirs() -> None:
    inner = ExceptionGroup("inner", [raised(KeyError("deep"), ValueError("why"))])  # type: ignore[type-var]
    described = describe(ExceptionGroup("outer", [TypeError("flat"), inner]))
    flat, nested = described["exceptions"]
    assert (flat["type"], flat["stack"], nested["message"]) == ("TypeError", [], "inner (1 sub-exception)")
    (member,) = nested["exceptions"]
    assert (member["type"], member["causes"][0]["type"]) == ("KeyError", "ValueError")
    assert "  |   | KeyError: 'deep'" in described["stacktrace"]


def test_of_a_group_of_ten_thousand_twenty_are_kept() -> None:
    group = ExceptionGroup("many", [ValueError(str(number)) for number in range(10_000)])
    described = within(0.005, lambda: describe(group))
    assert len(described["exceptions"]) == MAX_MEMBERS + 1
    assert described["exceptions"][-1] == "<+9980 more>"
    assert size(described) < 20_000


def test_groups_of_groups_are_cut_in_all() -> None:
    group: BaseException = raised(ValueError("x" * 10_000))
    for _ in range(8):
        group = ExceptionGroup("many", [group] * 20)  # type: ignore[type-var]
    described = within(0.01, lambda: describe(group))
    assert size(described) < 200_000


def test_notes_are_kept_to_a_bound() -> None:
    error = ValueError("wrong")
    for number in range(30):
        error.add_note(f"note {number} " + "n" * 5_000)
    described = describe(error)
    assert len(described["notes"]) == MAX_NOTES + 1
    assert described["notes"][0].startswith("note 0 nnn")
    assert described["notes"][-1] == "<+10 more>"
    assert "note 19" in described["stacktrace"]


def test_of_a_stack_of_a_hundred_thousand_frames_both_ends_are_kept() -> None:
    error = deep(100_000)
    described = within(0.02, lambda: describe(error))
    assert len(described["stack"]) == MAX_FRAMES + 1
    assert described["stack"][MAX_FRAMES // 2] == "<+99952 more>"
    assert described["stack"][-1]["function"] == "fail"
    assert "<+99952 more frames>" in described["stacktrace"]
    assert size(described) < 50_000


SECRET = "can" + "ary"  # so that no line of source has it


def keeping(password: str, amount: int) -> NoReturn:
    large = "x" * 10_000_000
    rows = [{"api_key": password}] * 100_000
    raise ValueError(f"{len(large)} {len(rows)} {amount}")


def failed() -> BaseException:
    try:
        keeping(SECRET, 7)
    except ValueError as error:
        return error


def test_locals_are_left_out_unless_they_are_asked_for() -> None:
    error = failed()
    described = within(0.001, lambda: describe(error))
    assert not any("locals" in frame for frame in described["stack"])
    with capture() as captured:
        log.error("x", exc_info=error)
        assert "canary" not in str(captured.records)


def test_locals_that_are_asked_for_are_bounded_and_redacted() -> None:
    error = failed()
    with capture(exception_locals=True) as captured:
        log.error("x", exc_info=error)
        record = captured.find(event="x")
    found = record["exception"]["stack"][-1]["locals"]
    assert (found["password"], found["amount"]) == ("REDACTED", 7)
    assert found["rows"][0] == {"api_key": "REDACTED"}
    assert len(found["large"]) < 1_000
    assert "canary" not in str(record)
    assert size(within(0.005, lambda: describe(error, with_locals=True))) < 50_000


def test_locals_that_cannot_be_shown_cost_themselves_alone() -> None:
    def fails() -> NoReturn:
        odd = Unspeakable()
        raise ValueError(type(odd))

    try:
        fails()
    except ValueError as error:
        frame = describe(error, with_locals=True)["stack"][-1]
    assert frame["locals"]["odd"] == "Unspeakable: <unprintable Unspeakable: SystemExit>"


class ForgedError(ValueError):
    """Everything that is read of an exception raises or lies."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit

    __cause__ = __context__ = __traceback__ = __notes__ = property(lambda _self: 1 / 0)


def test_an_exception_that_forges_what_it_is_made_of_is_described() -> None:
    described = describe(raised(ForgedError("wrong"), KeyError("cause")))
    assert described["type"] == f"{__name__}.ForgedError"
    assert [cause["type"] for cause in described["causes"]] == ["KeyError"]
    assert described["stack"][-1]["function"] == "fail"


def test_an_interrupt_by_the_user_in_the_middle_of_a_message_goes_through() -> None:
    class Interrupting(Exception):  # noqa: N818 - it is what it is
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe(Interrupting())


def test_where_a_text_could_not_be_parsed_is_in_the_stack() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("a b c", "typed.py", "exec")
    assert '  File "typed.py", line 1\n    a b c\nSyntaxError' in describe(caught.value)["stacktrace"]


@pytest.mark.parametrize("make", [lambda: deep(1_000), lambda: chain(50), lambda: ValueError("x" * 10_000_000)])
def test_a_record_with_any_exception_is_never_longer_than_it_may_be(make: Any) -> None:
    with capture() as captured:
        log.error("x", exc_info=make(), **{f"k{number}": "y" * 20_000 for number in range(20)})
        captured.handle.flush()
        (line,) = [line for batch in captured._sink.batches for line in batch.lines]
    assert len(line) <= MAX_LINE_BYTES
    assert parse(line)["exception"]["type"] == "ValueError"
