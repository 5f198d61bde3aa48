"""What the core holds in memory, and the draft of one turn of the loop.

A `Draft` collects what a turn wants to change. Nothing of `Memory` changes before the store has
it: `Draft.apply` then makes memory follow. The exceptions are harmless when a turn is dropped and
handled again: registrations, renewals, and the counting of credit, which `Draft.drop` undoes.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from fastworker.core.admissions import Admissions, Bucket
from fastworker.core.backlogs import BacklogDraft, Backlogs
from fastworker.core.commands import CancelChildren, Command, SettleCancel
from fastworker.core.early_cancels import EarlyCancels
from fastworker.core.fleet import Fleet
from fastworker.core.ids import id_text
from fastworker.core.lanes import Lane, LaneDraft, LaneIndex
from fastworker.core.pending import PendingCancel
from fastworker.core.questions import Snapshot
from fastworker.core.recent import RecentResults
from fastworker.core.records import (
    ALL_TENANTS,
    FinishRow,
    JobRow,
    KeyRow,
    LaneKey,
    LaneRow,
    Saves,
    TaskStatus,
)
from fastworker.core.sessions import Session
from fastworker.core.shares import ShareDraft, Shares
from fastworker.core.states import MOVES, check_move
from fastworker.core.tenants import Tenants

_RUNNING = TaskStatus.RUNNING

NUMBERS_AHEAD: Final = 100_000
"""Keys and tokens reserved with one write; a restart skips at most this many."""

MAX_QUEUED_JOBS: Final = 10_000_000
"""Jobs that may wait in the store: some gigabytes, and days of work."""

MAX_QUEUED_BYTES: Final = 8 * 1024**3
"""Their arguments (8 GiB): as many jobs as may wait, of 800 bytes each. It bounds what the store
takes of the disk where arguments are large: of the largest ones 8,192 may wait."""

WINDOW_PAYLOAD_BYTES: Final = 64 * 1024 * 1024
"""Arguments held in memory with waiting jobs; beyond it they are read at hand-out."""


class Memory:
    """The core's state between two turns."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.lanes: dict[LaneKey, Lane] = {}
        self.lanes_by_number: dict[int, Lane] = {}
        self.lanes_of: Counter[str] = Counter()
        """How many there are, by tenant."""
        self.waiting = LaneIndex()
        """Lanes in which jobs are ready."""
        self.suspects = LaneIndex()
        """Lanes with jobs that must run alone."""
        self.stored_lanes: dict[int, Lane] = {}
        """Lanes of which the store holds more than memory, by number."""
        self.tenants = Tenants()
        """Their shares and quotas."""
        self.shares: dict[tuple[int, bool], Shares] = {}
        """By priority, and whether it is for jobs that run alone."""
        self.jobs: dict[bytes, JobRow] = {}
        """Ready jobs of the windows, and all leased ones."""
        self.fleet = Fleet()
        self.sessions = self.fleet.sessions
        self.recent = RecentResults()
        self.cancels: dict[bytes, PendingCancel] = {}
        self.early_cancels = EarlyCancels()
        self.payload_bytes = 0
        self.max_queued_jobs = MAX_QUEUED_JOBS
        self.max_queued_bytes = MAX_QUEUED_BYTES
        self.next_key = snapshot.key_ceiling + 1
        self.key_ceiling = snapshot.key_ceiling
        self.next_token = snapshot.token_ceiling + 1
        self.token_ceiling = snapshot.token_ceiling
        self.next_due_at = snapshot.next_due_at
        self.callbacks_made = 0
        self.backlogs = Backlogs(snapshot.backlogs)
        self.buckets: dict[str, Bucket] = {}
        """By tenant that may submit only so many jobs a second."""
        self.checkpointed: set[int] = set(snapshot.checkpointed)
        """Keys of jobs that have left a checkpoint."""
        self.lined: dict[int, tuple[int, ...]] = {}
        """Attempts of open jobs, by key, that have said something since the start."""
        self.paused: set[tuple[str, str]] = set(snapshot.paused)
        """(tenant, queue) of those that hand out nothing; tenant ``*``: whosesoever jobs."""
        for number, key in snapshot.lanes:
            self.add_lane(Lane(number, key, stored=snapshot.queued.get(number, 0)))
        self.next_lane = max((row.lane for row in snapshot.lanes), default=0) + 1

    def add_lane(self, lane: Lane) -> None:
        self.lanes[lane.key] = lane
        self.lanes_by_number[lane.number] = lane
        self.lanes_of[lane.key.tenant] += 1
        self.sort_lane(lane)

    def sort_lane(self, lane: Lane) -> None:
        """Put a lane where it now belongs, since what it has may have changed."""
        if lane.ready or lane.stored or lane.returned or lane.parked:
            self.waiting.put(lane)
        elif self.waiting.by_priority:
            self.waiting.remove(lane)
        if lane.parked:
            self.suspects.put(lane)
        elif self.suspects.by_priority:
            self.suspects.remove(lane)
        if lane.stored:
            self.stored_lanes[lane.number] = lane
        elif self.stored_lanes:
            self.stored_lanes.pop(lane.number, None)

    def is_paused(self, tenant: str, queue: str) -> bool:
        """Whether a queue hands out none of this tenant's jobs."""
        paused = self.paused
        return bool(paused) and ((tenant, queue) in paused or (ALL_TENANTS, queue) in paused)


