"""Every test starts without a configuration and leaves no thread behind."""

import os
import threading
from collections.abc import Iterator

import hypothesis
import pytest

from fapilog import runtime
from fapilog.diagnostics import report
from fapilog.processors.validate import SCHEMAS
from fapilog.recorder import slot
from fapilog.testing import clear_context
from tests.fake_loki import LokiReceiver
from tests.receiver import Receiver

# In CI the same examples every time: a rare one that fails is found at home, and becomes a test of its own.
hypothesis.settings.register_profile("local", max_examples=50)  # or the whole suite takes more than ten minutes
hypothesis.settings.register_profile("ci", max_examples=50, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def _fresh_runtime() -> Iterator[None]:
    """Close what a test configured, and see that its threads end."""
    slot.begin()
    clear_context()
    SCHEMAS.clear()
    report.reset()
    yield
    if runtime._state.runtime is not None:
        runtime._state.close(runtime._state.runtime, 5.0)
    clear_context()
    for thread in threading.enumerate():
        if thread.name.startswith("fapilog-"):
            thread.join(5.0)
            assert not thread.is_alive(), f"{thread.name} is still alive"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take ``FAPILOG_*`` out of the environment, and work where there is no ``.env`` and no ``./logs``."""
    for name in os.environ:
        if name.upper().startswith("FAPILOG_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def _receiver_process() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="session")
def _loki_process() -> Iterator[LokiReceiver]:
    with LokiReceiver() as running:
        yield running


@pytest.fixture
def loki(_loki_process: LokiReceiver) -> Iterator[LokiReceiver]:
    """A Loki in another process, empty and with its own limits."""
    _loki_process.reset()
    yield _loki_process
    _loki_process.reset()


@pytest.fixture
def receiver(_receiver_process: Receiver) -> Iterator[Receiver]:
    """An HTTP receiver in another process, with an empty memory."""
    _receiver_process.reset()
    yield _receiver_process
    _receiver_process.reset()
