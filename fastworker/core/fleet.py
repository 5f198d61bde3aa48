"""All subworkers: when their leases end, and which of those that can run a job has least to do.

What is true of many subworkers for many turns is found once and kept: with a thousand of them, a
turn that looked at each took twenty times as long as one for a single subworker.
"""

from __future__ import annotations

import heapq
import math
from typing import Final

from fastworker.core.records import LaneKey
from fastworker.core.sessions import Session

FREED_KEPT: Final = 4_096
"""Subworkers with less to do than before that a crew may not have heard of; one that has missed
more looks at all of its own again."""

CREW_PLACES: Final = 200_000
"""Of subworkers in all crews together: some 20 MB. Beyond it they are made anew when needed."""

STALE_ENTRIES: Final = 64
"""That a crew's heap may have besides as many as there are subworkers in it."""

ABSENT: Final = -1.0
"""In place of the load of one that had no room: it is back when it has less to do."""


class Crew:
    """Subworkers that can run the jobs of one queue, task and priority, least loaded first.

    A heap whose entries are corrected when they come to the top: one with more to do than its
    entry says is put back, one with less to do has been told of and has a second entry.
    """

    __slots__ = ("heap", "heard", "loads", "numbers", "pools", "sessions")

    def __init__(self, sessions: list[Session], task: str, heard: int) -> None:
        self.sessions = sessions
        self.pools = [session.tasks[task] for session in sessions]
        self.numbers = {session: number for number, session in enumerate(sessions)}
        self.loads: list[float] = []
        """By number: what the one valid entry in the heap says, or `ABSENT`."""
        self.heap: list[tuple[float, int]] = []
        self.heard = heard
        """How many of all that were ever freed it has heard of."""
        self.look_at_all()

    def look_at_all(self) -> None:
        """Learn every load anew."""
        pairs = zip(self.sessions, self.pools, strict=True)
        self.loads = [session.load(pool) for session, pool in pairs]
        self._make_heap()

    def look_at(self, session: Session) -> None:
        """This one has less to do than before."""
        number = self.numbers.get(session)
        if number is not None:
            self.put(number, session.load(self.pools[number]))

    def put(self, number: int, load: float) -> None:
        """Give one of them a new load."""
        if self.loads[number] != load:
            self.loads[number] = load
            heapq.heappush(self.heap, (load, number))
            if len(self.heap) > 2 * len(self.loads) + STALE_ENTRIES:
                self._make_heap()

    def replace_top(self, number: int, load: float) -> None:
        """Give the first one, which is ``number``, a new load."""
        self.loads[number] = load
        heapq.heapreplace(self.heap, (load, number))

    def drop_top(self, number: int) -> None:
        """The first one, which is ``number``, has no room."""
        self.loads[number] = ABSENT
        heapq.heappop(self.heap)

    def top(self) -> tuple[float, int] | None:
        """Load and number of the first one."""
        heap, loads = self.heap, self.loads
        while heap:
            load, number = heap[0]
            if loads[number] == load:
                return heap[0]
            heapq.heappop(heap)
        return None

    def _make_heap(self) -> None:
        self.heap = [(load, number) for number, load in enumerate(self.loads) if load != ABSENT]
        heapq.heapify(self.heap)


class Fleet:
    """Every subworker that is known, and what follows from what they said of themselves.

    Whoever changes what a subworker can run, or whether it is reachable, calls `changed`; whoever
    takes a job from one, `freed`.
    """

    def __init__(self) -> None:
        self.sessions: dict[bytes, Session] = {}
        self.next_expiry = math.inf
        """Monotonic seconds; no lease runs out before."""
        self._able: dict[tuple[str, str, str], list[Session]] = {}
        self._crews: dict[tuple[str, str, str, int], Crew] = {}
        self._places = 0
        self._freed: list[Session] = []
        self._forgotten = 0
        """How many of those that were freed are no longer in the list."""
        self._told = 0
        """So many of those in the list some crew has heard of."""
        self._has_owners: bool | None = None
        self._local: list[Session] | None = None

    # -- what changes -----------------------------------------------------------------------

    def changed(self) -> None:
        """Some subworker can run other jobs than before, or is reachable now, or no longer."""
        self._able.clear()
        self._forget_crews()
        self._has_owners = self._local = None

    def freed(self, session: Session) -> None:
        """One has less to do than before."""
        freed = self._freed
        if len(freed) > self._told and freed[-1] is session:
            return
        freed.append(session)
        if len(freed) > FREED_KEPT:
            self._forgotten += len(freed)
            self._told = 0
            freed.clear()

    def expires(self, lease_until: float) -> None:
        """A lease ends then, unless it is renewed."""
        self.next_expiry = min(self.next_expiry, lease_until)

    def expired(self, now: float) -> list[Session]:
        """Those whose lease has run out by now; they count as lapsed from now on."""
        if now < self.next_expiry:
            return []
        gone, self.next_expiry = [], math.inf
        for session in self.sessions.values():
            if session.lapsed:
                continue
            if session.lease_until <= now:
                session.lapsed = True
                gone.append(session)
            else:
                self.expires(session.lease_until)
        if gone:
            self.changed()
        return gone

    def revive(self, session: Session) -> None:
        """Its lease holds, after all."""
        session.lapsed = False
        self.expires(session.lease_until)
        self.changed()

    def remove(self, session: Session) -> None:
        """It is gone for good."""
        if self.sessions.pop(session.incarnation, None) is not None:
            self.changed()

    # -- who can do what --------------------------------------------------------------------

    @property
    def has_owners(self) -> bool:
        """Whether some subworker runs the jobs of one tenant only."""
        if self._has_owners is None:
            self._has_owners = any(each.tenant is not None for each in self.sessions.values())
        return self._has_owners

    @property
    def local(self) -> list[Session]:
        """Those that the control plane has started."""
        if self._local is None:
            self._local = [each for each in self.sessions.values() if each.local]
        return self._local

    def able(self, key: LaneKey) -> list[Session]:
        """Connected subworkers that can run a lane's jobs; the local one only if it is the only
        one. Not to be changed."""
        name = self.tenant_of(key), key.queue, key.task
        found = self._able.get(name)
        if found is None:
            able = [
                session
                for session in self.sessions.values()
                if session.can_run(key.tenant, key.task, key.queue)
            ]
            found = [session for session in able if not session.local] or able
            if len(self._able) * len(self.sessions) > CREW_PLACES:
                self._able.clear()
            self._able[name] = found
        return found

    def crew(self, key: LaneKey) -> Crew:
        """The same, by load; up to date until a job is next leased or taken back."""
        name = self.tenant_of(key), key.queue, key.task, key.priority
        crew = self._crews.get(name)
        count = self._forgotten + len(self._freed)
        if crew is None:
            if self._places > CREW_PLACES:
                self._forget_crews()
            crew = self._crews[name] = Crew(self.able(key), key.task, count)
            self._places += len(crew.sessions)
        elif crew.heard < self._forgotten:
            crew.look_at_all()
        elif crew.heard < count:
            for session in dict.fromkeys(self._freed[crew.heard - self._forgotten :]):
                crew.look_at(session)
        crew.heard = count
        self._told = len(self._freed)
        return crew

    def tenant_of(self, key: LaneKey) -> str:
        """Whose subworkers a lane's jobs go to: those of all tenants alike, unless some subworker
        is not for everybody."""
        return key.tenant if self.has_owners else ""

    def _forget_crews(self) -> None:
        self._crews.clear()
        self._places = 0
