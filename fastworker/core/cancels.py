"""Cancelling: a job that has not started, once cancelled, never starts."""

from __future__ import annotations

from typing import Final

from fastworker.core.commands import AcknowledgeOutcomes, Command, SettleCancel, WithdrawJobs
from fastworker.core.endings import end_job
from fastworker.core.facts import CancelRequest, Withdrawals
from fastworker.core.memory import Draft, PendingCancel
from fastworker.core.outcomes import holds
from fastworker.core.questions import Known
from fastworker.core.records import JobRow, Now, TaskStatus
from fastworker.core.submissions import recorded_end

EARLY_CANCEL_SECONDS: Final = 60.0
"""How long a cancel waits for the submission it has overtaken."""

EARLY_CANCELS: Final = 10_000
"""How many of them; the oldest are forgotten first."""


def cancel_jobs(draft: Draft, fact: CancelRequest, known: Known, now: Now) -> None:
    """Settle every id at once, or ask the subworker that holds it."""
    withdrawals: dict[bytes, WithdrawJobs] = {}
    for index, job_id in enumerate(fact.ids):
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
            _ask_holder(draft, fact, index, job, withdrawals)
        else:
            if beyond_window:
                draft.lane_of(job).forget_stored()
            end_job(draft, job, TaskStatus.CANCELLED, now, reason=fact.reason or "cancelled")
            draft.commands.append(SettleCancel(fact, index, "cancelled"))
    draft.commands.extend(withdrawals.values())


def _settle_ended(draft: Draft, fact: CancelRequest, index: int, known: Known, now: Now) -> None:
    job_id = fact.ids[index]
    if recorded_end(draft, job_id, known) is not None or job_id in known.jobs:
        draft.commands.append(SettleCancel(fact, index, "finished_first"))
        return
    early = draft.memory.early_cancels
    early[job_id] = (now.monotonic + EARLY_CANCEL_SECONDS, fact.reason or "cancelled")
    while early and (len(early) > EARLY_CANCELS or next(iter(early.values()))[0] < now.monotonic):
        early.popitem(last=False)
    draft.commands.append(SettleCancel(fact, index, "unknown"))


def _ask_holder(
    draft: Draft,
    fact: CancelRequest,
    index: int,
    job: JobRow,
    withdrawals: dict[bytes, WithdrawJobs],
) -> None:
    pending = draft.pending_cancel(job.id)
    if pending is None:
        pending = draft.memory.cancels[job.id] = PendingCancel(fact.reason or "cancelled")
    if not any(waiting == (fact, index) for waiting in pending.waiting):
        pending.waiting.append((fact, index))
    if job.session is not None:
        asked = withdrawals.setdefault(job.session, WithdrawJobs(job.session, [], []))
        asked.ids.append(job.id)
        asked.tokens.append(job.token)


def settle_withdrawals(draft: Draft, fact: Withdrawals, now: Now) -> None:
    """A subworker has answered: the job never starts, or it had started and goes on."""
    session = draft.memory.sessions.get(fact.session)
    settled: list[Command] = []
    for index, job_id in enumerate(fact.ids):
        pending = draft.pending_cancel(job_id)
        job = draft.job(job_id)
        if (
            job is None
            or job.status is not TaskStatus.RUNNING
            or not holds(job, fact.tokens[index], fact.session)
        ):
            continue
        if fact.taken[index]:
            if session is not None:
                draft.release(session, job_id)
            reason = pending.reason if pending is not None else "cancelled"
            end_job(draft, job, TaskStatus.CANCELLED, now, reason=reason)
        elif pending is not None:
            settled += [
                SettleCancel(request, number, "running") for request, number in pending.waiting
            ]
            draft.settled_cancels[job_id] = pending
    draft.commands.extend(settled)
    given = [token for token, taken in zip(fact.tokens, fact.taken, strict=True) if taken]
    if given:
        draft.commands.append(AcknowledgeOutcomes(fact.session, given, []))
