"""Read the query language.

level:error route:/orders/* duration_ms:>500 "card declined" -service:batch
"""

import re
from typing import Final, TypeAlias

from fapilog.errors import QuerySyntaxError
from fapilog.store.language import (
    LEVEL,
    PLAIN_NAME,
    TIMESTAMP,
    WORDS,
    And,
    Comparison,
    Exists,
    Node,
    Not,
    Operator,
    Path,
    Range,
    Text,
    Value,
    all_of,
    any_of,
    level_named,
)
from fapilog.store.moments import parse_moment
from fapilog.types import LEVELS

MAX_CHARACTERS: Final = 10_000
MAX_TERMS: Final = 200
MAX_DEPTH: Final = 50


_OPERATORS: Final[tuple[Operator, ...]] = (">=", "<=", ">", "<")
_BOUND: Final = re.compile(r"[-+]?[0-9]")
_NAME: Final = re.compile(rf'"(?:[^"\\]|\\.)*"|{PLAIN_NAME}', re.DOTALL)
_PATH: Final = re.compile(rf"(?:{_NAME.pattern})(?:\.(?:{_NAME.pattern}))*", re.DOTALL)
_NAMED: Final = re.compile(rf"({_PATH.pattern}):", re.DOTALL)

Characters: TypeAlias = list[tuple[str, bool]]
"""A word as it was typed: each character, and whether a backslash stood before it."""


def parse(query: str) -> Node:
    """Read *query*; a blank one is `And()`, which every record fits.

    Raises:
        QuerySyntaxError: It does not parse, names a level or a time there is not, or is larger than a query may be.
    """
    return _Parser(query).query_tree()


def parse_value(path: Path, text: str) -> Node:
    """Read *text* as what stands after ``path:``, except that blanks and brackets in it need no quotation marks.

    Raises:
        QuerySyntaxError: As `parse`.
    """
    return _Parser(text, whole=True).only_value(path)


def parse_path(text: str) -> Path:
    """Read the name of a field, such as ``user.plan`` or ``"a name with blanks".x``.

    Raises:
        QuerySyntaxError: It is none.
    """
    return _Parser(text).only_path()


