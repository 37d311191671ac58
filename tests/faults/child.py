"""What a program under test does beside its task: tell the test what happened, and show where it hangs."""

import dataclasses
import faulthandler
import json
import os
import signal
from pathlib import Path
from typing import Any

import fapilog
from fapilog.pipeline.ledger import FlushResult, Stats
from fapilog.pipeline.worker import Worker
from fapilog.runtime import Runtime

FD = os.open(os.environ["TELL"], os.O_WRONLY | os.O_CLOEXEC)
faulthandler.register(signal.SIGUSR1)  # the driver asks with it where a process hangs


def tell(what: str, **facts: Any) -> None:
    """Write one line to the test through a pipe that outlives this process; it survives any kind of death."""
    os.write(FD, json.dumps({"what": what, "pid": os.getpid(), **facts}).encode() + b"\n")


def tell_stats(stats: Stats) -> None:
    """Tell how the books of this process stand."""
    sinks = {
        name: {**dataclasses.asdict(sink), "delays": None, "dropped": dict(sink.dropped), "balanced": sink.balanced}
        for name, sink in stats.sinks.items()
    }
    tell(
        "stats",
        instance=stats.instance,
        accepted=stats.accepted,
        dropped=dict(stats.dropped),
        restarts=stats.worker_restarts,
        late=stats.late_direct,
        sinks=sinks,
    )


def configure(directory: str, endpoint: str = "", **settings: Any) -> fapilog.Handle:
    """Log to a file, and to a receiver if there is one."""
    sinks: list[Any] = [{"type": "file", "path": f"{directory}/app.log"}]
    if endpoint:
        options = settings.pop("http", {})
        sinks.append({"type": "http", "endpoint": endpoint, **options})
    return fapilog.configure_logging(sinks=sinks, spool_path=Path(directory) / "spool", **settings)


_flush, _close = Worker.flush, Runtime.close


def _close_and_tell(self: Runtime, timeout_seconds: float) -> FlushResult:
    tell("draining")
    result = _close(self, timeout_seconds)
    tell_stats(self.stats())
    return result


def _flush_and_tell(self: Worker, timeout_seconds: float, *, durable: bool = True, empty: bool = False) -> FlushResult:
    tell("draining")
    return _flush(self, timeout_seconds, durable=durable, empty=empty)


Runtime.close = _close_and_tell  # type: ignore[method-assign]
Worker.flush = _flush_and_tell  # type: ignore[method-assign]
