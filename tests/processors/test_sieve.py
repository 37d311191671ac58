import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from fapilog import configure_logging, log
from fapilog.diagnostics import FilterReason
from fapilog.errors import ConfigurationError
from fapilog.metrics import prometheus_text
from fapilog.processors.deduplicate import Deduplicate
from fapilog.processors.filter import Filter
from fapilog.processors.sample import Sample
from fapilog.processors.sieve import Sieve
from fapilog.processors.throttle import Throttle
from fapilog.recorder import slot
from fapilog.testing import CollectingSink, capture
from fapilog.types import Event
from tests.programs import untraced


class Watch(Sieve):
    """Leaves out what is called ``out``, and notes what it was asked."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def refuses(
        self, logger: str, level: int, event: Any, fields: dict[str, Any], ids: Mapping[str, Any]
    ) -> FilterReason | None:
        self.seen.append(f"sieve {event}")
        return "filter" if event == "out" else None


def test_sieves_before_all_other_processors_are_asked_early_and_keep_records_on_the_short_way() -> None:
    seen: list[str] = []
    with capture(processors=[Watch(seen)], filter_drop="event=gone") as logged:
        assert slot.recorder._processors == ()
        log.info("in")
        log.info("out")
        log.info("gone")
    assert seen == ["sieve in", "sieve out"]
    assert logged.events == ["in"]
    assert logged.handle.stats().filtered == {"filter": 2}


def test_sieves_behind_a_processor_see_what_it_made() -> None:
    def rename(_logger: Any, _name: str, event: Event) -> Event:
        return {**event, "event": "out"} if event["event"] == "in" else event

    with capture(processors=[rename, Watch([])]) as logged:
        log.info("in")
        log.info("other")
    assert logged.events == ["other"]
    assert logged.handle.stats().filtered == {"filter": 1}


def test_in_structlogs_own_chain_a_sieve_raises_what_structlog_knows() -> None:
    with pytest.raises(structlog.DropEvent):
        Filter(["event=noise"])(None, "info", {"event": "noise"})
    event = {"event": "other"}
    assert Filter(["event=noise"])(None, "info", event) is event


def test_an_audit_record_passes_in_any_case() -> None:
    event = {"event": "noise", "audit": True}
    assert Filter(["event=noise"])(None, "info", event) is event


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("sample", Sample),
        ("deduplicate", Deduplicate),
        ("throttle", Throttle),
        ("filter", Filter),
        (Sample, Sample),
        ({"type": "throttle", "max_rate": 1}, Throttle),
        ({"type": "fapilog.processors.sample:Sample", "rate": 0.5}, Sample),
    ],
)
def test_they_are_found_by_name_with_options(spec: Any, kind: type) -> None:
    with configure_logging(sinks=[], processors=[spec]):
        assert [type(each) for each in slot.recorder._sieves] == [kind]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"type": "sample", "ratio": 1}, "processor 'sample': .* unexpected keyword argument 'ratio'"),
        ({"type": "sample", "rate": 2}, "rate must be a number from 0 to 1"),
        ({"type": "nosuch"}, "no processor is called 'nosuch'"),
        ({"rate": 2}, "None is not a class, so it takes no options; got rate"),
    ],
)
def test_options_that_cannot_be_used_are_refused(spec: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        configure_logging(sinks=[], processors=[spec])


def test_every_reason_is_a_label_of_a_metric_and_there_from_the_beginning() -> None:
    with capture(filter_drop="event=out", throttle_max_rate=1) as logged:
        for event in ("out", "a", "a", "a"):
            log.info(event)
        text = prometheus_text(logged.handle.stats())
    assert 'fapilog_filtered_total{reason="filter"} 1.0' in text
    assert 'fapilog_filtered_total{reason="throttled"} 2.0' in text
    assert 'fapilog_filtered_total{reason="tail"} 0.0' in text
    assert "fapilog_schema_mismatches_total 0.0" in text


HUGE = {
    "text": "x" * 50_000_000,
    "list": list(range(1_000_000)),
    "dict": dict.fromkeys(range(100000), "x"),
    "nested": [["x" * 1_000_000] * 100] * 100,
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_huge_value_is_not_looked_at_beyond_its_beginning(kind: str) -> None:
    value = HUGE[kind]
    sieves = [
        Filter(["huge~needle", "huge=*needle", "huge=needle"]),
        Sample(0.5, by="huge"),
        Deduplicate(key="huge"),
        Throttle(1, key=["huge", "event"]),
    ]
    for sieve in sieves:
        took = min(_seconds(lambda sieve=sieve: sieve.refuses("x", 20, "e", {"huge": value}, {})) for _ in range(3))
        assert took < 0.005, type(sieve)


def _seconds(function: Any) -> float:
    with untraced():
        began = time.perf_counter()
        function()
        return time.perf_counter() - began


@pytest.mark.parametrize("level", [None, 7, ["info"], {"a": 1}, "loud"])
def test_a_level_that_a_processor_has_spoilt_counts_as_info(level: Any) -> None:
    def spoil(_logger: Any, _name: str, event: Event) -> Event:
        return {**event, "level": level}

    with capture(processors=[spoil, Sample(0.0), "validate"]) as logged:
        log.error("x")
        assert logged.events == []
        assert logged.handle.stats().filtered == {"sampled": 1}


def test_threads_are_counted_exactly() -> None:
    with capture(level="info", levels="other=debug", sampling_levels="info=0", filter_drop="event=drop") as logged:

        def use() -> None:
            for _ in range(3_000):
                log.debug("below")
                log.info("sampled")
                log.warning("drop")

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logged.handle.stats().filtered == {"level": 12_000, "sampled": 12_000, "filter": 12_000}


def test_what_was_lost_is_told_whatever_is_sampled_or_throttled() -> None:
    sink = CollectingSink()
    with configure_logging(sinks=[sink], sampling_rate=0, queue_maxsize=10, queue_overflow="drop") as handle:
        handle._runtime.queue.wake = lambda: None  # nothing is taken for now
        for _ in range(100):
            log.error("kept while there is room")
        handle._runtime.worker.attach()
        handle.flush()
        until = time.monotonic() + 5
        while not [record for record in sink.records if record["logger"] == "fapilog"] and time.monotonic() < until:
            log.error("there is room again")
            time.sleep(0.05)
        told = [record for record in sink.records if record["logger"] == "fapilog"]
    assert told[0]["event"] == "records were dropped"
    assert told[0]["dropped"] == 90


def test_every_record_called_for_is_accepted_or_counted_as_left_out() -> None:
    with capture(
        level="debug",
        levels="shop=error",
        filter_drop="n~[05]$",
        sampling_levels="debug=0.5",
        throttle_max_rate=40,
        throttle_key_field="n",
        dedupe_window_seconds=60,
        dedupe_fields="event,half",
    ) as logged:
        for n in range(1_000):
            log.debug("debug", n=n, half=n // 2)
            log.info("info", n=n, half=n // 2)
        stats = logged.handle.stats()
    assert stats.accepted + sum(stats.filtered.values()) == 2_000
    assert {"filter", "sampled", "duplicate"} <= stats.filtered.keys()
