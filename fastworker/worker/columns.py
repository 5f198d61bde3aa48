"""Held jobs as the columns of the messages that speak of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fastworker.wire.messages import Handback, Started, Withdraw
from fastworker.worker.held import HeldJob


def started_of(jobs: Sequence[HeldJob]) -> Started:
    """That these jobs, whose start is known, run."""
    return Started(
        ids=b"".join([job.id for job in jobs]),
        tokens=[job.token for job in jobs],
        started_at=[job.started_at or 0.0 for job in jobs],
    )


def withdraw_of(jobs: Sequence[HeldJob]) -> Withdraw:
    """The question to a runner to give these jobs back."""
    return Withdraw(ids=b"".join([job.id for job in jobs]), tokens=[job.token for job in jobs])


def handback_of(
    jobs: Sequence[HeldJob], *, reason: str, detail: str = "", started: bool = False
) -> Handback:
    """That these jobs are given up, all of them with or all without a start."""
    return Handback(
        ids=b"".join([job.id for job in jobs]),
        tokens=[job.token for job in jobs],
        started=bytes([started]) * len(jobs),
        reason=reason,
        detail=detail,
    )
