"""F136: sixty secrets, each of its own value, in every place of a record; none of them in any output.

What cannot be seen is not here: a secret in base64 or in another encoding, and one that is split over two fields.
"""

import asyncio
import dataclasses
import re
from os import sep
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pydantic
import pytest
from fastapi import FastAPI

from fapilog import bound_context, configure_logging, get_logger, log
from fapilog.metrics import prometheus_text
from fapilog.store.compact import compact
from fapilog.testing import capture
from tests.receiver import Receiver

COUNT = 0


def canary() -> str:
    """Return a value that no other place has, with nothing in it that tells it is a secret."""
    global COUNT  # noqa: PLW0603 - the number of the next
    COUNT += 1
    return f"Canary{COUNT:03d}x7Qz"


def jwt() -> str:
    return f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{canary()}"


@dataclasses.dataclass
class Account:
    name: str
    password: str


class Login(pydantic.BaseModel):
    account: Account
    api_key: str
    secret: pydantic.SecretStr


class Opaque:
    def __init__(self, said: str) -> None:
        self.said = said

    def __str__(self) -> str:
        return f"<Opaque token={self.said}>"


def in_records() -> None:  # noqa: PLR0915 - one place after the other
    """Log a secret in every place that a log call has."""
    c = canary
    logger = get_logger("app.orders")
    # the message and its arguments
    log.info(f"login with password={c()}")
    log.info("login with password=%s for %s", c(), "ann")
    log.info("the api key: %s", c())
    log.info(f"Authorization: Bearer {c()}")
    log.info(f"sent Bearer {c()} to the shop")
    log.info(f"curl --password {c()} --user ann")
    log.info(f"<login><password>{c()}</password></login>")
    log.info("headers %r", [(b"authorization", f"Bearer {c()}".encode()), (b"cookie", f"sid={c()}".encode())])
    log.info({"password": c(), "user": "ann"})
    log.info("%(user)s has %(secret)s", {"user": "ann", "secret": f"token={c()}"})
    # fields, by name and in depth
    log.info("x", password=c(), user="ann")
    log.info("x", **{"Pass-Word": c(), "X-API-KEY": c(), "authToken": c(), "DB_PASSWORD": c(), "clientSecret": c()})
    log.info("x", payload={"user": {"deep": {"refresh_token": c()}}})
    log.info("x", items=[{"a": 1}, {"session_id": c()}, [{"jwt": c()}]])
    log.info("x", headers=[["host", "a"], ["Authorization", c()], ["Cookie", c()]])
    log.info("x", headers=[{"name": "X-Api-Key", "value": c()}])
    log.info("x", account=Account("ann", c()))
    log.info("x", login=Login(account=Account("ann", c()), api_key=c(), secret=pydantic.SecretStr(c())))
    log.info("x", thing=Opaque(c()))
    log.info("x", raw=f"password={c()}".encode(), more=bytearray(f'{{"token": "{c()}"}}'.encode()))
    log.info("x", **{f"token={c()}": 1})
    log.info("x", mapping={f"Bearer {c()}": 1})
    # texts in fields
    log.info("x", body=f'{{"user": "ann", "password": "{c()}"}}')
    log.info("x", body=f'{{"outer": "{{\\"password\\": \\"{c()}\\"}}"}}')
    log.info("x", body=f'{{"pass\\u0077ord": "{c()}", "credentials": {{"a": "{c()}"}}}}')
    log.info("x", body=repr({"api_key": c(), "user": ("password", c())}))
    log.info("x", url=f"https://shop.test/pay?token={c()}&page=2", back=f"/x?next=%2Fa%3Fcode%3D{c()}")
    log.info("x", dsn_text=f"postgres://ann:{c()}@db.test/shop", cache=f"redis://:{c()}@cache.test:6379/0")
    log.info("x", broker=f"Server=db;User Id=ann;Password={c()};Timeout=3")
    log.info("x", text=jwt())
    log.info("x", text=f"-----BEGIN RSA PRIVATE KEY-----\n{c()}\n{c()}\n-----END RSA PRIVATE KEY-----")
    log.info("x", text=f"xoxb-1234567890-{c()}", other=f"ghp_{c()}0123456789abcdefghij")
    log.info("x", text=f"sk_live_{c()}", hook=f"https://hooks.slack.com/services/T0000/B0000/{c()}abcdef")
    log.info("x" * 40_000 + f" password={c()}")
    # bound, in the context, and the name of the logger
    logger.bind(access_token=c()).info("x", set_cookie=c())
    with bound_context(api_key=c(), note=f"secret={c()}"):
        logger.info("x")
    get_logger(f"app?token={c()}").info("x")
    log.log(f"token={c()}", "x")
    log.info("%d", f"password={c()}")
    # what exceptions say, their causes and notes; locals
    local_secret = c()
    try:
        try:
            raise KeyError(f"password={c()}")  # noqa: TRY301 - to be caught
        except KeyError as error:
            error.add_note(f"token: {c()}")
            raise ValueError(f"cannot connect to mysql://ann:{c()}@db.test/shop") from error
    except ValueError:
        log.exception("failed", local=len(local_secret))
    log.info("x", error=RuntimeError(f"api_key={c()}"))


