"""Which attempt the running code belongs to. Copied into everything that code starts."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import trio

from fastworker.runner.assignment import Assignment

current_job: ContextVar[Assignment | None] = ContextVar("fastworker_job", default=None)
"""The attempt this code runs for; None outside tasks."""


def current_lease() -> tuple[bytes, int] | None:
    """Id and lease token of the running job, which are its authority; None outside tasks."""
    assignment = current_job.get()
    return None if assignment is None else (assignment.id, assignment.token)


def current_tenant() -> str | None:
    """Whose job is running; None outside tasks."""
    assignment = current_job.get()
    return None if assignment is None else assignment.tenant


def seconds_left() -> float | None:
    """Until the deadline of the running job; None: it has none."""
    assignment = current_job.get()
    limits = None if assignment is None else assignment.limits
    return None if limits is None else limits.seconds_left()


def check_cancelled() -> None:
    """Raise if this job is to stop; for the code of ``def`` tasks, every now and then.

    A thread cannot be stopped from outside, so it asks. It costs far less than a microsecond.
    Does nothing outside of jobs, and in the loops of ``async def`` tasks, where cancellation
    arrives by itself; functions that those run in threads may call it.

    Raises:
        JobCancelled: the job was cancelled, or its worker ends or may have lost its lease.
        TimeLimitExceeded: it has run into its time limit or deadline.
    """
    assignment = current_job.get()
    if assignment is not None and assignment.stop is not None and not _in_event_loop():
        raise assignment.stop.error


def _in_event_loop() -> bool:
    return asyncio._get_running_loop() is not None or trio.lowlevel.in_trio_run()
