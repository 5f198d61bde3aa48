"""Code that does not stop is stopped by force, with real runners."""

from __future__ import annotations

import dataclasses
import time

import pytest
import trio

from fastworker.core.records import STATUS_CODES, TaskStatus
from fastworker.wire.messages import Handback, Outcome, Started, Unwinding, Withdraw
from tests.worker.builders import ASYNC, THREAD, ids, settings
from tests.worker.fake_control_plane import Session
from tests.worker.test_real_runner import call, on_stage

pytestmark = [pytest.mark.trio, pytest.mark.process, pytest.mark.slow]

SETTINGS = dataclasses.replace(settings(), task_modules=["tests.worker.stop_tasks"])
PROMISED_SECONDS = 0.5
PATIENCE_SECONDS = 1.5


async def wait_started(session: Session, *tokens: int) -> None:
    missing = set(tokens)
    while missing:
        missing -= set((await session.next(Started)).tokens)


@pytest.mark.parametrize(
    ("task", "pool"), [("blocks_the_loop", ASYNC), ("deaf_thread", THREAD), ("sleeps", ASYNC)]
)
async def test_a_job_that_passes_its_limit_ends_and_its_neighbours_run_elsewhere(
    task: str, pool: int
) -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "sleeps", 60))
        await wait_started(session, 1)
        late = call(2, task, 60, pool=pool)
        late.specs[0][3] = {"timeout": 0.3, "grace": 0.3}
        session.link.send(late)
        asked = time.monotonic()
        if task != "sleeps":
            # Who ran beside it; what has stopped when it was told leaves its neighbour alone.
            handback = await session.next(Handback)
            assert (list(handback.tokens), handback.reason) == ([1], "drain")
            assert handback.started == b"\1"
            assert 0.6 <= time.monotonic() - asked < 0.6 + PATIENCE_SECONDS
        outcome = await session.next(Outcome)

        assert list(outcome.tokens) == [2]
        assert STATUS_CODES[outcome.statuses[0]] is TaskStatus.FAILURE
        assert outcome.failures is not None and outcome.retries is None
        assert (outcome.failures[0][1], outcome.failures[0][4]) == ("TimeLimitExceeded", "timeout")
        assert "ran longer than its time limit of 0.3 s" in str(outcome.failures[0][2])
        session.link.send(call(3, "sleeps", 0))
        assert list((await session.next(Outcome)).tokens) == [3]


async def test_a_job_that_is_killed_at_its_limit_is_retried_as_its_task_says() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        job = call(1, "limited", pool=THREAD)
        job.failures = [1]
        session.link.send(job)
        outcome = await session.next(Outcome)

        assert outcome.retries == [[0, 8.0, True, None]]


async def test_the_deadline_holds_for_a_loop_that_does_not_turn() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        job = call(1, "blocks_the_loop", 60)
        job.remaining = [0.3]
        job.specs[0][3] = {"grace": 0.1}
        session.link.send(job)
        outcome = await session.next(Outcome)

        assert outcome.failures is not None
        assert (outcome.failures[0][1], outcome.failures[0][4]) == ("TimeLimitExceeded", "deadline")


@pytest.mark.parametrize(
    "withdraw",
    [
        pytest.param(Withdraw(ids([1]), [1], 0.2, "enough"), id="grace of the cancel"),
        pytest.param(Withdraw(ids([1]), [1], 60.0, "enough", usual=True), id="grace of the task"),
    ],
)
async def test_a_cancelled_job_that_does_not_stop_is_told_of_and_costs_nobody_anything(
    withdraw: Withdraw,
) -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "deaf_thread", 1, pool=THREAD))
        await wait_started(session, 1)
        session.link.send(withdraw)
        unwinding = await session.next(Unwinding)
        assert list(unwinding.tokens) == [1]
        assert "deaf_thread" in unwinding.stacks[0]
        outcome = await session.next(Outcome)

        assert STATUS_CODES[outcome.statuses[0]] is TaskStatus.SUCCESS


async def test_a_limit_of_a_job_that_ends_in_time_disturbs_nobody() -> None:
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        quick = call(1, "sleeps", 0)
        quick.specs[0][3] = {"timeout": 0.1, "grace": 0.1}
        session.link.send(quick)
        session.link.send(call(2, "sleeps", 0.6))
        ended = [(await session.next(Outcome)).tokens[0] for _ in range(2)]

        assert ended == [1, 2]
        await trio.sleep(0.1)
        session.link.send(call(3, "sleeps", 0))
        assert list((await session.next(Outcome)).tokens) == [3]


async def test_a_thread_that_does_not_leave_with_its_lease_costs_its_runner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.worker.fake_control_plane.LEASE_SECONDS", 1.0)
    async with on_stage(SETTINGS) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "leaves", pool=THREAD))
        session.link.send(call(2, "sleeps", 60))
        await wait_started(session, 1, 2)
        session.answers_beats = False
        handbacks = [await session.next(Handback) for _ in range(2)]

        assert {(each.tokens[0], each.reason) for each in handbacks} == {
            (1, "lease_lost"),
            (2, "drain"),
        }


async def test_a_drain_stops_what_still_runs_before_its_time_is_over() -> None:
    async with on_stage(dataclasses.replace(SETTINGS, drain_seconds=2.0)) as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "sleeps", 60))
        session.link.send(call(2, "deaf_thread", 60, pool=THREAD))
        await wait_started(session, 1, 2)
        asked = trio.current_time()
        stage.subworker.drain_asked.set()
        stopped = await session.next(Handback)
        took = trio.current_time() - asked

        assert (list(stopped.tokens), stopped.started, stopped.reason) == ([1], b"\1", "drain")
        assert 1.6 <= took < 1.9
        killed = await session.next(Handback)
        assert (list(killed.tokens), killed.started, killed.reason) == ([2], b"\1", "drain")
