"""Tasks that say something of themselves; in the process of the test or in a runner."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import trio

from fastworker import current, task
from fastworker.tasks import RetryLater

AMOUNT = 5


@task(name="running-steps", runtime="trio")
async def steps(count: int, seconds: float = 1.0) -> int:
    for number in range(1, count + 1):
        current().progress(number, count, f"step {number}")
        await trio.sleep(seconds)
    return count


@task(name="running-burst", runtime="trio")
async def burst(count: int) -> None:
    for number in range(count):
        current().progress(number, count)


@task(name="running-steps-asyncio", runtime="asyncio")
async def steps_asyncio(count: int) -> int:
    for number in range(1, count + 1):
        current().progress(number, count, f"step {number}")
        await asyncio.sleep(0.3)
    return count


@task(name="running-steps-thread")
def steps_thread(count: int) -> int:
    for number in range(1, count + 1):
        current().progress(number, count, f"step {number}")
        time.sleep(0.3)
    return count


@task(name="running-resume", runtime="trio", retries=3)
async def resume() -> list[object]:
    found = current().last_checkpoint
    if current().attempt <= 3:
        current().checkpoint({"attempt": current().attempt, "before": found})
        raise RetryLater(1)
    return [current().attempt, found]


@task(name="running-kill-once")
def kill_once() -> object:
    """Leaves a checkpoint and is gone with its runner."""
    found = current().last_checkpoint
    if found is None:
        current().checkpoint([1, "half"])
        os.kill(os.getpid(), signal.SIGKILL)
    return found


@task(name="running-kill-once-async")
async def kill_once_async() -> object:
    found = current().last_checkpoint
    if found is None:
        current().checkpoint([1, "half"])
        os.kill(os.getpid(), signal.SIGKILL)
    return found


@task(name="running-hold")
def hold(path: str) -> object:
    """Leaves a checkpoint and waits until the file is there."""
    found = current().last_checkpoint
    if found is not None:
        return found
    current().checkpoint({"seen": 41})
    current().progress(41, 42)
    while not os.path.exists(path):
        time.sleep(0.05)
    return None


@task(name="running-recurse")
async def recurse(depth: int) -> int:
    if depth == 0:
        return 0
    handle = await recurse.submit(depth - 1)
    result: int = await handle.result(timeout=60)
    return result + 1


@task(name="running-recurse-sync")
def recurse_sync(depth: int) -> int:
    from fastworker import BlockingClient

    if depth == 0:
        return 0
    with BlockingClient() as client:
        result: int = client.submit(recurse_sync, depth - 1).result(timeout=60)
        return result + 1


@task(name="running-thread-of-its-own", runtime="trio")
async def thread_of_its_own() -> str:
    def say() -> str:
        current().progress(1, 2, "from a thread")
        return threading.current_thread().name

    return await trio.to_thread.run_sync(say)
