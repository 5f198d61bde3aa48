"""What a store tells of attempts and of errors: the same rules for every store. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from fastworker.core.records import (
    AttemptRow,
    AttemptView,
    Failure,
    TaskStatus,
    WorkerRow,
)

ERROR_CHARACTERS: Final = 1000
"""Of an attempt's error: enough to recognise it; the whole text is with the job's outcome."""

_RUN_TO_END: Final = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILURE, TaskStatus.DEAD})
"""Ends that an attempt brings about, whether or not it was seen to start."""


class LastAttempt(NamedTuple):
    """What a job itself says of its current or last lease."""

    status: TaskStatus
    token: int
    session: bytes | None
    started_at: float | None
    finished_at: float | None
    failure: Failure | None


def tell_attempts(
    earlier: Iterable[AttemptRow], last: LastAttempt, workers: Mapping[bytes, WorkerRow]
) -> list[AttemptView]:
    """All attempts of a job, first to last: those that did not end it and the last one.

    An attempt whose lease had expired may have ended its job after all: then the end is told.
    """
    revived = last.status in (TaskStatus.SUCCESS, TaskStatus.FAILURE)
    told = [
        _view(row.token, row.session, workers, row.started_at, row.finished_at)._replace(
            outcome=row.outcome, error=row.error
        )
        for row in sorted(earlier, key=lambda row: row.token)
        if not (revived and row.token == last.token)
    ]
    if _was_attempt(last) and all(view.token != last.token for view in told):
        view = _view(last.token, last.session, workers, last.started_at, last.finished_at)
        told.append(view._replace(outcome=last.status.value, error=_error(last.failure)))
    return told


def is_of_error(error: str, status: TaskStatus, failure: Failure | None) -> bool:
    """Whether a dead letter failed with a type of that name, or is DEAD for that reason."""
    if failure is None:
        return False
    return failure.type_name == error or (status is TaskStatus.DEAD and failure.reason == error)


def _was_attempt(last: LastAttempt) -> bool:
    """Whether the job's lease stands for an attempt: a job that waits, or that ended while it
    waited, has a lease that was given back."""
    if not last.token:
        return False
    if last.status is TaskStatus.RUNNING or last.status in _RUN_TO_END:
        return True
    return last.status.is_terminal and last.started_at is not None


def _view(
    token: int,
    session: bytes | None,
    workers: Mapping[bytes, WorkerRow],
    started_at: float | None,
    finished_at: float | None,
) -> AttemptView:
    worker = None if session is None else workers.get(session)
    label, host, pid = (worker.label, worker.host, worker.pid) if worker else (None, None, None)
    return AttemptView(token, label, host, pid, started_at, finished_at, "", "")


def _error(failure: Failure | None) -> str:
    if failure is None:
        return ""
    text = ": ".join(part for part in (failure.type_name, failure.message) if part)
    return text[:ERROR_CHARACTERS]
