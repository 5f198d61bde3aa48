"""Peers that have fallen silent: one task watches over all connections.

A frame then costs a note of the time; moving a deadline at every frame costs more than reading it.
"""

from __future__ import annotations

import heapq
import itertools
import math

import trio


class Watched:
    """One connection. Run it inside ``scope``, which is cancelled once it has been silent.

    Args:
        patience: seconds.
    """

    __slots__ = ("heard_at", "patience", "scope")

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.scope = trio.CancelScope()
        self.heard_at = trio.current_time()
        """When it was last heard (monotonic); infinite while it is its turn to wait for us."""


class SilenceWatch:
    """Cancels the scopes of connections that have been silent for longer than their patience."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Watched]] = []
        """When to look at which again; none is due for cancellation before."""
        self._numbers = itertools.count()
        self._sooner = trio.Event()

    def watch(self, patience: float) -> Watched:
        """Watch over one more connection, until its scope has ended."""
        watched = Watched(patience)
        due = watched.heard_at + patience
        if not self._due or due < self._due[0][0]:
            self._sooner.set()
        heapq.heappush(self._due, (due, next(self._numbers), watched))
        return watched

    async def serve_forever(self) -> None:
        """Watch until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._due[0][0] if self._due else math.inf):
                await self._sooner.wait()
            self._sooner = trio.Event()
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                _, number, watched = heapq.heappop(self._due)
                due = watched.heard_at + watched.patience
                if due <= now:
                    watched.scope.cancel()  # of no effect if it has ended
                else:
                    again = min(due, now + watched.patience)
                    heapq.heappush(self._due, (again, number, watched))
