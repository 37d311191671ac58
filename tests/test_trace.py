import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as otel

from fapilog.trace import RANDOM, SAMPLED, TraceParent, active_span, new_ids

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
    monkeypatch.setattr(otel, "get_current_span", None)
    assert active_span() is None
