"""Dead letters, attempts and queues with the real control plane, on a virtual clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from fastworker import (
    ArgumentError,
    Client,
    InvalidOption,
    ResultExpired,
    TaskPriority,
    TaskStatus,
    UnknownJob,
    task,
)
from fastworker.testing import Cluster, open_cluster

pytestmark = pytest.mark.trio

NOWHERE = "01890000-0000-7000-8000-000000000000"


class NoStock(Exception):
    """An error that is not a builtin one."""


ran: list[tuple[int, str]] = []


@task(name="dead-order")
async def order(number: int, note: str = "") -> int:
    ran.append((number, note))
    if number < 0:
        raise ValueError(f"no order {number}")
    if number == 0:
        raise NoStock("none left")
    return number


@task(name="dead-retried", retries=1, backoff=10)
async def retried() -> None:
    raise OSError("not there")


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


async def failed(cluster: Cluster, client: Client, *numbers: int) -> list[str]:
    ids = [await client.delay(order, number, note="first") for number in numbers]
    await cluster.wait_idle()
    return ids


async def test_dead_letters_are_listed_newest_first_and_shown_in_full(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, Client() as client:
        urgent = client.options(priority=TaskPriority.HIGH, queue="orders")
        first = await urgent.delay(order, -1, note="x")
        (second,) = await failed(cluster, client, 0)
        await failed(cluster, client, 5)
        newest, oldest = await client.dead()
        assert (newest.task_id, oldest.task_id) == (second, first)
        assert (oldest.task, oldest.queue, oldest.priority) == ("dead-order", "orders", 2)
        assert (oldest.status, oldest.reason, oldest.attempts) == (TaskStatus.FAILURE, None, 1)
        assert (oldest.error, oldest.message) == ("ValueError", "no order -1")
        assert oldest.submitted_at <= oldest.ended_at <= datetime.now(UTC) + timedelta(hours=1)

        shown = await client.dead_letter(first)
        assert (shown.args, shown.kwargs) == ((-1,), {"note": "x"})
        assert "ValueError: no order -1" in shown.traceback
        assert [attempt.outcome for attempt in shown.history] == ["failure"]
        assert (shown.replayed_by, shown.replay_of) == (None, None)


async def test_filters_and_pages(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster, Client() as client:
        ids = await failed(cluster, client, -1, -2, 0)
        await trio.sleep(7200)
        ids += await failed(cluster, client, -3)

        async def found(**filters: object) -> list[str]:
            return [letter.task_id for letter in await client.dead(**filters)]  # type: ignore[arg-type]

        assert await found(error="ValueError") == [ids[3], ids[1], ids[0]]
        assert await found(error=f"{__name__}.NoStock") == [ids[2]]
        assert await found(task="another") == []
        assert await found(older_than=timedelta(hours=1)) == [ids[2], ids[1], ids[0]]
        assert await found(newer_than=3600) == [ids[3]]
        assert await found(newer_than=cluster.now() - timedelta(hours=1)) == [ids[3]]
        page = await client.dead(limit=3)
        assert await found(limit=3, before=page[-1].cursor) == [ids[0]]


async def test_a_replay_is_a_new_job_and_a_second_one_is_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, Client() as client:
        (old,) = await failed(cluster, client, -1)
        again = await client.replay(old)
        assert again.id != old
        with pytest.raises(ValueError, match="no order -1"):
            await again.result(60)
        assert ran == [(-1, "first"), (-1, "first")]
        assert (await client.replay(old, (7,))).id == again.id
        (letter,) = await client.dead()
        assert (letter.task_id, letter.replay_of) == (again.id, old)
        assert (await client.dead_letter(old)).replayed_by == again.id
        first, second = await client.get_task_result(old), await client.get_task_result(again.id)
        assert first is not None and second is not None
        assert (first.replay_of, first.replayed_by) == (None, again.id)
        assert (second.replay_of, second.replayed_by) == (old, None)
        with pytest.raises(UnknownJob, match=f"replayed as {again.id}"):
            await client.discard(old)


async def test_two_replays_at_once_make_one_job(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster, Client() as client, Client() as other:
        (old,) = await failed(cluster, client, -1)
        made: set[str] = set()

        async def replay(one: Client) -> None:
            made.add((await one.replay(old)).id)

        async with trio.open_nursery() as nursery:
            for one in (client, other, client):
                nursery.start_soon(replay, one)
        await cluster.wait_idle()
        assert len(made) == 1
        assert len(ran) == 2


async def test_arguments_can_be_edited_and_are_checked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, Client() as client:
        (old,) = await failed(cluster, client, -1)
        with pytest.raises(ArgumentError, match="dead-order"):
            await client.replay(old, (1, 2, 3))
        again = await client.replay(old, (7,), {"note": "edited"})
        assert await again.result(60) == 7
        assert ran[-1] == (7, "edited")
        assert await client.dead() == []


async def test_a_discarded_one_is_gone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster, Client() as client:
        (old,) = await failed(cluster, client, -1)
        await client.discard(old)
        await client.discard(old)
        assert await client.dead() == []
        for ask in (client.dead_letter, client.replay):
            with pytest.raises(UnknownJob):
                await ask(old)
        with pytest.raises(ResultExpired):
            await client.result(old, 60)


async def test_what_is_no_dead_letter_is_unknown(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster, Client() as client:
        (fine,) = await failed(cluster, client, 5)
        for ask in (client.dead_letter, client.replay, client.discard):
            with pytest.raises(UnknownJob, match="its status is success"):
                await ask(fine)
            with pytest.raises(UnknownJob, match="check the id"):
                await ask(NOWHERE)
        with pytest.raises(UnknownJob):
            await client.attempts(NOWHERE)
        with pytest.raises(InvalidOption, match="no time zone"):
            await client.dead(older_than=datetime(2026, 1, 1))
        with pytest.raises(InvalidOption, match="limit"):
            await client.dead(limit=501)


async def test_bulk_changes_go_through_all_pages(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastworker.client.dead.PAGE", 3)
    async with open_cluster() as cluster, Client() as client:
        await failed(cluster, client, *[-number for number in range(1, 9)], 0)
        assert await client.replay_dead(error="ValueError", limit=2) == 2
        await cluster.wait_idle()  # the two have failed again
        assert sorted(number for number, _ in ran[9:]) == [-8, -7]
        assert await client.replay_dead(error="ValueError") == 8
        await cluster.wait_idle()
        assert sorted(number for number, _ in ran[11:]) == list(range(-8, 0))
        assert await client.discard_dead(error="ValueError") == 8
        assert await client.discard_dead() == 1
        assert await client.dead() == []


async def test_every_attempt_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster, Client() as client:
        waiting = await client.apply(order, (1,), countdown=3600)
        assert await client.attempts(waiting.id) == []
        job = await client.submit(retried)
        with pytest.raises(OSError):
            await job.result(3600)
        first, last = await client.attempts(job.id)
        assert (first.outcome, last.outcome) == ("retried", "failure")
        assert first.worker == last.worker == "in-process"
        assert first.error is not None and "not there" in first.error
        assert first.token < last.token
        assert first.started_at and first.finished_at and last.started_at
        assert first.started_at <= first.finished_at < last.started_at
        await cluster.wait_idle()


async def test_a_paused_queue_accepts_and_hands_out_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, Client() as client:
        await client.pause("orders")
        await client.pause("orders")
        handle = await client.options(queue="orders").submit(order, 1)
        assert await client.result(await client.delay(order, 2), 60) == 2
        await trio.sleep(60)
        assert ran == [(2, "")]
        found = await client.get_task_result(handle.id)
        assert found is not None and found.reason == "queue 'orders' is paused"
        default, orders = await client.queues()
        assert (default.queue, default.paused, default.queued) == ("default", False, 0)
        assert (orders.queue, orders.paused, orders.queued) == ("orders", True, 1)
        assert orders.by_priority[TaskPriority.NORMAL] == 1
        assert orders.oldest_at is not None
        assert cluster.now() - orders.oldest_at >= timedelta(seconds=60)
        await client.resume("orders")
        assert await handle.result(60) == 1
        assert not any(queue.paused for queue in await client.queues())
