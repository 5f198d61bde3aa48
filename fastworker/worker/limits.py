"""How long jobs may run, as their subworker knows it: from their tasks, their options, the control
plane. Pure.

Moments are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

from fastworker.core.records import DEFAULT_GRACE_SECONDS


class RetryRule(NamedTuple):
    """How a job that has passed a limit is repeated; in numbers, since only runners know tasks."""

    times: int
    backoff: float
    factor: float
    longest: float
    jitter: float
    budget: float | None

    def decision(self, failures: int, random: Random) -> list[object] | None:
        """A row of `Outcome.retries` without its index; None: its failure is its end."""
        if failures >= self.times:
            return None
        try:
            wait = min(self.backoff * self.factor**failures, self.longest)
        except OverflowError:
            wait = self.longest
        return [wait * (1.0 - self.jitter * random.random()), True, self.budget]


class TaskLimits(NamedTuple):
    """What holds for all jobs of a task: a value of `RunnerReady.limits`.

    ``leaves``: its code is stopped, by force if need be, before its lease is lost.
    """

    timeout: float | None = None
    grace: float = DEFAULT_GRACE_SECONDS
    leaves: bool = False
    retry: RetryRule | None = None


NO_LIMITS: Final = TaskLimits()


def task_limits(rows: Mapping[str, Any] | None) -> dict[str, TaskLimits]:
    """`RunnerReady.limits` by task."""
    return {
        name: TaskLimits(timeout, grace, leaves, None if retry is None else RetryRule(*retry))
        for name, (timeout, grace, leaves, retry) in (rows or {}).items()
    }


@dataclass(slots=True)
class JobLimits:
    """What holds for one job. A moment that is None never comes.

    Args:
        cancel_by: it has been cancelled, and should have ended by then.
        leave_by: its lease may be lost, and it must have ended by then.
    """

    timeout: float | None
    grace: float
    retry: RetryRule | None = None
    deadline: float | None = None
    cancel_by: float | None = None
    leave_by: float | None = None


def spec_limits(spec: Sequence[object], tasks: Mapping[str, TaskLimits]) -> TaskLimits | None:
    """Of the jobs of one spec: what the call says replaces what the task says. None: no time
    limit, and nothing to know for another one."""
    name, options = spec[0], spec[3]
    known = tasks.get(name) if isinstance(name, str) else None
    if not isinstance(options, dict) or not options.keys() & {"timeout", "grace"}:
        return known
    limits = known or NO_LIMITS
    timeout, grace = options.get("timeout"), options.get("grace")
    return limits._replace(
        timeout=limits.timeout if timeout is None else float(timeout),
        grace=limits.grace if grace is None else float(grace),
    )
