"""What an attempt leaves for the next one."""

from __future__ import annotations

import pytest
import trio.testing

from fastworker import Client
from fastworker.testing import Runtime
from tests.running import sample_tasks as tasks


@pytest.mark.trio
async def test_the_next_attempt_finds_the_latest_checkpoint(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.resume.submit()
    first = {"attempt": 1, "before": None}
    second = {"attempt": 2, "before": first}
    third = {"attempt": 3, "before": second}
    assert await handle.result(timeout=600) == [4, third]


def test_a_job_without_a_checkpoint_finds_none(fastworker_runtime: Runtime) -> None:
    with fastworker_runtime.blocking_client() as client:
        assert client.submit(tasks.steps_thread, 1).result(timeout=10) == 1
