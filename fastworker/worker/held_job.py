"""A job as its subworker holds it, from its assignment to its outcome. Pure.

Moments are monotonic seconds, but for that of the start, which runners tell by the wall clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastworker.worker.limits import JobLimits


@dataclass(slots=True, eq=False)
class HeldJob:
    """One lease without an outcome.

    ``runner`` None: still queued here. ``stale``: the lease is gone, nobody waits for the job.
    ``gone``: no longer held.
    """

    id: bytes
    token: int
    spec: list[object]
    payload: bytes
    attempt: int
    start_before: float | None
    failures: int
    priority: int
    pool: int
    runner: int | None = None
    started_at: float | None = None
    stale: bool = False
    gone: bool = False
    limits: JobLimits | None = None
    checkpoint: bytes | None = None
