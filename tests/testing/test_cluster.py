"""The whole system in one Trio loop, on a virtual clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from fastworker import (
    BlockingClient,
    Call,
    CallerError,
    CancelOutcome,
    Client,
    ClientNotReady,
    JobCancelled,
    JobExpired,
    TaskError,
    TaskPriority,
    TaskStatus,
)
from fastworker.options import CallOptions
from fastworker.testing import Cluster, ClusterOptions, open_cluster
from tests.testing import sample_tasks as tasks

pytestmark = pytest.mark.trio

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _nothing_started() -> Iterator[None]:
    tasks.started.clear()
    yield


async def test_async_task_runs_in_the_loop_of_the_test(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit("testing-library")
    assert await handle.result(timeout=60) == "trio"


async def test_plain_function_runs_without_a_thread(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit(tasks.thread_name)
    assert await handle.result(timeout=60) == "MainThread"


async def test_task_failure_is_raised(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit("testing-fail")
    with pytest.raises(ValueError, match="as asked"):
        await handle.result(timeout=60)


async def test_asyncio_task_fails_and_names_the_switch(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit("testing-asyncio")
    with pytest.raises(TaskError, match="fastworker_runtime"):
        await handle.result(timeout=60)


async def test_countdown_of_an_hour_passes_on_the_virtual_clock(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    await trio.sleep(HOUR)
    handle = await fastworker_client.submit("testing-add", 2, 3, countdown=HOUR)
    before = await fastworker_client.get_task_result(handle.id)
    assert before is not None and before.status is TaskStatus.SCHEDULED
    assert await handle.result(timeout=2 * HOUR) == 5
    assert trio.current_time() == pytest.approx(2 * HOUR, abs=0.1)
    ended = await handle.wait()
    assert ended.started_at is not None
    assert (ended.started_at - datetime.now(UTC)) / timedelta(hours=1) == pytest.approx(2, abs=0.1)


async def test_eta_counts_from_the_time_of_day_that_was_chosen(
    autojump_clock: trio.testing.MockClock,
) -> None:
    new_year = datetime(2030, 1, 1, tzinfo=UTC)
    async with open_cluster(ClusterOptions(starts_at=new_year)) as cluster:
        assert cluster.now() == new_year
        async with cluster.client() as client:
            handle = await client.apply("testing-plain", (4,), eta=new_year + timedelta(days=1))
            result = await handle.wait(timeout=timedelta(days=2))
    assert result.result == 8
    assert result.started_at is not None
    assert abs(result.started_at - new_year - timedelta(days=1)) < timedelta(seconds=1)


async def test_more_urgent_jobs_start_first(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster(ClusterOptions(concurrency=1)) as cluster, cluster.client() as client:
        await client.delay("testing-slow", 60)
        await trio.sleep(1)
        await client.submit_many(
            Call("testing-note", (priority.name,), options=CallOptions(priority=priority))
            for priority in (TaskPriority.LOW, TaskPriority.CRITICAL, TaskPriority.HIGH)
        )
        await cluster.wait_idle()
    assert tasks.started == ["slow", "CRITICAL", "HIGH", "LOW"]


async def test_scheduled_job_is_cancelled_and_never_starts(
    fastworker_cluster: Cluster,
    fastworker_client: Client,
    autojump_clock: trio.testing.MockClock,
) -> None:
    handle = await fastworker_client.submit("testing-note", "never", countdown=60)
    assert (await handle.cancel()).outcome is CancelOutcome.CANCELLED
    with pytest.raises(JobCancelled):
        await handle.result(timeout=HOUR)
    await trio.sleep(120)
    assert tasks.started == []


async def test_job_that_waits_too_long_expires(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster(ClusterOptions(concurrency=1)) as cluster, cluster.client() as client:
        await client.delay("testing-slow", 60)
        late = await client.apply("testing-note", ("late",), expires=30)
        with pytest.raises(JobExpired):
            await late.result(timeout=HOUR)
    assert tasks.started == ["slow"]


async def test_many_jobs_end(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handles = await fastworker_client.submit_many("testing-plain", [(n,) for n in range(500)])
    assert await fastworker_client.results(handles, timeout=60) == [2 * n for n in range(500)]


async def test_task_submits_and_awaits_another(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    assert await (await fastworker_client.submit("testing-parent", 1)).result(timeout=60) == 3


async def test_any_client_without_an_address_is_connected(
    fastworker_cluster: Cluster, autojump_clock: trio.testing.MockClock
) -> None:
    async with Client():
        handle = await tasks.add.submit(1, 1)
        assert await handle.result(timeout=60) == 2


async def test_crash_of_the_runner_runs_its_jobs_again(
    fastworker_cluster: Cluster,
    fastworker_client: Client,
    autojump_clock: trio.testing.MockClock,
) -> None:
    handle = await fastworker_client.submit("testing-slow", 10)
    await trio.sleep(5)
    fastworker_cluster.crash_runner()
    result = await handle.wait(timeout=HOUR)
    assert (result.status, result.attempts) == (TaskStatus.SUCCESS, 2)
    assert tasks.started == ["slow", "slow"]


async def test_a_job_that_crashes_alone_three_times_is_dead(
    fastworker_cluster: Cluster,
    fastworker_client: Client,
    autojump_clock: trio.testing.MockClock,
) -> None:
    handle = await fastworker_client.submit("testing-slow", 20)
    for _ in range(4):
        await trio.sleep(10)
        fastworker_cluster.crash_runner()
    result = await handle.wait(timeout=HOUR)
    assert (result.status, result.reason) == (TaskStatus.DEAD, "poison")
    assert tasks.started == ["slow"] * 4
    last = await fastworker_client.submit("testing-slow", 1)
    assert (await last.wait(timeout=HOUR)).status is TaskStatus.SUCCESS


async def test_job_of_a_task_defined_too_late_is_warned_of(
    fastworker_cluster: Cluster,
    fastworker_client: Client,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle = await fastworker_client.submit("testing-unheard-of")
    with pytest.raises(TimeoutError):
        await handle.result(timeout=HOUR)
    assert "'testing-unheard-of'" in caplog.text and "task_modules" in caplog.text


async def test_error_of_the_test_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError) as caught:
        async with open_cluster():
            raise LookupError("mine") from ValueError("why")
    assert isinstance(caught.value.__cause__, ValueError)


async def test_second_cluster_is_refused_until_the_first_has_ended() -> None:
    async with open_cluster():
        with pytest.raises(CallerError, match="one at a time"):
            async with open_cluster():
                pass
    async with open_cluster() as cluster, cluster.client() as client:
        assert await (await client.submit("testing-add", 1, 2)).result(timeout=5) == 3


async def test_blocking_client_is_told_what_to_use(fastworker_cluster: Cluster) -> None:
    def call() -> None:
        with BlockingClient():
            pass

    with pytest.raises(ClientNotReady, match="fastworker_runtime"):
        await trio.to_thread.run_sync(call)
