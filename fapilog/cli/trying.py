"""Commands that try fapilog, check what it would do here, and set up the shell."""

import sys
from pathlib import Path

import click

from fapilog.cli.signals import stop_watching
from fapilog.cli.terminal import FAILED


@click.command(short_help="run the example shop with traffic, then query what it logged")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="How long there is traffic.")
@click.option("--path", type=click.Path(path_type=Path), show_default="a temporary one", help="Directory of the store.")
def demo(seconds: float, path: Path | None) -> int:
    """Run the example shop under two uvicorn processes, send it real traffic, and query its store.

    Shows what it logs, and prints from the store: records per process, slow routes, errors and one whole trace.
    """
    from fapilog.demo.show import run  # noqa: PLC0415 - other commands do without

    stop_watching()
    return run(seconds, path)


@click.command(short_help="say what fapilog would do here, and what is wrong")
def doctor() -> int:
    """Show versions, settings with secrets masked, plugins, and whether the sinks can start.

    Ends with 1 if something is wrong.
    """
    from fapilog.doctor import examine  # noqa: PLC0415 - as above

    text, healthy = examine()
    sys.stdout.write(text)
    return 0 if healthy else FAILED


@click.command(short_help="print what makes a shell complete this command")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print a script that makes SHELL complete commands and options.

    \b
    bash  fapilog completion bash > ~/.local/share/bash-completion/completions/fapilog
    zsh   fapilog completion zsh > ~/.zfunc/_fapilog, where fpath has ~/.zfunc before compinit
    fish  fapilog completion fish > ~/.config/fish/completions/fapilog.fish
    """  # noqa: D301 - click's sign that lines stay as they are
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - as above

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - the choices are those click has
    sys.stdout.write(found(context.find_root().command, {}, "fapilog", "_FAPILOG_COMPLETE").source())
    return 0
