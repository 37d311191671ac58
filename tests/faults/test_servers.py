"""Servers that are told to end: every record of every process has arrived. F005, F006, F008."""

import contextlib
import http.client
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.faults.driver import Program, at, check_books, in_file, whole
from tests.receiver import Receiver

UVICORN = ["uvicorn", "tests.faults.service:app"]
GUNICORN = ["gunicorn", "tests.faults.service:app", "--worker-class", "uvicorn_worker.UvicornWorker", "--workers", "2"]
SYNC = ["gunicorn", "tests.faults.service:wsgi", "--workers", "2", "--timeout", "2"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def serving(directory: Path, receiver: Receiver, port: int, *command: str, **variables: str) -> Program:
    bind = ["--port", str(port)] if command[0] == "uvicorn" else ["--bind", f"127.0.0.1:{port}"]
    return Program(
        "",
        command=[sys.executable, "-m", *command, *bind],
        DIRECTORY=str(directory),
        ENDPOINT=receiver.url(),
        **variables,
    )


def get(port: int, path: str, status: int = 200) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        assert connection.getresponse().status == status
    finally:
        connection.close()


def everything_arrived(program: Program, directory: Path, receiver: Receiver) -> dict[str, int]:
    """What a process had told of is there, its numbers have no gap, and both places have the same."""
    counts = whole(in_file(directory))
    assert in_file(directory) == at(receiver)
    for told in program.all("logged"):
        assert counts[told["instance"]] >= told["accepted"]
    check_books(program)
    assert b"fapilog:" not in program.errors, program.errors
    return counts


def test_uvicorn_ended_by_sigterm_has_delivered_all_to_its_own_last_line(tmp_path: Path, receiver: Receiver) -> None:
    port = free_port()
    with serving(tmp_path, receiver, port, *UVICORN) as server:
        server.wait_for("up")
        wait_until_open(port)
        get(port, "/log/5000")
        server.signal(signal.SIGTERM)
        server.end(-signal.SIGTERM)
        everything_arrived(server, tmp_path, receiver)
    lines = receiver.lines()
    assert any(b'"event":"going down"' in line for line in lines)
    assert any(b"Finished server process" in line for line in lines)


def test_each_worker_of_uvicorn_ended_by_sigterm_has_delivered_all(tmp_path: Path, receiver: Receiver) -> None:
    port = free_port()
    with serving(tmp_path, receiver, port, *UVICORN, "--workers", "2") as server:
        server.wait_for("up", 2)
        wait_until_open(port)
        for _ in range(10):
            get(port, "/log/500")
        server.signal(signal.SIGTERM)
        server.end(None)
        everything_arrived(server, tmp_path, receiver)
    assert sum(b'"event":"going down"' in line for line in receiver.lines()) == 2


@pytest.mark.parametrize("preload", [pytest.param(False, marks=pytest.mark.faults_long), True])
def test_each_uvicorn_worker_of_gunicorn_has_delivered_all(
    tmp_path: Path, receiver: Receiver, *, preload: bool
) -> None:
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn_worker")
    port = free_port()
    more = {"LOG_BEFORE_FORK": "1"} if preload else {}
    with serving(tmp_path, receiver, port, *GUNICORN, *(["--preload"] if preload else []), **more) as server:
        server.wait_for("up", 2)
        wait_until_open(port)
        for _ in range(10):
            get(port, "/log/500")
        server.signal(signal.SIGTERM)
        server.end()
        counts = everything_arrived(server, tmp_path, receiver)
    for master in server.all("master"):
        assert counts[master["instance"]] >= 1
        assert master["instance"] not in {told["instance"] for told in server.all("logged")}


@pytest.mark.parametrize("preload", [False, pytest.param(True, marks=pytest.mark.faults_long)])
def test_each_sync_worker_of_gunicorn_has_delivered_all(tmp_path: Path, receiver: Receiver, *, preload: bool) -> None:
    pytest.importorskip("gunicorn")
    port = free_port()
    more = {"LOG_BEFORE_FORK": "1"} if preload else {}
    with serving(tmp_path, receiver, port, *SYNC, *(["--preload"] if preload else []), **more) as server:
        wait_until_open(port)
        for _ in range(5):
            get(port, "/")
        server.signal(signal.SIGTERM)
        server.end()
        everything_arrived(server, tmp_path, receiver)


@pytest.mark.faults_long
def test_a_worker_that_gunicorn_aborts_for_hanging_has_delivered_all(tmp_path: Path, receiver: Receiver) -> None:
    pytest.importorskip("gunicorn")
    port = free_port()
    with serving(tmp_path, receiver, port, *SYNC) as server:
        wait_until_open(port)
        with contextlib.suppress(http.client.HTTPException, OSError):
            get(port, "/hang", status=500)
        server.signal(signal.SIGTERM)
        server.end()
        assert b"WORKER TIMEOUT" in server.errors
        everything_arrived(server, tmp_path, receiver)


def wait_until_open(port: int) -> None:
    for _ in range(400):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")
