"""What became of attempts as the columns of messages: gathered outcomes, and what is given back."""

from __future__ import annotations

from collections.abc import Sequence

from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import Ending
from fastworker.wire.messages import Handback, Outcome


class OutcomeBatch:
    """The outcomes since the last `take`."""

    def __init__(self) -> None:
        self.value_bytes = 0
        self._clear()

    def _clear(self) -> None:
        self.value_bytes = 0
        self._ids: list[bytes] = []
        self._tokens: list[int] = []
        self._statuses = bytearray()
        self._values: list[bytes | None] = []
        self._started_at: list[float | None] = []
        self._finished_at: list[float] = []
        self._failures: list[list[object]] = []
        self._retries: list[list[object]] = []

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, assignment: Assignment, ending: Ending, *, wall: float) -> None:
        """Add the end of an attempt.

        Args:
            wall: wall-clock seconds now, for attempts that never started. The others end as
                long after their start as the monotonic clock says.
        """
        failure = ending.failure
        if failure is not None:
            self._failures.append([len(self._tokens), *failure])
            self.value_bytes += len(failure.message) + len(failure.traceback)
            if ending.retry is not None:
                self._retries.append([len(self._tokens), *ending.retry])
        if ending.value is not None:
            self.value_bytes += len(ending.value)
        self._ids.append(assignment.id)
        self._tokens.append(assignment.token)
        self._statuses.append(ending.status)
        self._values.append(ending.value)
        started = assignment.started_wall
        self._started_at.append(started)
        if started is not None:
            wall = started + max(0.0, assignment.ended - assignment.started)
        self._finished_at.append(wall)

    def take(self) -> Outcome:
        """The message; the batch is empty afterwards."""
        outcome = Outcome(
            ids=b"".join(self._ids),
            tokens=self._tokens,
            statuses=bytes(self._statuses),
            values=self._values,
            started_at=self._started_at,
            finished_at=self._finished_at,
            failures=self._failures or None,
            retries=self._retries or None,
        )
        self._clear()
        return outcome


def handback_of(jobs: Sequence[Assignment], *, reason: str, started: bool = False) -> Handback:
    """That these jobs are given back, all of them with or all without a start."""
    return Handback(
        ids=b"".join([each.id for each in jobs]),
        tokens=[each.token for each in jobs],
        started=bytes([started]) * len(jobs),
        reason=reason,
    )
