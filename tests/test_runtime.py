from pathlib import Path
from typing import Any

import pytest

from fapilog import configure_logging
from fapilog.context import NOTHING
from fapilog.errors import ConfigurationError
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


def open_files() -> set[str]:
    return {str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}


@pytest.mark.parametrize(
    "wrong", [{"sinks": ["file", "file:///dev/null/app.log"]}, {"sinks": ["file"], "app": lambda: None}]
)
def test_a_configuration_that_fails_leaves_no_file_open(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        configure_logging(**wrong, file={"path": str(tmp_path / "app.log")})
    assert str(tmp_path / "app.log") not in open_files()
