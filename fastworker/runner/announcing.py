"""Of which running jobs the subworker is told that they have started. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastworker.runner.assignment import Assignment
from fastworker.wire.messages import Started

ANNOUNCE_SECONDS: Final = 0.1
"""Jobs that run longer are reported as started; shorter ones cost no message."""


def announce_long(
    running: Iterable[Assignment], *, now: float
) -> tuple[Started | None, float | None]:
    """Those that have run for so long and were not announced yet, marked as announced now; and
    when to look again.

    Args:
        running: in the order of their starts.
        now: monotonic seconds, as the answer.
    """
    long: list[Assignment] = []
    next_at: float | None = None
    for assignment in running:
        if assignment.announced:
            continue
        due = assignment.started + ANNOUNCE_SECONDS
        if due > now:
            # All that follow are younger.
            next_at = due
            break
        assignment.announced = True
        long.append(assignment)
    return _started_of(long) if long else None, next_at


def _started_of(jobs: list[Assignment]) -> Started:
    return Started(
        ids=b"".join([each.id for each in jobs]),
        tokens=[each.token for each in jobs],
        started_at=[each.started_wall or 0.0 for each in jobs],
    )
