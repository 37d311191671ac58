"""A service with every kind of endpoint, dependency and middleware, for one real server after the other.

Each record says which request it is of in the field ``n``, given as an argument and not taken from any context.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from fapilog import bind_request, configure_logging, get_logger

log = get_logger("service")
stdlib = logging.getLogger("service.stdlib")


def fail_if(request: Request, where: str) -> None:
    """Raise if this request is to fail here."""
    if request.query_params.get("fails") == where:
        raise RuntimeError(where)


def number_of(request: Request) -> int:
    """Return which request this is."""
    return int(request.query_params["n"])


class Around(BaseHTTPMiddleware):
    """A user's own middleware, which runs what is inside in a task of its own."""

    def __init__(self, app: Any, where: str) -> None:
        super().__init__(app)
        self.where = where

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Log before and after."""
        if "n" not in request.query_params:
            return await call_next(request)
        log.info(f"before in {self.where}", n=number_of(request))
        fail_if(request, f"{self.where} before")
        response = await call_next(request)
        log.info(f"after in {self.where}", n=number_of(request))
        fail_if(request, f"{self.where} after")
        return response


async def async_dependency(request: Request) -> AsyncIterator[int]:
    n = number_of(request)
    bind_request(bound=n)
    log.info("async dependency", n=n)
    fail_if(request, "async dependency before")
    yield n
    log.info("async dependency ends", n=n)
    fail_if(request, "async dependency after")


def sync_dependency(request: Request) -> Iterator[int]:
    n = number_of(request)
    log.info("sync dependency", n=n)
    fail_if(request, "sync dependency before")
    if request.query_params.get("fails") == "refused":
        raise HTTPException(418)
    yield n
    log.info("sync dependency ends", n=n)
    fail_if(request, "sync dependency after")


Number = Annotated[int, Depends(async_dependency)]
AndSync = [Depends(sync_dependency)]

app = FastAPI()
sub = FastAPI()


@app.get("/ready")
async def ready() -> None:
    """Say that this process serves."""


@app.get("/async", dependencies=AndSync)
@sub.get("/async", dependencies=AndSync)
async def read(request: Request, n: Number, wait: float = 0) -> dict[str, int]:
    log.info("begins", n=n)
    await asyncio.sleep(wait)
    stdlib.info("from the standard library", extra={"n": n})
    await asyncio.gather(asyncio.create_task(in_a_task(n)), asyncio.to_thread(log.info, "in a thread", n=n))
    fail_if(request, "async endpoint")
    return {"n": n}


async def in_a_task(n: int) -> None:
    log.info("in a task", n=n)


@app.get("/sync", dependencies=AndSync)
def read_in_a_thread(request: Request, n: Number) -> dict[str, int]:
    log.info("in a sync endpoint", n=n)
    fail_if(request, "sync endpoint")
    return {"n": n}


@app.get("/background")
async def read_and_go_on(request: Request, n: Number, tasks: BackgroundTasks) -> dict[str, int]:
    async def later() -> None:
        log.info("in an async background task", n=n)

    def in_a_thread() -> None:
        log.info("in a sync background task", n=n)
        fail_if(request, "background task")

    tasks.add_task(later)
    tasks.add_task(in_a_thread)
    return {"n": n}


@app.get("/events")
async def stream(request: Request, n: Number) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for number in range(3):
            log.info("in a stream", n=n)
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.01)
            if number == 1:
                fail_if(request, "stream")

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/file")
async def send_file(n: Number) -> FileResponse:
    log.info("before a file", n=n)
    return FileResponse(__file__)


app.add_middleware(Around, where="the outer middleware")
sub.add_middleware(Around, where="the inner middleware")
app.mount("/sub", sub)
configure: Callable[..., Any] = configure_logging
configure(app, sinks=["stdout"], json_console="json")
