"""The command as a whole: its help, its errors, its completion, its end."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import click
import pytest

from fapilog.cli import commands, main
from fapilog.cli.signals import PATIENCE_SECONDS
from tests.cli.running import COMMAND, SECONDS, Here, environment, run

NAMES = sorted(commands.commands)


def test_every_command_is_in_the_help_under_a_heading() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    listed = re.findall(r"^  (\w+)  +[a-z]", out, re.MULTILINE)
    assert sorted(listed) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_says_what_it_is_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = commands.commands[name]
    assert command.help
    assert command.short_help
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"Usage: fapilog {name}" in capsys.readouterr().out


def test_without_a_command_the_help_is_shown_as_an_error(here: Here) -> None:
    code, out, err = here()
    assert (code, out) == (2, "")
    assert "Usage: fapilog" in err


def test_the_version_is_that_of_the_package(here: Here) -> None:
    from fapilog import __version__

    assert here("--version") == (0, f"fapilog {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qury"], "fapilog: no such command 'qury'"),
        (
            ["query", "--fromat", "csv", "select 1"],
            "fapilog query: no such option '--fromat'. Did you mean '--format'?",
        ),
        (["query"], "fapilog query: missing argument 'SQL'"),
        (["query", "select 1", "--format", "xml"], "'xml' is not one of 'table', 'json', 'csv'"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_where_to_look(here: Here, arguments: list[str], message: str) -> None:
    code, out, err = here(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert re.search(r"; see: fapilog( \w+)? --help\n\Z", err)
    assert err.count("\n") == 1


COMPLETION = {
    "bash": "source <(fapilog completion bash); COMP_WORDS=(fapilog {words}); COMP_CWORD={last}; "
    '_fapilog_completion fapilog; printf "%s\\n" "${{COMPREPLY[@]}}"',
    "fish": "fapilog completion fish | source; complete --do-complete 'fapilog {words}'",
    "zsh": 'autoload -U compinit; compinit -u -D; eval "$(fapilog completion zsh)"; '
    "compadd() {{ print -l -- ${{(P)@[-1]}} }}; _describe() {{ print -l -- ${{(P)3}} }}; "
    "words=(fapilog {words}); CURRENT={current}; _fapilog_completion",
}


@pytest.fixture
def with_command(tmp_path: Path) -> dict[str, str]:
    """An environment in which `fapilog` is a command."""
    script = tmp_path / "bin" / "fapilog"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{COMMAND[0]}" -c "{COMMAND[2]}" "$@"\n')
    script.chmod(0o755)
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    return environment({"PATH": path, "HOME": str(tmp_path)})


@pytest.mark.parametrize("shell", sorted(COMPLETION))
def test_a_shell_completes_commands_and_options(shell: str, with_command: dict[str, str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command, option = (
        COMPLETION[shell].format(words=" ".join(words), last=len(words), current=len(words) + 1)
        for words in (["que"], ["query", "--for"])
    )
    done = subprocess.run(
        [shell, "-c", f"{command}; {option}"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=with_command,
    )
    assert re.search(r"^query\b", done.stdout, re.MULTILINE), done
    assert re.search(r"^--format\b", done.stdout, re.MULTILINE), done


@pytest.mark.parametrize("shell", sorted(COMPLETION))
def test_each_shell_has_a_script(here: Here, shell: str) -> None:
    code, out, _ = here("completion", shell)
    assert code == 0
    assert f"_FAPILOG_COMPLETE={shell}_complete" in out


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.faults_long)],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_query_that_duckdb_is_busy_with_ends_soon(number: signal.Signals, code: int, tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    query = "select sum(sqrt(a.range * b.range)) from range(3000000) a, range(1000000) b"
    with subprocess.Popen(
        [*COMMAND, "query", query, "--path", tmp_path], stderr=subprocess.PIPE, env=environment()
    ) as process:
        _wait_until_it_works(process.pid)
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE_SECONDS + SECONDS) == code
        assert process.stderr is not None
        assert process.stderr.read() == b""


def _wait_until_it_works(pid: int) -> None:
    """Wait until the process has used more time than its start takes."""
    ticks = os.sysconf("SC_CLK_TCK")
    while True:
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]
        if int(used) > 2 * ticks:
            return
        signal.sigtimedwait([], 0.05)


def test_a_store_that_may_not_be_read_is_one_line(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("fapilog.store.verify.require_store", refuse)  # root may read everything
    assert here("verify", "--path", tmp_path) == (2, "", f"fapilog: Permission denied: {tmp_path}\n")


@pytest.mark.parametrize(
    ("redirection", "code", "said"), [(">&-", 0, ""), ("> /dev/full", 2, "No space left on device")]
)
def test_an_output_that_takes_nothing_is_no_traceback(redirection: str, code: int, said: str) -> None:
    script = f'"{COMMAND[0]}" -c "{COMMAND[2]}" completion bash {redirection}'
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=SECONDS, check=False, env=environment()
    )
    assert done.returncode == code
    assert done.stderr == (f"fapilog: {said}\n" if said else "")
