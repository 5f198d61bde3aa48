"""What task groups say to a control plane, and what they make of its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from fastworker import (
    Client,
    ClientNotReady,
    ControlPlaneUnavailable,
    Indeterminate,
    JobCancelled,
    Rejected,
    TaskStatus,
)
from fastworker.core.ids import id_bytes, split_ids
from fastworker.wire import messages as m
from tests.cancellation.stage import books_of
from tests.client.fake_control_plane import TOKEN, FakeControlPlane, Peer

pytestmark = pytest.mark.anyio

JOBS = 10_000


def cancels_of(plane: FakeControlPlane) -> list[m.Cancel]:
    return [message for message in plane.received if isinstance(message, m.Cancel)]


async def nothing_is_left(client: Client) -> None:
    await client.status()
    assert books_of(client) == (True, 0, [])


@pytest.fixture
async def patient(plane: FakeControlPlane) -> AsyncIterator[Client]:
    """For thousands of jobs at a control plane that shares the loop, and answers in one go."""
    async with Client(
        control_plane_address=plane.address, token=TOKEN, submit_timeout=60
    ) as client:
        yield client


async def test_ten_thousand_jobs_leave_in_eleven_messages(
    patient: Client, plane: FakeControlPlane
) -> None:
    await patient.wait_connected(5)
    async with patient.task_group() as tg:
        handles = [tg.start_soon("add", number, 1) for number in range(JOBS)]
    assert [handle.value for handle in handles] == list(range(1, JOBS + 1))
    await nothing_is_left(patient)
    submits = plane.submits()
    assert len(submits) <= JOBS // 1_000 + 1
    assert {tuple(map(repr, one.specs)) for one in submits} == {
        ("['add', 'default', 1, {'owned': 30.0}]",)
    }


async def test_start_many_is_cut_into_what_is_accepted(
    client: Client, plane: FakeControlPlane
) -> None:
    async with client.task_group(owned=None) as tg:
        handles = tg.start_many("add", [(number, 1) for number in range(JOBS + 1)])
    assert handles[-1].value == JOBS + 1
    assert {submit.group_total for submit in plane.submits()} == {JOBS, 1}
    assert plane.submits()[0].specs == [["add", "default", 1, {}]]


async def test_many_jobs_are_cancelled_with_few_messages(
    patient: Client, plane: FakeControlPlane
) -> None:
    plane.hold = True
    async with patient.task_group(grace=7) as tg:
        for number in range(JOBS):
            tg.start_soon("add", number)
        await plane.until(lambda: len(plane.jobs) == JOBS)
        tg.cancel("no need")
    cancels = cancels_of(plane)
    assert [len(split_ids(one.ids)) for one in cancels] == [1_000] * 10
    assert {(one.reason, one.grace) for one in cancels} == {("no need", 7.0)}
    await nothing_is_left(patient)


async def test_what_was_not_sent_never_is(client: Client, plane: FakeControlPlane) -> None:
    """Nothing can be sent before the caller waits."""
    async with client.task_group() as tg:
        handles = [tg.start_soon("add", number) for number in range(10)]
        tg.cancel()
    assert plane.submits() == []
    for handle in handles:
        with pytest.raises(JobCancelled, match="was not submitted"):
            await handle.result()
    await nothing_is_left(client)


async def test_what_is_on_its_way_is_cancelled_once_it_is_accepted(
    client: Client, plane: FakeControlPlane
) -> None:
    plane.hold, plane.answer = True, None
    async with client.task_group() as tg:
        handles = [tg.start_soon("add", number) for number in range(100)]
        await plane.until(lambda: len(plane.submits()) == 1)
        tg.cancel()
        plane.answer = FakeControlPlane.accept
        await plane.peers[0].drop()
    assert [len(split_ids(one.ids)) for one in cancels_of(plane)] == [100]
    assert {(await one.wait()).status for one in handles} == {TaskStatus.CANCELLED}
    await nothing_is_left(client)


async def test_a_refusal_is_one_failure_and_the_rest_is_not_submitted(
    client: Client, plane: FakeControlPlane
) -> None:
    def refuse(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        count = len(submit.payloads)
        return [
            m.Submitted(submit.request, refused=[[n, "forbidden", "no", 0.0] for n in range(count)])
        ]

    plane.answer = refuse
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            handles = [tg.start_soon("add", number) for number in range(10)]
            await anyio.sleep_forever()
    (error,) = caught.value.exceptions
    assert isinstance(error, Rejected)
    for handle in handles:
        with pytest.raises(Rejected):
            print(handle.value)
    await nothing_is_left(client)


async def test_a_submission_that_is_not_answered_fails_the_group_and_is_cancelled(
    plane: FakeControlPlane,
) -> None:
    plane.answer = None
    async with Client(
        control_plane_address=plane.address, token=TOKEN, submit_timeout=0.3
    ) as client:
        with pytest.raises(ExceptionGroup) as caught:
            async with client.task_group() as tg:
                handles = [tg.start_soon("add", number) for number in range(3)]
                await anyio.sleep_forever()
        (error,) = caught.value.exceptions
        assert isinstance(error, Indeterminate)
        sent = {id_bytes(one.id) for one in handles}
        await plane.until(
            lambda: {i for one in cancels_of(plane) for i in split_ids(one.ids)} == sent
        )
        await nothing_is_left(client)


async def test_a_full_outbox_is_fed_as_it_gets_room(plane: FakeControlPlane) -> None:
    async with Client(control_plane_address=plane.address, token=TOKEN, outbox_limit=3) as client:
        async with client.task_group() as tg:
            handles = [tg.start_soon("add", number, 0) for number in range(50)]
        assert [handle.value for handle in handles] == list(range(50))
        await nothing_is_left(client)


async def test_a_full_outbox_is_forgotten_with_the_group(plane: FakeControlPlane) -> None:
    plane.hold = True
    async with Client(control_plane_address=plane.address, token=TOKEN, outbox_limit=3) as client:
        await client.wait_connected(5)
        async with client.task_group() as tg:
            for number in range(50):
                tg.start_soon("add", number)
            await plane.until(lambda: bool(plane.jobs))
            tg.cancel()
        cancelled = [job_id for one in cancels_of(plane) for job_id in split_ids(one.ids)]
        assert set(cancelled) == set(plane.jobs)
        await nothing_is_left(client)


async def test_a_full_outbox_that_gets_no_room_is_one_failure(plane: FakeControlPlane) -> None:
    plane.answer = None
    async with Client(
        control_plane_address=plane.address, token=TOKEN, outbox_limit=3, submit_timeout=0.3
    ) as client:
        await client.wait_connected(5)
        with pytest.raises(ExceptionGroup) as caught:
            async with client.task_group() as tg:
                for number in range(50):
                    tg.start_soon("add", number)
        # What waited for room may run out of time in the same moment as what was sent.
        failures = [type(error) for error in caught.value.exceptions]
        assert Indeterminate in failures
        assert failures.count(ControlPlaneUnavailable) <= 1 and len(failures) <= 2
        with pytest.raises(ExceptionGroup) as caught:
            async with client.task_group() as tg:
                for number in range(50):
                    tg.start_soon("add", number)
                raise ValueError("the block")
        assert [str(error) for error in caught.value.exceptions] == ["the block"]


async def test_a_lost_connection_is_no_failure(client: Client, plane: FakeControlPlane) -> None:
    plane.hold = True
    async with client.task_group() as tg:
        handles = [tg.start_soon("add", number, 1) for number in range(10)]
        await plane.until(lambda: len(plane.jobs) == 10)
        await plane.peers[0].drop()
        await plane.until(lambda: plane.connections == 2 and any(p.watched for p in plane.peers))
        await plane.finish_held()
    assert [handle.value for handle in handles] == list(range(1, 11))


async def test_an_older_job_that_holds_the_key_is_waited_for_and_not_cancelled(
    client: Client, plane: FakeControlPlane
) -> None:
    plane.hold = True
    older = await client.submit("add", 1)

    def existing(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        return [m.Submitted(submit.request, existing=[[0, id_bytes(older.id)]])]

    plane.answer = existing
    async with client.task_group() as tg:
        handle = tg.options(idempotency_key="k").start_soon("add", 1)
        await handle.status()
        assert (handle.id, handle.deduplicated) == (older.id, True)
        tg.cancel()
    assert cancels_of(plane) == []
    await plane.finish_held()
    assert await older.result() == 1


async def test_a_stopped_client_ends_its_groups(client: Client, plane: FakeControlPlane) -> None:
    plane.hold = True
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            await tg.start_soon("add", 1).status()
            await client.stop()
    assert {type(error) for error in caught.value.exceptions} == {ClientNotReady}


async def test_a_cancel_of_one_job_is_no_failure_but_somebody_elses_is(
    client: Client, plane: FakeControlPlane
) -> None:
    plane.hold = True
    async with client.task_group() as tg:
        handle = tg.start_soon("add", 1)
        assert (await handle.cancel("not this one")).cancelled
    assert (await handle.wait()).status is TaskStatus.CANCELLED
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            handle = tg.start_soon("add", 2)
            await handle.status()
            await client.cancel(handle.id)
    assert [type(error) for error in caught.value.exceptions] == [JobCancelled]
