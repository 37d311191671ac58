import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog import bind_context, bind_request, configure_logging, event_schema, log
from fapilog.context import RequestContext, current_request
from fapilog.errors import ConfigurationError, EventSchemaError
from fapilog.processors import validate
from fapilog.processors.validate import MAX_ERRORS, MAX_TEXT, SCHEMAS, Validate
from fapilog.recorder import slot
from fapilog.testing import capture
from fapilog.types import Event

CANARY = "canary-9b1e"


class OrderPlaced(pydantic.BaseModel):
    order_id: int
    sku: str = "tea"
    quantity: int = pydantic.Field(default=1, ge=1)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    order_id: int


JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "order_id": {"type": "integer"},
        "state": {"enum": ["new", "paid"]},
        "card": {"type": "string", "pattern": "^[0-9]{4}$"},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
    },
    "required": ["order_id"],
}


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the package believe that no test runs."""
    monkeypatch.setattr(validate, "surface_bugs", lambda: False)


def errors_of(**fields: Any) -> Any:
    with capture() as logged:
        log.info("order placed", **fields)
        return logged.records[0].get("_schema_errors")


def test_a_record_that_fits_is_as_it_was_and_stays_on_the_short_way() -> None:
    event_schema("order placed", OrderPlaced)
    assert errors_of(order_id=7, sku="tea", more="is fine", when=object()) is None
    with capture() as logged:
        log.info("order placed", order_id="7")  # pydantic takes it, and so it is left alone
        assert logged.records[0]["order_id"] == "7"


def test_one_that_does_not_is_kept_whole_and_marked_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    event_schema("order placed", OrderPlaced)
    with capture() as logged:
        log.info("order placed", sku=None, quantity=0, note="kept")
        log.info("other", sku=None)
        record, other = logged.records
        assert logged.handle.stats().schema_mismatches == 1
    assert record["_schema_errors"] == [
        {"path": "order_id", "error": "Field required"},
        {"path": "sku", "error": "Input should be a valid string"},
        {"path": "quantity", "error": "Input should be greater than or equal to 1"},
    ]
    assert (record["level"], record["note"]) == ("info", "kept")
    assert "_schema_errors" not in other
    assert "a record of 'order placed' does not fit its schema: order_id: Field required, and 2 more" in (
        capfd.readouterr().err
    )


def test_a_model_is_declared_by_a_decorator_too_and_stays_what_it_is() -> None:
    @event_schema("order placed")
    class Declared(pydantic.BaseModel):
        order_id: int

    assert Declared(order_id=1).order_id == 1
    assert errors_of() == [{"path": "order_id", "error": "Field required"}]


def test_declared_before_or_after_configuring_it_counts() -> None:
    with capture() as logged:
        log.info("order placed")
        assert not slot.recorder._sifts
        event_schema("order placed", OrderPlaced)
        log.info("order placed")
        assert [("_schema_errors" in record) for record in logged.records] == [False, True]


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    order_id: int = pydantic.Field(validation_alias=pydantic.AliasChoices("orderId", pydantic.AliasPath("ids", 0)))
    sku: str = pydantic.Field(alias="SKU")


@pytest.mark.parametrize("bound", [{"orderId": 1}, {"ids": [1]}])
def test_what_is_bound_under_another_name_counts_too(bound: dict[str, Any]) -> None:
    event_schema("order placed", Aliased)
    bind_context(SKU="tea", **bound)
    assert errors_of() is None


def test_what_is_bound_counts_where_it_is_declared_and_is_not_in_the_way_where_not() -> None:
    event_schema("order placed", Strict)
    current_request.set(RequestContext({"trace_id": "1" * 32, "request_id": "x"}))
    bind_context(tenant="a")
    bind_request(user_id=3)
    with capture() as logged:
        log.info("order placed", order_id=1, exc_info=None, stack_info=False)
        log.bind(order_id=2).info("order placed")
        log.info("order placed", order_id=3, extra=CANARY)
        errors = [record.get("_schema_errors") for record in logged.records]
    assert errors == [None, None, [{"path": "extra", "error": "Extra inputs are not permitted"}]]
    bind_request(order_id=4)
    assert errors_of() is None


def test_a_json_schema_says_what_was_expected_and_never_what_was_there() -> None:
    event_schema("order placed", JSON_SCHEMA)
    assert errors_of(order_id=1, state="new", card="1234", items=[{"sku": "tea"}], more=1) is None
    errors = errors_of(order_id=CANARY, state=CANARY, card=CANARY, items=[{"sku": 1}, {CANARY: 1}])
    assert errors == [
        {"path": "order_id", "error": "does not fit type: integer"},
        {"path": "state", "error": "does not fit enum: ['new', 'paid']"},
        {"path": "card", "error": "does not fit pattern: ^[0-9]{4}$"},
        {"path": "items.1.sku", "error": "is missing"},
    ]
    assert errors_of() == [{"path": "order_id", "error": "is missing"}]


def test_a_json_schema_sees_values_as_the_record_has_them() -> None:
    import uuid

    event_schema("order placed", {"properties": {"order_id": {"type": "string"}, "tags": {"type": "array"}}})
    assert errors_of(order_id=uuid.uuid4(), tags={"a"}) is None


@pytest.mark.parametrize("patterns", [{}, {"patternProperties": {"^x": {}}}])
def test_a_json_schema_may_forbid_other_fields(patterns: dict[str, Any]) -> None:
    event_schema("order placed", {"properties": {"order_id": {}}, "additionalProperties": False, **patterns})
    bind_context(tenant="a")
    assert errors_of(order_id=1) is None
    (error,) = errors_of(order_id=1, other=2)
    assert "not declared" in error["error"]


class Secretive(pydantic.BaseModel):
    card: str = ""
    age: int = 0
    when: pydantic.AwareDatetime | None = None
    ident: pydantic.UUID4 | None = None
    url: pydantic.HttpUrl | None = None
    ratio: pydantic.Json[Any] | None = None

    @pydantic.field_validator("card")
    @classmethod
    def _check(cls, card: str) -> str:
        if CANARY in card:
            raise ValueError(f"{card} is no card")
        assert "bad" not in card, f"{card} is bad"
        return card


@pytest.mark.parametrize("name", sorted(Secretive.model_fields))
@pytest.mark.parametrize("value", [CANARY, f"bad {CANARY[:5]}", {"x": CANARY}, [CANARY], CANARY.encode()])
def test_what_pydantic_says_never_has_the_value_in_it(name: str, value: Any) -> None:
    event_schema("order placed", Secretive)
    with capture() as logged:
        log.info("order placed", **{name: value})
        record = logged.records[0]
    assert record["_schema_errors"]
    assert CANARY[:5] not in repr(record["_schema_errors"])


def test_no_more_errors_are_listed_than_there_is_room_for() -> None:
    event_schema("order placed", {"required": [f"field_{number}" * 50 for number in range(30)]})
    errors = errors_of()
    assert len(errors) == MAX_ERRORS + 1
    assert errors[-1] == {"path": "", "error": "<+20 more>"}
    assert all(len(error["path"]) <= MAX_TEXT + 20 for error in errors)


@pytest.mark.usefixtures("in_production")
def test_in_strict_mode_a_mismatch_is_an_error_which_nothing_raises() -> None:
    event_schema("order placed", OrderPlaced)
    with capture(validation_mode="strict", level="info") as logged:
        log.info("order placed")
        log.critical("order placed")
        log.info("order placed", order_id=1)
        assert [record["level"] for record in logged.records] == ["error", "critical", "info"]
        assert [("_schema_errors" in record) for record in logged.records] == [True, True, False]


def test_in_strict_mode_a_test_sees_it_raised() -> None:
    event_schema("order placed", OrderPlaced)
    with capture(validation_mode="strict") as logged:
        with pytest.raises(EventSchemaError, match="'order placed' does not fit its schema: order_id: Field required"):
            log.info("order placed", sku=CANARY)
        log.info("order placed", order_id=1)
        assert logged.events == ["order placed"]
        assert logged.handle.stats().dropped == {}


def test_off_nothing_is_compared_unless_an_event_has_a_mode_of_its_own() -> None:
    event_schema("order placed", OrderPlaced)
    event_schema("order paid", OrderPlaced, mode="warn")
    with capture(validation_mode="off") as logged:
        log.info("order placed")
        log.info("order paid")
        assert [("_schema_errors" in record) for record in logged.records] == [False, True]
    event_schema("order paid", OrderPlaced, mode="off")
    with capture() as logged:
        log.info("order paid")
        assert "_schema_errors" not in logged.records[0]


class Raises(pydantic.BaseModel):
    order_id: Any

    @pydantic.field_validator("order_id")
    @classmethod
    def _check(cls, value: Any) -> Any:
        raise value


@pytest.mark.parametrize("error", [RuntimeError(CANARY), SystemExit(1), RecursionError()])
def test_a_schema_that_raises_costs_only_its_own_effect(error: BaseException) -> None:
    event_schema("order placed", Raises)
    with capture(validation_mode="strict") as logged:
        log.info("order placed", order_id=error, kept=1)
        record = logged.records[0]
        assert logged.handle.stats().failures == {"schema": 1}
    assert record["_schema_error"] == f"the schema raised {type(error).__name__}"
    assert (record["kept"], record["level"]) == (1, "info")


@pytest.mark.parametrize(
    ("schema", "mode", "said"),
    [
        (int, None, "the schema of 'x' must be a pydantic model or a JSON Schema as a dict, not type"),
        ("model", None, "must be a pydantic model or a JSON Schema as a dict, not str"),
        ({"type": "nosuch"}, None, "the schema of 'x' is no JSON Schema: type: "),
        (OrderPlaced, "loud", "got the mode 'loud'; known: strict, warn, off"),
        ({"patternProperties": {"^(a+)+$": {}}}, None, "of names may take exponential time: a repetition inside"),
    ],
)
def test_what_is_no_schema_is_refused(schema: Any, mode: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        event_schema("x", schema, mode=mode)
    assert said in str(caught.value)
    assert SCHEMAS == {}


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="validation_mode: Input should be 'strict', 'warn' or 'off'"):
        configure_logging(validation_mode="loud")
    with pytest.raises(ConfigurationError, match="got the mode 'loud'; known: strict, warn, off"):
        Validate("loud")  # type: ignore[arg-type]


def test_a_schema_elsewhere_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("a log call opened a connection")

    monkeypatch.setattr(urllib.request, "urlopen", fetch)
    event_schema("order placed", {"$ref": "https://schemas.example/order.json"})
    with capture() as logged:
        log.info("order placed")
        assert logged.records[0]["_schema_error"] == "the schema raised _WrappedReferencingError"


def test_by_hand_it_sees_what_processors_before_it_made() -> None:
    def add(_logger: Any, _name: str, event: Event) -> Event:
        return {**event, "order_id": 7}

    event_schema("order placed", OrderPlaced)
    with capture(processors=[add, "validate"]) as logged:
        log.info("order placed")
        log.info("order placed", quantity=0)
        assert [("_schema_errors" in record) for record in logged.records] == [False, True]
        assert logged.handle.stats().schema_mismatches == 1


@pytest.mark.usefixtures("in_production")
def test_by_hand_in_strict_mode_the_record_goes_where_errors_go() -> None:
    from fapilog.testing import CollectingSink

    event_schema("order placed", OrderPlaced)
    sink = CollectingSink()
    with configure_logging(sinks=[sink], processors=[Validate("strict")]) as handle:
        handle._runtime.deliveries[0].level = 40
        log.info("order placed")
        log.info("other")
    assert [(record["event"], record["level"]) for record in sink.records] == [("order placed", "error")]


def test_by_hand_in_strict_mode_a_test_sees_it_raised() -> None:
    event_schema("order placed", OrderPlaced)
    with capture(processors=[Validate("strict")]), pytest.raises(EventSchemaError):
        log.info("order placed")


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.integers() | st.text() | st.floats() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_no_value_whatever_makes_it_raise(fields: dict[str, Any]) -> None:
    for schema in (OrderPlaced, Strict, JSON_SCHEMA):
        event_schema("x", schema)
        checked = dict(fields)
        assert Validate().check("x", 20, checked) == 20
        assert {name: value for name, value in checked.items() if name not in ("_schema_errors", "_schema_error")} == {
            name: value for name, value in fields.items() if name not in ("_schema_errors", "_schema_error")
        }


@pytest.mark.parametrize("event", [None, 7, b"x", ["x"], {"a": 1}, object()])
def test_an_event_that_is_no_text_has_no_schema(event: Any) -> None:
    event_schema("x", OrderPlaced)
    with capture() as logged:
        log.info(event)
        assert "_schema_errors" not in logged.records[0]


def test_in_a_process_without_pytest_strict_marks_and_goes_on(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        from pydantic import BaseModel
        from fapilog import configure_logging, event_schema, log

        @event_schema("order placed")
        class OrderPlaced(BaseModel):
            order_id: int

        configure_logging(sinks=["stdout"], json_console="json", validation_mode="strict")
        log.info("order placed", order_id="x")
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, cwd=tmp_path, check=True
    )
    assert '"level":"error","event":"order placed"' in done.stdout
    assert '"_schema_errors":[{"path":"order_id"' in done.stdout


def test_without_the_extra_a_json_schema_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ConfigurationError, match=r"JSON Schema needs an extra: pip install 'fapilog\[validation\]'"):
        event_schema("x", {"type": "object"})
