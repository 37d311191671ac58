import time
from typing import Any

import pytest

from fapilog import event_schema, log
from fapilog.testing import capture

BAD = "^(a+)+$"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def errors_of(**fields: Any) -> Any:
    with capture() as logged:
        log.info("order placed", **fields)
        return logged.records[0].get("_schema_errors")


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        ({"properties": {"a": {"pattern": BAD}}}, {"a": "a" * 60 + "!"}),
        ({"$schema": DIALECT, "properties": {"a": {"$ref": "#"}, "b": {"pattern": BAD}}}, {"a": {"b": "a" * 60 + "!"}}),
        ({"properties": {"a": {"items": {"pattern": "(.*)*\\d"}}}}, {"a": ["x" * 9_000] * 900}),
        ({"properties": {"a": {"$schema": DIALECT, "pattern": BAD}}}, {"a": "a" * 60 + "!"}),
    ],
)
def test_no_pattern_of_a_json_schema_holds_up_a_log_call(schema: dict[str, Any], fields: dict[str, Any]) -> None:
    event_schema("order placed", schema)
    with capture() as logged:
        began = time.thread_time()
        log.info("order placed", **fields)
        took = time.thread_time() - began
        record = logged.records[0]
    assert took < 0.5
    assert {"_schema_error", "_schema_errors"} & record.keys()


def test_patterns_of_names_say_which_fields_they_are_of() -> None:
    event_schema(
        "order placed",
        {"properties": {"id": {}}, "patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False},
    )
    assert errors_of(id=1, n_a=2) is None
    assert errors_of(n_a="x") == [{"path": "n_a", "error": "does not fit type: integer"}]
    event_schema("order placed", {"patternProperties": {"^n_": {}}, "additionalProperties": {"type": "string"}})
    assert errors_of(n_a=1, other="x") is None
    assert errors_of(n_a=1, other=2) == [{"path": "other", "error": "does not fit type: string"}]
