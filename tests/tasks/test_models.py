"""Models rebuilt from annotations: what was sent is what the function gets, or a sentence."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import typing
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker import ArgumentError, AsyncTask, Client, Task, TaskError
from fastworker.tasks import unions
from fastworker.tasks.misfits import Misfit
from fastworker.tasks.rebuilding import converter_for
from fastworker.testing import Runtime
from fastworker.wire.values import open_call, open_value, seal_call, seal_value
from tests.tasks import model_classes as classes
from tests.tasks.model_classes import (
    Address,
    Box,
    Cat,
    Coin,
    Colour,
    Dog,
    Even,
    Holder,
    Item,
    ItemHolder,
    Left,
    Level,
    Minus,
    Names,
    Odd,
    Plus,
    Point,
    Right,
    Rights,
    Spoken,
    User,
    Written,
)

ITEM = Item("lamp", Decimal("9.90"), parts=[Item("bulb", Decimal(1), Colour.BLUE)])
USER = User(
    id=uuid.UUID(int=7),
    address=Address(Street="Elm", number=2),
    colours=(Colour.BLUE,),
    home=None,
)


def item_of(number: int) -> Item:
    return Item(str(number), Decimal(number))


def travelled(task: Task[..., Any] | AsyncTask[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Arguments as the function gets them."""
    models = task.definition.models
    models.check(args, kwargs)
    got_args, got_kwargs = open_call(seal_call(args, kwargs, task=task.name))
    if models.arguments is not None:
        models.arguments(got_args, got_kwargs)
    return tuple(got_args), got_kwargs


def rebuilt(annotation: Any, value: object) -> Any:
    convert = converter_for(annotation)
    opened = open_value(seal_value(value, what="it"))
    return opened if convert is None else convert(opened)


