"""Code for asyncio, for Trio and for anyio, each run in the event loop that the test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import trio
import trio.lowlevel

from fastworker import task


async def asyncio_sleep() -> None:
    await asyncio.sleep(0.001)


async def asyncio_yield() -> None:
    await asyncio.sleep(0)


async def asyncio_gather() -> None:
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))


async def asyncio_create_task() -> None:
    await asyncio.create_task(asyncio.sleep(0))


async def asyncio_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))


async def asyncio_timeout() -> None:
    async with asyncio.timeout(1):
        await anyio.lowlevel.checkpoint()


async def asyncio_wait_for() -> None:
    await asyncio.wait_for(asyncio.sleep(0.001), 1)


async def asyncio_to_thread() -> None:
    await asyncio.to_thread(int)


async def asyncio_queue() -> None:
    await asyncio.Queue[int]().get()


async def asyncio_event() -> None:
    await asyncio.Event().wait()


async def asyncio_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, int)


async def asyncio_future() -> None:
    await asyncio.get_event_loop().create_future()


async def trio_sleep() -> None:
    await trio.sleep(0.001)


async def trio_checkpoint() -> None:
    await trio.lowlevel.checkpoint()


async def trio_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)


async def trio_timeout() -> None:
    with trio.fail_after(1):
        await trio.lowlevel.checkpoint()


async def trio_to_thread() -> None:
    await trio.to_thread.run_sync(int)


async def trio_event() -> None:
    await trio.Event().wait()


async def trio_channel() -> None:
    _, receive = trio.open_memory_channel[int](0)
    await receive.receive()


async def trio_lock() -> None:
    async with trio.Lock():
        pass


async def anyio_sleep() -> None:
    await anyio.sleep(0.001)


async def anyio_task_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)


async def anyio_timeout() -> None:
    with anyio.move_on_after(0.001):
        await anyio.sleep_forever()


async def anyio_to_thread() -> None:
    await anyio.to_thread.run_sync(int)


OF_ASYNCIO: list[Callable[[], Awaitable[Any]]] = [
    asyncio_sleep,
    asyncio_yield,
    asyncio_gather,
    asyncio_create_task,
    asyncio_task_group,
    asyncio_timeout,
    asyncio_wait_for,
    asyncio_to_thread,
    asyncio_queue,
    asyncio_event,
    asyncio_executor,
    asyncio_future,
]
OF_TRIO: list[Callable[[], Awaitable[Any]]] = [
    trio_sleep,
    trio_checkpoint,
    trio_nursery,
    trio_timeout,
    trio_to_thread,
    trio_event,
    trio_channel,
    trio_lock,
]
OF_ANYIO: list[Callable[[], Awaitable[Any]]] = [
    anyio_sleep,
    anyio_task_group,
    anyio_timeout,
    anyio_to_thread,
]

for _function in (*OF_ASYNCIO, *OF_TRIO, *OF_ANYIO):
    for _runtime in ("asyncio", "trio"):
        task(name=f"{_function.__name__}.{_runtime}", runtime=_runtime)(_function)  # type: ignore[call-overload]


@task(runtime="asyncio")
async def loop_name() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


@task
def forgotten_await() -> Any:
    return asyncio_sleep()
