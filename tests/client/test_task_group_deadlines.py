"""Deadlines of task groups: the caller's scopes reach the jobs, and the jobs that they start."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock as Clock

from fastworker import Client, TimeLimitExceeded
from fastworker.testing import open_cluster
from tests.cancellation.stage import books_of
from tests.client.sample_tasks import diary, nested, seconds_left, seconds_left_below, sleep, total

pytestmark = pytest.mark.trio


@pytest.fixture
async def client(autojump_clock: Clock) -> AsyncIterator[Client]:
    """Of a cluster in the loop of the test."""
    async with open_cluster() as cluster, Client() as client:
        await client.wait_connected(5)
        yield client
        await cluster.wait_idle()
        await client.status()
        assert books_of(client) == (True, 0, [])


async def test_a_scope_of_the_caller_is_a_scope_of_the_code(
    client: Client, autojump_clock: Clock
) -> None:
    """test_current_effective_deadline, across processes."""
    with trio.move_on_after(50):
        await trio.sleep(20)
        async with client.task_group() as tg:
            job = tg.start_soon(seconds_left)
            below = tg.start_soon(seconds_left_below)
    assert job.value == pytest.approx(30, abs=1)
    assert below.value == pytest.approx(30, abs=1)


async def test_the_earliest_deadline_holds(client: Client, autojump_clock: Clock) -> None:
    with trio.move_on_after(50):
        async with client.task_group(deadline=40) as tg:
            group = tg.start_soon(seconds_left)
            own = tg.options(deadline=10).start_soon(seconds_left)
            later = tg.options(deadline=100).start_soon(seconds_left)
    assert group.value == pytest.approx(40, abs=1)
    assert own.value == pytest.approx(10, abs=1)
    assert later.value == pytest.approx(40, abs=1)


async def test_no_deadline_is_no_deadline(client: Client, autojump_clock: Clock) -> None:
    async with client.task_group() as tg:
        job = tg.start_soon(seconds_left)
    assert job.value == float("inf")


async def test_a_scope_ends_the_whole_tree(client: Client, autojump_clock: Clock) -> None:
    """test_basic_timeout: jobs, and the jobs that they have started."""
    started = trio.current_time()
    with trio.move_on_after(5) as scope:
        async with client.task_group() as tg:
            for number in range(3):
                tg.start_soon(nested, f"parent {number}", 3)
    assert scope.cancelled_caught
    assert trio.current_time() - started == pytest.approx(5, abs=1)
    assert len([line for line in diary if line.endswith("cancelled")]) == 12


async def test_a_jobs_own_deadline_is_its_failure(client: Client, autojump_clock: Clock) -> None:
    """Earlier than the group's, so nothing else is due."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group(deadline=100) as tg:
            tg.options(deadline=5).start_soon(sleep, "short")
            tg.start_soon(sleep, "long")
    (error,) = caught.value.exceptions
    assert isinstance(error, TimeLimitExceeded)
    assert sorted(diary) == ["long", "long cancelled", "short", "short cancelled"]


async def test_what_has_not_started_by_then_never_does(
    client: Client, autojump_clock: Clock
) -> None:
    with pytest.raises(TimeoutError):
        async with client.task_group(deadline=5) as tg:
            tg.options(countdown=60).start_soon(sleep, "never")
    assert diary == []


async def test_a_deadline_that_has_passed_starts_nothing(
    client: Client, autojump_clock: Clock
) -> None:
    """test_precancelled_task."""
    with trio.CancelScope(deadline=trio.current_time() - 1) as scope:
        async with client.task_group() as tg:
            tg.start_soon(sleep, "never")
    assert scope.cancelled_caught
    assert diary == []


async def test_groups_in_groups_in_groups_end(client: Client, autojump_clock: Clock) -> None:
    """Each waits for the next, and gives its slot back meanwhile."""
    async with client.task_group() as tg:
        job = tg.start_soon(total, 10)
    assert job.value == 11
