import dataclasses
from typing import Annotated, Any

import attrs
import pydantic
import pytest

from fapilog.encoding import plain


class Card(pydantic.BaseModel):
    number: str = "4242424242424242"
    owner: str = "ann"
    pin: pydantic.SecretStr = pydantic.SecretStr("1234")
    note: str = pydantic.Field("hidden", repr=False)
    left_out: str = pydantic.Field("hidden", exclude=True)
    place: Annotated[str, pydantic.PlainSerializer(lambda said: said[:2])] = "Ulm"

    @pydantic.field_serializer("number", when_used="json")
    def _last(self, number: str) -> str:
        return f"*{number[-4:]}"

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic says to write it
    @property
    def kind(self) -> str:
        return "visa"

    @pydantic.computed_field(repr=False)  # type: ignore[prop-decorator]  # likewise
    @property
    def inner(self) -> str:
        return "hidden"


class Whole(pydantic.BaseModel):
    a: int = 1
    b: str = "hidden"
    c: str = pydantic.Field("hidden", repr=False)

    @pydantic.model_serializer(mode="wrap")
    def _said(self, serialize: Any) -> dict[str, Any]:
        return {**serialize(self), "b": "said"}


class Text(pydantic.BaseModel):
    a: int = 1

    @pydantic.model_serializer
    def _said(self) -> str:
        return f"a={self.a}"


class Failing(pydantic.BaseModel):
    a: int = 1
    b: int = 2

    @pydantic.field_serializer("a")
    def _raise(self, _value: int) -> str:
        raise RuntimeError

    @pydantic.computed_field  # type: ignore[prop-decorator]  # likewise
    @property
    def c(self) -> int:
        raise SystemExit


class FailingWhole(pydantic.BaseModel):
    a: int = 1

    @pydantic.model_serializer
    def _raise(self) -> str:
        raise RuntimeError


@pydantic.dataclasses.dataclass(slots=True)
class Order:
    card: Card = dataclasses.field(default_factory=Card)
    total: int = 3

    @pydantic.field_serializer("total")
    def _with_currency(self, total: int) -> str:
        return f"{total} EUR"


@attrs.define
class Person:
    name: str = "ann"
    secret: str = attrs.field(default="hidden", repr=False)
    phone: str = attrs.field(default="hidden 0147", repr=lambda said: said[-4:])
    card: Card = attrs.field(factory=Card)


WRONG = Card()
WRONG.__dict__["number"] = 7  # as what is built without validation may be


class Opened(pydantic.BaseModel):
    key: pydantic.SecretStr = pydantic.SecretStr("hidden-1")
    more: list[pydantic.SecretStr] = pydantic.Field(default_factory=lambda: [pydantic.SecretStr("hidden-2")])
    short: pydantic.SecretBytes = pydantic.SecretBytes(b"42")

    @pydantic.field_serializer("key", "short", when_used="json")
    def _open(self, secret: Any) -> Any:
        return secret.get_secret_value()

    @pydantic.field_serializer("more")
    def _open_all(self, secrets: list[pydantic.SecretStr]) -> str:
        return " ".join(["which:", *[each.get_secret_value() for each in secrets]])


class OpenedWhole(pydantic.BaseModel):
    opened: Opened = pydantic.Field(default_factory=Opened)
    n: int = 42

    @pydantic.model_serializer
    def _open(self) -> dict[str, Any]:
        return {"url": f"redis://:{self.opened.key.get_secret_value()}@h", "n": self.n, "opened": self.opened}


CARD = {"number": "*4242", "owner": "ann", "pin": "**********", "place": "Ul", "kind": "visa"}


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        (Card(), CARD),
        (WRONG, {**CARD, "number": "<unprintable Card: PydanticSerializationError>"}),
        (Whole(), {"a": 1, "b": "said"}),
        (Text(), "a=1"),
        ([Text(), {"w": Whole()}], ["a=1", {"w": {"a": 1, "b": "said"}}]),
        (
            Failing(),
            {
                "a": "<unprintable Failing: PydanticSerializationError>",
                "b": 2,
                "c": "<unprintable Failing: SystemExit>",
            },
        ),
        (FailingWhole(), "<unprintable FailingWhole: PydanticSerializationError>"),
        (Order(), {"card": CARD, "total": "3 EUR"}),
        (Opened(), {"key": "**********", "more": "which: **********", "short": "**********"}),
        (
            OpenedWhole(),
            {
                "url": "redis://:**********@h",
                "n": 42,
                "opened": {"key": "**********", "more": "which: **********", "short": "**********"},
            },
        ),
        (Person(), {"name": "ann", "phone": "0147", "card": CARD}),
    ],
)
def test_a_model_becomes_what_its_class_says_that_may_be_seen(value: Any, becomes: Any) -> None:
    assert plain(value) == becomes
    assert "hidden" not in str(plain(value))


def test_a_model_that_another_holds_in_a_serialized_field_is_said_by_that_field() -> None:
    class Box(pydantic.BaseModel):
        card: Card = Card()

        @pydantic.field_serializer("card")
        def _said(self, card: Card) -> str:
            return card.owner

    assert plain(Box()) == {"card": "ann"}
