"""Accepting jobs: new ones, repeated ones, scheduled ones, and those that come too late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from fastworker.core import families
from fastworker.core.commands import AnswerSubmission, Refusal
from fastworker.core.deadlines import Deadlines
from fastworker.core.endings import end_job
from fastworker.core.facts import Spec, Submission
from fastworker.core.keys import digest_of
from fastworker.core.lanes import LaneDraft
from fastworker.core.memory import Draft
from fastworker.core.new_lanes import lanes_beyond, refuse_lanes
from fastworker.core.questions import Known, KnownJob, KnownKey
from fastworker.core.quotas import admit
from fastworker.core.records import (
    FinishRow,
    JobOptions,
    JobRow,
    KeyRow,
    LaneKey,
    Now,
    TaskStatus,
)

_QUEUED = TaskStatus.QUEUED
_SCHEDULED = TaskStatus.SCHEDULED

_OTHER_KEY: Final = (
    "this idempotency key belongs to a job with other arguments; "
    "give each piece of work a key of its own"
)
_OTHER_TASK: Final = (
    "this task_id belongs to a job of another task; leave task_id out to have a new one made"
)
_TAKEN: Final = "this task_id cannot be used; leave task_id out to have a new one made"
_OTHER_ARGUMENTS: Final = (
    "this task_id belongs to a job with other arguments; leave task_id out to have a new one made"
)

KeyName: TypeAlias = tuple[str, str, str]
"""An idempotency key with its tenant and task."""


def accept_submission(draft: Draft, fact: Submission, known: Known, now: Now) -> None:
    """Stage every job of a submission and the answer to it."""
    answer = AnswerSubmission(fact)
    draft.commands.append(answer)
    rows: Sequence[int] = range(len(fact.ids))
    claims: dict[KeyName, _Claim] | None = None
    if fact.keys is not None:
        claims = {}
        rows = _find_older(draft, answer, claims, known, now)
    rows = admit(draft, answer, rows, lambda job_id: _is_repeat(draft, job_id, known), now)
    keys = [LaneKey(fact.tenant, spec.queue, spec.priority, spec.task) for spec in fact.specs]
    beyond = lanes_beyond(draft, keys)
    if beyond:
        rows = refuse_lanes(answer, rows, beyond)
    if fact.atomic and _refuse_whole(draft, answer, rows, known):
        return
    if claims and answer.refused:
        _forget_refused_claims(answer, claims)
    lanes = {number: draft.lane(key) for number, key in enumerate(keys) if number not in beyond}
    ids, which, ready_at, expires_at = fact.ids, fact.which, fact.ready_at, fact.expires_at
    deadlines = Deadlines(fact)
    for index in rows:
        job_id = ids[index]
        choice = 0 if which is None else which[index]
        if _is_repeat(draft, job_id, known):
            _answer_repeat(draft, answer, index, fact.specs[choice], known)
            continue
        options = fact.specs[choice].options
        expiry = None if expires_at is None else expires_at[index]
        if not deadlines.are_none:
            options, expiry = deadlines.bound(index, options, expiry)
        _accept_new(
            draft,
            lanes[choice],
            options,
            job_id,
            fact.payloads[index],
            None if ready_at is None else ready_at[index],
            expiry,
            now,
        )
    if claims is not None:
        _give_keys(draft, claims, until=now.wall + fact.key_seconds)
    if fact.replays is not None:
        _note_replays(draft, fact, fact.replays, rows)


def _refuse_whole(
    draft: Draft, answer: AnswerSubmission, rows: Sequence[int], known: Known
) -> bool:
    """Whether one job of a group cannot be accepted, so that none is."""
    fact = answer.fact
    trial = AnswerSubmission(fact, list(answer.refused), existing=list(answer.existing))
    for index in rows:
        if _is_repeat(draft, fact.ids[index], known):
            _answer_repeat(draft, trial, index, _spec_at(fact, index), known)
    if not trial.refused:
        return False
    bad = trial.refused[0]
    everybody = range(len(fact.ids))
    holder = next((held for index, held in trial.existing if index == bad.index), None)
    answer.ended, answer.older = [], []
    answer.existing = [] if holder is None else [(index, holder) for index in everybody]
    answer.refused = [
        Refusal(index, bad.code, f"job {bad.index} of the group: {bad.message}", bad.retry_after)
        for index in everybody
    ]
    return True


def _spec_at(fact: Submission, index: int) -> Spec:
    return fact.specs[0 if fact.which is None else fact.which[index]]


# --- idempotency keys ----------------------------------------------------------------------


def key_names(fact: Submission) -> list[KeyName]:
    """The idempotency keys of a submission, as they are stored."""
    return [
        (fact.tenant, _spec_at(fact, index).task, key)
        for index, key in enumerate(fact.keys or ())
        if key is not None
    ]


class _Claim(NamedTuple):
    """A job of this submission that is to be accepted, and to hold a key."""

    id: bytes
    digest: bytes


def _find_older(
    draft: Draft,
    answer: AnswerSubmission,
    claims: dict[KeyName, _Claim],
    known: Known,
    now: Now,
) -> list[int]:
    """Settle the jobs whose key another one holds; the rows that are left.

    A job that is stored under its own id is a repeat, whatever its key says now.

    Args:
        claims: is given the keys that are free, with the job that is to hold each.
    """
    fact = answer.fact
    left: list[int] = []
    for index, key in enumerate(fact.keys or ()):
        job_id = fact.ids[index]
        if key is None or _is_repeat(draft, job_id, known):
            left.append(index)
            continue
        name = fact.tenant, _spec_at(fact, index).task, key
        digest = digest_of(fact.payloads[index])
        held = _holder(draft, known, name, now)
        claim = claims.get(name) if held is None else _Claim(held.row.id, held.row.digest)
        if claim is None:
            claims[name] = _Claim(job_id, digest)
            left.append(index)
        elif claim.digest != digest:
            answer.existing.append((index, claim.id))
            answer.refused.append(Refusal(index, "conflict", _OTHER_KEY))
        elif claim.id == job_id and held is None:
            left.append(index)  # the same job twice in one submission
        else:
            _answer_older(draft, answer, index, claim.id, held, known)
    return left


def _holder(draft: Draft, known: Known, name: KeyName, now: Now) -> KnownKey | None:
    """A key with the job that holds it; None: it is free."""
    staged = draft.keys.get(name)
    if staged is not None:
        return KnownKey(staged, staged.id in draft.finished)
    stored = known.keys.get(name)
    if stored is None:
        return None
    ended = stored.ended or stored.row.id in draft.finished
    return None if ended and stored.row.until <= now.wall else KnownKey(stored.row, ended)


def _answer_older(
    draft: Draft,
    answer: AnswerSubmission,
    index: int,
    older: bytes,
    held: KnownKey | None,
    known: Known,
) -> None:
    answer.existing.append((index, older))
    if not answer.fact.watch:
        return
    ended = recorded_end(draft, older, known)
    if ended is not None:
        answer.ended.append(ended)
    elif held is None or not held.ended:
        answer.older.append(older)


def _give_keys(draft: Draft, claims: dict[KeyName, _Claim], *, until: float) -> None:
    for name, claim in claims.items():
        job = draft.inserted[claim.id]
        draft.keys[name] = KeyRow(*name, claim.id, job.key, claim.digest, until)


def _forget_refused_claims(answer: AnswerSubmission, claims: dict[KeyName, _Claim]) -> None:
    """A job that is refused holds no key, and whoever would have got it instead is refused, too."""
    fact = answer.fact
    refused = {fact.ids[row.index]: row for row in answer.refused if row.code != "conflict"}
    for name in [name for name, claim in claims.items() if claim.id in refused]:
        del claims[name]
    for row in [row for row in answer.existing if row[1] in refused]:
        answer.existing.remove(row)
        index, holder = row
        if all(index != other.index for other in answer.refused):
            no = refused[holder]
            answer.refused.append(Refusal(index, no.code, no.message, no.retry_after))
    answer.older = [older for older in answer.older if older not in refused]


def _note_replays(
    draft: Draft, fact: Submission, replays: Sequence[int], rows: Sequence[int]
) -> None:
    """A dead letter is replayed where the job that repeats it is new."""
    draft.saves.replays += [
        (replays[index], fact.ids[index]) for index in rows if fact.ids[index] in draft.inserted
    ]


# --- jobs ----------------------------------------------------------------------------------


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
    """A repeat is accepted again, harmlessly, unless the id belongs to another task or call."""
    job_id = answer.fact.ids[index]
    ended = draft.finished.get(job_id) or draft.memory.recent.get(job_id)
    row = draft.inserted.get(job_id) or draft.job(job_id) or draft.changed.get(job_id)
    stored = known.jobs.get(job_id)
    if stored is not None:
        row, ended = row or stored.row, ended or stored.finish
    lane = row.lane if row is not None else ended.lane if ended is not None else 0
    conflict = None
    key = draft.lane_numbered(lane).lane.key if lane else None
    if key is not None and key.tenant != answer.fact.tenant:
        # Whose it is, and how it stands, is nothing that this submitter may know.
        answer.refused.append(Refusal(index, "conflict", _TAKEN))
        return
    if key is not None and key.task != spec.task:
        conflict = _OTHER_TASK
    elif _has_other_arguments(answer.fact.payloads[index], row, stored):
        conflict = _OTHER_ARGUMENTS
    if conflict is not None:
        answer.refused.append(Refusal(index, "conflict", conflict))
        answer.existing.append((index, job_id))
    elif ended is not None and answer.fact.watch:
        answer.ended.append(ended)


def _has_other_arguments(payload: bytes, row: JobRow | None, stored: KnownJob | None) -> bool:
    """Whether the first submission of this id had others, where they are still at hand."""
    first = None if row is None else row.payload
    if first is None and stored is not None:
        first = stored.row.payload
    return first is not None and first != payload


def _accept_new(
    draft: Draft,
    lane: LaneDraft,
    options: JobOptions,
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
        0,
        None,
        options,
        len(payload),
        payload,
    )
    draft.insert(job)
    if families.belongs(options):
        families.join(draft, job)
    early = draft.memory.early_cancels
    reason = early.reason(lane.lane.key.tenant, job_id, now=now.monotonic) if early else None
    if reason is not None:
        draft.used_early_cancels.append(job_id)
        end_job(draft, job, TaskStatus.CANCELLED, now, reason=reason)
    elif options.parent is not None and families.is_orphan(draft, options):
        end_job(draft, job, TaskStatus.CANCELLED, now, reason=families.PARENT_CANCELLED)
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
