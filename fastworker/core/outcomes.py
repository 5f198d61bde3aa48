"""What subworkers report of attempts: outcomes, starts, leases given back."""

from __future__ import annotations

from fastworker.core.commands import AcknowledgeOutcomes
from fastworker.core.endings import end_job
from fastworker.core.facts import Handbacks, Outcomes, Starts
from fastworker.core.memory import Draft
from fastworker.core.questions import Known
from fastworker.core.records import PROCESS_POOL, JobRow, Now, TaskStatus
from fastworker.core.returns import requeue, retry
from fastworker.core.sessions import Session
from fastworker.core.submissions import recorded_end


def record_outcomes(draft: Draft, fact: Outcomes, known: Known, now: Now) -> None:
    """Record the outcome of every attempt that still holds its job; refuse the others.

    A failure that its task's policy wants to repeat is no end: nobody is told.
    """
    session = draft.memory.sessions.get(fact.session)
    answer = AcknowledgeOutcomes(fact.session, list(fact.tokens), [])
    pools: set[int] = set()
    retries = fact.retries
    for index, job_id in enumerate(fact.ids):
        token = fact.tokens[index]
        job = draft.job(job_id)
        if job is None:
            # Not in memory: sent out of it in this very turn, or known to the store alone.
            job = draft.changed.get(job_id)
            stored = known.jobs.get(job_id)
            if job is None and stored is not None and not stored.finish:
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
        if retries and index in retries and retry(draft, job, fact, index, now):
            continue
        cancel = draft.pending_cancel(job_id)
        end_job(
            draft,
            job,
            fact.statuses[index],
            now,
            reason="cancelled" if cancel is None else cancel.reason,
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
    No attempt has token 0.
    """
    return job.token == token != 0 and job.session in (None, session)


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
        entry = None
        if session is not None:
            entry = session.held.get(job_id)
            draft.release(session, job_id)
        requeue(
            *(draft, job, now),
            reason=fact.reason,
            started=bool(fact.started[index]),
            detail=fact.detail,
            has_process=entry is not None and entry[0] == PROCESS_POOL,
        )
