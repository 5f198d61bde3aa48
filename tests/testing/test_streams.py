"""Streams through the whole system in one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from fastworker import BlockingClient, CallerError, Client, InvalidOption, TaskError
from fastworker.client.arriving import FIRST_WINDOW_ITEMS
from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.runner.streams import WINDOW_BYTES
from fastworker.testing import Cluster, Runtime
from tests.testing import sample_tasks as tasks


@pytest.fixture(autouse=True)
def _nothing_made() -> Iterator[None]:
    tasks.made.clear()
    yield


@pytest.mark.trio
@pytest.mark.parametrize("task", [tasks.count, tasks.count_plain], ids=["async", "plain"])
@pytest.mark.parametrize("end", [0, 1, 64, 65, 5000])
async def test_every_item_comes_once_and_in_order(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock, task: Any, end: int
) -> None:
    assert [item async for item in task.stream(end)] == list(range(end))


@pytest.mark.trio
async def test_a_task_is_streamed_by_name_and_with_options(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    by_name = fastworker_client.stream("testing-count", 3)
    bound = fastworker_client.options(queue="other").stream("testing-count", 3)
    own = tasks.count.options(queue="other").stream(3)
    for stream in (by_name, bound, own):
        assert [item async for item in stream] == [0, 1, 2]


@pytest.mark.trio
async def test_without_a_stream_the_result_is_the_list_of_items(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    for task in (tasks.count, tasks.count_plain):
        handle = await fastworker_client.submit(task, 3)
        assert await handle.result(60) == [0, 1, 2]


@pytest.mark.trio
async def test_without_a_stream_items_are_bounded_like_any_result(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.large_items.submit(MAX_PAYLOAD_BYTES // 3)
    with pytest.raises(TaskError, match=r"ResultTooLarge.*take them with stream\(\)"):
        await handle.result(60)
    assert len(tasks.made) == 3


@pytest.mark.trio
@pytest.mark.parametrize("task", [tasks.count, tasks.count_plain], ids=["async", "plain"])
async def test_a_task_runs_no_further_ahead_than_its_window(
    fastworker_client: Client,
    fastworker_cluster: Cluster,
    autojump_clock: trio.testing.MockClock,
    task: Any,
) -> None:
    async with fastworker_client.stream(task, 1000) as stream:
        for taken in (1, 2, 3):
            assert await anext(stream) == taken - 1
            await trio.sleep(10)
            assert len(tasks.made) == FIRST_WINDOW_ITEMS
        async for item in stream:
            if item == 999:
                break
        assert await _rest(stream) == []


@pytest.mark.trio
async def test_large_items_are_bounded_by_their_bytes(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    size = WINDOW_BYTES // 4
    stream = tasks.large_items.stream(size)
    assert len(await anext(stream)) == size
    await trio.sleep(10)
    assert len(tasks.made) <= 5
    for _ in range(20):
        assert len(await anext(stream)) == size


@pytest.mark.trio
async def test_items_before_a_failure_come_first(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    stream = tasks.count_and_fail.stream(100)
    items = []
    with pytest.raises(LookupError, match="no more numbers"):
        async for item in stream:
            items.append(item)
    assert items == list(range(100))
    assert await _rest(stream) == []


@pytest.mark.trio
async def test_an_item_that_cannot_travel_is_named(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    stream = tasks.unsealable.stream()
    assert await anext(stream) == "first"
    with pytest.raises(TaskError, match="ResultNotSerializable: item 1 of task 'testing-unsealab"):
        await anext(stream)


@pytest.mark.trio
async def test_what_does_not_yield_cannot_be_streamed(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(CallerError, match="does not yield"):
        fastworker_client.stream(tasks.add, 1, 2)
    with pytest.raises(TaskError, match="NotAStream"):
        await anext(fastworker_client.stream("testing-add", 1, 2))


@pytest.mark.trio
async def test_a_stream_is_a_job_of_its_own(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(InvalidOption, match="a stream is always a job of its own"):
        fastworker_client.options(idempotency_key="k").stream(tasks.count, 1)


@pytest.mark.trio
async def test_a_task_takes_the_items_of_another(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.count_of_count.submit(1000)
    assert await handle.result(60) == sum(range(1000))


@pytest.mark.trio
async def test_a_wait_for_one_item_may_end_and_be_repeated(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    async with fastworker_client.options(countdown=10).stream("testing-count", 3) as stream:
        with trio.move_on_after(1) as early:
            await anext(stream)
        assert early.cancelled_caught
        assert await _rest(stream) == [0, 1, 2]


def test_a_thread_takes_items_with_a_blocking_client(fastworker_runtime: Runtime) -> None:
    with fastworker_runtime.blocking_client() as client:
        assert list(client.stream(tasks.count, 1000)) == list(range(1000))
        assert list(client.options(queue="other").stream("testing-count-plain", 10)) == [*range(10)]
        with pytest.raises(LookupError, match="no more numbers"):
            list(client.stream(tasks.count_and_fail, 3))


def test_blocking_streams_are_typed_as_iterators(fastworker_runtime: Runtime) -> None:
    client: BlockingClient = fastworker_runtime.blocking_client()
    with client, client.stream(tasks.count, 10) as stream:
        assert next(stream) == 0
        assert iter(stream) is stream
        assert [*stream] == [*range(1, 10)]


async def _rest(stream: Any) -> list[Any]:
    return [item async for item in stream]
