"""Typed calls on tasks. Read by mypy and pyright (see `test_typing`), never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any, assert_type

from fastworker import (
    AsyncStreamTask,
    AsyncTask,
    Client,
    GroupHandle,
    Lifespan,
    Stream,
    StreamTask,
    Task,
    TaskHandle,
    TaskPriority,
    lifespan,
    task,
)


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task
async def greet(name: str, *, loud: bool) -> str:
    return name.upper() if loud else name


@task(name="mail.send", queue="mail", priority=TaskPriority.HIGH)
def send(address: str) -> None: ...


@task(runtime="trio")
async def fetch(url: str) -> bytes:
    return url.encode()


@task
async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word


@task(queue="sums")
async def sums(end: int) -> AsyncGenerator[float, None]:
    yield float(end)


@task
def lines(path: str) -> Iterator[str]:
    yield path


@task(name="pages")
def pages(path: str, *, first: int = 0) -> Generator[bytes, None, None]:
    yield path.encode()


async def well_typed_streams() -> None:
    assert_type(words.stream("a b"), Stream[str])
    assert_type(sums.stream(3), Stream[float])
    assert_type(lines.stream("x"), Stream[str])
    assert_type(pages.stream("x", first=2), Stream[bytes])
    assert_type(words.options(queue="other").stream("a b"), Stream[str])
    assert_type(await words.submit("a b"), TaskHandle[list[str]])
    assert_type(await lines.submit("x"), TaskHandle[list[str]])
    assert_type(words("a b"), AsyncIterator[str])
    assert_type(lines("x"), Iterator[str])
    async for item in sums.stream(3):
        assert_type(item, float)
    async with pages.stream("x") as stream:
        assert_type([page async for page in stream], list[bytes])


async def well_typed() -> None:
    assert_type(add(1, 2), int)
    coroutine: Coroutine[Any, Any, str] = greet("Ann", loud=True)
    assert_type(await coroutine, str)
    assert_type(await add.delay(1, y=2), str)
    assert_type(await add.submit(1), TaskHandle[int])
    assert_type(await greet.submit("Ann", loud=False), TaskHandle[str])
    assert_type(await (await greet.submit("Ann", loud=False)).result(), str)
    assert_type(await send.submit("a@b.c"), TaskHandle[None])
    assert_type(await fetch.submit("x"), TaskHandle[bytes])
    later = add.options(countdown=1.5, priority=TaskPriority.LOW)
    assert_type(await later.delay(1, 2), str)
    assert_type(await later.submit(1, 2), TaskHandle[int])
    assert_type(await add.options(on_lost="fail").delay(1, 2), str)


async def grouped(client: Client) -> None:
    async with client.task_group(deadline=60) as tg:
        number = tg.start_soon(add, 1, y=2)
        assert_type(number, GroupHandle[int])
        assert_type(await number.result(), int)
        assert_type(tg.options(queue="x").start_soon(greet, "Ann", loud=True), GroupHandle[str])
        assert_type(tg.start_soon("add", 1, 2), GroupHandle[Any])
    assert_type(number.value, int)


@lifespan
async def pool() -> AsyncIterator[list[int]]:
    yield [1]


@lifespan(runtime="trio")
async def other_pool() -> AsyncGenerator[bytes, None]:
    yield b""


@lifespan
def settings() -> Iterator[dict[str, int]]:
    yield {}


@lifespan
@asynccontextmanager
async def decorated() -> AsyncIterator[str]:
    yield ""


def lifespans() -> None:
    assert_type(pool, Lifespan[list[int]])
    assert_type(pool.value, list[int])
    assert_type(other_pool.value, bytes)
    assert_type(settings.value, dict[str, int])
    assert_type(decorated.value, str)


def kinds() -> None:
    plain: Task[[str], None] = send
    coroutine: AsyncTask[[str], bytes] = fetch
    words_of: AsyncStreamTask[[str], str] = words
    lines_of: StreamTask[[str], str] = lines
    del plain, coroutine, words_of, lines_of
