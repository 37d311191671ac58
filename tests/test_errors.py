import builtins
import inspect
import re

import pytest

from fapilog import errors
from fapilog.errors import FapilogError, MissingExtraError, RetryableError

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and found.__module__ == errors.__name__
}
BRANCH = re.compile(r"^(?P<indent>(?:│   |    )*)(?:[├└]── )(?P<name>\w+)(?: \((?P<builtin>\w+)\))?", re.MULTILINE)


def drawn() -> dict[str, tuple[str, str | None]]:
    """Return each class of the tree in the docstring with its parent and the built-in it also is."""
    found: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    for match in BRANCH.finditer(inspect.cleandoc(errors.__doc__ or "")):
        depth = len(match["indent"]) // 4 - 1  # the tree itself is indented
        path[depth:] = [match["name"]]
        found[match["name"]] = (path[depth - 1] if depth else "FapilogError", match["builtin"])
    return found


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {
        name: (
            found.__bases__[0].__name__,
            next((base.__name__ for base in found.__bases__ if base.__name__ in vars(builtins)), None),
        )
        for name, found in CLASSES.items()
        if found is not FapilogError
    }
    assert drawn() == real


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_is_a_fapilog_error_and_says_what_it_means(name: str) -> None:
    assert issubclass(CLASSES[name], FapilogError)
    assert CLASSES[name].__doc__


def test_a_missing_extra_says_what_to_type() -> None:
    assert str(MissingExtraError("the cloudwatch sink", extra="cloudwatch")) == (
        "the cloudwatch sink needs an extra: pip install 'fapilog[cloudwatch]'"
    )


def test_a_retryable_error_knows_when_to_come_back_only_if_it_was_told() -> None:
    assert RetryableError("busy").retry_after_seconds is None
    assert RetryableError("busy", retry_after_seconds=3).retry_after_seconds == 3
