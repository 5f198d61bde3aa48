"""The end of a job: its last row, what is kept of it, and who is told."""

from __future__ import annotations

from fastworker.core import families
from fastworker.core.commands import AnnounceEnded, Command
from fastworker.core.memory import Draft
from fastworker.core.records import CallbackRow, Failure, FinishRow, JobRow, Now, TaskStatus

_QUEUED = TaskStatus.QUEUED
_KEEPS_ARGUMENTS = frozenset({TaskStatus.FAILURE, TaskStatus.DEAD})


def end_job(
    draft: Draft,
    job: JobRow,
    status: TaskStatus,
    now: Now,
    *,
    reason: str = "",
    value: bytes | None = None,
    failure: Failure | None = None,
    started_at: float | None = None,
    finished_at: float | None = None,
) -> None:
    """Stage the end of a job and its announcement; waiting cancels are settled."""
    if failure is None and status is not TaskStatus.SUCCESS:
        failure = Failure("", reason, "", reason)
    row = FinishRow(
        job.key,
        job.id,
        status,
        job.token,
        job.attempts,
        started_at if started_at is not None else job.started_at,
        now.wall if finished_at is None else finished_at,
        value,
        failure,
        status in _KEEPS_ARGUMENTS,
        job.lane,
    )
    options = job.options
    if job.status is _QUEUED:
        draft.lanes_with_ends.add(job.lane)
    draft.finish(job, row if options.keep_result else row._replace(value=None))
    announce(draft.commands, row)
    if families.belongs(options):
        draft.saves.left_family.append(job.key)
    if options.callback is not None:
        draft.saves.callbacks.append(
            CallbackRow(
                # The job's own id: one delivery per job, the same however often it is repeated.
                delivery=job.id,
                job_id=job.id,
                job_key=job.key,
                address=options.callback,
                token_id=options.callback_token or "",
                data=options.callback_data,
                made_at=now.wall,
                next_attempt_at=now.wall,
                attempts=0,
                tenant=draft.lane_of(job).lane.key.tenant,
            )
        )
    pending = draft.pending_cancel(job.id)
    if pending is not None:
        outcome = "cancelled" if status is TaskStatus.CANCELLED else "finished_first"
        draft.answer_cancel(job.id, pending, outcome)
        draft.settled_cancels[job.id] = pending
    if status is TaskStatus.CANCELLED:
        # Again, if it ran: it may have submitted more since it was asked to stop.
        grace = None if pending is None else pending.grace
        families.cancel_children(draft, job.id, reason, grace)


def announce(commands: list[Command], row: FinishRow) -> None:
    """Add one ended job to the announcement of this turn."""
    if commands and isinstance(commands[-1], AnnounceEnded):
        commands[-1].finishes.append(row)
    else:
        commands.append(AnnounceEnded([row]))
