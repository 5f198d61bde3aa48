"""Paused queues: they accept and hand out nothing."""

from __future__ import annotations

from fastworker.core.commands import AnswerPause, AnswerSubmission
from fastworker.core.facts import QueuePause
from fastworker.core.records import TaskStatus
from tests.core.harness import (
    Plane,
    assigned,
    new_ids,
    only,
    registration,
    runner_death,
    submission,
)

ONE = b"worker-one"
PAUSE = QueuePause(None, "default", True)
RESUME = QueuePause(None, "default", False)


def test_paused_queue_accepts_and_hands_out_nothing_until_it_is_resumed() -> None:
    plane = Plane()
    (answer,) = only(plane.turn(registration(ONE), PAUSE), AnswerPause)
    assert answer.fact is PAUSE
    ids = new_ids(2)
    commands = plane.turn(submission(ids))
    assert only(commands, AnswerSubmission)[0].refused == [] and assigned(commands) == []
    why = plane.dispatcher.why_waiting("add", "default", TaskStatus.QUEUED)
    assert why == "queue 'default' is paused"
    assert [job.id for job in assigned(plane.turn(RESUME))] == ids


def test_other_queues_go_on() -> None:
    plane = Plane()
    plane.turn(registration(ONE, queues=("default", "images")), PAUSE)
    ids = new_ids(1)
    assert [job.id for job in assigned(plane.turn(submission(ids, queue="images")))] == ids


def test_pause_holds_for_jobs_of_its_own_turn_and_for_suspects() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    assert assigned(plane.turn(PAUSE, submission(new_ids(1)))) == []
    jobs = assigned(plane.turn(RESUME))
    assert assigned(plane.turn(runner_death(ONE, jobs), PAUSE)) == []
    (again,) = assigned(plane.turn(RESUME))
    assert again.deaths == 1


def test_pause_that_changes_nothing_is_answered_and_not_written() -> None:
    plane = Plane()
    plane.turn(PAUSE)
    staged = plane.decide(PAUSE)
    assert only(staged.commands, AnswerPause) and not staged.saves


def test_pause_that_was_not_stored_is_not_in_force() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    plane.dispatcher.drop(plane.decide(PAUSE))
    assert len(assigned(plane.turn(submission(new_ids(1))))) == 1


def test_paused_backlog_is_neither_fetched_nor_a_reason_for_local_work() -> None:
    plane = Plane()
    plane.turn(PAUSE, submission(new_ids(3)))
    assert not plane.dispatcher.has_unserved_jobs()
    plane = plane.restart()
    plane.turn(registration(ONE))
    assert plane.dispatcher.next_wakeup()[0] > plane.now.monotonic
    assert assigned(plane.turn()) == []
    plane.turn(RESUME)
    assert plane.dispatcher.next_wakeup()[0] <= plane.now.monotonic
    assert len(assigned(plane.turn())) == 2
