"""What waits for the loop: bounded, urgent first, refused rather than piled up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fastworker.core.facts import Submission, WatchRequest, Withdrawals
from fastworker.core.records import TaskPriority
from fastworker.errors import Overloaded
from fastworker.server import inbox as inbox_module
from fastworker.server.inbox import BATCH_FACTS, BATCH_IDS, BATCH_JOBS, WAITING_JOBS, Inbox
from tests.core.harness import submission

CONTROL = Withdrawals(b"session", [], [], [])


def _jobs(count: int) -> Submission:
    return submission([b"x" * 16] * count)


@pytest.mark.trio
async def test_control_facts_come_first_then_the_most_urgent() -> None:
    inbox = Inbox()
    low, critical = _jobs(1), _jobs(1)
    inbox.offer(low, TaskPriority.LOW)
    inbox.offer(critical, TaskPriority.CRITICAL)
    await inbox.put(CONTROL)
    assert inbox.take_batch() == [CONTROL, critical, low]


@pytest.mark.trio
async def test_batches_are_bounded_and_the_rest_follows() -> None:
    inbox = Inbox()
    facts = [_jobs(BATCH_JOBS // 2) for _ in range(3)]
    for fact in facts:
        inbox.offer(fact, TaskPriority.NORMAL)
    assert inbox.take_batch() == facts[:2]
    assert inbox.take_batch() == facts[2:]


@pytest.mark.trio
async def test_whoever_waits_is_woken_by_anything_and_by_what_is_left() -> None:
    inbox = Inbox()
    with trio.move_on_after(0) as scope:
        await inbox.wait()
    assert scope.cancelled_caught
    assert inbox.take_batch() == []
    for _ in range(3):
        inbox.offer(_jobs(BATCH_JOBS), TaskPriority.NORMAL)
    for _ in range(3):
        await inbox.wait()
        assert len(inbox.take_batch()) == 1
    with trio.move_on_after(0) as scope:
        await inbox.wait()
    assert scope.cancelled_caught


@pytest.mark.trio
async def test_flood_of_one_priority_is_refused_and_others_are_not() -> None:
    inbox = Inbox()
    for _ in range(WAITING_JOBS // 10_000):
        inbox.offer(_jobs(10_000), TaskPriority.LOW)
    with pytest.raises(Overloaded) as caught:
        inbox.offer(_jobs(1), TaskPriority.LOW)
    assert caught.value.retry_after > 0
    inbox.offer(_jobs(1), TaskPriority.CRITICAL)


@pytest.mark.trio
async def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "WAITING_BYTES", 20)
    inbox = Inbox()
    inbox.offer(_jobs(2), TaskPriority.LOW)
    with pytest.raises(Overloaded):
        inbox.offer(_jobs(1), TaskPriority.LOW)


def of(tenant: str, count: int) -> Submission:
    return submission([b"x" * 16] * count, tenant=tenant)


@pytest.mark.trio
async def test_tenants_take_turns_at_one_priority() -> None:
    inbox = Inbox()
    flood = [of("flood", BATCH_JOBS // 4) for _ in range(6)]
    for fact in flood:
        inbox.offer(fact, TaskPriority.NORMAL)
    others = [of("other", 1), of("other", 1), of("third", 1)]
    for fact in others:
        inbox.offer(fact, TaskPriority.NORMAL)
    first = inbox.take_batch()
    assert first == [flood[0], others[0], others[2], flood[1], others[1], *flood[2:4]]
    assert inbox.take_batch() == flood[4:]
    assert set(inbox.statistics().values()) == {0}


@pytest.mark.trio
async def test_a_flood_of_one_tenant_leaves_room_for_others() -> None:
    inbox = Inbox()
    for _ in range(WAITING_JOBS // 10_000):
        inbox.offer(of("flood", 10_000), TaskPriority.NORMAL)
    with pytest.raises(Overloaded):
        inbox.offer(of("flood", 1), TaskPriority.NORMAL)
    for _ in range(WAITING_JOBS // 10_000 // 2):
        inbox.offer(of("other", 10_000), TaskPriority.NORMAL)
    with pytest.raises(Overloaded):
        inbox.offer(of("other", 1), TaskPriority.NORMAL)
    inbox.offer(of("third", 1), TaskPriority.NORMAL)


@pytest.mark.trio
async def test_large_requests_fill_no_turn_and_the_rest_is_not_even_taken_in() -> None:
    inbox = Inbox()
    large = [WatchRequest(object(), [b"x" * 16] * BATCH_IDS, None) for _ in range(5)]
    taken = 0
    async with trio.open_nursery() as nursery:
        for fact in large:
            nursery.start_soon(inbox.put, fact)
        await wait_all_tasks_blocked()
        await inbox.put(CONTROL)
        assert inbox.statistics()["control"] == 2
        while taken < len(large):
            batch = inbox.take_batch()
            count = sum(isinstance(fact, WatchRequest) for fact in batch)
            assert count <= 1 and len(batch) <= BATCH_FACTS
            taken += count
            await wait_all_tasks_blocked()
    assert inbox.statistics()["control"] == 0


@pytest.mark.trio
async def test_a_large_request_that_is_given_up_takes_no_room() -> None:
    inbox = Inbox()
    await inbox.put(WatchRequest(object(), [b"x" * 16] * BATCH_IDS, None))
    with trio.move_on_after(0) as scope:
        await inbox.put(WatchRequest(object(), [b"x" * 16] * BATCH_IDS, None))
    assert scope.cancelled_caught
    assert len(inbox.take_batch()) == 1
    with trio.fail_after(1):
        await inbox.put(WatchRequest(object(), [b"x" * 16] * BATCH_IDS, None))
