"""Callbacks of the store in memory."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from itertools import islice

from fastworker.core.records import CallbackRow, CallbackTry
from fastworker.store.contract import CallbackFilter


class CallbackTable:
    """The callbacks that wait or are given up, in the order in which they were made."""

    def __init__(self) -> None:
        self._rows: dict[bytes, CallbackRow] = {}

    def add(self, made: Iterable[CallbackRow]) -> None:
        """Store new ones."""
        self._rows.update((row.delivery, row) for row in made)

    def due(self, now: float, limit: int) -> list[CallbackRow]:
        """See `Store.due_callbacks`."""
        due = (row for row in self._rows.values() if row.next_attempt_at <= now)
        return heapq.nsmallest(limit, due, key=lambda row: row.next_attempt_at)

    def next_at(self, after: float) -> float | None:
        """See `Store.next_callback_at`."""
        moments = (row.next_attempt_at for row in self._rows.values())
        found = min((moment for moment in moments if moment > after), default=math.inf)
        return None if found == math.inf else found

    def settle(self, done: Sequence[bytes], tries: Sequence[CallbackTry]) -> None:
        """See `Store.settle_callbacks`."""
        for delivery in done:
            self._rows.pop(delivery, None)
        for tried in tries:
            if (row := self._rows.get(tried.delivery)) is not None:
                self._rows[tried.delivery] = row._replace(
                    **tried._asdict(), data=row.data if tried.given_up_at is None else None
                )

    def forget(self, horizon: float, limit: int) -> bool:
        """Remove some that were given up before ``horizon``; returns whether there may be more."""
        outdated = (
            delivery
            for delivery, row in self._rows.items()
            if row.given_up_at is not None and row.given_up_at <= horizon
        )
        gone = list(islice(outdated, limit))
        for delivery in gone:
            del self._rows[delivery]
        return len(gone) >= limit

    def listed(self, criteria: CallbackFilter) -> list[CallbackRow]:
        """See `StoreReader.callbacks`."""
        matching = (
            row._replace(data=None)
            for row in reversed(self._rows.values())
            if criteria.tenant in (None, row.tenant)
            and criteria.given_up in (None, row.given_up_at is not None)
        )
        return list(islice(matching, criteria.limit))