async def in_requests(app: FastAPI) -> None:
    """Send requests with a secret in every part that an access record tells."""
    c = canary
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        await client.get(
            f"/orders/{jwt()}?api_key={c()}&next=%2Fx%3Ftoken%3D{c()}",
            headers={
                "authorization": f"Bearer {c()}",
                "cookie": f"session={c()}",
                "x-api-key": c(),
                "user-agent": f"bot Bearer {c()}",
                "referer": f"https://a.test/?token={c()}",
                "x-note": f"password={c()}",
                "baggage": f"token={c()}",
                "x-request-id": f"password={c()}",
            },
        )
        await client.post("/login", json={"user": "ann", "password": c(), "note": f"Bearer {c()}"})
        await client.post("/login", data={"user": "ann", "password": c()})
        await client.get(f"/fail?token={c()}")


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/login")
    async def login() -> dict[str, str]:
        return {"access_token": canary()}

    @app.get("/fail")
    async def fail() -> None:
        raise RuntimeError(f"the token={canary()} is not known")

    return app


class Unwilling:
    """A sink whose errors tell secrets, so that stderr would have them."""

    name = "unwilling"

    def write(self, batch: Any) -> None:
        raise OSError(f"cannot write: password={canary()} at https://ann:{canary()}@far.test/")

    def close(self) -> None:
        pass


def test_none_of_sixty_secrets_is_in_any_output(
    tmp_path: Path, receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    first = COUNT
    log.info(f"before it was configured: password={canary()}", iban_of_ann=canary())
    app, key = application(), "key-of-the-far-end"
    receiver.behave({"do": "reject", "marker": "api_key"}, "accept")
    sinks = [
        "stdout",
        f"file://{logs}/app.log",
        {"type": "file", "name": "lines", "path": logs / "lines.log", "format": "{timestamp} {event} {fields}"},
        {"type": "stdout", "name": "screen", "format": "pretty", "fd": 2, "width": 400},
        f"duckdb://{logs}/store",
        {"type": "http", "endpoint": receiver.url(), "api_key": key, "name": "taken"},
        {"type": "http", "endpoint": f"http://127.0.0.1:9/?token={canary()}", "name": "away"},
        Unwilling(),
    ]
    with configure_logging(
        app,
        sinks=sinks,
        spool_path=logs / "spool",
        redact_fields=["iban_of_ann"],
        redact_key=canary(),
        access_headers=["*"],
        access_response_headers=["*"],
        access_bodies="both",
        level="trace",
        shutdown_timeout_seconds=2.0,
    ) as handle:
        in_records()
        asyncio.run(in_requests(app))
        log.info("settings", settings=handle.settings, said=repr(handle.settings), sinks=sinks[5:7])
        handle.flush(2.0)
        told = prometheus_text(handle.stats()) + repr(handle.stats()) + repr(handle.settings)
        redacted = handle.stats().redacted
    compact(logs / "store")
    with duckdb.connect() as connection:
        found = list((logs / "store").rglob("*.parquet"))
        assert found
        told += repr(connection.execute("from read_parquet(?)", [[str(each) for each in found]]).fetchall())
    outputs = {
        "stdout and stderr": "\n".join(capfd.readouterr()),
        "metrics and settings": told,
        "far end": repr(receiver.report()) + repr(receiver.lines()),
        **{str(path): path.read_bytes().decode("utf-8", "replace") for path in logs.rglob("*") if path.is_file()},
    }
    assert COUNT - first >= 60
    assert len(outputs["stdout and stderr"]) > 10_000
    assert any("spool" in name for name in outputs)
    assert any(f"{sep}dead{sep}" in name for name in outputs)
    assert [name for name, said in outputs.items() if key in said] == ["far end"]
    canaries = [f"Canary{number:03d}x7Qz" for number in range(first + 1, COUNT + 1)]
    leaks = [
        f"{each} in {name}: {re.search(f'.{{0,80}}{each}.{{0,20}}', said, re.DOTALL)[0]!r}"  # type: ignore[index]
        for name, said in outputs.items()
        for each in canaries
        if each in said
    ]
    assert leaks == []
    assert redacted["failed"] == 0


def test_without_redaction_the_same_records_tell_nearly_all_of_them() -> None:
    first = COUNT
    with capture(redact_off=["fields", "texts", "urls", "credentials"]) as captured:
        in_records()
        told = repr(captured.records)
    made = [f"Canary{number:03d}x7Qz" for number in range(first + 1, COUNT + 1)]
    assert len(made) >= 55
    assert len([each for each in made if each in told]) >= len(made) - 4  # locals, SecretStr, what was cut, a level
