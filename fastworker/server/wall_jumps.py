"""The time of day may jump forward: nothing is older for that.

A machine that starts in 1970 and learns the date a minute later would take what ended meanwhile
for half a century old, and remove it before anybody has read it. A machine that slept does the
same in small. Jumps backward make things look younger, which does no harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from fastworker.core.records import Now
from fastworker.store.contract import Retention

JUMP_SECONDS: Final = 1.0
"""More than clocks are adjusted by from one turn to the next."""

MAX_JUMPS: Final = 1_000
"""Remembered; a clock that jumps more often tells nothing any more."""


class WatchedClock:
    """Both clocks, and how far the time of day has jumped ahead of the other one.

    Args:
        clock: reads both.
    """

    def __init__(self, clock: Callable[[], Now]) -> None:
        self._clock = clock
        self._last: Now | None = None
        self._jumps: deque[tuple[float, float]] = deque(maxlen=MAX_JUMPS)
        """When (monotonic), and how far."""

    def __call__(self) -> Now:
        """The time, now."""
        now, last = self._clock(), self._last
        if last is not None:
            ahead = (now.wall - last.wall) - (now.monotonic - last.monotonic)
            if ahead > JUMP_SECONDS:
                self._jumps.append((now.monotonic, ahead))
        self._last = now
        return now

    def lenient(self, retention: Retention) -> Retention:
        """A retention by which what ended before a jump keeps its whole time."""
        if not self._jumps:
            return retention
        return retention._replace(
            results_seconds=self._lengthened(retention.results_seconds),
            failures_seconds=self._lengthened(retention.failures_seconds),
            tombstone_seconds=self._lengthened(retention.tombstone_seconds),
        )

    def _lengthened(self, seconds: float) -> float:
        since = self._clock().monotonic - seconds
        return seconds + sum(ahead for at, ahead in self._jumps if at > since)
