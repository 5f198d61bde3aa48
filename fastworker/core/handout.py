"""Which job goes to which subworker. Strict priority; in order of position within one.

Priorities are served one after another; among the lanes of one priority the job that has waited
longest (smallest position) goes first; it goes to the least loaded subworker that can run it.

A job under suspicion of having ended a runner goes alone: each subworker runs one at a time, in a
runner of its own, beside all others. It needs no free slot, and nobody waits behind it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

from fastworker.core.commands import AssignJobs
from fastworker.core.endings import end_job
from fastworker.core.lanes import Lane, LaneDraft
from fastworker.core.memory import Draft, Memory, without_payload
from fastworker.core.records import JobRow, Now, TaskPriority, TaskStatus
from fastworker.core.sessions import Session

_RUNNING = TaskStatus.RUNNING

SUSPECTS_AHEAD: Final = 100
"""Suspects that a subworker holds; it runs one at a time, but one that waits for another lets it
pass. With one at a time handed out, a suspect that waits for a suspect would wait for ever."""


def capable_sessions(memory: Memory, lane: Lane) -> list[Session]:
    """Connected subworkers that can run a lane's jobs; the local one only if it is the only one."""
    key = lane.key
    able = [
        session
        for session in memory.sessions.values()
        if session.can_run(key.tenant, key.task, key.queue)
    ]
    remote = [session for session in able if not session.local]
    return remote or able


@dataclass(slots=True, eq=False)
class _Target:
    """A pool of a subworker, and how many more jobs of one priority it may be sent."""

    session: Session
    pool: int
    slots: int
    room: int


class _Targets:
    """The subworkers that can take a lane's jobs, least loaded first.

    Args:
        shared: the targets of this priority so far; lanes that share a pool share its room.
    """

    def __init__(
        self,
        sessions: list[Session],
        task: str,
        priority: int,
        shared: dict[tuple[bytes, int], _Target],
    ) -> None:
        self._priority = priority
        self._heap: list[tuple[float, int, _Target]] = []
        for number, session in enumerate(sessions):
            pool = session.tasks[task]
            target = shared.get((session.incarnation, pool))
            if target is None:
                room = session.room(pool, priority)
                target = _Target(session, pool, max(1, session.pools[pool]), room)
                shared[session.incarnation, pool] = target
            if target.room > 0:
                self._heap.append((session.load(pool), number, target))
        heapq.heapify(self._heap)

    def choose(self, job: JobRow) -> tuple[Session, int] | None:
        """The subworker for one job and the pool it will run in; None if none has room."""
        if job.options.on_lost == "fail":
            return self._choose_unprefetched()
        while self._heap:
            load, number, target = self._heap[0]
            if target.room > 0:
                target.room -= 1
                if len(self._heap) > 1:
                    entry = (load + 1 / target.slots, number, target)
                    heapq.heapreplace(self._heap, entry)
                return target.session, target.pool
            heapq.heappop(self._heap)
        return None

    def _choose_unprefetched(self) -> tuple[Session, int] | None:
        """For a job that must never wait at a subworker: one with a slot that is free now."""
        for _, _, target in sorted(self._heap, key=lambda entry: entry[:2]):
            room = target.session.room(target.pool, self._priority, for_prefetch=False)
            if room > 0 and target.room > 0:
                target.room -= 1
                return target.session, target.pool
        return None


def hand_out(draft: Draft, now: Now) -> None:
    """Lease ready jobs to free slots and stage their assignments."""
    by_priority: dict[int, list[Lane]] = {}
    paused = draft.memory.paused or draft.pauses
    for lane in draft.all_lanes():
        if paused and draft.is_paused(lane.key):
            continue
        by_priority.setdefault(lane.key.priority, []).append(lane)
    for priority in sorted(by_priority, reverse=True):
        _hand_out_priority(draft, by_priority[priority], priority, now)


