"""The service that the W3C's conformance harness for Trace Context tests; docs/requests.md says how to run it.

It is told whom to call, and calls them with the headers that any service would send.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request

from fapilog import configure_logging
from fapilog.integrations.httpx import AsyncTracingTransport


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(transport=AsyncTracingTransport(log_calls=True), timeout=5) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)
configure_logging(app, service="trace", sinks=["stdout"])


@app.post("/test")
async def call_others(request: Request) -> dict[str, int]:
    calls: list[dict[str, Any]] = await request.json()
    for call in calls:
        await app.state.client.post(call["url"], json=call["arguments"])
    return {"called": len(calls)}
