"""Tells running code to stop: when it was cancelled, at its limits, on the way out.

In the main thread. Telling is all that happens here: code ends when it wants to, its ending says
whether it did so because it was told, and the subworker ends runners whose code does not.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Final

from fastworker.core.ids import id_text
from fastworker.runner.assignment import Assignment
from fastworker.runner.outcomes import handback_of
from fastworker.runner.reactor import Reactor
from fastworker.runner.ready import ReadyJobs
from fastworker.runner.stopping import (
    Stop,
    cancelled,
    draining,
    lease_doubtful,
    past_deadline,
    timed_out,
)
from fastworker.wire.messages import LeaseLost, Message, Withdraw, Withdrawn

STALE_ENTRIES: Final = 64
"""Limits of jobs that have ended are swept once there are more of them than of others, and this
many: they might be hours away."""


class Stops:
    """The jobs of one runner as somebody sees them who wants them to end.

    Args:
        running: by token; the service's own.
        tell: sends a message to the subworker.
        monotonic: seconds.
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        ready: ReadyJobs,
        running: dict[int, Assignment],
        tell: Callable[[Message], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._ready = ready
        self._running = running
        self._tell = tell
        self._monotonic = monotonic
        self._numbers = itertools.count()
        self._limits: list[tuple[float, int, Assignment]] = []
        self._limited = 0
        self._timer_at: float | None = None

    # --- asked by the subworker -------------------------------------------------------------

    def withdraw(self, message: Withdraw) -> None:
        """Give back what has not started; tell what has started to stop, if that is wanted."""
        taken = bytes(self._ready.withdraw(token) for token in message.tokens)
        self._tell(Withdrawn(ids=message.ids, tokens=message.tokens, taken=taken))
        if message.grace is not None:
            for token, was_taken in zip(message.tokens, taken, strict=True):
                assignment = None if was_taken else self._running.get(token)
                if assignment is not None:
                    task, job = _names(assignment)
                    tell_to_stop(assignment, cancelled(task, job, message.reason))

    def lease_lost(self, message: LeaseLost) -> None:
        """Give back what has not started; stop those tasks that want it."""
        unstarted = []
        for token in message.tokens:
            waiting = self._ready.get(token)
            if waiting is not None and self._ready.withdraw(token):
                # Nobody may start what may be cancelled, expired or running elsewhere by now.
                unstarted.append(waiting)
                continue
            assignment = self._running.get(token)
            if assignment is not None and assignment.route.stops:
                tell_to_stop(assignment, lease_doubtful(*_names(assignment)))
        if unstarted:
            self._tell(handback_of(unstarted, reason="lease_lost"))

    def stop_all(self) -> None:
        """The time for draining is over: what still runs is to stop, and will run elsewhere."""
        for assignment in self._running.values():
            tell_to_stop(assignment, draining(*_names(assignment)))

    # --- limits -----------------------------------------------------------------------------

    def watch(self, assignment: Assignment) -> None:
        """It has started, and has `Limits`."""
        limits = assignment.limits
        assert limits is not None
        moments = [] if limits.deadline is None else [limits.deadline]
        if limits.timeout is not None:
            moments.append(assignment.started + limits.timeout)
        if moments:
            heapq.heappush(self._limits, (min(moments), next(self._numbers), assignment))
            self._limited += 1
            self._set_timer()

    def forget(self, assignment: Assignment) -> None:
        """It was watched, and has ended."""
        self._limited -= 1
        if len(self._limits) > 2 * self._limited + STALE_ENTRIES:
            self._limits = [each for each in self._limits if each[2].token in self._running]
            heapq.heapify(self._limits)

    def _set_timer(self) -> None:
        at = self._limits[0][0]
        if self._timer_at is None or at < self._timer_at:
            # An older timer that comes later finds nothing to do.
            self._timer_at = at
            self._reactor.later(max(0.0, at - self._monotonic()), self._stop_late)

    def _stop_late(self) -> None:
        self._timer_at = None
        now = self._monotonic()
        while self._limits and self._limits[0][0] <= now:
            _, _, assignment = heapq.heappop(self._limits)
            if assignment.token in self._running:
                tell_to_stop(assignment, _limit_passed(assignment, now))
        if self._limits:
            self._set_timer()


def tell_to_stop(assignment: Assignment, stop: Stop) -> None:
    """Tell its code, in the way of its kind; a second time does nothing. Never waits."""
    if assignment.stop is None:
        assignment.stop = stop
        # Read after that was written: who starts it does the two in the other order.
        if assignment.cancel is not None:
            assignment.cancel(assignment)


def note_limit(assignment: Assignment) -> None:
    """Its own cancel scope has noticed that it has run into its deadline."""
    limits = assignment.limits
    if assignment.stop is None and limits is not None:
        assignment.stop = past_deadline(*_names(assignment), limits.clock() - assignment.started)


def _limit_passed(assignment: Assignment, now: float) -> Stop:
    limits = assignment.limits
    assert limits is not None
    if limits.deadline is not None and limits.deadline <= now:
        return past_deadline(*_names(assignment), now - assignment.started)
    assert limits.timeout is not None
    return timed_out(*_names(assignment), limits.timeout)


def _names(assignment: Assignment) -> tuple[str, str]:
    return assignment.route.task, id_text(assignment.id)
