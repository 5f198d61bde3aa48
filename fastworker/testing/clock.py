"""The time of a cluster: both clocks follow the Trio clock of the run, which may be virtual."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import trio

from fastworker.core.records import Now


class ClusterClock:
    """Monotonic and wall time that pass together; made inside `trio.run`, read from any thread.

    Args:
        starts_at: the time of day now; None: the real one.
    """

    def __init__(self, starts_at: datetime | None) -> None:
        self._clock = trio.lowlevel.current_clock()
        wall = time.time() if starts_at is None else starts_at.timestamp()
        self._offset = wall - self._clock.current_time()

    def monotonic(self) -> float:
        """Seconds, as `trio.current_time` in this run."""
        return self._clock.current_time()

    def wall(self) -> float:
        """The time of day in seconds."""
        return self._offset + self._clock.current_time()

    def both(self) -> Now:
        """As the control plane wants it."""
        monotonic = self._clock.current_time()
        return Now(self._offset + monotonic, monotonic)

    def moment(self) -> datetime:
        """The time of day as an aware UTC datetime."""
        return datetime.fromtimestamp(self.wall(), UTC)
