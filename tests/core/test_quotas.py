"""Quotas: what waits is bounded in all and for each tenant, and so is how fast it comes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker.core.admissions import Admissions, Bucket, burst, take
from fastworker.core.commands import AnswerSubmission, Refusal
from fastworker.core.facts import CancelRequest, Retry, Submission
from fastworker.core.records import BacklogRow, TaskStatus
from fastworker.core.tenants import TenantLimits, Tenants
from tests.core.harness import (
    Plane,
    assigned,
    new_ids,
    only,
    outcomes,
    registration,
    runner_death,
    submission,
)

ONE = b"worker-one"
ARGUMENTS = len(b"arguments")


def limited(**limits: float) -> Plane:
    """A control plane whose tenant ``acme`` has limits, and others have none."""
    return Plane(tenants=Tenants({"acme": TenantLimits(**limits)}))  # type: ignore[arg-type]


def of(tenant: str, fact: Submission) -> Submission:
    fact.tenant = tenant
    return fact


def jobs(
    count: int, *, tenant: str = "acme", size: int = ARGUMENTS, atomic: bool = False
) -> Submission:
    fact = of(tenant, submission(new_ids(count), atomic=atomic))
    fact.payloads = [bytes(size)] * count
    return fact


def refused(plane: Plane, fact: Submission, seconds: float = 0.0) -> list[Refusal]:
    (answer,) = only(plane.turn(fact, seconds=seconds), AnswerSubmission)
    return answer.refused


def indices(refusals: Sequence[Refusal]) -> list[int]:
    return [refusal.index for refusal in refusals]


def backlog(plane: Plane, tenant: str = "acme") -> tuple[int, int]:
    row = plane.dispatcher.memory.backlogs.of(tenant)
    assert row in (*plane.store.load().backlogs, BacklogRow(tenant, 0, 0))
    return row.jobs, row.size


# --- queued jobs and bytes -----------------------------------------------------------------


def test_a_tenant_has_so_many_jobs_waiting_and_others_as_many_as_they_like() -> None:
    plane = limited(max_queued_jobs=3)
    assert refused(plane, jobs(2)) == []
    (no, *more) = refused(plane, jobs(3))
    assert (no.index, no.code, no.retry_after) == (1, "overloaded", 1.0)
    assert no.message == (
        "3 jobs of tenant 'acme' wait already and it may have 3; "
        "wait, or have its max-queued-jobs raised (--tenants)"
    )
    assert indices(more) == [2]
    assert refused(plane, jobs(10, tenant="other")) == []
    assert (backlog(plane), backlog(plane, "other")) == ((3, 27), (10, 90))


def test_the_bytes_of_its_arguments_are_bounded_and_nothing_overtakes() -> None:
    plane = limited(max_queued_bytes=100)
    fact = jobs(4, size=40)
    fact.payloads = [bytes(40), bytes(40), bytes(40), bytes(1)]
    refusals = refused(plane, fact)
    # The small one would fit, but it was submitted later.
    assert indices(refusals) == [2, 3]
    assert "80 bytes of arguments of tenant 'acme' wait already and it may have 100" in str(
        refusals[0].message
    )
    assert refused(plane, jobs(1, size=20)) == []
    assert backlog(plane) == (3, 100)


def test_an_id_that_comes_twice_is_weighed_as_what_is_stored() -> None:
    plane = limited(max_queued_bytes=100)
    fact = jobs(2)
    fact.ids = [fact.ids[0]] * 2
    fact.payloads = [bytes(101), b""]
    assert indices(refused(plane, fact)) == [0, 1]
    assert backlog(plane) == (0, 0)


def test_what_never_fits_is_refused_for_good() -> None:
    plane = limited(max_queued_bytes=100, max_queued_jobs=5)
    (no,) = refused(plane, jobs(1, size=101))
    assert (no.code, no.retry_after) == ("rejected", 0.0)
    assert "these are 101 bytes of arguments, and tenant 'acme' may let 100 wait" in no.message
    group = refused(plane, jobs(6, size=1, atomic=True))
    assert {no.code for no in group} == {"rejected"} and len(group) == 6
    # It stands in nobody's way.
    assert refused(plane, jobs(5, size=20)) == []


def test_bytes_are_bounded_in_all() -> None:
    plane = Plane()
    plane.dispatcher.memory.max_queued_bytes = 100
    assert refused(plane, jobs(2, tenant="a", size=40)) == []
    (no,) = refused(plane, jobs(1, tenant="b", size=40))
    assert "80 bytes of arguments wait already and this control plane takes 100" in no.message
    assert "--max-queued-bytes" in no.message and "'a'" not in no.message


def test_a_group_is_accepted_or_refused_as_a_whole() -> None:
    plane = limited(max_queued_jobs=5)
    refused(plane, jobs(3))
    group = refused(plane, jobs(3, atomic=True))
    assert indices(group) == [0, 1, 2] and {no.code for no in group} == {"overloaded"}
    assert backlog(plane) == (3, 27)
    assert refused(plane, jobs(2, atomic=True)) == []


def test_several_submissions_of_one_turn_share_the_room() -> None:
    plane = limited(max_queued_jobs=3)
    facts = [jobs(2), jobs(2, tenant="other"), jobs(2)]
    answers = only(plane.turn(*facts), AnswerSubmission)
    assert [indices(answer.refused) for answer in answers] == [[], [], [1]]


def test_a_repeat_is_accepted_although_the_quota_is_full() -> None:
    plane = limited(max_queued_jobs=2, max_submissions_per_second=2)
    fact = of("acme", submission(new_ids(2)))
    assert refused(plane, fact) == []
    again = of("acme", submission([*fact.ids, *new_ids(1)], first_try=True))
    assert indices(refused(plane, again)) == [2]
    plane = plane.restart()
    assert refused(plane, of("acme", submission(fact.ids, first_try=True))) == []


def test_a_key_is_answered_although_the_quota_is_full_and_a_refused_job_holds_none() -> None:
    plane = limited(max_queued_jobs=1)
    held = of("acme", submission(new_ids(1)))
    held.keys = ["held"]
    assert refused(plane, held) == []
    fact = of("acme", submission(new_ids(4)))
    fact.keys = ["held", "new", "new", None]
    (answer,) = only(plane.turn(fact), AnswerSubmission)
    assert answer.existing == [(0, held.ids[0])]
    # The third would have got the job of the second, which there is not.
    assert sorted(indices(answer.refused)) == [1, 2, 3]
    plane.turn(CancelRequest(None, held.ids, ""))
    retried = of("acme", submission(fact.ids[2:3]))
    retried.keys = ["new"]
    (answer,) = only(plane.turn(retried), AnswerSubmission)
    assert (answer.refused, answer.existing) == ([], [])


def test_jobs_that_come_back_are_counted_and_never_refused() -> None:
    plane = limited(max_queued_jobs=2)
    plane.turn(registration(ONE, slots=2))
    plane.turn(jobs(2))
    assert backlog(plane) == (0, 0)
    first, second = list(plane.dispatcher.memory.jobs.values())
    assert refused(plane, jobs(2)) == []
    assert backlog(plane) == (2, 18)
    # The quota is full, and both return all the same: one put off, one lost with its runner.
    plane.turn(outcomes(ONE, [first], retry=Retry(60.0, True, None)))
    plane.turn(runner_death(ONE, [second]))
    statuses = [plane.status(job.id) for job in (first, second)]
    assert statuses[0] is TaskStatus.SCHEDULED
    waiting = sum(status is not TaskStatus.RUNNING for status in statuses)
    running = sum(job.status is TaskStatus.RUNNING for job in plane.dispatcher.memory.jobs.values())
    assert backlog(plane) == (4 - running, 9 * (4 - running)) and waiting
    assert indices(refused(plane, jobs(1))) == ([0] if running < 3 else [])


@pytest.mark.parametrize("end", ["cancel", "expiry"])
def test_jobs_that_end_while_they_wait_make_room(end: str) -> None:
    plane = limited(max_queued_jobs=2)
    fact = of("acme", submission(new_ids(2), expires_at=1010.0, ready_at=1005.0))
    assert refused(plane, fact) == []
    assert backlog(plane) == (2, 18)
    if end == "cancel":
        plane.turn(CancelRequest(None, fact.ids, ""))
    else:
        plane.turn(seconds=20.0)
    assert backlog(plane) == (0, 0)
    assert refused(plane, jobs(2)) == []


def test_a_restart_counts_nothing_anew_and_knows_all() -> None:
    plane = limited(max_queued_jobs=3)
    plane.turn(jobs(3, size=7))
    plane = plane.restart()
    assert backlog(plane) == (3, 21)
    assert indices(refused(plane, jobs(1))) == [0]
    plane.turn(registration(ONE, slots=2))
    plane.turn()
    assert backlog(plane) == (1, 7)


def test_a_turn_that_is_dropped_has_used_nothing() -> None:
    plane = limited(max_queued_jobs=2, max_submissions_per_second=2)
    fact = jobs(2)
    plane.dispatcher.drop(plane.decide(fact))
    assert backlog(plane) == (0, 0)
    assert refused(plane, fact) == []


def test_jobs_that_are_handed_out_at_once_change_no_backlog() -> None:
    plane = Plane()
    plane.turn(registration(ONE, slots=5))
    staged = plane.decide(jobs(5))
    assert staged.saves.backlogs == []
    assert len(assigned(staged.commands)) == 5


# --- jobs a second -------------------------------------------------------------------------


def test_a_tenant_submits_so_many_jobs_a_second_and_is_told_when_the_next_may_come() -> None:
    plane = limited(max_submissions_per_second=4)
    refusals = refused(plane, jobs(6))
    assert [(no.index, no.code, no.retry_after) for no in refusals] == [
        (4, "overloaded", 0.25),
        (5, "overloaded", 0.5),
    ]
    assert refusals[0].message == (
        "tenant 'acme' may submit 4 jobs a second; "
        "submit more slowly, or have its max-submissions-per-second raised (--tenants)"
    )
    assert refused(plane, jobs(100, tenant="other")) == []
    assert indices(refused(plane, jobs(2), seconds=0.25)) == [1]
    assert refused(plane, jobs(4), seconds=100.0) == []
    assert indices(refused(plane, jobs(1))) == [0]


def test_who_waits_as_long_as_it_was_told_is_accepted() -> None:
    plane = limited(max_submissions_per_second=7)
    assert refused(plane, jobs(7)) == []
    for _ in range(50):
        (no,) = refused(plane, jobs(1))
        assert refused(plane, jobs(1), seconds=no.retry_after) == []


def test_a_group_larger_than_a_seconds_worth_needs_a_full_bucket() -> None:
    plane = limited(max_submissions_per_second=2)
    assert refused(plane, jobs(6, atomic=True)) == []
    # Six at two a second: what is owed is paid before anything else comes in.
    refusals = refused(plane, jobs(3, atomic=True))
    assert {no.retry_after for no in refusals} == {3.0} and len(refusals) == 3
    assert refused(plane, jobs(3, atomic=True), seconds=3.0) == []


def test_a_full_queue_takes_nothing_out_of_the_bucket() -> None:
    plane = limited(max_queued_jobs=1, max_submissions_per_second=2)
    fact = jobs(1)
    refused(plane, fact)
    assert "max-queued-jobs" in refused(plane, jobs(1))[0].message
    plane.turn(CancelRequest(None, fact.ids, ""))
    assert refused(plane, jobs(1)) == []


@given(
    rate=st.floats(0.01, 1000.0),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), max_size=60),
)
def test_a_bucket_never_lets_in_more_than_its_rate(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    bucket: Bucket | None = None
    now, let_in = 100.0, 0
    for seconds, count in steps:
        now += seconds
        for _ in range(count):
            admissions = Admissions()
            told = take(admissions, "acme", bucket, rate, now, 1)
            if told == 0:
                let_in += 1
                bucket = admissions.buckets["acme"]
            else:
                assert 0 < told <= 1 / rate + 1e-3
    assert let_in <= burst(rate) + rate * (now - 100.0) + 1e-3 * (1 + let_in)
