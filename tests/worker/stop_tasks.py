"""Tasks that do not stop when they are told."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from fastworker import Retry, TimeLimitExceeded, task


@task
async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@task
async def blocks_the_loop(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251
    return "blocked"


@task(grace=0.2)
def deaf_thread(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@task(timeout=0.2, grace=0.2, retries=Retry(2, backoff=4, jitter=0, on=TimeLimitExceeded))
def limited() -> None:
    time.sleep(60)


@task(on_lease_lost="cancel")
def leaves() -> None:
    time.sleep(60)


@task(run_in="process", grace=0.2)
def deaf_process(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@task(run_in="process")
def process_id() -> int:
    return os.getpid()


@task(run_in="process")
def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@task(run_in="process")
async def waits_in_a_process() -> None:
    await asyncio.Event().wait()
