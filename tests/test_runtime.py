from fapilog import configure_logging
from fapilog.context import NOTHING
from fapilog.logger import LoggerName, Recorder, slot
from fapilog.testing import CollectingSink
from fapilog.types import INFO


def log_late(recorder: Recorder, event: str) -> None:
    """Log as a thread does that read which recorder there is a moment before it was replaced."""
    recorder.emit(LoggerName("late"), INFO, event, (), NOTHING, {})


def test_a_log_call_that_began_before_the_first_configuration_is_delivered() -> None:
    early = slot.recorder
    sink = CollectingSink()
    with configure_logging(sinks=[sink]) as handle:
        log_late(early, "one")
        log_late(early, "two")
        assert handle.flush().ok
        assert [record["event"] for record in sink.records] == ["one", "two"]


def test_a_log_call_that_began_before_a_second_configuration_is_delivered_by_it() -> None:
    first, second = CollectingSink(), CollectingSink()
    configure_logging(sinks=[first])
    replaced = slot.recorder
    with configure_logging(sinks=[second]) as handle:
        log_late(replaced, "late")
        assert handle.flush().ok
        assert [record["event"] for record in second.records] == ["late"]
        assert handle.stats().dropped == {}
