"""Cancels go on to the jobs that a cancelled job has submitted; who belongs to whom is stored."""

from __future__ import annotations

import pytest

from fastworker.core.commands import CancelChildren, Command, WithdrawJobs
from fastworker.core.facts import CancelRequest
from fastworker.core.records import DEFAULT_OPTIONS, FamilyRow, JobOptions, JobRow, TaskStatus
from tests.core.harness import (
    Plane,
    assigned,
    new_ids,
    only,
    outcomes,
    registration,
    submission,
)

ONE = b"one"
OWNER = b"o" * 16


def running(plane: Plane, options: JobOptions = DEFAULT_OPTIONS) -> JobRow:
    plane.turn(registration(ONE, slots=4))
    (job,) = assigned(plane.turn(submission(new_ids(1), options=options)))
    return job


def child(plane: Plane, parent: bytes, **options: bool) -> bytes:
    ids = new_ids(1)
    plane.turn(submission(ids, task="rare", options=JobOptions(parent=parent, **options)))
    return ids[0]


def children(plane: Plane, parent: bytes) -> list[bytes]:
    return [row.id for row in plane.store.children([parent])]


def gone_on(commands: list[Command]) -> list[tuple[list[bytes], str, float | None]]:
    return [(one.parents, one.reason, one.grace) for one in only(commands, CancelChildren)]


def test_children_are_known_until_they_end() -> None:
    plane = Plane()
    parent = running(plane)
    waiting = child(plane, parent.id)
    child(plane, parent.id, detached=True)
    assert children(plane, parent.id) == [waiting]
    plane.turn(CancelRequest(None, [waiting], ""))
    assert children(plane, parent.id) == []


def test_owned_job_is_known_with_its_client_and_for_how_long_it_may_be_gone() -> None:
    plane = Plane()
    ids = new_ids(1)
    plane.turn(submission(ids, options=JobOptions(owner=OWNER, owned=30.0)))
    (row,) = plane.store.owned(OWNER, at_most=30.0)
    assert row == FamilyRow(row.key, ids[0], None, OWNER, 30.0)
    assert plane.store.owned(OWNER, at_most=29.0) == []
    plane.turn(CancelRequest(None, ids, ""))
    assert plane.store.owners() == []


def test_ordinary_jobs_are_in_no_family() -> None:
    plane = Plane()
    assert plane.decide(submission(new_ids(2))).saves.family == []


def test_cancel_of_a_running_job_goes_on_at_once_and_again_at_its_end() -> None:
    plane = Plane()
    job = running(plane)
    request = CancelRequest(None, [job.id], "no more", grace=2.0)
    assert gone_on(plane.turn(request)) == [([job.id], "no more", 2.0)]
    ended = plane.turn(outcomes(ONE, [job], status=TaskStatus.CANCELLED))
    assert gone_on(ended) == [([job.id], "no more", 2.0)]


def test_what_a_job_was_given_to_unwind_is_not_its_childrens() -> None:
    plane = Plane()
    job = running(plane, JobOptions(grace=7.0))
    plane.turn(CancelRequest(None, [job.id], "no more"))
    ended = plane.turn(outcomes(ONE, [job], status=TaskStatus.CANCELLED))
    assert gone_on(ended) == [([job.id], "no more", None)]


def test_cancel_of_waiting_jobs_goes_on_in_one_command() -> None:
    plane = Plane()
    ids = new_ids(3)
    plane.turn(submission(ids))
    assert gone_on(plane.turn(CancelRequest(None, ids, "no more"))) == [(ids, "no more", None)]


@pytest.mark.parametrize("status", [TaskStatus.FAILURE, TaskStatus.SUCCESS])
def test_other_ends_do_not_go_on(status: TaskStatus) -> None:
    plane = Plane()
    job = running(plane)
    assert gone_on(plane.turn(outcomes(ONE, [job], status=status))) == []


def test_job_that_was_told_already_is_not_told_again_because_of_its_parent() -> None:
    plane = Plane()
    job = running(plane)
    follows = CancelRequest(None, [job.id], "parent", follows=True)
    assert len(only(plane.turn(follows), WithdrawJobs)) == 1
    commands = plane.turn(follows)
    assert only(commands, WithdrawJobs) == []
    assert gone_on(commands) == []


def test_unknown_child_is_no_cancel_that_overtook_its_submission() -> None:
    plane = Plane()
    ids = new_ids(1)
    plane.turn(CancelRequest(None, ids, "", follows=True))
    plane.turn(submission(ids))
    assert plane.status(ids[0]) is TaskStatus.QUEUED


@pytest.mark.parametrize(
    ("detached", "status"), [(False, TaskStatus.CANCELLED), (True, TaskStatus.QUEUED)]
)
def test_child_whose_submission_comes_after_the_end_of_its_cancelled_parent(
    detached: bool, status: TaskStatus
) -> None:
    plane = Plane()
    parent = running(plane)
    plane.turn(CancelRequest(None, [parent.id], ""))
    plane.turn(outcomes(ONE, [parent], status=TaskStatus.CANCELLED))
    assert plane.status(child(plane, parent.id, detached=detached)) is status
    assert children(plane, parent.id) == []


def test_children_that_a_crash_left_over_are_found() -> None:
    plane = Plane()
    parent = running(plane)
    left_over = child(plane, parent.id)
    assert plane.store.cancelled_parents() == []
    plane.turn(CancelRequest(None, [parent.id], ""))
    plane.turn(outcomes(ONE, [parent], status=TaskStatus.CANCELLED))
    assert plane.store.cancelled_parents() == [parent.id]
    plane.turn(CancelRequest(None, [left_over], ""))
    assert plane.store.cancelled_parents() == []
