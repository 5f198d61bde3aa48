"""Which jobs end with another job or with their client: their rows, and whom a cancel reaches next.

Only a cancel goes on to the jobs that were submitted by a cancelled one; a failure does not. The
store knows them, so the core asks the shell to look them up and to cancel them in turn.
"""

from __future__ import annotations

from typing import Final

from fastworker.core.commands import CancelChildren
from fastworker.core.memory import Draft
from fastworker.core.records import DEFAULT_OPTIONS, FamilyRow, JobOptions, JobRow, TaskStatus

PARENT_CANCELLED: Final = "the job that submitted it was cancelled"


def belongs(options: JobOptions) -> bool:
    """Whether a job with these options has a `FamilyRow` until its end."""
    return options is not DEFAULT_OPTIONS and (
        _parent(options) is not None or options.owner is not None
    )


def _parent(options: JobOptions) -> bytes | None:
    return None if options.detached else options.parent


def join(draft: Draft, job: JobRow) -> None:
    """A new job belongs to a job or to a client."""
    options = job.options
    row = FamilyRow(job.key, job.id, _parent(options), options.owner, options.owned or 0.0)
    draft.saves.family.append(row)


def is_orphan(draft: Draft, options: JobOptions) -> bool:
    """Whether the job that submits this one was cancelled while the submission was on its way."""
    parent = _parent(options)
    if parent is None:
        return False
    end = draft.finished.get(parent) or draft.memory.recent.get(parent)
    return end is not None and end.status is TaskStatus.CANCELLED


def cancel_children(draft: Draft, parent: bytes, reason: str, grace: float | None) -> None:
    """Have the jobs cancelled that this one has submitted."""
    alike = reason, grace
    command = draft.cancelled_parents.get(alike)
    if command is None:
        command = draft.cancelled_parents[alike] = CancelChildren([], reason, grace)
        draft.commands.append(command)
    command.parents.append(parent)
