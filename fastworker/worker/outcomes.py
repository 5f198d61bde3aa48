"""Outcomes that the control plane has not acknowledged yet. Pure.

They are kept until it has recorded or refused each of them, and sent again over every new
connection: the end of a job is never lost to a connection's end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from fastworker.core.ids import split_ids
from fastworker.wire.messages import Outcome

MAX_OUTCOME_JOBS: Final = 1000
"""Of one message: the fixed cost has vanished, and the control plane reads it in a millisecond."""

MAX_OUTCOME_BYTES: Final = 2 * 1024 * 1024
"""Of the values in one message: far below a frame's limit, also with one value more."""


class EndedJob(NamedTuple):
    """One row of `Outcome`; ``failure`` and ``retry`` without their index."""

    id: bytes
    token: int
    status: int
    value: bytes | None
    started_at: float | None
    finished_at: float
    failure: list[object] | None
    retry: list[object] | None = None


def rows_of(outcome: Outcome) -> list[EndedJob]:
    """The columns of a message as rows."""
    failures = {row[0]: row[1:] for row in outcome.failures or ()}
    retries = {row[0]: row[1:] for row in outcome.retries or ()}
    columns = zip(
        split_ids(outcome.ids),
        outcome.tokens,
        outcome.statuses,
        outcome.values,
        outcome.started_at,
        outcome.finished_at,
        strict=True,
    )
    if not failures and not retries:
        return [
            EndedJob(job_id, token, status, value, started_at, finished_at, None)
            for job_id, token, status, value, started_at, finished_at in columns
        ]
    return [
        EndedJob(
            *(job_id, token, status, value, started_at, finished_at),
            *(failures.get(index), retries.get(index)),
        )
        for index, (job_id, token, status, value, started_at, finished_at) in enumerate(columns)
    ]


def outcomes_of(rows: Iterable[EndedJob]) -> list[Outcome]:
    """Rows as few messages, none of them large."""
    messages = []
    chunk: list[EndedJob] = []
    size = 0
    for row in rows:
        weight = len(row.value) if row.value is not None else 0
        if len(chunk) >= MAX_OUTCOME_JOBS or (chunk and size + weight > MAX_OUTCOME_BYTES):
            messages.append(_outcome(chunk))
            chunk, size = [], 0
        chunk.append(row)
        size += weight
    if chunk:
        messages.append(_outcome(chunk))
    return messages


def _outcome(rows: list[EndedJob]) -> Outcome:
    failures = [[index, *row.failure] for index, row in enumerate(rows) if row.failure is not None]
    retries = [[index, *row.retry] for index, row in enumerate(rows) if row.retry is not None]
    ids, tokens, statuses, values, started_at, finished_at, _, _ = zip(*rows, strict=True)
    return Outcome(
        ids=b"".join(ids),
        tokens=tokens,
        statuses=bytes(statuses),
        values=values,
        started_at=started_at,
        finished_at=finished_at,
        failures=failures or None,
        retries=retries or None,
    )


class UnacknowledgedOutcomes:
    """Every outcome told by a runner and not yet acknowledged, by token."""

    def __init__(self) -> None:
        self._rows: dict[int, EndedJob] = {}
        self._unsent: list[EndedJob] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, token: int) -> bool:
        return token in self._rows

    @property
    def rows(self) -> Iterable[EndedJob]:
        """All of them, oldest first."""
        return self._rows.values()

    def add(self, row: EndedJob) -> None:
        """Keep an outcome, to be sent."""
        self._rows[row.token] = row
        self._unsent.append(row)

    def acknowledge(self, tokens: Iterable[int]) -> None:
        """The control plane has recorded these, or refused them for good."""
        for token in tokens:
            self._rows.pop(token, None)

    def next_messages(self) -> list[Outcome]:
        """What has not been sent over this connection, in as few messages as possible."""
        rows, self._unsent = self._unsent, []
        return outcomes_of(rows)

    def send_again(self) -> None:
        """A new connection: everything unacknowledged is unsent."""
        self._unsent = list(self._rows.values())
