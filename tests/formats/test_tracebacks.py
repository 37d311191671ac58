"""What a person sees of an exception: as Python would show it, or in the boxes of rich."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.formats import Screen, pretty
from fapilog.formats.pretty import Pretty
from fapilog.formats.screen import columns
from fapilog.processors.exceptions import describe
from tests.formats.test_pretty import ANSI, BASE, HOSTILE, WIDTHS, check
from tests.test_encoding import ANYTHING

FRAME = {"file": "/app/shop.py", "line": 7, "function": "place", "code": 'raise OutOfStock("tea")'}
PLAIN: dict[str, Any] = {
    "type": "shop.OutOfStock",
    "message": "no tea",
    "module": "shop",
    "stacktrace": "…",
    "stack": [FRAME],
}


def below(exception: Any, *, colour: bool = False, width: int | None = None) -> list[str]:
    """Return what is shown below the line of a record with that exception."""
    line = orjson.dumps({**BASE, "exception": exception})
    return [each.removeprefix("    ") for each in check(pretty(line, colour=colour, width=width), width, colour)[1:]]


def raised(function: Any) -> dict[str, Any]:
    with pytest.raises(Exception) as found:  # noqa: PT011 - each is of another kind
        function()
    return describe(found.value)


# As Python would


def test_without_a_width_it_is_what_python_prints() -> None:
    assert below(PLAIN) == [
        "Traceback (most recent call last):",
        '  File "/app/shop.py", line 7, in place',
        '    raise OutOfStock("tea")',
        "shop.OutOfStock: no tea",
    ]


def fail_in_a_chain() -> None:
    try:
        try:
            dict[str, int]()["tea"]
        except KeyError as error:
            error.add_note("looked on the shelf")
            raise ValueError("no tea\nnone at all") from error
    except ValueError:
        raise RuntimeError  # noqa: B904 - on purpose


def fail_in_a_group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("more", [TypeError("two"), KeyError()])])


@pytest.mark.parametrize("function", [fail_in_a_chain, fail_in_a_group])
def test_causes_groups_and_notes_are_shown_as_the_text_of_the_record_has_them(function: Any) -> None:
    exception = raised(function)
    assert below(exception) == exception["stacktrace"].split("\n")


def test_local_variables_are_shown_below_their_frame() -> None:
    frame = {**FRAME, "locals": {"sku": "tea", "left": [1]}}
    assert below({**PLAIN, "stack": [frame]})[3:5] == ["      sku = tea", "      left = [1]"]


def test_frames_that_were_left_out_are_counted() -> None:
    assert below({**PLAIN, "stack": [FRAME, "<+3 more>", FRAME]})[3] == "  <+3 more>"


def test_of_an_exception_without_frames_there_is_the_text() -> None:
    assert below({"type": "ValueError", "stacktrace": "one\n  two"}) == ["one", "  two"]
    assert below({"type": "ValueError", "message": "no"}) == ["ValueError: no"]
    assert below({}) == ["exception"]


def test_a_message_of_many_lines_stays_below_its_record() -> None:
    assert below({**PLAIN, "message": "no\n08:00:00.123 info     forged"})[-2:] == [
        "shop.OutOfStock: no",
        "08:00:00.123 info     forged",
    ]


def test_lines_that_are_too_long_go_on_below(monkeypatch: pytest.MonkeyPatch) -> None:
    without_rich(monkeypatch)
    lines = below({**PLAIN, "message": "word " * 40}, width=60)
    assert len(lines) > 6
    assert all(line.startswith("    word") for line in lines[4:])


def test_type_and_message_are_coloured_as_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    without_rich(monkeypatch)
    text = pretty(orjson.dumps({**BASE, "exception": PLAIN}), colour=True)
    assert "\x1b[1;31mshop.OutOfStock: no tea\x1b[0m" in text


# With rich


def without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "fapilog.formats.boxes", raising=False)


def test_on_a_screen_the_frames_are_in_a_box_of_rich() -> None:
    lines = below(PLAIN, width=64)
    assert lines == [
        "╭─────────── Traceback (most recent call last) ────────────╮",
        "│ /app/shop.py:7 in place                                  │",
        '│ ❱ 7 raise OutOfStock("tea")                              │',
        "╰──────────────────────────────────────────────────────────╯",
        "shop.OutOfStock: no tea",
    ]


def test_without_rich_they_are_not(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    boxed = below(PLAIN, width=100)
    without_rich(monkeypatch)
    assert below(PLAIN, width=100) == below(PLAIN) != boxed
    assert capfd.readouterr().err == ""


def test_a_pipe_and_a_file_get_no_box() -> None:
    assert not set("".join(below(PLAIN))) & set("╭│╰")


def test_causes_groups_notes_and_local_variables_are_in_boxes_too() -> None:
    text = "\n".join(below(raised(fail_in_a_chain), width=100))
    assert text.count("Traceback (most recent call last)") == 3
    assert "[NOTE] looked on the shelf" in text
    assert text.index("KeyError: 'tea'") < text.index("was the direct cause") < text.index("ValueError: no tea")
    assert text.index("During handling") < text.rindex("RuntimeError")
    text = "\n".join(below(raised(fail_in_a_group), width=100))
    assert [text.count(f"Sub-exception #{number}") for number in (1, 2)] == [2, 2]
    assert text.index("ValueError: one") < text.rindex("TypeError: two") < text.rindex("KeyError")
    text = "\n".join(below({**PLAIN, "stack": [{**FRAME, "locals": {"sku": "tea"}}, "<+3 more>"]}, width=100))
    assert "│ sku = tea" in text
    assert "<+3 more>" in text


def test_with_colours_the_boxes_say_the_same() -> None:
    exception = raised(fail_in_a_chain)
    line = orjson.dumps({**BASE, "exception": exception})
    coloured = pretty(line, colour=True, width=100)
    assert ANSI.sub("", coloured) == pretty(line, colour=False, width=100)
    assert "\x1b[1;31mValueError\x1b[0m" in coloured


def test_in_a_storm_of_errors_boxes_take_a_quarter_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from fapilog.formats.boxes import Boxes

    now = 100.0

    def draw_for_a_while(*_: Any) -> list[str]:
        nonlocal now
        now += 0.1
        return ["╭"]

    monkeypatch.setattr(Boxes, "lines", draw_for_a_while)
    writer = Pretty(Screen(width=100), clock=lambda: now)
    line = orjson.dumps({**BASE, "exception": PLAIN})
    for _ in range(2):
        assert ["╭" in writer.text(line) for _ in range(9)] == [True] * 7 + [False, False]
        assert "OutOfStock: no tea" in writer.text(line)
        now += 10.0


def test_no_file_is_read_because_a_record_names_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("password = 'opensesame'\n" * 9)
    for width in (None, 100):
        text = "\n".join(below({**PLAIN, "stack": [{**FRAME, "file": str(secret), "code": ""}]}, width=width))
        assert "opensesame" not in text


def test_what_rich_cannot_draw_is_shown_without_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from fapilog.formats.boxes import Boxes

    def fail(*_: Any) -> None:
        raise RuntimeError("no pencil")

    monkeypatch.setattr(Boxes, "lines", fail)
    assert below(PLAIN, width=100) == below(PLAIN)
    assert capfd.readouterr().err == "fapilog: rich cannot draw an exception: RuntimeError: no pencil\n"


def test_what_draws_is_not_loaded_before_there_is_an_exception_to_draw() -> None:
    program = """
