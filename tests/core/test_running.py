"""Checkpoints and lines of running attempts: whose count, and for how long."""

from __future__ import annotations

from fastworker.core.commands import AnnounceLines
from fastworker.core.facts import Checkpoints, Retry, SaidLines
from fastworker.core.records import JobRow, TaskStatus, line_number
from fastworker.core.running import LINED_ATTEMPTS
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
AGAIN = Retry(0.0, True, None)


def running(plane: Plane) -> JobRow:
    plane.turn(registration(ONE))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    return job


def left(job: JobRow, value: bytes, *, session: bytes = ONE) -> Checkpoints:
    return Checkpoints(session, [job.id], [job.token], [value])


def said(job: JobRow, *texts: str, first: int = 0, session: bytes = ONE) -> SaidLines:
    count = len(texts)
    moments, levels = [1000.0] * count, [20] * count
    return SaidLines(session, [job.id], [job.token], [first], [count], moments, levels, texts)


def checkpoint_of(plane: Plane, job: JobRow) -> bytes | None:
    return plane.store.checkpoints([job.key]).get(job.key)


def lines_of(plane: Plane, job: JobRow) -> list[tuple[int, str]]:
    return [(row.number, row.text) for row in plane.store.lines(job.id, after=0, limit=10_000)]


def test_the_latest_checkpoint_counts_until_the_job_has_ended() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(left(job, b"first"))
    plane.turn(left(job, b"second"), left(job, b"third"))
    assert checkpoint_of(plane, job) == b"third"
    assert plane.dispatcher.has_checkpoint(job.key)
    plane.turn(outcomes(ONE, [job]))
    assert checkpoint_of(plane, job) is None
    assert not plane.dispatcher.has_checkpoint(job.key)


def test_a_checkpoint_that_comes_with_the_end_is_not_kept() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(left(job, b"late"), outcomes(ONE, [job]))
    assert checkpoint_of(plane, job) is None and not plane.dispatcher.has_checkpoint(job.key)


def test_a_checkpoint_outlives_a_retry_and_a_restart() -> None:
    plane = Plane()
    job = running(plane)
    plane.turn(left(job, b"half"), outcomes(ONE, [job], retry=AGAIN))
    assert checkpoint_of(plane, job) == b"half"
    assert plane.restart().dispatcher.has_checkpoint(job.key)


def test_a_late_attempt_leaves_nothing() -> None:
    plane = Plane()
    late = running(plane)
    commands = plane.turn(outcomes(ONE, [late], retry=AGAIN))
    (job,) = assigned(commands) or assigned(plane.turn(seconds=1.0))
    assert job.id == late.id and job.token > late.token
    plane.turn(left(late, b"late"), said(late, "late"))
    assert checkpoint_of(plane, job) is None and lines_of(plane, job) == []
    plane.turn(left(job, b"mine", session=b"somebody else"))
    assert checkpoint_of(plane, job) is None


def test_lines_are_announced_and_written_once_however_often_they_come() -> None:
    plane = Plane()
    job = running(plane)
    (announced,) = only(plane.turn(said(job, "one", "two")), AnnounceLines)
    assert announced.ids == [job.id]
    plane.turn(said(job, "two", "three", first=1))
    numbers = [line_number(job.token, index) for index in range(3)]
    assert lines_of(plane, job) == list(zip(numbers, ["one", "two", "three"], strict=True))


def test_lines_come_before_the_end_that_comes_with_them() -> None:
    plane = Plane()
    job = running(plane)
    commands = plane.turn(said(job, "last"), outcomes(ONE, [job], status=TaskStatus.FAILURE))
    assert isinstance(commands[0], AnnounceLines)
    assert [text for _, text in lines_of(plane, job)] == ["last"]


def test_of_a_job_that_fails_for_ever_the_latest_attempts_keep_their_lines() -> None:
    plane = Plane()
    job = running(plane)
    for number in range(LINED_ATTEMPTS + 3):
        commands = plane.turn(said(job, str(number)), outcomes(ONE, [job], retry=AGAIN))
        (job,) = assigned(commands) or assigned(plane.turn(seconds=1.0))
    kept = [text for _, text in lines_of(plane, job)]
    assert kept == [str(number) for number in range(3, LINED_ATTEMPTS + 3)]
