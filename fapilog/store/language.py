"""The query language as a tree: what it is made of, and how it is written.

`fapilog.store.parser` makes the tree of what a person types. What a tree means is in `fapilog.store.matching` for one
record and in `fapilog.store.conditions` for SQL; docs/query.md says it for people.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from fapilog.types import LEVEL_ALIASES, LEVELS

Operator: TypeAlias = Literal["=", ">", ">=", "<", "<="]
Path: TypeAlias = tuple[str, ...]

LEVEL: Final = ("level",)
TIMESTAMP: Final = ("timestamp",)
METHOD: Final = ("method",)


@dataclass(frozen=True, slots=True)
class Value:
    """What is looked for: text, with a wildcard between any two of its parts."""

    parts: tuple[str, ...]
    """One part is plain text; ``("/orders/", "")`` is ``/orders/*``."""

    quoted: bool = False
    """Whether it stood in quotation marks, and is text even if it looks like a number."""

    @property
    def number(self) -> float | None:
        """The value as a number, or None if it is to be taken as text."""
        return None if self.quoted or len(self.parts) > 1 else number_of(self.parts[0])

    @property
    def literal(self) -> str | None:
        """The text, or None if there is a wildcard in it."""
        return self.parts[0] if len(self.parts) == 1 else None


@dataclass(frozen=True, slots=True)
class Text:
    """The value is somewhere in the event, the exception or the fields, in upper or lower case."""

    value: Value


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field compares so with the value."""

    path: Path
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class Range:
    """A field is between two values, both included; None for no bound on that side."""

    path: Path
    low: Value | None
    high: Value | None

    @property
    def texts(self) -> tuple[str | None, str | None]:
        """Both ends as text."""
        return None if self.low is None else self.low.literal, None if self.high is None else self.high.literal

    @property
    def numbers(self) -> tuple[float, float] | None:
        """Both ends as numbers, or None if one of them is text."""
        least = -math.inf if self.low is None else self.low.number
        most = math.inf if self.high is None else self.high.number
        return None if least is None or most is None else (least, most)


@dataclass(frozen=True, slots=True)
class Exists:
    """A field is there and not null."""

    path: Path


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold. It does not hold of a record without the field, so this does."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; without any, of every record."""

    parts: "tuple[Node, ...]" = ()


@dataclass(frozen=True, slots=True)
class Or:
    """One of at least two parts holds."""

    parts: "tuple[Node, ...]"


Node: TypeAlias = Text | Comparison | Range | Exists | Not | And | Or


def all_of(*parts: Node) -> Node:
    """Combine *parts* with AND, in the simplest form: one part is itself, and no AND is directly within another."""
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, And) else (part,)))
    return flat[0] if len(flat) == 1 else And(flat)


def any_of(first: Node, *others: Node) -> Node:
    """Combine parts with OR, in the simplest form."""
    if not others:
        return first
    return Or(tuple(inner for part in (first, *others) for inner in (part.parts if isinstance(part, Or) else (part,))))


def walk(node: Node) -> Iterator[Node]:
    """Give *node* and everything in it."""
    yield node
    for part in node.parts if isinstance(node, And | Or) else (node.part,) if isinstance(node, Not) else ():
        yield from walk(part)


def unparse(node: Node) -> str:
    """Write *node* as a query, which `parse` reads as *node* again."""
    match node:
        case And(()):
            return ""
        case And(parts):
            return " ".join(_unparse_within(part, Or) for part in parts)
        case Or(parts):
            return " OR ".join(_unparse_within(part) for part in parts)
        case Not(part):
            return "-" + _unparse_within(part, And, Or, Not)
        case Text(value):
            return _unparse_value(value, text=True)
        case Exists(path):
            return f"{_unparse_path(path)}:*"
        case Range(path, low, high):
            bounds = ["" if bound is None else _unparse_value(bound) for bound in (low, high)]
            return f"{_unparse_path(path)}:{'..'.join(bounds)}"
        case Comparison(path, operator, value):
            sign = "" if operator == "=" else operator
            return f"{_unparse_path(path)}:{sign}{_unparse_value(value)}"


def number_of(text: str) -> float | None:
    """Return *text* as a number if it is written as JSON writes one, give or take a leading zero; else None."""
    number = float(text) if NUMBER.fullmatch(text) else None
    return number if number is not None and math.isfinite(number) else None


NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")

WORDS: Final = ("AND", "OR", "NOT")
PLAIN_NAME: Final = r'[^\s()":.*\\-][^\s()":.*\\]*'
_SPECIAL: Final = re.compile(r'[\s()"*\\]')


def _unparse_within(node: Node, *bracketed: type) -> str:
    if node == And():
        return "*"
    return f"({unparse(node)})" if isinstance(node, bracketed) else unparse(node)


def _unparse_path(path: Path) -> str:
    return ".".join(name if re.fullmatch(PLAIN_NAME, name) else _quote(name) for name in path)


def _unparse_value(value: Value, *, text: bool = False) -> str:
    if value.quoted:
        return _quote(value.parts[0])
    bare = "*".join(_SPECIAL.sub(lambda found: "\\" + found[0], part).replace("..", "\\.\\.") for part in value.parts)
    if text:
        bare = bare.replace(":", "\\:")
    if bare in WORDS or bare[0] in ("-" if text else "<>") or bare == "..":
        bare = "\\" + bare
    return bare


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def level_named(text: str) -> str | None:
    """Return the level that *text* names, in upper or lower case or by an alias; None if there is none."""
    name = text.lower()
    name = LEVEL_ALIASES.get(name, name)
    return name if name in LEVELS else None


def levels_that(sign: Operator, level: str) -> list[str]:
    """Name the levels that are, such as ``>=``, the *level*."""
    return [name for name, number in LEVELS.items() if COMPARE[sign](number, LEVELS[level])]


def levels_between(node: Range) -> list[str]:
    """Name the levels in the range *node*."""
    names = list(LEVELS)
    low, high = (None if bound is None else level_named(bound.parts[0]) for bound in (node.low, node.high))
    first = 0 if low is None else names.index(low)
    return names[first : None if high is None else names.index(high) + 1]


COMPARE: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
