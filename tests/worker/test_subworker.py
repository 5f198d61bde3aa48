"""A whole subworker between a fake control plane and fake runners, on a clock that jumps."""

from __future__ import annotations

import dataclasses
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from fastworker.errors import AuthenticationFailed, ControlPlaneUnavailable
from fastworker.wire.messages import (
    Assign,
    Beat,
    Bye,
    Capacity,
    Handback,
    Offered,
    Outcome,
    OutcomeAck,
    Relay,
    RunnerFailed,
    RunnerReady,
    RunnerSlots,
    RunnerStop,
    Started,
    Withdraw,
    Withdrawn,
)
from fastworker.worker.connection import LONGEST_REFUSED_SECONDS
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import Subworker, watch_signals
from fastworker.worker.supervisor import SLOW_START_SECONDS
from tests.worker.builders import assign, ids, job_id, outcome, settings
from tests.worker.fake_control_plane import FakeControlPlane, Session
from tests.worker.fake_runner import FakeRunner, FakeRunners

pytestmark = pytest.mark.trio

PATIENCE_SECONDS = 120.0
"""On the jumping clock."""


class Stage:
    """One subworker with everything around it."""

    def __init__(self, chosen: SubworkerSettings) -> None:
        self.control_plane = FakeControlPlane()
        self.runners = FakeRunners()
        self.subworker = Subworker(
            chosen, dial=self.control_plane.dial, open_runner=self.runners.open
        )
        self.exit_code: int | None = None
        self.ended = trio.Event()

    async def run(self) -> None:
        self.exit_code = await self.subworker.run()
        self.ended.set()

    async def connect(self) -> tuple[FakeRunner, Session]:
        """The first runner and the first connection, registered."""
        runner = await self.runners.next()
        session = await self.control_plane.next_session()
        await session.register()
        return runner, session


@asynccontextmanager
async def on_stage(chosen: SubworkerSettings | None = None) -> AsyncIterator[Stage]:
    stage = Stage(chosen if chosen is not None else settings())
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            yield stage
            nursery.cancel_scope.cancel()


async def test_registers_what_its_runner_offers(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        await stage.runners.next()
        session = await stage.control_plane.next_session()
        register = await session.register()
        assert register.label == "sw1"
        assert register.tasks == [["add", 0, "(x, y)"]]
        assert (register.pools, register.prefetch) == ([2, 1], [2000, 2000])
        assert (register.claim_ids, list(register.claim_tokens)) == (b"", [])


async def test_a_job_goes_to_a_runner_and_its_outcome_comes_back(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1, 2))
        assert list((await runner.told(Assign)).tokens) == [1, 2]
        runner.say(outcome(1), outcome(2))
        told = await session.next(Outcome)
        assert list(told.tokens) == [1, 2]
        assert list(told.values) == [b"value 1", b"value 2"]


async def test_an_outcome_is_sent_again_until_it_is_acknowledged(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1, 2))
        await runner.told(Assign)
        runner.say(outcome(1, 2))
        await session.next(Outcome)
        session.link.send(OutcomeAck(tokens=[1]))
        session.link.send(assign(3))
        await runner.told(Assign)
        await session.lose()
        second = await stage.control_plane.next_session()
        register = await second.register()
        assert sorted(register.claim_tokens) == [2, 3]
        assert list((await second.next(Outcome)).tokens) == [2]
        second.link.send(OutcomeAck(tokens=[], stale=[2]))
        second.link.send(assign(4))
        await runner.told(Assign)
        await second.lose()
        third = await stage.control_plane.next_session()
        assert sorted((await third.register()).claim_tokens) == [3, 4]


async def test_an_outcome_that_came_while_disconnected_is_sent_on_return(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1))
        await runner.told(Assign)
        stage.control_plane.refusals = [ControlPlaneUnavailable("down")] * 3
        await session.lose()
        await trio.testing.wait_all_tasks_blocked()
        runner.say(outcome(1))
        second = await stage.control_plane.next_session()
        assert list((await second.register()).claim_tokens) == [1]
        assert list((await second.next(Outcome)).tokens) == [1]


