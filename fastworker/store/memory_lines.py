"""Which jobs of the store in memory are ready and which are due.

Ready jobs are kept in order of position by lane and due jobs in a heap; entries that no longer
hold are left in place and skipped.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Mapping
from itertools import islice

from fastworker.core.questions import RefillQuestion
from fastworker.core.records import JobRow
from fastworker.store.memory_job import StoredJob


class WaitingLines:
    """The order of the waiting ones among ``jobs``, which the store keeps up to date."""

    def __init__(self, jobs: Mapping[int, StoredJob]) -> None:
        self._jobs = jobs
        self._ready: dict[int, list[tuple[int, int]]] = {}
        self._due: list[tuple[float, int]] = []

    def add(self, row: JobRow) -> None:
        """Take note of where a new or changed job waits, if it does."""
        if row.position is not None:
            line = self._ready.setdefault(row.lane, [])
            insort(line, (row.position, row.key))
        if row.due_at is not None:
            heapq.heappush(self._due, (row.due_at, row.key))

    def refill(self, question: RefillQuestion) -> list[JobRow]:
        """The next ready jobs of a lane."""
        line = self._ready.get(question.lane, [])
        found: list[JobRow] = []
        stale = 0
        for position, key in islice(
            line, bisect_right(line, (question.after_position, 2**63)), None
        ):
            if len(found) >= question.limit:
                break
            job = self._jobs.get(key)
            if job is None or job.row.position != position or job.row.lane != question.lane:
                stale += 1
            elif not found or found[-1].key != key:
                found.append(job.inline())
        if stale > len(found) + 1000:
            self._compact(question.lane)
        return found

    def _compact(self, lane: int) -> None:
        """Leave out the entries that no longer hold."""
        self._ready[lane] = [
            (position, key)
            for position, key in self._ready[lane]
            if (job := self._jobs.get(key)) is not None and job.row.position == position
        ]

    def due(self, before: float, limit: int) -> tuple[list[JobRow], float | None]:
        """The due jobs, at most ``limit``, and when the next one is; nothing is taken away."""
        found: dict[int, tuple[float, int]] = {}
        while self._due:
            due_at, key = self._due[0]
            job = self._jobs.get(key)
            if job is not None and job.row.due_at == due_at and key not in found:
                if due_at > before or len(found) >= limit:
                    break
                found[key] = (due_at, key)
            heapq.heappop(self._due)
        next_due_at = self._due[0][0] if self._due else None
        for entry in found.values():
            heapq.heappush(self._due, entry)
        return [self._jobs[key].inline() for key in found], next_due_at
