"""Jobs that must run alone, between a fake control plane and fake runners."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from fastworker.core.records import TaskPriority
from fastworker.runner.lifespans import LEAVE_SECONDS
from fastworker.wire.messages import (
    Assign,
    Capacity,
    Handback,
    Outcome,
    OutcomeAck,
    RunnerFailed,
    RunnerSlots,
    RunnerStop,
    Withdraw,
    Withdrawn,
)
from fastworker.worker.supervisor import IDLE_SECONDS
from tests.worker.builders import ASYNC, assign, ids, outcome
from tests.worker.test_subworker import on_stage

pytestmark = pytest.mark.trio


def suspects(*tokens: int, priority: TaskPriority = TaskPriority.NORMAL) -> Assign:
    message = assign(*tokens, priority=priority)
    message.alone = list(range(len(tokens)))
    return message


async def test_suspects_run_one_at_a_time_in_a_runner_of_their_own(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        mixed = assign(1, 2, 3)
        mixed.alone = [0, 2]
        session.link.send(mixed)
        session.link.send(suspects(4, priority=TaskPriority.HIGH))
        assert list((await runner.told(Assign)).tokens) == [2]
        alone = await stage.runners.next()
        for token in (4, 1, 3):
            assert list((await alone.told(Assign)).tokens) == [token]
            alone.say(outcome(token))
            assert list((await session.next(Outcome)).tokens) == [token]
        assert stage.runners.started == 2


async def test_the_quarantine_offers_no_slots(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        assert (await session.next(Capacity)).pools == [2, 1]
        session.link.send(suspects(1))
        alone = await stage.runners.next()
        await alone.told(Assign)
        with trio.move_on_after(3) as scope:
            await session.next(Capacity)
        assert scope.cancelled_caught


@pytest.mark.parametrize("started", [True, False])
async def test_the_death_of_its_runner_hands_a_suspect_back(
    autojump_clock: MockClock, started: bool
) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        session.link.send(suspects(1, 2))
        alone = await stage.runners.next()
        await alone.told(Assign)
        alone.started = frozenset({1} if started else ())
        alone.exit("signal 11")
        handback = await session.next(Handback)
        assert (list(handback.tokens), handback.started) == ([1], bytes([started]))
        assert (handback.reason, handback.detail) == ("runner_died", "signal 11")
        following = await stage.runners.next()
        assert list((await following.told(Assign)).tokens) == [2]


async def test_a_quarantine_runner_is_reused_and_ends_when_it_is_idle(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.next, Withdrawn)  # answers heartbeats
            for token in (1, 2):
                session.link.send(suspects(token))
                if token == 1:
                    alone = await stage.runners.next()
                await alone.told(Assign)
                await trio.sleep((IDLE_SECONDS + 1) / token)
                alone.say(outcome(token))
                await trio.testing.wait_all_tasks_blocked()
                ended_at = trio.current_time()
            await alone.told(RunnerStop)
            assert IDLE_SECONDS <= trio.current_time() - ended_at <= 2 * IDLE_SECONDS
            await trio.sleep(LEAVE_SECONDS)
            assert not alone.killed  # its lifespan hooks have that long
            alone.exit("exit 0")
            session.link.send(suspects(3))
            assert list((await (await stage.runners.next()).told(Assign)).tokens) == [3]
            nursery.cancel_scope.cancel()


async def test_a_suspect_that_waits_for_another_is_not_in_its_way(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        session.link.send(suspects(1, 2))
        first = await stage.runners.next()
        await first.told(Assign)
        first.say(RunnerSlots(changes=[[ASYNC, 1]]))
        second = await stage.runners.next()
        assert list((await second.told(Assign)).tokens) == [2]


async def test_a_suspect_that_waits_can_be_withdrawn(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        session.link.send(suspects(1, 2, 3))
        alone = await stage.runners.next()
        await alone.told(Assign)
        session.link.send(Withdraw(ids=ids([2]), tokens=[2]))
        assert (await session.next(Withdrawn)).taken == b"\1"
        alone.say(outcome(1))
        assert list((await alone.told(Assign)).tokens) == [3]


async def test_a_quarantine_runner_that_cannot_start_is_tried_again_with_pauses(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        stage.runners.says_first = RunnerFailed(message="module 'tasks' was not found")
        began = trio.current_time()
        session.link.send(suspects(1))
        for _ in range(6):
            (await stage.runners.next()).exit("exit 2")
        assert trio.current_time() - began > 1.0
        assert not stage.ended.is_set()
        stage.runners.says_first = None
        assert list((await (await stage.runners.next()).told(Assign)).tokens) == [1]


async def test_drain_waits_for_the_suspect_that_runs_and_gives_back_the_others(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(suspects(1, 2))
        alone = await stage.runners.next()
        await alone.told(Assign)
        stage.subworker.drain_asked.set()
        handback = await session.next(Handback)
        assert (list(handback.tokens), handback.reason) == ([2], "drain")
        session.link.send(OutcomeAck(tokens=[2]))
        runner.exit("exit 0")
        await alone.told(RunnerStop)
        await trio.testing.wait_all_tasks_blocked()
        assert not stage.ended.is_set()
        alone.say(outcome(1))
        alone.exit("exit 0")
        await session.next(Outcome)
        session.link.send(OutcomeAck(tokens=[1]))
        await stage.ended.wait()
        assert stage.exit_code == 0
