"""Stops by force what does not stop when it is told: by ending its runner, whatever runs in it.

Runners tell code to stop at its limits, and when it is cancelled. This is for code that does not
listen, and for runners whose loops do not turn: it needs nothing of them but the memory in which
they note what has started. What else ran in such a runner is handed back, uncounted.

A cancelled job costs no runner that it shares with others: it is only told where it is.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

import trio

from fastworker.core.ids import id_text
from fastworker.core.records import STATUS_NUMBERS, TaskStatus
from fastworker.wire.messages import Message, Unwinding
from fastworker.worker.held import HeldJobs
from fastworker.worker.held_job import HeldJob
from fastworker.worker.limits import JobLimits
from fastworker.worker.outcomes import EndedJob
from fastworker.worker.runner_handle import RunnerHandle

SLACK_SECONDS: Final = 0.1
"""After the grace: for code that ended within it, and whose outcome is on its way."""

STALE_ENTRIES: Final = 64
"""Jobs that have ended are swept once there are more of them than of others, and this many."""

_FAILURE: Final = STATUS_NUMBERS[TaskStatus.FAILURE]
_CANCELLED: Final = STATUS_NUMBERS[TaskStatus.CANCELLED]

_log = logging.getLogger("fastworker.worker")


class _Overdue(NamedTuple):
    """The moment by which a job must have ended, and why: a word for failures, a sentence."""

    at: float
    reason: str
    sentence: str


@dataclass(slots=True)
class Condemned:
    """A runner that is being ended by force.

    ``ends``: outcomes of the jobs that are to blame, if they still run then. ``leaving``: tokens of
    jobs that go since their lease may be lost.
    """

    ends: dict[int, EndedJob] = field(default_factory=dict)
    leaving: set[int] = field(default_factory=set)


class Enforcer:
    """Watches jobs that have a limit, or have been told to stop.

    Args:
        runner_of: the handle of a runner, by number.
        tell: sends to the control plane.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        held: HeldJobs,
        *,
        runner_of: Callable[[int], RunnerHandle | None],
        tell: Callable[[Message], None],
        clock: Callable[[], float],
        random: Random | None = None,
    ) -> None:
        self._held = held
        self._runner_of = runner_of
        self._tell = tell
        self._clock = clock
        self._random = random if random is not None else Random()
        self._numbers = itertools.count()
        self._watched: list[tuple[float, int, HeldJob]] = []
        self._earlier = trio.Event()
        self._condemned: dict[int, Condemned] = {}

    # --- what to watch --------------------------------------------------------------------

    def watch(self, jobs: Iterable[HeldJob]) -> None:
        """They have come, and have limits."""
        now = self._clock()
        for job in jobs:
            moments = [overdue.at for overdue in _overdue(job, now)]
            if moments:
                self._look_at(job, min(moments))

    def cancel_asked(self, jobs: Iterable[HeldJob], grace: float, *, usual: bool = False) -> None:
        """Their runners have been told to stop them; another grace replaces the one before.

        Args:
            usual: the tasks' own grace comes first.
        """
        for job in jobs:
            known = self._held.task_limits.get(str(job.spec[0])) if usual else None
            seconds = grace if known is None else known.grace
            _limits(job).cancel_by = at = self._clock() + seconds
            self._look_at(job, at + SLACK_SECONDS)

    def lease_doubtful(self, jobs: Iterable[HeldJob], within: float) -> None:
        """Those whose tasks want it have been told to stop, and must have in so many seconds."""
        for job in jobs:
            limits = self._held.task_limits.get(str(job.spec[0]))
            if limits is not None and limits.leaves:
                _limits(job).leave_by = at = self._clock() + within
                self._look_at(job, at)

    def leases_safe(self) -> None:
        """Nobody has to leave any more."""
        for job in self._held.jobs:
            if job.limits is not None:
                job.limits.leave_by = None

    def _look_at(self, job: HeldJob, at: float) -> None:
        if len(self._watched) > 2 * len(self._held) + STALE_ENTRIES:
            self._watched = [each for each in self._watched if not each[2].gone]
            heapq.heapify(self._watched)
        entry = (at, next(self._numbers), job)
        heapq.heappush(self._watched, entry)
        if self._watched[0] is entry:
            self._earlier.set()

    # --- what comes of it -----------------------------------------------------------------

    async def enforce_forever(self) -> None:
        """Look at each job when it should have ended."""
        async with trio.open_nursery() as nursery:
            while True:
                due = await self._wait_due()
                unwinding = [job for job in due if self._look(job)]
                if unwinding:
                    nursery.start_soon(self._tell_unwinding, unwinding)

    async def _wait_due(self) -> list[HeldJob]:
        while not self._watched or self._watched[0][0] > self._clock():
            self._earlier = trio.Event()
            wait = self._watched[0][0] - self._clock() if self._watched else float("inf")
            with trio.move_on_after(max(0.0, wait)):
                await self._earlier.wait()
        now = self._clock()
        due = []
        while self._watched and self._watched[0][0] <= now:
            due.append(heapq.heappop(self._watched)[2])
        return due

    def _look(self, job: HeldJob) -> bool:
        """Whether it is to be said that it is unwinding: all else is done here."""
        limits = job.limits
        if job.gone or job.stale or limits is None:
            return False
        now = self._clock()
        runner = None if job.runner is None else self._runner_of(job.runner)
        ran = None if runner is None else runner.running_for(job.token)
        if ran is None:
            # Not started, or ended and not told yet. Its deadline is looked at before its start.
            if limits.timeout is not None:
                self._look_at(job, now + limits.timeout + limits.grace + SLACK_SECONDS)
            return _take_cancel(limits, now)
        moments = list(_overdue(job, now - ran))
        if not moments:
            return False
        first = min(moments)
        if first.at > now:
            self._look_at(job, first.at)
            return False
        if first.reason == "cancel" and not self._is_alone(job):
            limits.cancel_by = None
            self._look_at(job, now)
            return True
        self._condemn(job, first, ran)
        return False

    def _is_alone(self, job: HeldJob) -> bool:
        return job.runner is not None and self._held.is_alone(job.runner)

    async def _tell_unwinding(self, jobs: Sequence[HeldJob]) -> None:
        stacks: dict[int, str] = {}
        for number, held in self._held.handed_over(job.token for job in jobs).items():
            runner = self._runner_of(number)
            if runner is not None:
                stacks |= await runner.stacks([job.token for job in held])
        jobs = [job for job in jobs if not job.gone]
        if jobs:
            tokens = [job.token for job in jobs]
            ids = b"".join([job.id for job in jobs])
            self._tell(Unwinding(ids, tokens, [stacks.get(token, "") for token in tokens]))

    # --- ending a runner ------------------------------------------------------------------

    def _condemn(self, job: HeldJob, overdue: _Overdue, ran: float) -> None:
        number = job.runner
        assert number is not None
        runner = self._runner_of(number)
        assert runner is not None
        condemned = self._condemned.setdefault(number, Condemned())
        if overdue.reason == "lease":
            condemned.leaving.add(job.token)
        else:
            condemned.ends[job.token] = self._end_of(job, overdue, ran)
        others = len(self._held.given_to(number)) - 1
        _log.warning(
            "runner %d (pid %d) is ended: job %s (%s) %s; of others %d run again elsewhere",
            *(number, runner.pid, id_text(job.id), job.spec[0], overdue.sentence, others),
        )
        self._held.retire_runner(number)
        runner.kill()

    def _end_of(self, job: HeldJob, overdue: _Overdue, ran: float) -> EndedJob:
        started_at = time.time() - ran if job.started_at is None else job.started_at
        limits = _limits(job)
        cancelled = overdue.reason == "cancel"
        if limits.cancel_by is not None and self._is_alone(job):
            cancelled = True
        if cancelled:
            return EndedJob(job.id, job.token, _CANCELLED, None, started_at, started_at + ran, None)
        message = f"job {id_text(job.id)} ({job.spec[0]}) {overdue.sentence}; its process was ended"
        retry = None
        if limits.retry is not None and limits.cancel_by is None:
            retry = limits.retry.decision(job.failures, self._random)
        return EndedJob(
            *(job.id, job.token, _FAILURE, None, started_at, started_at + ran),
            ["TimeLimitExceeded", message, "", overdue.reason],
            retry,
        )

    def gone(
        self, number: int, lost: Sequence[HeldJob], started: Collection[int] | None
    ) -> Gone | None:
        """A runner has exited, with these jobs: what becomes of them if it was ended from here."""
        condemned = self._condemned.pop(number, None)
        if condemned is None:
            return None
        ends, leaving, others = [], [], []
        for job in lost:
            runs = started is None or job.token in started
            if runs and job.token in condemned.ends:
                ends.append(condemned.ends[job.token])
            elif runs and job.token in condemned.leaving:
                leaving.append(job)
            else:
                others.append(job)
        return Gone(ends, leaving, others)


