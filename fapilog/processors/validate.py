"""Compare records with what was declared of their events. One that does not fit is kept, and marked.

``_schema_errors`` lists where a record does not fit and what was expected there, at most `MAX_ERRORS` of them, without
the values: a value may be a secret.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar, overload

from fapilog.context import current_fields, current_request
from fapilog.diagnostics import report, surface_bugs
from fapilog.encoding import plain, text
from fapilog.errors import ConfigurationError, EventSchemaError
from fapilog.processors.schema_patterns import SchemaPatterns
from fapilog.processors.sieve import level_of
from fapilog.serializers import value_of
from fapilog.types import ERROR, LEVEL_NAMES, RESERVED_FIELDS, Event

Mode: TypeAlias = Literal["strict", "warn", "off"]
"""What becomes of a record that does not fit.

* ``warn``: it is marked, and stderr has a line about it.
* ``strict``: it is besides an error: its level is raised to error. Under pytest the log call raises
  `EventSchemaError`.
* ``off``: nothing is compared.
"""

MODES: Final = ("strict", "warn", "off")
MAX_ERRORS: Final = 10
MAX_SEEN: Final = 100
"""How many errors of a JSON Schema are asked for."""

MAX_TEXT: Final = 200
MAX_EVENT: Final = 1_024
"""How long an event may be that is declared."""

_ARGUMENTS: Final = frozenset({"exc_info", "stack_info", "durable", "audit"})
_IDS: Final = frozenset({"trace_id", "span_id", "parent_span_id", "request_id", "trace_flags"})
_NOT_DECLARED: Final = _ARGUMENTS | _IDS | RESERVED_FIELDS
_SAYS_VALUE: Final = frozenset({"value_error", "assertion_error", "union_tag_invalid"})
"""Errors of pydantic whose text has the value in it, or is written by the user."""

_PARSING: Final = frozenset({"int_parsing", "float_parsing", "bool_parsing"})
"""Of those that tell what cannot be parsed, these say nothing of how the value looks."""

Model = TypeVar("Model", bound=type)
Mismatch: TypeAlias = dict[str, str]


class Armed(Protocol):
    """Something that compares records as soon as there is anything to compare them with."""

    def arm(self) -> None:
        """Begin to compare."""


@dataclass(frozen=True)
class Schema:
    """What was declared of one event."""

    names: frozenset[str]
    """The fields that are declared."""

    check: Callable[[dict[str, Any]], list[Mismatch]]
    mode: Mode | None


SCHEMAS: Final[dict[str, Schema]] = {}
"""What was declared, by event."""

_waiting: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


@overload
def event_schema(event: str, *, mode: Mode | None = None) -> Callable[[Model], Model]: ...


@overload
def event_schema(event: str, schema: type, *, mode: Mode | None = None) -> type: ...


@overload
def event_schema(event: str, schema: Mapping[str, Any], *, mode: Mode | None = None) -> Mapping[str, Any]: ...


def event_schema(event: str, schema: Any = None, *, mode: Mode | None = None) -> Any:
    """Declare what the fields of an event are; again replaces it.

    Args:
        event: The event, as it is logged.
        schema: A pydantic model, or a JSON Schema as a dict, for which ``fapilog[validation]`` is needed. None returns
            a decorator for a model.
        mode: ``strict``, ``warn`` or ``off`` for this event; None means the setting ``FAPILOG_VALIDATION_MODE``.

    Returns:
        The schema.

    Raises:
        ConfigurationError: It is no schema, or a package is missing for it.
    """
    if mode is not None and mode not in MODES:
        raise ConfigurationError(f"got the mode {mode!r}; known: {', '.join(MODES)}")
    if schema is None:
        return lambda given: event_schema(event, given, mode=mode)
    if isinstance(schema, type) and hasattr(schema, "__pydantic_validator__"):
        SCHEMAS[event] = _of_model(schema, mode)
    elif isinstance(schema, Mapping):
        SCHEMAS[event] = _of_json_schema(event, schema, mode)
    else:
        raise ConfigurationError(
            f"the schema of {event!r} must be a pydantic model or a JSON Schema as a dict, not {type(schema).__name__}"
        )
    for each in list(_waiting):
        each.arm()
    return schema


class Validate:
    """Compare each record with the schema of its event, if there is one."""

    def __init__(self, mode: Mode = "warn") -> None:
        """Compare in *mode* where the event has none of its own.

        Raises:
            ConfigurationError: There is no such mode.
        """
        if mode not in MODES:
            raise ConfigurationError(f"got the mode {mode!r}; known: {', '.join(MODES)}")
        self.mode = mode
        self.mismatches = 0
        """How many records did not fit."""

        self.failures: Counter[str] = Counter()
        """Where a schema that raises is counted."""

    def wait(self, armed: Armed) -> bool:
        """Tell whether anything is declared; have *armed* told when something is."""
        _waiting.add(armed)
        return bool(SCHEMAS)

    def check(self, event: Any, level: int, fields: dict[str, Any]) -> int:
        """Mark a record in *fields* if it does not fit, and return its level.

        Raises:
            EventSchemaError: It does not, the mode is strict, and a test is running.
        """
        schema = SCHEMAS.get(event) if SCHEMAS and type(event) is str and len(event) <= MAX_EVENT else None
        if schema is None:
            return level
        mode = schema.mode or self.mode
        if mode == "off":
            return level
        try:
            errors = schema.check(_declared(fields, schema.names))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a schema of the user's must not cost the record
            self.failures["schema"] += 1
            fields["_schema_error"] = f"the schema raised {type(error).__name__}"
            report(f"the schema of {event[:100]!r} raised {type(error).__name__}", key=f"schema {event[:100]}")
            return level
        if not errors:
            return level
        self.mismatches += 1
        said = f"{errors[0]['path']}: {errors[0]['error']}" + (f", and {len(errors) - 1} more" if errors[1:] else "")
        said = f"a record of {event[:100]!r} does not fit its schema: {said}"
        if mode == "strict" and surface_bugs():
            raise EventSchemaError(said)
        report(said, key=f"schema {event[:100]}")
        if len(errors) > MAX_ERRORS:
            errors[MAX_ERRORS:] = [{"path": "", "error": f"<+{len(errors) - MAX_ERRORS} more>"}]
        fields["_schema_errors"] = errors
        return max(level, ERROR) if mode == "strict" else level

    def __call__(self, logger: Any, method_name: str, event: Event) -> Event:
        """Return *event*, marked and at another level if it does not fit."""
        level = level_of(event)
        raised = self.check(event.get("event"), level, event)
        if raised != level:
            event["level"] = LEVEL_NAMES[raised]
        return event


def _declared(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return the fields to compare: those that are declared, and those that only this call can have brought."""
    request = current_request.get()
    bound = current_fields.get()
    shared = request.bound if request is not None else {}
    return {
        name: value_of(value)
        for name, value in fields.items()
        if name in names or not (name in _NOT_DECLARED or name.startswith("_") or name in bound or name in shared)
    }


