"""Tasks that the runner tests run in real runner processes."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import anyio.lowlevel
import trio
import trio.lowlevel

from fastworker.client import ambient
from fastworker.runner.context import current_job
from fastworker.runner.current import current
from fastworker.tasks import Retry, RetryLater, task

gate = threading.Event()
barrier = threading.Barrier(4)
leak: contextvars.ContextVar[int] = contextvars.ContextVar("leak", default=0)
held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []


@task
def add(x: int, y: int) -> int:
    return x + y


@task
async def async_add(x: int, y: int) -> int:
    return x + y


@task
async def noop() -> None:
    pass


@task
def sync_noop() -> None:
    pass


@task
async def fails() -> None:
    raise ValueError("it failed")


@task
async def exits() -> None:
    sys.exit(3)


@task
def sync_exits() -> None:
    raise KeyboardInterrupt


@task
async def returns_object() -> object:
    return object()


@task
def wait_gate() -> bool:
    return gate.wait(10)


@task
async def open_gate() -> None:
    gate.set()


@task
def meet() -> int:
    return barrier.wait(10)


@task
async def hold() -> None:
    event = asyncio.Event()
    held.append((asyncio.get_running_loop(), event))
    await event.wait()


@task
def release() -> None:
    loop, event = held.pop()
    loop.call_soon_threadsafe(event.set)


@task
async def block_loop() -> None:
    gate.wait(10)


@task
async def uses_trio() -> None:
    import trio

    await trio.lowlevel.checkpoint()


@task(runtime="trio")
async def in_trio() -> str:
    import sniffio
    import trio

    await trio.lowlevel.checkpoint()
    return sniffio.current_async_library()


@task(runtime="trio")
async def asyncio_in_trio() -> None:
    await asyncio.sleep(0.001)


@task(runtime="asyncio")
async def in_asyncio() -> str:
    import sniffio

    await asyncio.sleep(0)
    return sniffio.current_async_library()


@task
def context_of_thread() -> list[int]:
    before = leak.get()
    leak.set(7)
    job = current_job.get()
    assert job is not None
    return [before, job.token]


@task
async def context_of_coroutine() -> list[int]:
    before = leak.get()
    leak.set(7)
    await asyncio.sleep(0)
    job = current_job.get()
    assert job is not None
    return [before, job.token]


@task
async def waits_for_another() -> None:
    with ambient.waiting_for_results():
        event = asyncio.Event()
        held.append((asyncio.get_running_loop(), event))
        await event.wait()


@task
async def echo_over_relay(text: str) -> str:
    opener = ambient.transport_opener()
    assert opener is not None
    transport = await opener()
    await transport.send(text.encode())
    answer = await transport.receive()
    await transport.aclose()
    return answer.decode()


@task
def echo_over_relay_from_thread(text: str) -> str:
    async def echo() -> str:
        return await echo_over_relay(text)

    return asyncio.run(echo())


@task
def pid_and_group() -> list[int]:
    return [os.getpid(), os.getpgrp()]


@task
def starts_sleeper() -> int:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid


@task
async def big_result(size: int) -> bytes:
    return bytes(size)


@task(runtime="asyncio")
async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(10)


@task
def terminates_a_child() -> int:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.terminate()
    return child.wait()


@task
def forks() -> int:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b".")
        signal.pause()
        os._exit(0)
    os.read(reading, 1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@task(retries=Retry(times=2, backoff=4, jitter=0, budget=60, never=KeyError))
async def unreliable(error: str) -> None:
    raise {"value": ValueError, "key": KeyError}[error](error)


@task(retries=9)
async def returns_object_and_is_retried() -> object:
    return object()


@task
def comes_back_later() -> None:
    raise RetryLater(30, reason="no room yet")


@task
def who_am_i() -> list[object]:
    job = current()
    return [job.task_id, job.attempt, job.token]


@task
async def who_am_i_async() -> list[object]:
    await anyio.lowlevel.checkpoint()
    job = current()
    return [job.task_id, job.attempt, job.token]


@task(on_lease_lost="cancel", runtime="asyncio")
async def stops_in_asyncio() -> None:
    await asyncio.Event().wait()


@task(on_lease_lost="cancel", runtime="trio")
async def stops_in_trio() -> None:
    import trio

    await trio.sleep_forever()


@task(on_lease_lost="cancel", runtime="trio")
async def fails_when_stopped() -> None:
    import trio

    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the way")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails)
        await trio.sleep_forever()


@task(on_lease_lost="cancel", runtime="asyncio")
async def finishes_when_stopped() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "done all the same"
    return ""


@task
async def count_up(end: int) -> AsyncIterator[int]:
    for number in range(end):
        yield number


@task(runtime="trio")
async def trio_count_up(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await trio.lowlevel.checkpoint()
        yield number


@task
def plain_count_up(end: int) -> Iterator[int]:
    yield from range(end)
