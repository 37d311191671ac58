"""A real service under a real uvicorn: every record on stdout and in the store, once."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fapilog.store import LogStore
from tests.e2e.load import get_all

ROOT = Path(__file__).parents[2]


class Server:
    """A uvicorn with workers, and everything it wrote."""

    def __init__(self, directory: Path, workers: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.store = directory / "logs"
        self.workers = workers
        command = [sys.executable, "-m", "uvicorn", "tests.e2e.service:app", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--workers", str(workers)] if workers > 1 else command,
            cwd=ROOT,
            env={**os.environ, "FAPILOG_DUCKDB__PATH": str(self.store)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[bytes] = []
        self.errors = b""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self.lines.extend, args=(self.process.stdout,)),
            threading.Thread(target=self._read_errors, args=(self.process.stderr,)),
        ]
        for reader in self._readers:
            reader.start()

    def _read_errors(self, stream: Any) -> None:
        self.errors = stream.read()

    def wait_until_every_worker_serves(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if sum(b"Application startup complete." in line for line in self.lines[:]) == self.workers:
                return
            assert self.process.poll() is None, self.errors
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            for reader, pipe in zip(self._readers, (self.process.stdout, self.process.stderr), strict=True):
                reader.join(10)
                if pipe is not None:
                    pipe.close()
        return self.process.returncode

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@contextmanager
def serving(directory: Path, workers: int) -> Iterator[Server]:
    server = Server(directory, workers)
    try:
        server.wait_until_every_worker_serves()
        yield server
    finally:
        server.stop()


def test_three_workers_log_every_request_to_stdout_and_the_store_once(tmp_path: Path) -> None:
    requests = 6_000
    with serving(tmp_path, workers=3) as server:
        statuses = get_all(server.port, [f"/orders/{number}" for number in range(requests)], connections=24)
        seen_while_running = LogStore(server.store).sql("SELECT count(*) FROM logs").fetchall()
    assert statuses == [200] * requests

    records = server.records
    ids = [record["id"] for record in records]
    assert len(ids) == len(set(ids)), "a record is on stdout twice"
    numbers = defaultdict(set)
    for instance, _, number in (id_.partition("-") for id_ in ids):
        numbers[instance].add(int(number))
    assert all(seen == set(range(1, len(seen) + 1)) for seen in numbers.values()), "a record is missing"

    by_request = defaultdict(list)
    for record in records:
        if record["logger"] in ("service", "fapilog.access"):
            by_request[record["trace_id"]].append((record["number"], record["event"]))
    assert len(by_request) == requests
    for own in by_request.values():
        assert {number for number, _ in own} == {own[0][0]}, "a record carries another request's field"
        assert [event for _, event in own] == ["order read", "stock is low", "request completed"]

    stored = LogStore(server.store).sql("SELECT id FROM logs").fetchall()
    assert sorted(id_ for (id_,) in stored) == sorted(ids)
    assert 0 < seen_while_running[0][0] <= len(ids)
    pids = LogStore(server.store).sql("SELECT count(DISTINCT pid) FROM logs WHERE logger = 'service'").fetchall()
    assert pids == [(3,)]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_servers_own_records_come_out_as_ours_to_its_last_word(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, workers) as server:
        assert get_all(server.port, ["/orders/1", "/fails"], connections=1) == [200, 500]
    records = server.records
    events = [record["event"] for record in records if record["logger"].startswith("uvicorn")]
    assert "Application startup complete." in events
    assert any(event.startswith("Finished server process") for event in events)
    assert not [record for record in records if record["logger"] == "uvicorn.access"]
    failed = next(record for record in records if record["event"] == "request failed")
    assert failed["status_code"] == 500
    assert failed["exception"]["type"] == "RuntimeError"
    told = next(record for record in records if record["event"].startswith("Exception in ASGI application"))
    assert told["trace_id"] == failed["trace_id"]


def test_a_single_process_dies_by_the_signal_it_was_sent(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as server:
        get_all(server.port, ["/orders/1"], connections=1)
        assert server.stop() in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert b"Traceback" not in server.errors
