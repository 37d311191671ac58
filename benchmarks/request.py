"""Send requests through a FastAPI app in process, bare and with fapilog, taking turns."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import MutableMapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from benchmarks.measure import Spread, percentile

Message = MutableMapping[str, Any]


def make_app() -> FastAPI:
    """Make an app with one route that does next to nothing."""
    app = FastAPI(openapi_url=None)

    @app.get("/orders/{order_id}")
    async def show_order(order_id: int) -> dict[str, int]:
        return {"order_id": order_id, "quantity": 2}

    return app


def scope() -> dict[str, Any]:
    """Return what uvicorn makes of a plain GET, every key of it: dicts grow in steps."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/orders/7",
        "raw_path": b"/orders/7",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"shop.example"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
    }


async def receive() -> Message:
    """Give an empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    """Take the response as a server that has the socket's buffer free."""
    if message["type"] == "http.response.start":
        assert message["status"] == 200


async def serve(app: FastAPI, requests: int) -> tuple[float, list[float]]:
    """Send that many requests, one after the other; return the mean and each one's time in microseconds."""
    clock = time.perf_counter_ns
    taken = [0] * requests
    began = clock()
    for i in range(requests):
        started = clock()
        await app(scope(), receive, send)
        taken[i] = clock() - started
    return (clock() - began) / requests / 1e3, [each / 1e3 for each in taken]


async def compare(logged: FastAPI, handle: Any, *, requests: int, rounds: int) -> dict[str, Any]:
    """Let the two apps take turns; who begins changes each round."""
    apps = {"bare": make_app(), "fapilog": logged}
    means: dict[str, list[float]] = {name: [] for name in apps}
    singles: dict[str, list[float]] = {name: [] for name in apps}
    for number in range(rounds + 1):
        for name in list(apps) if number % 2 else list(reversed(apps)):
            mean, taken = await serve(apps[name], requests)
            await handle.aflush()
            if number:  # the first round only warms up
                means[name].append(mean)
                singles[name] += taken
    over = [ours - bare for ours, bare in zip(means["fapilog"], means["bare"], strict=True)]
    summary: dict[str, Any] = {"over_bare_us": asdict(Spread.of(over))}
    for name in apps:
        ordered = sorted(singles[name])
        summary[name] = {
            "mean_us": asdict(Spread.of(means[name])),
            "p50_us": percentile(ordered, 0.50),
            "p99_us": percentile(ordered, 0.99),
        }
    return summary


def main() -> int:
    """Compare the bare app with the logged one and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    from fapilog import configure_logging  # here, for the memory of a bare app is measured with this module too

    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        app = make_app()
        path = Path(directory) / "log.jsonl"
        with configure_logging(app, sinks=[{"type": "file", "path": str(path)}], service="shop") as handle:
            summary = asyncio.run(compare(app, handle, requests=arguments.requests, rounds=arguments.rounds))
        written = path.read_bytes().count(b"\n")
    expected = arguments.requests * (arguments.rounds + 1)
    assert written >= expected, f"{written} of {expected} access records are in the file"
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
