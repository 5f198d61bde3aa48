"""`current`: what the code of a job may ask and say of that job."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fastworker.core.ids import id_text
from fastworker.errors import CallerError
from fastworker.runner.assignment import Assignment
from fastworker.runner.context import current_job
from fastworker.wire.values import PayloadTooLarge, open_value, seal_value

MAX_CHECKPOINT_BYTES: Final = 256 * 1024
"""Of one checkpoint: where to go on, not what was made; results belong into files or stores."""

MAX_MESSAGE_CHARACTERS: Final = 1000
"""Of the message of a progress; the rest is cut off."""

MAX_EXACT: Final = 2**53
"""Integers beyond it are rounded: nobody sees the difference, and any reader can keep them."""


@dataclass(frozen=True, slots=True)
class CurrentJob:
    """The job that the running code belongs to, as `current` gives it.

    May be used from everything that the job has started, threads that have its context too.

    Args:
        task_id: the job.
        attempt: which try at it this is, from 1; those that were lost with a worker count.
        token: the fencing token. Every attempt's is greater than those of all attempts before
            it, so whoever keeps the greatest it has seen can refuse one that comes too late.
    """

    task_id: str
    attempt: int
    token: int
    _assignment: Assignment = field(repr=False, compare=False)

    @property
    def deadline(self) -> datetime | None:
        """The aware moment (UTC) at which this attempt is stopped by a time limit or its job's
        deadline, whichever comes first; None: neither has been set."""
        seconds = _seconds_allowed(self._assignment)
        started = self._assignment.started_wall
        if seconds is None or started is None:
            return None
        return datetime.fromtimestamp(started + seconds, UTC)

    @property
    def draining(self) -> bool:
        """Whether this worker takes nothing more and leaves once its jobs have ended; a long job
        may leave a checkpoint and return early, to be submitted again."""
        reports = self._assignment.reports
        return reports is not None and reports.draining

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger with the task's name; its records name the job and its attempt."""
        name = self._assignment.route.task
        extra = {"task_id": self.task_id, "attempt": self.attempt}
        return logging.LoggerAdapter(logging.getLogger(name), extra)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the job is; whoever asks or follows sees what was said last.

        Costs little enough to be called in any loop: it never waits, and at most five a second
        are sent.

        Args:
            done: how much is done, in any unit.
            total: how much there is to do, in the same unit; None: not known.
            message: for people; at most 1,000 characters of it are kept.

        Raises:
            CallerError: an amount that is not a finite number.
        """
        reports = self._assignment.reports
        if reports is not None and os.getpid() == reports.pid:
            # What UTF-8 does not have could not travel.
            text = str(message)[:MAX_MESSAGE_CHARACTERS].encode("utf-8", "backslashreplace")
            given = None if total is None else _amount("total", total)
            reports.progress(self._assignment, _amount("done", done), given, text.decode())

    def checkpoint(self, value: Any) -> None:
        """Leave a value for the next attempt at this job, should there be one.

        It replaces what was left before, and is gone once the job has ended. What reaches the
        control plane before a crash counts: usually within milliseconds. Of many in a row, at
        most ten a second are sent, and the last one always.

        Args:
            value: anything a task could return, at most 256 KiB.

        Raises:
            NotSerializable: it cannot travel, or is too large.
        """
        reports = self._assignment.reports
        sealed = seal_value(value, what=f"the checkpoint of task {self._assignment.route.task!r}")
        if len(sealed) > MAX_CHECKPOINT_BYTES:
            raise PayloadTooLarge(
                f"a checkpoint of task {self._assignment.route.task!r} takes {len(sealed)} bytes; "
                f"at most {MAX_CHECKPOINT_BYTES} are kept; keep what is larger elsewhere, and its "
                "place in the checkpoint"
            )
        if reports is not None and os.getpid() == reports.pid:
            blocking = not self._assignment.route.in_loop
            reports.checkpoint(self._assignment, sealed, blocking=blocking)

    @property
    def last_checkpoint(self) -> Any:
        """What a former attempt at this job left with `checkpoint`; None: nothing."""
        sealed = self._assignment.checkpoint
        return None if sealed is None else open_value(sealed)


def current() -> CurrentJob:
    """The job that is running here; for the code of tasks, ``async def`` and ``def``.

    Raises:
        CallerError: no job is running here, as in a test that calls the function itself, or in
            a thread that the task has started.
    """
    assignment = current_job.get()
    if assignment is None:
        raise CallerError(
            "no job is running here: current() is for the code of a task that a worker runs; "
            "a thread that a task starts is given what it needs by the task"
        )
    return CurrentJob(id_text(assignment.id), assignment.attempt, assignment.token, assignment)


def _seconds_allowed(assignment: Assignment) -> float | None:
    """From its start."""
    limits = assignment.limits
    if limits is None:
        return None
    found = [limits.timeout] if limits.timeout is not None else []
    if limits.deadline is not None:
        found.append(limits.deadline - assignment.started)
    return min(found, default=None)


def _amount(name: str, value: float) -> float:
    """A number that every reader can keep.

    Raises:
        CallerError: it is none.
    """
    if type(value) is int and abs(value) <= MAX_EXACT:
        return value
    try:
        amount = float(value)
    except (TypeError, ValueError, OverflowError):
        amount = math.nan
    if not math.isfinite(amount):
        shown = "one beyond all bounds" if isinstance(value, int) else f"{value!r:.60}"
        raise CallerError(f"progress({name}=…) expects a finite number, not {shown}")
    return amount
