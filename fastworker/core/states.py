"""All moves between the states of a job, in one table. A move that is not here raises."""

from __future__ import annotations

from typing import Final

from fastworker.core.records import TaskStatus
from fastworker.errors import IllegalTransition

_S = TaskStatus

MOVES: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    # Waiting for other jobs: released, or ended before it ever could run.
    _S.WAITING: frozenset({_S.SCHEDULED, _S.QUEUED, _S.CANCELLED, _S.EXPIRED, _S.DEAD}),
    # Until a time: becomes ready, or ends before that.
    _S.SCHEDULED: frozenset({_S.QUEUED, _S.CANCELLED, _S.EXPIRED}),
    # Ready: leased, put off, or ended. SUCCESS and FAILURE: a late outcome revives its lease
    # when the job was not handed out again.
    _S.QUEUED: frozenset(
        {_S.RUNNING, _S.SCHEDULED, _S.CANCELLED, _S.EXPIRED, _S.SUCCESS, _S.FAILURE, _S.DEAD}
    ),
    # Leased: ends, is handed back or lost (QUEUED), or will be retried (SCHEDULED).
    # EXPIRED: found past its deadline at the very start, before any code ran.
    _S.RUNNING: frozenset(
        {
            _S.SUCCESS,
            _S.FAILURE,
            _S.CANCELLED,
            _S.EXPIRED,
            _S.DEAD,
            _S.QUEUED,
            _S.SCHEDULED,
        }
    ),
    _S.SUCCESS: frozenset(),
    _S.FAILURE: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.DEAD: frozenset(),
}


def check_move(job: str, before: TaskStatus, after: TaskStatus) -> TaskStatus:
    """Return ``after`` if a job may move there from ``before``.

    Raises:
        IllegalTransition: the move is not in the table.
    """
    if after not in MOVES[before]:
        raise IllegalTransition(
            f"job {job} is {before.value} and cannot become {after.value}; "
            "a terminal state never changes, and every other move is listed in core/states.py"
        )
    return after
