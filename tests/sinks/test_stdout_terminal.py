"""What a person sees: a program in a terminal of its own, read by what holds the other end of it."""

import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from fcntl import ioctl

import pytest

from fapilog.formats.screen import columns
from tests.programs import TIMEOUT_SECONDS, command, environment, parse_all

ANSI = re.compile(rb"\x1b\[[0-9;]*m")
COLOURS = ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
RECORDS = """
    import fapilog

    fapilog.configure_logging(sinks=["stdout"])
    log = fapilog.get_logger("shop")
    log.info("order placed", order_id=7, note="word " * 40, basket={"items": [{"sku": "tea"}] * 9})
    log.info("hostile \\x1b[2J\\u202e", field="a\\r\\n08:00:00.123 info     forged")
    def place():
        raise ValueError("no tea\\n08:00:00.123 info     forged")
    try:
        place()
    except ValueError:
        log.exception("failed")
"""


class Terminal:
    """Runs programs in a terminal of so many columns."""

    def run(self, source: str, width: int = 100, /, **variables: str) -> bytes:
        """Return what a program wrote to the terminal, with the line breaks that it wrote."""
        master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # so that a line break is not made two characters
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        env = environment(TERM="xterm-256color", **variables)
        for name in COLOURS:
            if name not in variables:
                env.pop(name, None)
        with subprocess.Popen(command(source), env=env, stdin=slave, stdout=slave, stderr=subprocess.PIPE) as program:
            os.close(slave)
            shown = b"".join(self._read(master))
            assert program.stderr is not None
            assert (program.stderr.read(), program.wait(TIMEOUT_SECONDS)) == (b"", 0)
        os.close(master)
        return shown

    @staticmethod
    def _read(master: int) -> Iterator[bytes]:
        while True:
            try:
                read = os.read(master, 65_536)
            except OSError:  # Linux says that the other end was closed
                return
            if not read:
                return
            yield read


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def lines_of(shown: bytes) -> list[str]:
    """Return the lines that a person sees, and see that no more than colours steers the terminal."""
    text = ANSI.sub(b"", shown).decode()
    assert not set(text) & {chr(code) for code in [*range(10), *range(11, 32), 127, *range(128, 160), 0x202E, 0x2028]}
    return text.splitlines()


def test_a_terminal_gets_pretty_lines_in_colour_that_fit_its_window(terminal: Terminal) -> None:
    shown = terminal.run(RECORDS, 90)
    assert b"\x1b[1morder placed\x1b[0m" in shown
    lines = lines_of(shown)
    assert max(map(columns, lines)) <= 90
    assert len(lines) > 15
    beginnings = [line for line in lines if not line.startswith("    ")]
    assert [re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} (info|error)    ? .*", line) is not None for line in beginnings] == [
        True
    ] * 3
    assert "hostile \\x1b[2J\\u202e" in beginnings[1]
    assert 'field="a\\x0d\\x0a08:00:00.123 info     forged"' in "\n".join(lines)
    assert any(line.startswith("    ╭──") for line in lines)
    assert lines[-2:] == ["    ValueError: no tea", "    08:00:00.123 info     forged"]


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({"NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
    ],
)
def test_no_color_and_force_color_are_followed(variables: dict[str, str], coloured: bool, terminal: Terminal) -> None:
    shown = terminal.run(RECORDS, 100, **variables)
    assert (b"\x1b[" in shown) is coloured
    assert max(map(columns, lines_of(shown))) <= 100


def test_columns_wins_over_the_window_and_an_option_over_both(terminal: Terminal) -> None:
    by_variable = max(map(columns, lines_of(terminal.run(RECORDS, COLUMNS="70"))))
    by_option = max(map(columns, lines_of(terminal.run(RECORDS, COLUMNS="70", FAPILOG_STDOUT__WIDTH="50"))))
    assert 60 < by_variable <= 70
    assert 40 < by_option <= 50


def test_json_in_a_terminal_is_json(terminal: Terminal) -> None:
    records = parse_all(terminal.run(RECORDS, FAPILOG_STDOUT__FORMAT="json"))
    assert [record["event"] for record in records] == ["order placed", "hostile \x1b[2J\u202e", "failed"]


def on_a_pipe(**variables: str) -> bytes:
    env = environment(**variables)
    for name in COLOURS:
        if name not in variables:
            env.pop(name, None)
    done = subprocess.run(command(RECORDS), env=env, capture_output=True, timeout=TIMEOUT_SECONDS, check=True)
    assert done.stderr == b""
    return done.stdout


def test_a_pipe_gets_json_and_pretty_if_asked_without_colour_or_a_width() -> None:
    assert len(parse_all(on_a_pipe())) == 3
    lines = lines_of(shown := on_a_pipe(FAPILOG_STDOUT__FORMAT="pretty", COLUMNS="60"))
    assert b"\x1b[" not in shown
    assert [line.startswith("    ") for line in lines] == [False, False, False] + [True] * (len(lines) - 3)
    assert len(lines[0]) > 300
    assert lines[3] == "    Traceback (most recent call last):"


def test_a_pipe_gets_colours_where_they_are_forced_and_lines_of_a_width_that_is_asked_for() -> None:
    pretty = {"FAPILOG_STDOUT__FORMAT": "pretty"}
    assert b"\x1b[" in on_a_pipe(FORCE_COLOR="1", **pretty)
    assert len(lines_of(on_a_pipe(FORCE_COLOR="1", **pretty))[0]) > 300
    shown = on_a_pipe(FAPILOG_STDOUT__WIDTH="60", **pretty)
    assert max(map(columns, lines_of(shown))) <= 60


@pytest.mark.parametrize("width", ["39", "0", "-1", "wide"])
def test_a_width_that_is_none_is_refused(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fapilog import configure_logging
    from fapilog.errors import ConfigurationError

    monkeypatch.setenv("FAPILOG_STDOUT__WIDTH", width)
    with pytest.raises(ConfigurationError, match="sink 'stdout': option 'width': input should be"):
        configure_logging(sinks=["stdout"])


def test_a_request_is_one_line(terminal: Terminal) -> None:
    source = """
        import asyncio
        import fapilog
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        async def order(request):
            return PlainTextResponse("tea")

        app = Starlette(routes=[Route("/orders/{order_id}", order)])
        fapilog.configure_logging(app, sinks=["stdout"])

        async def main():
            import httpx
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
                await client.get("/orders/7?full=1")

        asyncio.run(main())
    """
    lines = lines_of(terminal.run(source, 150))
    (request,) = [line for line in lines if "GET" in line]
    assert re.search(
        r" info     GET /orders/7\?full=1 200 \d+\.\d ms +response_bytes=3 client_ip=127\.0\.0\.1 trace_id=\w{32}",
        request,
    )
