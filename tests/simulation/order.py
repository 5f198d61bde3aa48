"""Guarantee G9: in a queue, jobs of one priority get their first leases as they were accepted.

What is leased in one transaction is leased at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from fastworker.core.records import JobRow, LaneKey, Saves, TaskStatus


class _Line(NamedTuple):
    queue: str
    priority: int


class Order:
    """Looks at every transaction; all subworkers here can run all tasks, for the one tenant."""

    def __init__(self) -> None:
        self._waiting: dict[int, JobRow] = {}
        """Jobs without a lease so far whose time has come, by key."""
        self._leased: set[int] = set()
        """Jobs that have had a lease, by key."""
        self.waited = 0
        """How often a job of the same line waited on when another was leased."""

    def violations(
        self, saves: Saves, lanes: Mapping[int, LaneKey], paused: Collection[str], wall: float
    ) -> Iterator[str]:
        """Jobs that were passed over in a transaction that has just been written."""
        leased: list[tuple[int, JobRow]] = []
        for row in (*saves.inserts, *saves.updates):
            before = self._waiting.pop(row.key, None)
            if row.status is TaskStatus.QUEUED and row.token == 0:
                self._waiting[row.key] = row
            elif row.status is TaskStatus.RUNNING and row.key not in self._leased:
                self._leased.add(row.key)
                place = row.key if before is None else _place(before)
                leased.append((place, row))
        for finish in saves.finishes:
            self._waiting.pop(finish.key, None)
        for place, row in leased:
            line = _line(lanes, row)
            for other in self._waiting.values():
                if _line(lanes, other) != line or line.queue in paused:
                    continue
                self.waited += 1
                # One that may never start twice waits for a slot that is free.
                held_back = other.options.on_lost == "fail" or _is_late(other, wall)
                if _place(other) < place and not held_back:
                    yield f"order: {row.id.hex()} was leased before {other.id.hex()}"


def _line(lanes: Mapping[int, LaneKey], row: JobRow) -> _Line:
    key = lanes[row.lane]
    return _Line(key.queue, key.priority)


def _place(row: JobRow) -> int:
    return row.key if row.position is None else row.position


def _is_late(row: JobRow, wall: float) -> bool:
    return row.expires_at is not None and row.expires_at <= wall
