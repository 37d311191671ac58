"""The course of the demo: serve, send traffic, stop, and ask the store."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import httpx

from fapilog.demo import report, traffic
from fapilog.demo.lines import Lines
from fapilog.demo.server import Server
from fapilog.errors import FapilogError

PROCESSES: Final = 2
START_SECONDS: Final = 60.0
_PACKAGE: Final = Path(__file__).parent


def run(seconds: float = 10.0, path: Path | None = None) -> int:
    """Run the shop under two server processes with traffic for *seconds*, then print what its store says.

    Args:
        seconds: How long there is traffic. Ctrl-C ends it earlier.
        path: The directory of the store; by default a temporary one, removed afterwards.

    Returns:
        The exit code: 0 if every record on stdout is in the store, once, and no secret is in any; else 1.
    """
    try:
        with _Interrupts() as interrupts, _directory(path) as store:
            return _run(seconds, store, interrupts)
    except FapilogError as error:
        print(f"fapilog demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _run(seconds: float, store: Path, interrupts: "_Interrupts") -> int:
    shop = find_shop()
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise FapilogError(f"{' and '.join(missing)} not installed; pip install 'fapilog[fastapi]' uvicorn")
    lines = Lines()
    lines.secrets = (traffic.GOOD_CARD.encode(), traffic.EMPTY_CARD.encode())
    done = traffic.Traffic()
    began = set(report.ids(store)) if any(store.iterdir()) else set()
    print(f"starting {shop / 'app.py'} under uvicorn with {PROCESSES} processes, logging to stdout and {store}\n")
    with (
        tempfile.TemporaryDirectory(prefix="fapilog-demo-") as elsewhere,  # there is no .env of the user's to be read
        Server(
            shop,
            processes=PROCESSES,
            environment=_environment(store),
            working_directory=Path(elsewhere),
            on_line=lines,
            on_complaint=_show_complaint,
        ) as server,
    ):
        _wait_until_it_answers(server, lines, interrupts)
        asyncio.run(traffic.send(server.url, seconds, done, lambda: interrupts.asked))
        lines.quiet.set()
        print(f"\n{done.requests:,} requests answered; sending SIGTERM ...", flush=True)
        if not server.stop():
            raise FapilogError("the server did not end after SIGTERM and was killed")
    if not lines.ids:  # interrupted before the first answer
        raise KeyboardInterrupt
    print(f"{lines.ids.total():,} records came out of stdout, {lines.shown} of them are shown above", flush=True)
    report.show(store, done.traces)
    return _check(lines, [record for record in report.ids(store) if record not in began], done)


def find_shop() -> Path:
    """Return the directory of the example shop: beside this file in an installed package, else in the checkout."""
    for directory in (_PACKAGE / "shop", _PACKAGE.parents[1] / "examples" / "shop"):
        if (directory / "app.py").is_file():
            return directory
    raise FapilogError("the example shop is not there; it is in examples/shop of the source")


def _check(lines: Lines, stored: list[str], done: traffic.Traffic) -> int:
    """Say whether stdout and store hold the same records, and return the exit code."""
    kept = set(stored)
    problems = {
        "records on stdout are not in the store": len(lines.ids.keys() - kept),
        "records in the store were not on stdout": len(kept - lines.ids.keys()),
        "records came more than once": lines.ids.total() - len(lines.ids) + len(stored) - len(kept),
        "lines held a card number": lines.leaks,
        "requests got no response": done.failures,
    }
    said = [f"{number:,} {what}" for what, number in problems.items() if number]
    print(f"\nstdout: {lines.ids.total():,} records; store: {len(stored):,} records", end="; ")
    print("; ".join(said) if said else "the same ones, each once, no card number in any")
    return 1 if said or not stored else 0


def _wait_until_it_answers(server: Server, lines: Lines, interrupts: "_Interrupts") -> None:
    """Ask until every server process has answered once, each time through a new connection."""
    until = time.monotonic() + START_SECONDS
    while len(lines.pids) < PROCESSES and not interrupts.asked:
        if server.failing or time.monotonic() > until:
            raise FapilogError("the server did not start:\n  " + "\n  ".join(server.complaints))
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{server.url}/products", timeout=5, trust_env=False)
        time.sleep(0.1)


def _environment(store: Path) -> dict[str, str]:
    """Return this process's environment with the shop's logging settings in place of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("FAPILOG_")}
    return kept | {
        "FAPILOG_SINKS": "stdout,duckdb",
        "FAPILOG_JSON_CONSOLE": "json",
        "FAPILOG_DUCKDB__PATH": str(store),
        "FAPILOG_SERVICE": "shop",
        "FAPILOG_ENV": "demo",
    }


def _show_complaint(line: str) -> None:
    """Show what fapilog itself says on the server's stderr; the rest is kept in case the server does not start."""
    if line.startswith("fapilog:"):
        print(line, file=sys.stderr)


@contextlib.contextmanager
def _directory(path: Path | None) -> Iterator[Path]:
    if path is None:
        with tempfile.TemporaryDirectory(prefix="fapilog-demo-store-") as made:
            yield Path(made)
    else:
        path.mkdir(parents=True, exist_ok=True)
        yield path.resolve()


class _Interrupts:
    """SIGINT and SIGTERM while the demo runs: the first asks it to come to its end, the second ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
