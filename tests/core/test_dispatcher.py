"""What the dispatcher decides, told as facts and read from its commands and the store."""

from __future__ import annotations

import pytest

from fastworker.core.commands import (
    AcknowledgeOutcomes,
    AnnounceEnded,
    AnswerRegistration,
    AnswerSubmission,
    AnswerWatch,
    SettleCancel,
    WithdrawJobs,
)
from fastworker.core.facts import (
    CancelRequest,
    CapacityChange,
    Disconnection,
    Fact,
    Handbacks,
    Renewals,
    WatchRequest,
    Withdrawals,
)
from fastworker.core.lanes import WINDOW_JOBS
from fastworker.core.questions import Known
from fastworker.core.records import JobOptions, Now, TaskPriority, TaskStatus
from tests.core.harness import (
    LEASE,
    Plane,
    assigned,
    new_ids,
    only,
    outcomes,
    registration,
    submission,
)

ONE, TWO = b"worker-one", b"worker-two"


def test_job_is_accepted_and_leased_in_one_turn_when_a_slot_is_free() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    commands = plane.turn(submission(ids))
    assert [job.id for job in assigned(commands)] == ids
    assert plane.status(ids[0]) is TaskStatus.RUNNING
    answers = only(commands, AnswerSubmission)
    assert [answer.refused for answer in answers] == [[]]


def test_jobs_wait_in_order_until_a_slot_is_free() -> None:
    plane = Plane()
    ids = new_ids(5)
    assert assigned(plane.turn(submission(ids))) == []
    first = assigned(plane.turn(registration(ONE, slots=2)))
    assert [job.id for job in first] == ids[:2]
    second = assigned(plane.turn(outcomes(ONE, first)))
    assert [job.id for job in second] == ids[2:4]


def test_outcome_is_recorded_announced_and_acknowledged_once() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    (job,) = assigned(plane.turn(submission(ids)))
    commands = plane.turn(outcomes(ONE, [job]))
    (ended,) = only(commands, AnnounceEnded)
    assert [(row.id, row.status, row.value) for row in ended.finishes] == [
        (ids[0], TaskStatus.SUCCESS, b"value")
    ]
    (again,) = only(plane.turn(outcomes(ONE, [job])), AcknowledgeOutcomes)
    assert again.tokens == [job.token] and again.stale == []
    assert plane.status(ids[0]) is TaskStatus.SUCCESS


def test_more_urgent_job_is_sent_beyond_credit() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=2, prefetch=2))
    low = new_ids(10)
    assert len(assigned(plane.turn(submission(low, priority=TaskPriority.LOW)))) == 4
    urgent = new_ids(1)
    commands = plane.turn(submission(urgent, priority=TaskPriority.CRITICAL))
    assert [job.id for job in assigned(commands)] == urgent
    flood = new_ids(20)
    sent = assigned(plane.turn(submission(flood, priority=TaskPriority.CRITICAL)))
    # Never more than twice the slots beyond the prefetch, however urgent.
    assert len(sent) == 1


def test_strict_priority_across_lanes() -> None:
    plane = Plane()
    low, high = new_ids(3), new_ids(3)
    plane.turn(submission(low, priority=TaskPriority.LOW))
    plane.turn(submission(high, priority=TaskPriority.HIGH, task="other"))
    sent = assigned(plane.turn(registration(ONE, slots=4, tasks=("add", "other"))))
    assert [job.id for job in sent] == [*high, low[0]]


def test_least_loaded_subworker_gets_the_next_job() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=4), registration(TWO, slots=4))
    commands = plane.turn(submission(new_ids(4)))
    assert len(assigned(commands, ONE)) == len(assigned(commands, TWO)) == 2


def test_incapable_subworker_gets_nothing_and_the_reason_is_told() -> None:
    plane = Plane()
    plane.turn(registration(ONE, tasks=("other",)))
    ids = new_ids(1)
    assert assigned(plane.turn(submission(ids))) == []
    reason = plane.dispatcher.why_waiting("add", "default", TaskStatus.QUEUED)
    assert reason is not None and "no connected subworker" in reason


def test_local_subworker_works_only_while_no_other_can() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=9, local=True))
    assert len(assigned(plane.turn(submission(new_ids(1))), ONE)) == 1
    plane.turn(registration(TWO, slots=1))
    commands = plane.turn(submission(new_ids(3)))
    assert assigned(commands, ONE) == [] and len(assigned(commands, TWO)) == 1


