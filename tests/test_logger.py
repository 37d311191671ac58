import asyncio
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fapilog import get_logger, log
from fapilog.context import NOTHING, RequestContext, current_request
from fapilog.encoding import MAX_LINE_BYTES
from fapilog.pipeline.queue import Queue
from fapilog.pipeline.queue import Sequence as Numbers
from fapilog.recorder import MAX_SAFE_NAMES, LoggerName, Recorder
from fapilog.testing import Captured, capture
from fapilog.types import INFO, LEVELS, RESERVED_FIELDS, WARNING, Event
from tests.programs import parse
from tests.test_encoding import ANYTHING


def lines(captured: Captured) -> list[bytes]:
    """Return every line as it was delivered."""
    captured.handle.flush()
    return [line for batch in captured._sink.batches for line in batch.lines]


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


def ours(record: dict[str, Any]) -> dict[str, Any]:
    """Return what is left of a record without the fields that every line has."""
    static = {"timestamp", "level", "event", "logger", "id", "host", "pid"}
    return {name: value for name, value in record.items() if name not in static}


@pytest.mark.parametrize("name", list(LEVELS))
def test_every_level_is_a_method(name: str) -> None:
    with capture() as captured:
        getattr(log, name)("x")
        assert captured.find(event="x")["level"] == name


@pytest.mark.parametrize(
    ("method", "level"),
    [("warn", "warning"), ("fatal", "critical"), ("msg", "info"), ("exception", "error")],
)
def test_structlog_s_other_names_for_levels_are_there(method: str, level: str) -> None:
    with capture() as captured:
        getattr(log, method)("x")
        assert captured.find(event="x")["level"] == level


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_the_asynchronous_methods_log_at_once(level: str) -> None:
    with capture() as captured:
        asyncio.run(getattr(log, f"a{level}")("x", n=1))
        assert captured.find(event="x", n=1)["level"] == level


def test_the_asynchronous_exception_has_the_exception() -> None:
    async def handle() -> None:
        try:
            raise ValueError("wrong")  # noqa: TRY301 - here
        except ValueError:
            await log.aexception("x")

    with capture() as captured:
        asyncio.run(handle())
        assert captured.find(event="x")["exception"]["message"] == "wrong"


@pytest.mark.parametrize(
    ("level", "expected"),
    [(20, "info"), (35, "warning"), ("WARN", "warning"), ("Success", "success"), (True, "trace"), (10**40, "critical")],
)
def test_a_level_may_be_a_number_or_a_name(level: Any, expected: str) -> None:
    with capture() as captured:
        log.log(level, "x")
        assert captured.find(event="x")["level"] == expected


@pytest.mark.parametrize("level", ["loud", None, 1.5, []])
def test_a_level_that_is_none_counts_as_info_and_is_kept(level: Any) -> None:
    with capture() as captured:
        log.log(level, "x")
        assert captured.find(event="x", level="info")["_level_error"] == str(level)


def test_what_is_below_the_level_is_not_even_looked_at() -> None:
    with capture(level="warning") as captured:
        log.info("%s", Hostile(KeyboardInterrupt()))
        log.trace("x")
        log.log("debug", "x")
        assert captured.records == []
        assert (log.is_enabled_for(INFO), log.is_enabled_for(WARNING)) == (False, True)
        assert log.get_effective_level() == WARNING


def test_the_names_of_parameters_are_ordinary_fields() -> None:
    with capture() as captured:
        log.info("x", level=1, event="y", self=2, message="z", args=(1,), logger="l", method_name="m", fields={})
        record = captured.find(event="x", level="info")
        assert ours(record) == {
            "level_": 1, "event_": "y", "self": 2, "message": "z", "args": [1], "logger_": "l", "method_name": "m",
            "fields": {},
        }  # fmt: skip


