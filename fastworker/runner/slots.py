"""How many jobs may run at once, by pool, and what has changed since the subworker was told."""

from __future__ import annotations

from collections.abc import Sequence


class Slots:
    """Counts free slots. ``free`` may go below zero: a job that resumes after waiting for
    another job takes its slot back whether or not one is free, so that it can never deadlock.
    """

    def __init__(self, limits: Sequence[int]) -> None:
        self.free = list(limits)
        self._changes = [0] * len(self.free)

    def take(self, pool: int) -> None:
        """A job starts."""
        self.free[pool] -= 1

    def give(self, pool: int) -> None:
        """A job has ended."""
        self.free[pool] += 1

    def lend(self, pool: int) -> None:
        """A job waits for another and lets its slot be used meanwhile."""
        self.free[pool] += 1
        self._changes[pool] += 1

    def reclaim(self, pool: int) -> None:
        """It goes on, or has ended while its slot was lent."""
        self.free[pool] -= 1
        self._changes[pool] -= 1

    def take_changes(self) -> list[list[int]]:
        """Rows [pool, change] since the last call, without those that cancelled out."""
        changes = [[pool, change] for pool, change in enumerate(self._changes) if change]
        self._changes = [0] * len(self.free)
        return changes