def test_repeated_submission_makes_no_second_job() -> None:
    plane = Plane()
    ids = new_ids(3)
    plane.turn(submission(ids))
    plane = plane.restart()
    (answer,) = only(plane.turn(submission(ids, first_try=False)), AnswerSubmission)
    assert answer.refused == []
    assert sum(plane.store.reader().counts().values()) == 3


def test_repeat_of_an_ended_job_is_told_its_result() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    plane.turn(outcomes(ONE, assigned(plane.turn(submission(ids)))))
    plane = plane.restart()
    (answer,) = only(plane.turn(submission(ids, first_try=False, watch=True)), AnswerSubmission)
    assert [row.value for row in answer.ended] == [b"value"]


def test_repeat_in_the_turn_that_ends_its_job_makes_no_second_job() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    repeat = submission([job.id], first_try=False, watch=True)
    commands = plane.turn(outcomes(ONE, [job]), repeat)
    (answer,) = only(commands, AnswerSubmission)
    assert not answer.refused
    assert [row.id for row in answer.ended] == [job.id]
    assert plane.status(job.id) is TaskStatus.SUCCESS


def test_job_that_leaves_memory_is_still_known_in_the_same_turn() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    plane.turn(submission(new_ids(1)))
    plane = plane.restart()
    back = Handbacks(ONE, [job.id], [job.token], [1], "runner_died", "signal 9")
    repeat = submission([job.id], first_try=False)
    cancel = CancelRequest(None, [job.id], "")
    commands = plane.turn(back, repeat, WatchRequest(None, [job.id]), cancel)
    assert plane.dispatcher.job(job.id) is None
    (answer,) = only(commands, AnswerSubmission)
    (watched,) = only(commands, AnswerWatch)
    (settled,) = only(commands, SettleCancel)
    assert (answer.refused, watched.unknown, settled.outcome) == ([], [], "cancelled")
    assert plane.status(job.id) is TaskStatus.CANCELLED


def test_id_of_another_task_is_a_conflict() -> None:
    plane = Plane()
    ids = new_ids(1)
    plane.turn(submission(ids))
    (answer,) = only(plane.turn(submission(ids, task="other")), AnswerSubmission)
    assert [refusal.code for refusal in answer.refused] == ["conflict"]


def test_id_of_an_ended_job_of_another_task_is_a_conflict() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    plane.turn(outcomes(ONE, assigned(plane.turn(submission(ids)))))
    (answer,) = only(plane.turn(submission(ids, task="other")), AnswerSubmission)
    assert [refusal.code for refusal in answer.refused] == ["conflict"]


def test_group_with_one_bad_job_is_refused_whole() -> None:
    plane = Plane()
    taken, fresh = new_ids(1), new_ids(2)
    plane.turn(submission(taken))
    bad = submission([fresh[0], taken[0], fresh[1]], task="other", atomic=True)
    (answer,) = only(plane.turn(bad), AnswerSubmission)
    assert [refusal.index for refusal in answer.refused] == [0, 1, 2]
    assert "job 1 of the group" in answer.refused[0].message
    assert plane.store.reader().views(fresh) == []


def test_scheduled_job_starts_when_its_time_has_come() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    assert assigned(plane.turn(submission(ids, ready_at=1003.0))) == []
    assert plane.status(ids[0]) is TaskStatus.SCHEDULED
    assert plane.dispatcher.next_wakeup()[1] == 1003.0
    assert assigned(plane.turn(seconds=2.9)) == []
    assert [job.id for job in assigned(plane.turn(seconds=0.1))] == ids


def test_job_past_its_deadline_never_starts() -> None:
    plane = Plane()
    late, waiting = new_ids(1), new_ids(1)
    plane.turn(submission(late, expires_at=999.0), submission(waiting, expires_at=1001.0))
    assert plane.status(late[0]) is TaskStatus.EXPIRED
    plane.turn(seconds=2.0)
    assert plane.status(waiting[0]) is TaskStatus.EXPIRED
    assert assigned(plane.turn(registration(ONE))) == []


def test_lease_that_runs_out_hands_the_job_to_another_with_a_larger_token() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    (first,) = assigned(plane.turn(submission(ids)))
    plane.turn(Disconnection(ONE, "connection"))
    plane.turn(registration(TWO))
    heard = Renewals({TWO: plane.now.monotonic + LEASE})
    plane.turn(heard)
    (second,) = assigned(plane.pass_time(LEASE + 0.1), TWO)
    assert second.id == first.id and second.token > first.token
    assert second.attempts == 2
    (late,) = only(plane.turn(outcomes(ONE, [first])), AcknowledgeOutcomes)
    assert late.stale == [first.token]
    assert plane.status(ids[0]) is TaskStatus.RUNNING


