"""Time limits, deadlines, cancels and processes inside a test, on its virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker import CancelOutcome, Client, TimeLimitExceeded, task

pytestmark = pytest.mark.trio

HOUR = 3600.0


@task(name="testing-limited", timeout=HOUR)
async def limited() -> None:
    await trio.sleep_forever()


@task(name="testing-deaf", timeout=HOUR, grace=HOUR)
async def deaf() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(4 * HOUR)  # a shield cannot be broken here


@task(name="testing-naps")
async def naps() -> str:
    await trio.sleep(3 * HOUR)
    return "rested"


@task(name="testing-in-a-process", run_in="process")
async def in_a_process() -> str:
    return "as if in one"


async def test_a_time_limit_takes_no_time(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit(limited)
    began = trio.current_time()
    with pytest.raises(TimeLimitExceeded, match="time limit of 3600 s"):
        await handle.result()
    assert HOUR <= trio.current_time() - began < HOUR + 1


async def test_code_that_does_not_listen_is_stopped_and_its_neighbour_runs_again(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    neighbour = await fastworker_client.submit(naps)
    handle = await fastworker_client.submit(deaf)
    with pytest.raises(TimeLimitExceeded, match="did not stop within 3600 s"):
        await handle.result()
    assert await neighbour.result() == "rested"
    assert (await neighbour.wait()).attempts == 1


async def test_a_deadline_of_one_call(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.options(deadline=60).submit(naps)
    with pytest.raises(TimeLimitExceeded, match="deadline"):
        await handle.result(timeout=90)


async def test_running_code_is_cancelled(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit(naps)
    await trio.sleep(1)
    assert (await handle.cancel()).outcome is CancelOutcome.CANCELLED


async def test_a_task_with_a_process_runs_too(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit(in_a_process)
    assert await handle.result(timeout=60) == "as if in one"
