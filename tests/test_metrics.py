import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric, generate_latest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse

from fapilog import configure_logging, log
from fapilog.metrics import FapilogCollector, prometheus_text, register
from fapilog.pipeline.ledger import Delays, SinkStats, Stats
from fapilog.testing import CollectingSink
from fapilog.types import Batch

DOCS = Path(__file__).parents[1] / "docs" / "metrics.md"
LABELS = ("what", "sink", "outcome", "reason", "state", "le")

LOKI = SinkStats(
    state="down",
    accepted=100,
    adopted=7,
    routed_away=10,
    delivered=60,
    queued=5,
    in_flight=4,
    dropped={"retries_exhausted": 8},
    spooled=20,
    spooled_bytes=9000,
    spool_oldest_ns=1_000_000_000_000,
    ambiguous=3,
    retries=2,
    unformatted=3,
    label_capped=4,
    delays=Delays().observe(0.02).observe(0.02).observe(7.0).observe(99_999.0),
)
STATS = Stats(
    instance="0123456789abcdef",
    accepted=100,
    filtered={"level": 11, "processor": 12},
    dropped={"queue_full": 13},
    queue_records=5,
    queue_bytes=1234,
    queue_max_records=1000,
    queue_max_bytes=65536,
    worker_restarts=1,
    late_direct=4,
    trace_invalid=2,
    failures={"filter": 14, "serializer": 14},
    schema_mismatches=15,
    redacted={"jwt": 3, "field:password": 0},
    sinks={"loki": LOKI},
)


class DyingSink(CollectingSink):
    """A sink that loses every second batch."""

    def write(self, batch: Batch, /) -> None:
        super().write(batch)
        if len(self.batches) % 2:
            raise ValueError("not this one")


