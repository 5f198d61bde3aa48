"""Cancels of jobs that run: told to stop, and answered when it is known what became of them."""

from __future__ import annotations

import pytest

from fastworker.core.commands import AnnounceEnded, Command, SettleCancel, WithdrawJobs
from fastworker.core.facts import CancelRequest, Disconnection, Unwindings, Withdrawals
from fastworker.core.records import DEFAULT_OPTIONS, JobOptions, JobRow, TaskStatus
from tests.core.harness import (
    LEASE,
    Plane,
    assigned,
    new_ids,
    only,
    outcomes,
    registration,
    runner_death,
    submission,
)

ONE = b"one"
CONNECTION = "connection"


def running(plane: Plane, options: JobOptions = DEFAULT_OPTIONS) -> JobRow:
    if ONE not in plane.dispatcher.memory.sessions:
        plane.turn(registration(ONE, slots=4))
    (job,) = assigned(plane.turn(submission(new_ids(1), options=options)))
    return job


def asked(job: JobRow, grace: float | None = None) -> CancelRequest:
    return CancelRequest(None, [job.id], "no more", grace=grace)


def goes_on(job: JobRow) -> Withdrawals:
    return Withdrawals(ONE, [job.id], [job.token], [0])


def unwinding(job: JobRow, stack: str = "in resize, line 3") -> Unwindings:
    return Unwindings(ONE, [job.id], [job.token], [stack])


def settled(commands: list[Command]) -> list[tuple[str, str | None]]:
    return [(answer.outcome, answer.stack) for answer in only(commands, SettleCancel)]


@pytest.mark.parametrize(
    ("submitted", "given", "grace"), [(None, None, None), (7.0, None, 7.0), (7.0, 0.0, 0.0)]
)
def test_grace_is_that_of_the_cancel_else_of_the_job_else_for_its_task_to_say(
    submitted: float | None, given: float | None, grace: float | None
) -> None:
    plane = Plane()
    job = running(plane, JobOptions(grace=submitted))
    (withdrawal,) = only(plane.turn(asked(job, given)), WithdrawJobs)
    assert (withdrawal.ids, withdrawal.grace, withdrawal.reason) == ([job.id], grace, "no more")


def test_jobs_of_one_cancel_with_other_graces_are_asked_for_apart() -> None:
    plane = Plane()
    jobs = [running(plane, JobOptions(grace=grace)) for grace in (1.0, 2.0, 1.0)]
    commands = plane.turn(CancelRequest(None, [job.id for job in jobs], ""))
    found = [(one.grace, one.ids) for one in only(commands, WithdrawJobs)]
    assert found == [(1.0, [jobs[0].id, jobs[2].id]), (2.0, [jobs[1].id])]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (TaskStatus.CANCELLED, "cancelled"),
        (TaskStatus.SUCCESS, "finished_first"),
        (TaskStatus.FAILURE, "finished_first"),
    ],
)
def test_answer_waits_for_the_end_of_code_that_has_started(
    status: TaskStatus, outcome: str
) -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    assert settled(plane.turn(goes_on(job))) == []
    commands = plane.turn(outcomes(ONE, [job], status=status))
    assert settled(commands) == [(outcome, None)]
    assert plane.status(job.id) is status
    assert plane.dispatcher.memory.cancels == {}


def test_cancelled_attempt_without_words_of_its_own_tells_the_reason_of_the_cancel() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    ending = outcomes(ONE, [job], status=TaskStatus.CANCELLED)
    ending.failures.clear()
    (ended,) = only(plane.turn(ending), AnnounceEnded)
    assert ended.finishes[0].failure is not None
    assert ended.finishes[0].failure.reason == "no more"


def test_code_that_does_not_stop_is_answered_with_its_stack_and_runs_on() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    assert settled(plane.turn(unwinding(job))) == [("unwinding", "in resize, line 3")]
    assert plane.status(job.id) is TaskStatus.RUNNING
    assert settled(plane.turn(unwinding(job))) == []
    assert settled(plane.turn(outcomes(ONE, [job]))) == []
    assert plane.status(job.id) is TaskStatus.SUCCESS


def test_unknown_stack_is_none() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    assert settled(plane.turn(unwinding(job, ""))) == [("unwinding", None)]


def test_second_cancel_of_unwinding_code_asks_again_and_is_answered_by_itself() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    plane.turn(unwinding(job))
    (withdrawal,) = only(plane.turn(asked(job, 1.0)), WithdrawJobs)
    assert withdrawal.grace == 1.0
    assert settled(plane.turn(unwinding(job))) == [("unwinding", "in resize, line 3")]


def test_everybody_who_asked_is_answered_once() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job), asked(job))
    ended = outcomes(ONE, [job], status=TaskStatus.CANCELLED)
    assert len(settled(plane.turn(unwinding(job), ended))) == 2


def test_turn_that_is_dropped_answers_nobody() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    ended = outcomes(ONE, [job], status=TaskStatus.CANCELLED)
    plane.dispatcher.drop(plane.decide(unwinding(job), ended))
    assert settled(plane.turn(unwinding(job))) == [("unwinding", "in resize, line 3")]


def test_unwinding_job_that_comes_back_ends_cancelled() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    plane.turn(unwinding(job))
    assert assigned(plane.turn(runner_death(ONE, [job]))) == []
    assert plane.status(job.id) is TaskStatus.CANCELLED


def test_job_of_a_subworker_that_never_comes_back_ends_cancelled() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(Disconnection(ONE, CONNECTION))
    plane.turn(asked(job))
    assert settled(plane.pass_time(LEASE + 1)) == [("cancelled", None)]
    assert plane.status(job.id) is TaskStatus.CANCELLED


def test_subworker_that_was_away_is_asked_when_it_comes_back() -> None:
    plane = Plane()
    job = running(plane, JobOptions(grace=3.0))
    plane.turn(Disconnection(ONE, CONNECTION))
    plane.turn(asked(job))
    back = registration(ONE, claims=[(job.id, job.token)])
    (withdrawal,) = only(plane.turn(back), WithdrawJobs)
    assert (withdrawal.tokens, withdrawal.grace) == ([job.token], 3.0)


def test_words_about_another_attempt_answer_nobody() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(asked(job))
    assert settled(plane.turn(Unwindings(ONE, [job.id], [job.token + 1], ["elsewhere"]))) == []
    assert settled(plane.turn(Unwindings(b"two", [job.id], [job.token], ["elsewhere"]))) == []
