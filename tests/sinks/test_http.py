import asyncio
import base64
import dataclasses
import gzip
import hashlib
import hmac
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fapilog import configure_logging, log
from fapilog.errors import BatchRejectedError, BatchTooLargeError, ConfigurationError, MisconfiguredError
from fapilog.plugins import build_sink, parse_sink
from fapilog.sinks.http import HttpSink
from fapilog.testing import FarEnd, NetworkSinkContract, answer, make_batch
from fapilog.types import Batch, Sink
from tests.receiver import Receiver


class TestHttpSink(NetworkSinkContract):
    @pytest.fixture(autouse=True)
    def _serve(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def make_sink(self, tmp_path: Path) -> Sink:
        return HttpSink(endpoint=self.receiver.url())

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        return self.receiver.lines()

    def make_network_sink(self, endpoint: str, *, secret: str, timeout_seconds: float) -> Sink:
        return HttpSink(
            endpoint=endpoint.replace("http://", f"http://someone:{secret}@") + f"?key={secret}",
            hmac_secret=SecretStr(secret),
            headers={"X-Key": SecretStr(secret)},
            timeout_seconds=timeout_seconds,
        )


def sent(far_end: FarEnd, batch: Batch | None = None, **options: Any) -> tuple[dict[str, str], bytes]:
    """Write to *far_end* and return the headers, by name in lower case, and the body it got."""
    options.setdefault("endpoint", far_end.url)
    write(build_sink(parse_sink("http"), options), batch or make_batch("one", "two"))
    head, body = far_end.requests[-1]
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}, body


def write(sink: Any, *batches: Batch) -> None:
    async def run() -> None:
        try:
            for batch in batches:
                await sink.write(batch)
        finally:
            await sink.close()

    asyncio.run(run())


def test_a_body_is_json_lines_compressed_unless_told_otherwise() -> None:
    batch = make_batch("one", "two")
    with FarEnd() as far_end:
        headers, body = sent(far_end, batch)
        assert headers["content-type"] == "application/x-ndjson"
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == batch.payload
        headers, body = sent(far_end, batch, compression="none")
        assert "content-encoding" not in headers
        assert body == batch.payload


def test_an_array_is_one_json_document() -> None:
    batch = make_batch("one", "two")
    with FarEnd() as far_end:
        headers, body = sent(far_end, batch, format="array", compression="none")
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == [json.loads(line) for line in batch.lines]


def test_records_may_have_the_names_of_another_system() -> None:
    batch = make_batch("one", "two")
    with FarEnd() as far_end:
        headers, body = sent(far_end, batch, compression="none", format="array", record_format="datadog")
        assert headers["content-type"] == "application/json"
        assert [record["message"] for record in json.loads(body)] == ["one", "two"]
        same, body = sent(far_end, batch, compression="none", record_format="csv")
        assert same["content-type"] == "text/csv; charset=utf-8"
        assert body.startswith(b"timestamp,level,event,")
        assert same["idempotency-key"] == headers["idempotency-key"] == hashlib.sha256(batch.payload).hexdigest()


def test_the_idempotency_key_is_the_hash_of_the_lines_however_they_are_sent() -> None:
    batch = make_batch("one", "two")
    with FarEnd() as far_end:
        keys = {
            sent(far_end, batch, format=format, compression=compression)[0]["idempotency-key"]
            for format in ("jsonl", "array")  # noqa: A001 - the option's name
            for compression in ("gzip", "none")
        }
        assert keys == {hashlib.sha256(batch.payload).hexdigest()}
        assert sent(far_end, make_batch("other"))[0]["idempotency-key"] not in keys


