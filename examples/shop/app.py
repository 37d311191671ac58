"""A small shop, logged with fapilog.

uvicorn app:app --app-dir examples/shop

curl localhost:8000/products
curl localhost:8000/orders -H 'x-customer: ada' -H 'content-type: application/json' \
    -d '{"sku": "tea", "quantity": 2, "card_number": "4242424242424242"}'
"""

import asyncio
import time
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, PositiveInt

from fapilog import bind_request, configure_logging, get_logger, log_execution, timed_operation

app = FastAPI(title="shop")
configure_logging(app)

log = get_logger()


class Product(BaseModel):
    """Something the shop sells."""

    sku: str
    price_cents: int
    stock: int
    sold_yesterday: int


class Order(BaseModel):
    """What a customer sends to buy something."""

    sku: str
    quantity: PositiveInt = 1
    card_number: str


PRODUCTS = {
    product.sku: product
    for product in (
        Product(sku="tea", price_cents=450, stock=120, sold_yesterday=31),
        Product(sku="coffee", price_cents=890, stock=64, sold_yesterday=48),
        Product(sku="kettle", price_cents=3_900, stock=9, sold_yesterday=0),
    )
}


def customer(x_customer: Annotated[str, Header()] = "guest") -> str:
    """Say who is asking; from here on every record of the request carries it, the access record included."""
    bind_request(user_id=x_customer)
    return x_customer


Customer = Annotated[str, Depends(customer)]


def find(sku: str) -> Product:
    """Return a product, or answer 404."""
    product = PRODUCTS.get(sku)
    if product is None:
        log.warning("no such product", sku=sku)
        raise HTTPException(404, f"the shop has no {sku!r}")
    return product


@log_execution("charge card")
async def charge(card_number: str, amount_cents: int) -> bool:
    """Ask the payment provider for the money; cards that end in 0002 have none."""
    await asyncio.sleep(0.01)
    if card_number.endswith("0002"):
        log.warning("payment declined", card_number=card_number, amount_cents=amount_cents, reason="insufficient funds")
        return False
    return True


def send_receipt(name: str, sku: str, amount_cents: int) -> None:
    """Write to the customer, after the response has gone out."""
    with timed_operation("send receipt"):
        time.sleep(0.005)
        log.info("receipt sent", to=name, sku=sku, amount_cents=amount_cents)


@app.get("/products")
async def list_products() -> list[Product]:
    """List everything the shop sells."""
    return list(PRODUCTS.values())


@app.get("/products/{sku}")
async def show_product(sku: str, name: Customer) -> Product:
    """Show one product."""
    product = find(sku)
    log.info("product viewed", sku=sku, stock=product.stock)
    return product


@app.get("/products/{sku}/forecast")
def forecast(sku: str) -> dict[str, float]:
    """Tell for how many days the stock will last; a product nobody bought yesterday was not thought of."""
    product = find(sku)
    return {"days_left": product.stock / product.sold_yesterday}


@app.post("/orders", status_code=201)
async def place_order(order: Order, name: Customer, tasks: BackgroundTasks) -> dict[str, str | int]:
    """Take an order: charge the card, and send a receipt in the background."""
    amount_cents = find(order.sku).price_cents * order.quantity
    if not await charge(order.card_number, amount_cents):
        raise HTTPException(402, "the card was declined")
    log.info("order placed", sku=order.sku, quantity=order.quantity, amount_cents=amount_cents)
    tasks.add_task(send_receipt, name, order.sku, amount_cents)
    return {"sku": order.sku, "amount_cents": amount_cents}


@app.get("/reports/sales")
def sales_report() -> dict[str, int]:
    """Add up yesterday's sales, slowly."""
    with timed_operation("add up sales"):
        time.sleep(0.25)
        return {product.sku: product.price_cents * product.sold_yesterday for product in PRODUCTS.values()}