async def test_stale_claims_are_dropped(autojump_clock: MockClock) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1, 2, 3, 4))
        await runner.told(Assign)
        await session.lose()
        second = await stage.control_plane.next_session()
        register = await second.register(stale=[1, 4])
        assert sorted(register.claim_tokens) == [1, 2, 3, 4]
        assert list((await runner.told(Withdraw)).tokens) == [1]
        runner.say(outcome(2))
        assert list((await runner.told(Assign)).tokens) == [3]
        await second.next(Outcome)
        await second.lose()
        third = await stage.control_plane.next_session()
        assert sorted((await third.register()).claim_tokens) == [2, 3]


async def test_heartbeats_come_every_third_of_the_lease(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        await session.next(Beat)
        before = trio.current_time()
        await session.next(Beat)
        assert 4.0 < trio.current_time() - before <= 5.0


async def test_a_silent_control_plane_is_left(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        session.answers_beats = False
        started = trio.current_time()
        await stage.control_plane.next_session()
        assert 15.0 <= trio.current_time() - started < 16.0


async def test_reconnects_for_ever_with_backoff_and_one_line(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with on_stage() as stage:
        stage.control_plane.refusals = [ControlPlaneUnavailable("nobody there")] * 12
        with caplog.at_level(logging.WARNING, logger="fastworker.worker"):
            await stage.connect()
        gaps = [
            later - earlier
            for earlier, later in zip(
                stage.control_plane.dialled_at, stage.control_plane.dialled_at[1:], strict=False
            )
        ]
        assert len(gaps) == 12
        assert gaps[0] <= 0.1
        assert all(2.5 <= gap <= 5.0 for gap in gaps[6:])
        assert [record.getMessage() for record in caplog.records] == [
            "nobody there; trying again until it succeeds"
        ]


async def test_a_token_refused_at_first_ends_with_5(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        stage.control_plane.refusals = [AuthenticationFailed("wrong token")]
        await stage.ended.wait()
        assert stage.exit_code == 5


async def test_a_token_refused_later_is_tried_again(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        stage.control_plane.refusals = [AuthenticationFailed("wrong token")]
        await session.lose()
        await (await stage.control_plane.next_session()).register()
        assert not stage.ended.is_set()


async def test_a_token_that_stays_refused_is_tried_less_and_less(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        _, session = await stage.connect()
        stage.control_plane.refusals = [AuthenticationFailed("revoked") for _ in range(12)]
        await session.lose()
        await (await stage.control_plane.next_session()).register()
        earlier, later = stage.control_plane.dialled_at[-2:]
        assert LONGEST_REFUSED_SECONDS / 2 <= later - earlier <= LONGEST_REFUSED_SECONDS


async def test_modules_that_do_not_import_end_with_2(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with on_stage() as stage:
        stage.runners.says_first = RunnerFailed(message="module 'tasks' was not found")
        await stage.ended.wait()
        assert stage.exit_code == 2
        assert "module 'tasks' was not found" in caplog.text


async def test_a_runner_that_is_not_ready_in_time_is_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with on_stage() as stage:
        await stage.connect()
        stage.runners.is_slow = True
        stage.subworker.reload()
        slow = await stage.runners.next()
        await trio.sleep(2 * SLOW_START_SECONDS)
        (said,) = [line for line in caplog.messages if "not ready" in line]
        assert f"runner 1 (pid {slow.pid}) is not ready after 10 s" in said


@pytest.mark.parametrize(("started", "flags"), [(frozenset({2}), b"\1\0"), (None, b"\1\1")])
async def test_jobs_of_a_dead_runner_are_handed_back_and_queued_ones_stay(
    autojump_clock: MockClock, started: frozenset[int] | None, flags: bytes
) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1, 2, 3))
        assert list((await runner.told(Assign)).tokens) == [1, 2]
        runner.say(outcome(1))
        assert list((await runner.told(Assign)).tokens) == [3]
        runner.started = started
        runner.exit("signal 11")
        told = await session.next(Outcome)
        assert list(told.tokens) == [1]
        handback = await session.next(Handback)
        assert list(handback.tokens) == [2, 3]
        assert (handback.reason, handback.detail) == ("runner_died", "signal 11")
        assert handback.started == flags
        session.link.send(assign(4))
        following = await stage.runners.next()
        assert list((await following.told(Assign)).tokens) == [4]


async def test_the_death_of_a_runner_changes_capacity_until_the_next_is_ready(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        assert (await session.next(Capacity)).pools == [2, 1]
        runner.exit("exit 3")
        assert (await session.next(Capacity)).pools == [0, 0]
        assert (await session.next(Capacity)).pools == [2, 1]


async def test_a_handback_is_repeated_until_it_is_recorded(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1))
        await runner.told(Assign)
        runner.exit("signal 9")
        await session.next(Handback)
        await session.lose()
        second = await stage.control_plane.next_session()
        assert list((await second.register()).claim_tokens) == [1]
        assert list((await second.next(Handback)).tokens) == [1]
        await second.next(Beat)
        await second.lose()
        third = await stage.control_plane.next_session()
        assert list((await third.register()).claim_tokens) == [1]
        assert list((await third.next(Handback)).tokens) == [1]
        third.link.send(OutcomeAck(tokens=[1]))
        await third.next(Beat)
        await third.next(Beat)
        await third.lose()
        fourth = await stage.control_plane.next_session()
        assert list((await fourth.register()).claim_tokens) == []


async def test_withdraw_answers_at_once_for_what_no_runner_has(autojump_clock: MockClock) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1, 2, 3))
        await runner.told(Assign)
        session.link.send(Withdraw(ids=ids([1, 3, 9]), tokens=[1, 3, 9]))
        assert list((await runner.told(Withdraw)).tokens) == [1]
        first = await session.next(Withdrawn)
        assert (list(first.tokens), first.taken) == ([3, 9], b"\1\0")
        runner.say(Withdrawn(ids=job_id(1), tokens=[1], taken=b"\1"))
        second = await session.next(Withdrawn)
        assert (list(second.tokens), second.taken) == ([1], b"\1")
        await session.lose()
        following = await stage.control_plane.next_session()
        register = await following.register()
        assert 2 in register.claim_tokens
        assert list((await following.next(Handback)).tokens) == [3]


async def test_a_long_running_job_is_reported_and_reported_again_after_a_reconnect(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1))
        await runner.told(Assign)
        runner.say(Started(ids=job_id(1), tokens=[1], started_at=[7.0]))
        assert list((await session.next(Started)).started_at) == [7.0]
        await session.lose()
        second = await stage.control_plane.next_session()
        await second.register()
        assert list((await second.next(Started)).tokens) == [1]


async def test_slots_of_waiting_tasks_are_announced_and_used(autojump_clock: MockClock) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        runner, session = await stage.connect()
        await session.next(Capacity)
        session.link.send(assign(1, 2, 3))
        await runner.told(Assign)
        runner.say(RunnerSlots(changes=[[0, 1]]))
        assert (await session.next(Capacity)).pools == [2, 1]
        assert list((await runner.told(Assign)).tokens) == [3]


async def test_relayed_frames_find_their_way_and_end_with_the_link(
    autojump_clock: MockClock,
) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        runner.say(Relay(runner=7, frame=b"hello"))
        outward = await session.next(Relay)
        assert outward.frame == b"hello"
        session.link.send(Relay(runner=outward.runner, frame=b"welcome"))
        assert await runner.told(Relay) == Relay(runner=7, frame=b"welcome")
        await session.lose()
        assert await runner.told(Relay) == Relay(runner=7, frame=b"", closed=True)
        second = await stage.control_plane.next_session()
        await second.register()
        runner.say(Relay(runner=7, frame=b"late"))
        runner.say(Relay(runner=8, frame=b"anew"))
        again = await second.next(Relay)
        assert again.frame == b"anew"
        assert again.runner != outward.runner


async def test_relayed_connections_of_a_dead_runner_are_closed(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        runner.say(Relay(runner=7, frame=b"hello"))
        outward = await session.next(Relay)
        runner.exit("signal 9")
        assert await session.next(Relay) == Relay(runner=outward.runner, frame=b"", closed=True)


async def test_drain_gives_back_what_has_not_started_and_waits_for_the_rest(
    autojump_clock: MockClock,
) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        runner, session = await stage.connect()
        await session.next(Capacity)
        session.link.send(assign(1, 2, 3))
        await runner.told(Assign)
        stage.subworker.drain_asked.set()
        assert (await session.next(Capacity)).pools == [0, 0]
        queued = await session.next(Handback)
        assert (list(queued.tokens), queued.started, queued.reason) == ([3], b"\0", "drain")
        await runner.told(RunnerStop)
        runner.say(Handback(ids=job_id(2), tokens=[2], started=b"\0", reason="drain"))
        assert list((await session.next(Handback)).tokens) == [2]
        session.link.send(assign(4))
        assert list((await session.next(Handback)).tokens) == [4]
        runner.say(outcome(1))
        runner.exit("exit 0")
        assert list((await session.next(Outcome)).tokens) == [1]
        assert not stage.ended.is_set()
        session.link.send(OutcomeAck(tokens=[1]))
        assert (await session.next(Bye)).reason == "drain"
        await stage.ended.wait()
        assert (stage.exit_code, stage.runners.started, runner.killed) == (0, 1, False)


async def test_drain_ends_what_runs_for_too_long(autojump_clock: MockClock) -> None:
    async with on_stage(settings(drain_seconds=10.0)) as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1))
        await runner.told(Assign)
        started = trio.current_time()
        stage.subworker.drain_asked.set()
        handback = await session.next(Handback)
        assert trio.current_time() - started == pytest.approx(10.0)
        assert (list(handback.tokens), handback.started) == ([1], b"\1")
        assert (handback.reason, handback.detail) == ("drain", "signal 9")
        await session.next(Bye)
        await stage.ended.wait()
        assert (stage.exit_code, runner.killed) == (0, True)


async def test_drain_without_a_control_plane_ends_too(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        stage.control_plane.refusals = [ControlPlaneUnavailable("nobody there")] * 1000
        runner = await stage.runners.next()
        await trio.testing.wait_all_tasks_blocked()
        stage.subworker.drain_asked.set()
        await runner.told(RunnerStop)
        runner.exit("exit 0")
        await stage.ended.wait()
        assert stage.exit_code == 0


async def test_end_kills_runners_at_once(autojump_clock: MockClock) -> None:
    async with on_stage() as stage:
        runner, session = await stage.connect()
        session.link.send(assign(1))
        await runner.told(Assign)
        stage.subworker.end(143)
        await stage.ended.wait()
        assert (stage.exit_code, runner.killed) == (143, True)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
async def test_the_second_signal_ends_at_once(
    autojump_clock: MockClock, number: signal.Signals, code: int
) -> None:
    async with on_stage() as stage, trio.open_nursery() as nursery:
        await nursery.start(watch_signals, stage.subworker)
        runner, session = await stage.connect()
        session.link.send(assign(1))
        await runner.told(Assign)
        started = trio.current_time()
        signal.raise_signal(number)
        await runner.told(RunnerStop)
        assert not runner.killed
        signal.raise_signal(number)
        await stage.ended.wait()
        assert (stage.exit_code, runner.killed) == (code, True)
        assert trio.current_time() == started
        nursery.cancel_scope.cancel()


async def test_a_runner_that_leaves_counts_with_what_it_still_runs(
    autojump_clock: MockClock,
) -> None:
    chosen = dataclasses.replace(settings(concurrency=4), max_jobs_per_runner=1)
    async with on_stage(chosen) as stage:
        old, session = await stage.connect()
        session.link.send(assign(1, 2))
        await old.told(Assign)
        old.say(outcome(1))
        new = await stage.runners.next()
        await old.told(RunnerStop)
        # Four slots of the new one, and the job that the old one still runs.
        while (await session.next(Capacity)).pools[0] != 5:
            pass
        session.link.send(assign(3))
        assert list((await new.told(Assign)).tokens) == [3]
        old.say(outcome(2))
        assert (await session.next(Capacity)).pools[0] == 4
        old.exit("exit 0")
        await trio.testing.wait_all_tasks_blocked()
        assert stage.runners.started == 2


async def test_changed_tasks_are_told_and_jobs_of_those_that_are_gone_come_back(
    autojump_clock: MockClock,
) -> None:
    async with on_stage(settings(concurrency=1)) as stage:
        old, session = await stage.connect()
        session.link.send(assign(1))
        await old.told(Assign)
        session.link.send(assign(*range(2, 8)))
        await trio.testing.wait_all_tasks_blocked()
        stage.runners.says_first = RunnerReady(pid=1, tasks=[["other", 0, "()"]])
        stage.subworker.reload()
        await stage.runners.next()
        offered = await session.next(Offered)
        assert offered.tasks == [["other", 0, "()"]]
        given_back = await session.next(Handback)
        assert set(given_back.tokens) <= set(range(2, 8)) and given_back.reason == "drain"
        session.link.send(assign(9))
        assert list((await session.next(Handback)).tokens) == [9]
