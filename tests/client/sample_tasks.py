"""Tasks for the tests of task groups: what they did is in `diary`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

from fastworker import register_exception, task
from fastworker.client.current import current_client

diary: list[str] = []
"""``mark``, ``mark cancelled``, ``mark ended``, in order; every test empties it first."""


@register_exception
class OutOfPaint(Exception):
    """Known to the caller."""


class Unknown(Exception):
    """Not known to the caller."""


@contextmanager
def written(mark: str) -> Iterator[None]:
    diary.append(mark)
    try:
        yield
    except BaseException as error:
        what = "failed" if isinstance(error, Exception) else "cancelled"
        diary.append(f"{mark} {what}")
        raise
    else:
        diary.append(f"{mark} ended")


@task(name="group-echo")
async def echo(value: int) -> int:
    return value


@task(name="group-sleep")
async def sleep(mark: str, seconds: float = 1000.0) -> str:
    with written(mark):
        await anyio.sleep(seconds)
    return mark


@task(name="group-fail")
async def fail(message: str, seconds: float = 0.0) -> None:
    await anyio.sleep(seconds)
    raise ValueError(message)


@task(name="group-fail-kind")
async def fail_with(kind: str) -> None:
    raise {"key": KeyError, "paint": OutOfPaint, "unknown": Unknown}[kind]("gone")


@task(name="group-stubborn")
async def stubborn(mark: str, seconds: float) -> None:
    """Does not let itself be stopped."""
    with written(mark), anyio.CancelScope(shield=True):
        await anyio.sleep(seconds)


@task(name="group-cleaning")
async def cleaning(mark: str, seconds: float) -> None:
    """Takes some time to clean up when it is stopped."""
    with written(mark):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)
                diary.append(f"{mark} cleaned")


@task(name="group-fail-cleaning")
async def fail_cleaning() -> None:
    """Fails while it is being stopped."""
    try:
        await anyio.sleep_forever()
    finally:
        raise RuntimeError("while cleaning up")


@task(name="group-nested")
async def nested(mark: str, children: int) -> list[str]:
    """A task group of its own, on the client of the runner."""
    with written(mark):
        async with current_client().task_group() as tg:
            handles = [tg.start_soon(sleep, f"{mark}.{number}") for number in range(children)]
        return [handle.value for handle in handles]


@task(name="group-sum")
async def total(depth: int) -> int:
    """Waits for its children's results, each of which waits for its own."""
    if depth == 0:
        return 1
    async with current_client().task_group() as tg:
        child = tg.start_soon(total, depth - 1)
    return child.value + 1


@task(name="group-count")
async def count_slowly() -> AsyncIterator[int]:
    for number in range(1000):
        yield number
        await anyio.sleep(1)


@task(name="group-seconds-left")
async def seconds_left() -> float:
    """What the cancel scopes around this code leave."""
    return anyio.current_effective_deadline() - anyio.current_time()


@task(name="group-seconds-left-below")
async def seconds_left_below() -> float:
    """What they leave to a job of this job."""
    async with current_client().task_group() as tg:
        child = tg.start_soon(seconds_left)
    return child.value
