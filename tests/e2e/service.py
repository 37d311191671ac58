"""The service that the end-to-end tests run under a real uvicorn."""

from fastapi import FastAPI

from fapilog import bind_request, configure_logging, get_logger

log = get_logger("service")
app = FastAPI()
configure_logging(app, service="service")


@app.get("/orders/{number}")
async def read_order(number: int) -> dict[str, int]:
    bind_request(number=number)
    log.info("order read", customer="alice")
    log.warning("stock is low", left=3)
    return {"number": number}


@app.get("/fails")
def fail() -> None:
    log.info("about to fail")
    raise RuntimeError("no stock")
