"""Tasks for the tests that use the real runner."""

from __future__ import annotations

import asyncio
import os
import signal

from fastworker import task


@task
async def add(x: int, y: int) -> int:
    return x + y


@task
async def wait_for_ever() -> None:
    await asyncio.Event().wait()


@task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
