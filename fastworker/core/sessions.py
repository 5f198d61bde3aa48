"""Subworkers as the core sees them: what they can run, what they hold, until when.

A session is one subworker process (its incarnation), over any number of connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fastworker.core.facts import Registration
from fastworker.core.records import ALL_QUEUES, POOLS, TaskPriority

ROUND_TRIP_SECONDS: Final = 0.02
"""From an outcome to the next job on a busy system: two hops and a commit, with room to spare."""

FIRST_GUESS_SECONDS: Final = 0.02
"""How long jobs run, before any has ended: about as many are sent ahead as there are slots."""

SHORTEST_RUN_SECONDS: Final = 0.0001
LEARNING_RATE: Final = 0.3
"""Weight of the latest batch: follows a change of load within a few batches."""

PRIORITIES: Final = len(TaskPriority)


@dataclass(slots=True, eq=False)
class Session:
    """One subworker.

    Args:
        pools, prefetch: slots, and jobs it takes beyond them, by pool.
        held: of every job it has on lease, by job id: pool, priority, and whether it must run
            alone.
        outstanding: number of held jobs by pool and priority.
        alone: number of held jobs that must run alone.
        run_seconds: how long its jobs ran lately, by pool.
        lease_until: monotonic seconds.
        origin: its connection; None while it is not connected.
        known: False after a restart, until it comes back and says what it can do.
        tags: what it has that some tasks need.
        withheld: by task it knows and does not offer: a tag of the task's that it lacks.
        tenant: whose jobs it may run; None: everybody's.
        lapsed: its lease ran out; it gets nothing until it is heard again.
    """

    incarnation: bytes
    lease_until: float
    label: str = ""
    queues: frozenset[str] = frozenset()
    tasks: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    pools: tuple[int, ...] = (0,) * POOLS
    prefetch: tuple[int, ...] = (0,) * POOLS
    local: bool = False
    tenant: str | None = None
    origin: object | None = None
    known: bool = False
    lapsed: bool = False
    host: str = ""
    pid: int = 0
    held: dict[bytes, tuple[int, int, bool]] = field(default_factory=dict)
    alone: int = 0
    run_seconds: list[float] = field(default_factory=lambda: [FIRST_GUESS_SECONDS] * POOLS)
    outstanding: list[list[int]] = field(
        default_factory=lambda: [[0] * PRIORITIES for _ in range(POOLS)]
    )

    @property
    def is_reachable(self) -> bool:
        """Whether jobs may be sent to it."""
        return self.origin is not None and not self.lapsed

    def can_run(self, tenant: str, task: str, queue: str) -> bool:
        """Whether it is connected, may see the tenant's jobs, knows the task and serves the queue
        (``*``: every queue)."""
        return (
            self.is_reachable
            and task in self.tasks
            and (self.tenant is None or self.tenant == tenant)
            and (queue in self.queues or ALL_QUEUES in self.queues)
        )

    def describe(self, registration: Registration) -> None:
        """Take over what a registration says."""
        self.label = registration.label
        self.queues = registration.queues
        self.tasks = registration.tasks
        self.signatures = registration.signatures
        self.tags = registration.tags
        self.withheld = registration.withheld
        self.pools = registration.pools
        self.prefetch = registration.prefetch
        self.local = registration.local
        self.tenant = registration.tenant
        self.host = registration.host
        self.pid = registration.pid
        self.origin = registration.origin
        self.known = True

    def hold(self, job_id: bytes, pool: int, priority: int, alone: bool) -> None:
        """Count a job it now has on lease."""
        self.held[job_id] = (pool, priority, alone)
        self.outstanding[pool][priority] += 1
        if alone:
            self.alone += 1

    def release(self, job_id: bytes) -> None:
        """Stop counting a job; unknown ones are ignored."""
        entry = self.held.pop(job_id, None)
        if entry is not None:
            self.outstanding[entry[0]][entry[1]] -= 1
            if entry[2]:
                self.alone -= 1

    def room(self, pool: int, priority: int, *, for_prefetch: bool = True) -> int:
        """How many more jobs of this urgency it may be sent; 0 or less: none.

        Less urgent jobs it holds do not count against a more urgent one, which overtakes them
        in every channel on its way; in all it never holds more than twice its slots beyond
        that.
        """
        slots = self.pools[pool]
        if slots <= 0:
            return 0
        counts = self.outstanding[pool]
        limit = slots + self.jobs_ahead(pool) if for_prefetch else slots
        return min(limit - sum(counts[priority:]), limit + slots - sum(counts))

    def jobs_ahead(self, pool: int) -> int:
        """How many jobs to send beyond its slots: what it finishes during one round trip.

        Long jobs are not sent ahead at all, since another subworker may be free before this one.
        """
        during_round_trip = self.pools[pool] * ROUND_TRIP_SECONDS / self.run_seconds[pool]
        return min(self.prefetch[pool], int(during_round_trip))

    def note_run_times(self, pool: int, mean_seconds: float) -> None:
        """Learn from a batch of outcomes.

        The mean is geometric: a change from minutes to microseconds is followed as quickly as
        the other way round.
        """
        seen = max(mean_seconds, SHORTEST_RUN_SECONDS)
        before = self.run_seconds[pool]
        self.run_seconds[pool] = before * float((seen / before) ** LEARNING_RATE)

    def load(self, pool: int) -> float:
        """Held jobs per slot: what balancing compares."""
        return sum(self.outstanding[pool]) / max(1, self.pools[pool])
