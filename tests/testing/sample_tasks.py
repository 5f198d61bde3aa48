"""Tasks for the tests of `fastworker.testing`."""

from __future__ import annotations

import asyncio
import threading

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
