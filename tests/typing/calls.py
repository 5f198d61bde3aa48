"""Typed calls on tasks. Read by mypy and pyright (see `test_typing`), never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from fastworker import AsyncTask, Task, TaskHandle, TaskPriority, task


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


def kinds() -> None:
    plain: Task[[str], None] = send
    coroutine: AsyncTask[[str], bytes] = fetch
    del plain, coroutine
