"""Deadlines: the earlier of a job's own and its parent's; nothing starts or is retried after it."""

from __future__ import annotations

import pytest

from fastworker.core.facts import Retry, Submission
from fastworker.core.records import JobOptions, JobRow, TaskStatus
from tests.core.harness import (
    Plane,
    assigned,
    new_ids,
    outcomes,
    registration,
    runner_death,
    submission,
)

ONE = b"one"


def with_deadlines(*deadlines: float | None, parent: float | None = None) -> Submission:
    """Jobs with deadlines of their own; time in the tests begins at 1,000 s."""
    fact = submission(new_ids(len(deadlines)), options=JobOptions(deadline=parent))
    fact.deadlines = deadlines
    return fact


def leased(plane: Plane, fact: Submission) -> list[JobRow]:
    plane.turn(registration(ONE, slots=len(fact.ids)))
    return assigned(plane.turn(fact))


@pytest.mark.parametrize(
    ("own", "parent", "deadline"),
    [
        (1010.0, None, 1010.0),
        (None, 1020.0, 1020.0),
        (1010.0, 1020.0, 1010.0),
        (1030.0, 1020.0, 1020.0),
    ],
)
def test_deadline_is_never_later_than_that_of_the_parent(
    own: float | None, parent: float | None, deadline: float
) -> None:
    (job,) = leased(Plane(), with_deadlines(own, parent=parent))
    assert (job.options.deadline, job.expires_at) == (deadline, deadline)


def test_expiry_is_the_earlier_of_both() -> None:
    fact = with_deadlines(1010.0, 1010.0, None)
    fact.expires_at = [1005.0, 1020.0, 1007.0]
    jobs = leased(Plane(), fact)
    assert [job.expires_at for job in jobs] == [1005.0, 1010.0, 1007.0]
    assert [job.options.deadline for job in jobs] == [1010.0, 1010.0, None]


def test_jobs_alike_share_their_options() -> None:
    jobs = leased(Plane(), with_deadlines(1010.0, 1010.0, 1011.0))
    assert jobs[0].options is jobs[1].options is not jobs[2].options


def test_job_that_waits_beyond_its_deadline_expires() -> None:
    plane = Plane()
    fact = with_deadlines(1010.0, 999.0)
    plane.turn(fact)
    assert plane.status(fact.ids[1]) is TaskStatus.EXPIRED
    plane.pass_time(11.0)
    assert plane.status(fact.ids[0]) is TaskStatus.EXPIRED
    assert assigned(plane.turn(registration(ONE))) == []


def test_attempt_that_is_given_back_after_the_deadline_is_not_repeated() -> None:
    plane = Plane()
    (job,) = leased(plane, with_deadlines(1010.0))
    plane.pass_time(11.0)
    assert assigned(plane.turn(runner_death(ONE, [job]))) == []
    assert plane.status(job.id) is TaskStatus.EXPIRED


def test_failure_is_not_retried_after_the_deadline() -> None:
    plane = Plane()
    (job,) = leased(plane, with_deadlines(1010.0))
    plane.turn(outcomes(ONE, [job], retry=Retry(10.0, True, None)))
    assert plane.status(job.id) is TaskStatus.FAILURE


def test_deadline_survives_a_restart() -> None:
    plane = Plane()
    fact = with_deadlines(1010.0)
    plane.turn(fact)
    again = plane.restart()
    again.turn(registration(ONE))
    (job,) = assigned(again.turn())
    assert (job.options.deadline, job.expires_at) == (1010.0, 1010.0)
