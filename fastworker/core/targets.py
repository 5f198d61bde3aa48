"""Where a job may go: the subworkers that can run it, and how much room they have."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from fastworker.core.fleet import ABSENT, Fleet
from fastworker.core.memory import Memory
from fastworker.core.records import ALL_QUEUES, JobRow, LaneKey
from fastworker.core.sessions import Session

SUSPECTS_AHEAD: Final = 100
"""Suspects that a subworker holds; it runs one at a time, but one that waits for another lets it
pass. With one at a time handed out, a suspect that waits for a suspect would wait for ever."""


MANY_KINDS: Final = 64
"""Of pairs of queue and task that wait: beyond it only tasks are compared with subworkers."""


def free_alone(memory: Memory, key: LaneKey) -> Session | None:
    """The least loaded subworker that can run a job of this lane alone now."""
    task = key.task
    free = [
        session
        for session in memory.fleet.able(key)
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
    is_reserved: bool = False
    """It gets nothing more in this turn, whatever room it has."""

    def has_room(self) -> bool:
        """Whether it may be sent one more."""
        return self.room > 0


class Pools:
    """What room the pools of subworkers have for jobs of one priority, in one turn.

    Args:
        reserved: pools, by subworker, that get nothing more in this turn: jobs that must not be
            sent ahead wait for a slot there.
    """

    __slots__ = ("_targets", "priority", "reserved")

    def __init__(self, priority: int, reserved: set[tuple[bytes, int]]) -> None:
        self.priority = priority
        self.reserved = reserved
        self._targets: dict[tuple[bytes, int], Target] = {}

    def target(self, session: Session, pool: int) -> Target:
        """A pool of a subworker."""
        name = session.incarnation, pool
        target = self._targets.get(name)
        if target is None:
            is_reserved = name in self.reserved
            room = 0 if is_reserved else session.room(pool, self.priority)
            target = Target(session, pool, max(1, session.pools[pool]), room, is_reserved)
            self._targets[name] = target
        return target

    def reserve(self, target: Target) -> None:
        """Nothing more goes there in this turn."""
        target.room = 0
        target.is_reserved = True
        self.reserved.add((target.session.incarnation, target.pool))


class Rooms:
    """The room of all subworkers for jobs of one priority, shared by all that go there; arguments
    as for `Pools`."""

    __slots__ = ("_choices", "_memory", "_open", "_pools", "_priority")

    def __init__(self, memory: Memory, priority: int, reserved: set[tuple[bytes, int]]) -> None:
        self._memory = memory
        self._priority = priority
        self._pools = Pools(priority, reserved)
        self._open: list[Choices] | list[Target] | None = None
        self._choices: dict[tuple[str, str, str], Choices] = {}

    def is_anywhere(self) -> bool:
        """Whether any subworker may be sent anything of what waits: if not, nobody need look."""
        if self._open is None:
            apart = self._memory.fleet.has_owners or self.has_many_kinds()
            self._open = self._candidates() if apart else self._all_choices()
        while self._open and not self._open[-1].has_room():
            self._open.pop()
        return bool(self._open)

    def has_many_kinds(self) -> bool:
        """Whether what waits is of so many queues and tasks that they are not looked at ahead."""
        return len(self._memory.waiting.kinds.get(self._priority, ())) > MANY_KINDS

    def _all_choices(self) -> list[Choices]:
        """The choices of everything that waits."""
        kinds: Collection[tuple[str, str]] = self._memory.waiting.kinds.get(self._priority, ())
        return [self.choices(LaneKey("", queue, self._priority, task)) for queue, task in kinds]

    def _candidates(self) -> list[Target]:
        """The same where that would be too many: every pool that something could go to."""
        kinds: Collection[tuple[str, str]] = self._memory.waiting.kinds.get(self._priority, {})
        if self.has_many_kinds():
            # Comparing queues, too, would cost more than it saves.
            kinds = {(ALL_QUEUES, task) for _, task in kinds}
        found = {
            (session.incarnation, pool): self._pools.target(session, pool)
            for session in self._memory.sessions.values()
            if session.is_reachable
            for queue, task in kinds
            if (pool := session.tasks.get(task)) is not None
            and (queue == ALL_QUEUES or queue in session.queues or ALL_QUEUES in session.queues)
        }
        return [target for target in found.values() if target.room > 0]

    def has_room(self, key: LaneKey) -> bool:
        """Whether there may be a subworker for a job of a lane."""
        return self.choices(key).has_room()

    def choices(self, key: LaneKey) -> Choices:
        """Where the jobs of a lane may go, perhaps nowhere."""
        name = self._memory.fleet.tenant_of(key), key.queue, key.task
        choices = self._choices.get(name)
        if choices is None:
            choices = self._choices[name] = Choices(self._pools, self._memory.fleet, key)
        return choices


class Choices:
    """The subworkers that can take a lane's jobs in this turn, least loaded first."""

    __slots__ = ("_crew", "_fleet", "_only", "_pools", "_reserves", "_targets")

    def __init__(self, pools: Pools, fleet: Fleet, key: LaneKey) -> None:
        # Not the rooms: they hold this, and a cycle would be left for the collector.
        self._pools = pools
        self._reserves = False
        self._fleet = fleet
        self._crew = fleet.crew(key)
        self._targets: dict[int, Target] = {}
        """Of those that were looked at in this turn, by their number in the crew."""
        self._only: Target | None = None
        """Once it is known that no other has room."""

    def has_room(self) -> bool:
        """Whether there may be a subworker for one more job."""
        return self._first() is not None

    def choose(self, job: JobRow) -> Target | None:
        """The pool for one job, which takes the room; None if none has any."""
        if job.options.on_lost == "fail":
            return self._choose_unprefetched()
        only = self._only
        if only is not None and only.room > 0:
            only.room -= 1
            return only
        first = self._first()
        if first is None:
            return None
        load, number, target = first
        target.room -= 1
        if len(self._crew.heap) > 1:
            self._crew.replace_top(number, load + 1 / target.slots)
        else:
            self._only = target
        return target

    def _first(self) -> tuple[float, int, Target] | None:
        """The least loaded one with room: its load, number and pool."""
        crew, targets = self._crew, self._targets
        while (top := crew.top()) is not None:
            load, number = top
            target = targets.get(number)
            if target is None:
                session, pool = crew.sessions[number], crew.pools[number]
                target = targets[number] = self._pools.target(session, pool)
                now = session.load(pool)
                if now > load:
                    crew.replace_top(number, now)
                    continue
            if target.room > 0:
                return load, number, target
            crew.drop_top(number)
            if target.is_reserved:
                self._fleet.freed(target.session)  # it is asked again in the next turn
        return None

    def _choose_unprefetched(self) -> Target | None:
        """For a job that must never wait at a subworker: one with a slot that is free now.

        If there is none, the least loaded one is sent nothing else until it has: what is sent
        ahead for others would fill it for ever.
        """
        ranked = sorted(self._with_room(), key=lambda entry: entry[:2])
        for _, _, target in ranked:
            if target.session.room(target.pool, self._pools.priority, for_prefetch=False) > 0:
                target.room -= 1
                return target
        if ranked and not self._reserves:
            self._reserves = True
            self._pools.reserve(ranked[0][2])
        return None

    def _with_room(self) -> Iterator[tuple[float, int, Target]]:
        """Load, number and pool of every one that may be sent something, in no order."""
        crew = self._crew
        for number, (session, pool) in enumerate(zip(crew.sessions, crew.pools, strict=True)):
            if crew.loads[number] != ABSENT:
                target = self._pools.target(session, pool)
                if target.room > 0:
                    yield session.load(pool), number, target