@pytest.mark.parametrize("name", sorted(RESERVED_FIELDS))
def test_a_reserved_name_is_kept_with_an_underscore(name: str) -> None:
    with capture(service="s", env="e", version="v") as captured:
        log.info("x", **{name: "mine"})
        log.info("x", **{name: ["mine"]})
        first, second = captured.records
        assert (first[f"{name}_"], second[f"{name}_"]) == ("mine", ["mine"])
        assert first[name] != "mine"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("trace_id", "a" * 32, "0" * 32),
        ("span_id", "b" * 16, "B" * 16),
        ("request_id", "Job.7", "with space"),
    ],
)
def test_an_id_of_the_user_s_replaces_ours_only_if_it_is_well_formed(name: str, good: str, bad: str) -> None:
    ids = {"trace_id": "1" * 32, "span_id": "2" * 16, "request_id": "r"}
    current_request.set(RequestContext(ids))
    with capture() as captured:
        log.info("good", **{name: good})
        log.info("bad", **{name: bad})
        assert ours(captured.find(event="good")) == {**ids, name: good}
        assert ours(captured.find(event="bad")) == {**ids, f"{name}_": bad}


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        (("%s is %d", "a", 1), "a is 1"),
        (("%(name)s", {"name": "ann"}), "ann"),
        (("100%",), "100%"),
        (("%s", {}), "{}"),
        (("%s", ()), "()"),
    ],
)
def test_arguments_are_formatted_as_structlog_does(arguments: tuple[Any, ...], event: str) -> None:
    with capture() as captured:
        log.info(*arguments)
        assert captured.events == [event]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("%d", "a"), "TypeError"),
        (("%s %s", "a"), "TypeError"),
        (("none", "a"), "TypeError"),
        (("%(a)s", {"b": 1}), "KeyError"),
        (("%", 1), "ValueError"),
        (("%999999999999999999999d", 1), "ValueError"),
    ],
)
def test_arguments_that_do_not_fit_leave_the_text_and_say_so(arguments: tuple[Any, ...], error: str) -> None:
    with capture() as captured:
        log.info(*arguments)
        record = captured.find(event=arguments[0])
        assert record["_format_error"].startswith(error)
        assert record["_args"] == list(arguments[1:])


@pytest.mark.parametrize(
    "event", [None, 5, 1.5, True, b"bytes", ["list"], "", "\ud800", "x" * 100_000, ValueError("e")]
)
def test_the_event_is_text_whatever_it_was(event: Any) -> None:
    with capture() as captured:
        log.info(event)
        assert type(captured.records[0]["event"]) is str


def test_no_event_at_all_is_an_event() -> None:
    with capture() as captured:
        log.info()
        assert captured.events == ["None"]


def test_loggers_are_bound_and_unbound_as_structlog_s() -> None:
    with capture() as captured:
        bound = get_logger("shop", a=1).bind(b=2)
        bound.info("bound")
        bound.unbind("a").info("unbound")
        bound.try_unbind("a", "never").info("tried")
        bound.new(c=3).info("new")
        with pytest.raises(KeyError):
            bound.unbind("never")
        assert [ours(record) for record in captured.records] == [{"a": 1, "b": 2}, {"b": 2}, {"b": 2}, {"c": 3}]
        assert {record["logger"] for record in captured.records} == {"shop"}


def test_a_logger_without_a_name_is_called_after_its_module() -> None:
    with capture() as captured:
        get_logger().info("x")
        log.info("y")
        assert [record["logger"] for record in captured.records] == [__name__, "root"]


@pytest.mark.parametrize("name", ["a.b", "", "\ud800", 'quo"te\n', "x" * 50_000])
def test_any_name_of_a_logger_gives_a_valid_line(name: str) -> None:
    with capture() as captured:
        get_logger(name).info("x")
        get_logger(name).info("x", value=object())
        for line in lines(captured):
            parse(line)


def test_structlog_s_context_variables_are_honoured() -> None:
    with capture() as captured:
        structlog.contextvars.bind_contextvars(user="ann", tenant=1)
        try:
            log.info("x", tenant=2)
        finally:
            structlog.contextvars.clear_contextvars()
        log.info("y")
        assert [ours(record) for record in captured.records] == [{"user": "ann", "tenant": 2}, {}]


def test_a_value_changed_after_the_call_is_delivered_as_it_was() -> None:
    order = {"amount": 1, "items": [1]}
    with capture() as captured:
        log.info("x", order=order)
        order["amount"] = 999
        order["items"].append(2)  # type: ignore[attr-defined]
        assert captured.find(event="x")["order"] == {"amount": 1, "items": [1]}


def test_a_generator_is_not_consumed() -> None:
    numbers = (number for number in range(3))
    with capture() as captured:
        log.info("x", numbers=numbers)
        assert captured.events == ["x"]
    assert list(numbers) == [0, 1, 2]


