"""Why running code is told to stop, in the words of those who asked. Pure.

Whoever was first is right: code that unwinds does so for one reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from fastworker.core.lengths import seconds_of
from fastworker.core.records import DEFAULT_GRACE_SECONDS
from fastworker.errors import JobCancelled, TaskError, TimeLimitExceeded
from fastworker.tasks import Retry, TaskDefinition


class StopReason(Enum):
    """Who or what wants it; the value is the word for it in failures."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    LEASE = "lease"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Stop:
    """An attempt is to stop.

    Args:
        error: what `fastworker.check_cancelled` raises in its thread: always this very object, by
            which the end that it brings about is known from others.
    """

    reason: StopReason
    error: TaskError


class Limits(NamedTuple):
    """How long an attempt may run; most have none.

    ``timeout``: seconds from its start. ``deadline``: monotonic seconds, by ``clock``.
    """

    timeout: float | None = None
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic

    def seconds_left(self) -> float | None:
        """Until its deadline; None: it has none."""
        return None if self.deadline is None else self.deadline - self.clock()


def limits_of(timeout: object) -> Limits | None:
    """The limits of a task, or of one call, as it stands in the options of a job."""
    return Limits(float(timeout)) if isinstance(timeout, int | float) else None


def limit_row(definition: TaskDefinition) -> list[object] | None:
    """What the subworker must know to hold the jobs of a task to its limits: a value of
    `RunnerReady.limits`; None: nothing."""
    leaves = definition.on_lease_lost == "cancel"
    rule = _retry_rule(definition.retry)
    row: list[object] = [definition.timeout, definition.grace, leaves, rule]
    return None if row == [None, DEFAULT_GRACE_SECONDS, False, None] else row


def _retry_rule(policy: Retry | None) -> list[object] | None:
    """How a job that has passed a limit is repeated, in numbers; None: not at all."""
    if policy is None or not policy.times:
        return None
    late = TimeLimitExceeded("")
    if isinstance(late, policy.never) or not isinstance(late, policy.on):
        return None
    backoff = seconds_of(policy.backoff, "backoff")
    longest = seconds_of(policy.max_delay, "max_delay")
    budget = None if policy.budget is None else seconds_of(policy.budget, "budget")
    return [policy.times, backoff, policy.factor, longest, policy.jitter, budget]


def cancelled(task: str, job: str, reason: str) -> Stop:
    """Somebody has cancelled the job."""
    said = f": {reason}" if reason else ""
    error = JobCancelled(f"job {job} ({task}) was cancelled{said}", task_id=job)
    return Stop(StopReason.CANCEL, error)


def lease_doubtful(task: str, job: str) -> Stop:
    """The job may soon run elsewhere."""
    text = f"job {job} ({task}) is stopped: its lease may be lost, and it may soon run elsewhere"
    return Stop(StopReason.LEASE, JobCancelled(text, task_id=job))


def draining(task: str, job: str) -> Stop:
    """The worker ends, and has waited for as long as it may."""
    text = f"job {job} ({task}) is stopped: its worker ends; it will run again elsewhere"
    return Stop(StopReason.DRAIN, JobCancelled(text, task_id=job))


def timed_out(task: str, job: str, timeout: float) -> Stop:
    """It has run for as long as it may."""
    text = f"job {job} ({task}) ran longer than its time limit of {timeout:g} s"
    return Stop(StopReason.TIMEOUT, TimeLimitExceeded(text, task_id=job))


def past_deadline(task: str, job: str, ran_for: float) -> Stop:
    """Its result would come too late for whoever asked for it."""
    text = f"the deadline of job {job} ({task}) passed when it had run for {ran_for:.3g} s"
    return Stop(StopReason.DEADLINE, TimeLimitExceeded(text, task_id=job))
