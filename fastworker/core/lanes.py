"""Lines of ready jobs: one lane for each (tenant, queue, priority, task), in order of position.

Memory holds a window of each lane; the rest is a count. Every ready job whose position is not
beyond ``window_end`` is in memory, every other one is in the store only.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Final

from fastworker.core.records import JobRow, LaneKey

WINDOW_JOBS: Final = 10_000
"""Ready jobs of a lane held in memory: several seconds of work, a few MB."""

REFILL_BELOW: Final = 2_500
"""Ask the store for more while there is still enough to hand out during its answer."""


class Lane:
    """One line. Only `LaneDraft.apply` changes it."""

    __slots__ = ("key", "number", "parked", "ready", "returned", "stored", "window_end")

    def __init__(self, number: int, key: LaneKey, *, stored: int = 0) -> None:
        self.number = number
        self.key = key
        self.ready: deque[JobRow] = deque()
        self.returned: list[tuple[int, int, JobRow]] = []
        """Heap of jobs that came back, by position; all within the window."""
        self.parked: list[tuple[int, int, JobRow]] = []
        """Heap of jobs that must run alone, beside the line so that nobody waits behind them."""
        self.stored = stored
        """Ready jobs beyond the window, in the store only."""
        self.window_end = -1

    @property
    def front(self) -> int | None:
        """Position of the entry in front, which may have ended meanwhile; without one, where those
        begin that only the store holds; None if there are neither."""
        first = self.ready[0].position if self.ready else None
        if self.returned and (first is None or self.returned[0][0] < first):
            return self.returned[0][0]
        return self.window_end + 1 if first is None and self.stored > 0 else first

    @property
    def depth(self) -> int:
        """About how many jobs are ready: entries that ended meanwhile leave with delay."""
        return len(self.ready) + len(self.returned) + len(self.parked) + self.stored

    def refill_limit(self) -> int:
        """How many jobs the store should be asked for now; 0 for none."""
        if self.stored <= 0 or len(self.ready) >= REFILL_BELOW:
            return 0
        return WINDOW_JOBS - len(self.ready)


class LaneIndex:
    """Some of the lanes, by priority and tenant, so that no turn goes over all of them.

    A lane that has nothing may be among them until it is looked at.
    """

    __slots__ = ("by_priority", "kinds")

    def __init__(self) -> None:
        self.by_priority: dict[int, dict[str, dict[int, Lane]]] = {}
        """Of each tenant by number. Tenants in the order in which they began to wait."""
        self.kinds: dict[int, dict[tuple[str, str], int]] = {}
        """By priority: how many of the lanes are of a queue and a task."""

    def put(self, lane: Lane) -> None:
        """Add a lane; one that is there keeps its place."""
        tenant, queue, priority, task = lane.key
        tenants = self.by_priority.setdefault(priority, {})
        lanes = tenants.setdefault(tenant, {})
        if lane.number not in lanes:
            lanes[lane.number] = lane
            kinds = self.kinds.setdefault(priority, {})
            kinds[queue, task] = kinds.get((queue, task), 0) + 1

    def remove(self, lane: Lane) -> None:
        """Take a lane out, if it is there."""
        tenant, queue, priority, task = lane.key
        tenants = self.by_priority.get(priority)
        lanes = None if tenants is None else tenants.get(tenant)
        if tenants is None or lanes is None or lanes.pop(lane.number, None) is None:
            return
        kinds = self.kinds[priority]
        kinds[queue, task] -= 1
        if not kinds[queue, task]:
            del kinds[queue, task]
        if not lanes:
            del tenants[tenant]
        if not tenants:
            del self.by_priority[priority], self.kinds[priority]

    def at(self, priority: int) -> dict[str, dict[int, Lane]]:
        """Those of one priority."""
        return self.by_priority.get(priority, {})

    def __iter__(self) -> Iterator[Lane]:
        for tenants in self.by_priority.values():
            for lanes in tenants.values():
                yield from lanes.values()


class LaneDraft:
    """What one turn of the loop wants to do to a lane: memory follows only when it is stored."""

    __slots__ = ("_parked", "fresh", "lane", "returned", "stored", "taken", "window_end")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.taken = 0
        self.fresh: deque[JobRow] = deque()
        self.returned: list[tuple[int, int, JobRow]] | None = None
        self._parked: list[tuple[int, int, JobRow]] | None = None
        self.stored = lane.stored
        self.window_end = lane.window_end

    @property
    def has_room(self) -> bool:
        """Whether a new ready job belongs into the window, or into the store only."""
        waiting = len(self.lane.ready) + len(self.fresh) - self.taken
        return self.stored <= 0 and waiting < WINDOW_JOBS

    @property
    def front(self) -> int | None:
        """As of the lane."""
        entry = self.peek()
        if entry is None:
            return self.window_end + 1 if self.stored > 0 else None
        return entry.position

    def add(self, job: JobRow) -> None:
        """Put a new ready job at the end of the window."""
        assert job.position is not None
        if job.deaths:
            self.park(job)
        else:
            self.fresh.append(job)
        self.window_end = job.position

    def leave_in_store(self) -> None:
        """Count a new ready job that only the store holds."""
        self.stored += 1

    def refill(self, jobs: list[JobRow], *, asked: int) -> list[JobRow]:
        """Take the store's answer; the jobs that are now in the window."""
        accepted = [job for job in jobs if (job.position or 0) > self.window_end]
        if accepted:
            self.fresh.extend(job for job in accepted if not job.deaths)
            for job in accepted:
                if job.deaths:
                    self.park(job)
            self.window_end = accepted[-1].position or 0
        self.stored = max(0, self.stored - len(accepted)) if len(jobs) == asked else 0
        return accepted

    def give_back(self, job: JobRow) -> bool:
        """Put a job back at its old place; False if that is beyond the window."""
        assert job.position is not None
        if job.position > self.window_end and (self.stored > 0):
            self.stored += 1
            return False
        if job.deaths:
            self.park(job)
        else:
            if self.returned is None:
                self.returned = list(self.lane.returned)
            heapq.heappush(self.returned, (job.position, job.token, job))
        self.window_end = max(self.window_end, job.position)
        return True

    def forget_stored(self) -> None:
        """One job beyond the window is no longer ready."""
        self.stored = max(0, self.stored - 1)

    def peek(self) -> JobRow | None:
        """The job in front, if memory has it. It may have ended meanwhile: the caller checks."""
        ready = self.lane.ready
        head: JobRow | None = None
        if self.taken < len(ready):
            head = ready[self.taken]
        elif self.fresh:
            head = self.fresh[0]
        returned = self.lane.returned if self.returned is None else self.returned
        if returned and (head is None or returned[0][0] <= (head.position or 0)):
            return returned[0][2]
        return head

    def pop(self, job: JobRow) -> None:
        """Take the job that `peek` gave."""
        returned = self.lane.returned if self.returned is None else self.returned
        if returned and returned[0][2] is job:
            if self.returned is None:
                self.returned = list(returned)
            heapq.heappop(self.returned)
        elif self.taken < len(self.lane.ready):
            self.taken += 1
        else:
            self.fresh.popleft()

    @property
    def parked(self) -> list[tuple[int, int, JobRow]]:
        """Heap of the jobs that must run alone; not to be changed."""
        return self.lane.parked if self._parked is None else self._parked

    def park(self, job: JobRow) -> None:
        """Put aside a job that must run alone: nobody waits behind it."""
        if self._parked is None:
            self._parked = list(self.lane.parked)
        heapq.heappush(self._parked, (job.position or 0, job.token, job))

    def unpark(self) -> JobRow:
        """Take the one that has waited longest."""
        if self._parked is None:
            self._parked = list(self.lane.parked)
        return heapq.heappop(self._parked)[2]

    def apply(self) -> None:
        """Make it so."""
        lane = self.lane
        for _ in range(self.taken):
            lane.ready.popleft()
        lane.ready.extend(self.fresh)
        if self.returned is not None:
            lane.returned = self.returned
        if self._parked is not None:
            lane.parked = self._parked
        lane.stored = self.stored
        lane.window_end = self.window_end
