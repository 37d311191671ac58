"""The regular expressions of a JSON Schema, run so that none can hold up a log call.

`jsonschema` gives them to Python's engine, which may take minutes for a short text and cannot be stopped.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fapilog.detectors.expressions import LIMIT_SECONDS, Expression
from fapilog.detectors.patterns import fault
from fapilog.errors import ConfigurationError

_MAX_DEPTH: Final = 64
_KEYWORDS: Final = ("pattern", "patternProperties", "additionalProperties")


class SchemaPatterns:
    """Runs the expressions of one schema, for 10 ms a record at most, all of them together."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Read each of them.

        Raises:
            ConfigurationError: One is no regular expression, or one for names may take exponential time.
        """
        self._left = threading.local()
        self._expressions: dict[str, Expression] = {}
        self._read(schema, 0)
        self.schema: Any = _of_one_dialect(schema, 0)
        """The schema without the names of its dialect: who meets one looks for another class of validators."""

    def _read(self, schema: Any, depth: int) -> None:
        if isinstance(schema, list | tuple) and depth < _MAX_DEPTH:
            for each in schema:
                self._read(each, depth + 1)
        if not isinstance(schema, Mapping) or depth >= _MAX_DEPTH:
            return
        said = schema.get("pattern")
        if isinstance(said, str):
            self._known(said)
        names = schema.get("patternProperties")
        for said in names if isinstance(names, Mapping) else ():
            found = fault(self._known(said))  # `unevaluatedProperties` runs it without us
            if found:
                raise ConfigurationError(f"the pattern {said[:200]!r} of names {found}")
        for each in schema.values():
            self._read(each, depth + 1)

    def _known(self, said: str) -> Expression:
        if said not in self._expressions:
            try:
                self._expressions[said] = Expression(said)
            except ValueError as error:
                raise ConfigurationError(f"the pattern {said[:200]!r} is no regular expression: {error}") from None
        return self._expressions[said]

    def begin(self) -> None:
        """Begin with a record, in this thread."""
        self._left.seconds = LIMIT_SECONDS

    def matches(self, pattern: str, text: str) -> bool:
        """Tell whether a pattern matches anywhere in a text.

        Raises:
            TimeoutError: The time for this record is over.
        """
        began = time.thread_time()
        left = self._left.seconds
        if left <= 0:
            raise TimeoutError
        try:
            return self._known(pattern).search(text, seconds=left)
        finally:
            self._left.seconds = left - (time.thread_time() - began)

    def within(self, kind: Any) -> Any:
        """Return a class of validators like *kind* that asks `matches` wherever it can."""
        from jsonschema import validators  # noqa: PLC0415 - an extra, which is there if there is a *kind*

        ours = {
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
        }
        extend: Any = validators.extend
        return extend(kind, {name: ours[name] for name in _KEYWORDS if name in kind.VALIDATORS})

    def _pattern(self, validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Any]:
        if validator.is_type(value, "string") and not self.matches(pattern, value):
            yield _error()

    def _pattern_properties(self, validator: Any, patterns: Any, value: Any, _schema: Any) -> Iterator[Any]:
        if validator.is_type(value, "object"):
            for pattern, schema in patterns.items():
                for name, item in value.items():
                    if self.matches(pattern, name):
                        yield from validator.descend(item, schema, path=name, schema_path=pattern)

    def _additional_properties(self, validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        if not validator.is_type(value, "object"):
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        more = [name for name in value if name not in known and not any(self.matches(each, name) for each in patterns)]
        if validator.is_type(wanted, "object"):
            for name in more:
                yield from validator.descend(value[name], wanted, path=name)
        elif not wanted and more:
            yield _error()


def _of_one_dialect(schema: Any, depth: int) -> Any:
    if depth >= _MAX_DEPTH:
        return schema
    if isinstance(schema, list | tuple):
        return [_of_one_dialect(each, depth + 1) for each in schema]
    if isinstance(schema, Mapping):
        return {
            name: _of_one_dialect(each, depth + 1)
            for name, each in schema.items()
            if name != "$schema" or not isinstance(each, str)
        }
    return schema


def _error() -> Any:
    from jsonschema import ValidationError  # noqa: PLC0415 - likewise

    return ValidationError("")
