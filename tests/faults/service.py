"""The service that the tests of servers run: it logs as much as a request asks for, to a file and to a receiver."""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from fapilog import log
from tests.faults.child import configure, tell


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    tell("up")
    yield
    log.info("going down")


app = FastAPI(lifespan=lifespan)
handle = configure(os.environ["DIRECTORY"], os.environ["ENDPOINT"], app=app)
if os.environ.get("LOG_BEFORE_FORK"):
    log.info("in the master")
    tell("master", instance=handle.stats().instance)


@app.get("/log/{count}")
async def log_many(count: int) -> int:
    for number in range(count):
        log.info("counted", number=number)
    tell("logged", instance=handle.stats().instance, accepted=handle.stats().accepted)
    return count


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do the same for a server that knows no ASGI, and hang if asked to."""
    for number in range(1_000):
        log.info("counted", number=number)
    tell("logged", instance=handle.stats().instance, accepted=handle.stats().accepted)
    if environ["PATH_INFO"] == "/hang":
        time.sleep(60)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
