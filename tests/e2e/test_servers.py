"""One service under every server: each record has the ids of its request, and each failure one stack.

Every server is run once; the tests read what it wrote.
"""

import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import kinds
from tests.e2e.load import Ask, ask_all
from tests.programs import environment

SERVICE = "tests.e2e.kinds:app"
AT_ONCE = 1_000
AGAIN = 200
"""How many of the connections send a second request."""

WAIT_SECONDS = 0.5
GUNICORN = "gunicorn -k uvicorn_worker.UvicornWorker -w 2 --access-logfile - -b 127.0.0.1:{port}"

COMMANDS = {
    "uvicorn, h11, asyncio": "uvicorn --http h11 --loop asyncio --port {port}",
    "uvicorn, httptools, uvloop": "uvicorn --http httptools --loop uvloop --port {port}",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} --backlog 2048 --access-logfile -",
    "granian": "granian --interface asgi --port {port} --backlog 2048 --access-log",
    "gunicorn": GUNICORN,
    "gunicorn, preloaded": f"{GUNICORN} --preload",
}

KINDS = ["/async", "/sync", "/background", "/events", "/file", "/sub/async"]

BEFORE_THE_RESPONSE = [
    ("/async", "async endpoint"),
    ("/sync", "sync endpoint"),
    ("/async", "async dependency before"),
    ("/sync", "sync dependency before"),
    ("/async", "the outer middleware before"),
    ("/async", "the outer middleware after"),
    ("/sub/async", "the inner middleware before"),
    ("/sub/async", "the inner middleware after"),
    ("/sub/async", "async endpoint"),
]
AFTER_ITS_START = [
    ("/events", "stream"),
    ("/background", "background task"),
    ("/async", "async dependency after"),
    ("/sync", "sync dependency after"),
]
FAILING = BEFORE_THE_RESPONSE + AFTER_ITS_START


