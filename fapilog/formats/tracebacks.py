"""Show the exception of a record as Python would, from what the record says of it.

No file is read for it: what a person sees was redacted like everything else in the record, and is the same wherever
the record is read. A text of many lines stays one of many lines, so whoever shows it has to indent them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import orjson

from fapilog.formats.escaping import escape
from fapilog.types import RELATIONS

Role: TypeAlias = Literal["head", "place", "code", "local", "error", "note", "relation"]
"""What a line tells: that a stack follows, a frame, its line of source, a local variable, the type and message, what
was added to it, how it led to another."""

Line: TypeAlias = tuple[Role, str]

HEAD: Final = "Traceback (most recent call last):"
MAX_DEPTH: Final = 8
"""How deep groups in groups are shown."""


def lines(exception: Mapping[str, Any]) -> Iterator[Line]:
    """Return an exception as lines, nothing in them left to be escaped.

    Args:
        exception: As it stands in a record. One that is not as `fapilog.processors.exceptions` makes them, since it
            was cut or is somebody else's, is shown as far as it goes.
    """
    if not isinstance(exception.get("stack"), list) and isinstance(exception.get("stacktrace"), str):
        yield from (("code", line) for line in text_lines(exception["stacktrace"]))
    else:
        yield from _whole(exception, 0)


def chain(exception: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Return what led to an exception and then itself, each with how it led to the next, empty for the last."""
    causes = exception.get("causes")
    for cause in reversed(causes) if isinstance(causes, list) else ():
        relation = cause.get("relation") if isinstance(cause, Mapping) else None
        yield cause, RELATIONS.get(relation, "") if isinstance(relation, str) else ""
    yield exception, ""


def listed(value: Any) -> list[Any]:
    """Return what is a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """Return a value as it is shown: text as it is, anything else as JSON."""
    return escape(value if isinstance(value, str) else orjson.dumps(value).decode())


def text_lines(value: Any) -> list[str]:
    """Return a value as the lines that it is, where it is text."""
    return [escape(line) for line in value.split("\n")] if isinstance(value, str) else [text(value)]


def said(exception: Mapping[str, Any]) -> list[str]:
    """Return type and message of an exception, as the lines they are."""
    kind, message = text(exception.get("type", "exception")), exception.get("message", "")
    if message in ("", None):
        return [kind]
    first, *more = text_lines(message)
    return [f"{kind}: {first}", *more]


def place(frame: Mapping[str, Any]) -> str:
    """Return where a frame is."""
    return f'File "{text(frame.get("file"))}", line {text(frame.get("line"))}, in {text(frame.get("function"))}'


def code(frame: Mapping[str, Any]) -> str:
    """Return a frame's line of source; empty if it is not known."""
    found = frame.get("code")
    return escape(found.expandtabs(4).strip()) if isinstance(found, str) else ""


def local_variables(frame: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Return the local variables of a frame, where the record has them."""
    found = frame.get("locals")
    return [(escape(name), text(value)) for name, value in found.items()] if isinstance(found, Mapping) else ()


def _whole(exception: Mapping[str, Any], depth: int) -> Iterator[Line]:
    for each, relation in chain(exception):
        yield from _one(each)
        yield from _members(each, depth)
        if each is not exception:
            yield "relation", ""
        if relation:
            yield "relation", relation
            yield "relation", ""


def _one(exception: Any) -> Iterator[Line]:
    if not isinstance(exception, Mapping):  # how many are left out
        yield "relation", text(exception)
        return
    frames = listed(exception.get("stack"))
    if frames:
        yield "head", HEAD
    for frame in frames:
        if not isinstance(frame, Mapping):
            yield "place", f"  {text(frame)}"
            continue
        yield "place", f"  {place(frame)}"
        if found := code(frame):
            yield "code", f"    {found}"
        for name, value in local_variables(frame):
            yield "local", f"      {name} = {value}"
    for line in said(exception):
        yield "error", line
    for note in listed(exception.get("notes")):
        yield from (("note", line) for line in text_lines(note))


def _members(exception: Any, depth: int) -> Iterator[Line]:
    members = listed(exception.get("exceptions")) if isinstance(exception, Mapping) else []
    for number, member in enumerate(members, 1):
        told = member if isinstance(member, Mapping) and depth < MAX_DEPTH else None
        name = text(member) if not isinstance(member, Mapping) else number if told else "…"
        yield "relation", f"  +---------------- {name} ----------------"
        for role, line in _whole(told, depth + 1) if told else ():
            yield role, f"  | {line}"
