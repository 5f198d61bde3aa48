"""How much waits, by tenant and in all: exact, and the same after a restart.

A job waits from its acceptance until it is handed out, and again while it is put off or back in
its lane. Every change goes into the transaction that changes the jobs, so nothing is ever counted
anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fastworker.core.records import BacklogRow, JobRow, TaskStatus

WAITING: Final = frozenset({TaskStatus.WAITING, TaskStatus.SCHEDULED, TaskStatus.QUEUED})
"""The statuses of jobs that wait."""

_RUNNING = TaskStatus.RUNNING


class Backlogs:
    """What waits now. Only stored rows come in."""

    def __init__(self, rows: Iterable[BacklogRow]) -> None:
        self.by_tenant: dict[str, BacklogRow] = {row.tenant: row for row in rows}
        self.jobs = sum(row.jobs for row in self.by_tenant.values())
        self.size = sum(row.size for row in self.by_tenant.values())

    def of(self, tenant: str) -> BacklogRow:
        """What of one tenant's jobs waits."""
        return self.by_tenant.get(tenant) or BacklogRow(tenant, 0, 0)

    def set(self, row: BacklogRow) -> None:
        """What of a tenant's jobs waits from now on."""
        before = self.of(row.tenant)
        self.by_tenant[row.tenant] = row
        self.jobs += row.jobs - before.jobs
        self.size += row.size - before.size


class BacklogDraft:
    """What one turn adds and takes away, by lane: jobs and bytes of their arguments.

    New jobs are counted together at the end of the turn, as it leaves them: most of them are
    handed out at once and never wait.
    """

    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: dict[int, list[int]] = {}

    def moved(self, before: JobRow, after: JobRow) -> None:
        """A job that is not new has another status, which is not its end."""
        waited = before.status is not _RUNNING
        if waited is not (after.status is not _RUNNING):
            sign = -1 if waited else 1
            entry = self._entry(after.lane)
            entry[0] += sign
            entry[1] += sign * before.size

    def ended(self, job: JobRow) -> None:
        """A job that waited has ended."""
        entry = self._entry(job.lane)
        entry[0] -= 1
        entry[1] -= job.size

    def accepted(self, jobs: Iterable[JobRow]) -> None:
        """New jobs, as the end of the turn leaves those that have not ended in it."""
        lane, entry = 0, [0, 0]
        for job in jobs:
            if job.status is not _RUNNING:
                # Jobs come in runs of one lane.
                if job.lane != lane:
                    lane, entry = job.lane, self._entry(job.lane)
                entry[0] += 1
                entry[1] += job.size

    def _entry(self, lane: int) -> list[int]:
        entry = self._lanes.get(lane)
        if entry is None:
            entry = self._lanes[lane] = [0, 0]
        return entry

    def rows(self, backlogs: Backlogs, tenant_of: Callable[[int], str]) -> list[BacklogRow]:
        """The backlogs that are others after this turn."""
        changed: dict[str, BacklogRow] = {}
        for lane, (jobs, size) in self._lanes.items():
            if jobs or size:
                tenant = tenant_of(lane)
                row = changed.get(tenant) or backlogs.of(tenant)
                changed[tenant] = BacklogRow(tenant, row.jobs + jobs, row.size + size)
        return [_bounded(row) for row in changed.values() if row != backlogs.of(row.tenant)]


def _bounded(row: BacklogRow) -> BacklogRow:
    """The row, but never less than nothing, whatever became of arguments on a damaged disk."""
    return row if row.jobs > 0 and row.size >= 0 else BacklogRow(row.tenant, max(0, row.jobs), 0)
