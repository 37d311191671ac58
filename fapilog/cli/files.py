"""Commands that read log files rather than the store."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from fapilog.cli.terminal import WRONG_INPUT, say


@click.command(short_help="print log files, compressed or not")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--rotated", is_flag=True, help="Print before each file what was put aside of it, oldest first.")
def cat(files: tuple[Path, ...], rotated: bool) -> int:
    """Print log files, decompressed as the end of each name says (.gz, .bz2, .zip, .xz, .zst)."""
    from fapilog.files.reading import lines, whole  # noqa: PLC0415 - other commands do without

    read = whole if rotated else lines
    return max([print_lines(read(path)) for path in files])  # one that cannot be read hides no other


def tail_file(path: Path, number: int, *, follow: bool) -> int:
    """Print the last *number* lines of a log file, then, to *follow*, each new one."""
    from fapilog.files import reading  # noqa: PLC0415 - as above

    def lines() -> Iterator[bytes]:
        yield from reading.follow(path, number) if follow else reading.last(path, number)

    return print_lines(lines(), now=follow)


def print_lines(lines: Iterable[bytes], *, now: bool = False) -> int:
    """Print lines as they are, *now* or with others; on a terminal what could control it is shown, not obeyed."""
    from fapilog.store.output import printable  # noqa: PLC0415 - as above

    terminal, out = sys.stdout.isatty(), sys.stdout.buffer
    try:
        for line in lines:
            shown = printable(line.decode("utf-8", "replace").rstrip("\n")) + "\n" if terminal else line
            out.write(shown.encode() if isinstance(shown, str) else shown)
            if now:
                out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        out.flush()
        say(f"cannot read on: {error}")
        return WRONG_INPUT
    return 0
