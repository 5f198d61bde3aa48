"""Idempotency keys and cancels that come first, through real clients and a real control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fastworker import (
    CancelOutcome,
    Client,
    Conflict,
    InvalidOption,
    JobCancelled,
    Overloaded,
    TaskPriority,
    call,
)
from fastworker.core.ids import id_text
from fastworker.server.control_plane import run_control_plane
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.testing import Runtime, open_cluster
from tests.testing import sample_tasks as tasks

TOKEN = "a-token-for-tests-that-is-long-enough"
HOUR = 3600.0


@pytest.mark.trio
async def test_a_key_gives_the_older_job_and_its_result(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(), Client():
        keyed = tasks.slow.options(idempotency_key="order-17", idempotency_window=HOUR)
        first = await keyed.submit(5.0)
        again = await keyed.submit(5.0)
        assert (first.deduplicated, again.deduplicated) == (False, True)
        assert again.id == first.id == await keyed.delay(5.0)
        # It runs; its end is pushed to both, and to another client that comes by later.
        assert await again.result(60) == await first.result(60)
        async with Client() as other:
            bound = other.options(idempotency_key="order-17")
            late = await bound.submit(tasks.slow, 5.0)
            assert late.deduplicated and await late.result(60) == await first.result()
            another = await other.apply(tasks.slow, [6.0], idempotency_key="another")
            assert not another.deduplicated


@pytest.mark.trio
async def test_the_older_job_is_watched_by_a_client_that_did_not_submit_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(), Client() as one, Client() as two:
        submitted = await one.options(idempotency_key="k").delay(tasks.slow, 5.0)
        handle = await two.options(idempotency_key="k").submit(tasks.slow, 5.0)
        assert handle.id == submitted and not handle.done
        assert await handle.result(60) > 0


@pytest.mark.trio
async def test_other_arguments_are_a_conflict_that_names_the_holder(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(), Client() as client:
        keyed = client.options(idempotency_key="k")
        first = await keyed.submit("testing-add", x=2, y=3)
        same = await keyed.submit("testing-add", y=3, x=2)
        assert same.id == first.id
        with pytest.raises(Conflict, match="other arguments") as conflict:
            await keyed.submit("testing-add", x=2, y=4)
        assert conflict.value.existing_id == first.id != conflict.value.task_id
        waiting = await client.options(countdown=HOUR).submit("testing-add", 1, 1)
        with pytest.raises(Conflict, match="other arguments") as conflict:
            await client.options(task_id=waiting.id).submit("testing-add", 9, 9)
        assert conflict.value.existing_id == waiting.id


@pytest.mark.trio
async def test_after_window_and_end_a_key_is_free(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, Client() as client:
        keyed = client.options(idempotency_key="k", idempotency_window=timedelta(minutes=1))
        first = await keyed.submit(tasks.slow, 300.0)
        await trio.sleep(120)
        assert (await keyed.submit(tasks.slow, 300.0)).id == first.id
        await cluster.wait_idle()
        later = await keyed.submit(tasks.slow, 300.0)
        assert later.id != first.id and not later.deduplicated


@pytest.mark.trio
async def test_two_hundred_at_once_from_several_clients_are_one_job(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tasks.started.clear()
    async with open_cluster() as cluster, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client()) for _ in range(5)]
        results: list[tuple[str, bool, Any]] = []

        async def submit(client: Client) -> None:
            keyed = client.options(idempotency_key="once")
            handle = await keyed.submit(tasks.note, "ran")
            results.append((handle.id, handle.deduplicated, await handle.result(60)))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(submit, clients[number % len(clients)])
        await cluster.wait_idle()
        assert len(results) == 200 and len({task_id for task_id, _, _ in results}) == 1
        assert sum(not deduplicated for _, deduplicated, _ in results) == 1
        assert tasks.started == ["ran"]


@pytest.mark.trio
async def test_a_group_has_a_key_for_each_job(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster, Client() as client:
        rows, keys = [(1, 1), (2, 2), (1, 1), (4, 4)], ["a", "b", "a", None]
        handles = await client.submit_many("testing-add", rows, keys=keys)
        assert [handle.deduplicated for handle in handles] == [False, False, True, False]
        assert handles[2].id == handles[0].id
        assert await client.results(handles, timeout=60) == [2, 4, 2, 8]
        again = await client.submit_many([call("testing-add", 2, 2)], keys=["b"])
        assert again[0].id == handles[1].id and await again[0].result(60) == 4
        before = len(await client.jobs())
        with pytest.raises(Conflict, match="job 1 of the group") as conflict:
            await client.submit_many("testing-add", [(7, 7), (9, 9)], keys=["c", "b"])
        assert conflict.value.existing_id == handles[1].id
        assert len(await client.jobs()) == before
        await cluster.wait_idle()


@pytest.mark.trio
async def test_keys_stay_with_their_jobs_when_a_message_is_split_by_priority(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(), Client() as client:
        priorities = [TaskPriority.LOW, TaskPriority.HIGH, TaskPriority.NORMAL] * 3

        async def submit(number: int, into: dict[int, str]) -> None:
            options = {"priority": priorities[number], "idempotency_key": f"k{number}"}
            handle = await client.options(**options).submit("testing-add", number, number)
            assert await handle.result(60) == 2 * number
            into[number] = handle.id

        first: dict[int, str] = {}
        second: dict[int, str] = {}
        for found in (first, second):
            async with trio.open_nursery() as nursery:
                for number in range(len(priorities)):
                    nursery.start_soon(submit, number, found)
        assert first == second and len(set(first.values())) == len(priorities)


@pytest.mark.trio
async def test_a_cancel_that_comes_first_is_kept_for_its_submission(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tasks.started.clear()
    async with open_cluster() as cluster, Client() as client:
        ids = [id_text(number.to_bytes(16, "big")) for number in range(1, 5)]
        for task_id in ids:
            assert (await client.cancel(task_id)).outcome is CancelOutcome.UNKNOWN
        urgent = tasks.note.options(task_id=ids[0], priority=TaskPriority.HIGH)
        bound = [
            tasks.note.options(task_id=ids[1], priority=TaskPriority.LOW),
            tasks.note.options(task_id=ids[2], priority=TaskPriority.CRITICAL),
        ]
        grouped = [
            call(tasks.note, "grouped")._replace(options=each.call_options) for each in bound
        ]
        handles = [await urgent.submit("single"), *await client.submit_many(grouped)]
        async for handle in client.submit_stream(
            [
                call(tasks.note, "free"),
                call(tasks.note, "streamed")._replace(
                    options=tasks.note.options(task_id=ids[3]).call_options
                ),
            ]
        ):
            handles.append(handle)
        free = handles.pop(3)
        assert [handle.id for handle in handles] == ids
        for handle in handles:
            with pytest.raises(JobCancelled):
                await handle.result(60)
        await free.result(60)
        await cluster.wait_idle()
        assert tasks.started == ["free"]


@asynccontextmanager
async def control_plane(
    settings: ControlPlaneSettings, *, submit_timeout: float = 10.0
) -> AsyncIterator[Client]:
    """A real one on a port of its own, and a client of it."""
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Plane]) -> None:
            await run_control_plane(settings, handle_signals=False, task_status=task_status)

        plane: Plane = await nursery.start(run)
        address = plane.addresses[0]
        async with Client(
            control_plane_address=address, token=TOKEN, submit_timeout=submit_timeout
        ) as client:
            yield client
        nursery.cancel_scope.cancel()


def settings(**changes: Any) -> ControlPlaneSettings:
    return ControlPlaneSettings(
        base_address="tcp://127.0.0.1:0",
        discovery_address=None,
        tokens={"default": TOKEN},
        local_worker="never",
        **changes,
    )


@pytest.mark.trio
async def test_a_restarted_control_plane_knows_the_keys(tmp_path: Path) -> None:
    found: list[str] = []
    for _ in range(2):
        async with control_plane(settings(store=tmp_path / "store")) as client:
            keyed = client.options(idempotency_key="k")
            found.append(await keyed.delay("add", 2, 3))
            with pytest.raises(Conflict) as conflict:
                await keyed.delay("add", 2, 4)
            assert conflict.value.existing_id == found[0]
    assert found[0] == found[1]


@pytest.mark.trio
async def test_beyond_the_bound_submissions_are_refused_for_now() -> None:
    asked = settings(durability="memory", max_queued_jobs=2)
    async with control_plane(asked, submit_timeout=0.3) as client:
        await client.delay("add", 1, 1)
        waiting = await client.delay("add", 2, 2)
        with pytest.raises(Overloaded, match="--max-queued-jobs") as full:
            await client.delay("add", 3, 3)
        assert full.value.retry_after >= 1
        assert await client.options(task_id=waiting).delay("add", 2, 2) == waiting


def test_a_blocking_client_has_keys_too(fastworker_runtime: Runtime) -> None:
    with fastworker_runtime.blocking_client() as client:
        keyed = client.options(idempotency_key="k")
        first, second = (keyed.submit("testing-add", 1, 2) for _ in range(2))
        assert second.id == first.id and second.result(10) == 3
        assert (first.deduplicated, second.deduplicated) == (False, True)
        many = client.submit_many("testing-add", [(1, 2), (3, 4)], keys=["k", None])
        assert [handle.deduplicated for handle in many] == [True, False]
        assert client.results(many, timeout=10) == [3, 7]


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ({"idempotency_key": ""}, "0 characters"),
        ({"idempotency_key": "x" * 201}, "201 characters"),
        ({"idempotency_key": 17}, "not a int"),
        ({"idempotency_key": "k", "idempotency_window": 0.5}, "1 second to 30 days"),
        ({"idempotency_key": "k", "idempotency_window": timedelta(days=31)}, "1 second to 30 days"),
        ({"idempotency_key": "k", "idempotency_window": "1h"}, "seconds or a timedelta"),
        ({"idempotency_window": 60}, "give an idempotency_key too"),
    ],
)
def test_what_is_refused_before_anything_is_sent(given: dict[str, Any], about: str) -> None:
    for choose in (tasks.add.options, Client(control_plane_address="tcp://127.0.0.1:1").options):
        with pytest.raises(InvalidOption, match=about):
            choose(**given)


@pytest.mark.trio
async def test_keys_of_a_group_are_checked(autojump_clock: trio.testing.MockClock) -> None:
    rows = [(1, 2), (3, 4)]
    async with open_cluster(), Client() as client:
        for given, about in (
            ({"keys": ["a"]}, "keys has 1 for 2 jobs"),
            ({"keys": "ab"}, "not text"),
            ({"keys": ["a", ""]}, "0 characters"),
            ({"idempotency_window": 60}, "give keys too"),
            ({"idempotency_key": "k"}, "give submit_many keys"),
            ({"keys": ["a", "b"], "idempotency_window": 0}, "1 second"),
        ):
            with pytest.raises(InvalidOption, match=about):
                await client.submit_many("testing-add", rows, **given)
