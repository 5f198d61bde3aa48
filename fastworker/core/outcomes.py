"""Ends of attempts: outcomes, leases given back, leases that ran out."""

from __future__ import annotations

from fastworker.core.commands import AcknowledgeOutcomes
from fastworker.core.endings import end_job
from fastworker.core.facts import Handbacks, Outcomes, Starts
from fastworker.core.memory import Draft
from fastworker.core.questions import Known
from fastworker.core.records import Failure, JobRow, Now, TaskStatus
from fastworker.core.sessions import Session
from fastworker.core.submissions import recorded_end

RETURNED_UNCOUNTED = frozenset({"drain", "unsent"})
"""Reasons for which a lease does not count as an attempt: nothing is wrong with the job."""


def record_outcomes(draft: Draft, fact: Outcomes, known: Known, now: Now) -> None:
    """Record the outcome of every attempt that still holds its job; refuse the others."""
    session = draft.memory.sessions.get(fact.session)
    answer = AcknowledgeOutcomes(fact.session, list(fact.tokens), [])
    pools: set[int] = set()
    for index, job_id in enumerate(fact.ids):
        token = fact.tokens[index]
        job = draft.job(job_id)
        if job is None and (stored := known.jobs.get(job_id)) is not None and not stored.finish:
            job = stored.row
        if job is None or not holds(job, token, fact.session) or job_id in draft.finished:
            ended = recorded_end(draft, job_id, known)
            if ended is None or ended.token != token:
                answer.stale.append(token)
            continue
        if job.status is TaskStatus.QUEUED and draft.job(job_id) is None:
            # Its lease ran out and it waits beyond the window, not handed out again: revived.
            draft.lane_of(job).forget_stored()
        if session is not None:
            if (entry := session.held.get(job_id)) is not None:
                pools.add(entry[0])
            draft.release(session, job_id)
        end_job(
            draft,
            job,
            fact.statuses[index],
            now,
            value=fact.values[index],
            failure=fact.failures.get(index),
            started_at=fact.started_at[index],
            finished_at=fact.finished_at[index],
        )
    draft.commands.append(answer)
    if session is not None:
        _learn_run_times(session, fact, pools)


def holds(job: JobRow, token: int, session: bytes) -> bool:
    """Whether a subworker speaks for this attempt: tokens are numbers, which anybody can guess.

    A job that waits again after its lease ran out has no holder; whoever had it last knows both.
    """
    return job.token == token and job.session in (None, session)


def _learn_run_times(session: Session, fact: Outcomes, pools: set[int]) -> None:
    """Batches of one kind of jobs teach how long they run; mixed ones would mislead."""
    if len(pools) != 1:
        return
    times = [
        max(0.0, finished - started)
        for started, finished in zip(fact.started_at, fact.finished_at, strict=True)
        if started is not None
    ]
    if times:
        session.note_run_times(pools.pop(), sum(times) / len(times))


def note_starts(draft: Draft, fact: Starts) -> None:
    """Write down when long attempts really started."""
    for index, job_id in enumerate(fact.ids):
        job = draft.job(job_id)
        if (
            job is not None
            and job.status is TaskStatus.RUNNING
            and holds(job, fact.tokens[index], fact.session)
        ):
            draft.move(job, job._replace(started_at=fact.started_at[index]), keep=True)


def take_back(draft: Draft, fact: Handbacks, now: Now) -> None:
    """Leases a subworker gives up: its runner died, or it drains. Acknowledged once stored."""
    draft.commands.append(AcknowledgeOutcomes(fact.session, list(fact.tokens), []))
    session = draft.memory.sessions.get(fact.session)
    for index, job_id in enumerate(fact.ids):
        job = draft.job(job_id)
        if (
            job is None
            or job.status is not TaskStatus.RUNNING
            or not holds(job, fact.tokens[index], fact.session)
        ):
            # Said again after a reconnection; a newer lease on the same job is not touched.
            continue
        if session is not None:
            draft.release(session, job_id)
        started = bool(fact.started[index])
        requeue(draft, job, now, reason=fact.reason, started=started, detail=fact.detail)


def requeue(
    draft: Draft, job: JobRow, now: Now, *, reason: str, started: bool, detail: str = ""
) -> None:
    """A leased job without an outcome waits again at its old place, or ends if it must not.

    Args:
        reason: ``runner_died``, ``drain``, ``lease_expired`` or ``unsent``.
        started: its code had started, or may have.
    """
    pending = draft.memory.cancels.get(job.id)
    if pending is not None:
        end_job(draft, job, TaskStatus.CANCELLED, now, reason=pending.reason)
        return
    if started and job.options.on_lost == "fail":
        message = "its executor was lost, and it asked never to be started twice"
        failure = Failure("JobDead", f"{message} ({reason} {detail})".rstrip(), "", "lost")
        end_job(draft, job, TaskStatus.DEAD, now, failure=failure)
        return
    if job.expires_at is not None and job.expires_at <= now.wall:
        end_job(draft, job, TaskStatus.EXPIRED, now, reason="its deadline passed")
        return
    counted = reason not in RETURNED_UNCOUNTED
    waiting = job._replace(
        status=TaskStatus.QUEUED,
        # Its first place: it has waited longest, and its key is older than any later position.
        position=job.key,
        due_at=job.expires_at,
        session=None,
        attempts=job.attempts if counted else job.attempts - 1,
        deaths=job.deaths + (1 if started and reason == "runner_died" else 0),
        started_at=None,
    )
    kept = draft.lane_of(job).give_back(waiting)
    draft.move(job, waiting, keep=kept)
    if waiting.due_at is not None and (
        draft.next_due_at is None or waiting.due_at < draft.next_due_at
    ):
        draft.next_due_at = waiting.due_at
