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


def withdraw_of(
    jobs: Sequence[HeldJob], *, grace: float | None = None, reason: str = ""
) -> Withdraw:
    """The question to a runner to give these jobs back; ``grace`` as in `Withdraw`."""
    ids = b"".join([job.id for job in jobs])
    return Withdraw(ids=ids, tokens=[job.token for job in jobs], grace=grace, reason=reason)


def handback_of(
    jobs: Sequence[tuple[bytes, int]], reason: str, *, detail: str = "", started: bytes = b""
) -> Handback:
    """That these jobs, by id and token, are given up; ``started`` as in `Handback`, not given:
    none of them had."""
    ids, tokens = zip(*jobs, strict=True)
    return Handback(
        ids=b"".join(ids),
        tokens=tokens,
        started=started or bytes(len(jobs)),
        reason=reason,
        detail=detail,
    )
