from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog import configure_logging, log
from fapilog.errors import ConfigurationError
from fapilog.formats import Formatter, format_name
from fapilog.sinks.stdout import StdoutSink
from fapilog.types import Batch, Record
from tests.formats.records import ACCESS, BASE, NAMED, ORDER, RECORDS, line_of
from tests.formats.test_logfmt import FORGING


def said(template: str, record: dict[str, Any]) -> str:
    """Return a record as a template has it, and see that it could."""
    formatter = Formatter(template)
    made = formatter.payload(Batch([Record(20, 0, line_of(record))]))
    assert formatter.failed == 0
    text = made.decode()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert not set(text[:-1]) & FORGING - {"\t"}
    return text[:-1]


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{timestamp} | {level:8} | {event}", "2026-11-20T08:00:00.123456Z | info     | order placed"),
        ("{level:>8}|{level:^8}|{level:.2}|{level:*<6}", "    info|  info  |in|info**"),
        ("{order_id:04d} {price:8.2f} {price:e}", "0007    12.50 1.250000e+01"),
        ("{express} {note} {sku!r} {order_id!s:>3}", "true null 'tea'   7"),
        ("{nothing}|{nothing:5}|{nothing:>5.2f}|", "|     |     |"),
        ("{{literal}} {event}", "{literal} order placed"),
        ("{level}\t{event}", "info\torder placed"),
        ("{message} {logger_name} {time}", "order placed shop.orders 2026-11-20T08:00:00.123456Z"),
    ],
)
def test_a_template_is_filled_as_python_would(template: str, line: str) -> None:
    assert said(template, ORDER) == line


def test_a_field_of_the_user_s_is_what_it_is_called() -> None:
    assert said("{message} {time}", {**BASE, "message": "mine", "time": 5}) == "mine 5"


def test_a_path_leads_into_objects_and_lists() -> None:
    record = {**BASE, "request": {"id": "r-1", "tags": ["a", {"b": 2}]}, "exact.name": 3}
    assert said("{request.id} {request.tags.1.b} {request.tags}", record) == 'r-1 2 ["a",{"b":2}]'
    assert said("{exact.name}", record) == "3"
    assert said("[{request.no}{request.id.x}{request.tags.7}{request.tags.-1}{event.x}]", record) == "[]"
    assert said("{exception.type}: {exception.message}", ACCESS) == "shop.errors.OutOfStock: no tea"


def test_fields_are_what_else_the_record_has() -> None:
    record = {**BASE, "user": "ann", "n": 7, "note": "two words", "pid": 1, "host": "h", "id": "i-1"}
    assert said("{event} {fields}", record) == 'order placed user=ann n=7 note="two words"'
    assert said("{user} {fields}", record) == 'ann n=7 note="two words"'
    assert said("{event} [{fields}]", BASE) == "order placed []"
    assert said("{fields:>10}|", {**BASE, "a": 1}) == "       a=1|"


def test_what_is_named_in_part_stays_whole_among_the_rest() -> None:
    record = {**BASE, "request": {"id": 1, "size": 2}}
    assert said("{request.id} {fields}", record) == '1 request="{\\"id\\":1,\\"size\\":2}"'


def test_the_time_can_be_shown_in_the_local_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    try:
        monkeypatch.setenv("TZ", "CET-1")
        time.tzset()
        assert said("{timestamp:%d.%m. %H:%M:%S} {time:%H}", ORDER) == "20.11. 09:00:00 09"
        assert said("{timestamp:%H}", {**BASE, "timestamp": "yesterday"}) == "yesterday"
        assert said("{timestamp:%H}", {**BASE, "timestamp": 7}) == "7"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_value_that_a_specification_does_not_fit_is_shown_as_text() -> None:
    record = {**BASE, "number": "many", "text": 7, "big": 2**60, "truth": True}
    assert said("{number:8.1f}|{number:=+8.1f}|{text:.2}|{truth:d}", record) == "many    |    many|7|true"
    assert said("{big:c}", record) == "1152921504606846976"


def test_text_from_a_record_is_never_a_template() -> None:
    assert said("{event}", {**BASE, "event": "{level} {0.__class__}"}) == "{level} {0.__class__}"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{level", "expected '}' before end of string"),
        ("{level}}", "single '}' encountered"),
        ("{}", "{} names no field"),
        ("{0} {1}", "{0} names no field"),
        ("{a[0]}", "{a[0]} is no field's name"),
        ('{"a": 1}', "is no field's name"),
        ("{a..b}", "a dot with nothing before or behind it"),
        ("{.a}", "a dot with nothing before or behind it"),
        ("{level!x}", "{level!x} has no conversion of Python"),
        ("{level:{width}}", "has no format specification of Python"),
        ("{level:8q}", "{level:8q} has no format specification of Python"),
        ("{level:99999}", "asks for more than 1,000 columns"),
        ("{price:.99999999999999999999f}", "asks for more than 1,000 columns"),
        ("{level:\x1b<8}", "has no format specification of Python"),
        ("{level}\n{event}", "is not seen, or ends a line"),
        ("\x1b[31m{event}", "is not seen, or ends a line"),
        ("{timestamp:%H\n}", "is not seen, or ends a line"),
    ],
)
def test_a_template_that_is_none_is_refused_when_logging_is_configured(template: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        configure_logging(sinks=["stdout"], stdout={"format": template})
    assert why in str(error.value)
    assert "sink 'stdout': option 'format':" in str(error.value)
    with pytest.raises(ConfigurationError, match="option 'format'"):
        configure_logging(sinks=[{"type": "file", "path": "a.log", "format": template}])


def test_a_template_is_an_option_like_any_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("FAPILOG_FILE__FORMAT", "{level:8} | {event} | {fields}")
    with configure_logging(sinks=[f"file://{tmp_path}/app.log"]):
        log.warning("stock low", sku="green tea")
    assert (tmp_path / "app.log").read_text() == 'warning  | stock low | sku="green tea"\n'
    assert StdoutSink(format="{event}").format == "{event}"
    assert format_name(" {event} ") == " {event} "


@pytest.mark.parametrize("record", NAMED)
def test_every_known_record_fits(record: dict[str, Any]) -> None:
    said("{timestamp} {level:8} {event} {path:.20} {duration_ms:>8.1f} {exception.type} {fields}", record)


@given(RECORDS, st.text(), st.text())
def test_no_record_whatever_forges_a_line(record: dict[str, Any], event: str, path: str) -> None:
    said(
        "{timestamp} {level:8} {event} {path!r} {path:.20} {duration_ms:>8.1f} {status_code:c} {a.b} {fields}",
        {**record, "event": event, "path": path},
    )