def values(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in the order of `LABELS`."""
    return {
        (sample.name, *(sample.labels[label] for label in LABELS if label in sample.labels)): sample.value
        for family in families
        for sample in family.samples
    }


def parse_openmetrics(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return families


def scraped(stats: Stats | None = None) -> dict[tuple[str, ...], float]:
    return values(parse(prometheus_text(stats)))


def test_records_are_counted_by_sink_outcome_and_reason() -> None:
    found = scraped(STATS)
    assert found["fapilog_records_total", "loki", "delivered", ""] == 60
    assert found["fapilog_records_total", "loki", "routed_away", ""] == 10
    assert found["fapilog_records_total", "loki", "dropped", "retries_exhausted"] == 8


def test_what_became_of_the_records_adds_up_to_what_was_accepted_and_adopted() -> None:
    found = scraped(STATS)
    became = sum(value for (name, *_), value in found.items() if name == "fapilog_records_total")
    waiting = sum(found[name, "loki"] for name in ("fapilog_queued", "fapilog_in_flight", "fapilog_spool_records"))
    assert became + waiting == found["fapilog_accepted_total",] + found["fapilog_adopted_total", "loki"]


def test_what_failed_of_the_user_s_code_is_counted_by_what_it_was() -> None:
    assert scraped(STATS)["fapilog_failures_total", "serializer"] == 14


def test_what_never_reached_the_queue_is_counted_by_reason() -> None:
    found = scraped(STATS)
    assert found["fapilog_filtered_total", "level"] == 11
    assert found["fapilog_filtered_total", "processor"] == 12
    assert found["fapilog_filtered_total", "tail"] == 0
    assert found["fapilog_door_dropped_total", "queue_full"] == 13


def test_the_queue_is_shown_with_its_bounds() -> None:
    found = scraped(STATS)
    assert found["fapilog_queue_records",] == 5
    assert found["fapilog_queue_bytes",] == 1234
    assert found["fapilog_queue_max_records",] == 1000
    assert found["fapilog_queue_max_bytes",] == 65536


def test_a_loss_that_never_happened_is_there_as_zero() -> None:
    found = scraped(STATS)
    assert found["fapilog_records_total", "loki", "dropped", "sink_error"] == 0
    assert found["fapilog_door_dropped_total", "block_timeout"] == 0


def test_a_sink_is_in_exactly_one_state() -> None:
    states = {key[2]: value for key, value in scraped(STATS).items() if key[0] == "fapilog_sink_state"}
    assert states == {"up": 0, "down": 1, "stalled": 0, "closed": 0}


def test_delivery_delays_are_a_cumulative_histogram() -> None:
    found = scraped(STATS)
    assert found["fapilog_delivery_delay_seconds_bucket", "loki", "0.01"] == 0
    assert found["fapilog_delivery_delay_seconds_bucket", "loki", "0.05"] == 2
    assert found["fapilog_delivery_delay_seconds_bucket", "loki", "10.0"] == 3
    assert found["fapilog_delivery_delay_seconds_bucket", "loki", "+Inf"] == 4
    assert found["fapilog_delivery_delay_seconds_count", "loki"] == 4
    assert found["fapilog_delivery_delay_seconds_sum", "loki"] == pytest.approx(0.04 + 7 + 99_999)


def test_the_spool_has_an_age_which_is_zero_when_it_is_empty() -> None:
    spooled = {family.name: family for family in FapilogCollector(lambda: STATS, clock=lambda: 1060.0).collect()}
    assert spooled["fapilog_spool_oldest_seconds"].samples[0].value == pytest.approx(60.0)
    empty = dataclasses.replace(STATS, sinks={"loki": dataclasses.replace(LOKI, spool_oldest_ns=None)})
    assert scraped(empty)["fapilog_spool_oldest_seconds", "loki"] == 0


def test_a_clock_that_was_set_back_gives_no_negative_age() -> None:
    spooled = {family.name: family for family in FapilogCollector(lambda: STATS, clock=lambda: 5.0).collect()}
    assert spooled["fapilog_spool_oldest_seconds"].samples[0].value == 0


def test_what_may_be_doubled_tried_again_or_restarted_is_counted() -> None:
    found = scraped(STATS)
    assert found["fapilog_ambiguous_total", "loki"] == 3
    assert found["fapilog_retries_total", "loki"] == 2
    assert found["fapilog_unformatted_total", "loki"] == 3
    assert found["fapilog_label_capped_total", "loki"] == 4
    assert found["fapilog_worker_restarts_total",] == 1
    assert found["fapilog_late_direct_total",] == 4
    assert found["fapilog_trace_invalid_total",] == 2
    assert found["fapilog_failures_total", "filter"] == 14
    assert found["fapilog_schema_mismatches_total",] == 15


def test_the_openmetrics_text_says_the_same() -> None:
    text = prometheus_text(STATS, openmetrics=True)
    assert text.endswith("# EOF\n")
    plain, strict = scraped(STATS), values(parse_openmetrics(text))
    plain = {key: value for key, value in plain.items() if key[0] != "fapilog_spool_oldest_seconds"}
    assert strict.keys() >= plain.keys()
    assert {key: strict[key] for key in plain} == plain


@pytest.mark.parametrize("name", ['a "quoted" sink', "back\\slash", "two\nlines", "ünïcode"])
def test_a_sink_of_any_name_keeps_the_text_valid(name: str) -> None:
    stats = dataclasses.replace(STATS, sinks={name: LOKI})
    assert scraped(stats)["fapilog_in_flight", name] == 4
    assert values(parse_openmetrics(prometheus_text(stats, openmetrics=True)))["fapilog_in_flight", name] == 4


def test_the_number_of_series_does_not_grow_with_what_is_logged() -> None:
    with configure_logging(sinks=[CollectingSink()]) as handle:
        handle.flush()
        before = scraped().keys()
        for number in range(100):
            log.info(f"event {number}", **{f"field_{number}": number})
        handle.flush()
        assert scraped().keys() == before


def test_every_metric_is_in_the_documentation_and_no_other() -> None:
    exposed = {key[0] for key in scraped(STATS)}
    exposed = {name.replace("_bucket", "").removesuffix("_count").removesuffix("_sum") for name in exposed}
    rows = [line.split("`")[1].partition("{")[0] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(exposed)


def test_nothing_is_exposed_while_no_logger_runs() -> None:
    assert prometheus_text() == ""


def test_one_scrape_reads_one_snapshot() -> None:
    taken = []

    def snapshot() -> Stats:
        taken.append(STATS)
        return STATS

    registry = CollectorRegistry()
    registry.register(FapilogCollector(snapshot))
    assert not taken
    generate_latest(registry)
    assert len(taken) == 1


def test_a_registry_that_was_filled_before_logging_was_configured_follows_it() -> None:
    registry = CollectorRegistry()
    register(registry)
    assert registry.get_sample_value("fapilog_accepted_total") is None
    with configure_logging(sinks=[CollectingSink()]) as handle:
        log.info("one")
        handle.flush()
        delivered = {"sink": "collecting", "outcome": "delivered", "reason": ""}
        assert registry.get_sample_value("fapilog_accepted_total") == 1
        assert registry.get_sample_value("fapilog_records_total", delivered) == 1
        with configure_logging(sinks=[CollectingSink(), CollectingSink()]):
            assert registry.get_sample_value("fapilog_in_flight", {"sink": "collecting-2"}) == 0
            assert registry.get_sample_value("fapilog_records_total", delivered) == 0
    assert registry.get_sample_value("fapilog_accepted_total") is None


def test_registering_twice_is_registering_once() -> None:
    registry = CollectorRegistry()
    assert register(registry) is register(registry)


def test_what_was_unregistered_can_be_registered_again() -> None:
    registry = CollectorRegistry()
    registry.unregister(register(registry))
    with configure_logging(sinks=[CollectingSink()]):
        assert registry.get_sample_value("fapilog_accepted_total") is None
        register(registry)
        assert registry.get_sample_value("fapilog_accepted_total") == 0


def test_a_name_that_somebody_else_took_is_an_error() -> None:
    registry = CollectorRegistry()
    Counter("fapilog_records", "not ours", registry=registry)
    with pytest.raises(ValueError, match="fapilog_records"):
        register(registry)


def test_counters_never_go_down_from_scrape_to_scrape() -> None:
    sink = DyingSink()
    finished = threading.Event()

    def logging() -> None:
        for number in range(2000):
            log.info("one", number=number)
        finished.set()

    with configure_logging(sinks=[sink, CollectingSink()], collecting={"batch_max_records": 50}) as handle:
        writer = threading.Thread(target=logging)
        writer.start()
        last: dict[tuple[str, ...], float] = {}
        while not finished.is_set():
            now = scraped()
            counters = {key: value for key, value in now.items() if key[0].endswith(("_total", "_bucket", "_count"))}
            assert all(counters.get(key, -1) >= value for key, value in last.items())
            last = counters
        writer.join()
        handle.flush()
        end = scraped()
        lost = end["fapilog_records_total", "collecting", "dropped", "sink_error"]
        assert 0 < lost < 2000
        with_summary = (2000, 2001)  # the record that tells of the loss may have come before the last scrape
        assert lost + end["fapilog_records_total", "collecting", "delivered", ""] in with_summary
        assert end["fapilog_records_total", "collecting-2", "delivered", ""] in with_summary


def test_a_snapshot_under_load_adds_up_in_every_scrape() -> None:
    finished = threading.Event()

    def logging() -> None:
        for number in range(2000):
            log.info("one", number=number)
        finished.set()

    with configure_logging(sinks=[CollectingSink()]):
        writer = threading.Thread(target=logging)
        writer.start()
        while not finished.is_set():
            now = scraped()
            became = sum(value for (name, *_), value in now.items() if name == "fapilog_records_total")
            waiting = now["fapilog_queued", "collecting"] + now["fapilog_in_flight", "collecting"]
            assert became + waiting == now["fapilog_accepted_total",]
        writer.join()


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_a_forked_child_shows_its_own_figures() -> None:
    code = """
import os
from prometheus_client import REGISTRY
from fapilog import configure_logging, log
from fapilog.metrics import register
from fapilog.testing import CollectingSink
register()
handle = configure_logging(sinks=[CollectingSink()])
for _ in range(5):
    log.info("in the parent")
handle.flush()
child = os.fork()
if not child:
    log.info("in the child")
    print("child", int(REGISTRY.get_sample_value("fapilog_accepted_total")), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", int(REGISTRY.get_sample_value("fapilog_accepted_total")))
"""
    assert run(code).stdout.splitlines() == ["child 1", "parent 5"]


def test_importing_fapilog_does_not_load_prometheus_client() -> None:
    code = "import fapilog, sys; print('prometheus_client' in sys.modules)"
    assert run(code).stdout == "False\n"


def test_without_prometheus_client_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; import fapilog.metrics"
    assert "MissingExtraError: fapilog.metrics needs an extra: pip install 'fapilog[prometheus]'" in run(code).stderr
