"""Describe an exception as a structure a reader and a query can use.

What it costs is bounded, whatever the exception: so many frames, causes and members of groups are looked at, and a
text is cut before it is formatted.
"""

import linecache
import re
import sys
from collections import deque
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, TypeAlias

from fapilog.encoding import LIMITS, Limits, cut, middle_cut, plain, text
from fapilog.types import RELATIONS

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]

MAX_FRAMES: Final = 50
"""How many frames of an exception are kept: the outermost and the innermost half."""

MAX_STACK_CHARACTERS: Final = 30_000
MAX_CAUSES: Final = 10
"""How many exceptions are kept that led to this one: the nearest and the first half."""

MAX_MEMBERS: Final = 20
"""How many members of a group are kept."""

MAX_NOTES: Final = 20
_MAX_NOTE: Final = 1_000
_MAX_MESSAGE: Final = 2_000
_MAX_IN_STACK: Final = 8_000
"""How much of a message the stack repeats; the whole is beside it, and to look through both takes twice the time."""
_CUT: Final = re.compile(r"<\+([0-9]+) more>\Z")
_MAX_MARKER: Final = 32
_MAX_NAME: Final = 256
_MAX_FILE: Final = 512
_MAX_LINE: Final = 200
_MAX_LINKS: Final = 1_000
_MAX_GROUP_DEPTH: Final = 4
_OTHERS: Final = 40
"""How many exceptions beside the first are described, and how many frames they may have in all."""
_OTHERS_FRAMES: Final = 100
_LOCALS: Final = Limits(record=8 * 1024, string=512, depth=3, keys=32, items=32)
_LOCALS_BYTES: Final = 64 * 1024

# What an exception is made of, past whatever its class says that it has under these names.
_CAUSE: Final = BaseException.__dict__["__cause__"].__get__
_CONTEXT: Final = BaseException.__dict__["__context__"].__get__
_SUPPRESSED: Final = BaseException.__dict__["__suppress_context__"].__get__
_TRACEBACK: Final = BaseException.__dict__["__traceback__"].__get__
_MEMBERS: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_ATTRIBUTES: Final = BaseException.__dict__["__dict__"].__get__
_FILENAME: Final = SyntaxError.__dict__["filename"].__get__
_LINENO: Final = SyntaxError.__dict__["lineno"].__get__
_TEXT: Final = SyntaxError.__dict__["text"].__get__
_MODULE: Final = type.__dict__["__module__"].__get__
_QUALNAME: Final = type.__dict__["__qualname__"].__get__


def describe(error: BaseException, limits: Limits = LIMITS, *, with_locals: bool = False) -> dict[str, Any]:
    """Return what *error* is, as plain values: its type, message, module, stack as frames and as text.

    ``causes`` are the exceptions that led to it, the nearest first, each with ``relation``: ``cause`` if it was named
    with ``raise … from``, else ``context``. ``exceptions`` are the members of a group, ``notes`` what was added to it.

    Args:
        error: Any exception; its own code may raise.
        limits: How long the message may be.
        with_locals: Whether each frame has its local variables, by name; secrets in them are still to be masked.
    """
    try:
        described = _Description(limits, with_locals=with_locals).of(error)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # noqa: BLE001 - an exception whose own code raises must still be logged
        name, module = _names(type(error))
        return {
            "type": name,
            "message": text(error, limits.string),
            "module": module,
            "stacktrace": f"<no stack: {type(failure).__name__}>",
        }
    return described


def find(exc_info: Any) -> BaseException | None:
    """Return the exception that an ``exc_info`` argument stands for: an exception, a tuple, or anything true for the
    one being handled; None if there is none.
    """  # noqa: D205 - the three forms are one sentence
    kind = type(exc_info)  # isinstance would ask the value for its `__class__`
    if issubclass(kind, BaseException):
        return exc_info  # type: ignore[no-any-return]
    if kind is tuple and len(exc_info) == 3:
        return exc_info[1] if issubclass(type(exc_info[1]), BaseException) else None
    return sys.exc_info()[1] if wanted(exc_info) else None


