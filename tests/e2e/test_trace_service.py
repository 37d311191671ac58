"""What a real uvicorn with a real client makes of trace headers, on the wire.

The rules one by one are in tests/test_trace.py; here is what a server's parser might change about them.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TRACE_ID = "12345678901234567890123456789012"
HEADER = f"00-{TRACE_ID}-1234567890123456-01"

Headers = list[tuple[str, str]]


class Harness:
    """The trace service in a process of its own, and the others whom it calls."""

    def __init__(self, parser: str) -> None:
        self.heard: list[Headers] = []
        heard = self.heard

        class Other(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append([(name.lower(), value) for name, value in self.headers.items()])
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        self._others = ThreadingHTTPServer(("127.0.0.1", 0), Other)
        self._thread = threading.Thread(target=self._others.serve_forever, args=(0.01,))
        self._thread.start()
        # The socket listens before the server runs, so that nobody has to wait for it or lose the port to another.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._port = listening.getsockname()[1]
            fd = listening.fileno()
            command = [sys.executable, "-m", "uvicorn", "tests.e2e.trace_service:app", "--http", parser]
            self._service = subprocess.Popen(
                [*command, "--fd", str(fd)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=[fd],
                stdout=subprocess.PIPE,
            )

    def ask(self, headers: Headers, calls: int = 1) -> list[Headers]:
        """Have the service called with these headers; return those it called others with."""
        self.heard.clear()
        other = f"http://127.0.0.1:{self._others.server_port}/"
        body = json.dumps([{"url": other, "arguments": []}] * calls).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.putrequest("POST", "/test")
        for name, value in [*headers, ("content-length", str(len(body)))]:
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert json.loads(response.read()) == {"called": calls}
        connection.close()
        return list(self.heard)

    def close(self) -> list[dict[str, Any]]:
        """End the service and return what it logged."""
        if self._service.poll() is None:
            self._service.send_signal(signal.SIGTERM)
        lines, _ = self._service.communicate(timeout=30)
        self._others.shutdown()
        self._thread.join(10)
        self._others.server_close()
        return [json.loads(line) for line in lines.splitlines()]


@pytest.fixture(scope="module", params=["h11", "httptools"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    running = Harness(request.param)
    yield running
    running.close()


def values(headers: Headers, name: str) -> list[str]:
    return [value for each, value in headers if each == name]


def test_every_call_continues_the_trace_with_one_header_and_a_parent_of_its_own(harness: Harness) -> None:
    sent = [values(headers, "traceparent") for headers in harness.ask([("TraceParent", HEADER)], calls=3)]
    assert [len(each) for each in sent] == [1, 1, 1]
    assert {value[:36] for (value,) in sent} == {HEADER[:36]}
    assert {value[-2:] for (value,) in sent} == {"01"}
    assert len({value for (value,) in sent} | {HEADER}) == 4


def test_two_traceparents_restart_the_trace(harness: Harness) -> None:
    (sent,) = harness.ask([("traceparent", HEADER), ("traceparent", HEADER.replace("9012-", "9011-"))])
    (traceparent,) = values(sent, "traceparent")
    assert not traceparent.startswith("00-123456789012345678901234567890")


def test_several_tracestates_arrive_as_one_in_their_order(harness: Harness) -> None:
    states = [("tracestate", "foo=1,bar=2"), ("TraceState", ""), ("tracestate", " rojo=1\t"), ("tracestate", "baz=3")]
    (sent,) = harness.ask([states[0], ("traceparent", HEADER), *states[1:]])
    assert values(sent, "tracestate") == ["foo=1,bar=2,rojo=1,baz=3"]


def test_a_tracestate_with_a_bad_member_is_not_sent_on(harness: Harness) -> None:
    (sent,) = harness.ask([("traceparent", HEADER), ("tracestate", "foo=1"), ("tracestate", "@bar=2")])
    assert values(sent, "tracestate") == []
    assert values(sent, "traceparent")[0].startswith(HEADER[:36])


def test_a_header_of_another_alphabet_restarts_the_trace(harness: Harness) -> None:
    (sent,) = harness.ask([("traceparent", HEADER + "\xe9"), ("tracestate", "foo=\xe9")])
    assert TRACE_ID not in values(sent, "traceparent")[0]
    assert values(sent, "tracestate") == []


def test_white_space_around_a_traceparent_does_not_matter(harness: Harness) -> None:
    (sent,) = harness.ask([("traceparent", f"\t {HEADER} \t")])
    assert values(sent, "traceparent")[0].startswith(HEADER[:36])


def test_every_call_is_on_record_under_the_ids_that_were_sent_as_a_child_of_its_request() -> None:
    harness = Harness("h11")
    try:
        sent = [values(headers, "traceparent")[0] for headers in harness.ask([("traceparent", HEADER)], calls=2)]
    finally:
        records = harness.close()
    calls = [record for record in records if record["logger"] == "fapilog.calls"]
    (access,) = [record for record in records if record["logger"] == "fapilog.access"]
    assert [f"00-{call['trace_id']}-{call['span_id']}-{call['trace_flags']}" for call in calls] == sent
    assert {call["parent_span_id"] for call in calls} == {access["span_id"]}
    assert access["parent_span_id"] == "1234567890123456"
