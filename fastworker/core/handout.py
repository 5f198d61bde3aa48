"""Which job goes to which subworker: strict priority, then fair between tenants, then in order.

Priorities are served one after another. At each, the tenants that wait take turns (`core.shares`);
one that cannot be served now lets the others pass. Of a tenant, the job of all its lanes that has
waited longest (smallest position) goes first. It goes to the least loaded subworker that can run
it (`core.targets`).

A job under suspicion of having ended a runner goes alone: each subworker runs one at a time, in a
runner of its own, beside all others. It needs no free slot, and nobody waits behind it.

A turn looks at nothing but the lanes it has to do with, and the tenants that wait.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from fastworker.core.commands import AssignJobs
from fastworker.core.endings import end_job
from fastworker.core.lanes import Lane, LaneDraft
from fastworker.core.memory import Draft, without_payload
from fastworker.core.records import JobRow, Now, TaskPriority, TaskStatus
from fastworker.core.sessions import Session
from fastworker.core.shares import ShareDraft
from fastworker.core.targets import Choices, Rooms, free_alone

_RUNNING = TaskStatus.RUNNING

_ALL: Final = sys.maxsize
"""As many jobs as there is room for."""

_ANYWHERE: Final = -1
"""The position of the first job of a lane that is the only one."""


def hand_out(draft: Draft, now: Now) -> None:
    """Lease ready jobs to free slots and stage their assignments."""
    waiting, suspects = draft.memory.waiting, draft.memory.suspects
    for number in draft.lanes_with_ends:
        _next_ready(draft, draft.lane_numbered(number), now)
    if not waiting.by_priority and len(draft.lane_drafts) == 1:
        (view,) = draft.lane_drafts.values()
        if not (view.parked or draft.memory.paused or draft.pauses):
            return _hand_out_only_lane(draft, view, now)
    for view in draft.lane_drafts.values():
        waiting.put(view.lane)
        if view.parked:
            suspects.put(view.lane)
    reserved: set[tuple[bytes, int]] = set()
    for priority in sorted(waiting.by_priority, reverse=True):
        hand = _Hand(draft, priority, now)
        rooms = Rooms(draft.memory, priority, reserved)
        tenants = waiting.at(priority)
        open_line = partial(_Line, hand, rooms)
        if len(tenants) == 1:
            _serve_only_one(hand, tenants, open_line)
        elif rooms.is_anywhere():
            _take_turns(hand, draft.shares(priority), tenants, open_line, rooms.is_anywhere)
        if suspects.by_priority and (alone := suspects.at(priority)):
            shares = draft.shares(priority, alone=True)
            _take_turns(hand, shares, alone, partial(_SuspectLine, hand), _always)
        draft.commands.extend(hand.batches.values())


def _hand_out_only_lane(draft: Draft, view: LaneDraft, now: Now) -> None:
    """The usual turn while slots are free: of nobody else is anything ready, nor was before."""
    lane = view.lane
    tenant, _, priority, _ = lane.key
    hand = _Hand(draft, priority, now)
    line = _Line(hand, Rooms(draft.memory, priority, set()), {lane.number: lane})
    handed = line.hand_out(_ALL)
    if handed and view.front is not None:
        draft.shares(priority).charge(tenant, handed, _weight(hand, tenant))
    draft.commands.extend(hand.batches.values())


class _HandsOut(Protocol):
    """What one tenant has waiting at one priority."""

    def hand_out(self, limit: int) -> int:
        """Hand out the next jobs, as many as there is room for; returns how many."""


def _serve_only_one(
    hand: _Hand,
    tenants: Mapping[str, Mapping[int, Lane]],
    open_line: Callable[[Mapping[int, Lane]], _HandsOut],
) -> None:
    """Hand out what the only tenant that waits has, and count it for when there are others."""
    for tenant, lanes in tenants.items():
        if handed := open_line(lanes).hand_out(_ALL):
            hand.draft.shares(hand.priority).charge(tenant, handed, _weight(hand, tenant))


def _take_turns(
    hand: _Hand,
    shares: ShareDraft,
    tenants: Mapping[str, Mapping[int, Lane]],
    open_line: Callable[[Mapping[int, Lane]], _HandsOut],
    is_room: Callable[[], bool],
) -> None:
    """Let the tenants hand out one job each in turn, until nobody can.

    Args:
        tenants: the lanes of each.
        open_line: called when the first turn of a tenant has come: most never do.
        is_room: whether it is worth while to ask the next tenant after one had to pass.
    """
    turns = [(*shares.turn_of(tenant), number, tenant) for number, tenant in enumerate(tenants)]
    heapq.heapify(turns)
    opened: dict[str, tuple[_HandsOut, int]] = {}
    while turns:
        _, _, number, tenant = turns[0]
        if tenant not in opened:
            opened[tenant] = open_line(tenants[tenant]), _weight(hand, tenant)
        line, weight = opened[tenant]
        is_last = len(turns) == 1
        handed = line.hand_out(_ALL if is_last else 1)
        if handed:
            following = shares.charge(tenant, handed, weight)
        if is_last:
            return
        if handed:
            heapq.heapreplace(turns, (*following, number, tenant))
        else:
            heapq.heappop(turns)
            if not is_room():
                return


def _weight(hand: _Hand, tenant: str) -> int:
    return hand.draft.memory.tenants.limits(tenant).weight


def _always() -> bool:
    return True


def _next_ready(draft: Draft, view: LaneDraft, now: Now) -> JobRow | None:
    """The job in front of a lane, leaving out what has ended."""
    while (entry := view.peek()) is not None:
        if _still_waits(draft, entry, now):
            return entry
        view.pop(entry)
    return None


def _still_waits(draft: Draft, entry: JobRow, now: Now) -> bool:
    """Whether an entry of a lane is still true; past its deadline it ends here."""
    if draft.job(entry.id) is not entry:
        return False
    if entry.expires_at is not None and entry.expires_at <= now.wall:
        end_job(draft, entry, TaskStatus.EXPIRED, now, reason="its deadline passed")
        return False
    return True


class _Hand:
    """Leases jobs of one priority; gathers them by subworker."""

    __slots__ = ("batches", "draft", "now", "priority")

    def __init__(self, draft: Draft, priority: int, now: Now) -> None:
        self.draft = draft
        self.priority = priority
        self.now = now
        self.batches: dict[bytes, AssignJobs] = {}

    def lease(self, job: JobRow, session: Session, pool: int) -> None:
        """Give a job to a subworker."""
        draft = self.draft
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
            job.size,
            job.payload,
        )
        kept = without_payload(leased) if leased.payload is not None else leased
        draft.move(job, kept, keep=True)
        draft.hold(session, job.id, pool, self.priority, job.deaths > 0)
        batch = self.batches.get(session.incarnation)
        if batch is None:
            urgent = self.priority > TaskPriority.NORMAL
            batch = self.batches[session.incarnation] = AssignJobs(session.incarnation, [], urgent)
        batch.jobs.append((leased, pool))


@dataclass(slots=True, eq=False)
class _Front:
    """A lane that a turn has looked into: its first job, and where that may go."""

    view: LaneDraft
    choices: Choices
    job: JobRow


class _Line:
    """The lanes of one tenant at one priority: the job that has waited longest is next."""

    __slots__ = ("_fronts", "_hand", "_heads", "_rooms")

    def __init__(self, hand: _Hand, rooms: Rooms, lanes: Mapping[int, Lane]) -> None:
        self._hand = hand
        self._rooms = rooms
        self._fronts: dict[int, _Front] = {}
        self._heads: list[tuple[int, int, Lane]] = []
        draft = hand.draft
        pauses = draft.memory.paused or draft.pauses
        if len(lanes) == 1 and not pauses:
            # Most turns: there is nothing to compare.
            self._heads += [(_ANYWHERE, number, lane) for number, lane in lanes.items()]
            return
        if not rooms.is_anywhere():
            return
        looks_ahead = not rooms.has_many_kinds()
        for number, lane in lanes.items():
            if looks_ahead and not rooms.has_room(lane.key):
                continue
            view = draft.lane_drafts.get(number)
            front = lane.front if view is None else view.front
            if front is not None and not (pauses and draft.is_paused(lane.key)):
                self._heads.append((front, number, lane))
        heapq.heapify(self._heads)

    def hand_out(self, limit: int) -> int:
        """Hand out the next jobs, as many as there is room for; returns how many.

        Jobs that only the store may hold are not passed over: the line ends there, and the next
        turn has read them.
        """
        hand, heads, fronts = self._hand, self._heads, self._fronts
        draft, now = hand.draft, hand.now
        handed = 0
        while heads and handed < limit:
            position, number, lane = heads[0]
            front = fronts.get(number)
            if front is None:
                choices = self._rooms.choices(lane.key)
                if not choices.has_room():
                    heapq.heappop(heads)
                    continue
                view = draft.lane_draft(lane)
                first = _next_ready(draft, view, now)
                if first is None:
                    if view.stored > 0:
                        heads.clear()
                        break
                    heapq.heappop(heads)
                    continue
                front = fronts[number] = _Front(view, choices, first)
                if front.job.position != position != _ANYWHERE:
                    heapq.heapreplace(heads, (front.job.position or 0, number, lane))
                    continue
            target = front.choices.choose(front.job)
            if target is None:
                if not self._rooms.is_anywhere():
                    heads.clear()
                    break
                heapq.heappop(heads)
                continue
            front.view.pop(front.job)
            hand.lease(front.job, target.session, target.pool)
            handed += 1
            following = _next_ready(draft, front.view, now)
            if following is not None:
                front.job = following
                heapq.heapreplace(heads, (following.position or 0, number, lane))
            elif front.view.stored > 0:
                del fronts[number]
                heapq.heapreplace(heads, (front.view.window_end + 1, number, lane))
            else:
                heapq.heappop(heads)
        return handed


class _SuspectLine:
    """Jobs of one tenant and priority that run alone: each goes where the fewest of them are."""

    __slots__ = ("_hand", "_heads")

    def __init__(self, hand: _Hand, lanes: Mapping[int, Lane]) -> None:
        self._hand = hand
        self._heads: list[tuple[int, int, LaneDraft]] = []
        draft = hand.draft
        pauses = draft.memory.paused or draft.pauses
        for number, lane in lanes.items():
            view = draft.lane_draft(lane)
            if view.parked and not (pauses and draft.is_paused(lane.key)):
                self._heads.append((view.parked[0][0], number, view))
        heapq.heapify(self._heads)

    def hand_out(self, limit: int) -> int:
        """Hand out the next jobs, as many as there is room for; returns how many."""
        hand, heads = self._hand, self._heads
        handed = 0
        while heads and handed < limit:
            _, number, view = heads[0]
            job = view.parked[0][2]
            if not _still_waits(hand.draft, job, hand.now):
                view.unpark()
            elif (free := free_alone(hand.draft.memory, view.lane.key)) is not None:
                view.unpark()
                hand.lease(job, free, free.tasks[view.lane.key.task])
                handed += 1
            else:
                heapq.heappop(heads)
                continue
            if view.parked:
                heapq.heapreplace(heads, (view.parked[0][0], number, view))
            else:
                heapq.heappop(heads)
        return handed
