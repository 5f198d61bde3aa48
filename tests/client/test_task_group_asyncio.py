"""Task groups of asyncio callers; the cluster is in a thread, its tasks run in asyncio too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from fastworker import Client
from fastworker.testing import ClusterOptions, open_runtime
from tests.cancellation.stage import books_of
from tests.client.sample_tasks import cleaning, diary, echo, fail, nested, sleep, total

PATIENCE_SECONDS = 20.0


def run(test: Callable[[Client], Awaitable[None]], *, concurrency: int = 100) -> None:
    """Run with a client of a cluster; at the end no job is left, and nothing is watched."""

    async def main() -> None:
        async with Client() as client:
            await client.wait_connected(PATIENCE_SECONDS)
            with anyio.fail_after(PATIENCE_SECONDS):
                await test(client)
                await runtime.wait_idle()
            await client.status()
            assert books_of(client) == (True, 0, [])

    with open_runtime(ClusterOptions(concurrency=concurrency)) as runtime:
        asyncio.run(main())


async def eventually(condition: Callable[[], bool]) -> None:
    """Jobs run in another thread, which tells nobody."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def cancelled() -> list[str]:
    return [line for line in diary if line.endswith(" cancelled")]


def test_values_are_there_after_the_block() -> None:
    async def test(client: Client) -> None:
        async with client.task_group() as tg:
            first = tg.start_soon(echo, 1)
            assert await tg.start_soon(echo, 2).result() == 2
            many = tg.start_many(echo, [(number,) for number in range(100)])
            assert await client.results(many) == list(range(100))
        assert first.value == 1

    run(test)


def test_a_failure_cancels_the_siblings_and_the_block() -> None:
    async def test(client: Client) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with client.task_group() as tg:
                tg.start_soon(nested, "parent", 2)
                await eventually(lambda: len(diary) == 3)
                tg.start_soon(fail, "argh")
                await asyncio.Event().wait()
        assert [str(error) for error in caught.value.exceptions] == ["argh"]
        assert len(cancelled()) == 3

    run(test)


def test_cancelling_the_asyncio_task_cancels_the_jobs_and_waits_for_them() -> None:
    async def block(client: Client) -> None:
        async with client.task_group() as tg:
            tg.start_soon(cleaning, "job", 0.2)

    async def test(client: Client) -> None:
        task = asyncio.create_task(block(client))
        await eventually(lambda: diary == ["job"])
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert diary == ["job", "job cleaned", "job cancelled"]

    run(test)


def test_asyncio_timeout_around_a_group() -> None:
    async def test(client: Client) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), client.task_group() as tg:
                tg.start_soon(sleep, "job")
        assert diary[-1] == "job cancelled"

    run(test)


def test_an_anyio_scope_around_a_group() -> None:
    async def test(client: Client) -> None:
        with anyio.move_on_after(0.5) as scope:
            async with client.task_group() as tg:
                tg.start_soon(nested, "parent", 2)
        assert scope.cancelled_caught
        assert len(cancelled()) == 3

    run(test)


def test_a_group_inside_asyncios_own_group() -> None:
    """Its failure cancels the local siblings of the block."""

    async def block(client: Client) -> None:
        async with client.task_group() as tg:
            tg.start_soon(fail, "remote")

    async def test(client: Client) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as local:
                local.create_task(block(client))
                local.create_task(asyncio.Event().wait())
        assert caught.value.subgroup(ValueError) is not None

    run(test)


def test_the_deadline_of_a_group() -> None:
    async def test(client: Client) -> None:
        with pytest.raises(TimeoutError, match="deadline of the task group"):
            async with client.task_group(deadline=0.5) as tg:
                tg.start_soon(nested, "parent", 2)
        assert len(cancelled()) == 3

    run(test)


def test_groups_in_groups_in_groups_end_with_one_slot() -> None:
    async def test(client: Client) -> None:
        async with client.task_group() as tg:
            job = tg.start_soon(total, 10)
        assert job.value == 11

    run(test, concurrency=1)
