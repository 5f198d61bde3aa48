"""Which attempt the running code belongs to. Copied into everything that code starts."""

from __future__ import annotations

from contextvars import ContextVar

from fastworker.runner.assignment import Assignment

current_job: ContextVar[Assignment | None] = ContextVar("fastworker_job", default=None)
"""The attempt this code runs for; None outside tasks."""


def current_lease() -> tuple[bytes, int] | None:
    """Id and lease token of the running job, which are its authority; None outside tasks."""
    assignment = current_job.get()
    return None if assignment is None else (assignment.id, assignment.token)
