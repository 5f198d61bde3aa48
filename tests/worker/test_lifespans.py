"""Lifespan hooks in real runners: entered once for each, left in order; what fails is said."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastworker import BlockingClient
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

TASKS = '''\
"""Hooks that note in a file what happens to them, and tasks that use what they opened."""
import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import sniffio
import trio

from fastworker import lifespan, task


def note(what: str) -> None:
    with open("ledger", "a") as ledger:
        ledger.write(json.dumps([os.getpid(), what]) + "\\n")


@lifespan
def settings() -> Iterator[dict[str, int]]:
    note("settings opened")
    yield {"answer": 42}
    note("settings closed")


@lifespan
async def pool() -> AsyncIterator[str]:
    async with asyncio.TaskGroup() as group:
        background = group.create_task(asyncio.sleep(1000))
        note("pool opened")
        yield f"pool after {settings.value['answer']} in {sniffio.current_async_library()}"
        await asyncio.sleep(0.05)
        note("pool closed")
        background.cancel()


@lifespan(runtime="trio")
@asynccontextmanager
async def trio_pool() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        note("trio opened")
        yield nursery
        await trio.sleep(0.05)
        note("trio closed")
        nursery.cancel_scope.cancel()


@task
async def look() -> list[object]:
    return [os.getpid(), pool.value]


@task(run_in="process")
async def look_alone() -> list[object]:
    return [os.getpid(), pool.value]


@task
def look_in_thread() -> list[object]:
    return [os.getpid(), settings.value["answer"]]


@task(runtime="trio")
async def look_in_trio() -> list[object]:
    trio_pool.value.start_soon(trio.sleep, 1000)
    return [os.getpid(), sniffio.current_async_library()]
'''

BROKEN = """
from fastworker import lifespan, task


@lifespan
async def pool():
    raise OSError("no database there")
    yield


@task
async def add(x: int, y: int) -> int:
    return x + y
"""

HANGING = (
    TASKS
    + """

@lifespan
def hanging() -> Iterator[None]:
    import time
    yield
    time.sleep(1000)
"""
)

ENTERED = ["trio opened", "settings opened", "pool opened"]
LEFT = ["pool closed", "settings closed", "trio closed"]
PATIENCE_SECONDS = 30.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        cluster.control_plane()
        yield cluster


def run(cluster: Cluster, *tasks: str) -> list[Any]:
    client = BlockingClient(control_plane_address=cluster.address, token=cluster.token)
    with client:
        handles = [client.submit(task) for task in tasks]
        return [handle.result(timeout=PATIENCE_SECONDS) for handle in handles]


def ledgers(folder: Path) -> dict[int, list[str]]:
    """What was noted, by process."""
    found: dict[int, list[str]] = {}
    for line in (folder / "ledger").read_text().splitlines():
        pid, what = json.loads(line)
        found.setdefault(pid, []).append(what)
    return found


def test_hooks_are_open_while_jobs_run_and_left_when_the_subworker_drains(
    cluster: Cluster,
) -> None:
    member = cluster.subworker("sw1")
    [pid, text], [_, answer], [_, library] = run(cluster, "look", "look_in_thread", "look_in_trio")
    assert (text, answer, library) == ("pool after 42 in asyncio", 42, "trio")
    assert ledgers(cluster.folder) == {pid: ENTERED}
    assert member.terminate() == 0
    assert ledgers(cluster.folder) == {pid: [*ENTERED, *LEFT]}


def test_each_runner_opens_and_closes_its_own(cluster: Cluster) -> None:
    member = cluster.subworker("sw1", "--max-jobs-per-runner", "5")
    pids = set()
    while len(pids) < 2:
        pids.update(pid for pid, _ in run(cluster, *["look"] * 5))
    assert member.terminate() == 0
    found = ledgers(cluster.folder)
    assert pids <= set(found)
    assert all(noted == [*ENTERED, *LEFT] for noted in found.values())


def test_a_process_of_its_own_has_its_own(cluster: Cluster) -> None:
    member = cluster.subworker("sw1")
    [shared, text], [alone, same] = run(cluster, "look", "look_alone")
    assert (text, shared != alone) == (same, True)
    assert member.terminate() == 0
    assert ledgers(cluster.folder) == {pid: [*ENTERED, *LEFT] for pid in (shared, alone)}


def test_with_trio_as_the_default_asyncio_hooks_say_what_they_miss(tmp_path: Path) -> None:
    """The hook without a runtime is entered in Trio, where asyncio's task groups fail."""
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        cluster.control_plane()
        member = cluster.subworker("sw1", "--async-runtime", "trio", ready=False)
        assert member.wait() == 2
        assert "lifespan 'pool' of cluster_tasks cannot be opened" in member.log


def test_a_hook_that_raises_ends_the_subworker_with_a_sentence(tmp_path: Path) -> None:
    with Cluster(tmp_path, tasks=BROKEN) as cluster:
        cluster.control_plane()
        member = cluster.subworker("sw1", ready=False)
        assert member.wait() == 2
        assert (
            "lifespan 'pool' of cluster_tasks cannot be opened: OSError: no database there ("
            in member.log
        )
        assert f"{os.sep}cluster_tasks.py:7)" in member.log


def test_a_runner_whose_hooks_do_not_end_is_ended(tmp_path: Path) -> None:
    with Cluster(tmp_path, tasks=HANGING) as cluster:
        cluster.control_plane()
        member = cluster.subworker("sw1")
        run(cluster, "look")
        assert member.terminate() == 0
        assert "the lifespan hooks were not left within 10 s" in member.log