def _of_model(model: Any, mode: Mode | None) -> Schema:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - who declares nothing does not wait for it

    adapter: Any = TypeAdapter(model)

    def check(fields: dict[str, Any]) -> list[Mismatch]:
        try:
            adapter.validate_python(fields)
        except ValidationError as error:
            return [_of_pydantic(each) for each in error.errors(include_url=False, include_context=False)]
        return []

    declared = getattr(model, "__pydantic_fields__", {})
    aliases = {name for field in declared.values() for name in _alias_names(field.alias, field.validation_alias)}
    return Schema(frozenset(declared) | aliases, check, mode)


def _alias_names(*aliases: Any) -> Iterator[str]:
    """Yield the names at the top under which a field may be given."""
    for alias in aliases:
        paths = alias.convert_to_aliases() if hasattr(alias, "convert_to_aliases") else [alias]
        for path in paths if paths and isinstance(paths[0], list) else [paths]:
            if path and isinstance(path[0], str):
                yield path[0]


def _of_pydantic(error: Mapping[str, Any]) -> Mismatch:
    kind, said = error["type"], error["msg"]
    given = error.get("input")
    tells = kind in _SAYS_VALUE or (kind.endswith("_parsing") and kind not in _PARSING)
    if tells or (type(given) is str and given and given in said):
        said = f"refused ({kind})"
    return {"path": _path(error["loc"]), "error": text(said, MAX_TEXT)}


def _path(parts: Any) -> str:
    return text(".".join(text(part, 64) for part in parts), MAX_TEXT) or "."


def _of_json_schema(event: str, schema: Mapping[str, Any], mode: Mode | None) -> Schema:
    try:
        import jsonschema  # noqa: PLC0415 - an extra
        import referencing  # noqa: PLC0415 - comes with it
    except ImportError as error:
        raise ConfigurationError("JSON Schema needs an extra: pip install 'fapilog[validation]'") from error
    kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = _path(error.absolute_path)
        raise ConfigurationError(f"the schema of {event!r} is no JSON Schema: {where}: {error.message[:200]}") from None
    try:
        patterns = SchemaPatterns(schema)
    except ConfigurationError as error:
        raise ConfigurationError(f"the schema of {event!r} cannot be used: {error}") from None
    # With a registry of our own nothing is ever fetched: a log call must not open a connection.
    validator = patterns.within(kind)(patterns.schema, registry=referencing.Registry())

    def check(fields: dict[str, Any]) -> list[Mismatch]:
        patterns.begin()
        found: dict[tuple[str, str], Mismatch] = {}  # of fields that are missing each error lists all
        for error in islice(validator.iter_errors(plain(fields)), MAX_SEEN):
            for each in _of_jsonschema(error):
                found.setdefault((each["path"], each["error"]), each)
        return list(found.values())

    return Schema(frozenset(schema.get("properties", ())), check, mode)


def _of_jsonschema(error: Any) -> Iterator[Mismatch]:
    """Say what was expected, in the words of the schema: the library's own would repeat the value."""
    rule, wanted = error.validator, error.validator_value
    where = _path(error.absolute_path)
    if rule == "required":
        for name in wanted:
            if name not in error.instance:
                yield {"path": _path([*error.absolute_path, name]), "error": "is missing"}
    elif rule == "additionalProperties" and wanted is False:
        known = error.schema.get("properties", {})
        patterns = error.schema.get("patternProperties", {})
        for name in error.instance:
            if name not in known and not patterns:
                yield {"path": _path([*error.absolute_path, name]), "error": "is not declared"}
        if patterns:
            yield {"path": where, "error": "has fields that are not declared"}
    else:
        yield {"path": where, "error": text(f"does not fit {rule}: {text(wanted, 100)}", MAX_TEXT)}
