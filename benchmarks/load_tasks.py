"""The tasks of the benchmarks. They are copied to where the measured processes run."""

from __future__ import annotations

import asyncio
import time

from fastworker import task


@task
async def add(x: int, y: int) -> int:
    """The no-op: nothing but the way there and back."""
    return x + y


@task
def nap(seconds: float) -> float:
    """A job that waits; returns how long it was asked to."""
    time.sleep(seconds)
    return seconds


@task
async def hold(seconds: float) -> float:
    """A job that takes a slot for a while; returns the time of day at which it began."""
    began = time.time()
    await asyncio.sleep(seconds)
    return began


@task
async def echo(data: bytes) -> bytes:
    """There and back again."""
    return data


@task
async def refuse(number: int) -> None:
    """Fails, and says of which job."""
    raise ValueError(f"number {number}")
