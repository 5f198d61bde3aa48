"""Calls that a type checker must refuse: each line marked ``wrong``. Never run."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastworker import Client, Stream, TaskHandle, task


@task
def add(x: int, y: int) -> int:
    return x + y


@task
async def greet(name: str, *, loud: bool) -> str:
    return name.upper() if loud else name


@task
async def words(text: str) -> AsyncIterator[str]:
    yield text


async def wrongly_typed_streams() -> None:
    add.stream(1, 2)  # wrong
    words.stream(1)  # wrong
    words.stream()  # wrong
    words.options(queue="other").stream(1)  # wrong
    add.options(queue="other").stream(1, 2)  # wrong
    numbers: Stream[int] = words.stream("a b")  # wrong
    del numbers


async def wrongly_typed() -> None:
    add("1", 2)  # wrong
    await add.delay(1)  # wrong
    await add.delay(1, "2")  # wrong
    await add.delay(1, 2, z=3)  # wrong
    await greet.submit("Ann")  # wrong
    await greet.submit("Ann", loud="yes")  # wrong
    await add.options(priority=3).delay(1, 2)  # wrong
    await add.options(countdown="soon").delay(1, 2)  # wrong
    await add.options(on_lost="explode").delay(1, 2)  # wrong
    await add.options(queue="mail").submit("1", 2)  # wrong
    async with Client() as client, client.task_group() as tg:
        tg.start_soon(add, "1")  # wrong
        tg.start_soon(greet, "Ann")  # wrong
        tg.options(queue="x").start_soon(add, 1, 2, 3)  # wrong
    handle: TaskHandle[str] = await add.submit(1, 2)  # wrong
    del handle


@task(runtime="curio")  # wrong
async def fetch() -> None: ...