def test_late_outcome_revives_a_lease_that_nobody_else_got() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    (job,) = assigned(plane.turn(submission(ids)))
    plane.turn(Disconnection(ONE, "connection"))
    plane.pass_time(LEASE + 1)
    assert plane.status(ids[0]) is TaskStatus.QUEUED
    (answer,) = only(plane.turn(outcomes(ONE, [job])), AcknowledgeOutcomes)
    assert answer.stale == []
    assert plane.status(ids[0]) is TaskStatus.SUCCESS


def test_pause_of_the_control_plane_expires_nothing() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    plane.turn(submission(ids))
    plane.turn(seconds=60.0)
    assert plane.status(ids[0]) is TaskStatus.RUNNING


def test_restart_gives_grace_and_returning_subworker_keeps_what_it_claims() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=2))
    ids = new_ids(2)
    held, unsent = assigned(plane.turn(submission(ids)))
    plane = plane.restart()
    plane.turn(seconds=LEASE / 2)
    commands = plane.turn(
        registration(ONE, slots=2, claims=[(held.id, held.token), (b"x" * 16, 7)])
    )
    (answer,) = only(commands, AnswerRegistration)
    assert answer.stale == [7]
    # What never reached it is handed out again, and that does not count as an attempt.
    (again,) = assigned(commands)
    assert again.id == unsent.id and again.attempts == 1
    plane.turn(outcomes(ONE, [held, again]))
    assert [plane.status(job_id) for job_id in ids] == [TaskStatus.SUCCESS] * 2


def test_restart_never_reuses_a_token_or_key() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    (before,) = assigned(plane.turn(submission(new_ids(1))))
    plane = plane.restart()
    plane.turn(registration(ONE))
    later = assigned(plane.turn(submission(new_ids(1))))
    assert all(job.token > before.token and job.key > before.key for job in later)


def test_dead_runner_returns_its_jobs_at_once() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    ids = new_ids(1)
    (job,) = assigned(plane.turn(submission(ids)))
    back = Handbacks(ONE, [job.id], [job.token], [1], "runner_died", "signal 9")
    (again,) = assigned(plane.turn(back))
    assert again.id == job.id and again.token > job.token and again.deaths == 1


def test_at_most_once_job_is_dead_when_its_executor_is_lost() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    ids = new_ids(1)
    (job,) = assigned(plane.turn(submission(ids, options=JobOptions(on_lost="fail"))))
    plane.turn(Handbacks(ONE, [job.id], [job.token], [1], "runner_died", "signal 9"))
    assert plane.status(ids[0]) is TaskStatus.DEAD


def test_at_most_once_job_is_never_prefetched() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1, prefetch=5))
    sent = assigned(plane.turn(submission(new_ids(3), options=JobOptions(on_lost="fail"))))
    assert len(sent) == 1


@pytest.mark.parametrize("started", [0, 1])
def test_drain_returns_jobs_uncounted(started: int) -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    plane.turn(registration(TWO, slots=1))
    plane.turn(Disconnection(ONE, "connection"))
    commands = plane.turn(Handbacks(ONE, [job.id], [job.token], [started], "drain"))
    (recorded,) = only(commands, AcknowledgeOutcomes)
    assert (recorded.session, recorded.tokens) == (ONE, [job.token])
    (again,) = assigned(commands, TWO)
    assert again.attempts == 1


@pytest.mark.parametrize("first_dropped", [False, True])
def test_assignment_that_crossed_a_goodbye_is_handed_out_again_at_once(first_dropped: bool) -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    plane.turn(registration(TWO, slots=1))
    goodbye = Disconnection(ONE, "connection", leaving=True)
    dispatcher = plane.dispatcher
    if first_dropped:
        dispatcher.drop(dispatcher.handle_all([goodbye], Known(), plane.now))
    (again,) = assigned(plane.turn(goodbye), TWO)
    assert (again.id, again.attempts) == (job.id, 1)
    assert dispatcher.memory.sessions.keys() == {TWO}


@pytest.mark.parametrize("ready_at", [None, 2000.0])
def test_cancelled_job_that_has_not_started_never_starts(ready_at: float | None) -> None:
    plane = Plane()
    ids = new_ids(1)
    plane.turn(submission(ids, ready_at=ready_at))
    (settled,) = only(plane.turn(CancelRequest(None, ids, "no more")), SettleCancel)
    assert settled.outcome == "cancelled"
    assert assigned(plane.turn(registration(ONE), seconds=2000.0)) == []
    assert plane.status(ids[0]) is TaskStatus.CANCELLED


