"""Run a small program in a process of its own, and read what it wrote."""

import contextlib
import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 60.0


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of this process without what would configure fapilog or betray the test."""
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(("FAPILOG_", "PYTEST_"))}
    return {**ours, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": "1", **variables}


def command(source: str, *args: object) -> list[str]:
    """Return the command line that runs *source*, with warnings as errors."""
    return [sys.executable, "-W", "error", "-c", textwrap.dedent(source), *map(str, args)]


def run(source: str, *args: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run *source* to its end."""
    return subprocess.run(
        command(source, *args),
        env=environment(**(env or {})),
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def start(source: str, *args: object) -> subprocess.Popen[bytes]:
    """Start *source* and return at once."""
    return subprocess.Popen(
        command(source, *args), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )


def parse(line: bytes) -> dict[str, Any]:
    """Read one line as strictly as the strictest reader: valid UTF-8, no bare NaN, no key twice, an object."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    record = json.loads(line.decode("utf-8", "strict"), parse_constant=_refuse, object_pairs_hook=_once)
    assert isinstance(record, dict)
    return record


def parse_all(written: bytes) -> list[dict[str, Any]]:
    """Read every line of what was written."""
    return [parse(line) for line in written.splitlines(keepends=True)]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a key comes twice in {names}"
    assert not any(isinstance(value, float) and not math.isfinite(value) for _, value in pairs)
    return dict(pairs)


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Have nobody count lines meanwhile, as coverage does: that takes longer than what is measured."""
    tracing = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracing)
