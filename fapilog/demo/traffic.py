"""What the customers of the shop do: several at once, each at an own pace, some with a trace of their own."""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx

CUSTOMERS: Final = ("ada", "grace", "edsger", "barbara", "donald", "radia", "tony", "frances")
GOOD_CARD: Final = "4242424242424242"
EMPTY_CARD: Final = "4000000000000002"
_SKUS: Final = ("tea", "coffee", "kettle")


@dataclass
class Traffic:
    """What was sent, and what came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    """Responses by status code."""

    failures: int = 0
    """Requests that got no response."""

    traces: set[str] = field(default_factory=set)
    """Trace ids that came from the customers, not from the shop."""

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return self.statuses.total()


async def send(url: str, seconds: float, traffic: Traffic, stopped: Callable[[], bool]) -> None:
    """Be eight customers of the shop at *url* for that many seconds, or until *stopped* says so.

    The score is kept in *traffic*.
    """
    until = time.monotonic() + seconds

    def shop_is_open() -> bool:
        return time.monotonic() < until and not stopped()

    limits = httpx.Limits(max_keepalive_connections=0)  # new connections reach all server processes
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=10, trust_env=False) as client:
        await asyncio.gather(*[_shop(client, name, shop_is_open, traffic) for name in CUSTOMERS])


async def _shop(client: httpx.AsyncClient, name: str, shop_is_open: Callable[[], bool], traffic: Traffic) -> None:
    chance = random.Random(name)  # noqa: S311 - the same customer does the same every time
    while shop_is_open():
        method, path, body = _wish(chance)
        headers = {"x-customer": name}
        if chance.random() < 0.3:
            trace_id = secrets.token_hex(16)
            headers["traceparent"] = f"00-{trace_id}-{secrets.token_hex(8)}-01"
            traffic.traces.add(trace_id)
        try:
            response = await client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError:
            traffic.failures += 1
        else:
            traffic.statuses[response.status_code] += 1
        await asyncio.sleep(chance.uniform(0.01, 0.08))


def _wish(chance: random.Random) -> tuple[str, str, dict[str, str | int] | None]:
    """Return the method, path and body of what a customer wants next."""
    sku = chance.choice(_SKUS)
    dice = chance.random()
    if dice < 0.30:
        return "GET", "/products", None
    if dice < 0.55:
        return "GET", f"/products/{sku}", None
    if dice < 0.60:
        return "GET", "/products/unicorn", None
    if dice < 0.90:
        card = EMPTY_CARD if chance.random() < 0.2 else GOOD_CARD
        return "POST", "/orders", {"sku": sku, "quantity": chance.randint(1, 4), "card_number": card}
    if dice < 0.95:
        return "GET", f"/products/{sku}/forecast", None
    return "GET", "/reports/sales", None
