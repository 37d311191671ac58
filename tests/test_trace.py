import asyncio
import contextvars
import os
import re
import sys
import threading
from collections import Counter
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import TraceState

from fapilog import LoggingMiddleware, bind_request, get_trace_id, log
from fapilog.context import OURSELVES, current_request
from fapilog.testing import capture
from fapilog.trace import (
    MAX_STATE_LENGTH,
    RANDOM,
    SAMPLED,
    SDK,
    TraceParent,
    active_span,
    inject,
    new_ids,
    parse_tracestate,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
HEADER = f"00-{TRACE_ID}-{SPAN_ID}-01"


def hex_ids(digits: int) -> st.SearchStrategy[str]:
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


@given(trace_id=hex_ids(32), span_id=hex_ids(16), flags=st.integers(0, SAMPLED | RANDOM))
def test_what_is_formatted_is_parsed_back(trace_id: str, span_id: str, flags: int) -> None:
    parent = TraceParent(trace_id, span_id, flags)
    assert TraceParent.parse(parent.format()) == parent


@given(st.text(max_size=300))
def test_no_text_whatever_makes_the_parser_raise(header: str) -> None:
    parsed = TraceParent.parse(header)
    assert parsed is None or TraceParent.parse(parsed.format()) == parsed


def test_a_header_is_read_into_its_parts() -> None:
    assert TraceParent.parse(HEADER) == TraceParent(TRACE_ID, SPAN_ID, SAMPLED)


@pytest.mark.parametrize(
    "header",
    [
        "",
        HEADER.upper(),
        HEADER[:-1],
        HEADER + "0",
        HEADER + "-",
        HEADER + "-what-comes-later",
        " " + HEADER,
        HEADER + "\n",
        "ff" + HEADER[2:],
        "ff" + HEADER[2:] + "-more",
        "0" + HEADER,
        "0x" + HEADER[2:],
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}٣-{SPAN_ID}-01",
        f"00_{TRACE_ID}_{SPAN_ID}_01",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID}-{SPAN_ID}-0X",
        "cc" + HEADER[2:] + ".what-comes-later",
        "cc" + HEADER[2:] + "0",
        "cc" + HEADER[2:] + "-" + "x" * 1_000_000,
    ],
)
def test_what_the_recommendation_says_to_ignore_is_ignored(header: str) -> None:
    assert TraceParent.parse(header) is None


@pytest.mark.parametrize("more", ["", "-", "-what-comes-later", "-a\nb"])
def test_a_later_version_is_read_as_far_as_this_one_goes(more: str) -> None:
    assert TraceParent.parse("cc" + HEADER[2:] + more) == TraceParent(TRACE_ID, SPAN_ID, SAMPLED)


def test_flags_nobody_has_defined_are_not_passed_on() -> None:
    parsed = TraceParent.parse(HEADER[:-2] + "fd")
    assert parsed is not None
    assert parsed.format() == HEADER


def test_a_child_is_a_new_span_of_the_same_trace() -> None:
    parent = TraceParent(TRACE_ID, SPAN_ID, SAMPLED)
    child = parent.child()
    assert (child.trace_id, child.flags) == (TRACE_ID, SAMPLED)
    assert child.span_id != SPAN_ID
    assert TraceParent.parse(child.format()) == child


def test_a_trace_that_begins_here_says_that_its_id_is_random() -> None:
    started = TraceParent.start()
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-02", started.format())


def test_a_value_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        TraceParent.start().flags = 0  # type: ignore[misc]


def test_no_id_is_given_out_twice_in_many_threads() -> None:
    drawn: list[tuple[str, str]] = []
    ready = threading.Barrier(8)

    def draw() -> None:
        ready.wait(10)
        drawn.extend([new_ids() for _ in range(2_000)])

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({trace_id for trace_id, _ in drawn}) == len({span_id for _, span_id in drawn}) == 16_000


def test_an_id_of_zeros_is_never_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    while new_ids() and _ids_left():
        pass
    blocks = [bytes(1_920), b"\x01" * 24 + bytes(1_896)]
    monkeypatch.setattr(os, "urandom", lambda _size: blocks.pop(0))
    assert new_ids() == ("01" * 16, "01" * 8)
    assert blocks == []


