"""Cancelling: a job that has not started never starts; one that runs is told to stop.

What becomes of a running one is told once it has ended, or once it has not within its grace. It is
not started again either way.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastworker.core import families
from fastworker.core.commands import AcknowledgeOutcomes, SettleCancel, WithdrawJobs
from fastworker.core.endings import end_job
from fastworker.core.facts import CancelRequest, Unwindings, Withdrawals
from fastworker.core.memory import Draft
from fastworker.core.outcomes import holds
from fastworker.core.pending import PendingCancel
from fastworker.core.questions import Known
from fastworker.core.records import JobRow, Now, TaskStatus
from fastworker.core.sight import is_hidden
from fastworker.core.submissions import recorded_end


def cancel_jobs(draft: Draft, fact: CancelRequest, known: Known, now: Now) -> None:
    """Settle every id at once, or ask the subworker that holds it."""
    leased: list[JobRow] = []
    for index, job_id in enumerate(fact.ids):
        if is_hidden(draft, job_id, known, fact.tenant):
            _settle_unknown(draft, fact, index, now)
            continue
        job = draft.job(job_id)
        beyond_window = False
        if job is None:
            stored = known.jobs.get(job_id)
            job = draft.changed.get(job_id)
            if job is None and stored is not None and not stored.finish:
                job = stored.row
            beyond_window = job is not None and job.status is TaskStatus.QUEUED
        if job is None or job_id in draft.finished:
            _settle_ended(draft, fact, index, known, now)
        elif job.status is TaskStatus.RUNNING:
            if fact.follows and draft.pending_cancel(job_id) is not None:
                continue
            _note_pending(draft, fact, index, job)
            families.cancel_children(draft, job_id, fact.reason or "cancelled", fact.grace)
            leased.append(job)
        else:
            if beyond_window:
                draft.lane_of(job).forget_stored()
            end_job(draft, job, TaskStatus.CANCELLED, now, reason=fact.reason or "cancelled")
            draft.commands.append(SettleCancel(fact, index, "cancelled"))
    withdraw(draft, leased)


def _settle_ended(draft: Draft, fact: CancelRequest, index: int, known: Known, now: Now) -> None:
    job_id = fact.ids[index]
    if recorded_end(draft, job_id, known) is not None or job_id in known.jobs:
        draft.commands.append(SettleCancel(fact, index, "finished_first"))
    else:
        _settle_unknown(draft, fact, index, now)


def _settle_unknown(draft: Draft, fact: CancelRequest, index: int, now: Now) -> None:
    """For the one who asks there is no such job. If there will be, it is cancelled at once."""
    if fact.follows:
        return
    reason = fact.reason or "cancelled"
    draft.memory.early_cancels.note(fact.tenant, fact.ids[index], reason, now=now.monotonic)
    draft.commands.append(SettleCancel(fact, index, "unknown"))


def _note_pending(draft: Draft, fact: CancelRequest, index: int, job: JobRow) -> None:
    pending = draft.pending_cancel(job.id)
    if pending is None:
        reason = fact.reason or "cancelled"
        pending = draft.memory.cancels[job.id] = PendingCancel(reason, fact.grace)
    pending.grace = fact.grace
    if not any(waiting == (fact, index) for waiting in pending.waiting):
        pending.waiting.append((fact, index))


def withdraw(draft: Draft, jobs: Iterable[JobRow]) -> None:
    """Ask the subworkers that hold these jobs to have the cancelled ones among them stop.

    One that is not connected is asked when it comes back.
    """
    asked: dict[tuple[bytes, float | None, str], WithdrawJobs] = {}
    for job in jobs:
        pending = draft.pending_cancel(job.id)
        if pending is None or job.session is None:
            continue
        grace = job.options.grace if pending.grace is None else pending.grace
        alike = job.session, grace, pending.reason
        command = asked.get(alike)
        if command is None:
            command = asked[alike] = WithdrawJobs(job.session, [], [], grace, pending.reason)
        command.ids.append(job.id)
        command.tokens.append(job.token)
    draft.commands.extend(asked.values())


def settle_withdrawals(draft: Draft, fact: Withdrawals, now: Now) -> None:
    """A subworker has answered: what it took never starts; the rest has been told to stop."""
    session = draft.memory.sessions.get(fact.session)
    given: list[int] = []
    for index, job_id in enumerate(fact.ids):
        if not fact.taken[index]:
            continue
        given.append(fact.tokens[index])
        job = _running(draft, job_id, fact.tokens[index], fact.session)
        if job is None:
            continue
        if session is not None:
            draft.release(session, job_id)
        pending = draft.pending_cancel(job_id)
        reason = pending.reason if pending is not None else "cancelled"
        end_job(draft, job, TaskStatus.CANCELLED, now, reason=reason)
    if given:
        draft.commands.append(AcknowledgeOutcomes(fact.session, given, []))


def settle_unwindings(draft: Draft, fact: Unwindings) -> None:
    """Who waits is told where these are. The cancel stands, lest they are started again."""
    for index, job_id in enumerate(fact.ids):
        pending = draft.pending_cancel(job_id)
        job = _running(draft, job_id, fact.tokens[index], fact.session)
        if pending is not None and job is not None:
            stack = fact.stacks[index] or None
            draft.answer_cancel(job_id, pending, "unwinding", stack=stack)


def _running(draft: Draft, job_id: bytes, token: int, session: bytes) -> JobRow | None:
    job = draft.job(job_id)
    if job is None or job.status is not TaskStatus.RUNNING or not holds(job, token, session):
        return None
    return job