def test_it_authenticates_as_it_is_told() -> None:
    with FarEnd() as far_end:
        basic = "Basic " + base64.b64encode(b"ann:pass word").decode()
        assert sent(far_end, username="ann", password="pass word")[0]["authorization"] == basic
        in_url = far_end.url.replace("//", "//ann:pass%20word@")
        assert sent(far_end, endpoint=in_url)[0]["authorization"] == basic
        assert sent(far_end, token="abc")[0]["authorization"] == "Bearer abc"
        assert sent(far_end, api_key="abc")[0]["x-api-key"] == "abc"
        assert sent(far_end, api_key="abc", api_key_header="DD-API-KEY")[0]["dd-api-key"] == "abc"
        assert sent(far_end, headers={"Authorization": "Custom abc"})[0]["authorization"] == "Custom abc"
        assert "authorization" not in sent(far_end)[0]


def test_two_ways_to_authenticate_are_refused() -> None:
    for options in ({"token": "a", "username": "b"}, {"token": "a", "api_key": "b"}, {"endpoint": "http://a:b@h/"}):
        with pytest.raises(ConfigurationError, match=r"more than one way to authenticate|both in the endpoint"):
            build_sink(parse_sink("http"), {"endpoint": "http://h/", "username": "c", **options})


def test_a_body_is_signed_as_it_is_sent() -> None:
    with FarEnd() as far_end:
        headers, body = sent(far_end, hmac_secret="key")
        assert headers["x-signature"] == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()
        assert "x-hub" in sent(far_end, hmac_secret="key", hmac_header="X-Hub")[0]


def test_headers_of_the_options_are_sent_and_win_over_ours() -> None:
    with FarEnd() as far_end:
        headers, _ = sent(far_end, headers={"X-Team": "shop", "user-agent": "shop/1", "Content-Type": "text/plain"})
    assert (headers["x-team"], headers["user-agent"], headers["content-type"]) == ("shop", "shop/1", "text/plain")


