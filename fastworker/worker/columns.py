"""Held jobs as the columns of the messages that speak of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fastworker.wire.messages import Assign, Handback, Started, Withdraw
from fastworker.worker.held_job import HeldJob

MAX_ASSIGN_JOBS: Final = 512
"""Of one message to a runner: its fixed cost has vanished, and it decodes within a millisecond."""

MAX_ASSIGN_BYTES: Final = 2 * 1024 * 1024
"""Of the payloads in one message to a runner: far below a frame's limit with one more payload."""


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


def assigns_of(jobs: Sequence[HeldJob], *, now: float) -> Iterator[Assign]:
    """These jobs for a runner, in messages none of which is large."""
    return (_assign(chunk, now=now) for chunk in _chunks(jobs))


def _chunks(jobs: Sequence[HeldJob]) -> Iterator[list[HeldJob]]:
    chunk: list[HeldJob] = []
    size = 0
    for job in jobs:
        weight = len(job.payload) + len(job.checkpoint or b"")
        if len(chunk) >= MAX_ASSIGN_JOBS or (chunk and size + weight > MAX_ASSIGN_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(job)
        size += weight
    if chunk:
        yield chunk


def _assign(jobs: list[HeldJob], *, now: float) -> Assign:
    numbers: dict[int, int] = {}
    specs: list[list[object]] = []
    which = []
    for job in jobs:
        number = numbers.get(id(job.spec))
        if number is None:
            number = numbers[id(job.spec)] = len(specs)
            specs.append(job.spec)
        which.append(number)
    budgets = [
        None if job.start_before is None else max(job.start_before - now, 0.0) for job in jobs
    ]
    failures = [job.failures for job in jobs]
    remaining = [_remaining(job, now) for job in jobs]
    checkpoints = [job.checkpoint for job in jobs]
    return Assign(
        ids=b"".join([job.id for job in jobs]),
        tokens=[job.token for job in jobs],
        specs=specs,
        payloads=[job.payload for job in jobs],
        attempts=[job.attempt for job in jobs],
        which=which if len(specs) > 1 else None,
        budget=None if all(budget is None for budget in budgets) else budgets,
        failures=failures if any(failures) else None,
        remaining=None if all(seconds is None for seconds in remaining) else remaining,
        checkpoints=checkpoints if any(checkpoints) else None,
    )


def _remaining(job: HeldJob, now: float) -> float | None:
    limits = job.limits
    return None if limits is None or limits.deadline is None else max(limits.deadline - now, 0.0)
