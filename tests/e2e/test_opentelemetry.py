"""A FastAPI application that traces with OpenTelemetry's SDK: its spans and our records tell one story.

In a process of its own, for a provider of spans is set once and for all.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"

SCRIPT = """
    import asyncio
    import json
    import sys

    import httpx
    from fastapi import Depends, FastAPI
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from fapilog import configure_logging, log
    from fapilog.testing import CollectingSink
    from fapilog.trace import inject

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    app, sink = FastAPI(), CollectingSink()
    handle = configure_logging(app, sinks=[sink])

    def user():
        log.info("in a dependency")

    @app.get("/orders", dependencies=[Depends(user)])
    async def orders() -> dict[str, str]:
        log.info("in the handler")
        headers = {}
        inject(headers)
        return headers

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.get("/orders", headers=dict(json.loads(sys.argv[1])))

    response = asyncio.run(ask())
    handle.flush()
    print(json.dumps({
        "records": sink.records,
        "spans": [
            {
                "name": span.name,
                "kind": span.kind.name,
                "trace_id": f"{span.context.trace_id:032x}",
                "span_id": f"{span.context.span_id:016x}",
                "parent_id": span.parent and f"{span.parent.span_id:016x}",
            }
            for span in exporter.get_finished_spans()
        ],
        "told": response.json(),
        "response": dict(response.headers),
    }))
"""


@pytest.mark.parametrize("inbound", [{"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-03", "tracestate": "rojo=1"}, {}])
def test_records_spans_and_headers_of_a_request_agree(inbound: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), json.dumps(inbound)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    spans = {span["span_id"]: span for span in seen["spans"]}
    (server,) = [span for span in spans.values() if span["kind"] == "SERVER"]
    dependency, handler, access = seen["records"]

    assert access["span_id"] == server["span_id"]
    assert access.get("parent_span_id") == server["parent_id"] == (SPAN_ID if inbound else None)
    assert access["trace_id"] == (TRACE_ID if inbound else server["trace_id"])
    for record in (dependency, handler):
        span = spans[record["span_id"]]
        assert record["trace_id"] == span["trace_id"] == access["trace_id"]
        assert record.get("parent_span_id") == span["parent_id"]
        assert record["request_id"] == access["request_id"] == access["trace_id"]
    assert seen["response"]["traceresponse"] == f"00-{access['trace_id']}-{access['span_id']}-03"
    assert seen["told"]["traceparent"] == f"00-{handler['trace_id']}-{handler['span_id']}-03"
    assert seen["told"].get("tracestate") == inbound.get("tracestate")
