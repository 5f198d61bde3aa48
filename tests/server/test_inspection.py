"""What runs, as the control plane tells it: of jobs in the cluster of a test, of silent workers."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker import Client, InvalidOption, RunningJob, TaskPriority, UnknownJob, task
from fastworker.server import inspection
from fastworker.testing import open_cluster
from fastworker.wire.messages import Inspected

pytestmark = pytest.mark.trio

PATIENCE_SECONDS = 20.0
UNKNOWN = "01900000-0000-7000-8000-000000000000"


@task(name="inspect-wait", runtime="trio")
async def wait(seconds: float) -> None:
    await trio.sleep(seconds)  # here it waits


@task(name="inspect-parent", runtime="trio")
async def parent(seconds: float) -> None:
    async with Client() as client:
        await (await client.submit(wait, seconds)).result()


async def running(client: Client, count: int) -> list[RunningJob]:
    """The jobs that run, once there are so many."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            [worker] = await client.tree(stacks=True)
            if len(worker.jobs) == count:
                return list(worker.jobs)
            await trio.sleep(0.01)


async def test_a_running_job_is_shown_with_its_stack() -> None:
    async with open_cluster() as cluster, cluster.client() as client:
        handle = await client.submit(wait, 1000.0, priority=TaskPriority.HIGH)
        [job] = await running(client, 1)
        assert job == await client.stack(handle.id)
        assert (job.task_id, job.task, job.queue) == (handle.id, "inspect-wait", "default")
        assert (job.kind, job.attempt, job.parent, job.watchers) == ("trio", 1, None, 1)
        assert job.priority is TaskPriority.HIGH
        assert job.runner == 0
        assert job.started_at is not None
        assert "# here it waits" in job.stack
        [worker] = await client.tree()
        assert (worker.worker, worker.connected, worker.answered) == ("in-process", True, True)
        assert worker.jobs[0].stack == ""


async def test_a_parent_is_shown_to_wait_for_its_child() -> None:
    async with open_cluster() as cluster, cluster.client() as client:
        handle = await client.submit(parent, 1000.0)
        jobs = {job.task: job for job in await running(client, 2)}
        assert jobs["inspect-wait"].parent == handle.id
        assert jobs["inspect-parent"].waits == 1
        assert jobs["inspect-wait"].watchers == 1


async def test_a_job_that_does_not_run_has_no_stack() -> None:
    async with open_cluster() as cluster, cluster.client() as client:
        later = await client.submit(wait, 0.0, countdown=1000.0)
        assert await client.stack(later.id) is None
        done = await client.submit(wait, 0.0)
        await done.result(PATIENCE_SECONDS)
        assert await client.stack(done.id) is None


async def test_a_job_that_is_not_known_is_an_error() -> None:
    async with open_cluster() as cluster, cluster.client() as client:
        with pytest.raises(UnknownJob):
            await client.stack(UNKNOWN)
        with pytest.raises(InvalidOption, match="give its id"):
            await client._query("stack")
        with pytest.raises(InvalidOption, match="stacks is 3"):
            await client._query("tree", {"stacks": 3})


async def test_a_silent_worker_is_named_with_its_jobs(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(self: inspection.Inspections, session: bytes, message: Inspected) -> None:
        pass

    async with open_cluster() as cluster, cluster.client() as client:
        handle = await client.submit(wait, 1000.0)
        await trio.sleep(1.0)
        monkeypatch.setattr(inspection.Inspections, "take", drop)
        [worker] = await client.tree()
        assert not worker.answered
        [job] = worker.jobs
        assert (job.task_id, job.kind, job.runner) == (handle.id, "unknown", None)
        silent = await client.stack(handle.id)
        assert silent is not None
        assert "its worker has not answered within 3 s" in silent.stack


async def test_an_answer_that_would_be_too_large_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspection, "MAX_JOBS", 2)
    async with open_cluster() as cluster, cluster.client() as client:
        for _ in range(3):
            await client.submit(wait, 1000.0)
        assert len(await running(client, 2)) == 2