class Gone(NamedTuple):
    """What a runner that was ended by force leaves: outcomes of those to blame, jobs whose lease
    was in doubt, and the others."""

    ends: list[EndedJob]
    leaving: list[HeldJob]
    others: list[HeldJob]


def _limits(job: HeldJob) -> JobLimits:
    if job.limits is None:
        job.limits = JobLimits(None, 0.0)
    return job.limits


def _take_cancel(limits: JobLimits, now: float) -> bool:
    """Whether its grace has passed; that is told once."""
    over = limits.cancel_by is not None and limits.cancel_by <= now
    if over:
        limits.cancel_by = None
    return over


def _overdue(job: HeldJob, started: float) -> Iterable[_Overdue]:
    """All moments by which a job that started then must have ended."""
    limits = job.limits
    if limits is None:
        return
    if limits.cancel_by is not None:
        sentence = "was cancelled and did not stop"
        yield _Overdue(limits.cancel_by + SLACK_SECONDS, "cancel", sentence)
    if limits.leave_by is not None:
        yield _Overdue(limits.leave_by, "lease", "has to stop before its lease is lost")
    after = f", and did not stop within {limits.grace:g} s"
    if limits.timeout is not None:
        sentence = f"ran longer than its time limit of {limits.timeout:g} s{after}"
        at = started + limits.timeout + limits.grace + SLACK_SECONDS
        yield _Overdue(at, "timeout", sentence)
    if limits.deadline is not None:
        at = limits.deadline + limits.grace + SLACK_SECONDS
        yield _Overdue(at, "deadline", f"ran past its deadline{after}")
