"""Jobs that end with their parent or with their client, through a whole control plane."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from fastworker import CancelOutcome, Client, TaskStatus
from fastworker.core.facts import CancelRequest
from fastworker.server import owners as owners_module
from fastworker.server.owners import Owners
from fastworker.server.plane import Plane
from fastworker.testing import Cluster
from tests.server import family_tasks as tasks

pytestmark = pytest.mark.trio

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    tasks.told.clear()


async def status_of(client: Client, task_id: str) -> TaskStatus:
    found = await client.get_task_result(task_id)
    assert found is not None
    return found.status


async def settled(client: Client, ids: list[str]) -> list[TaskStatus]:
    return [await status_of(client, task_id) for task_id in ids]


async def test_cancel_reaches_the_whole_family_but_not_detached_jobs(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.submit(tasks.parent)
    await trio.sleep(1)
    answer = await handle.cancel("enough")
    assert answer.outcome is CancelOutcome.CANCELLED
    await trio.sleep(1)
    ids = [tasks.told[who] for who in ("child", "grandchild", "detached")]
    statuses = await settled(fastworker_client, ids)
    assert statuses == [TaskStatus.CANCELLED, TaskStatus.CANCELLED, TaskStatus.SCHEDULED]


async def test_jobs_of_a_client_that_stays_away_are_cancelled_each_after_its_time(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_client() as gone:
        ids = [
            (await gone.apply("family-note", countdown=HOUR, owned=seconds)).id
            for seconds in (30, 60, None)
        ]
    for wait, expected in ((29, "sss"), (2, "css"), (30, "ccs"), (600, "ccs")):
        await trio.sleep(wait)
        assert "".join(s.value[0] for s in await settled(fastworker_client, ids)) == expected


async def test_client_that_comes_back_in_time_keeps_its_jobs(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    client = open_client()
    await client.start()
    handle = await client.apply("family-note", countdown=HOUR, owned=30)
    await client.stop()
    await trio.sleep(20)
    await client.start()
    await client.wait_connected(5)
    await trio.sleep(60)
    assert await status_of(fastworker_client, handle.id) is TaskStatus.SCHEDULED
    await client.stop()
    await trio.sleep(31)
    assert await status_of(fastworker_client, handle.id) is TaskStatus.CANCELLED


async def test_client_that_comes_back_while_its_jobs_are_cancelled_goes_on_owning_the_rest(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners_module, "JOBS_AT_ONCE", 2)
    owners, cancelled, peer, reads = Owners(), list[bytes](), object(), 0
    jobs = [bytes([number]) for number in range(5)]

    async def owned(owner: bytes, *, after_key: int, limit: int, **_: object) -> list[object]:
        nonlocal reads
        reads += 1
        if reads == 2:
            owners.arrived(b"client", peer)
        rows = [
            SimpleNamespace(key=number, id=job)
            for number, job in enumerate(jobs)
            if number > after_key and job not in cancelled
        ]
        return list(rows[:limit])

    async def known() -> list[tuple[bytes, float]]:
        return [(b"client", 30.0)]

    async def put(request: CancelRequest) -> None:
        cancelled.extend(request.ids)

    plane = SimpleNamespace(
        store=SimpleNamespace(owned=owned, owners=known),
        inbox=SimpleNamespace(put=put),
        draining=False,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owners.serve_forever, cast(Plane, plane))
        await trio.sleep(31)
        assert cancelled == jobs[:2]
        owners.left(b"client", peer)
        await trio.sleep(29)
        assert cancelled == jobs[:2]
        await trio.sleep(2)
        assert cancelled == jobs
        nursery.cancel_scope.cancel()


async def test_jobs_of_a_client_in_a_runner_that_died_are_cancelled_after_their_time(
    fastworker_cluster: Cluster,
    fastworker_client: Client,
    autojump_clock: trio.testing.MockClock,
) -> None:
    await fastworker_client.submit(tasks.owner)
    await trio.sleep(1)
    owned = tasks.told["owned"]
    fastworker_cluster.crash_runner()
    await trio.sleep(59)
    assert await status_of(fastworker_client, owned) is TaskStatus.SCHEDULED
    await trio.sleep(2)
    assert await status_of(fastworker_client, owned) is TaskStatus.CANCELLED


async def test_child_has_the_deadline_of_its_parent_unless_it_is_detached(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await fastworker_client.apply(tasks.parent, deadline=60)
    await trio.sleep(1)
    found = {row["id"]: row.get("expires_at") for row in await fastworker_client.jobs()}
    assert found[tasks.told["child"]] == found[handle.id] is not None
    assert found[tasks.told["grandchild"]] == found[handle.id]
    assert found[tasks.told["detached"]] is None


def open_client() -> Client:
    return Client(submit_timeout=5)
