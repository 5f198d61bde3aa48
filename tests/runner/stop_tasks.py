"""Tasks of every kind that are told to stop, and what they make of it."""

from __future__ import annotations

import asyncio
import time

import trio

from fastworker import Retry, TimeLimitExceeded, check_cancelled, task
from fastworker.tasks.retrying import RetryLater

TICK_SECONDS = 0.005


def wait_for_flag() -> None:
    while True:
        check_cancelled()
        time.sleep(TICK_SECONDS)


@task(runtime="asyncio")
async def asyncio_unwinds() -> None:
    await asyncio.Event().wait()


@task(runtime="trio")
async def trio_unwinds() -> None:
    await trio.sleep_forever()


@task
def thread_unwinds() -> None:
    wait_for_flag()


@task(run_in="process")
def process_unwinds() -> None:
    wait_for_flag()


@task(runtime="asyncio")
async def asyncio_swallows() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        # Only the first one comes: this clean-up is left in peace.
        await asyncio.sleep(TICK_SECONDS)
    return "swallowed"


@task(runtime="trio")
async def trio_swallows() -> str:
    with trio.CancelScope(shield=True):
        await trio.sleep(0.3)
    return "swallowed"


@task
def thread_swallows() -> str:
    try:
        wait_for_flag()
    except Exception:
        return "swallowed"


@task(runtime="asyncio", retries=3)
async def asyncio_fails() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("while cleaning up")


@task(runtime="trio", retries=3)
async def trio_fails() -> None:
    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await trio.sleep_forever()


@task(retries=3)
def thread_fails() -> None:
    try:
        wait_for_flag()
    finally:
        raise ValueError("while cleaning up")


@task(runtime="asyncio")
async def asyncio_wants_a_retry() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise RetryLater(1)


@task(
    timeout=0.05,
    runtime="asyncio",
    retries=Retry(times=2, on=TimeLimitExceeded, backoff=4, jitter=0),
)
async def limited_in_asyncio() -> None:
    await asyncio.Event().wait()


@task(
    timeout=0.05, runtime="trio", retries=Retry(times=2, on=TimeLimitExceeded, backoff=4, jitter=0)
)
async def limited_in_trio() -> None:
    await trio.sleep_forever()


@task(timeout=0.05, retries=Retry(times=2, on=TimeLimitExceeded, backoff=4, jitter=0))
def limited_in_a_thread() -> None:
    wait_for_flag()


@task(on_lease_lost="cancel")
def leaves_with_its_lease() -> None:
    wait_for_flag()


@task
async def quick() -> str:
    check_cancelled()
    return "quick"