@pytest.mark.parametrize(
    ("taken", "settled", "status"),
    [(1, ["cancelled"], TaskStatus.CANCELLED), (0, [], TaskStatus.RUNNING)],
)
def test_leased_job_is_cancelled_at_once_only_if_its_subworker_can_take_it_back(
    taken: int, settled: list[str], status: TaskStatus
) -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    commands = plane.turn(CancelRequest(None, [job.id], ""))
    assert only(commands, SettleCancel) == []
    assert [asked.tokens for asked in only(commands, WithdrawJobs)] == [[job.token]]
    answer = Withdrawals(ONE, [job.id], [job.token], [taken])
    commands = plane.turn(answer)
    assert [answer.outcome for answer in only(commands, SettleCancel)] == settled
    assert plane.status(job.id) is status
    recorded = [command.tokens for command in only(commands, AcknowledgeOutcomes)]
    assert recorded == ([[job.token]] if taken else [])


def test_cancel_that_overtakes_its_submission_is_remembered() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    ids = new_ids(1)
    (settled,) = only(plane.turn(CancelRequest(None, ids, "too late")), SettleCancel)
    assert settled.outcome == "unknown"
    assert assigned(plane.turn(submission(ids))) == []
    assert plane.status(ids[0]) is TaskStatus.CANCELLED


def test_cancel_of_an_ended_job_says_so() -> None:
    plane = Plane()
    plane.turn(registration(ONE))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    plane.turn(outcomes(ONE, [job]))
    (settled,) = only(plane.turn(CancelRequest(None, [job.id], "")), SettleCancel)
    assert settled.outcome == "finished_first"


def test_watch_tells_ended_unknown_and_expired_apart() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    options = JobOptions(keep_result=False)
    kept, dropped, unknown = new_ids(3)
    plane.turn(outcomes(ONE, assigned(plane.turn(submission([kept])))))
    plane.turn(outcomes(ONE, assigned(plane.turn(submission([dropped], options=options)))))
    (answer,) = only(plane.turn(WatchRequest(None, [kept, dropped, unknown])), AnswerWatch)
    assert [row.id for row in answer.ended] == [kept]
    assert answer.expired == [dropped] and answer.unknown == [unknown]


def test_backlog_beyond_the_window_stays_in_the_store_and_comes_in_order() -> None:
    plane = Plane()
    ids = new_ids(WINDOW_JOBS + 3_000)
    plane.turn(submission(ids[:8_000]))
    plane.turn(submission(ids[8_000:]))
    assert len(plane.dispatcher.memory.jobs) == WINDOW_JOBS
    done: list[bytes] = []
    batch = assigned(plane.turn(registration(ONE, slots=2_000)))
    while batch:
        done += [job.id for job in batch]
        batch = assigned(plane.turn(outcomes(ONE, batch)))
    assert done == ids
    assert plane.dispatcher.memory.jobs == {}
    assert plane.dispatcher.memory.payload_bytes == 0


def test_turn_that_was_dropped_leaves_no_trace() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=2))
    ids = new_ids(2)
    fact = submission(ids)
    asked = plane.dispatcher.questions([fact], plane.now)
    staged = plane.dispatcher.handle_all([fact], plane.store.recall(asked), plane.now, asked=asked)
    assert len(assigned(staged.commands)) == 2
    plane.dispatcher.drop(staged)
    assert plane.dispatcher.memory.jobs == {}
    assert [job.id for job in assigned(plane.turn(fact))] == ids


@pytest.mark.parametrize("happens", ["the lease runs out", "the subworker comes back"])
def test_turn_that_was_dropped_undoes_what_it_did_to_leases(happens: str) -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    facts: list[Fact] = []
    if happens == "the lease runs out":
        plane.pass_time(LEASE - 1.0)
        plane.now = Now(plane.now.wall + 2.0, plane.now.monotonic + 2.0)
    else:
        facts = [registration(ONE, slots=1, claims=[(job.id, job.token)])]
    dispatcher = plane.dispatcher
    dispatcher.drop(dispatcher.handle_all(facts, Known(), plane.now))
    (session,) = dispatcher.memory.sessions.values()
    assert session.held.keys() == {job.id}
    assert sum(map(sum, session.outstanding)) == 1
    plane.turn(*facts)
    if happens == "the lease runs out":
        assert plane.status(job.id) is TaskStatus.QUEUED
    plane.turn(outcomes(ONE, [job]))
    assert plane.status(job.id) is TaskStatus.SUCCESS
    assert sum(map(sum, session.outstanding)) == 0