def _ids_left() -> int:
    from fapilog import trace

    return len(trace._ids)


def test_a_forked_child_draws_ids_of_its_own() -> None:
    new_ids()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, "".join(new_ids()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 100).decode() != "".join(new_ids())
    os.close(reader)
    os.close(writer)


@pytest.fixture
def _opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a provider, as every program with spans has."""
    monkeypatch.setattr(otel, "_TRACER_PROVIDER", otel.NoOpTracerProvider())


@pytest.mark.usefixtures("_opentelemetry")
def test_an_active_span_of_opentelemetry_is_found() -> None:
    context = otel.SpanContext(int(TRACE_ID, 16), int(SPAN_ID, 16), is_remote=False, trace_flags=otel.TraceFlags(1))
    with otel.use_span(otel.NonRecordingSpan(context)):
        assert active_span() == (TraceParent(TRACE_ID, SPAN_ID, SAMPLED), None)
    assert active_span() is None


@pytest.mark.usefixtures("_opentelemetry")
def test_a_span_of_opentelemetry_without_ids_is_none() -> None:
    with otel.use_span(otel.NonRecordingSpan(otel.SpanContext(0, 0, is_remote=False))):
        assert active_span() is None


def test_opentelemetry_is_not_asked_where_nobody_has_set_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, SDK)
    monkeypatch.setattr(otel, "get_current_span", None)
    assert active_span() is None


PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace(",", "").replace("=", "")
KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@"


class TestTracestate:
    @pytest.mark.parametrize(
        "header",
        [
            "",
            "foo=1",
            "foo=1,bar=2",
            "9=1",
            "foo@=1",
            "foo@@bar=1",
            f"{KEY_CHARACTERS}=1",
            f"foo={PRINTABLE.strip()}",
            "foo= leading spaces are part of the value",
            f"{'k' * 256}=1",
            f"foo={'v' * 256}",
            ",".join(f"k{number}={number}" for number in range(32)),
        ],
    )
    def test_what_is_well_formed_is_passed_on_as_it_is(self, header: str) -> None:
        assert parse_tracestate(header) == header

    @pytest.mark.parametrize(
        "member",
        [
            "foo",
            "foo=",
            "foo= ",
            "=1",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "@foo=1",
            "_foo=1",
            "foo=a=b",
            "foo=a\tb",
            "foo=a\r\nset-cookie: b",
            "foo=a\n",
            "foo=caf\u00e9",
            "f\u0661=1",
            f"{'k' * 257}=1",
            f"foo={'v' * 257}",
        ],
    )
    def test_one_bad_member_spoils_all(self, member: str) -> None:
        assert parse_tracestate(member) is None
        assert parse_tracestate(f"good=1,{member},better=2") is None

    def test_more_than_32_members_are_none(self) -> None:
        assert parse_tracestate(",".join(f"k{number}={number}" for number in range(33))) is None

    def test_ten_kilobytes_are_not_looked_at(self) -> None:
        assert parse_tracestate("," * 10_000) is None

    def test_empty_members_go_and_do_not_count(self) -> None:
        assert parse_tracestate(" ,,foo=1,\t, bar=2 ," + "," * 50) == "foo=1,bar=2"

    def test_white_space_around_a_member_goes(self) -> None:
        assert parse_tracestate("\t foo=1 \t , \tbar=2\t") == "foo=1,bar=2"

    def test_of_two_members_with_one_key_the_first_stays(self) -> None:
        assert parse_tracestate("congo=2,rojo=1,congo=1") == "congo=2,rojo=1"

    def test_512_characters_are_passed_on(self) -> None:
        header = f"a={'x' * 254},b={'y' * 253}"
        assert len(header) == MAX_STATE_LENGTH
        assert parse_tracestate(header) == header

    def test_what_is_longer_loses_large_members_first_and_then_from_the_end(self) -> None:
        small = [f"s{number:02}={'x' * 56}" for number in range(9)]
        assert parse_tracestate(",".join([small[0], f"large={'y' * 200}", *small[1:]])) == ",".join(small[:8])
        assert parse_tracestate(",".join([small[0], f"large={'y' * 200}", *small[1:5]])) == ",".join(
            [small[0], f"large={'y' * 200}", *small[1:5]]
        )

    @given(st.text(alphabet=st.sampled_from("ab9@_ ,=\t\n\u00e9A"), max_size=60) | st.text(max_size=600))
    def test_no_text_whatever_makes_the_parser_raise_and_its_result_is_well_formed(self, header: str) -> None:
        parsed = parse_tracestate(header)
        if parsed is not None:
            assert parse_tracestate(parsed) == parsed
            assert len(parsed) <= MAX_STATE_LENGTH


def told(*inbound: tuple[str, str | bytes], calls: int = 1) -> list[dict[str, str]]:
    """Return the headers that a service sends with each of its calls when it was called with *inbound*."""
    sent: list[dict[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(calls):
            headers: dict[str, str] = {}
            inject(headers)
            sent.append(headers)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def unused(*_: Any) -> Any:
        return {}

    headers = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in inbound]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    contextvars.Context().run(asyncio.run, LoggingMiddleware(app)(scope, unused, unused))
    return sent


STATE = ("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")


class TestWhatIsTold:
    def test_a_call_continues_the_trace_of_the_request_in_a_span_of_its_own(self) -> None:
        with capture() as logged:
            (headers,) = told(("traceparent", HEADER), STATE, ("x-request-id", "order-7"))
        access = logged.find(logger="fapilog.access")
        parent = TraceParent.parse(headers["traceparent"])
        assert parent is not None
        assert (parent.trace_id, parent.flags) == (TRACE_ID, SAMPLED)
        assert parent.span_id not in (SPAN_ID, access["span_id"])
        assert headers["tracestate"] == STATE[1]
        assert headers["x-request-id"] == "order-7"
        assert (access["parent_span_id"], access["trace_flags"]) == (SPAN_ID, "01")

    def test_every_call_has_a_span_id_of_its_own(self) -> None:
        sent = told(("traceparent", HEADER), calls=3)
        assert len({headers["traceparent"] for headers in sent}) == 3
        assert {headers["traceparent"][:36] for headers in sent} == {HEADER[:36]}

    def test_a_service_that_is_not_told_a_trace_begins_one(self) -> None:
        first, second = told(STATE, calls=2)
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-02", first["traceparent"])
        assert first["traceparent"][:35] == second["traceparent"][:35]
        assert first["x-request-id"] == first["traceparent"][3:35]
        assert "tracestate" not in first

    @pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
    def test_the_flags_go_on_as_they_came(self, flags: str) -> None:
        (headers,) = told(("traceparent", HEADER[:-2] + flags))
        assert headers["traceparent"].endswith(f"-{flags}")

    def test_a_later_version_is_told_as_the_one_we_know(self) -> None:
        (headers,) = told(("traceparent", f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes-later"), STATE)
        assert headers["traceparent"].startswith(f"00-{TRACE_ID}-")
        assert headers["tracestate"] == STATE[1]

    @pytest.mark.parametrize("around", [" {}", "\t{}", "{} ", "\t {} \t"])
    def test_white_space_around_a_traceparent_is_none_of_it(self, around: str) -> None:
        (headers,) = told(("traceparent", around.format(HEADER)))
        assert headers["traceparent"].startswith(f"00-{TRACE_ID}-")

    @pytest.mark.parametrize(
        "bad",
        [
            HEADER.upper().encode(),
            HEADER[:-1].encode(),
            HEADER.encode() + b"0",
            b"ff" + HEADER[2:].encode(),
            f"00-{'0' * 32}-{SPAN_ID}-01".encode(),
            f"00-{TRACE_ID}-{'0' * 16}-01".encode(),
            HEADER.encode() + b"\r\nset-cookie: a",
            HEADER.encode() + b"\n",
            b"\xff\xfe" + HEADER.encode(),
            HEADER.encode() * 20_000,
            b"",
        ],
    )
    def test_a_bad_traceparent_restarts_the_trace_without_its_tracestate_and_is_counted(self, bad: bytes) -> None:
        with capture() as logged:
            (headers,) = told(("traceparent", bad), STATE)
            assert logged.handle.stats().trace_invalid == 1
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-02", headers["traceparent"])
        assert TRACE_ID not in str(headers)
        assert "tracestate" not in headers
        assert TRACE_ID not in str(logged.records).lower()

    @pytest.mark.parametrize("second", [HEADER, HEADER.replace("0af", "1af"), "", "cc" + HEADER[2:]])
    def test_two_traceparents_restart_the_trace(self, second: str) -> None:
        with capture() as logged:
            (headers,) = told(("traceparent", HEADER), ("traceparent", second), STATE)
            assert logged.handle.stats().trace_invalid == 1
        assert TRACE_ID not in headers["traceparent"]
        assert "tracestate" not in headers

    def test_several_tracestates_are_joined_in_their_order(self) -> None:
        states = [("tracestate", value) for value in ("foo=1,bar=2", "", "rojo=1", "baz=3")]
        (headers,) = told(states[0], ("traceparent", HEADER), *states[1:])
        assert headers["tracestate"] == "foo=1,bar=2,rojo=1,baz=3"

    @pytest.mark.parametrize("bad", ["BAD=1", ",".join(f"k{n}=1" for n in range(33)), "k=v," * 2_500, "a=b\r\nc: d"])
    def test_a_bad_tracestate_goes_is_counted_and_leaves_the_trace_alone(self, bad: str) -> None:
        with capture() as logged:
            (headers,) = told(("traceparent", HEADER), ("tracestate", "good=1"), ("tracestate", bad))
            assert logged.handle.stats().trace_invalid == 1
        assert headers["traceparent"].startswith(f"00-{TRACE_ID}-")
        assert "tracestate" not in headers

    def test_good_headers_are_not_counted(self) -> None:
        with capture() as logged:
            told(("traceparent", HEADER), STATE)
            told(("traceparent", HEADER), ("tracestate", ""))
            told()
            assert logged.handle.stats().trace_invalid == 0

    def test_the_sampled_flag_of_a_stranger_changes_nothing_that_is_logged(self) -> None:
        seen = []
        for flags in ("00", "01"):
            with capture(level="info") as logged:
                told(("traceparent", HEADER[:-2] + flags))
                log.debug("not kept")
            seen.append([(record["event"], record["level"]) for record in logged.records])
        assert seen[0] == seen[1] == [("request completed", "info")]

    def test_headers_that_are_there_are_replaced_whatever_their_case(self) -> None:
        headers = {"TraceParent": HEADER, "TRACESTATE": "foo=1", "X-Request-ID": "a", "Accept": "*/*"}
        inject(headers)
        assert headers.keys() == {"Accept", "traceparent", "x-request-id"}
        assert TRACE_ID not in headers["traceparent"]

    def test_a_list_of_pairs_does_as_well(self) -> None:
        pairs = [("Accept", "*/*"), ("Traceparent", HEADER), ("traceparent", HEADER)]
        ids = inject(pairs)
        assert Counter(name for name, _ in pairs) == Counter(["Accept", "traceparent", "x-request-id"])
        assert dict(pairs)["traceparent"] == f"00-{ids['trace_id']}-{ids['span_id']}-02"

    def test_the_headers_of_an_httpx_request_do_as_well(self) -> None:
        headers = httpx.Headers([("Traceparent", HEADER), ("traceparent", HEADER), ("Accept", "*/*")])
        inject(headers)
        assert len(headers.get_list("traceparent")) == 1

    def test_outside_a_request_each_call_begins_a_trace(self) -> None:
        first, second = inject({}), inject({})
        assert first.keys() == {"trace_id", "span_id", "trace_flags"}
        assert first["trace_id"] != second["trace_id"]

    def test_on_the_threads_of_the_pipeline_a_call_begins_a_trace(self) -> None:
        token = current_request.set(OURSELVES)
        try:
            assert inject({})["trace_flags"] == "02"
        finally:
            current_request.reset(token)


TRACER = TracerProvider().get_tracer("tests")


class TestSpansOfOpenTelemetry:
    def test_a_record_outside_a_request_has_the_ids_of_the_active_span(self) -> None:
        with capture() as logged, TRACER.start_as_current_span("outer") as outer:
            log.info("in the outer")
            with TRACER.start_as_current_span("inner") as inner:
                log.info("in the inner")
            log.info("in the outer again")
        first, second, third = logged.records
        trace_id, outer_id = f"{outer.get_span_context().trace_id:032x}", f"{outer.get_span_context().span_id:016x}"
        flags = f"{outer.get_span_context().trace_flags:02x}"
        assert (first["trace_id"], first["span_id"], first["trace_flags"]) == (trace_id, outer_id, flags)
        assert "parent_span_id" not in first
        assert second["trace_id"] == trace_id
        assert second["span_id"] == f"{inner.get_span_context().span_id:016x}"
        assert second["parent_span_id"] == outer_id
        assert third["span_id"] == outer_id

    def test_a_record_after_the_span_has_no_ids(self) -> None:
        with capture() as logged:
            with TRACER.start_as_current_span("over"):
                pass
            log.info("after")
        assert "trace_id" not in logged.records[0]

    def test_in_a_request_the_span_that_is_active_at_the_log_call_wins(self) -> None:
        spans = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            bind_request(tenant="acme")
            log.info("before")
            with TRACER.start_as_current_span("work") as span:
                spans.append(span.get_span_context())
                log.info("within")
                log.info("slowly", password="x")
            log.info("after")
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def ignore(*_: Any) -> Any:
            return {}

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", b"r-1")]}
        with capture() as logged:
            contextvars.Context().run(asyncio.run, LoggingMiddleware(app)(scope, ignore, ignore))
        before, within, slowly, after, access = logged.records
        for record in (within, slowly):
            assert record["trace_id"] == f"{spans[0].trace_id:032x}"
            assert record["span_id"] == f"{spans[0].span_id:016x}"
            assert record["request_id"] == "r-1"
            assert record["tenant"] == "acme"
        assert slowly["password"] == "REDACTED"
        assert before["span_id"] == after["span_id"] == access["span_id"] != within["span_id"]

    def test_a_span_round_the_request_gives_it_its_ids(self) -> None:
        async def run() -> None:
            with TRACER.start_as_current_span("server") as span:
                seen.append(f"{span.get_span_context().span_id:016x}")
                await LoggingMiddleware(app)({"type": "http", "method": "GET", "path": "/"}, ignore, ignore)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            log.info("inside")

        async def ignore(*_: Any) -> Any:
            return {}

        seen: list[str] = []
        with capture() as logged:
            contextvars.Context().run(asyncio.run, run())
        assert [record["span_id"] for record in logged.records] == seen * 2

    def test_a_call_tells_the_active_span_and_its_tracestate_as_opentelemetry_would(self) -> None:
        state = TraceState([("rojo", "1"), ("congo", "2")])
        context = otel.SpanContext(
            int(TRACE_ID, 16), int(SPAN_ID, 16), is_remote=True, trace_flags=otel.TraceFlags(1), trace_state=state
        )
        headers: dict[str, str] = {}
        with otel.use_span(otel.NonRecordingSpan(context)):
            inject(headers)
        assert headers == {"traceparent": HEADER, "tracestate": "rojo=1,congo=2", "x-request-id": TRACE_ID}

    def test_the_trace_id_is_that_of_the_active_span(self) -> None:
        with TRACER.start_as_current_span("work") as span:
            assert get_trace_id() == f"{span.get_span_context().trace_id:032x}"
        assert get_trace_id() is None

    def test_threads_see_each_their_own_span(self) -> None:
        def work() -> None:
            for _ in range(200):
                with TRACER.start_as_current_span("work") as span:
                    log.info("at work", expected=f"{span.get_span_context().span_id:016x}")

        with capture() as logged:
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        assert len(logged.records) == 800
        assert all(record["span_id"] == record["expected"] for record in logged.records)

    def test_what_the_pipelines_own_threads_log_stays_out_in_a_span_too(self) -> None:
        with capture() as logged:
            token = current_request.set(OURSELVES)
            with TRACER.start_as_current_span("work"):
                log.info("never seen")
            current_request.reset(token)
        assert logged.records == []
