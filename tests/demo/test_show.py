"""The whole demo, as a user runs it."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fapilog.demo import show
from fapilog.demo.show import run
from fapilog.store import LogStore

ROOT = Path(__file__).parents[2]
RUN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from pathlib import Path; "
    "from fapilog.demo.show import run; sys.exit(run(float(sys.argv[1]), Path(sys.argv[2])))"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@contextmanager
def demo(seconds: float, store: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(seconds), str(store)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()


def server_processes(store: Path) -> list[str]:
    """Return the command lines of processes that were told to log to that store."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"FAPILOG_DUCKDB__PATH={store}\0".encode() in environment.read_bytes():
                found.append((environment.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended while we looked
            continue
    return found


def test_the_demo_shows_lines_and_tables_and_finds_every_record_in_the_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with demo(2, store) as process:
        out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert err == ""
    for title in ("records per server process", "slowest routes", "errors by route", "one trace"):
        assert f"\n{title}" in out
    counted = re.search(r"stdout: ([\d,]+) records; store: ([\d,]+) records; the same ones", out)
    assert counted is not None
    with LogStore(store) as stored:
        [(records, pids)] = list(stored.rows("select count(*), count(distinct pid) from logs where logger = 'app'"))
    assert 0 < records < int(counted[1].replace(",", ""))
    assert pids == 2
    assert not server_processes(store)


def test_ctrl_c_ends_the_demo_with_its_tables_and_no_traceback(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with demo(60, store) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "GET /products" in line:  # the first lines come whole, these only once there is traffic
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert "slowest routes" in out
    assert "Traceback" not in err
    assert not server_processes(store)


def test_a_second_demo_in_the_same_store_counts_only_its_own_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    counted = []
    for _ in range(2):
        assert run(0.5, store) == 0
        found = re.search(r"stdout: ([\d,]+) records; store: ([\d,]+) records", capsys.readouterr().out)
        assert found is not None
        assert found[1] == found[2]
        counted.append(int(found[1].replace(",", "")))
    with LogStore(store) as stored:
        assert list(stored.rows("select count(*) from logs")) == [(sum(counted),)]


def test_a_shop_that_cannot_start_is_an_error_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text("raise RuntimeError('no shop today')\n")
    monkeypatch.setattr(show, "find_shop", lambda: tmp_path)
    assert run(1, tmp_path / "store") == 1
    said = capsys.readouterr().err
    assert "the server did not start" in said
    assert "no shop today" in said


def test_signals_are_as_before_when_the_demo_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    (tmp_path / "app.py").write_text("raise RuntimeError('no shop today')\n")
    monkeypatch.setattr(show, "find_shop", lambda: tmp_path)
    run(1, tmp_path / "store")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