def test_both_leases_of_one_job_that_a_subworker_claims_are_judged() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (old,) = assigned(plane.turn(submission(new_ids(1))))
    back = Handbacks(ONE, [old.id], [old.token], [1], "runner_died", "signal 9")
    (new,) = assigned(plane.turn(back))
    claims = [(new.id, new.token), (old.id, old.token)]
    commands = plane.turn(registration(ONE, slots=1, claims=claims))
    (answer,) = only(commands, AnswerRegistration)
    assert answer.stale == [old.token]
    assert not assigned(commands)


def test_claim_revives_a_lease_that_expired_and_was_not_handed_out_again() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    plane.pass_time(LEASE + 1.0)
    assert plane.status(job.id) is TaskStatus.QUEUED
    commands = plane.turn(registration(ONE, slots=1, claims=[(job.id, job.token)]))
    assert only(commands, AnswerRegistration)[0].stale == []
    assert assigned(commands) == [], "handed out again beside itself"
    assert plane.status(job.id) is TaskStatus.RUNNING
    plane.turn(outcomes(ONE, [job]))
    assert plane.status(job.id) is TaskStatus.SUCCESS


def test_claim_does_not_revive_what_was_given_back() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    back = Handbacks(ONE, [job.id], [job.token], [1], "runner_died", "signal 9")
    assert assigned(plane.turn(CapacityChange(ONE, (0, 0), (0, 0)), back)) == []
    again = registration(ONE, slots=0, claims=[(job.id, job.token)])
    commands = plane.turn(again, back)
    assert only(commands, AnswerRegistration)[0].stale == [job.token]
    stored = plane.dispatcher.job(job.id)
    assert stored is not None
    assert (stored.status, stored.deaths) == (TaskStatus.QUEUED, 1), "one death counted twice"


def test_repeated_handback_does_not_touch_a_newer_lease() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (job,) = assigned(plane.turn(submission(new_ids(1))))
    back = Handbacks(ONE, [job.id], [job.token], [1], "runner_died", "signal 9")
    (again,) = assigned(plane.turn(back))
    plane.turn(back)
    assert plane.dispatcher.memory.sessions[ONE].held.keys() == {job.id}
    plane.turn(outcomes(ONE, [again]))
    assert plane.status(job.id) is TaskStatus.SUCCESS


def test_lost_assignment_is_noticed_though_an_older_token_is_claimed() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=1))
    (old,) = assigned(plane.turn(submission(new_ids(1))))
    back = Handbacks(ONE, [old.id], [old.token], [1], "runner_died", "signal 9")
    (lost,) = assigned(plane.turn(back))
    commands = plane.turn(registration(ONE, slots=1, claims=[(old.id, old.token)]))
    (answer,) = only(commands, AnswerRegistration)
    assert answer.stale == [old.token]
    (again,) = assigned(commands)
    assert again.token > lost.token


def test_long_jobs_are_not_sent_ahead_and_short_ones_are() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=10, prefetch=40))
    ids = new_ids(3000)
    sent = assigned(plane.turn(submission(ids)))
    for _ in range(10):
        report = outcomes(ONE, sent)
        report.finished_at = [at + 10.0 for at in report.finished_at]
        sent = assigned(plane.turn(report))
    assert len(plane.dispatcher.memory.sessions[ONE].held) == 10
    for _ in range(20):
        sent = assigned(plane.turn(outcomes(ONE, sent)))
        if len(plane.dispatcher.memory.sessions[ONE].held) == 50:
            return
    raise AssertionError("short jobs were never sent ahead")


def test_backlog_in_the_store_is_fetched_at_once_when_a_subworker_comes() -> None:
    plane = Plane()
    ids = new_ids(10)
    plane.turn(submission(ids))
    plane = plane.restart()
    plane.turn(registration(ONE, slots=3))
    assert plane.dispatcher.next_wakeup()[0] <= plane.now.monotonic
    assert [job.id for job in assigned(plane.turn())] == ids[:3]
    assert plane.dispatcher.next_wakeup()[0] > plane.now.monotonic


def test_lanes_of_one_priority_share_the_room_of_a_subworker() -> None:
    plane = Plane()
    plane.turn(submission(new_ids(5)), submission(new_ids(5), task="other"))
    sent = assigned(plane.turn(registration(ONE, slots=4, tasks=("add", "other"))))
    assert len(sent) == 4