def test_a_record_in_a_flood_of_fifty_megabytes_is_short_and_quick() -> None:
    with capture() as captured:
        log.info("x" * 50_000_000, text="y" * 50_000_000, data=b"z" * 50_000_000)
        line = lines(captured)[0]
        assert len(line) < MAX_LINE_BYTES + 1_000
        assert parse(line)["text"].endswith("more>")


def test_ten_thousand_fields_are_cut_and_counted() -> None:
    with capture() as captured:
        log.info("x", data={f"k{number}": number for number in range(10_000)})
        assert captured.find(event="x")["data"]["_more_keys"] == 10_000 - 256


def test_a_line_has_what_every_line_has_and_in_this_order() -> None:
    with capture(service="shop", env="test", version="1") as captured:
        log.info("x", user="ann")
        names = list(parse(lines(captured)[0]))
    assert names == [
        "timestamp", "level", "event", "logger", "user", "service", "env", "version", "host", "pid", "id"
    ]  # fmt: skip


def test_a_timestamp_is_utc_with_microseconds() -> None:
    before = datetime.now(UTC)
    with capture() as captured:
        log.info("x")
        log.info("x", slow=object())
        for record in captured.records:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["timestamp"])
            assert before - timedelta(seconds=1) <= datetime.fromisoformat(record["timestamp"]) <= datetime.now(UTC)


def test_ids_are_the_instance_and_a_count_without_gaps() -> None:
    with capture() as captured:
        for _ in range(100):
            log.info("x")
        ids = [record["id"] for record in captured.records]
        instance = captured.handle.stats().instance
    assert re.fullmatch("[0-9a-f]{16}", instance)
    assert ids == [f"{instance}-{number}" for number in range(1, 101)]


def test_processors_run_in_order_and_see_the_whole_event() -> None:
    seen: list[Event] = []

    def first(logger: object, method_name: str, event: Event) -> Event:
        seen.append(dict(event))
        return {**event, "steps": ["first"]}

    def second(logger: object, method_name: str, event: Event) -> Event:
        event["steps"].append(f"second {method_name} {logger}")
        return event

    with capture(processors=[first, second]) as captured:
        get_logger("shop").warning("x", user="ann")
        assert captured.find(event="x")["steps"] == ["first", "second warning shop"]
    assert {name: seen[0][name] for name in ("event", "level", "logger", "user")} == {
        "event": "x", "level": "warning", "logger": "shop", "user": "ann"
    }  # fmt: skip


def test_a_processor_may_drop_an_event_which_is_counted_as_filtered_and_not_numbered() -> None:
    def drop_odd(logger: object, method_name: str, event: Event) -> Event:
        if event["number"] % 2:
            raise structlog.DropEvent
        return event

    with capture(processors=[drop_odd]) as captured:
        for number in range(4):
            log.info("x", number=number)
        assert [record["number"] for record in captured.records] == [0, 2]
        assert [record["id"].partition("-")[2] for record in captured.records] == ["1", "2"]
        assert captured.handle.stats().filtered == {"processor": 2}
        assert captured.handle.stats().dropped == {}


