"""How far a running job is: asked for, and followed."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker import Client, TaskStatus, UnknownJob
from fastworker.testing import Runtime
from tests.running import sample_tasks as tasks


@pytest.mark.trio
async def test_progress_is_shown_while_the_job_runs(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.steps.submit(3)
    await trio.sleep(1.5)
    found = await fastworker_client.get_task_result(handle.id)
    assert found is not None and found.status is TaskStatus.RUNNING
    assert found.progress is not None
    assert (found.progress.done, found.progress.total) == (2, 3)
    assert str(found.progress) == "2 of 3: step 2"
    assert await handle.result(timeout=60) == 3
    ended = await fastworker_client.get_task_result(handle.id)
    assert ended is not None and ended.progress is None


@pytest.mark.trio
async def test_progress_is_followed_to_the_end(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.steps.submit(3)
    assert [one.done async for one in handle.progress()] == [1, 2, 3]


@pytest.mark.trio
async def test_of_a_burst_the_last_word_is_told(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.burst.submit(1000)
    seen = [one.done async for one in handle.progress()]
    assert seen[-1] == 999 and len(seen) <= 2


@pytest.mark.trio
async def test_a_thread_with_the_context_of_a_job_speaks_for_it(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.thread_of_its_own.submit()
    assert [one.message async for one in handle.progress()] == ["from a thread"]


@pytest.mark.trio
async def test_nobody_follows_a_job_that_is_not_there(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(UnknownJob):
        await anext(fastworker_client.progress("01926a3e-5b7c-7def-8000-000000000000"))


@pytest.mark.parametrize("task", [tasks.steps_asyncio, tasks.steps_thread])
def test_every_kind_of_function_tells_progress(fastworker_runtime: Runtime, task: object) -> None:
    with fastworker_runtime.blocking_client() as client:
        handle = client.submit(task, 3)  # type: ignore[arg-type]
        assert [one.done for one in handle.progress()] == [1, 2, 3]
        assert handle.result(timeout=10) == 3
