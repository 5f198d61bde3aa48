"""The jobs a subworker holds and has no outcome of: queued here, or handed to a runner. Pure.

Jobs wait in one line per pool and priority. The most urgent is handed over first, to the runner
with the lowest share of its slots taken, as far as its `RunnerLoad` has room. Jobs that run alone
wait in lines of their own, for `LoneRunners`.

Tokens are unique per attempt, so they are the keys. Moments are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from fastworker.core.ids import split_ids
from fastworker.core.records import PROCESS_POOL
from fastworker.errors import ProtocolError
from fastworker.wire.messages import Assign
from fastworker.worker.columns import assigns_of
from fastworker.worker.held_job import HeldJob
from fastworker.worker.limits import NO_LIMITS, JobLimits, TaskLimits, spec_limits
from fastworker.worker.loads import PRIORITIES, SHARED_POOLS, RunnerLoad
from fastworker.worker.lone_runners import LoneRunner, LoneRunners


class HeldJobs:
    """The table of held jobs, its lines and the runners' loads.

    Args:
        processes: jobs at once whose tasks run in processes of their own.
    """

    def __init__(self, *, processes: int = 1) -> None:
        self._jobs: dict[int, HeldJob] = {}
        self._lines = [[deque[HeldJob]() for _ in range(PRIORITIES)] for _ in range(SHARED_POOLS)]
        self.runners: dict[int, RunnerLoad] = {}
        self.leaving: dict[int, RunnerLoad] = {}
        """Runners that get nothing more, and have not ended all they were given."""
        self.quarantine = LoneRunners("quarantine", 1)
        self.processes = LoneRunners("process", processes)
        self.lone = (self.quarantine, self.processes)
        self.task_limits: dict[str, TaskLimits] = {}
        """As the runner that came up last told them."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, token: int) -> bool:
        return token in self._jobs

    def get(self, token: int) -> HeldJob | None:
        """The job held under this token, if any."""
        return self._jobs.get(token)

    def is_ours(self, token: int) -> bool:
        """Whether this job is held, and its lease is not known to be gone."""
        job = self._jobs.get(token)
        return job is not None and not job.stale

    @property
    def jobs(self) -> Iterable[HeldJob]:
        """All of them, in the order in which they came."""
        return self._jobs.values()

    # --- runners -----------------------------------------------------------------------

    def add_runner(self, runner: int, slots: Sequence[int]) -> None:
        """A runner is ready and has room."""
        self.runners[runner] = RunnerLoad(list(slots))

    def retire_runner(self, runner: int) -> None:
        """Give a runner nothing more; what it has it may end. A second call does nothing."""
        for group in self.lone:
            group.dismiss(runner)
        load = self.runners.pop(runner, None)
        if load is not None:
            self.leaving[runner] = load

    def add_lone_runner(self, runner: int) -> None:
        """A runner for one job at a time is ready; one that nobody waits for is not used."""
        for group in self.lone:
            if runner in group.starting:
                group.add(runner)

    def is_alone(self, runner: int) -> bool:
        """Whether this runner has one job at a time."""
        return self._lone(runner) is not None

    def _lone(self, runner: int) -> LoneRunner | None:
        return self.quarantine.runners.get(runner) or self.processes.runners.get(runner)

    def remove_runner(self, runner: int) -> list[HeldJob]:
        """A runner is gone; returns, and forgets, what it had been given and not ended."""
        alone = self._lone(runner)
        for group in self.lone:
            group.runners.pop(runner, None)
        if alone is not None:
            lost = [] if alone.job is None else [alone.job]
        else:
            load = self._load_of(runner)
            self.runners.pop(runner, None)
            self.leaving.pop(runner, None)
            lost = [] if load is None else list(load.jobs.values())
        for job in lost:
            del self._jobs[job.token]
            job.gone = True
        return lost

    def change_slots(self, runner: int, changes: Iterable[Sequence[int]]) -> None:
        """Rows [pool, change]: slots given back by waiting tasks, or taken again.

        Raises:
            ProtocolError: no such pool.
        """
        alone = self._lone(runner)
        load = self._load_of(runner)
        if alone is not None:
            alone.waits += sum(change for _, change in changes)
        elif load is not None:
            load.change_slots(changes)

    def slots(self) -> list[int]:
        """Slots of all ready runners that are shared, by pool.

        What leaving runners still have comes on top: the control plane counts it against us, and
        must not take it for jobs of those that have followed them.
        """
        loads = self.runners.values()
        still = self.leaving.values()
        return [
            sum(max(load.slots[pool], 0) for load in loads)
            + sum(sum(load.counts[pool]) for load in still)
            for pool in range(SHARED_POOLS)
        ]

    # --- coming in ---------------------------------------------------------------------

    def receive(self, assign: Assign, *, now: float) -> list[HeldJob]:
        """Queue the jobs of a message, and return those with limits; tokens already held are
        passed over.

        Raises:
            ProtocolError: a job without a known pool or priority.
        """
        places = [_place_of(spec) for spec in assign.specs]
        which = assign.which if assign.which is not None else [0] * len(assign.tokens)
        budgets = assign.budget if assign.budget is not None else [None] * len(assign.tokens)
        failed = assign.failures if assign.failures is not None else [0] * len(assign.tokens)
        alone = frozenset(assign.tokens[index] for index in assign.alone or ())
        specs, jobs, lines = assign.specs, self._jobs, self._lines
        columns = (assign.tokens, which, assign.payloads, assign.attempts, budgets, failed)
        for job_id, token, spec, payload, attempt, budget, failures in zip(
            split_ids(assign.ids), *columns, strict=True
        ):
            if token in jobs:
                continue
            priority, pool = places[spec]
            start_before = None if budget is None else now + budget
            job = jobs[token] = HeldJob(
                *(job_id, token, specs[spec], payload, attempt, start_before, failures),
                *(priority, pool),
            )
            if alone and token in alone:
                self.quarantine.put(job)
            elif pool == PROCESS_POOL:
                self.processes.put(job)
            else:
                lines[pool][priority].append(job)
        if assign.checkpoints is not None:
            for token, checkpoint in zip(assign.tokens, assign.checkpoints, strict=True):
                jobs[token].checkpoint = checkpoint
        return self._limit(assign, which, now)

    def _limit(self, assign: Assign, which: Sequence[int], now: float) -> list[HeldJob]:
        by_spec = [spec_limits(spec, self.task_limits) for spec in assign.specs]
        if assign.remaining is None and not any(by_spec):
            return []
        remaining = assign.remaining or [None] * len(assign.tokens)
        limited = []
        for token, spec, seconds in zip(assign.tokens, which, remaining, strict=True):
            limits, job = by_spec[spec], self._jobs[token]
            if job.limits is None and (limits is not None or seconds is not None):
                timeout, grace, _, retry = limits or NO_LIMITS
                deadline = None if seconds is None else now + seconds
                job.limits = JobLimits(timeout, grace, retry, deadline)
                limited.append(job)
        return limited

    # --- going to runners --------------------------------------------------------------

    def look_for_runners(self) -> None:
        """What can be handed over has been: wake whoever starts runners for what is left."""
        for group in self.lone:
            group.look()

    def hand_over(self, *, now: float) -> list[tuple[int, Assign]]:
        """Give queued jobs to runners with room; returns the messages to send, in order."""
        chosen: dict[int, list[HeldJob]] = {}
        for group in self.lone:
            while (given := group.hand_over()) is not None:
                chosen[given[0]] = [given[1]]
        for pool, lines in enumerate(self._lines):
            for priority in reversed(range(PRIORITIES)):
                if not self._hand_over_line(lines[priority], pool, priority, chosen):
                    break
        messages = []
        for runner, jobs in chosen.items():
            messages += [(runner, assign) for assign in assigns_of(jobs, now=now)]
            for job in jobs:
                # A lost job is handed back, not run again from here.
                job.payload, job.checkpoint = b"", None
        return messages

    def _hand_over_line(
        self, line: deque[HeldJob], pool: int, priority: int, chosen: dict[int, list[HeldJob]]
    ) -> bool:
        """False if jobs are left: then there is no room for less urgent ones either."""
        while line:
            runner = self._roomiest(pool, priority)
            if runner is None:
                return False
            load = self.runners[runner]
            # Of several runners another may be the least loaded after every job.
            quota = load.room(pool, priority) if len(self.runners) == 1 else 1
            given = chosen.setdefault(runner, [])
            while line and quota > 0:
                job = line.popleft()
                if not job.gone:
                    job.runner = runner
                    load.add(job)
                    given.append(job)
                    quota -= 1
        return True

    def _roomiest(self, pool: int, priority: int) -> int | None:
        best, best_share = None, 0.0
        for runner, load in self.runners.items():
            if load.room(pool, priority) > 0:
                share = load.share(pool)
                if best is None or share < best_share:
                    best, best_share = runner, share
        return best

    # --- going away --------------------------------------------------------------------

    def end(self, token: int, *, runner: int) -> HeldJob | None:
        """Forget, and return, a job that ``runner`` has done with; None if it is not there."""
        job = self._jobs.get(token)
        if job is None or job.runner != runner:
            return None
        self._forget(job)
        return job

    def take_queued(self, tokens: Iterable[int] | None = None) -> list[HeldJob]:
        """Forget, and return, those of these jobs (None: all) that no runner has been given."""
        found = self._jobs.values() if tokens is None else map(self._jobs.get, tokens)
        queued = [job for job in found if job is not None and job.runner is None]
        for job in queued:
            self._forget(job)
        return queued

    def handed_over(self, tokens: Iterable[int]) -> dict[int, list[HeldJob]]:
        """Those of these jobs that runners have, by runner."""
        found: dict[int, list[HeldJob]] = {}
        for token in tokens:
            job = self._jobs.get(token)
            if job is not None and job.runner is not None:
                found.setdefault(job.runner, []).append(job)
        return found

    def given_to(self, runner: int) -> list[HeldJob]:
        """What this runner has been given and not ended."""
        alone = self._lone(runner)
        if alone is not None:
            return [] if alone.job is None else [alone.job]
        load = self._load_of(runner)
        return [] if load is None else list(load.jobs.values())

    def _load_of(self, runner: int) -> RunnerLoad | None:
        return self.runners.get(runner) or self.leaving.get(runner)

    def _forget(self, job: HeldJob) -> None:
        del self._jobs[job.token]
        job.gone = True
        if job.runner is None:
            return
        load = self._load_of(job.runner)
        if load is not None:
            load.remove(job)
        else:
            for group in self.lone:
                group.end(job.runner)


def _place_of(spec: Sequence[object]) -> tuple[int, int]:
    match spec:
        case [_, int(priority), int(pool), _, *_] if (
            0 <= priority < PRIORITIES and 0 <= pool <= PROCESS_POOL
        ):
            return priority, pool
    raise ProtocolError("an assigned job names a priority or pool that does not exist")
