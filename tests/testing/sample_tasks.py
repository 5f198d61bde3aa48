"""Tasks for the tests of `fastworker.testing`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import sniffio
import trio

from fastworker import task

PREFIX = "testing-"

started: list[str] = []
"""What has started, in order; every test empties it first."""


@task(name="testing-add")
async def add(x: int, y: int) -> int:
    return x + y


@task(name="testing-plain")
def plain(x: int) -> int:
    return x * 2


@task(name="testing-thread")
def thread_name() -> str:
    return threading.current_thread().name


@task(name="testing-library")
async def library() -> str:
    return sniffio.current_async_library()


@task(name="testing-asyncio", runtime="asyncio")
async def asyncio_only() -> str:
    await asyncio.sleep(0)
    return sniffio.current_async_library()


@task(name="testing-trio", runtime="trio")
async def trio_only() -> str:
    await trio.lowlevel.checkpoint()
    return sniffio.current_async_library()


@task(name="testing-fail")
async def fail() -> None:
    raise ValueError("as asked")


@task(name="testing-note")
async def note(what: str) -> None:
    started.append(what)


@task(name="testing-slow")
async def slow(seconds: float) -> float:
    started.append("slow")
    await trio.sleep(seconds)
    return trio.current_time()


running = threading.Event()
"""Set once `hang_once` runs."""


@task(name="testing-hang-once", runtime="asyncio")
async def hang_once() -> str:
    if running.is_set():
        return "second time"
    running.set()
    await asyncio.Event().wait()
    return "never"


@task(name="testing-parent")
async def parent(x: int) -> int:
    handle = await add.submit(x, 1)
    return await handle.result() + 1


made: list[int] = []
"""What the generators below have made, in order; every test empties it first."""


@task(name="testing-count")
async def count(end: int) -> AsyncIterator[int]:
    for number in range(end):
        made.append(number)
        yield number


@task(name="testing-count-plain")
def count_plain(end: int) -> Iterator[int]:
    for number in range(end):
        made.append(number)
        yield number


@task(name="testing-count-and-fail")
async def count_and_fail(end: int) -> AsyncIterator[int]:
    for number in range(end):
        yield number
    raise LookupError("no more numbers")


@task(name="testing-unsealable")
async def unsealable() -> AsyncIterator[object]:
    yield "first"
    yield object()


@task(name="testing-large-items")
async def large_items(size: int) -> AsyncIterator[bytes]:
    while True:
        made.append(size)
        yield bytes(size)


@task(name="testing-count-of-count")
async def count_of_count(end: int) -> int:
    return sum([number async for number in count.stream(end)])
