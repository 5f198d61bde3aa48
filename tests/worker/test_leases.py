from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fastworker.wire.messages import Assign, Handback, LeaseLost
from fastworker.worker.leases import LeaseWatch
from tests.worker.builders import assign, ids, settings
from tests.worker.fake_control_plane import LEASE_SECONDS
from tests.worker.test_subworker import on_stage

pytestmark = pytest.mark.trio

SAFE_SECONDS = LEASE_SECONDS * 0.9


async def doubtful_after(watch: LeaseWatch) -> float:
    started = trio.current_time()
    await watch.wait_doubtful()
    return trio.current_time() - started


async def test_leases_count_from_the_sending_of_what_was_answered(
    autojump_clock: MockClock,
) -> None:
    watch = LeaseWatch()
    watch.connecting()
    await trio.sleep(2)
    watch.registered(10.0)
    watch.beat_sent(1)
    await trio.sleep(3)
    watch.beat_sent(2)
    await trio.sleep(3)
    watch.beat_answered(1)
    watch.beat_answered(7)

    assert await doubtful_after(watch) == pytest.approx(2 + 9 - 8)
    watch.beat_answered(2)
    await watch.wait_safe()
    assert await doubtful_after(watch) == pytest.approx(5 + 9 - 11)


async def test_an_answer_moves_the_deadline_while_it_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    watch = LeaseWatch()
    watch.connecting()
    watch.registered(10.0)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def renew() -> None:
            await trio.sleep(8)
            watch.beat_sent(1)
            watch.beat_answered(1)

        assert await doubtful_after(watch) == pytest.approx(17)


async def test_without_a_lease_nothing_can_be_lost(autojump_clock: MockClock) -> None:
    watch = LeaseWatch()
    watch.connecting()
    with trio.move_on_after(1_000_000) as scope:
        await watch.wait_doubtful()
    assert scope.cancelled_caught


async def test_runners_are_told_before_the_lease_ends_and_get_nothing_more(
    autojump_clock: MockClock,
) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        runner, session = await stage.connect()
        started = trio.current_time()
        session.link.send(assign(1, 2, 3))
        assert list((await runner.told(Assign)).tokens) == [1, 2]
        session.answers_beats = False
        await session.lose()
        lost = await runner.told(LeaseLost)
        assert trio.current_time() - started <= SAFE_SECONDS
        assert list(lost.tokens) == [1, 2]
        runner.say(Handback(ids=ids([1]), tokens=[1], started=b"\1", reason="lease_lost"))

        second = await stage.control_plane.next_session()
        register = await second.register()
        assert sorted(register.claim_tokens) == [1, 2, 3]
        handback = await second.next(Handback)
        assert (list(handback.tokens), handback.started) == ([1], b"\1")
        assert handback.reason == "lease_lost"
        assert list((await runner.told(Assign)).tokens) == [3]


async def test_nothing_is_handed_over_while_leases_may_be_lost(
    autojump_clock: MockClock,
) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1, 2, 3))
        await runner.told(Assign)
        session.answers_beats = False
        await runner.told(LeaseLost)
        runner.say(Handback(ids=ids([1]), tokens=[1], started=b"\1", reason="lease_lost"))
        with trio.move_on_after(LEASE_SECONDS / 20) as scope:
            await runner.told(Assign)
        assert scope.cancelled_caught


async def test_what_is_asked_before_the_watch_has_woken_wakes_it_whatever_follows(
    autojump_clock: MockClock,
) -> None:
    watch = LeaseWatch()
    watch.connecting()
    watch.registered(10.0)
    watch.beat_sent(1)
    autojump_clock.jump(11.0)
    assert not watch.stand()
    watch.beat_answered(1)
    assert not watch.stand()
    with trio.fail_after(1):
        await watch.wait_doubtful()
    watch.beat_sent(2)
    watch.beat_answered(2)
    await watch.wait_safe()
    assert watch.stand()


async def test_after_a_pause_of_the_process_nothing_starts_before_the_leases_are_renewed(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        await wait_all_tasks_blocked()
        session.answers_beats = False
        autojump_clock.jump(LEASE_SECONDS)
        # It lay in the socket: nobody who waits for a moment has been woken yet.
        stage.subworker._switchboard.from_control_plane([assign(1, 2)])
        with trio.move_on_after(LEASE_SECONDS / 20) as scope:
            await runner.told(Assign)
        assert scope.cancelled_caught
        await session.lose()
        second = await stage.control_plane.next_session()
        await second.register()
        assert list((await runner.told(Assign)).tokens) == [1, 2]


async def test_a_claim_that_is_stale_is_lost_at_once(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1, 2))
        await runner.told(Assign)
        await session.lose()
        second = await stage.control_plane.next_session()
        await second.register(stale=[2])
        assert list((await runner.told(LeaseLost)).tokens) == [2]
