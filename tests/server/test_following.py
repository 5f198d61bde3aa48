"""Questions about what is new of jobs: answered once, and forgotten with whoever asked."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker import Client
from fastworker.core.ids import id_bytes
from fastworker.server.running import RunningProgress
from fastworker.testing import open_cluster
from fastworker.wire.messages import Progress
from tests.running import sample_tasks as tasks

pytestmark = pytest.mark.trio


async def test_a_follower_that_leaves_is_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, cluster.client() as client:
        handle = await tasks.talk_for_long.submit(5)
        with trio.move_on_after(0.5):
            async for _ in handle.progress():
                pass
        await client.status()
        assert cluster._plane.following._news == {}
        async with Client() as other:
            lines = other.logs(handle.id)
            assert (await anext(lines)).text == "line 0"
            await lines.aclose()
        await trio.sleep(0.1)
        assert cluster._plane.following._news == {}


async def test_a_question_ends_with_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, cluster.client():
        handle = await tasks.talk_for_long.submit(5)
        async with trio.open_nursery() as nursery:
            other = Client()
            await other.start()

            async def follow() -> None:
                with pytest.raises(Exception, match="stopped"):
                    async for _ in other.progress(handle.id):
                        pass

            nursery.start_soon(follow)
            await trio.sleep(0.5)
            assert id_bytes(handle.id) in cluster._plane.following._news
            await other.stop()
        await trio.sleep(0.1)
        assert cluster._plane.following._news == {}


async def test_progress_counts_from_whoever_holds_the_lease(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, cluster.client() as client:
        handle = await tasks.steps.submit(3)
        await trio.sleep(0.5)
        running: RunningProgress = cluster._plane.running
        job = cluster._plane.dispatcher.job(id_bytes(handle.id))
        assert job is not None and job.session is not None
        for session, token in ((b"x" * 16, job.token), (job.session, job.token + 1)):
            running.take(session, Progress(job.id, [token], [99], [99], ["wrong"], [1.0]))
        found = await client.get_task_result(handle.id)
        assert found is not None and found.progress is not None and found.progress.done == 1