import sys
from fapilog.formats import pretty
line = b'{"event":"placed","exception":%s}'
pretty(line % b"null", colour=True, width=80)
pretty(line % b'{"type":"ValueError"}', colour=False)
print("fapilog.formats.boxes" in sys.modules)
pretty(line % b'{"type":"ValueError"}', colour=True, width=80)
print("fapilog.formats.boxes" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True, text=True)
    assert done.stdout.split() == ["False", "True"]


# Whatever a record says


TEXTS = HOSTILE | ANYTHING
FRAMES = st.fixed_dictionaries(
    {"file": TEXTS, "line": TEXTS | st.integers(), "function": TEXTS},
    optional={"code": TEXTS, "locals": TEXTS | st.dictionaries(HOSTILE, TEXTS, max_size=3)},
)
ONE = st.fixed_dictionaries(
    {"type": TEXTS, "message": TEXTS, "stack": st.lists(FRAMES | TEXTS, max_size=3) | TEXTS},
    optional={"notes": st.lists(TEXTS, max_size=2) | TEXTS, "stacktrace": TEXTS},
)
EXCEPTIONS = st.recursive(
    ONE,
    lambda inner: st.builds(
        lambda each, causes, members: {**each, "causes": causes, "exceptions": members},
        ONE,
        st.lists(inner | TEXTS, max_size=2) | TEXTS,
        st.lists(inner | TEXTS, max_size=2) | TEXTS,
    ),
    max_leaves=4,
)


@given(EXCEPTIONS | st.dictionaries(HOSTILE, ANYTHING), WIDTHS, st.booleans())
def test_no_exception_whatever_forges_a_line_or_a_colour(
    exception: dict[str, Any], width: int | None, colour: bool
) -> None:
    from fapilog.encoding import encode, plain_fields

    line = encode(plain_fields({**BASE, "exception": exception}))
    lines = check(pretty(line, colour=colour, width=width), width, colour)
    assert len(lines) > 1


def test_a_group_in_a_group_in_a_group_is_shown_as_deep_as_makes_sense() -> None:
    exception: dict[str, Any] = {"type": "ValueError", "message": "innermost"}
    for _ in range(100):
        exception = {"type": "ExceptionGroup", "message": "", "stack": [], "exceptions": [exception]}
    for width in (None, 100):
        lines = below(exception, width=width)
        assert len(lines) < 100
        assert "innermost" not in "".join(lines)
        assert any("…" in line for line in lines)
        assert width is None or max(map(columns, lines)) <= width
