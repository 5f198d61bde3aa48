"""Tasks that wait, work and block in many ways, for tests of what is said about them."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator

import trio

from fastworker import task

FOREVER = 1_000.0


async def _deep(seconds: float) -> None:
    await asyncio.sleep(seconds)  # the innermost line


@task(name="await_deep")
async def await_deep(seconds: float = FOREVER) -> None:
    await _deep(seconds)


async def _numbers() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(FOREVER)  # inside a generator


@task(name="await_generator")
async def await_generator() -> None:
    async for _ in _numbers():
        pass


@task(name="await_group")
async def await_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_deep(FOREVER), name="first child")
        group.create_task(_deep(FOREVER), name="second child")


@task(name="await_gather")
async def await_gather() -> None:
    await asyncio.gather(_deep(FOREVER), _deep(FOREVER))


async def _trio_child() -> None:
    await trio.sleep(FOREVER)  # in a child of a nursery


@task(name="await_trio", runtime="trio")
async def await_trio() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_trio_child)


@task(name="sleep_in_thread")
def sleep_in_thread(seconds: float = FOREVER) -> None:
    threading.Event().wait(seconds)  # in a thread


@task(name="sleep_in_process", run_in="process")
def sleep_in_process() -> None:
    threading.Event().wait(FOREVER)  # in a process


@task(name="block_loop")
async def block_loop(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251  # blocks the loop
    return "done"


@task(name="block_trio", runtime="trio")
async def block_trio(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251  # blocks the loop
    return "done"


async def _blocking_child(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # blocks from a child


@task(name="block_in_group")
async def block_in_group(seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_blocking_child(seconds))


@task(name="block_in_nursery", runtime="trio")
async def block_in_nursery(seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_blocking_child, seconds)


def hold_interpreter_now(letters: int) -> None:
    re.match(r"(a+)+$", "a" * letters + "b")  # C code that keeps the interpreter


@task(name="hold_interpreter")
async def hold_interpreter(letters: int) -> None:
    hold_interpreter_now(letters)
