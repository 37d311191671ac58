"""The pipeline's figures for Prometheus.

`register()` adds them to a registry of ``prometheus_client``; whatever serves that registry then serves them too. Each
scrape reads one consistent snapshot of whatever logger runs at that time, so it does not matter whether logging is
configured before or after, again, or in a forked child. Counters start at 0 in every process and whenever logging is
configured again, which ``rate`` and ``increase`` expect.

Nothing a client sends becomes a label: sinks are named by the configuration, and all other labels are closed lists.
"""

import time
import weakref
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final, get_args

from fapilog.diagnostics import DropReason, FilterReason
from fapilog.errors import MissingExtraError
from fapilog.pipeline.ledger import DELAY_BUCKETS, SinkState, SinkStats, Stats
from fapilog.recorder import slot

try:
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtraError("fapilog.metrics", extra="prometheus") from error

_REASONS: Final[tuple[DropReason, ...]] = get_args(DropReason)
_FILTER_REASONS: Final[tuple[FilterReason, ...]] = get_args(FilterReason)
_STATES: Final[tuple[SinkState, ...]] = get_args(SinkState)


def running() -> Stats | None:
    """Return a snapshot of the logger that runs in this process, or None if none does."""
    return slot.stats() if slot.stats is not None else None


class FapilogCollector(Collector):
    """A collector for a registry of ``prometheus_client``. It yields nothing while no logger runs."""

    def __init__(
        self, snapshot: Callable[[], Stats | None] = running, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Collect from *snapshot*, called once for each scrape; *clock* is the time since the epoch in seconds."""
        self._snapshot = snapshot
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Return every metric without a value, so that a registry notices names that are taken."""
        return _Families().all()

    def collect(self) -> Iterable[Metric]:
        """Return every metric as it is now."""
        stats = self._snapshot()
        if stats is None:
            return []
        families = _Families()
        families.fill(stats, self._clock())
        return families.all()


def register(registry: CollectorRegistry | None = None) -> FapilogCollector:
    """Add the figures to a registry, the default one unless given; again does nothing.

    Returns:
        The collector, for `registry.unregister`.
    """
    target = REGISTRY if registry is None else registry
    earlier = _registered.get(target)
    collector = earlier or FapilogCollector()
    try:
        target.register(collector)
    except ValueError:  # these names are taken: by us, or by somebody else
        if earlier is None:
            raise
    _registered[target] = collector
    return collector


def prometheus_text(stats: Stats | None = None, *, openmetrics: bool = False) -> str:
    """Return the figures as text in the format that Prometheus scrapes.

    Args:
        stats: The snapshot to write; None takes one of the logger that runs, and gives the empty text if none does.
        openmetrics: Whether to write OpenMetrics 1.0 rather than Prometheus' own text format.
    """
    taken = running() if stats is None else stats
    registry = CollectorRegistry()
    registry.register(FapilogCollector(lambda: taken))
    written: bytes = generate_openmetrics(registry) if openmetrics else generate_latest(registry)  # type: ignore[no-untyped-call]
    return written.decode()


class _Families:
    """One set of metrics, to be filled once."""

    def __init__(self) -> None:
        self.accepted = CounterMetricFamily("fapilog_accepted", "Records admitted to the queue and numbered.")
        self.filtered = CounterMetricFamily(
            "fapilog_filtered", "Records left out on purpose before the queue.", labels=["reason"]
        )
        self.schema_mismatches = CounterMetricFamily(
            "fapilog_schema_mismatches", "Records that did not fit the schema of their event, and were kept."
        )
        self.door_dropped = CounterMetricFamily(
            "fapilog_door_dropped", "Records refused before the queue, so lost to every sink.", labels=["reason"]
        )
        self.records = CounterMetricFamily(
            "fapilog_records", "What became of the records of each sink.", labels=["sink", "outcome", "reason"]
        )
        self.adopted = CounterMetricFamily(
            "fapilog_adopted", "Records taken over from the spools of processes that died.", labels=["sink"]
        )
        self.ambiguous = CounterMetricFamily(
            "fapilog_ambiguous", "Records sent without an answer, each perhaps twice at the far end.", labels=["sink"]
        )
        self.retries = CounterMetricFamily("fapilog_retries", "Batches tried again.", labels=["sink"])
        self.unformatted = CounterMetricFamily(
            "fapilog_unformatted",
            "Records written as JSON since the sink's format could not hold them.",
            labels=["sink"],
        )
        self.label_capped = CounterMetricFamily(
            "fapilog_label_capped",
            "Records sent with __other__ for a label: too many values of it, or too many streams.",
            labels=["sink"],
        )
        self.worker_restarts = CounterMetricFamily(
            "fapilog_worker_restarts", "How often the worker failed and went on."
        )
        self.late_direct = CounterMetricFamily(
            "fapilog_late_direct", "Records that came when the pipeline had ended, and went straight to stderr."
        )
        self.redacted = CounterMetricFamily(
            "fapilog_redacted", "Secrets taken out of records, by the rule that did.", labels=["rule"]
        )
        self.trace_invalid = CounterMetricFamily(
            "fapilog_trace_invalid", "Requests whose trace headers were none, and were ignored."
        )
        self.failures = CounterMetricFamily(
            "fapilog_failures",
            "Code of the user's that raised while a record was made, which was kept.",
            labels=["what"],
        )
        self.queue_records = GaugeMetricFamily("fapilog_queue_records", "Records in the queue.")
        self.queue_bytes = GaugeMetricFamily("fapilog_queue_bytes", "Size of the records in the queue.")
        self.queue_max_records = GaugeMetricFamily("fapilog_queue_max_records", "How many records the queue holds.")
        self.queue_max_bytes = GaugeMetricFamily("fapilog_queue_max_bytes", "How many bytes the queue holds.")
        self.queued = GaugeMetricFamily(
            "fapilog_queued", "Records that wait for a sink, in the queue or in its inbox.", labels=["sink"]
        )
        self.in_flight = GaugeMetricFamily(
            "fapilog_in_flight", "Records handed to a sink that has not answered yet.", labels=["sink"]
        )
        self.spool_records = GaugeMetricFamily(
            "fapilog_spool_records", "Records on disk, waiting for the far end.", labels=["sink"]
        )
        self.spool_bytes = GaugeMetricFamily("fapilog_spool_bytes", "Size of the spool.", labels=["sink"])
        self.spool_oldest = GaugeMetricFamily(
            "fapilog_spool_oldest_seconds", "Age of the oldest spooled record, 0 if there is none.", labels=["sink"]
        )
        self.sink_state = GaugeMetricFamily(
            "fapilog_sink_state", "1 for the state a sink is in, 0 for every other.", labels=["sink", "state"]
        )
        self.delays = HistogramMetricFamily(
            "fapilog_delivery_delay_seconds",
            "From the log call to the sink's answer, one observation for each batch.",
            labels=["sink"],
        )

    def all(self) -> list[Metric]:
        """Return the metrics, in the order they are declared."""
        return list(vars(self).values())

    def fill(self, stats: Stats, now: float) -> None:
        """Give every metric its values.

        A loss that never happened is there as 0: `increase` does not see the step from nothing to the first one.
        """
        self.accepted.add_metric([], stats.accepted)
        for why in _FILTER_REASONS:
            self.filtered.add_metric([why], stats.filtered.get(why, 0))
        self.schema_mismatches.add_metric([], stats.schema_mismatches)
        for reason in _REASONS:
            self.door_dropped.add_metric([reason], stats.dropped.get(reason, 0))
        self.worker_restarts.add_metric([], stats.worker_restarts)
        self.late_direct.add_metric([], stats.late_direct)
        for rule, count in stats.redacted.items():
            if count or not rule.startswith("field:"):  # of the many names only those that were met
                self.redacted.add_metric([rule], count)
        self.trace_invalid.add_metric([], stats.trace_invalid)
        for name, count in stats.failures.items():
            self.failures.add_metric([name], count)
        self.queue_records.add_metric([], stats.queue_records)
        self.queue_bytes.add_metric([], stats.queue_bytes)
        self.queue_max_records.add_metric([], stats.queue_max_records)
        self.queue_max_bytes.add_metric([], stats.queue_max_bytes)
        for name, sink in stats.sinks.items():
            self._fill_sink(name, sink, now)

    def _fill_sink(self, name: str, sink: SinkStats, now: float) -> None:
        self.records.add_metric([name, "delivered", ""], sink.delivered)
        self.records.add_metric([name, "routed_away", ""], sink.routed_away)
        for reason in _REASONS:
            self.records.add_metric([name, "dropped", reason], sink.dropped.get(reason, 0))
        self.adopted.add_metric([name], sink.adopted)
        self.ambiguous.add_metric([name], sink.ambiguous)
        self.retries.add_metric([name], sink.retries)
        self.unformatted.add_metric([name], sink.unformatted)
        self.label_capped.add_metric([name], sink.label_capped)
        self.queued.add_metric([name], sink.queued)
        self.in_flight.add_metric([name], sink.in_flight)
        self.spool_records.add_metric([name], sink.spooled)
        self.spool_bytes.add_metric([name], sink.spooled_bytes)
        oldest = sink.spool_oldest_ns
        self.spool_oldest.add_metric([name], 0.0 if oldest is None else max(0.0, now - oldest / 1e9))
        for state in _STATES:
            self.sink_state.add_metric([name, state], float(sink.state == state))
        bounds = [*(str(bound) for bound in DELAY_BUCKETS), "+Inf"]
        counts = accumulate(sink.delays.counts)
        self.delays.add_metric([name], list(zip(bounds, counts, strict=True)), sink.delays.total_seconds)


_registered: Final[weakref.WeakKeyDictionary[CollectorRegistry, FapilogCollector]] = weakref.WeakKeyDictionary()
