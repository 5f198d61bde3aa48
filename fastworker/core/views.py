"""Jobs and attempts as reads of the store return them.

`fastworker.core.records` gives them out.
"""

from __future__ import annotations

from typing import NamedTuple

from fastworker.core.nouns import DEFAULT_TENANT, TaskStatus
from fastworker.core.rows import Failure


class ProgressView(NamedTuple):
    """How far a running attempt is, as it said last; ``at`` in wall seconds."""

    done: float
    total: float | None
    message: str
    at: float


class JobView(NamedTuple):
    """A job and, if it has ended and is still kept, its outcome: what reads return."""

    id: bytes
    task: str
    queue: str
    priority: int
    status: TaskStatus
    submitted_at: float
    ready_at: float | None
    expires_at: float | None
    started_at: float | None
    finished_at: float | None
    attempts: int
    token: int
    session: bytes | None
    result_kept: bool
    """False once the result has been pruned (the tombstone remains) or was never kept."""
    value: bytes | None
    failure: Failure | None
    reason: str | None
    replay_of: bytes | None = None
    replayed_by: bytes | None = None
    progress: ProgressView | None = None
    """Of a running job that has told any; no store has it."""
    tenant: str = DEFAULT_TENANT


class AttemptView(NamedTuple):
    """One attempt of a job as reads return it, first to last."""

    token: int
    worker: str | None
    """Its label."""
    host: str | None
    pid: int | None
    started_at: float | None
    finished_at: float | None
    """None while it runs."""
    outcome: str
    """As in `AttemptRow`, or the status in which the job ended, or ``running``."""
    error: str