def test_headers_of_a_variable_are_json() -> None:
    with FarEnd() as far_end:
        assert sent(far_end, headers='{"X-Team": "shop"}')[0]["x-team"] == "shop"
    with pytest.raises(ConfigurationError, match="not JSON"):
        build_sink(parse_sink("http"), {"endpoint": "http://h/", "headers": "X-Team: shop"})


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X-Bad": "a\r\nX-Injected: b"}},
        {"headers": {"X-Bad": "a\nb"}},
        {"headers": {"X-Bad": "a\0b"}},
        {"headers": {"X-Bad": "kůň"}},
        {"headers": {"X Bad": "a"}},
        {"headers": {"X-Bad:": "a"}},
        {"headers": {"Host": "elsewhere"}},
        {"headers": {"content-length": "5"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"token": "abc\r\nX-Injected: b"},
        {"api_key": "abc\n"},
        {"api_key": "abc", "api_key_header": "X: y\r\nZ"},
        {"hmac_secret": "abc", "hmac_header": ""},
    ],
)
def test_nothing_can_be_injected_into_the_headers(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        build_sink(parse_sink("http"), {"endpoint": "http://h/", **options})
    assert "abc" not in str(raised.value)
    assert "Injected" not in str(raised.value)


def test_it_can_put() -> None:
    with FarEnd() as far_end:
        sent(far_end, method="PUT")
        assert far_end.requests[-1][0].startswith(b"PUT /logs HTTP/1.1\r\n")


def test_what_counts_as_success_can_be_said() -> None:
    with FarEnd() as far_end:
        far_end.say(answer(202))
        sent(far_end, success_status=[200, 202])
        sent(far_end, success_status="200,202")
        far_end.say(answer(200, b"<html>please log in</html>"))
        with pytest.raises(MisconfiguredError) as raised:
            sent(far_end, success_status=[204])
        assert raised.value.ambiguous
        far_end.say(answer(409))
        sent(far_end, success_status=[200, 409])


def test_a_record_that_is_refused_refuses_its_batch(receiver: Receiver) -> None:
    receiver.behave({"do": "reject", "marker": "poison"})
    sink = HttpSink(endpoint=receiver.url())
    with pytest.raises(BatchRejectedError) as raised:
        write(sink, make_batch("good", "poison"))
    assert raised.value.rejected is None
    write(sink, make_batch("good"))
    assert len(receiver.lines()) == 1


def test_a_half_of_what_is_too_large_is_accepted(receiver: Receiver) -> None:
    batch = make_batch("one", "two")
    receiver.behave({"do": "limit", "bytes": batch.size_bytes - 1})
    with pytest.raises(BatchTooLargeError):
        write(HttpSink(endpoint=receiver.url()), batch)
    write(HttpSink(endpoint=receiver.url()), batch[:1], batch[1:])
    assert receiver.lines() == batch.lines


def test_the_connection_is_kept(receiver: Receiver) -> None:
    write(HttpSink(endpoint=receiver.url()), *[make_batch(str(number)) for number in range(10)])
    found = receiver.report()
    assert (found["connections"], len(found["requests"])) == (1, 10)


def test_a_uri_names_it_with_its_scheme() -> None:
    for scheme in ("http", "https"):
        spec = parse_sink(
            f"{scheme}://ann:hunter2@h.example:8443/a%2Fb?compression=none&headers.X-Team=shop&level=info"
        )
        assert (spec.type, spec.name) == ("http", "http")
        options = {name: value for name, value in spec.options.items() if name != "level"}
        sink = build_sink(spec, options)
        assert isinstance(sink, HttpSink)
        assert sink.destination == f"{scheme}://h.example:8443/a%2Fb"
        assert (sink.username, sink.compression, list(sink.headers)) == (SecretStr("ann"), "none", ["X-Team"])


def test_the_destination_always_has_a_port_and_never_a_secret() -> None:
    sink = HttpSink(endpoint="https://ann:hunter2@h.example/a?token=hunter2")
    assert sink.destination == "https://h.example:443/a"
    assert sink.endpoint == "https://h.example/a"
    assert "hunter2" not in repr(sink)
    assert dataclasses.replace(sink) == sink


def test_records_of_a_service_arrive_with_their_ids(receiver: Receiver) -> None:
    with configure_logging(sinks=[receiver.url() + "?linger_seconds=0.01"], access_log=False) as handle:
        for number in range(100):
            log.info("order", number=number)
        assert handle.flush(10).ok
        instance = handle.stats().instance
    found = receiver.report()
    assert found["order"] == [f"{instance}-{number}" for number in range(1, 101)]
    assert set(found["records"][instance].values()) == {1}


def test_a_forked_child_sends_over_a_connection_of_its_own(receiver: Receiver) -> None:
    with configure_logging(sinks=[receiver.url()], access_log=False) as handle:
        log.info("parent")
        handle.flush(10)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                log.info("child")
                from fapilog import runtime

                assert runtime._state.runtime is not None
                status = 0 if runtime._state.runtime.worker.flush(10).ok else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        log.info("parent again")
        handle.flush(10)
    found = receiver.report()
    assert [json.loads(line)["event"] for line in receiver.lines()] == ["parent", "child", "parent again"]
    assert found["connections"] == 2


SCRIPT = """
import sys
from fapilog import configure_logging, log

configure_logging(sinks=[sys.argv[1]], access_log=False)
for number in range(int(sys.argv[2])):
    log.info("order", number=number)
"""


@pytest.mark.parametrize("count", [1, 20_000])
def test_a_script_that_ends_at_once_delivers_everything_to_a_host_it_has_to_look_up(
    receiver: Receiver, count: int
) -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, receiver.url(), str(count)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [int(found.rpartition("-")[2]) for found in receiver.report()["order"]] == list(range(1, count + 1))


def test_importing_fapilog_and_naming_a_sink_load_no_client() -> None:
    code = (
        "import sys, fapilog; from fapilog.plugins import parse_sink; parse_sink('http://h/');"
        "print(sorted({'httpx', 'httpcore', 'h11', 'anyio'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "http" not in ended.stdout
