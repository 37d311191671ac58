"""What objects are made of that say so: models of pydantic, attrs, dataclasses, msgspec, named tuples."""

import dataclasses
import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

# Read past a metaclass, whose own `__qualname__` may do anything.
_QUALNAME: Final = type.__dict__["__qualname__"].__get__
_MAX_NAME: Final = 200
_MAX_DEPTH: Final = 8
_MAX_SECRETS: Final = 1_000
_LEAST_WITHIN: Final = 4
HIDDEN: Final = "**********"
"""What pydantic shows of a secret."""


def members(value: Any, kind: type) -> Mapping[Any, Any] | None:
    """Return what an object is made of if it is a mapping or a model, else None."""
    if issubclass(kind, Mapping):
        return value  # type: ignore[no-any-return]  # narrowed through its type: isinstance would call `__class__`
    found: Iterable[str]
    if getattr(kind, "__pydantic_fields__", None) is not None:
        return _of_pydantic(value, kind)
    if getattr(kind, "__dataclass_fields__", None) is not None:
        found = [field.name for field in dataclasses.fields(value) if field.repr]
    elif (fields := getattr(kind, "__attrs_attrs__", None)) is not None:
        told = {field.name: getattr(field, "repr", True) for field in fields}
        kept = _attributes(value, [name for name, how in told.items() if how is not False])
        for name, how in told.items():
            if callable(how):  # it says what may be seen of the field
                kept[name] = how(kept[name])
        return kept
    elif type(fields := getattr(kind, "__struct_fields__", None)) is tuple:
        found = fields
    elif issubclass(kind, tuple) and type(fields := getattr(kind, "_fields", None)) is tuple:
        return dict(zip(map(str, fields), tuple.__iter__(value), strict=False))
    elif issubclass(kind, types.SimpleNamespace):
        found = tuple(vars(value))
    else:
        return None
    return _attributes(value, found)


def says_itself(kind: type) -> bool:
    """Tell whether a class has a ``model_serializer`` of pydantic's, which says what becomes of all of it."""
    return bool(getattr(getattr(kind, "__pydantic_decorators__", None), "model_serializers", None))


def said(value: Any, kind: Any) -> Any:
    """Return what the ``model_serializer`` of a class returns, without the fields that are not to be seen."""
    made = _dumped(value, kind)
    if type(made) is not dict:
        return made
    hidden = {name for name, field in kind.__pydantic_fields__.items() if field.exclude or not field.repr}
    return {name: item for name, item in made.items() if name not in hidden}


@functools.lru_cache(maxsize=1_024)
def _shown(kind: Any) -> dict[str, bool]:
    """Return the fields of a class of models that are to be seen, and whether each has a serializer of its own."""
    fields, decorators = kind.__pydantic_fields__, getattr(kind, "__pydantic_decorators__", None)
    shown = [name for name, field in fields.items() if field.repr and not field.exclude]
    shown += [name for name, each in getattr(decorators, "computed_fields", {}).items() if each.info.repr]
    serialized = {
        name for each in getattr(decorators, "field_serializers", {}).values() for name in each.info.fields
    } | {
        name  # annotated with `PlainSerializer` or `WrapSerializer`
        for name, field in fields.items()
        if any(hasattr(each, "func") and hasattr(each, "when_used") for each in field.metadata)
    }
    return {name: name in serialized or "*" in serialized for name in shown}


def _of_pydantic(value: Any, kind: Any) -> dict[str, Any]:
    """Return the fields of a model, each as its own serializer says if it has one, and computed ones."""
    kept: dict[str, Any] = {}
    for name, is_serialized in _shown(kind).items():
        try:
            kept[name] = _dumped(value, kind, include={name})[name] if is_serialized else getattr(value, name, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - code of the user's may raise SystemExit
            kept[name] = unprintable(kind, error)
    extra = getattr(value, "__pydantic_extra__", None)
    return {**kept, **extra} if type(extra) is dict and extra else kept


def _dumped(value: Any, kind: Any, include: set[str] | None = None) -> Any:
    """Return what the serializers of a model say, but for what it holds as `SecretStr`, which they may have opened."""
    made = kind.__pydantic_serializer__.to_python(
        value, mode="json", include=include, by_alias=False, warnings=False, fallback=str
    )
    secrets = set(islice(_secrets(value, 0), _MAX_SECRETS))
    return _closed(made, secrets) if secrets else made


def _secrets(value: Any, depth: int) -> Iterator[str]:
    """Yield what is hidden in a value: in fields of models, and in what they contain."""
    if hasattr(type(value), "get_secret_value"):
        said = value.get_secret_value()
        yield said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    elif depth < _MAX_DEPTH:
        fields = getattr(type(value), "__pydantic_fields__", None)
        if fields is not None:
            value = _attributes(value, fields)
        if type(value) is dict:
            value = value.values()
        elif type(value) not in (list, tuple, set, frozenset):
            return
        for item in islice(value, _MAX_SECRETS):
            yield from _secrets(item, depth + 1)


def _closed(made: Any, secrets: set[str]) -> Any:
    """Return plain values without the *secrets* in their texts; one that is very short is only known if it is alone."""
    if type(made) is str:
        if made in secrets and made:
            return HIDDEN
        for each in secrets:
            if len(each) >= _LEAST_WITHIN:
                made = made.replace(each, HIDDEN)
        return made
    if type(made) is dict:
        return {name: _closed(item, secrets) for name, item in made.items()}
    return [_closed(item, secrets) for item in made] if type(made) is list else made


def _attributes(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """Read attributes: one that is not there is None, and one that raises costs itself alone."""
    found = {}
    for name in names:
        try:
            found[name] = getattr(value, name, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a property may raise SystemExit
            found[name] = unprintable(type(value), error)
    return found


def unprintable(kind: type, error: BaseException) -> str:
    """Return what stands for a value of a class whose own code raised."""
    return f"<unprintable {_QUALNAME(kind)[:_MAX_NAME]}: {_QUALNAME(type(error))[:_MAX_NAME]}>"
