import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fapilog.errors import QuerySyntaxError
from fapilog.store.language import (
    And,
    Comparison,
    Exists,
    Node,
    Not,
    Or,
    Range,
    Text,
    Value,
    all_of,
    any_of,
    unparse,
)
from fapilog.store.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_TERMS, parse, parse_path, parse_value


def word(*parts: str) -> Value:
    return Value(parts)


def quoted(text: str) -> Value:
    return Value((text,), quoted=True)


def equal(path: str, value: Value) -> Node:
    return Comparison(tuple(path.split(".")), "=", value)


A, B, C = (Text(word(letter)) for letter in "abc")


@pytest.mark.parametrize(
    ("query", "node"),
    [
        ("", And()),
        (" \t\n", And()),
        ("*", And()),
        ("declined", Text(word("declined"))),
        ("time*out", Text(word("time", "out"))),
        ('"card declined"', Text(quoted("card declined"))),
        (r'"a \"b\" \\ \c"', Text(quoted(r'a "b" \ c'))),
        (r"a\ b\*\:\"", Text(word('a b*:"'))),
        ("level:error", equal("level", word("error"))),
        ("route:/orders/*", equal("route", word("/orders/", ""))),
        ("duration_ms:>500", Comparison(("duration_ms",), ">", word("500"))),
        ("x:>=-1.5", Comparison(("x",), ">=", word("-1.5"))),
        ("x:<a", Comparison(("x",), "<", word("a"))),
        ('x:<="a b"', Comparison(("x",), "<=", quoted("a b"))),
        (r"x:\>5", equal("x", word(">5"))),
        ("path:/a:b/c", equal("path", word("/a:b/c"))),
        ("user.plan:pro", equal("user.plan", word("pro"))),
        ('"user.plan".x:1', Comparison(("user.plan", "x"), "=", word("1"))),
        ('user."a b":1', Comparison(("user", "a b"), "=", word("1"))),
        ("user_id:*", Exists(("user_id",))),
        ("-user_id:*", Not(Exists(("user_id",)))),
        ('x:""', equal("x", quoted(""))),
        ("x:-5", equal("x", word("-5"))),
        ("x:1..9", Range(("x",), word("1"), word("9"))),
        ("x:..9", Range(("x",), None, word("9"))),
        ("x:-1.5..", Range(("x",), word("-1.5"), None)),
        ('x:"a".."m z"', Range(("x",), quoted("a"), quoted("m z"))),
        ('x:"a"..', Range(("x",), quoted("a"), None)),
        ('x:.."m"', Range(("x",), None, quoted("m"))),
        ("level:warn..error", Range(("level",), word("warn"), word("error"))),
        ("timestamp:2026-11-01..2026-11-20", Range(("timestamp",), word("2026-11-01"), word("2026-11-20"))),
        ("path:/a/../b", equal("path", word("/a/../b"))),
        ("path:..", equal("path", word(".."))),
        ("path:../etc", equal("path", word("../etc"))),
        ("a b", And((A, B))),
        ("a AND b", And((A, B))),
        ("a OR b", Or((A, B))),
        ("a OR b c", Or((A, And((B, C))))),
        ("(a OR b) c", And((Or((A, B)), C))),
        ("(a b) c", And((A, B, C))),
        ("-a", Not(A)),
        ("NOT a", Not(A)),
        ("-(a b)", Not(And((A, B)))),
        ("--a", Not(Not(A))),
        ("foo-bar", Text(word("foo-bar"))),
        ("or and not", And(tuple(Text(word(text)) for text in ("or", "and", "not")))),
        ("x:(a OR b*)", Or((equal("x", word("a")), equal("x", word("b", ""))))),
        ("x:(a -b)", And((equal("x", word("a")), equal("x", word("-b"))))),
        ("x:(>5 NOT 7)", And((Comparison(("x",), ">", word("5")), Not(equal("x", word("7")))))),
        ("x:OR", equal("x", word("OR"))),
        ('level:"notice"', equal("level", quoted("notice"))),
        ("level:WARN", equal("level", word("WARN"))),
    ],
)
def test_a_query_is_read_as(query: str, node: Node) -> None:
    assert parse(query) == node
    assert parse(unparse(node)) == node


