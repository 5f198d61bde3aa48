"""How much each runner that has several jobs at once has been given, and how much more it gets.

Pure. A runner is given a *window* of jobs: its slots and a few more, so that a slot never waits for
us. Less urgent jobs never fill the window of more urgent ones; what a runner holds in all is
bounded by `RunnerLoad.room`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fastworker.core.records import TaskPriority
from fastworker.errors import ProtocolError
from fastworker.worker.held_job import HeldJob

PRIORITIES: Final = len(TaskPriority)

SHARED_POOLS: Final = 2
"""Of event loops and of threads: runners have several of their jobs at once."""

MAX_RUNNER_PREFETCH: Final = 16
"""Jobs a runner holds beyond its slots. It bounds, with the slots, how many less urgent jobs start
while a more urgent one is on its way from here to the runner."""


@dataclass(slots=True)
class RunnerLoad:
    """What one runner has been given and has not ended; ``slots`` change as tasks wait."""

    slots: list[int]
    jobs: dict[int, HeldJob] = field(default_factory=dict)
    counts: list[list[int]] = field(
        default_factory=lambda: [[0] * PRIORITIES for _ in range(SHARED_POOLS)]
    )

    def room(self, pool: int, priority: int) -> int:
        """How many more jobs of this priority may be handed over now; perhaps less than none."""
        slots = self.slots[pool]
        window = slots + min(slots, MAX_RUNNER_PREFETCH)
        counts = self.counts[pool]
        return min(window - sum(counts[priority:]), window + slots * priority - sum(counts))

    def share(self, pool: int) -> float:
        """Taken share of the slots."""
        return sum(self.counts[pool]) / max(self.slots[pool], 1)

    def add(self, job: HeldJob) -> None:
        self.jobs[job.token] = job
        self.counts[job.pool][job.priority] += 1

    def remove(self, job: HeldJob) -> None:
        del self.jobs[job.token]
        self.counts[job.pool][job.priority] -= 1

    def change_slots(self, changes: Iterable[Sequence[int]]) -> None:
        """Rows [pool, change]: slots given back by waiting tasks, or taken again.

        Raises:
            ProtocolError: no such pool.
        """
        for pool, change in changes:
            if not 0 <= pool < SHARED_POOLS:
                raise ProtocolError(f"a runner changed the slots of pool {pool}; there is none")
            self.slots[pool] += change
