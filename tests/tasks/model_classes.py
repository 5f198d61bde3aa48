"""Classes of every kind that arguments and results may be made of, and one task for each."""

from __future__ import annotations

import enum
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic

from fastworker import task

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = ("b", 1)


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Item:
    name: str
    price: Decimal
    colour: Colour = Colour.RED
    parts: list[Item] = field(default_factory=list)
    total: int = field(init=False, default=0)


@dataclass(frozen=True)
class Coin:
    value: int
    metal: Colour = Colour.RED


class Point(NamedTuple):
    x: int
    item: Item | None = None


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(alias="Street")
    number: int = 1

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"{self.street} {self.number}"


class User(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    id: uuid.UUID
    address: Address
    colours: tuple[Colour, ...] = ()
    home: pydantic.HttpUrl | None = None


class Names(pydantic.RootModel[list[str]]):
    pass


@attrs.frozen
class Box:
    _user: User
    when: datetime | None = None
    opened: int = attrs.field(init=False, default=3)


class Cat(msgspec.Struct, tag=True):
    name: str
    box: Box | None = None
    age: int | msgspec.UnsetType = msgspec.UNSET


class Dog(msgspec.Struct, tag=True):
    name: str
    box: Box | None = None
    age: int | msgspec.UnsetType = msgspec.UNSET


@dataclass
class Holder(Generic[T]):
    held: T


class ItemHolder(Holder[Item]):
    pass


@dataclass
class Left:
    value: int


@dataclass
class Right:
    value: int


@dataclass
class Plus:
    left: Plus | Minus | int
    right: Plus | Minus | int
    kind: Literal["plus"] = "plus"


@dataclass
class Minus:
    left: Plus | Minus | int
    right: Plus | Minus | int
    kind: Literal["minus"] = "minus"


@dataclass
class Odd:
    inner: Odd | Even | Coin


@dataclass
class Even:
    inner: Odd | Even | Coin


class Tree(TypedDict, total=False):
    left: Tree
    note: str


class Forest(TypedDict, total=False):
    inside: list[Forest]
    item: Item


@dataclass
class Spoken:
    kind: Literal["spoken"]
    text: str


@dataclass
class Written:
    kind: Literal["written"]
    text: str


class Basket(TypedDict, total=False):
    items: list[Item]
    note: str


@dataclass
class Fussy:
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("is negative")


@task(name="models-echo")
def echo(item: Item) -> Item:
    assert isinstance(item, Item)
    return item


@task(name="models-many")
async def many(
    items: list[Item],
    users: dict[str, User],
    pet: Cat | Dog,
    *points: Point,
    colour: Colour = None,  # type: ignore[assignment]
    **more: Holder[Colour],
) -> list[Item]:
    assert isinstance(pet, Cat | Dog)
    return items


@task(name="models-everything")
def everything(
    holder: ItemHolder,
    basket: Basket,
    said: Annotated[Spoken | Written, "discriminated"],
    point: Point,
    levels: frozenset[Level],
    rights: Rights,
    names: Names,
    pairs: tuple[Item, Colour],
    path: Path,
    lengths: Sequence[timedelta],
    either: Item | dict[str, Any] | str | None,
    at: time | date | None = None,
) -> None: ...


@task(name="models-plain")
def plain(a: int, b: list[str], c: dict[str, Any], d: Any = None, *rest: float) -> dict[str, int]:
    return {}


@task(name="models-unknown")
def unknown(first: Unknown, second: Item) -> Unknown:
    return second


@task(name="models-wrong-result")
def wrong_result() -> Item:
    return {"name": "no price"}  # type: ignore[return-value]


@task(name="models-yielding")
async def yielding(count: int) -> AsyncIterator[Item]:
    for number in range(count):
        yield Item(str(number), Decimal(number))


@task(name="models-alike")
def alike(value: Left | Right) -> None: ...


@task(name="models-fussy")
def fussy(value: Fussy) -> None: ...


@task(name="models-values")
def values(id: uuid.UUID, when: datetime, wait: timedelta, price: Decimal) -> None: ...
