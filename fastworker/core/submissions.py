"""Accepting jobs: new ones, repeated ones, scheduled ones, and those that come too late."""

from __future__ import annotations

from fastworker.core.commands import AnswerSubmission, Refusal
from fastworker.core.endings import end_job
from fastworker.core.facts import Spec, Submission
from fastworker.core.lanes import LaneDraft
from fastworker.core.memory import Draft
from fastworker.core.questions import Known
from fastworker.core.records import FinishRow, JobRow, LaneKey, Now, TaskStatus

_QUEUED = TaskStatus.QUEUED
_SCHEDULED = TaskStatus.SCHEDULED


def accept_submission(draft: Draft, fact: Submission, known: Known, now: Now) -> None:
    """Stage every job of a submission and the answer to it."""
    answer = AnswerSubmission(fact)
    draft.commands.append(answer)
    if fact.atomic and _refuse_whole(draft, answer, known):
        return
    lanes = [_lane_for(draft, spec, fact.tenant) for spec in fact.specs]
    which, ready_at, expires_at = fact.which, fact.ready_at, fact.expires_at
    for index, job_id in enumerate(fact.ids):
        choice = 0 if which is None else which[index]
        if _is_repeat(draft, job_id, known):
            _answer_repeat(draft, answer, index, fact.specs[choice], known)
            continue
        _accept_new(
            draft,
            lanes[choice],
            fact.specs[choice],
            job_id,
            fact.payloads[index],
            None if ready_at is None else ready_at[index],
            None if expires_at is None else expires_at[index],
            now,
        )


def _refuse_whole(draft: Draft, answer: AnswerSubmission, known: Known) -> bool:
    """Whether one job of a group cannot be accepted, so that none is."""
    fact = answer.fact
    for index, job_id in enumerate(fact.ids):
        spec = fact.specs[0 if fact.which is None else fact.which[index]]
        if _is_repeat(draft, job_id, known):
            _answer_repeat(draft, answer, index, spec, known)
    if not answer.refused:
        answer.ended.clear()
        return False
    bad = answer.refused[0]
    answer.ended.clear()
    answer.refused = [
        Refusal(index, bad.code, f"job {bad.index} of the group: {bad.message}")
        for index in range(len(fact.ids))
    ]
    return True


def _lane_for(draft: Draft, spec: Spec, tenant: str) -> LaneDraft:
    return draft.lane(LaneKey(tenant, spec.queue, spec.priority, spec.task))


def _is_repeat(draft: Draft, job_id: bytes, known: Known) -> bool:
    return (
        job_id in draft.inserted
        or draft.job(job_id) is not None
        # What this very turn has ended, or sent out of memory, was not asked of the store.
        or job_id in draft.finished
        or job_id in draft.changed
        or job_id in known.jobs
        or draft.memory.recent.get(job_id) is not None
    )


def _answer_repeat(
    draft: Draft, answer: AnswerSubmission, index: int, spec: Spec, known: Known
) -> None:
    """A repeat is accepted again, harmlessly, unless the id belongs to another task."""
    job_id = answer.fact.ids[index]
    ended = draft.finished.get(job_id) or draft.memory.recent.get(job_id)
    row = draft.inserted.get(job_id) or draft.job(job_id) or draft.changed.get(job_id)
    stored = known.jobs.get(job_id)
    if stored is not None:
        row, ended = row or stored.row, ended or stored.finish
    lane = row.lane if row is not None else ended.lane if ended is not None else 0
    if lane and draft.lane_numbered(lane).lane.key.task != spec.task:
        answer.refused.append(
            Refusal(
                index,
                "conflict",
                "this task_id belongs to a job of another task; "
                "leave task_id out to have a new one made",
            )
        )
    elif ended is not None and answer.fact.watch:
        answer.ended.append(ended)


def _accept_new(
    draft: Draft,
    lane: LaneDraft,
    spec: Spec,
    job_id: bytes,
    payload: bytes,
    ready_at: float | None,
    expires_at: float | None,
    now: Now,
) -> None:
    key = draft.new_key()
    scheduled = ready_at is not None and ready_at > now.wall
    due_at = expires_at
    if scheduled and (expires_at is None or ready_at < expires_at):  # type: ignore[operator]
        due_at = ready_at
    job = JobRow(
        key,
        job_id,
        lane.lane.number,
        _SCHEDULED if scheduled else _QUEUED,
        None if scheduled else key,
        ready_at,
        expires_at,
        due_at,
        now.wall,
        0,
        None,
        0,
        0,
        None,
        spec.options,
        payload,
    )
    draft.insert(job)
    early = draft.memory.early_cancels.pop(job_id, None)
    if early is not None:
        end_job(draft, job, TaskStatus.CANCELLED, now, reason=early[1])
    elif expires_at is not None and expires_at <= now.wall:
        end_job(draft, job, TaskStatus.EXPIRED, now, reason="its deadline had passed")
    elif scheduled:
        note_due(draft, due_at)
    elif lane.has_room:
        kept = draft.window_row(job)
        draft.load(kept)
        lane.add(kept)
        note_due(draft, due_at)
    else:
        lane.leave_in_store()
        note_due(draft, due_at)


def note_due(draft: Draft, due_at: float | None) -> None:
    """Wake up no later than this moment."""
    if due_at is not None and (draft.next_due_at is None or due_at < draft.next_due_at):
        draft.next_due_at = due_at


def release_due(draft: Draft, known: Known, now: Now) -> None:
    """Jobs whose time has come: scheduled ones become ready, late ones expire."""
    for stored in known.due:
        job = draft.job(stored.id) or stored
        if stored.id in draft.finished or job.status not in (_SCHEDULED, _QUEUED):
            continue
        if job.expires_at is not None and job.expires_at <= now.wall:
            if job.status is _QUEUED and draft.job(job.id) is None:
                draft.lane_of(job).forget_stored()
            end_job(draft, job, TaskStatus.EXPIRED, now, reason="its deadline passed")
        elif job.status is _SCHEDULED:
            make_ready(draft, job, draft.new_key())
    draft.next_due_at = known.next_due_at


def make_ready(draft: Draft, job: JobRow, position: int) -> None:
    """A job that is now ready, at the end of its lane."""
    ready = job._replace(status=_QUEUED, position=position, due_at=job.expires_at)
    lane = draft.lane_of(job)
    if lane.has_room:
        kept = draft.window_row(ready)
        draft.move(job, kept, keep=True)
        lane.add(kept)
    else:
        draft.move(job, ready, keep=False)
        lane.leave_in_store()
    note_due(draft, ready.due_at)


def recorded_end(draft: Draft, job_id: bytes, known: Known) -> FinishRow | None:
    """How a job ended, if it has: from this turn, from memory, or from the store's answer."""
    row = draft.finished.get(job_id) or draft.memory.recent.get(job_id)
    if row is None and (stored := known.jobs.get(job_id)) is not None:
        row = stored.finish
    return row