class Run:
    """What a server was asked, what it answered and what it wrote."""

    def __init__(self, name: str, directory: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        module, *options = COMMANDS[name].format(port=self.port).split()
        out, err = directory / "out", directory / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *options, SERVICE],
                cwd=Path(__file__).parents[2],
                env=environment(HOME=str(directory)),
                stdout=stdout,
                stderr=stderr,
            )
            try:
                self._wait_until_it_serves()
                self._ask()
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(30)
            finally:
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait(10)
        lines = out.read_bytes().splitlines()
        self.records: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith(b"{")]
        self.other_lines = [line.decode() for line in [*lines, *err.read_bytes().splitlines()] if line[:1] != b"{"]
        self.by_request: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in self.records:
            if "request_id" in record:
                self.by_request[record["request_id"]].append(record)

    def _wait_until_it_serves(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert self.process.poll() is None
            try:
                ask_all(self.port, [[Ask("/ready")]])
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the server did not start")

    def _ask(self) -> None:
        crowd = [[ask(n, f"/async?wait={WAIT_SECONDS}&n={n}")] for n in range(AT_ONCE)]
        for n in range(AGAIN):
            crowd[n].append(ask(AT_ONCE + n, f"/async?n={AT_ONCE + n}"))
        answers = ask_all(self.port, crowd)
        self.crowd = [share[0] for share in answers] + [share[1] for share in answers[:AGAIN]]
        kinds = [ask(10_000 + n, f"{path}?n={10_000 + n}") for n, path in enumerate(KINDS)]
        self.kinds = dict(zip(KINDS, ask_all(self.port, [kinds])[0], strict=True))
        failing = [
            [ask(20_000 + n, f"{path}?n={20_000 + n}&fails={where.replace(' ', '%20')}")]
            for n, (path, where) in enumerate(FAILING)
        ]
        self.failures = [share[0] for share in ask_all(self.port, failing)]
        self.refused = ask_all(self.port, [[ask(30_000, "/sync?n=30000&fails=refused")]])[0][0]


def ask(n: int, path: str) -> Ask:
    """Return a request whose ids can be told from its number."""
    return Ask(path, (f"x-request-id: r-{n}", f"traceparent: 00-{n + 1:032x}-{n + 1:016x}-01"))


@pytest.fixture(scope="module", params=COMMANDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8_192)), hard))
    yield Run(request.param, tmp_path_factory.mktemp("server"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_record_of_a_thousand_requests_at_once_has_the_ids_of_another(run: Run) -> None:
    assert Counter(answer.status for answer in run.crowd) == {200: AT_ONCE + AGAIN}
    for record in run.records:
        if "n" in record:
            n = record["n"]
            ids = (record["request_id"], record["trace_id"], record["parent_span_id"], record.get("bound", n))
            assert ids == (f"r-{n}", f"{n + 1:032x}", f"{n + 1:016x}", n), record


def test_every_record_of_a_request_is_there_once_whatever_it_was_logged_in(run: Run) -> None:
    expected = {
        *("before in the outer middleware", "after in the outer middleware", "request completed"),
        *("async dependency", "async dependency ends", "sync dependency", "sync dependency ends"),
        *("begins", "from the standard library", "in a task", "in a thread"),
    }
    for n in range(AT_ONCE + AGAIN):
        assert Counter(record["event"] for record in run.by_request[f"r-{n}"]) == Counter(expected)
        assert len({record["span_id"] for record in run.by_request[f"r-{n}"]}) == 1
    ids = [record["id"] for record in run.records]
    assert len(set(ids)) == len(ids)


def test_every_answer_carries_its_ids(run: Run) -> None:
    for n, answer in [
        *((n, answer) for n, answer in enumerate(run.crowd)),
        *((10_000 + n, answer) for n, answer in enumerate(run.kinds.values())),
        *((20_000 + n, answer) for n, answer in enumerate(run.failures)),
        (30_000, run.refused),
    ]:
        assert answer.headers["x-request-id"] == f"r-{n}"
        assert answer.headers["traceresponse"].startswith(f"00-{n + 1:032x}-")


@pytest.mark.parametrize("path", KINDS)
def test_each_kind_of_response_comes_whole_and_its_access_record_knows_its_size(run: Run, path: str) -> None:
    answer = run.kinds[path]
    assert (answer.status, answer.whole) == (200, True)
    n = 10_000 + KINDS.index(path)
    access = [record for record in run.by_request[f"r-{n}"] if record["logger"] == "fapilog.access"]
    assert [record["response_bytes"] for record in access] == [len(answer.body)]
    assert access[0]["bound"] == n
    if path == "/file":
        assert answer.body == Path(kinds.__file__).read_bytes()


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/background", {"in an async background task", "in a sync background task"}),
        ("/events", {"in a stream"}),
        ("/file", {"before a file"}),
        ("/sync", {"in a sync endpoint", "sync dependency"}),
        ("/sub/async", {"before in the inner middleware", "after in the inner middleware", "in a thread"}),
    ],
)
def test_what_is_logged_in_each_kind_has_the_ids(run: Run, path: str, events: set[str]) -> None:
    assert events <= {record["event"] for record in run.by_request[f"r-{10_000 + KINDS.index(path)}"]}


@pytest.mark.parametrize("failure", FAILING, ids=" ".join)
def test_a_failure_has_the_right_status_and_one_record_with_its_stack(run: Run, failure: tuple[str, str]) -> None:
    n = 20_000 + FAILING.index(failure)
    answer = run.failures[n - 20_000]
    assert answer.status == (500 if failure in BEFORE_THE_RESPONSE else 200)
    stacks = [record for record in run.by_request[f"r-{n}"] if "stacktrace" in record.get("exception", {})]
    assert [record["event"] for record in stacks] == ["request failed"]
    assert stacks[0]["status_code"] == answer.status
    assert stacks[0]["level"] == "error"
    assert stacks[0]["exception"]["message"] == failure[1]


def test_no_stack_is_anywhere_else(run: Run) -> None:
    stacks = [record for record in run.records if "Traceback" in json.dumps(record)]
    assert len(stacks) == len(FAILING)
    assert not [line for line in run.other_lines if "Traceback" in line or "Error" in line]


def test_a_refusal_is_no_failure(run: Run) -> None:
    assert run.refused.status == 418
    last = run.by_request["r-30000"][-1]
    assert (last["event"], last["level"], last["status_code"]) == ("request completed", "warning", 418)


def test_the_server_speaks_as_we_do_and_leaves_access_lines_to_us(run: Run) -> None:
    assert [record for record in run.records if record["logger"].startswith(("uvicorn", "_granian", "hypercorn"))]
    assert not [record for record in run.records if record["logger"].endswith(".access") and "path" not in record]
    assert not [line for line in run.other_lines if "GET /" in line]
    assert run.process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