class Draft:
    """One turn of the loop: rows to save, commands to carry out, changes to memory."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.commands: list[Command] = []
        self.saves = Saves()
        self.inserted: dict[bytes, JobRow] = {}
        self.changed: dict[bytes, JobRow] = {}
        self.finished: dict[bytes, FinishRow] = {}
        self.keys: dict[tuple[str, str, str], KeyRow] = {}
        """Idempotency keys that this turn gives out, by tenant, task and key."""
        self.admissions = Admissions()
        self._backlog = BacklogDraft()
        self.used_early_cancels: list[bytes] = []
        self._jobs: dict[bytes, JobRow | None] = {}
        self.pauses: dict[tuple[str, str], bool] = {}
        """Queues paused (True) or resumed in this turn, by tenant and name."""
        self.lane_drafts: dict[int, LaneDraft] = {}
        """By number: every lane this turn has to do with."""
        self.lanes_with_ends: set[int] = set()
        """Numbers of lanes with waiting jobs that end in this turn: still in them, not ready."""
        self._share_drafts: dict[tuple[int, bool], ShareDraft] = {}
        self.new_lanes: dict[LaneKey, Lane] = {}
        self._credit: list[tuple[Session, bytes, tuple[int, int, bool] | None]] = []
        """Session, job, and what was counted before; None: the job was not."""
        self.next_key = memory.next_key
        self.next_token = memory.next_token
        self.next_due_at = memory.next_due_at
        self.payload_bytes = memory.payload_bytes
        self.settled_cancels: dict[bytes, PendingCancel] = {}
        self.cancelled_parents: dict[tuple[str, float | None], CancelChildren] = {}
        """By reason and grace: whose children are to be cancelled after this turn."""
        self._answered_cancels: dict[bytes, int] = {}
        """How many of those who wait for a cancel, the first ones, are answered in this turn."""
        self.expired_sessions: list[Session] = []
        self.disconnected: list[tuple[Session, object]] = []

    # -- numbers ----------------------------------------------------------------------------

    def new_key(self) -> int:
        """A number never used before: a job's key, or a later position."""
        self.next_key += 1
        return self.next_key - 1

    def new_token(self) -> int:
        """A fencing token, larger than all before it."""
        self.next_token += 1
        return self.next_token - 1

    # -- jobs -------------------------------------------------------------------------------

    def job(self, job_id: bytes) -> JobRow | None:
        """A job that memory holds, as this draft leaves it."""
        if job_id in self._jobs:
            return self._jobs[job_id]
        return self.memory.jobs.get(job_id)

    def insert(self, job: JobRow) -> None:
        """A new job, for the store; `load` makes memory hold it, too."""
        self.inserted[job.id] = job

    def move(self, before: JobRow, after: JobRow, *, keep: bool) -> None:
        """A job's next state; ``keep``: memory holds it."""
        moves = after.status is not before.status
        if moves and after.status not in MOVES[before.status]:
            check_move(id_text(before.id), before.status, after.status)
        stored = self.inserted.get(after.id)
        if stored is None:
            self.changed[after.id] = after
            if moves:
                self._backlog.moved(before, after)
        elif after.payload is None:
            # The row that is written carries the arguments even where memory does not.
            self.inserted[after.id] = JobRow._make((*after[:-1], stored.payload))
        else:
            self.inserted[after.id] = after
        self._jobs[after.id] = after if keep else None

    def finish(self, job: JobRow, row: FinishRow) -> None:
        """The end of a job. Its lane is not touched: the entry left there is skipped later."""
        if row.status not in MOVES[job.status]:
            check_move(id_text(job.id), job.status, row.status)
        if job.status is not _RUNNING:
            self._backlog.ended(job)
        self.changed.pop(job.id, None)
        self.finished[job.id] = row
        self._jobs[job.id] = None

    def load(self, job: JobRow) -> None:
        """Memory will hold this job from now on."""
        self._jobs[job.id] = job

    def window_row(self, job: JobRow) -> JobRow:
        """The job as the window may hold it: without its arguments once they are too many."""
        if job.payload is None:
            return job
        if self.payload_bytes + len(job.payload) > WINDOW_PAYLOAD_BYTES:
            return without_payload(job)
        self.payload_bytes += len(job.payload)
        return job

    def pending_cancel(self, job_id: bytes) -> PendingCancel | None:
        """The cancel of a leased job that nothing has settled yet, this turn included."""
        pending = self.memory.cancels.get(job_id)
        return None if pending is self.settled_cancels.get(job_id) else pending

    def answer_cancel(
        self, job_id: bytes, pending: PendingCancel, outcome: str, *, stack: str | None = None
    ) -> None:
        """Tell those who wait for the cancel of a job, and have not been told."""
        told = self._answered_cancels.get(job_id, 0)
        self._answered_cancels[job_id] = len(pending.waiting)
        for request, index in pending.waiting[told:]:
            self.commands.append(SettleCancel(request, index, outcome, stack))

    # -- lanes ------------------------------------------------------------------------------

    def is_paused(self, key: LaneKey) -> bool:
        """Whether the queue of a lane hands out nothing after this turn."""
        return self._is_paused(key.tenant, key.queue) or self._is_paused(ALL_TENANTS, key.queue)

    def _is_paused(self, tenant: str, queue: str) -> bool:
        changed = self.pauses.get((tenant, queue))
        return (tenant, queue) in self.memory.paused if changed is None else changed

    def lane(self, key: LaneKey) -> LaneDraft:
        """The lane with this key; a new one is made if there is none."""
        lane = self.memory.lanes.get(key) or self.new_lanes.get(key)
        if lane is None:
            lane = Lane(self.memory.next_lane + len(self.new_lanes), key)
            self.new_lanes[key] = lane
            self.saves.lanes.append(LaneRow(lane.number, key))
        return self.lane_draft(lane)

    def lane_draft(self, lane: Lane) -> LaneDraft:
        """This turn's view of a lane."""
        draft = self.lane_drafts.get(lane.number)
        if draft is None:
            draft = self.lane_drafts[lane.number] = LaneDraft(lane)
        return draft

    def lane_of(self, job: JobRow) -> LaneDraft:
        """This turn's view of the lane a job belongs to."""
        return self.lane_numbered(job.lane)

    def lane_numbered(self, number: int) -> LaneDraft:
        """This turn's view of the lane with this number."""
        return self.lane_draft(self._lane(number))

    def _lane(self, number: int) -> Lane:
        lane = self.memory.lanes_by_number.get(number)
        if lane is None:
            lane = next(new for new in self.new_lanes.values() if new.number == number)
        return lane

    def shares(self, priority: int, *, alone: bool = False) -> ShareDraft:
        """This turn's view of what tenants have had at one priority.

        Args:
            alone: of jobs that run alone.
        """
        name = priority, alone
        draft = self._share_drafts.get(name)
        if draft is None:
            shares = self.memory.shares.get(name)
            if shares is None:
                shares = self.memory.shares[name] = Shares()
            draft = self._share_drafts[name] = ShareDraft(shares)
        return draft

    def tenant_of(self, lane: int) -> str:
        """Whose jobs wait in the lane with this number."""
        return self.lane_numbered(lane).lane.key.tenant

    # -- credit -----------------------------------------------------------------------------

    def hold(self, session: Session, job_id: bytes, pool: int, priority: int, alone: bool) -> None:
        """Count a job against a session's credit, undone if this turn is dropped."""
        session.hold(job_id, pool, priority, alone)
        self._credit.append((session, job_id, None))

    def release(self, session: Session, job_id: bytes) -> None:
        """Stop counting a job, undone if this turn is dropped."""
        entry = session.held.get(job_id)
        if entry is not None:
            session.release(job_id)
            self.memory.fleet.freed(session)
            self._credit.append((session, job_id, entry))

    # -- the end of the turn ----------------------------------------------------------------

    def seal(self) -> None:
        """Put the rows together; nothing may be added afterwards."""
        saves, memory = self.saves, self.memory
        saves.inserts = list(self.inserted.values())
        saves.updates = list(self.changed.values())
        saves.finishes = list(self.finished.values())
        saves.keys = list(self.keys.values())
        self._backlog.accepted(saves.inserts)
        saves.backlogs = self._backlog.rows(
            memory.backlogs, lambda number: self._lane(number).key.tenant
        )
        if self.next_key > memory.key_ceiling:
            saves.key_ceiling = self.next_key + NUMBERS_AHEAD
        if self.next_token > memory.token_ceiling:
            saves.token_ceiling = self.next_token + NUMBERS_AHEAD

    def apply(self) -> None:
        """The store has it: memory follows."""
        memory = self.memory
        for lane in self.new_lanes.values():
            memory.add_lane(lane)
        memory.next_lane += len(self.new_lanes)
        for lane_draft in self.lane_drafts.values():
            lane_draft.apply()
            memory.sort_lane(lane_draft.lane)
        for (priority, _), share_draft in self._share_drafts.items():
            share_draft.apply(memory.waiting.at(priority))
        self._apply_jobs()
        for row in self.finished.values():
            memory.recent.put(row)
        for session in self.expired_sessions:
            if session.origin is None and not session.held:
                memory.fleet.remove(session)
        for job_id, told in self._answered_cancels.items():
            if job_id in memory.cancels:
                del memory.cancels[job_id].waiting[:told]
        for job_id, pending in self.settled_cancels.items():
            if memory.cancels.get(job_id) is pending:
                del memory.cancels[job_id]
        for queue, paused in self.pauses.items():
            (memory.paused.add if paused else memory.paused.discard)(queue)
        for job_id in self.used_early_cancels:
            memory.early_cancels.forget(job_id)
        for backlog in self.saves.backlogs:
            memory.backlogs.set(backlog)
        memory.buckets.update(self.admissions.buckets)
        memory.callbacks_made += len(self.saves.callbacks)
        memory.next_key = self.next_key
        memory.next_token = self.next_token
        memory.next_due_at = self.next_due_at
        memory.key_ceiling = self.saves.key_ceiling or memory.key_ceiling
        memory.token_ceiling = self.saves.token_ceiling or memory.token_ceiling

    def _apply_jobs(self) -> None:
        jobs = self.memory.jobs
        total = self.memory.payload_bytes
        for job_id, job in self._jobs.items():
            before = jobs.get(job_id)
            if before is not None and before.payload is not None:
                total -= len(before.payload)
            if job is None:
                jobs.pop(job_id, None)
                continue
            if job.payload is not None:
                total += len(job.payload)
            jobs[job_id] = job
        self.memory.payload_bytes = total

    def drop(self) -> None:
        """The store does not have it: nothing happened."""
        for lane_draft in self.lane_drafts.values():
            self.memory.sort_lane(lane_draft.lane)
        for session, job_id, before in reversed(self._credit):
            if before is None:
                session.release(job_id)
                self.memory.fleet.freed(session)
            else:
                session.hold(job_id, *before)
        for session, origin in self.disconnected:
            session.origin = origin
        for session in self.expired_sessions:
            self.memory.fleet.revive(session)
        if self.disconnected:
            self.memory.fleet.changed()
        self.memory.cancels.update(self.settled_cancels)


def without_payload(job: JobRow) -> JobRow:
    """The same job, its arguments left to the store."""
    return JobRow._make((*job[:-1], None))
