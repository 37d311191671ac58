import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import pytest

from fapilog.demo.server import Server

APP = """
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        print("served", os.getpid(), flush=True)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def members(group: int) -> list[int]:
    """Return the processes of a group that have not ended, as the kernel lists them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until_empty(group: int, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while members(group) and time.monotonic() < until:
        time.sleep(0.05)
    return not members(group)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 204
    except httpx.HTTPError:
        return False


def start(app_dir: Path, lines: list[bytes]) -> Server:
    return Server(
        app_dir,
        processes=2,
        environment=os.environ,
        working_directory=app_dir,
        on_line=lines.append,
        on_complaint=lambda _: None,
    )


def wait_until_it_answers(server: Server) -> None:
    until = time.monotonic() + 30
    while not answers(server.url):
        assert server.alive, list(server.complaints)
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_stopped_server_has_served_and_leaves_no_process(app_dir: Path) -> None:
    lines: list[bytes] = []
    with start(app_dir, lines) as server:
        wait_until_it_answers(server)
        assert len(members(server.pid)) >= 3
        assert server.stop()
    assert lines
    assert not members(server.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_leaving_the_block_without_stopping_leaves_no_process(app_dir: Path) -> None:
    with start(app_dir, []) as server:
        wait_until_it_answers(server)
    assert not members(server.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_server_ends_when_the_process_that_started_it_is_killed(app_dir: Path) -> None:
    script = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from fapilog.demo.server import Server

        here = Path(sys.argv[1])
        with Server(here, processes=2, environment=os.environ, working_directory=here,
                    on_line=lambda _: None, on_complaint=lambda _: None) as server:
            print(server.pid, server.url, flush=True)
            time.sleep(60)
    """)
    command = [sys.executable, "-c", script, str(app_dir)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        watchdog = threading.Timer(60, starter.kill)
        watchdog.start()
        group, url = starter.stdout.readline().split()
        until = time.monotonic() + 30
        while not answers(url) and time.monotonic() < until:
            time.sleep(0.05)
        assert members(int(group))
        starter.send_signal(signal.SIGKILL)
        watchdog.cancel()
    assert wait_until_empty(int(group))
