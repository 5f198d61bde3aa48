"""What one turn has let in so far, and the buckets that bound how fast a tenant submits. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

_ROUNDING: Final = 1e-6
"""Of a job: who comes back at the moment it was told must not be a rounding error too early."""


class Bucket(NamedTuple):
    """So many jobs could be let in at a moment (monotonic seconds).

    ``level`` is below zero where a group larger than the bucket was let in when that was full.
    """

    level: float
    at: float


@dataclass(slots=True)
class Admissions:
    """Jobs that a turn accepts, whatever becomes of them in it, with the bytes of their arguments.

    ``buckets`` are those this turn has taken from; ``late``: how many jobs of a tenant it has sent
    away because they came too fast.
    """

    jobs: int = 0
    size: int = 0
    by_tenant: dict[str, tuple[int, int]] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)

    def note(self, tenant: str, jobs: int, size: int) -> None:
        """These are let in."""
        before = self.by_tenant.get(tenant, (0, 0))
        self.by_tenant[tenant] = before[0] + jobs, before[1] + size
        self.jobs += jobs
        self.size += size


def burst(rate: float) -> float:
    """How many jobs a full bucket holds: those of a second, and one at least."""
    return max(1.0, rate)


def level_at(bucket: Bucket | None, rate: float, now: float) -> float:
    """How many jobs may be let in now; a bucket that nobody has used is full."""
    full = burst(rate)
    if bucket is None:
        return full
    return min(full, bucket.level + max(0.0, now - bucket.at) * rate)


def take(
    admissions: Admissions, tenant: str, bucket: Bucket | None, rate: float, now: float, jobs: int
) -> float:
    """Let so many jobs in together, or say in how many seconds they may come again.

    Jobs that are sent away in one turn are told to come one after another. A group that no bucket
    holds needs a full one.
    """
    level = level_at(admissions.buckets.get(tenant, bucket), rate, now)
    needed = min(float(jobs), burst(rate))
    late = admissions.late.get(tenant, 0.0)
    if not late and level + _ROUNDING >= needed:
        admissions.buckets[tenant] = Bucket(level - jobs, now)
        return 0.0
    admissions.late[tenant] = late = late + needed
    return (late - level) / rate
