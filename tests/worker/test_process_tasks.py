"""Tasks that have a process each, with real runners."""

from __future__ import annotations

import dataclasses

import pytest
import trio

from fastworker.core.records import PROCESS_POOL, STATUS_CODES, TaskStatus
from fastworker.wire.messages import Handback, Outcome, Started, Withdraw, Withdrawn
from fastworker.wire.values import open_value
from tests.worker.builders import ids, settings
from tests.worker.fake_control_plane import Session
from tests.worker.test_enforcing import wait_started
from tests.worker.test_real_runner import call, on_stage

pytestmark = [pytest.mark.trio, pytest.mark.process, pytest.mark.slow]

SETTINGS = dataclasses.replace(
    settings(), task_modules=["tests.worker.stop_tasks"], task_processes=2
)


def status_of(outcome: Outcome) -> TaskStatus:
    return STATUS_CODES[outcome.statuses[0]]


async def pid_of(session: Session, token: int) -> int:
    session.link.send(call(token, "process_id", pool=PROCESS_POOL))
    value = (await session.next(Outcome)).values[0]
    assert value is not None
    pid = open_value(value)
    assert isinstance(pid, int)
    return pid


async def test_a_subworker_that_knows_such_tasks_offers_processes() -> None:
    async with on_stage(SETTINGS) as stage:
        _, register = await stage.connect()

        assert register.pools == [2, 1, 2]


async def test_each_has_a_process_and_a_process_is_used_again() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "deaf_process", 60, pool=PROCESS_POOL))
        await wait_started(session, 1)
        first = await pid_of(session, 2)

        assert await pid_of(session, 3) == first


async def test_no_more_of_them_run_than_there_are_slots() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        for token in (1, 2, 3):
            session.link.send(call(token, "deaf_process", 60, pool=PROCESS_POOL))
        await wait_started(session, 1, 2)
        session.link.send(Withdraw(ids([3]), [3], 5.0, "enough"))

        assert (await session.next(Withdrawn)).taken == b"\1"


async def test_a_cancelled_one_that_does_not_stop_is_killed() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "sleeps", 60))
        session.link.send(call(2, "deaf_process", 60, pool=PROCESS_POOL))
        await wait_started(session, 1, 2)
        asked = trio.current_time()
        session.link.send(Withdraw(ids([2]), [2], 0.3, "enough"))
        outcome = await session.next(Outcome)

        assert (list(outcome.tokens), status_of(outcome)) == ([2], TaskStatus.CANCELLED)
        assert 0.3 <= trio.current_time() - asked < 1.5
        session.link.send(Withdraw(ids([1]), [1], 0.3, "enough"))
        assert list((await session.next(Outcome)).tokens) == [1], "its neighbour was not touched"


async def test_a_time_limit_of_one_is_kept_by_force() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        job = call(1, "deaf_process", 60, pool=PROCESS_POOL)
        job.specs[0][3] = {"timeout": 0.3}
        session.link.send(job)
        outcome = await session.next(Outcome)

        assert status_of(outcome) is TaskStatus.FAILURE
        assert outcome.failures is not None
        assert outcome.failures[0][1] == "TimeLimitExceeded"


async def test_a_crash_costs_nobody_else() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "sleeps", 60))
        session.link.send(call(2, "crashes", pool=PROCESS_POOL))
        handback = await session.next(Handback)

        assert (list(handback.tokens), handback.started) == ([2], b"\1")
        assert (handback.reason, handback.detail) == ("runner_died", "signal 11")
        session.link.send(Withdraw(ids([1]), [1], 0.3, "enough"))
        assert list((await session.next(Outcome)).tokens) == [1]


async def test_a_coroutine_may_have_a_process() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "waits_in_a_process", pool=PROCESS_POOL))
        await session.next(Started)
        session.link.send(Withdraw(ids([1]), [1], 5.0, "enough"))

        assert status_of(await session.next(Outcome)) is TaskStatus.CANCELLED
