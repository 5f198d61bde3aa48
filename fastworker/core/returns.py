"""Jobs that come back without having ended: retried, handed back, or lost with their executor."""

from __future__ import annotations

from typing import Final

from fastworker.core.endings import end_job
from fastworker.core.facts import Outcomes
from fastworker.core.memory import Draft
from fastworker.core.records import AttemptRow, Failure, JobRow, Now, TaskStatus
from fastworker.core.submissions import make_ready, note_due

UNCOUNTED: Final = frozenset({"drain", "unsent"})
"""Reasons for which a lease does not count as an attempt: nothing is wrong with the job."""

DEATHS_ALONE: Final = 3
"""So many runners may a job take with it while it runs alone: the last one is its end."""

MAX_ERROR_CHARACTERS: Final = 1000
"""Of one attempt: enough for its line in a list. The whole story is kept of the last one."""


def retry(draft: Draft, job: JobRow, fact: Outcomes, index: int, now: Now) -> bool:
    """Put a failed job off, as its task's policy asks; False: its failure is its end.

    It is not started after its deadline or its policy's budget, nor twice if it asked for that,
    nor once somebody has cancelled it.
    """
    asked = fact.retries[index]
    ready_at = now.wall + asked.delay
    started_at, finished_at = fact.started_at[index], fact.finished_at[index]
    first = job.first_started_at
    if first is None:
        first = finished_at if started_at is None else started_at
    if (
        job.options.on_lost == "fail"
        or (job.expires_at is not None and ready_at >= job.expires_at)
        or (asked.budget is not None and ready_at > first + asked.budget)
        or draft.pending_cancel(job.id) is not None
    ):
        return False
    failure = fact.failures.get(index)
    error = "" if failure is None else f"{failure.type_name}: {failure.message}"
    held = job._replace(session=fact.session, started_at=started_at)
    _note_attempt(draft, held, "retried", error, finished_at)
    waiting = job._replace(
        ready_at=ready_at,
        # No attempt speaks for it any more: the same outcome, sent again, counts only once.
        token=0,
        session=None,
        started_at=None,
        failures=job.failures + asked.counted,
        first_started_at=first,
    )
    if asked.delay > 0:
        later = waiting._replace(status=TaskStatus.SCHEDULED, position=None, due_at=ready_at)
        draft.move(job, later, keep=False)
        note_due(draft, ready_at)
    else:
        make_ready(draft, waiting, draft.new_key())
    return True


def requeue(
    draft: Draft,
    job: JobRow,
    now: Now,
    *,
    reason: str,
    started: bool,
    detail: str = "",
    has_process: bool = False,
) -> None:
    """A leased job without an outcome waits again at its old place, or ends if it must not.

    Args:
        reason: ``runner_died``, ``drain``, ``lease_lost``, ``lease_expired`` or ``unsent``.
        started: its code had started, or may have.
        detail: how the runner died.
        has_process: its task has a process of its own: whatever ends that is its doing.
    """
    died = started and reason == "runner_died"
    # A first death among others only makes it a suspect.
    deaths_alone = job.deaths + 1 if has_process else job.deaths
    lost_to = f"{reason} {detail}".rstrip() if started else None
    if _must_end(draft, job, now, lost_to, is_poison=died and deaths_alone >= DEATHS_ALONE):
        return
    if started:
        _note_attempt(draft, job, reason, detail, now.wall)
    waiting = job._replace(
        status=TaskStatus.QUEUED,
        # Its first place: it has waited longest, and its key is older than any later position.
        position=job.key,
        due_at=job.expires_at,
        # What ran out may be revived under its token; what was given up may not.
        token=job.token if reason == "lease_expired" else 0,
        session=None,
        attempts=job.attempts if started and reason not in UNCOUNTED else job.attempts - 1,
        deaths=job.deaths + died,
        started_at=None,
    )
    kept = draft.lane_of(job).give_back(waiting)
    draft.move(job, waiting, keep=kept)
    note_due(draft, waiting.due_at)


def _must_end(draft: Draft, job: JobRow, now: Now, lost_to: str | None, *, is_poison: bool) -> bool:
    """Whether a job that came back without an outcome may not wait again; it ends here.

    Args:
        lost_to: what became of its code, if that had started.
    """
    pending = draft.pending_cancel(job.id)
    if pending is not None:
        end_job(draft, job, TaskStatus.CANCELLED, now, reason=pending.reason)
    elif lost_to is not None and job.options.on_lost == "fail":
        message = "its executor was lost, and it asked never to be started twice"
        failure = Failure("JobDead", f"{message} ({lost_to})", "", "lost")
        end_job(draft, job, TaskStatus.DEAD, now, failure=failure)
    elif is_poison:
        message = f"its runner died each of the {DEATHS_ALONE} times it ran alone, at last by "
        cause = (lost_to or "").partition(" ")[2] or "an unknown cause"
        failure = Failure("JobDead", message + cause, "", "poison")
        end_job(draft, job, TaskStatus.DEAD, now, failure=failure)
    elif job.expires_at is not None and job.expires_at <= now.wall:
        end_job(draft, job, TaskStatus.EXPIRED, now, reason="its deadline passed")
    else:
        return False
    return True


def _note_attempt(draft: Draft, job: JobRow, outcome: str, error: str, finished_at: float) -> None:
    """Write down an attempt that does not end its job."""
    draft.saves.attempts.append(
        AttemptRow(
            key=job.key,
            token=job.token,
            session=job.session,
            started_at=job.started_at,
            finished_at=finished_at,
            outcome=outcome,
            error=error[:MAX_ERROR_CHARACTERS],
        )
    )
