"""One real control plane and one subworker for the whole folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster

TASKS = '''\
"""What an application of the founding surface defines."""
import os
import time

import fastworker
from fastworker import BlockingClient, task


@task
def add(x: int, y: int) -> int:
    return x + y


@task
async def alert() -> str:
    return "alerted"


@task
async def order(number: int) -> str:
    if number < 0:
        raise ValueError(f"no order {number}")
    return f"order {number}"


@task
async def fan_out(count: int) -> int:
    """A task that submits tasks and waits for them."""
    handles = [await add.submit(number, 1) for number in range(count)]
    return sum([await handle.result(timeout=30) for handle in handles])


@task
def fan_out_blocking(count: int) -> int:
    with BlockingClient() as client:
        handles = [client.submit("add", number, 1) for number in range(count)]
        return sum(handle.result(timeout=30) for handle in handles)


@task
async def countdown(depth: int) -> int:
    """Recursion that would dead-lock if a waiting task kept its slot."""
    if depth == 0:
        return 0
    handle = await countdown.submit(depth - 1)
    return 1 + await handle.result(timeout=60)


@task(runtime="trio")
async def on_trio() -> str:
    import trio

    await trio.sleep(0)
    return "trio"


@task
async def mark(path: str, line: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line} {time.monotonic_ns()}\\n".encode())
    finally:
        os.close(file)
'''


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("founding"), tasks=TASKS, module="shop") as cluster:
        cluster.control_plane()
        cluster.subworker("sw1")
        yield cluster
