"""What becomes of jobs that come back: retries, deaths of runners, and what is written of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastworker.core import targets
from fastworker.core.commands import (
    AcknowledgeOutcomes,
    AnnounceEnded,
    SettleCancel,
)
from fastworker.core.facts import CancelRequest, Disconnection, Handbacks, Retry
from fastworker.core.records import PROCESS_POOL, JobOptions, JobRow, TaskPriority, TaskStatus
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

ONE, TWO = b"worker-one", b"worker-two"
LATER = Retry(5.0, True, None)
AT_ONCE = Retry(0.0, True, None)


def started_job(
    plane: Plane, *, options: JobOptions | None = None, expires_at: float | None = None
) -> JobRow:
    """One job, leased to a subworker with one slot."""
    plane.turn(registration(ONE, slots=1))
    fact = submission(new_ids(1), options=options or JobOptions(), expires_at=expires_at)
    (job,) = assigned(plane.turn(fact))
    return job


def suspect_of(plane: Plane, session: bytes = ONE) -> JobRow:
    """One job whose runner has died, leased again to run alone."""
    (job,) = assigned(plane.turn(submission(new_ids(1))), session)
    (again,) = assigned(plane.turn(runner_death(session, [job])))
    assert again.deaths == 1
    return again


# -- retries --------------------------------------------------------------------------------


def test_failed_job_starts_again_after_the_delay_and_nobody_is_told() -> None:
    plane = Plane()
    job = started_job(plane)
    commands = plane.turn(outcomes(ONE, [job], at=1001.0, retry=LATER))
    assert only(commands, AnnounceEnded) == []
    (recorded,) = only(commands, AcknowledgeOutcomes)
    assert (recorded.tokens, recorded.stale) == ([job.token], [])
    assert plane.status(job.id) is TaskStatus.SCHEDULED
    assert plane.dispatcher.memory.sessions[ONE].held == {}
    assert plane.dispatcher.next_wakeup()[1] == 1005.0
    (again,) = assigned(plane.turn(seconds=5.0))
    assert (again.attempts, again.failures, again.first_started_at) == (2, 1, 1001.0)
    assert again.token > job.token
    (row,) = plane.attempts
    assert row == (job.key, job.token, ONE, 1001.0, 1001.0, "retried", "ValueError: bad")


def test_retry_that_does_not_count_leaves_the_policys_count() -> None:
    plane = Plane()
    job = started_job(plane)
    (again,) = assigned(plane.turn(outcomes(ONE, [job], retry=Retry(0.0, False, None))))
    assert (again.attempts, again.failures) == (2, 0)
    plane.turn(outcomes(ONE, [again]))
    assert plane.status(job.id) is TaskStatus.SUCCESS


def test_outcome_of_a_retried_attempt_that_is_sent_again_counts_once() -> None:
    plane = Plane()
    job = started_job(plane)
    plane.turn(outcomes(ONE, [job], retry=LATER), outcomes(ONE, [job], retry=LATER))
    (again,) = only(plane.turn(outcomes(ONE, [job], retry=LATER)), AcknowledgeOutcomes)
    assert again.stale == [job.token]
    # Nor does it end the job, though no other subworker has got it meanwhile.
    plane.turn(outcomes(ONE, [job]))
    assert plane.status(job.id) is TaskStatus.SCHEDULED
    assert len(plane.attempts) == 1
    (last,) = assigned(plane.turn(seconds=5.0))
    assert last.failures == 1


def test_late_outcome_sent_twice_in_one_turn_is_retried_once() -> None:
    plane = Plane()
    job = started_job(plane)
    plane.turn(Disconnection(ONE, "connection"))
    plane.pass_time(LEASE + 1)
    plane = plane.restart()
    late = outcomes(ONE, [job], retry=LATER)
    plane.turn(late, late)
    assert [row.outcome for row in plane.attempts] == ["retried"]
    assert plane.dispatcher.memory.lanes_by_number[job.lane].depth == 0


def test_outcome_that_nobody_was_leased_is_refused() -> None:
    plane = Plane()
    plane.turn(submission(new_ids(1)))
    plane.turn(registration(ONE, tasks=("other",)))
    waiting = next(iter(plane.dispatcher.memory.jobs.values()))
    (answer,) = only(plane.turn(outcomes(ONE, [waiting])), AcknowledgeOutcomes)
    assert answer.stale == [0]
    assert plane.status(waiting.id) is TaskStatus.QUEUED


def test_retries_rejoin_in_the_order_of_their_ready_times() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=2))
    first, second = assigned(plane.turn(submission(new_ids(2))))
    plane.turn(
        outcomes(ONE, [first], retry=Retry(9.0, True, None)),
        outcomes(ONE, [second], retry=Retry(4.0, True, None)),
    )
    (fresh,) = new_ids(1)
    plane.turn(registration(ONE, tasks=("other",)), submission([fresh]))
    plane.turn(seconds=10.0)
    sent = assigned(plane.turn(registration(ONE, slots=3)))
    assert [job.id for job in sent] == [fresh, second.id, first.id]


@pytest.mark.parametrize(
    ("delay", "budget", "goes_on"), [(5.0, 5.0, True), (5.1, 5.0, False), (0.0, None, True)]
)
def test_no_retry_begins_after_the_policys_budget(
    delay: float, budget: float | None, goes_on: bool
) -> None:
    plane = Plane()
    job = started_job(plane)
    plane.turn(outcomes(ONE, [job], at=1000.0, retry=Retry(delay, True, budget)))
    assert (plane.status(job.id) is not TaskStatus.FAILURE) is goes_on


def test_retry_that_would_start_after_the_deadline_ends_with_its_failure_at_once() -> None:
    plane = Plane()
    job = started_job(plane, expires_at=1005.0)
    (ended,) = only(plane.turn(outcomes(ONE, [job], retry=LATER)), AnnounceEnded)
    (row,) = ended.finishes
    assert row.status is TaskStatus.FAILURE
    assert row.failure is not None and row.failure.type_name == "ValueError"


def test_at_most_once_job_is_not_retried() -> None:
    plane = Plane()
    job = started_job(plane, options=JobOptions(on_lost="fail"))
    assert assigned(plane.turn(outcomes(ONE, [job], retry=AT_ONCE))) == []
    assert plane.status(job.id) is TaskStatus.FAILURE


def test_failure_of_a_cancelled_job_stands_and_is_not_retried() -> None:
    plane = Plane()
    job = started_job(plane)
    plane.turn(CancelRequest(None, [job.id], "no more"))
    commands = plane.turn(outcomes(ONE, [job], retry=AT_ONCE))
    assert assigned(commands) == []
    assert [settled.outcome for settled in only(commands, SettleCancel)] == ["finished_first"]
    assert plane.status(job.id) is TaskStatus.FAILURE


def test_retry_survives_a_restart() -> None:
    plane = Plane()
    job = started_job(plane)
    plane.turn(outcomes(ONE, [job], retry=LATER))
    plane = plane.restart()
    plane.turn(registration(ONE, slots=1))
    (again,) = assigned(plane.turn(seconds=5.0))
    assert (again.id, again.failures) == (job.id, 1)


# -- deaths ---------------------------------------------------------------------------------


def test_third_death_alone_ends_the_job_and_says_how_the_runner_died() -> None:
    plane = Plane()
    job = started_job(plane)
    for deaths in range(1, 4):
        (job,) = assigned(plane.turn(runner_death(ONE, [job])))
        assert (job.deaths, job.failures) == (deaths, 0)
    (ended,) = only(plane.turn(runner_death(ONE, [job])), AnnounceEnded)
    (row,) = ended.finishes
    assert row.status is TaskStatus.DEAD and row.keep_payload
    assert row.failure is not None and row.failure.reason == "poison"
    assert "signal 9" in row.failure.message
    assert [(row.outcome, row.error) for row in plane.attempts] == [("runner_died", "signal 9")] * 3


def test_every_death_of_a_job_with_a_process_of_its_own_is_one_alone() -> None:
    plane = Plane()
    told = registration(ONE, slots=1)
    in_processes = {task: PROCESS_POOL for task in told.tasks}
    plane.turn(replace(told, tasks=in_processes, pools=(1, 1, 1), prefetch=(0, 0, 0)))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    for deaths in range(1, 3):
        (job,) = assigned(plane.turn(runner_death(ONE, [job])))
        assert job.deaths == deaths
    (ended,) = only(plane.turn(runner_death(ONE, [job])), AnnounceEnded)
    (row,) = ended.finishes
    assert row.status is TaskStatus.DEAD
    assert row.failure is not None and row.failure.reason == "poison"


def test_job_that_had_not_started_in_a_dead_runner_is_not_suspected() -> None:
    plane = Plane()
    job = started_job(plane)
    (again,) = assigned(plane.turn(runner_death(ONE, [job], started=0)))
    assert (again.deaths, again.attempts, plane.attempts) == (0, 1, [])


def test_subworker_has_few_suspects_at_a_time_and_others_pass_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "SUSPECTS_AHEAD", 1)
    plane = Plane()
    plane.turn(registration(ONE, slots=3))
    jobs = assigned(plane.turn(submission(new_ids(3))))
    commands = plane.turn(runner_death(ONE, jobs))
    (alone,) = assigned(commands)
    assert alone.id == jobs[0].id
    innocent = new_ids(2)
    assert [job.id for job in assigned(plane.turn(submission(innocent)))] == innocent
    why = plane.dispatcher.why_waiting("add", "default", TaskStatus.QUEUED, job_id=jobs[1].id)
    assert why == "it runs alone after a crash and another such job is running"
    (second,) = assigned(plane.turn(outcomes(ONE, [alone])))
    assert second.id == jobs[1].id
    (third,) = assigned(plane.turn(registration(TWO)), TWO)
    assert third.id == jobs[2].id


def test_suspect_needs_no_free_slot() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    job = suspect_of(plane)
    ordinary = new_ids(2)
    assert assigned(plane.turn(submission(ordinary))) == []
    sent = assigned(plane.turn(runner_death(ONE, [job])))
    assert [each.id for each in sent] == [ordinary[0], job.id]


def test_suspects_are_handed_out_by_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SUSPECTS_AHEAD", 1)
    plane = Plane()
    plane.turn(registration(ONE, slots=2))
    low = assigned(plane.turn(submission(new_ids(1), priority=TaskPriority.LOW)))
    high = assigned(plane.turn(submission(new_ids(1), priority=TaskPriority.HIGH)))
    (first,) = assigned(plane.turn(runner_death(ONE, low + high)))
    assert first.id == high[0].id


def test_suspects_are_still_alone_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SUSPECTS_AHEAD", 1)
    plane = Plane()
    plane.turn(registration(ONE, slots=2))
    jobs = assigned(plane.turn(submission(new_ids(2))))
    (alone,) = assigned(plane.turn(runner_death(ONE, jobs)))
    plane = plane.restart()
    claims = [(alone.id, alone.token)]
    assert assigned(plane.turn(registration(ONE, slots=2, claims=claims))) == []
    assert assigned(plane.turn()) == []
    (second,) = assigned(plane.turn(outcomes(ONE, [alone])))
    assert (second.id, second.deaths) == (jobs[1].id, 1)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_parked_suspect_can_end(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SUSPECTS_AHEAD", 1)
    plane = Plane()
    plane.turn(registration(ONE, slots=2))
    jobs = assigned(plane.turn(submission(new_ids(2), expires_at=1003.0)))
    plane.turn(runner_death(ONE, jobs))
    if how == "cancelled":
        plane.turn(CancelRequest(None, [jobs[1].id], ""))
        assert plane.status(jobs[1].id) is TaskStatus.CANCELLED
    else:
        plane.turn(seconds=3.0)
        assert plane.status(jobs[1].id) is TaskStatus.EXPIRED
    assert assigned(plane.turn(registration(TWO))) == []
    assert plane.dispatcher.memory.lanes_by_number[jobs[1].lane].depth == 0


def test_turn_that_was_dropped_leaves_a_suspect_where_it_was() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    job = suspect_of(plane)
    dispatcher = plane.dispatcher
    fact = runner_death(ONE, [job])
    dispatcher.drop(plane.decide(fact))
    session = dispatcher.memory.sessions[ONE]
    assert (session.alone, list(session.held)) == (1, [job.id])
    (again,) = assigned(plane.turn(fact))
    assert (again.deaths, session.alone) == (2, 1)


# -- what is written of attempts ------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "attempts"), [("drain", 1), ("lease_lost", 2), ("runner_died", 2)]
)
def test_attempt_that_was_handed_back_is_written_down(reason: str, attempts: int) -> None:
    plane = Plane()
    job = started_job(plane)
    back = Handbacks(ONE, [job.id], [job.token], [1], reason, "why")
    (again,) = assigned(plane.turn(back))
    assert again.attempts == attempts
    assert [(row.token, row.outcome, row.error) for row in plane.attempts] == [
        (job.token, reason, "why")
    ]


def test_attempt_whose_lease_ran_out_is_written_down() -> None:
    plane = Plane()
    job = started_job(plane)
    plane.turn(Disconnection(ONE, "connection"))
    plane.pass_time(LEASE + 1)
    assert [(row.key, row.session, row.outcome) for row in plane.attempts] == [
        (job.key, ONE, "lease_expired")
    ]


def test_job_that_succeeds_at_once_leaves_no_row() -> None:
    plane = Plane()
    plane.turn(outcomes(ONE, [started_job(plane)]))
    assert plane.attempts == []


def test_subworker_that_registers_is_written_down() -> None:
    plane = Plane()
    fact = registration(ONE)
    fact.host, fact.pid = "host", 17
    staged = plane.decide(fact)
    assert staged.saves.workers == [(ONE, "worker-one", "host", 17, 1000.0)]
