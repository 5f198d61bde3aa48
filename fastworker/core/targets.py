"""Where a job may go: the subworkers that can run it, and how much room they have."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from fastworker.core.memory import Memory
from fastworker.core.records import ALL_QUEUES, JobRow, LaneKey
from fastworker.core.sessions import Session

SUSPECTS_AHEAD: Final = 100
"""Suspects that a subworker holds; it runs one at a time, but one that waits for another lets it
pass. With one at a time handed out, a suspect that waits for a suspect would wait for ever."""


MANY_KINDS: Final = 64
"""Of pairs of queue and task that wait: beyond it only tasks are compared with subworkers."""


def capable_sessions(memory: Memory, key: LaneKey) -> list[Session]:
    """Connected subworkers that can run a lane's jobs; the local one only if it is the only one."""
    able = [
        session
        for session in memory.sessions.values()
        if session.can_run(key.tenant, key.task, key.queue)
    ]
    remote = [session for session in able if not session.local]
    return remote or able


def free_alone(memory: Memory, key: LaneKey) -> Session | None:
    """The least loaded subworker that can run a job of this lane alone now."""
    task = key.task
    free = [
        session
        for session in capable_sessions(memory, key)
        if session.alone < SUSPECTS_AHEAD and session.pools[session.tasks[task]] > 0
    ]
    return min(
        free, key=lambda session: (session.alone, session.load(session.tasks[task])), default=None
    )


@dataclass(slots=True, eq=False)
class Target:
    """A pool of a subworker, and how many more jobs of one priority it may be sent."""

    session: Session
    pool: int
    slots: int
    room: int


class Rooms:
    """The room of all subworkers for jobs of one priority, shared by all that go there.

    Args:
        reserved: pools, by subworker, that get nothing more in this turn: jobs that must not be
            sent ahead wait for a slot there.
    """

    __slots__ = ("_choices", "_has_owners", "_memory", "_open", "_targets", "priority", "reserved")

    def __init__(self, memory: Memory, priority: int, reserved: set[tuple[bytes, int]]) -> None:
        self._memory = memory
        self.priority = priority
        self.reserved = reserved
        self._targets: dict[tuple[bytes, int], Target] = {}
        self._open: list[Target] | None = None
        self._choices: dict[tuple[str, str, str], Choices | None] = {}
        self._has_owners = False
        for session in memory.sessions.values():
            if session.tenant is not None:
                self._has_owners = True

    def is_anywhere(self) -> bool:
        """Whether any subworker may be sent anything of what waits: if not, nobody need look."""
        if self._open is None:
            self._open = self._candidates()
        while self._open and self._open[-1].room <= 0:
            self._open.pop()
        return bool(self._open)

    def has_many_kinds(self) -> bool:
        """Whether what waits is of so many queues and tasks that they are not looked at ahead."""
        return len(self._memory.waiting.kinds.get(self.priority, ())) > MANY_KINDS

    def _candidates(self) -> list[Target]:
        """Every pool that something that waits could go to."""
        kinds: Collection[tuple[str, str]] = self._memory.waiting.kinds.get(self.priority, {})
        if self.has_many_kinds():
            # Comparing queues, too, would cost more than it saves.
            kinds = {(ALL_QUEUES, task) for _, task in kinds}
        found = {
            (session.incarnation, pool): self.target(session, pool)
            for session in self._memory.sessions.values()
            if session.is_reachable
            for queue, task in kinds
            if (pool := session.tasks.get(task)) is not None
            and (queue == ALL_QUEUES or queue in session.queues or ALL_QUEUES in session.queues)
        }
        return [target for target in found.values() if target.room > 0]

    def target(self, session: Session, pool: int) -> Target:
        """A pool of a subworker."""
        name = session.incarnation, pool
        target = self._targets.get(name)
        if target is None:
            room = 0 if name in self.reserved else session.room(pool, self.priority)
            target = Target(session, pool, max(1, session.pools[pool]), room)
            self._targets[name] = target
        return target

    def has_room(self, key: LaneKey) -> bool:
        """Whether there may be a subworker for a job of a lane."""
        choices = self.choices(key)
        return choices is not None and choices.has_room()

    def choices(self, key: LaneKey) -> Choices | None:
        """Where the jobs of a lane may go; None: nowhere."""
        # Tenants with the same tasks share them, unless some subworker is not for everybody.
        name = (key.tenant if self._has_owners else "", key.queue, key.task)
        if name in self._choices:
            return self._choices[name]
        sessions = capable_sessions(self._memory, key)
        choices = Choices(self, sessions, key.task) if sessions else None
        self._choices[name] = choices
        return choices


class Choices:
    """The subworkers that can take a lane's jobs, least loaded first."""

    __slots__ = ("_heap", "_priority", "_reserved", "_reserves")

    def __init__(self, rooms: Rooms, sessions: list[Session], task: str) -> None:
        # Not the rooms themselves: they hold this, and a cycle would be left for the collector.
        self._priority = rooms.priority
        self._reserved = rooms.reserved
        self._reserves = False
        self._heap: list[tuple[float, int, Target]] = []
        for number, session in enumerate(sessions):
            target = rooms.target(session, session.tasks[task])
            if target.room > 0:
                self._heap.append((session.load(target.pool), number, target))
        heapq.heapify(self._heap)

    def has_room(self) -> bool:
        """Whether there may be a subworker for one more job."""
        heap = self._heap
        while heap and heap[0][2].room <= 0:
            heapq.heappop(heap)
        return bool(heap)

    def choose(self, job: JobRow) -> Target | None:
        """The pool for one job, which takes the room; None if none has any."""
        if job.options.on_lost == "fail":
            return self._choose_unprefetched()
        heap = self._heap
        while heap:
            load, number, target = heap[0]
            if target.room > 0:
                target.room -= 1
                if len(heap) > 1:
                    heapq.heapreplace(heap, (load + 1 / target.slots, number, target))
                return target
            heapq.heappop(heap)
        return None

    def _choose_unprefetched(self) -> Target | None:
        """For a job that must never wait at a subworker: one with a slot that is free now.

        If there is none, the least loaded one is sent nothing else until it has: what is sent
        ahead for others would fill it for ever.
        """
        ranked = [
            target
            for _, _, target in sorted(self._heap, key=lambda entry: entry[:2])
            if target.room > 0
        ]
        for target in ranked:
            if target.session.room(target.pool, self._priority, for_prefetch=False) > 0:
                target.room -= 1
                return target
        if ranked and not self._reserves:
            self._reserves = True
            ranked[0].room = 0
            self._reserved.add((ranked[0].session.incarnation, ranked[0].pool))
        return None
