"""The last ended jobs, so that most questions about them need no store."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fastworker.core.records import FinishRow

RECENT_RESULTS: Final = 10_000
"""Ended jobs kept in memory, least recently used out first."""

RECENT_RESULT_BYTES: Final = 8 * 1024 * 1024
"""The same, by size of their values: all of 800 bytes, and eight of the largest. The store has them
all; whoever waits for one is sent it without being asked."""


class RecentResults:
    """The last ended jobs by id, bounded in number and bytes."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, FinishRow] = OrderedDict()
        self._bytes = 0

    def get(self, job_id: bytes) -> FinishRow | None:
        """The end of a job, if it is among the recent ones."""
        row = self._rows.get(job_id)
        if row is not None:
            self._rows.move_to_end(job_id)
        return row

    def put(self, row: FinishRow) -> None:
        """Remember one more, forgetting the oldest beyond the bounds."""
        before = self._rows.pop(row.id, None)
        if before is not None:
            self._bytes -= len(before.value or b"")
        self._rows[row.id] = row
        self._bytes += len(row.value or b"")
        while self._rows and (
            len(self._rows) > RECENT_RESULTS or self._bytes > RECENT_RESULT_BYTES
        ):
            _, oldest = self._rows.popitem(last=False)
            self._bytes -= len(oldest.value or b"")
