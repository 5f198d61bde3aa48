"""Streams through real processes: cut connections, restarts, slow consumers, leaving early."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fastworker import Client, JobCancelled, JobDead, Stream
from tests.support.cluster import Cluster
from tests.support.process import WAIT_SECONDS
from tests.survival.proxy import Proxy

pytestmark = [pytest.mark.process, pytest.mark.slow]

TASKS = '''\
"""Tasks that yield."""
import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import trio

from fastworker import task


@task
async def count(end: int) -> AsyncIterator[int]:
    for number in range(end):
        yield number


@task(runtime="trio")
async def count_in_trio(end: int) -> AsyncIterator[int]:
    for number in range(end):
        yield number
        if number % 100 == 0:
            await trio.sleep(0)


@task
def count_in_thread(end: int) -> Iterator[int]:
    yield from range(end)


@task(run_in="process")
def count_alone(end: int) -> Iterator[int]:
    yield from range(end)


@task(run_in="process")
async def count_alone_async(end: int) -> AsyncIterator[int]:
    for number in range(end):
        yield number


@task
async def total(end: int) -> int:
    """Takes a stream from inside a task, over its subworker's connection."""
    expected = 0
    async for number in count.stream(end):
        assert number == expected
        expected += 1
    return expected


@task
async def tick(seconds: float, note: str) -> AsyncIterator[int]:
    number = 0
    try:
        while True:
            await asyncio.sleep(seconds)
            yield number
            number += 1
    finally:
        await asyncio.sleep(0.01)
        Path(note).write_text("cleaned up")


@task
def tick_in_thread(seconds: float, note: str) -> Iterator[int]:
    number = 0
    try:
        while True:
            time.sleep(seconds)
            yield number
            number += 1
    finally:
        Path(note).write_text("cleaned up")


@task(run_in="process")
def tick_alone(seconds: float, note: str) -> Iterator[int]:
    number = 0
    try:
        while True:
            time.sleep(seconds)
            yield number
            number += 1
    finally:
        Path(note).write_text("cleaned up")


@task
async def die(after: int) -> AsyncIterator[int]:
    for number in range(after):
        yield number
    await asyncio.sleep(0.2)
    os._exit(3)
