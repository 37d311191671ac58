import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog import log
from fapilog.encoding import text
from fapilog.excerpts import excerpt
from fapilog.testing import capture

BIG = "x y" * 17_000_000
LONG = "z" * 5_000


class Markup(str):
    __slots__ = ()


MARKUP: Final = Markup(BIG)


class OwnError(ValueError):
    def __str__(self) -> str:
        return "own"


values = st.recursive(
    st.text(max_size=3) | st.integers() | st.just(LONG) | st.just(LONG.encode()) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.tuples(inner)
        | st.builds(ValueError, inner, inner)
        | st.builds(KeyError, inner)
    ),
    max_leaves=6,
)
KINDS = [ValueError, KeyError, ImportError, OwnError]
COUNTS = st.integers(1, 3)
errors = (
    st.builds(
        lambda kind, args: kind(*args), st.sampled_from([ValueError, KeyError, ImportError, OwnError]), st.lists(values)
    )
    | st.builds(OSError, st.integers(1, 40), values)
    | st.builds(OSError, st.integers(1, 40), values, values)
    | st.builds(OSError, st.integers(1, 40), values, values, st.none(), values)
    | st.builds(
        lambda said, n: ExceptionGroup(said, [ValueError()] * n), st.sampled_from(["a", LONG]), st.integers(1, 3)
    )
    | st.builds(SyntaxError, st.just(LONG))
    | st.builds(SyntaxError, st.just(LONG), st.just(("module.py", 7, 1, "text")))
)


# Where an example has many long texts, hypothesis warns of the time it takes to show it.
shows_long_examples = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@shows_long_examples
@given(errors)
def test_an_exception_says_what_str_says(error: BaseException) -> None:
    said, length = excerpt(error, 1_000_000)
    assert (said, length) == (str(error), len(str(error)))


@shows_long_examples
@given(errors)
def test_of_a_long_one_the_beginning_is_what_str_says_first(error: BaseException) -> None:
    said, length = excerpt(error, 100)
    assert said[:100] == str(error)[:100]
    assert length >= len(said)


def test_an_import_error_with_several_arguments_says_them_all() -> None:
    error = ImportError(LONG * 7, "more")
    assert excerpt(error, 1_000_000) == (str(error), len(str(error)))


def test_what_is_missing_is_counted() -> None:
    assert text(ValueError(LONG), 100) == f"{'z' * 100}<+4900 more>"
    assert text(Markup(LONG), 100) == f"{'z' * 100}<+4900 more>"
    assert text(Markup("short"), 100) == "short"
    assert type(text(Markup("short"), 100)) is str


@pytest.mark.parametrize(
    "made",
    [
        lambda: log.info(BIG),
        lambda: log.info(BIG, 1),
        lambda: log.info(MARKUP),
        lambda: log.info("x", a=MARKUP),
        lambda: log.info("x %s", MARKUP),
        lambda: log.info("x %s", [MARKUP]),
        *[
            lambda error=error, how=how: how(error)
            for error in (
                OSError(5, BIG),
                OSError(5, "x", BIG),
                ExceptionGroup(BIG, [ValueError()]),
                KeyError(BIG),
                ValueError(BIG, BIG),
                ValueError([BIG]),
                ValueError(ValueError({"a": BIG})),
                SyntaxError(BIG),
            )
            for how in (
                lambda error: log.info("x", exc_info=error),
                lambda error: log.info("x", a=error),
                lambda error: log.info("x %s", error),
            )
        ],
    ],
)
def test_a_text_of_50_mb_is_never_read_whole(made: Any) -> None:
    with capture() as captured:
        log.info("warm")
        began = time.thread_time()
        made()
        took = time.thread_time() - began
        assert len(captured.records[1]) > 3
    assert took < 0.02  # to format one takes more; these take 1 to 5 ms on an idle machine