@pytest.mark.parametrize("nonsense", [None, 5, "text", ["list"], b"{}"])
def test_a_processor_that_returns_nonsense_is_left_out_and_said(
    nonsense: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture(processors=[lambda *_: nonsense]) as captured:
        log.info("x", kept=1)
        record = captured.find(event="x", kept=1)
    assert f"returned {type(nonsense).__name__}, not a dict" in record["_processor_error"]
    assert "the record goes on without it" in capfd.readouterr().err


def test_a_processor_that_takes_everything_out_leaves_a_valid_line() -> None:
    with capture(processors=[lambda *_: {}]) as captured:
        log.error("x")
        record = captured.records[0]
    assert (record["event"], record["logger"], record["level"]) == ("", "", "info")


def test_a_processor_may_not_forge_what_is_ours() -> None:
    with capture(processors=[lambda _logger, _name, event: {**event, "id": "forged", "pid": -1}]) as captured:
        log.info("x")
        record = captured.find(event="x")
    assert (record["id_"], record["pid_"]) == ("forged", -1)
    assert record["pid"] == os.getpid()


def test_a_structlog_processor_works_as_it_is() -> None:
    with capture(processors=[structlog.processors.CallsiteParameterAdder(), structlog.processors.EventRenamer("msg")]):
        log.info("x")


def test_names_that_need_no_second_look_are_remembered_to_a_bound() -> None:
    recorder = Recorder(Queue(Numbers()))
    for number in range(MAX_SAFE_NAMES + 50):
        recorder.emit(LoggerName("x"), INFO, "x", (), NOTHING, {f"name{number}": 1})
        recorder.queue.take()
    assert len(recorder._safe) <= MAX_SAFE_NAMES + 20


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=())), ANYTHING, max_size=5),
    st.one_of(st.text(st.characters(exclude_categories=())), ANYTHING),
    st.lists(ANYTHING, max_size=2),
)
def test_any_call_whatever_gives_one_strict_line(fields: dict[str, Any], event: Any, arguments: list[Any]) -> None:
    recorder = Recorder(Queue(Numbers()), level=INFO, static={"service": "shop"})
    for _ in range(2):  # the second time the names are known
        recorder.emit(LoggerName("x"), INFO, event, tuple(arguments), {"bound": 1}, dict(fields))
        ((level, _, line),), _ = recorder.queue.take()
        assert level == INFO
        assert parse(line)["service"] == "shop"
        assert recorder.queue.dropped == {}


def test_an_argument_that_has_very_much_to_say_leaves_room_for_what_follows() -> None:
    with capture() as captured:
        log.info("%s and %d", "x" * 100_000, 7)
        log.info("%(name)s and %(number)d", {"name": "y" * 100_000, "number": 7})
        log.info("%s", [list(range(2_000))])
        log.info("%s", [1, "two"])
        texts, mapped, items, short = captured.events
    assert texts == "x" * 16_384 + "<+83616 more> and 7"
    assert mapped == "y" * 16_384 + "<+83616 more> and 7"
    assert items.endswith("998, 999, '<+1000 more>']]")
    assert short == "[1, 'two']"


def test_arguments_for_an_event_that_is_no_text_are_kept_beside_it() -> None:
    with capture() as captured:
        log.info(7, 3)
        record = captured.records[0]
    assert (record["event"], record["_args"]) == ("7", [3])
    assert record["_format_error"] == "TypeError: arguments are for an event that is text"


def test_a_flat_record_is_kept_whole_up_to_its_limit_also_where_texts_have_to_be_short() -> None:
    fields = {f"k{number}": "x" * 100 for number in range(100)}
    with capture(max_string_characters=100) as captured:
        for _ in range(2):  # the second time the names are known
            log.info("x", **fields)
        log.info("x", **{**fields, "k0": "x" * 101})
        first, second, third = map(ours, captured.records)
    assert first == second == fields
    assert (third["k0"], third["_truncated"]) == ("x" * 100 + "<+1 more>", {"k0": 101})


def test_static_fields_that_are_cut_leave_the_notes_to_the_record() -> None:
    with capture(service="s" * 40_000, version="v") as captured:
        log.info("x", text="t" * 50_000)
        (line,) = lines(captured)
    record = parse(line)  # which refuses a name that comes twice
    assert record["_truncated"] == {"text": 50_000}
    assert record["service"].endswith("<+7232 more>")


def test_an_action_is_logged_with_its_name_and_whether_it_succeeded() -> None:
    with capture() as captured:
        log.action("signup", message="Ann signed up", user_id=7)
        log.action("login", success=False)
        log.action("cleanup", success=0, level="warning")
        log.action("rerun", action="given", success=True)
        log.action("odd", level="loud")
    assert [(record["level"], record["event"], record["action"], record["success"]) for record in captured.records] == [
        ("info", "Ann signed up", "signup", True),
        ("error", "login", "login", False),
        ("warning", "cleanup", "cleanup", False),
        ("info", "rerun", "given", True),
        ("info", "odd", "odd", True),
    ]
    assert captured.records[0]["user_id"] == 7
    assert captured.records[4]["_level_error"] == "loud"


@hostile
def test_an_action_with_a_value_that_raises_is_logged_all_the_same(error: BaseException) -> None:
    with capture() as captured:
        log.action("signup", success=Hostile(error), message=Hostile(error))
    assert captured.records[0]["success"] is True
