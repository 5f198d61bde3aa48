"""Idempotency keys of the store in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from fastworker.core.records import KeyRow

LOOK_AGAIN_SECONDS: Final = 60.0
"""When a key whose time is up but whose job still runs is looked at again."""

Name = tuple[str, str, str]
"""Tenant, task and key."""


class KeyTable:
    """The keys by name, and in the order in which they are to be looked at for removal."""

    def __init__(self) -> None:
        self._rows: dict[Name, KeyRow] = {}
        self._next: list[tuple[float, Name]] = []

    def set(self, row: KeyRow) -> None:
        """Store a key in place of an older one of the same name."""
        self._rows[row[:3]] = row
        heapq.heappush(self._next, (row.until, row[:3]))

    def get(self, name: Name) -> KeyRow | None:
        """The key of that name, if there is one."""
        return self._rows.get(name)

    def prune(self, now: float, limit: int, has_ended: Callable[[int], bool]) -> bool:
        """Look at up to ``limit`` keys whose time is up and remove those whose job, given by its
        key, has ended; returns whether there may be more."""
        held: list[Name] = []
        looked = 0
        while self._next and self._next[0][0] <= now and looked < limit:
            looked += 1
            _, name = heapq.heappop(self._next)
            row = self._rows.get(name)
            if row is None or row.until > now:
                continue
            if has_ended(row.job_key):
                del self._rows[name]
            else:
                held.append(name)
        for name in held:
            heapq.heappush(self._next, (now + LOOK_AGAIN_SECONDS, name))
        return looked >= limit
