"""Report the resident memory of a FastAPI app with and without fapilog, idle and after many records."""

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.request import make_app, serve

WARM_UP_REQUESTS: int = 500


def resident_mb() -> float:
    """Return this process's VmRSS."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def bare(*, imported: bool) -> dict[str, float]:
    """Serve some requests without logging; with fapilog *imported* or not so much as that."""
    if imported:
        importlib.import_module("fapilog").configure_logging  # noqa: B018 - the package is loaded by its first name
    asyncio.run(serve(make_app(), WARM_UP_REQUESTS))
    return {"idle_mb": resident_mb()}


def logged(records: int, store: Path) -> dict[str, float]:
    """Serve the same requests with stdout and a store, then log *records* more."""
    from fapilog import configure_logging, get_logger

    app = make_app()
    sinks: list[Any] = ["stdout", {"type": "duckdb", "path": str(store)}]
    with configure_logging(app, sinks=sinks, json_console="json", service="shop") as handle:
        asyncio.run(serve(app, WARM_UP_REQUESTS))
        handle.flush(60)
        idle = resident_mb()
        info = get_logger("bench").info
        for i in range(records):
            info("order placed", order_id=i, sku="tea", quantity=2, price=12.5, express=True)
        handle.flush(120)
        return {"idle_mb": idle, "after_mb": resident_mb()}


def main() -> int:
    """Measure one of the three and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=("bare", "imported", "fapilog"))
    parser.add_argument("--records", type=int, default=1_000_000)
    arguments = parser.parse_args()
    answer = os.dup(1)  # the records go to /dev/null, the figures to where stdout was
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    with contextlib.ExitStack() as stack:
        if arguments.variant != "fapilog":
            figures = bare(imported=arguments.variant == "imported")
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-"))
            figures = logged(arguments.records, Path(directory))
    os.write(answer, json.dumps(figures).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
