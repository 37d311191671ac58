"""A pytest plugin that puts the middleware round every Starlette and FastAPI application a suite makes.

Settings come from the environment, as for any program: ``FAPILOG_ACCESS_BODIES=both`` runs a suite with bodies copied.
The headers that the middleware adds are taken off again, outside of it, since a suite may compare whole responses; so
what passes shows that nothing else has changed. The records go to a file, and every line of it is read at the end.
"""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from fapilog import configure_logging


def pytest_configure(config: pytest.Config) -> None:
    directory = tempfile.mkdtemp(prefix="fapilog-conformance-")
    path = Path(directory) / "records.jsonl"
    handle = configure_logging(sinks=[{"type": "file", "path": str(path)}], level="trace")
    classes: list[Any] = [Starlette]
    try:
        from fastapi import FastAPI

        classes.append(FastAPI)
    except ImportError:
        pass
    for cls in classes:
        cls.__init__ = _wrapping(cls.__init__)
    config.stash[_RUNNING] = (handle, path)


def _wrapping(make: Any) -> Any:
    @functools.wraps(make)
    def initialise(app: Any, *args: Any, **options: Any) -> None:
        from fapilog.middleware import install
        from fapilog.runtime import _state

        make(app, *args, **options)
        if hasattr(app, "middleware_stack"):
            install(app, lambda inner: _Unadorned(_state.wrap(inner)))

    return initialise


class _Unadorned:
    """Takes off what the middleware has put at the end of the headers."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def take_off(message: Any) -> None:
            headers = message.get("headers")
            if headers and message["type"] in _HEADS:
                kept = [*headers]
                while kept and kept[-1][0] in _ADDED:
                    kept.pop()
                message = {**message, "headers": kept}
            await send(message)

        await self.app(scope, receive, take_off)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    handle, path = config.stash[_RUNNING]
    handle.close()
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    access = sum(record["logger"] == "fapilog.access" for record in records)
    terminalreporter.write_line(f"fapilog: {len(records)} records, {access} of them of a request or websocket")


_ADDED = (b"x-request-id", b"traceresponse")
_HEADS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_RUNNING: pytest.StashKey[tuple[Any, Path]] = pytest.StashKey()
