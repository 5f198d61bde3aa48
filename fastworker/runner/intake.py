"""From the columns of `Assign` to the line of jobs that are ready to start."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from itertools import repeat
from typing import TypeAlias, cast

from fastworker.core.ids import split_ids
from fastworker.core.records import DEFAULT_TENANT
from fastworker.runner.assignment import Assignment, Route
from fastworker.runner.ready import ReadyJobs
from fastworker.runner.stopping import Limits, limits_of
from fastworker.wire.messages import Assign

RouteFinder: TypeAlias = Callable[[str, int], Route]
"""From a task's name and the pool its job was sent for."""


class Intake:
    """Main thread only.

    Args:
        running: tokens of jobs that run; the service's own.
        monotonic: seconds.
    """

    def __init__(
        self,
        find_route: RouteFinder,
        *,
        ready: ReadyJobs,
        running: Container[int],
        monotonic: Callable[[], float],
    ) -> None:
        self._find_route = find_route
        self._ready = ready
        self._running = running
        self._monotonic = monotonic

    def take(self, message: Assign) -> None:
        """Put these jobs in line; those that are there already, or run, are passed over."""
        now = self._monotonic()
        specs = [
            _spec(self._find_route(cast(str, task), cast(int, pool)), priority, options)
            for task, priority, pool, options in message.specs
        ]
        columns = zip(
            split_ids(message.ids),
            message.tokens,
            message.payloads,
            message.attempts,
            repeat(0) if message.which is None else message.which,
            repeat(None) if message.budget is None else message.budget,
            repeat(0) if message.failures is None else message.failures,
            repeat(None) if message.remaining is None else message.remaining,
            strict=False,
        )
        put, ready, running = self._ready.put, self._ready, self._running
        for job_id, token, payload, attempt, which, budget, failures, remaining in columns:
            if token in running or token in ready:
                continue
            route, priority, limits, streamed, context, tenant = specs[which]
            limit = None if budget is None else now + budget
            job = Assignment(job_id, token, route, priority, payload, attempt, limit, failures)
            if remaining is not None:
                job.limits = Limits(limits and limits.timeout, now + remaining, self._monotonic)
            elif limits is not None:
                job.limits = limits
            job.streamed, job.context, job.tenant = streamed, context, tenant
            put(job)
        if message.checkpoints is not None:
            self._add_checkpoints(message.tokens, message.checkpoints)

    def _add_checkpoints(self, tokens: Sequence[int], checkpoints: Sequence[bytes | None]) -> None:
        for token, checkpoint in zip(tokens, checkpoints, strict=True):
            if checkpoint is not None and (job := self._ready.get(token)) is not None:
                job.checkpoint = checkpoint


def _spec(
    route: Route, priority: object, options: object
) -> tuple[Route, int, Limits | None, bool, bytes | None, str]:
    """What is the same for all jobs of one spec, whether they are streamed, their context and
    their tenant; a call's own limit replaces its task's."""
    if not options or not isinstance(options, dict):
        return route, cast(int, priority), route.limits, False, None, DEFAULT_TENANT
    own = limits_of(options.get("timeout"))
    streamed, context = options.get("stream") is True, options.get("context")
    tenant = str(options.get("tenant", DEFAULT_TENANT))
    return route, cast(int, priority), own or route.limits, streamed, context, tenant
