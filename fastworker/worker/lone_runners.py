"""Runners with one job at a time, and the lines of jobs for them. Pure, but for one event.

There are two kinds of such jobs. Those of the *quarantine* ran in a runner that died, perhaps
because of them: one runs at a time, so that no two are ever suspected of the same death. And those
whose tasks say ``run_in="process"``: as many as the settings allow.

A job that waits for the result of another one is not in the way of the next, so that such jobs can
wait for each other. These runners have negative numbers; they are started when a job needs one, and
kept for the next job for a while.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import trio

from fastworker.core.records import TaskPriority
from fastworker.worker.held_job import HeldJob

MOST_URGENT_FIRST: Final = tuple(sorted(map(int, TaskPriority), reverse=True))


@dataclass(slots=True)
class LoneRunner:
    """A runner for one job at a time."""

    job: HeldJob | None = None
    waits: int = 0
    """Slots its job has given back since it waits for others."""
    uses: int = 0
    """Grows whenever a job comes or goes."""
    retired: bool = False


class LoneRunners:
    """The lines and the runners of one kind. Jobs that are no longer held are passed over.

    Args:
        name: for the log.
        most: jobs at once.
    """

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self.starting: set[int] = set()
        """Numbers of runners that are not ready yet."""
        self._lines: dict[int, deque[HeldJob]] = {number: deque() for number in MOST_URGENT_FIRST}
        self.runners: dict[int, LoneRunner] = {}
        self._queued = 0
        self._wanted = trio.Event()

    def put(self, job: HeldJob) -> None:
        """Queue a job."""
        self._lines[job.priority].append(job)
        self._queued += 1

    async def wait_wanted(self) -> None:
        """Until a job could run if there were one runner more, as `look` has found."""
        while not self._is_wanted():
            self._wanted = trio.Event()
            await self._wanted.wait()

    def look(self) -> None:
        """What can be handed over has been: wake `wait_wanted` if that was not enough."""
        if not self._wanted.is_set() and self._is_wanted():
            self._wanted.set()

    def _is_wanted(self) -> bool:
        coming = len(self.starting)
        return (
            self._first() is not None
            and self._idle() is None
            and coming < self._queued
            and self._at_work() + coming < self.most
        )

    def begin(self, number: int) -> None:
        """A runner is being started."""
        self.starting.add(number)

    def give_up(self, number: int) -> None:
        """It did not come up: another one may be started."""
        self.starting.discard(number)
        self.look()

    def add(self, number: int) -> None:
        """It is ready."""
        self.starting.discard(number)
        self.runners[number] = LoneRunner()

    def slots(self) -> int:
        """How many of these jobs may be here at once; those that wait for others do not count."""
        return self.most + sum(max(each.waits, 0) for each in self.runners.values())

    def hand_over(self) -> tuple[int, HeldJob] | None:
        """Give the next job to a runner, if one may start now."""
        job = self._first()
        number = self._idle()
        if job is None or number is None or self._at_work() >= self.most:
            return None
        self._lines[job.priority].popleft()
        self._queued -= 1
        runner = self.runners[number]
        runner.job = job
        runner.uses += 1
        job.runner = number
        return number, job

    def end(self, number: int) -> None:
        """The job of this runner is done with; others are passed over."""
        runner = self.runners.get(number)
        if runner is None:
            return
        runner.job = None
        runner.waits = 0
        runner.uses += 1

    def uses(self, number: int) -> int:
        """Grows whenever this runner gets or ends a job; 0 before it is ready."""
        runner = self.runners.get(number)
        return 0 if runner is None else runner.uses

    def retire(self, number: int) -> bool:
        """Give this runner no more; False if it is busy, or not there."""
        runner = self.runners.get(number)
        if runner is None or runner.job is not None:
            return False
        runner.retired = True
        return True

    def dismiss(self, number: int) -> None:
        """Give this runner no more, even if it is busy just now; others are passed over."""
        runner = self.runners.get(number)
        if runner is not None:
            runner.retired = True

    def _first(self) -> HeldJob | None:
        if not self._queued:
            return None
        for line in self._lines.values():
            while line:
                if not line[0].gone:
                    return line[0]
                line.popleft()
                self._queued -= 1
        return None

    def _at_work(self) -> int:
        """Runners with a job that does not just wait for another."""
        return sum(each.job is not None and each.waits <= 0 for each in self.runners.values())

    def _idle(self) -> int | None:
        for number, runner in self.runners.items():
            if runner.job is None and not runner.retired:
                return number
        return None