'''

COUNTING = ("count", "count_in_trio", "count_in_thread")

MANY = 20_000
VERY_MANY = 30_000

MOST_BYTES = 150_000
"""Of one connection, before it is cut: some windows of three streams, and mostly less."""

GROWTH_BYTES = 48 * 1024 * 1024
"""Of any process, while a million items pass: they would be ten times as much."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        yield cluster


def client_of(cluster: Cluster, port: int | None = None) -> Client:
    address = cluster.address if port is None else f"tcp://127.0.0.1:{port}"
    return Client(control_plane_address=address, token=cluster.token, submit_timeout=WAIT_SECONDS)


def start_subworker_behind(proxy: Proxy, cluster: Cluster) -> None:
    address = f"tcp://127.0.0.1:{proxy.port}"
    cluster.start(
        *("one", "run", "subworker", "--worker-id", "one", "--control-plane-address", address),
        *("--token-file", str(cluster.token_file), "--task-modules", cluster.module),
    )


async def take_all(stream: Stream[int], pause: Callable[[int], float] | None = None) -> list[int]:
    found = []
    async for item in stream:
        found.append(item)
        if pause is not None and (seconds := pause(item)):
            await asyncio.sleep(seconds)
    return found


async def until(is_true: Callable[[], bool]) -> None:
    """Look until it is true: what another process does is not told here."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("task", [*COUNTING, "count_alone", "count_alone_async"])
def test_items_come_from_every_kind_of_generator(cluster: Cluster, task: str) -> None:
    cluster.control_plane()
    cluster.subworker("one")

    async def main() -> None:
        async with client_of(cluster) as client:
            assert await take_all(client.stream(task, 1000)) == [*range(1000)]
            assert await (await client.submit(task, 10)).result(WAIT_SECONDS) == [*range(10)]

    asyncio.run(main())


def test_the_consumers_connection_is_cut_again_and_again(cluster: Cluster) -> None:
    cluster.control_plane()
    cluster.subworker("one")

    async def main(proxy: Proxy) -> None:
        async with client_of(cluster, proxy.port) as client:
            found = await asyncio.gather(
                *(take_all(client.stream(task, VERY_MANY)) for task in COUNTING)
            )
            assert found == [[*range(VERY_MANY)]] * 3

    with Proxy(cluster.port, random.Random(4), most_bytes=MOST_BYTES) as proxy:
        asyncio.run(main(proxy))
        assert proxy.cuts > 5


def test_the_subworkers_connection_is_cut_again_and_again(cluster: Cluster) -> None:
    cluster.control_plane()

    async def main() -> None:
        async with client_of(cluster) as client:
            found = await asyncio.gather(
                *(take_all(client.stream(task, VERY_MANY)) for task in COUNTING)
            )
            assert found == [[*range(VERY_MANY)]] * 3

    with Proxy(cluster.port, random.Random(5), most_bytes=4 * MOST_BYTES) as proxy:
        start_subworker_behind(proxy, cluster)
        asyncio.run(main())
        assert proxy.cuts > 1


def test_a_task_takes_a_stream_while_its_subworkers_connection_is_cut(cluster: Cluster) -> None:
    cluster.control_plane()

    async def main() -> None:
        async with client_of(cluster) as client:
            handle = await client.submit("total", VERY_MANY)
            assert await handle.result(2 * WAIT_SECONDS) == VERY_MANY

    with Proxy(cluster.port, random.Random(6), most_bytes=4 * MOST_BYTES) as proxy:
        start_subworker_behind(proxy, cluster)
        asyncio.run(main())
        assert proxy.cuts > 0


def test_the_control_plane_is_killed_and_restarted_in_the_middle(cluster: Cluster) -> None:
    first = cluster.control_plane()
    cluster.subworker("one")

    async def main() -> None:
        async with client_of(cluster) as client:
            stream = client.stream("count", MANY)
            found = [await anext(stream) for _ in range(1000)]
            await asyncio.to_thread(first.kill)
            await asyncio.to_thread(cluster.control_plane)
            assert found + await take_all(stream) == [*range(MANY)]
            view = await client.get_task_result(stream.task_id)
            assert view is not None and (view.status, view.attempts) == ("success", 1)

    asyncio.run(main())


@pytest.mark.parametrize("task", ["tick", "tick_in_thread", "tick_alone"])
def test_leaving_the_loop_cancels_the_job(cluster: Cluster, task: str, tmp_path: Path) -> None:
    cluster.control_plane()
    cluster.subworker("one")
    notes = [tmp_path / f"note {number}" for number in range(4)]

    async def break_out(client: Client) -> str:
        async with client.stream(task, 0.01, str(notes[0])) as stream:
            async for item in stream:
                if item == 3:
                    break
        return stream.task_id

    async def break_out_of_the_plain_loop(client: Client) -> str:
        task_id = ""
        async for item in remember(client.stream(task, 0.01, str(notes[1]))):
            task_id, number = item
            if number == 3:
                break
        return task_id

    async def be_cancelled(client: Client) -> str:
        stream = client.stream(task, 0.01, str(notes[2]))
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await take_all(stream)
        return stream.task_id

    async def fail(client: Client) -> str:
        stream = client.stream(task, 0.01, str(notes[3]))
        with suppress(ZeroDivisionError):
            async with stream:
                async for _ in stream:
                    raise ZeroDivisionError
        return stream.task_id

    async def main() -> None:
        async with client_of(cluster) as client:
            leavers = (break_out, break_out_of_the_plain_loop, be_cancelled, fail)
            for note, leave in zip(notes, leavers, strict=True):
                task_id = await leave(client)
                with pytest.raises(JobCancelled):
                    await client.result(task_id, WAIT_SECONDS)
                assert note.read_text() == "cleaned up"

    asyncio.run(main())


async def remember(stream: Stream[int]) -> AsyncIterator[tuple[str, int]]:
    async for item in stream:
        yield stream.task_id, item


def test_a_cancelled_job_ends_its_stream(cluster: Cluster, tmp_path: Path) -> None:
    cluster.control_plane()
    cluster.subworker("one")

    async def main() -> None:
        async with client_of(cluster) as client, client_of(cluster) as other:
            for task in ("tick", "tick_in_thread", "tick_alone"):
                note = tmp_path / f"note of {task}"
                stream = client.stream(task, 0.01, str(note))
                assert await anext(stream) == 0
                assert (await other.cancel(stream.task_id)).cancelled
                with pytest.raises(JobCancelled):
                    await take_all(stream)
                assert note.read_text() == "cleaned up"

    asyncio.run(main())


def test_the_death_of_its_runner_ends_a_stream(cluster: Cluster) -> None:
    cluster.control_plane()
    cluster.subworker("one")

    async def main() -> None:
        async with client_of(cluster) as client:
            found = []
            with pytest.raises(JobDead):
                async for item in client.stream("die", 10):
                    found.append(item)
            assert found == [*range(10)]

    asyncio.run(main())


def test_a_consumer_that_disappears_ends_its_job(cluster: Cluster, tmp_path: Path) -> None:
    cluster.control_plane()
    cluster.subworker("one")
    note = tmp_path / "note"

    async def disappear() -> None:
        client = client_of(cluster)
        await client.start()
        stream = client.options(owned=0.5).stream("tick", 0.01, str(note))
        assert await anext(stream) == 0
        await client.stop()

    async def main() -> None:
        await disappear()
        await until(note.exists)

    asyncio.run(main())


def test_a_million_items_pass_a_slow_consumer_in_bounded_memory(cluster: Cluster) -> None:
    control_plane = cluster.control_plane()
    subworker = cluster.subworker("one")
    million = 1_000_000

    async def main() -> tuple[float, dict[str, int]]:
        async with client_of(cluster) as client:
            assert len(await take_all(client.stream("count", MANY))) == MANY
            processes = {
                "control plane": control_plane.pid,
                "subworker": subworker.pid,
                "runner": subworker.children()[0],
                "client": 0,
            }
            before = {name: resident_bytes(pid) for name, pid in processes.items()}
            most = dict(before)
            began = time.monotonic()
            expected = 0
            async for item in client.stream("count", million):
                assert item == expected
                expected += 1
                if expected % 20_000 == 0:
                    await asyncio.sleep(0.05)
                    for name, pid in processes.items():
                        most[name] = max(most[name], resident_bytes(pid))
            assert expected == million
            grown = {name: most[name] - before[name] for name in processes}
            return million / (time.monotonic() - began), grown

    rate, grown = asyncio.run(main())
    print(f"{rate:.0f} items/s; grown by {grown}")
    assert max(grown.values()) < GROWTH_BYTES, grown


def resident_bytes(pid: int) -> int:
    """What a process has in memory; 0 stands for this one."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