def _hand_out_priority(draft: Draft, lanes: list[Lane], priority: int, now: Now) -> None:
    heads: list[tuple[int, int, LaneDraft, _Targets, JobRow]] = []
    shared: dict[tuple[bytes, int], _Target] = {}
    for lane in lanes:
        view = draft.lane_draft(lane)
        head = _next_ready(draft, view, now)
        if head is None:
            continue
        sessions = capable_sessions(draft.memory, lane)
        if sessions:
            targets = _Targets(sessions, lane.key.task, priority, shared)
            heads.append((head.position or 0, lane.number, view, targets, head))
    heapq.heapify(heads)
    batches: dict[bytes, AssignJobs] = {}
    while heads:
        _, number, view, targets, job = heads[0]
        choice = targets.choose(job)
        if choice is None:
            heapq.heappop(heads)
            continue
        view.pop(job)
        _lease(draft, job, *choice, priority, batches)
        head = _next_ready(draft, view, now)
        if head is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (head.position or 0, number, view, targets, head))
    _hand_out_alone(draft, lanes, priority, now, batches)
    draft.commands.extend(batches.values())


def _next_ready(draft: Draft, view: LaneDraft, now: Now) -> JobRow | None:
    """The job in front of a lane, leaving out what has ended or must run alone."""
    while (entry := view.peek()) is not None:
        waits = _still_waits(draft, entry, now)
        if waits and not entry.deaths:
            return entry
        view.pop(entry)
        if waits:
            view.park(entry)
    return None


def _still_waits(draft: Draft, entry: JobRow, now: Now) -> bool:
    """Whether an entry of a lane is still true; past its deadline it ends here."""
    if draft.job(entry.id) is not entry:
        return False
    if entry.expires_at is not None and entry.expires_at <= now.wall:
        end_job(draft, entry, TaskStatus.EXPIRED, now, reason="its deadline passed")
        return False
    return True


def _hand_out_alone(
    draft: Draft, lanes: list[Lane], priority: int, now: Now, batches: dict[bytes, AssignJobs]
) -> None:
    """Lease parked jobs of one priority to the subworkers that have the fewest of their kind."""
    heads: list[tuple[int, int, LaneDraft]] = []
    for lane in lanes:
        view = draft.lane_draft(lane)
        if view.parked:
            heads.append((view.parked[0][0], lane.number, view))
    heapq.heapify(heads)
    while heads:
        _, number, view = heads[0]
        job = view.parked[0][2]
        if not _still_waits(draft, job, now):
            view.unpark()
        elif (free := free_alone(draft.memory, view.lane)) is not None:
            view.unpark()
            _lease(draft, job, free, free.tasks[view.lane.key.task], priority, batches)
        else:
            heapq.heappop(heads)
            continue
        if view.parked:
            heapq.heapreplace(heads, (view.parked[0][0], number, view))
        else:
            heapq.heappop(heads)


def free_alone(memory: Memory, lane: Lane) -> Session | None:
    """The least loaded subworker that can run a job of this lane alone now."""
    task = lane.key.task
    free = [
        session
        for session in capable_sessions(memory, lane)
        if session.alone < SUSPECTS_AHEAD and session.pools[session.tasks[task]] > 0
    ]
    return min(
        free, key=lambda session: (session.alone, session.load(session.tasks[task])), default=None
    )


def _lease(
    draft: Draft,
    job: JobRow,
    session: Session,
    pool: int,
    priority: int,
    batches: dict[bytes, AssignJobs],
) -> None:
    leased = JobRow(
        job.key,
        job.id,
        job.lane,
        _RUNNING,
        None,
        job.ready_at,
        job.expires_at,
        None,
        job.submitted_at,
        draft.new_token(),
        session.incarnation,
        job.attempts + 1,
        job.deaths,
        None,
        job.failures,
        job.first_started_at,
        job.options,
        job.payload,
    )
    draft.move(job, without_payload(leased) if leased.payload is not None else leased, keep=True)
    draft.hold(session, job.id, pool, priority, job.deaths > 0)
    batch = batches.get(session.incarnation)
    if batch is None:
        urgent = priority > TaskPriority.NORMAL
        batch = batches[session.incarnation] = AssignJobs(session.incarnation, [], urgent)
    batch.jobs.append((leased, pool))
