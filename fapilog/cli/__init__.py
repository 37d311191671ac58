"""The command `fapilog`: ask the store, look after it, move records in and out, and read log files.

What a command does is in the library; the modules here say which options there are and show what comes of them. None of
them imports at its top more than click and what the errors need, so help and completion are quick.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from fapilog import __version__
from fapilog.cli.files import cat
from fapilog.cli.keeping import cleanup, compact, verify
from fapilog.cli.moving import export, import_
from fapilog.cli.reading import errors, query, search, stats, tail, trace
from fapilog.cli.signals import code_of, watch
from fapilog.cli.terminal import FAILED, INTERRUPTED, PIPE_CLOSED, TERMINATED, WRONG_INPUT, say
from fapilog.cli.trying import completion, demo, doctor
from fapilog.errors import FapilogError, QueryError, QuerySyntaxError

__all__ = ["FAILED", "INTERRUPTED", "PIPE_CLOSED", "TERMINATED", "WRONG_INPUT", "commands", "main"]

_POSITION: Final = re.compile(r"\s*^LINE (\d+): (.*)\n( *)\^+\s*\Z", re.MULTILINE)
_SECTIONS: Final[dict[str, tuple[click.Command, ...]]] = {
    "Ask the store": (tail, search, trace, stats, errors, query),
    "Look after the store": (compact, cleanup, verify),
    "Move records": (export, import_),
    "Read log files": (cat,),
    "Try and check": (demo, doctor, completion),
}


class Commands(click.Group):
    """All commands, by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under their headings."""
        width = max(map(len, self.commands))
        for title, members in _SECTIONS.items():
            with formatter.section(title):
                limit = formatter.width - 6 - width
                formatter.write_dl(
                    [(f"{member.name:<{width}}", member.get_short_help_str(limit)) for member in members]
                )


@click.group(
    cls=Commands,
    commands=[member for members in _SECTIONS.values() for member in members],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fapilog", message="%(prog)s %(version)s")
def commands() -> None:
    """Ask a fapilog store, look after it, move records in and out of it, and read log files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*, the process's own by default, and return the exit code.

    Raises:
        SystemExit: Help, the version or a completion was asked for and printed, or the process is told to end.
    """
    if argv is None:
        watch()
    if sys.stdout is None:  # it was closed before we began
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - it lasts as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # in the C locale, whatever was logged
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except RuntimeError as error:
        if (ended := code_of(error)) is None:
            raise
        return ended
    except QuerySyntaxError as error:  # below its message it points at the place
        from fapilog.formats.escaping import escape  # noqa: PLC0415 - help and completion do without

        for line in f"fapilog: {error}".splitlines():
            sys.stderr.write(escape(line) + "\n")
        return WRONG_INPUT
    except FapilogError as error:
        say(_on_one_line(error))
        return WRONG_INPUT
    except OSError as error:
        say(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return WRONG_INPUT
    return code


def _run(arguments: list[str]) -> int:
    if instruction := os.environ.get("_FAPILOG_COMPLETE"):
        from click.shell_completion import shell_complete  # noqa: PLC0415 - a shell asks for it, people do not

        raise SystemExit(shell_complete(commands, {}, "fapilog", "_FAPILOG_COMPLETE", instruction))
    try:
        with commands.make_context("fapilog", arguments) as context:
            code: int = commands.invoke(context)
            return code
    except click.exceptions.Exit as end:
        sys.stdout.flush()
        raise SystemExit(end.exit_code) from None
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_INPUT
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "fapilog"
        message = error.format_message().rstrip(".")
        say(f"{message[:1].lower()}{message[1:]}; see: {command} --help", command=command)
        return WRONG_INPUT


def _on_one_line(error: FapilogError) -> str:
    """Say where DuckDB points at, instead of pointing at it on further lines."""
    text = str(error)
    if not isinstance(error, QueryError) or (found := _POSITION.search(text)) is None:
        return text
    at = found[2][len(found[3]) - len(f"LINE {found[1]}: ") :]
    return f"{text[: found.start()]}; line {found[1]}, at {at!r}"
