"""Show the exception of a record in the boxes of rich, from what the record says of it.

https://rich.readthedocs.io/en/stable/traceback.html. Unlike rich's own traceback it reads no source: of each frame
there is the line that the record has, which was redacted, and no file is opened because a record names it.
"""

from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any, Final

from fapilog.errors import MissingExtraError
from fapilog.formats import tracebacks

try:
    from pygments.lexers.python import PythonLexer
    from rich.console import Console, Group, RenderableType
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.syntax import Syntax
    from rich.text import Text
except ImportError as error:
    raise MissingExtraError("a traceback in boxes", extra="rich") from error

DEFAULT_COLUMNS: Final = 100
"""How wide a box is on a screen whose width is not known, as in rich."""

MIN_COLUMNS: Final = 30
_LINES: Final = 25
"""Without it rich looks at the terminal for both."""

_PYTHON: Final = PythonLexer()
_TITLE: Final = "Traceback (most recent call last)"


class Boxes:
    """Draws exceptions, with colours or without."""

    def __init__(self, *, colour: bool) -> None:
        """Draw in the sixteen colours that every terminal has if *colour* is true."""
        self._console = Console(
            file=StringIO(),
            force_terminal=colour,
            color_system="standard" if colour else None,
            no_color=not colour,
            legacy_windows=False,
            force_interactive=False,
            force_jupyter=False,
            highlight=False,
            markup=False,
            emoji=False,
            width=DEFAULT_COLUMNS,
            height=_LINES,
        )

    def lines(self, exception: Mapping[str, Any], columns: int | None) -> list[str]:
        """Return an exception as lines that fill so many *columns*; None means `DEFAULT_COLUMNS`."""
        console = self._console
        console.width = max(columns or DEFAULT_COLUMNS, MIN_COLUMNS)
        with console.capture() as captured:
            console.print(Group(*_whole(exception, 0)))
        return [line.rstrip() for line in captured.get().split("\n")[:-1]]


def _whole(exception: Mapping[str, Any], depth: int) -> Iterator[RenderableType]:
    """Draw an exception, after what led to it."""
    for each, relation in tracebacks.chain(exception):
        if not isinstance(each, Mapping):
            yield Text(tracebacks.text(each), style="italic")
            continue
        frames = tracebacks.listed(each.get("stack"))
        if frames:
            yield Panel(
                Group(*(part for frame in frames for part in _frame(frame))),
                title=Text(_TITLE, style="bold red"),
                border_style="red",
            )
        first, *more = tracebacks.said(each)
        kind, colon, message = first.partition(": ")
        yield Text.assemble((kind, "bold red"), colon, message)
        yield from map(Text, more)
        for note in tracebacks.listed(each.get("notes")):
            yield from (Text.assemble(("[NOTE] ", "bold"), line) for line in tracebacks.text_lines(note))
        yield from _members(each, depth)
        if relation:
            yield Padding(Text(relation, style="italic"), (1, 0))


def _members(exception: Mapping[str, Any], depth: int) -> Iterator[RenderableType]:
    for number, member in enumerate(tracebacks.listed(exception.get("exceptions")), 1):
        if isinstance(member, Mapping):
            inside = _whole(member, depth + 1) if depth < tracebacks.MAX_DEPTH else [Text("…")]
            yield Panel(Group(*inside), title=Text(f"Sub-exception #{number}"), border_style="red")
        else:
            yield Text(tracebacks.text(member), style="italic")


def _frame(frame: Any) -> Iterator[RenderableType]:
    if not isinstance(frame, Mapping):
        yield Text(tracebacks.text(frame), style="italic")
        return
    file, line, function = (tracebacks.text(frame.get(name)) for name in ("file", "line", "function"))
    yield Text.assemble((file, "yellow"), ":", (line, "blue"), " in ", (function, "green"))
    if code := tracebacks.code(frame):
        at = frame.get("line")
        number = at if type(at) is int and at > 0 else 1
        yield Syntax(
            code,
            _PYTHON,
            theme="ansi_dark",
            line_numbers=True,
            start_line=number,
            highlight_lines={number},
            word_wrap=True,
            background_color="default",
        )
    if variables := list(tracebacks.local_variables(frame)):
        named = [Text.assemble((name, "italic"), " = ", value) for name, value in variables]
        yield Panel(Group(*named), title=Text("locals"), border_style="blue", expand=False)
