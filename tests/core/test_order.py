"""G9 beyond the windows: older jobs that only the store holds are not passed over by newer ones."""

from __future__ import annotations

import pytest

from fastworker.core import lanes
from fastworker.core.facts import QueuePause
from fastworker.core.records import JobRow
from tests.core.harness import (
    Plane,
    assigned,
    new_ids,
    outcomes,
    registration,
    submission,
)

ONE = b"worker-one"
BOTH = ("add", "mul")


def next_turn(plane: Plane) -> list[JobRow]:
    """What is handed out in a turn for which the loop does not wait."""
    monotonic, _ = plane.dispatcher.next_wakeup()
    assert monotonic <= plane.now.monotonic, "the loop would wait"
    return assigned(plane.turn())


def test_subworker_that_arrives_gets_what_the_store_holds_first() -> None:
    plane = Plane()
    old = new_ids(3)
    plane.turn(submission(old, task="add"))
    plane = plane.restart()
    new = new_ids(3)
    plane.turn(submission(new, task="mul"))

    at_once = assigned(plane.turn(registration(ONE, slots=4, tasks=BOTH)))
    handed = at_once + next_turn(plane)

    assert [job.id for job in handed] == [*old, new[0]]


def test_queue_that_is_resumed_hands_out_what_the_store_holds_first() -> None:
    plane = Plane()
    old = new_ids(3)
    plane.turn(submission(old, queue="slow"), QueuePause(None, "slow", True))
    plane = plane.restart()
    plane.turn(registration(ONE, slots=4, queues=("slow", "fast")))
    new = new_ids(5)
    assert len(assigned(plane.turn(submission(new, queue="fast")))) == 4

    ended = outcomes(ONE, [plane.dispatcher.memory.jobs[each] for each in new[:4]])
    at_once = assigned(plane.turn(QueuePause(None, "slow", False), ended))
    handed = at_once + next_turn(plane)

    assert [job.id for job in handed] == [*old, new[4]]


def test_window_that_runs_out_within_a_turn_lets_no_newer_job_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "WINDOW_JOBS", 4)
    monkeypatch.setattr(lanes, "REFILL_BELOW", 1)
    plane = Plane()
    old, new = new_ids(6), new_ids(3)
    plane.turn(submission(old, task="add"))
    plane.turn(submission(new, task="mul"))

    at_once = assigned(plane.turn(registration(ONE, slots=8, tasks=BOTH)))
    assert [job.id for job in at_once] == old[:4]
    assert [job.id for job in next_turn(plane)] == [*old[4:], *new[:2]]


def test_backlog_for_which_there_is_no_room_lets_others_pass() -> None:
    plane = Plane()
    plane.turn(submission(new_ids(3), task="elsewhere"))
    plane = plane.restart()
    new = new_ids(2)
    plane.turn(submission(new, task="mul"))

    handed = assigned(plane.turn(registration(ONE, tasks=("mul",))))

    assert [job.id for job in handed] == new
