"""Tasks that say something of themselves; in the process of the test or in a runner."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
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


@task(name="running-talk", runtime="trio")
async def talk() -> None:
    logging.getLogger("app").warning("the %s is low", "disk")
    print("printed", 1, "and", 2)
    print("by bits", end="")
    print(" and pieces")
    current().logger.error("at the end")
    print("no newline", end="")


@task(name="running-talk-asyncio", runtime="asyncio")
async def talk_asyncio() -> None:
    logging.getLogger("app").warning("from asyncio")
    await asyncio.to_thread(print, "from its thread")


@task(name="running-talk-thread")
def talk_thread() -> None:
    logging.getLogger("app").warning("from a thread")
    print("printed there", file=sys.stderr)


@task(name="running-talk-for-long", runtime="trio")
async def talk_for_long(count: int) -> None:
    for number in range(count):
        print(f"line {number}")
        await trio.sleep(1)


@task(name="running-flood", runtime="trio")
async def flood(count: int) -> None:
    for number in range(count):
        print(number)


@task(name="running-fail-with-words", runtime="trio", retries=2)
async def fail_with_words() -> int:
    print(f"attempt {current().attempt}")
    if current().attempt < 3:
        raise RetryLater(1)
    return current().attempt


@task(name="running-odd-words", runtime="trio")
async def odd_words() -> None:
    print("\ud800 lone")
    print("ü" * 5000)
    try:
        raise ValueError("as planned")
    except ValueError:
        logging.getLogger("app").exception("it failed")
    print("10 %\r50 %\r100 %")


@task(name="running-silent")
def silent() -> int:
    return 1


@task(name="running-count-aloud")
def count_aloud(count: int) -> int:
    for number in range(count):
        print(f"line {number}")
        time.sleep(0.15)
    return count


@task(name="running-until-drained")
def until_drained() -> str:
    print("here I am")
    while not current().draining:
        time.sleep(0.05)
    return "drained"


@task(name="running-alone", run_in="process")
def alone() -> object:
    """Leaves a checkpoint and kills its process, at its first attempt."""
    print(f"attempt {current().attempt}", flush=True)
    found = current().last_checkpoint
    if found is None:
        time.sleep(0.5)
        current().checkpoint(f"left by attempt {current().attempt}")
        os.kill(os.getpid(), signal.SIGKILL)
    return found
