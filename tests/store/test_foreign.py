from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.errors import ConfigurationError
from fapilog.store.foreign import NotARecordError, Translator
from fapilog.types import LEVELS, RESERVED_FIELDS

WHEN = "2026-11-20T08:00:00Z"


def record(said: dict[str, Any], **options: Any) -> dict[str, Any]:
    return Translator(**options).record(said)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("2026-11-20T08:00:00.000001Z", "2026-11-20T08:00:00.000001Z"),
        ("2026-11-20T09:00:00+01:00", "2026-11-20T08:00:00.000000Z"),
        ("2026-11-20 08:00:00,123", "2026-11-20T08:00:00.123000Z"),
        ("2026-11-20T08:00:00.123456789Z", "2026-11-20T08:00:00.123456Z"),
        ("20261120T080000Z", "2026-11-20T08:00:00.000000Z"),
        (1795161600, "2026-11-20T08:00:00.000000Z"),
        (1795161600.25, "2026-11-20T08:00:00.250000Z"),
        (1795161600123, "2026-11-20T08:00:00.123000Z"),
        (1795161600123456, "2026-11-20T08:00:00.123456Z"),
        (1795161600123456789, "2026-11-20T08:00:00.123456Z"),
        ("1795161600123456789", "2026-11-20T08:00:00.123456Z"),
        ("1795161600.5", "2026-11-20T08:00:00.500000Z"),
        (-1, "1969-12-31T23:59:59.000000Z"),
    ],
)
def test_a_time_is_iso_8601_or_a_number_since_1970(said: Any, means: str) -> None:
    assert record({"time": said})["timestamp"] == means