@pytest.mark.parametrize(
    ("query", "position", "message"),
    [
        ("(a", 0, "this '(' is not closed"),
        ("a b)", 3, "there is no '(' for this ')'"),
        ("a ()", 3, "something to look for is missing"),
        ("a OR", 4, "something to look for is missing"),
        ("a AND OR b", 6, "OR needs something before it"),
        ("OR", 0, 'write "OR"'),
        ("level:eror", 6, "no level is called 'eror'; known: trace, debug"),
        ("level:>nice", 7, "no level is called 'nice'"),
        ("timestamp:>soon", 11, "'soon' is no time; write 30m"),
        ("timestamp:2026*", 10, "a time takes no wildcard"),
        ("a x:", 4, "a value is missing after 'x:'"),
        ("a x:> 5", 5, "a value is missing after '>'"),
        ("x:(a", 2, "this '(' is not closed"),
        ('x:"a', 2, "this quotation mark is not closed"),
        ('x:"a"b', 5, "a blank is missing"),
        ('say"hi"', 3, "a quotation mark within a word"),
        (":x", 0, "'' is no name of a field"),
        ("htt*p://x", 5, "'htt*p' is no name of a field; text with a ':' goes in quotation marks"),
        ("x:>a*", 3, "> takes no wildcard"),
        ('""', 0, "nothing between the quotation marks"),
        ("a\\", 1, "a backslash takes the next character"),
        ("a -", 2, "what is not wanted must follow"),
        ("a NOT", 2, "what is not wanted must follow"),
        ("ab\ud800", 2, "is half a character"),
        ("a" * (MAX_CHARACTERS + 1), MAX_CHARACTERS, "at most 10000 characters"),
        ("a " * (MAX_TERMS + 1), 2 * MAX_TERMS, "at most 200 terms"),
        ("(" * 1000 + "a" + ")" * 1000, MAX_DEPTH + 1, "at most 50 deep"),
        ("-" * 1000 + "a", MAX_DEPTH + 1, "at most 50 deep"),
    ],
)
def test_an_error_says_what_and_where(query: str, position: int, message: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse(query)
    assert message in caught.value.message
    assert (caught.value.query, caught.value.position) == (query, position)
    said, shown, caret = str(caught.value).split("\n")
    assert said.endswith(f", at character {position + 1}")
    if position < len(query) and query[position].isprintable():
        assert shown[len(caret) - 1] == query[position]


@settings(deadline=None)
@given(st.text() | st.text(alphabet='ab:.*"\\()-<>= ORANDT15level'))
def test_the_parser_raises_nothing_but_its_own_error(query: str) -> None:
    for read in (parse, parse_path, lambda text: parse_value(("level",), text), lambda text: parse_value(("x",), text)):
        with contextlib.suppress(QuerySyntaxError):
            read(query)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    ["OR", "AND", "-x", ">5", "..", "1..2", "a:b", "a b", '"', "\\", "*", "()", "<=", "level", "error", "5"]
)
names = texts | st.sampled_from(["a", "b", "user", "level", "-"])
paths = st.lists(names, min_size=1, max_size=3).map(tuple).filter(lambda path: path not in (("level",), ("timestamp",)))
literals = st.builds(word, texts) | st.builds(quoted, st.text(st.characters(exclude_categories=["Cs"])))
wild = st.lists(texts | st.just(""), min_size=2, max_size=4).map(
    lambda parts: Value((parts[0], *filter(None, parts[1:-1]), parts[-1]))
)
bounds = st.from_regex(r"-?[0-9]{1,3}(\.[0-9])?[a-z]?", fullmatch=True).map(word) | st.builds(quoted, texts)
leaves = st.one_of(
    st.builds(Text, (literals | wild).filter(lambda value: any(value.parts))),
    st.builds(Comparison, paths, st.sampled_from(["=", ">", ">=", "<", "<="]), literals),
    st.builds(Comparison, paths, st.just("="), wild.filter(lambda value: any(value.parts))),
    st.builds(Comparison, st.just(("level",)), st.sampled_from(["=", ">="]), st.just(word("error"))),
    st.builds(Comparison, st.just(("timestamp",)), st.sampled_from(["=", "<"]), st.just(word("2026-11-20"))),
    st.builds(Range, paths, bounds, bounds | st.none()),
    st.builds(Range, paths, st.none(), bounds),
    st.builds(Exists, paths),
)
nodes = st.recursive(
    leaves,
    lambda parts: st.one_of(
        st.builds(Not, parts),
        st.lists(parts, min_size=2, max_size=4).map(lambda some: all_of(*some)),
        st.lists(parts, min_size=2, max_size=4).map(lambda some: any_of(some[0], *some[1:])),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(nodes)
def test_what_is_written_is_read_as_the_same(node: Node) -> None:
    assert parse(unparse(node)) == node


@settings(deadline=None)
@given(texts)
def test_a_value_that_stands_alone_needs_no_quotation_marks(text: str) -> None:
    spaced = f"gold {text.replace(chr(34), '').replace(chr(92), '').replace('*', '')} (x)"
    assert parse_value(("plan",), spaced) == Comparison(("plan",), "=", word(spaced))
