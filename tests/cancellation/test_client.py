"""Every public coroutine of clients, cancelled at each checkpoint."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
import trio

from fastworker.testing import open_cluster, open_runtime
from tests.cancellation import (
    cases_asking,
    cases_groups,
    cases_standing,
    cases_streams,
    cases_submitting,
)
from tests.cancellation.leftovers import (
    asyncio_tasks,
    held_locks,
    open_descriptors,
    trio_tasks,
    wait_none,
)
from tests.cancellation.sample_tasks import note
from tests.cancellation.stage import PATIENCE_SECONDS, Case, Stage, on_stage
from tests.cancellation.stepping import CANCELLED, Moment, Ran, moments, run_asyncio, run_trio

CASES = [
    *cases_submitting.CASES,
    *cases_asking.CASES,
    *cases_streams.CASES,
    *cases_groups.CASES,
    *cases_standing.CASES,
]

CALL_SECONDS = 30.0
"""For one call; one that takes longer hangs."""

Run = Callable[[Callable[[], Awaitable[Any]], "int | None"], Awaitable[Ran]]


async def cancel_everywhere(
    case: Case, stage: Stage, run: Run, tasks: Callable[[], Counter[str]], limit: int
) -> None:
    """Cancel at moment after moment, until the call ends before its moment comes."""
    total = (await cancel_once(case, stage, run, None)).moments
    before, descriptors = tasks(), open_descriptors()
    for moment in moments(total, limit):
        try:
            ran = await cancel_once(case, stage, run, moment)
            await wait_none("tasks left", lambda: tasks() - before)
            await wait_none("left open", lambda: open_descriptors() - descriptors)
        except BaseException as error:
            error.add_note(f"after {case.id} was cancelled at moment {moment}")
            raise
        if not ran.asked:
            break
    await stage.check()
    await wait_none("locks held", held_locks)


async def cancel_once(case: Case, stage: Stage, run: Run, moment: int | None) -> Ran:
    """Cancel the call at one moment; if it was cancelled, the next call gives the right answer."""
    with anyio.fail_after(CALL_SECONDS):
        prepared = await case.prepare(stage)
        ran = await run(partial(case.call, stage, prepared), moment)
        answer = ran.answer
        if ran.cancelled:
            if not case.again:
                prepared = await case.prepare(stage)
            answer = await case.call(stage, prepared)
        assert answer is not CANCELLED
        await case.check(stage, prepared, answer)
    return ran


@pytest.mark.trio
@pytest.mark.parametrize("case", [pytest.param(one, id=one.id) for one in CASES if not one.network])
async def test_in_trio(case: Case, limit: int) -> None:
    before = trio_tasks()
    async with open_cluster() as cluster, on_stage(cluster) as stage:
        await cancel_everywhere(case, stage, run_trio, trio_tasks, limit)
    assert not trio_tasks() - before


@pytest.mark.trio
@pytest.mark.parametrize("case", [pytest.param(one, id=one.id) for one in cases_standing.CASES])
async def test_in_trio_over_the_network(case: Case, limit: int) -> None:
    descriptors = open_descriptors()
    with open_runtime() as runtime:
        async with on_stage(runtime) as stage:
            await cancel_everywhere(case, stage, run_trio, trio_tasks, limit)
    await wait_none("left open", lambda: open_descriptors() - descriptors)


@pytest.mark.trio
async def test_another_submission_of_the_same_job_is_not_given_up(limit: int) -> None:
    """Two callers submit one id at once; the first is cancelled, the second has its result."""
    async with open_cluster() as cluster, on_stage(cluster) as stage:

        async def submit(mark: str, task_id: str) -> Any:
            return await stage.client.apply(note, (mark,), task_id=task_id)

        async def bystand(mark: str, task_id: str) -> None:
            handle = await submit(mark, task_id)
            assert await handle.result(PATIENCE_SECONDS) == 1

        for moment in range(limit):
            mark, task_id = await cases_submitting.with_an_id(stage)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bystand, mark, task_id)
                ran = await run_trio(partial(submit, mark, task_id), moment)
            if not ran.asked:
                break
        await stage.check()


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.value)
@pytest.mark.parametrize("cases", [CASES], ids=["all"])
def test_in_asyncio(cases: list[Case], moment: Moment, limit: int) -> None:
    async def sweep() -> None:
        async with on_stage(runtime) as stage:
            run = partial(run_asyncio, moment=moment)
            for case in cases:
                await cancel_everywhere(case, stage, run, asyncio_tasks, limit)

    descriptors = open_descriptors()
    with open_runtime() as runtime:
        asyncio.run(sweep())
    assert not open_descriptors() - descriptors