@given(st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2200, 1, 1)))
def test_each_unit_of_a_number_gives_the_same_time(moment: datetime) -> None:
    microseconds = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    whole = moment.replace(microsecond=0).isoformat(timespec="microseconds") + "Z"
    assert record({"time": microseconds * 1000})["timestamp"] == moment.isoformat(timespec="microseconds") + "Z"
    assert record({"time": microseconds})["timestamp"] == moment.isoformat(timespec="microseconds") + "Z"
    assert record({"time": microseconds // 1_000_000})["timestamp"] == whole
    assert record({"time": microseconds // 1_000_000 * 1000})["timestamp"] == whole


def test_the_unit_of_a_number_can_be_given() -> None:
    assert record({"time": 1000}, epoch="ms")["timestamp"] == "1970-01-01T00:00:01.000000Z"


def test_a_time_without_a_zone_is_in_the_one_that_is_given() -> None:
    said = {"time": "2026-07-01T12:00:00"}
    assert record(said)["timestamp"] == "2026-07-01T12:00:00.000000Z"
    assert record(said, zone=ZoneInfo("Europe/Berlin"))["timestamp"] == "2026-07-01T10:00:00.000000Z"


@pytest.mark.parametrize("said", ["yesterday", "2026-11-20", "", True, [1], 1e300, float("nan"), "9" * 40, {}])
def test_what_is_no_time_is_refused_with_what_it_is(said: Any) -> None:
    with pytest.raises(NotARecordError, match=r"its time is .*(would do|since 1970)"):
        record({"time": said})


def test_without_a_time_it_is_said_where_one_was_looked_for() -> None:
    with pytest.raises(NotARecordError, match=r"it has no time; looked for timestamp, @timestamp, time, ts"):
        record({"event": "x", "time": None})
    with pytest.raises(NotARecordError, match=r"it has no time; looked for when"):
        record({"event": "x", "time": WHEN}, names={"timestamp": "when"})


@pytest.mark.parametrize(
    ("said", "numbers", "means"),
    [
        ("INFO", "python", "info"),
        (" Warn ", "python", "warning"),
        ("fatal", "python", "critical"),
        ("E", "python", "error"),
        (40, "python", "error"),
        ("40", "python", "error"),
        (35, "python", "warning"),
        (60, "python", "critical"),
        (3, "syslog", "error"),
        (7, "syslog", "debug"),
        (30, "pino", "info"),
        (60, "pino", "critical"),
        (9, "otel", "info"),
        (24, "otel", "critical"),
        (1, "otel", "trace"),
        (None, "python", "info"),
    ],
)
def test_a_level_is_a_name_or_a_number_of_a_known_system(said: Any, numbers: Any, means: str) -> None:
    assert record({"time": WHEN, "level": said}, level_numbers=numbers)["level"] == means


@pytest.mark.parametrize(("said", "numbers"), [("audit", "python"), (9, "syslog"), (0, "python"), (True, "python")])
def test_a_level_nobody_knows_is_info_and_kept_and_counted(said: Any, numbers: Any) -> None:
    translator = Translator(level_numbers=numbers)
    made = translator.record({"time": WHEN, "level": said})
    assert (made["level"], made["level_"]) == ("info", said)
    assert dict(translator.unknown_levels) == {repr(said): 1}


def test_the_names_of_other_libraries_are_found() -> None:
    stdlib = {"asctime": "2026-11-20 08:00:00,123", "levelname": "ERROR", "message": "no", "logger_name": "shop"}
    ecs = {"@timestamp": WHEN, "log": {"level": "error", "logger": "shop", "origin": 1}, "message": "no"}
    for said in (stdlib, ecs):
        made = record(said)
        assert (made["level"], made["event"], made["logger"]) == ("error", "no", "shop")
    assert record(ecs)["log"] == {"origin": 1}
    assert ecs["log"] == {"level": "error", "logger": "shop", "origin": 1}


def test_a_mapping_decides_and_reaches_into_objects() -> None:
    said = {
        "time": WHEN,
        "message": "theirs",
        "text": "ours",
        "http": {"route": "/a", "status": 200, "empty": {"x": 1}},
    }
    made = record(
        said, names={"event": "text", "route": "http.route", "status_code": "http.status", "x": "http.empty.x"}
    )
    assert (made["event"], made["route"], made["status_code"], made["x"]) == ("ours", "/a", 200, 1)
    assert made["message"] == "theirs"
    assert "http" not in made


def test_a_name_with_a_dot_in_it_comes_before_a_path() -> None:
    assert record({"time": WHEN, "a.b": 1, "a": {"b": 2}}, names={"c": "a.b"})["c"] == 1


def test_a_field_that_only_fapilog_gives_is_kept_under_another_name() -> None:
    made = record({"time": WHEN, "id": 7, "id_": 8, "timestamp": None, "pid": "x", "host": "h", "level": "info"})
    assert (made["id_"], made["id__"]) in {(7, 8), (8, 7)}
    assert (made["pid_"], made["host"]) == ("x", "h")


def test_an_id_is_one_of_ours_or_one_that_is_mapped() -> None:
    assert record({"time": WHEN, "id": "0123456789abcdef-12"})["id"] == "0123456789abcdef-12"
    assert record({"time": WHEN, "uid": 7}, names={"id": "uid"})["id"] == "7"
    assert "id" not in record({"time": WHEN, "id": "order-7"})


def test_a_traceback_of_one_text_becomes_an_exception() -> None:
    text = "Traceback (most recent call last):\n  File x\nshop.errors.Declined: no money\n"
    assert record({"time": WHEN, "exc_info": text})["exception"] == {
        "type": "shop.errors.Declined",
        "message": "no money",
        "stacktrace": text,
    }
    assert "exception" not in record({"time": WHEN, "exc_info": ""})
    assert record({"time": WHEN, "exception": {"type": "E"}})["exception"] == {"type": "E"}


def test_constants_fill_what_is_missing() -> None:
    made = record({"time": WHEN, "service": "theirs"}, constants={"service": "shop", "env": "prod"})
    assert (made["service"], made["env"]) == ("theirs", "prod")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": {"event": ""}}, "got the mapping 'event='; write field=name"),
        ({"level_numbers": "java"}, "got 'java'; known: python, syslog"),
        ({"epoch": "days"}, "got 'days'; known: auto, s"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Translator(**options)


@given(
    st.dictionaries(
        st.sampled_from(["level", "event", "msg", "id", "id_", "pid", "host", "a", "log", "exception", "logger"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: st.dictionaries(st.sampled_from(["level", "logger", "b"]), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_whatever_a_program_says_becomes_a_record_of_the_right_shape(said: dict[str, Any]) -> None:
    made = record({**said, "time": WHEN})
    assert made["timestamp"] == "2026-11-20T08:00:00.000000Z"
    assert made["level"] in LEVELS
    assert all(isinstance(made[name], str) for name in RESERVED_FIELDS & made.keys() - {"pid"})
    assert isinstance(made.get("pid", 1), int)