def wanted(asked: Any) -> bool:
    """Tell whether an ``exc_info`` or ``stack_info`` argument is true; what cannot say is."""
    try:
        return bool(asked)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever its `__bool__` raises, SystemExit too
        return True


class _Description:
    """The making of one description, and how much of it may still be added."""

    def __init__(self, limits: Limits, *, with_locals: bool) -> None:
        self._limits = limits
        self._locals_left = _LOCALS_BYTES if with_locals else 0
        self._others = _OTHERS
        self._frames = _OTHERS_FRAMES

    def of(self, error: BaseException) -> dict[str, Any]:
        """Describe the exception that was logged."""
        described, lines = self._whole(error, MAX_FRAMES, self._limits.string, 0)
        described["stacktrace"] = middle_cut("\n".join(lines), MAX_STACK_CHARACTERS)
        return described

    def _whole(
        self, error: BaseException, most_frames: int, longest: int, depth: int
    ) -> tuple[dict[str, Any], list[str]]:
        """Describe an exception with what led to it and, if it is a group, its members."""
        described, lines = self._one(error, most_frames, longest)
        chain, more = _chain(error)
        causes: list[Any] = []
        for relation, cause in chain:
            if cause is None or self._others <= 0:
                causes.append(f"<+{more or len(chain) - len(causes)} more>")
                lines = [causes[-1], "", *lines]
                if cause is None:
                    continue
                break
            about, told = self._another(cause)
            members, member_lines = self._members(cause, depth)
            if members:
                about["exceptions"] = members
            causes.append({"relation": relation, **about})
            lines = [*told, *member_lines, "", RELATIONS[relation], "", *lines]
        if causes:
            described["causes"] = causes
        members, member_lines = self._members(error, depth)
        if members:
            described["exceptions"] = members
        return described, [*lines, *member_lines]

    def _another(self, error: BaseException) -> tuple[dict[str, Any], list[str]]:
        """Describe an exception that belongs to the one that was logged."""
        self._others -= 1
        described, lines = self._one(error, min(self._frames, MAX_FRAMES // 2), _MAX_MESSAGE)
        return self._counted(described), lines

    def _counted(self, described: dict[str, Any]) -> dict[str, Any]:
        self._frames = max(self._frames - len(described["stack"]), 0)
        del described["stacktrace"]
        return described

    def _members(self, error: BaseException, depth: int) -> tuple[list[Any], list[str]]:
        """Describe the members of a group, and theirs, and what led to each."""
        if not issubclass(type(error), BaseExceptionGroup):
            return [], []
        members = _MEMBERS(error)
        described: list[Any] = []
        told: list[str] = []
        for number, member in enumerate(members[:MAX_MEMBERS] if depth < _MAX_GROUP_DEPTH else (), 1):
            if self._others <= 0:
                break
            self._others -= 1
            about, lines = self._whole(member, min(self._frames, MAX_FRAMES // 2), _MAX_MESSAGE, depth + 1)
            described.append(self._counted(about))
            told.append(f"  +---------------- {number} ----------------")
            told += [f"  | {line}" for part in lines for line in part.split("\n")]
        if len(members) > len(described):
            described.append(f"<+{len(members) - len(described)} more>")
            told.append(f"  +---------------- {described[-1]} ----------------")
        return described, told

    def _one(self, error: BaseException, most_frames: int, longest: int) -> tuple[dict[str, Any], list[str]]:
        """Describe one exception by itself, as a structure and as lines of text."""
        name, module = _names(type(error))
        message = text(error, longest)
        kept, more = _frames(_TRACEBACK(error), most_frames)
        stack: list[Any] = []
        lines = ["Traceback (most recent call last):"] if kept else []
        for at, (frame, number) in enumerate(kept):
            if more and at == len(kept) - len(kept) // 2:
                stack.append(f"<+{more} more>")
                lines.append(f"  <+{more} more frames>")
            seen = self._frame(frame, number)
            stack.append(seen)
            lines.append(f'  File "{seen["file"]}", line {number}, in {seen["function"]}')
            if "code" in seen:
                lines.append(f"    {seen['code']}")
        lines += _place(error)
        lines.append(f"{name}: {_shortened(message)}" if message else name)
        about: dict[str, Any] = {"type": name, "message": message, "module": module, "stacktrace": "", "stack": stack}
        notes = _notes(error)
        if notes:
            about["notes"] = notes
            lines += notes
        return about, lines

    def _frame(self, frame: FrameType, number: int) -> dict[str, Any]:
        code = frame.f_code
        described: dict[str, Any] = {
            "file": cut(code.co_filename, _MAX_FILE),
            "line": number,
            "function": cut(code.co_qualname, _MAX_NAME),
        }
        said = _line(code, number, frame)
        if said:
            described["code"] = said
        if self._locals_left > 0 and code.co_name != "<module>":
            found = plain(dict(frame.f_locals), _LOCALS)
            self._locals_left -= len(str(found))
            described["locals"] = found
        return described


def _chain(error: BaseException) -> tuple[list[tuple[str, BaseException | None]], int]:
    """Return what led to *error*, the nearest first, each with how; None stands for as many as the number says."""
    found: list[tuple[str, BaseException | None]] = []
    seen = {id(error)}
    here = error
    while len(found) < _MAX_LINKS:
        relation, before = "cause", _CAUSE(here)
        if before is None:
            if _SUPPRESSED(here):
                break
            relation, before = "context", _CONTEXT(here)
        if before is None or id(before) in seen:
            break
        seen.add(id(before))
        found.append((relation, before))
        here = before
    more = len(found) - MAX_CAUSES
    if more <= 0:
        return found, 0
    half = MAX_CAUSES // 2
    return [*found[:half], ("", None), *found[-half:]], more


def _frames(traceback: TracebackType | None, most: int) -> tuple[list[tuple[FrameType, int]], int]:
    """Return the outermost and the innermost frames of a stack with their lines, and how many are left out."""
    head: list[tuple[FrameType, int]] = []
    here = traceback
    while here is not None and len(head) < most - most // 2:
        head.append((here.tb_frame, here.tb_lineno))
        here = here.tb_next
    last: deque[TracebackType] = deque(maxlen=most // 2)
    passed = 0
    while here is not None:
        last.append(here)
        passed += 1
        here = here.tb_next
    return [*head, *((each.tb_frame, each.tb_lineno) for each in last)], passed - len(last)


def _line(code: CodeType, number: int, frame: FrameType) -> str:
    """Return a line of source without its indentation, or nothing if it cannot be read."""
    said = linecache.getline(code.co_filename, number, frame.f_globals)
    return cut(said[: 2 * _MAX_LINE + len(said) - len(said.lstrip())].strip(), _MAX_LINE)


def _place(error: BaseException) -> Iterator[str]:
    """Say where a text is wrong that could not be parsed."""
    if issubclass(type(error), SyntaxError) and type(found := _FILENAME(error)) is str:
        yield f'  File "{cut(found, _MAX_FILE)}", line {text(_LINENO(error), 20)}'
        if type(said := _TEXT(error)) is str:
            yield f"    {cut(said[: 2 * _MAX_LINE].strip(), _MAX_LINE)}"


def _shortened(message: str) -> str:
    """Cut a message, which may have been cut before, for the stack."""
    if len(message) <= _MAX_IN_STACK + _MAX_MARKER:
        return message
    before = _CUT.search(message, len(message) - _MAX_MARKER)
    missing = int(before[1]) + before.start() if before else len(message)
    return f"{message[:_MAX_IN_STACK]}<+{missing - _MAX_IN_STACK} more>"


def _notes(error: BaseException) -> list[str]:
    notes = _ATTRIBUTES(error).get("__notes__")
    if type(notes) not in (list, tuple) or not notes:
        return []
    said = [text(note, _MAX_NOTE) for note in notes[:MAX_NOTES]]
    return said if len(notes) <= MAX_NOTES else [*said, f"<+{len(notes) - MAX_NOTES} more>"]


def _names(kind: type) -> tuple[str, str]:
    """Return the name of a class as a reader knows it, and its module."""
    module, name = _MODULE(kind), _QUALNAME(kind)
    module = cut(module, _MAX_NAME) if type(module) is str else ""
    return cut(name if module in ("", "builtins") else f"{module}.{name}", _MAX_NAME * 2), module
