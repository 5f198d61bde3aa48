"""The whole system in a background thread, for asyncio and for no event loop at all."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from fastworker import CallerError, Client, TaskStatus
from fastworker.testing import ClusterOptions, Runtime, open_runtime
from tests.testing import sample_tasks as tasks


@pytest.mark.anyio
async def test_async_test_of_either_library_gets_a_client(fastworker_client: Client) -> None:
    handle = await fastworker_client.submit("testing-add", 2, 3)
    assert await handle.result(timeout=10) == 5


def test_tasks_run_where_they_do_in_production(fastworker_runtime: Runtime) -> None:
    async def main() -> list[object]:
        async with fastworker_runtime.client() as client:
            names = ["testing-library", "testing-asyncio", "testing-trio", "testing-thread"]
            handles = [await client.submit(name) for name in names]
            return list(await client.results(handles, timeout=10))

    *libraries, thread = asyncio.run(main())
    assert libraries == ["asyncio", "asyncio", "trio"]
    assert thread != threading.main_thread().name


def test_blocking_client_needs_no_address(fastworker_runtime: Runtime) -> None:
    with fastworker_runtime.blocking_client() as client:
        assert client.submit("testing-parent", 1).result(timeout=10) == 3


def test_wait_idle_waits_for_what_nobody_holds(fastworker_runtime: Runtime) -> None:
    tasks.started.clear()

    async def main() -> None:
        async with Client():
            await tasks.note.delay("sent and forgotten")
        await fastworker_runtime.wait_idle()

    asyncio.run(main())
    assert tasks.started == ["sent and forgotten"]


def test_crash_of_the_runner_runs_its_jobs_again(fastworker_runtime: Runtime) -> None:
    tasks.running.clear()
    with fastworker_runtime.blocking_client() as client:
        handle = client.submit("testing-hang-once")
        assert tasks.running.wait(timeout=10)
        fastworker_runtime.crash_runner()
        ended = handle.wait(timeout=20)
    assert (ended.result, ended.attempts) == ("second time", 2)


def test_time_of_day_may_be_chosen() -> None:
    new_year = datetime(2030, 1, 1, tzinfo=UTC)
    with (
        open_runtime(ClusterOptions(starts_at=new_year)) as runtime,
        runtime.blocking_client() as client,
    ):
        ended = client.submit("testing-plain", 1).wait(timeout=10)
    assert ended.status is TaskStatus.SUCCESS and ended.completed_at is not None
    assert timedelta(0) <= ended.completed_at - new_year < timedelta(minutes=1)


def test_missing_task_module_is_one_sentence() -> None:
    with (
        pytest.raises(CallerError, match="no_such_module"),
        open_runtime(ClusterOptions(task_modules=("no_such_module",))),
    ):
        pass


def test_nothing_is_left_behind() -> None:
    before = set(threading.enumerate())
    with open_runtime() as runtime, runtime.blocking_client() as client:
        client.submit("testing-asyncio").result(timeout=10)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    # Trio keeps idle worker threads for the next call.
    assert {name for name in left if "fastworker" in name} == set()