def refusal(task: Task[..., Any] | AsyncTask[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        travelled(task, *args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("pet", [Cat("Tom"), Dog("Rex", box=Box(USER), age=3)])
def test_models_of_all_libraries_inside_each_other_come_back(pet: Cat | Dog) -> None:
    args = ([ITEM], {"ann": USER}, pet, Point(1, ITEM), Point(2))
    named = {"colour": Colour.RED, "more": Holder(Colour.BLUE)}

    got = travelled(classes.many, *args, **named)

    assert got == (args, named)
    assert type(got[0][2]) is type(pet)


def test_containers_unions_and_generic_classes_come_back() -> None:
    args = (
        ItemHolder(ITEM),
        {"items": [ITEM], "note": "n"},
        Written("written", "text"),
        Point(3),
        frozenset({Level.LOW}),
        Rights.READ | Rights.WRITE,
        Names(["a"]),
        (ITEM, Colour.RED),
        Path("a/b"),
        [timedelta(1)],
        ITEM,
        time(1, 2),
    )

    got, _ = travelled(classes.everything, *args)

    assert got == args
    assert type(got[2]) is Written


@pytest.mark.parametrize("either", ["text", None, {"name": "x"}, {**vars(ITEM), "more": 1}, {}])
def test_a_plain_member_of_a_union_stays_plain(either: Any) -> None:
    assert rebuilt(Item | dict[str, Any] | str | None, either) == rebuilt(Any, either)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_of_models_is_a_set_again(kind: Any) -> None:
    coins = kind({Coin(1), Coin(2, Colour.BLUE)})

    assert rebuilt(kind[Coin], coins) == coins
    assert rebuilt(set[frozenset[Coin]], {frozenset(coins)}) == {frozenset(coins)}
    assert isinstance(rebuilt(Any, coins), list)


def test_what_is_defined_by_its_fields_alone_may_be_sent_as_a_dict() -> None:
    sent = {"name": "x", "price": "1.5", "colour": "red", "of a newer sender": 1}

    (item,), _ = travelled(classes.echo, sent)

    assert item == Item("x", Decimal("1.5"))


def test_values_of_the_standard_library_may_be_sent_as_text() -> None:
    got, _ = travelled(
        classes.values, str(uuid.UUID(int=1)), "2030-01-01T00:00:00+00:00", 60, "9.90"
    )

    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert got == (uuid.UUID(int=1), moment, timedelta(minutes=1), Decimal("9.90"))


@pytest.mark.parametrize(
    ("task", "args", "path", "reason"),
    [
        (classes.echo, (1,), "item", "expected a tests.tasks.model_classes.Item"),
        (classes.echo, ({"name": "x"},), "item.price", "is missing"),
        (classes.echo, ({"name": "x", "price": "?"},), "item.price", "is no decimal.Decimal"),
        (classes.many, ([ITEM, {"name": 1}], {}, Cat("a")), "items[1].price", "is missing"),
        (classes.many, ([], {"a": {"id": 1}}, Cat("a")), "users.a.id", "UUID"),
        (classes.many, ([], {}, Cat("a"), (1, 2)), "points[0].item", "is an int"),
        (classes.many, ([], {}, Cat("a"), (1, None, 3)), "points[0]", "cannot be"),
        (classes.many, (ITEM, {}, Cat("a")), "items", "expected a list"),
        (classes.many, ([], {}, Left(1)), "pet", "fits none of"),
        (classes.fussy, ({"value": -1},), "value", "ValueError: is negative"),
        (classes.values, ("?", "", 1, 1), "id", "is no uuid.UUID"),
        (classes.alike, ({"value": 1},), "value", "alike; give them a Literal field"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(
    task: Task[..., Any], args: tuple[Any, ...], path: str, reason: str
) -> None:
    message = refusal(task, *args)

    assert f"'{path}'" in message
    assert reason in message
    assert repr(task.name) in message


def test_an_enum_member_that_does_not_exist_is_named() -> None:
    message = refusal(classes.many, [], {}, Cat("a"), colour="green")

    assert "'colour'" in message
    assert "'green'" in message
    with pytest.raises(Misfit):
        rebuilt(Level, True)


def test_two_models_that_look_alike_are_never_taken_for_each_other() -> None:
    for value in (Left(1), Right(1)):
        with pytest.raises(Misfit, match="alike"):
            rebuilt(Left | Right, value)
    for said in (Spoken("spoken", "a"), Written("written", "a")):
        assert rebuilt(Spoken | Written, said) == said
        assert rebuilt(list[Spoken | Written], [said]) == [said]


def test_deep_unions_are_decided_or_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    expression: Any = 1
    for level in range(40):
        expression = (Plus, Minus)[level % 2](expression, 2)
    assert rebuilt(Plus | Minus, expression) == expression

    for innermost in ({"value": 1}, {"value": "?", "metal": "gold"}, {}):
        value: Any = innermost
        for _ in range(40):
            value = {"inner": value}
        monkeypatch.setattr(unions, "MAX_TRIES", 1000)
        with pytest.raises(Misfit, match=r"alike|tell apart"):
            rebuilt(Odd | Even, value)


def test_a_member_of_a_union_may_be_sent_without_its_defaults() -> None:
    sent = {"value": 3}

    assert rebuilt(Coin | Colour | None, sent) == Coin(3)
    assert rebuilt(Coin | list[Colour], sent) == Coin(3)
    assert rebuilt(Coin | dict[str, int], sent) == sent


def test_types_that_name_themselves_are_read() -> None:
    forest = {"inside": [{"item": ITEM}, {"inside": []}], "item": ITEM}

    assert rebuilt(classes.Forest, forest) == forest
    assert converter_for(classes.Tree) is None


def test_a_task_with_plain_annotations_has_nothing_to_do() -> None:
    models = classes.plain.definition.models
    models.check((1, [], {}), {})

    assert models.arguments is None
    assert models.result is None


def test_an_annotation_that_cannot_be_resolved_is_left_alone() -> None:
    got, _ = travelled(classes.unknown, {"any": "thing"}, ITEM)

    assert got == ({"any": "thing"}, ITEM)
    assert classes.unknown.definition.models.result is None


def test_hostile_classes_fit_nothing() -> None:
    class Hostile:
        @property
        def __class__(self) -> Any:
            raise OSError("no")

    assert "OSError: no" in refusal(classes.echo, Hostile())


def test_the_package_is_imported_without_any_of_the_libraries() -> None:
    program = (
        "import sys, fastworker\n"
        "@fastworker.task\n"
        "def plain(a: int): ...\n"
        "plain.definition.models.check((1,), {})\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {"pydantic", "msgspec", "attr", "attrs", "cattrs"}.isdisjoint(loaded)


# --- through a control plane and a runner ---------------------------------------------------


def test_results_are_rebuilt_for_whoever_submitted_the_task_itself(
    fastworker_runtime: Runtime,
) -> None:
    async def main() -> None:
        async with fastworker_runtime.client() as client:
            assert await (await classes.echo.submit(ITEM)).result(timeout=10) == ITEM
            handle = await client.submit(classes.echo, ITEM)
            assert (await handle.wait(timeout=10)).result == ITEM
            assert await client.results(await client.submit_many(classes.echo, [(ITEM,)])) == [ITEM]
            by_name = await client.submit("models-echo", {"name": "x", "price": Decimal(1)})
            plain = await by_name.result(timeout=10)
            assert plain["name"] == "x"

    asyncio.run(main())


def test_what_does_not_fit_fails_once_and_is_named(fastworker_runtime: Runtime) -> None:
    async def main() -> None:
        async with fastworker_runtime.client() as client:
            ended = await (await client.submit("models-echo", {"name": 1})).wait(timeout=10)
            assert ended.error is not None
            assert ended.error.startswith("ArgumentError: argument 'item.price' of task")
            assert ended.attempts == 1
            with pytest.raises(ArgumentError):
                await client.submit(classes.echo, {"name": 1})
            wrong = await classes.wrong_result.submit()
            with pytest.raises(TaskError, match=r"'result\.price' of task .* is missing"):
                await wrong.result(timeout=10)
            assert await client.result(wrong.id) == {"name": "no price"}

    asyncio.run(main())


def test_what_a_generator_yields_is_rebuilt(fastworker_runtime: Runtime) -> None:
    async def main() -> None:
        async with fastworker_runtime.client() as client:
            assert [item async for item in classes.yielding.stream(2)] == [item_of(0), item_of(1)]
            assert await (await client.submit(classes.yielding, 1)).result() == [item_of(0)]
            by_name = [item async for item in client.stream("models-yielding", 1)]
            assert by_name[0]["name"] == "0"

    asyncio.run(main())


@pytest.mark.anyio
async def test_models_travel_in_either_library(fastworker_client: Client) -> None:
    handle = await classes.many.submit([ITEM], {}, Dog("Rex"))
    assert await handle.result(timeout=10) == [ITEM]


# --- any annotation, any value --------------------------------------------------------------

ITEMS = st.builds(
    Item,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.decimals(allow_nan=False),
    st.sampled_from(Colour),
)
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (str, st.text("ab")),
    (Item, ITEMS),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Point, st.builds(Point, st.integers(), st.none() | ITEMS)),
    (Cat | Dog, st.builds(Cat, st.text("ab")) | st.builds(Dog, st.text("ab"))),
    (User, st.builds(lambda id: USER.model_copy(update={"id": id}), st.uuids())),
    (Names, st.lists(st.text("ab")).map(Names)),
    (Box, st.just(Box(USER))),
    (uuid.UUID, st.uuids()),
    (date, st.dates()),
    (Item | None, st.none() | ITEMS),
    (Holder[Colour], st.sampled_from(Colour).map(Holder)),
]


def containers(inner: tuple[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    kind, values = inner
    text = st.text("ab", max_size=2)
    return st.sampled_from(
        [
            (list[kind], st.lists(values, max_size=3)),  # type: ignore[valid-type]
            (tuple[kind, ...], st.lists(values, max_size=3).map(tuple)),  # type: ignore[valid-type]
            (tuple[int, kind], st.tuples(st.integers(), values)),  # type: ignore[valid-type]
            (dict[str, kind], st.dictionaries(text, values, max_size=3)),  # type: ignore[valid-type]
            (typing.Mapping[str, kind], st.dictionaries(text, values, max_size=3)),  # type: ignore[valid-type]
            (typing.Optional[kind], st.none() | values),  # noqa: UP045
            (typing.Annotated[kind, "note"], values),
        ]
    )


ANNOTATED = st.recursive(
    st.sampled_from(LEAVES), lambda inner: inner.flatmap(containers), max_leaves=4
)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_value_comes_back_as_its_annotation_says(data: st.DataObject) -> None:
    annotation, values = data.draw(ANNOTATED)
    value = data.draw(values)

    got = rebuilt(annotation, value)

    assert got == value
    assert type(got) is type(value)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_plain_data_fits_or_is_a_misfit(data: st.DataObject) -> None:
    annotation, _ = data.draw(ANNOTATED)
    plain = st.recursive(
        st.none() | st.integers() | st.text("ab") | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "price", "x", "type"]), inner)
        ),
        max_leaves=6,
    )
    convert = converter_for(annotation)
    try:
        if convert is not None:
            convert(data.draw(plain))
    except Misfit as misfit:
        assert misfit.reason