class _Parser:
    """Recursive descent over the characters of one query."""

    def __init__(self, query: str, *, whole: bool = False) -> None:
        self.query = query
        self.whole = whole  # blanks and brackets are part of the only value
        self.at = 0
        self.terms = 0
        if len(query) > MAX_CHARACTERS:
            raise self.error(f"a query has at most {MAX_CHARACTERS} characters, not {len(query)}", MAX_CHARACTERS)
        for position, character in enumerate(query):
            if "\ud800" <= character <= "\udfff":
                raise self.error(f"{character!a} is half a character and in no text", position)

    def error(self, message: str, position: int | None = None) -> QuerySyntaxError:
        return QuerySyntaxError(message, query=self.query, position=self.at if position is None else position)

    def query_tree(self) -> Node:
        self.blanks()
        if self.ended():
            return And()
        node = self.alternatives(None, 0)
        if not self.ended():  # only a bracket ends an expression before the end
            raise self.error("there is no '(' for this ')'")
        return node

    def only_value(self, path: Path) -> Node:
        self.blanks()
        if self.ended():
            raise self.error('a value is missing; an empty one is written ""')
        node = self.value(path, 0)
        self.blanks()
        if not self.ended():
            raise self.error("nothing may follow a value in quotation marks")
        return node

    def only_path(self) -> Path:
        if (found := _PATH.fullmatch(self.query)) is None:
            raise self.error(f"{self.query!r} is no name of a field; what is odd in one goes in quotation marks")
        return _names(found[0])

    # What an expression is made of. With a *path*, every term is a value to compare that field with.

    def alternatives(self, path: Path | None, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.error(f"brackets and negations are at most {MAX_DEPTH} deep")
        parts = [self.conjunction(path, depth)]
        while self.word("OR"):
            parts.append(self.conjunction(path, depth))
        return any_of(parts[0], *parts[1:])

    def conjunction(self, path: Path | None, depth: int) -> Node:
        parts = [self.negation(path, depth)]
        while True:
            joined = self.word("AND")
            if not joined and (self.ended() or self.peek() == ")" or self.upcoming("OR")):
                return all_of(*parts)
            parts.append(self.negation(path, depth))

    def negation(self, path: Path | None, depth: int) -> Node:
        self.blanks()
        start = self.at
        if self.word("NOT") or (path is None and self.skip("-")):
            if depth >= MAX_DEPTH:
                raise self.error(f"brackets and negations are at most {MAX_DEPTH} deep")
            if self.ended() or self.peek().isspace():
                raise self.error("what is not wanted must follow here", start)
            return Not(self.negation(path, depth + 1))
        return self.term(path, depth)

    def term(self, path: Path | None, depth: int) -> Node:
        start = self.at
        if self.ended() or self.peek() == ")":
            raise self.error("something to look for is missing here")
        for word in WORDS:
            if self.upcoming(word):
                raise self.error(f'{word} needs something before it; as a word to look for, write "{word}"')
        if self.skip("("):
            node = self.alternatives(path, depth + 1)
            if not self.skip(")"):
                raise self.error("this '(' is not closed", start)
            self.require_end_of_term()
            return node
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise self.error(f"a query has at most {MAX_TERMS} terms")
        if path is not None:
            return self.value(path, depth)
        if (named := self.name()) is not None:
            if self.ended() or self.peek().isspace() or self.peek() == ")":
                raise self.error(f"a value is missing after {self.query[start : self.at]!r}")
            return self.value(named, depth)
        text = self.text()
        if not any(text.parts):
            if text.quoted:
                raise self.error("there is nothing between the quotation marks", start)
            return And()
        return Text(text)

    def value(self, path: Path, depth: int) -> Node:
        start = self.at
        if not self.whole and self.skip("("):
            return self.values(path, depth, start)
        operator: Operator | None = next((sign for sign in _OPERATORS if self.skip(sign)), None)
        if self.whole:
            self.blanks()
        begin = self.at
        if self.ended() or (not self.whole and (self.peek().isspace() or self.peek() == ")")):
            raise self.error(f"a value is missing after {self.query[start:begin]!r}")
        low = self.quoted() if self.peek() == '"' else None
        if low is not None and (operator or not self.query.startswith("..", self.at)):
            self.require_end_of_term()
            return self.compared(path, operator or "=", low, begin)
        if low is not None:
            self.at += 2
            high = self.quoted() if not self.ended() and self.peek() == '"' else self.bound(path, self.bare())
            self.require_end_of_term()
            return self.between(path, low, high, begin)
        word = self.bare()
        if operator is None and (node := self.range(path, word, begin)) is not None:
            return node
        value = _value_of(word)
        if operator is None and value.parts == ("", ""):
            return Exists(path)
        return self.compared(path, operator or "=", value, begin)

    def values(self, path: Path, depth: int, start: int) -> Node:
        node = self.alternatives(path, depth + 1)
        if not self.skip(")"):
            raise self.error("this '(' is not closed", start)
        self.require_end_of_term()
        return node

    def range(self, path: Path, word: Characters, begin: int) -> Node | None:
        """Read ``500..599``; None if *word* is no range, such as ``/a/../b``."""
        for index in range(len(word) - 1):
            if word[index] == word[index + 1] == (".", False):
                break
        else:
            return None
        before, after = word[:index], word[index + 2 :]
        if not before and not after and self.peek_or_end() != '"':
            return None
        low = self.bound(path, before) if before else None
        if before and low is None:
            return None
        if not after and self.peek_or_end() == '"':
            high: Value | None = self.quoted()
            self.require_end_of_term()
        else:
            high = self.bound(path, after) if after else None
            if after and high is None:
                return None
        return self.between(path, low, high, begin)

    def bound(self, path: Path, word: Characters) -> Value | None:
        """Read one end of a range without quotation marks: a number, a time or a level; None if it is none of these."""
        value = _value_of(word) if word else None
        if value is None or value.literal is None:
            return None
        text = value.literal
        return value if (path == LEVEL and text.isalpha()) or _BOUND.match(text) else None

    def between(self, path: Path, low: Value | None, high: Value | None, begin: int) -> Node:
        for bound in (low, high):
            if bound is not None:
                self.check(path, ">=", bound, begin)
        return Range(path, low, high)

    def compared(self, path: Path, operator: Operator, value: Value, begin: int) -> Node:
        if operator != "=" and value.literal is None:
            raise self.error(f"{operator} takes no wildcard; a * to compare with is written \\*", begin)
        self.check(path, operator, value, begin)
        return Comparison(path, operator, value)

    def check(self, path: Path, operator: Operator, value: Value, begin: int) -> None:
        """Refuse a level or a time that there is not."""
        text = value.literal
        if path == LEVEL and text is not None and (operator != "=" or not value.quoted):
            if level_named(text) is None:
                raise self.error(f"no level is called {text!r}; known: {', '.join(LEVELS)}", begin)
        elif path == TIMESTAMP:
            if text is None:
                raise self.error("a time takes no wildcard; a range is written 2026-11-01..2026-11-20", begin)
            try:
                parse_moment(text)
            except ValueError as error:
                raise self.error(str(error), begin) from None

    # Characters.

    def ended(self) -> bool:
        return self.at >= len(self.query)

    def peek(self) -> str:
        return self.query[self.at]

    def peek_or_end(self) -> str:
        return self.query[self.at : self.at + 1]

    def blanks(self) -> None:
        while not self.ended() and self.peek().isspace():
            self.at += 1

    def skip(self, sign: str) -> bool:
        """Take *sign* if it comes next, after blanks if it is a bracket."""
        if sign in "()":
            self.blanks()
        if not self.query.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def upcoming(self, word: str) -> bool:
        self.blanks()
        after = self.query[self.at + len(word) : self.at + len(word) + 1]
        return self.query.startswith(word, self.at) and (not after or after.isspace() or after in "()")

    def word(self, word: str) -> bool:
        """Take the operator *word*, and the blanks after it, if it comes next."""
        if not self.upcoming(word):
            return False
        self.at += len(word)
        self.blanks()
        return True

    def require_end_of_term(self) -> None:
        if not self.ended() and not self.peek().isspace() and self.peek() not in "()":
            raise self.error("a blank is missing here")

    def quoted(self) -> Value:
        """Read text in quotation marks, in which a backslash takes the next character as it is."""
        text: list[str] = []
        start = self.at
        self.at += 1
        while not self.ended():
            character = self.peek()
            self.at += 1
            if character == '"':
                return Value(("".join(text),), quoted=True)
            if character == "\\" and not self.ended():
                character = self.peek()
                self.at += 1
            text.append(character)
        raise self.error("this quotation mark is not closed", start)

    def bare(self) -> Characters:
        """Read characters up to a blank or a bracket that no backslash stands before."""
        word: Characters = []
        while not self.ended():
            character = self.peek()
            if not self.whole and (character.isspace() or character in "()"):
                break
            if character == '"':
                if word[-2:] == [(".", False)] * 2:  # the end of a range may be in quotation marks
                    break
                raise self.error('a quotation mark within a word is written \\"')
            self.at += 1
            escaped = character == "\\"
            if escaped:
                if self.ended():
                    raise self.error("a backslash takes the next character as it is, and there is none", self.at - 1)
                character = self.peek()
                self.at += 1
            word.append((character, escaped))
        return word

    def name(self) -> Path | None:
        """Take a field's name and the colon after it, if they come next."""
        if (found := _NAMED.match(self.query, self.at)) is None:
            return None
        self.at = found.end()
        return _names(found[1])

    def text(self) -> Value:
        """Read what to look for anywhere."""
        if self.peek() == '"':
            value = self.quoted()
            self.require_end_of_term()
            return value
        start = self.at
        word = self.bare()
        colon = next((index for index, typed in enumerate(word) if typed == (":", False)), None)
        if colon is not None:
            before = "".join(character for character, _ in word[:colon])
            position = start + sum(1 + escaped for _, escaped in word[:colon])
            raise self.error(f"{before!r} is no name of a field; text with a ':' goes in quotation marks", position)
        return _value_of(word)


def _names(path: str) -> Path:
    return tuple(
        re.sub(r"\\(.)", r"\1", name[1:-1], flags=re.DOTALL) if name.startswith('"') else name
        for name in _NAME.findall(path)
    )


def _value_of(word: Characters) -> Value:
    parts = [""]
    for index, typed in enumerate(word):
        if typed != ("*", False):
            parts[-1] += typed[0]
        elif index == 0 or word[index - 1] != typed:  # several in a row are one
            parts.append("")
    return Value(tuple(parts))
