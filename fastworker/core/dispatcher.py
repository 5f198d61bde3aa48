"""The decisions of the control plane, one turn at a time. Pure: no clock, no waiting, no I/O.

A turn is ``questions`` → (the store answers) → ``handle_all`` → (the store saves) → ``apply``, or
``drop`` when the store definitely did not save. The loop around it is `server.dispatch`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from fastworker.core import cancels, leases, outcomes, quotas, running, submissions
from fastworker.core.commands import AnswerPause, AnswerWatch, Command
from fastworker.core.facts import (
    CancelRequest,
    CapacityChange,
    Checkpoints,
    Disconnection,
    Fact,
    Handbacks,
    Offer,
    Outcomes,
    QueuePause,
    Registration,
    Renewals,
    SaidLines,
    Starts,
    Submission,
    Unwindings,
    WatchRequest,
    Withdrawals,
)
from fastworker.core.handout import hand_out
from fastworker.core.lanes import Lane
from fastworker.core.memory import MAX_QUEUED_BYTES, MAX_QUEUED_JOBS, Draft, Memory
from fastworker.core.questions import Known, Questions, RefillQuestion, Snapshot
from fastworker.core.records import (
    ALL_TENANTS,
    DEFAULT_TENANT,
    JobRow,
    Now,
    PauseRow,
    Saves,
    TaskStatus,
)
from fastworker.core.sight import is_hidden, unseen_ids
from fastworker.core.targets import free_alone
from fastworker.core.tenants import Tenants

LONGEST_NAP_PARTS: Final = 6
"""The loop wakes at least six times a lease, so that its own pauses are noticed."""


@dataclass(slots=True)
class Staged:
    """One turn, decided and not yet true: save ``saves``, then `Dispatcher.apply`, then act."""

    draft: Draft

    @property
    def saves(self) -> Saves:
        """What the store must have before anybody is told."""
        return self.draft.saves

    @property
    def commands(self) -> list[Command]:
        """What to do once it has."""
        return self.draft.commands


class Dispatcher:
    """Decides which job runs where and what becomes of it.

    Args:
        snapshot: what the store held at start.
        now: the moment of the start; leases found in the store get one whole lease of grace.
        lease_seconds: how long a subworker may be silent.
        max_queued_jobs, max_queued_bytes: once so many jobs, or so much of their arguments, wait,
            new ones are refused.
        tenants: shares and quotas.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        now: Now,
        *,
        lease_seconds: float,
        max_queued_jobs: int = MAX_QUEUED_JOBS,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        tenants: Tenants | None = None,
    ) -> None:
        self.memory = Memory(snapshot)
        self.memory.max_queued_jobs = max_queued_jobs
        self.memory.max_queued_bytes = max_queued_bytes
        self.memory.tenants = Tenants() if tenants is None else tenants
        self.lease_seconds = lease_seconds
        self._last_turn = now.monotonic
        leases.adopt_running(self.memory, snapshot, lease_until=now.monotonic + lease_seconds)

    # -- before the turn --------------------------------------------------------------------

    def next_wakeup(self) -> tuple[float, float | None]:
        """When to take a turn without any fact: (monotonic, wall or None)."""
        if any(self._wants_refill(lane) for lane in self.memory.stored_lanes.values()):
            # A free subworker waits for jobs that only the store holds.
            return self._last_turn, self.memory.next_due_at
        nap = self._last_turn + self.lease_seconds / LONGEST_NAP_PARTS
        return min(nap, self.memory.fleet.next_expiry), self.memory.next_due_at

    def questions(self, facts: Sequence[Fact], now: Now, *, suspicious: bool = False) -> Questions:
        """What must be asked of the store before these facts can be handled.

        Args:
            suspicious: ask about every submitted id, also those said to be new.
        """
        asked = Questions()
        # What is refused for lack of room must not be stored already.
        short = quotas.tenants_short_of_room(self.memory, facts, now)
        for fact in facts:
            match fact:
                case Submission():
                    if suspicious or not fact.first_try or fact.tenant in short:
                        self._ask(asked, fact.ids)
                    if fact.keys is not None:
                        asked.keys += submissions.key_names(fact)
                case CancelRequest() | WatchRequest():
                    self._ask_for(asked, fact.ids, fact.tenant)
                case Outcomes():
                    self._ask(asked, fact.ids)
                case _:
                    pass
        for lane in self.memory.stored_lanes.values():
            if self._wants_refill(lane):
                question = RefillQuestion(lane.number, lane.window_end, lane.refill_limit())
                asked.refills.append(question)
        due = self.memory.next_due_at
        if due is not None and due <= now.wall:
            asked.due_before = now.wall
        return asked

    def _wants_refill(self, lane: Lane) -> bool:
        return (
            lane.refill_limit() > 0
            and not self._is_paused(lane)
            and bool(self.memory.fleet.able(lane.key))
        )

    def _is_paused(self, lane: Lane) -> bool:
        return self.memory.is_paused(lane.key.tenant, lane.key.queue)

    def _ask(self, asked: Questions, ids: Sequence[bytes]) -> None:
        jobs, recent = self.memory.jobs, self.memory.recent
        asked.ids += [job_id for job_id in ids if job_id not in jobs and recent.get(job_id) is None]

    def _ask_for(self, asked: Questions, ids: Sequence[bytes], tenant: str | None) -> None:
        if tenant is None:
            self._ask(asked, ids)
        elif unseen := unseen_ids(self.memory, ids, tenant):
            asked.ids_of.setdefault(tenant, []).extend(unseen)

    # -- the turn ---------------------------------------------------------------------------

    def handle_all(
        self, facts: Sequence[Fact], known: Known, now: Now, *, asked: Questions | None = None
    ) -> Staged:
        """Decide one turn. Memory is unchanged until `apply`."""
        self._notice_own_pause(now)
        draft = Draft(self.memory)
        if asked is not None:
            self._refill(draft, known, asked)
            if asked.due_before is not None:
                submissions.release_due(draft, known, now)
        for fact in facts:
            self._handle(draft, fact, known, now)
        leases.expire_leases(draft, now)
        hand_out(draft, now)
        running.drop_ended(draft)
        draft.seal()
        return Staged(draft)

    def apply(self, staged: Staged) -> None:
        """The store has it: memory follows."""
        staged.draft.apply()
        running.follow_saved(self.memory, staged.saves)

    def drop(self, staged: Staged) -> None:
        """The store definitely does not have it: as if the turn had not been."""
        staged.draft.drop()

    def _notice_own_pause(self, now: Now) -> None:
        gap = now.monotonic - self._last_turn
        self._last_turn = now.monotonic
        if gap > self.lease_seconds / 3:
            leases.extend_all(self.memory, gap)

    def _refill(self, draft: Draft, known: Known, asked: Questions) -> None:
        limits = {question.lane: question.limit for question in asked.refills}
        for number, rows in known.refills.items():
            lane = draft.lane_draft(self.memory.lanes_by_number[number])
            fresh = [draft.window_row(row) for row in rows if draft.job(row.id) is None]
            for row in lane.refill(fresh, asked=limits[number] - (len(rows) - len(fresh))):
                draft.load(row)

    def _handle(self, draft: Draft, fact: Fact, known: Known, now: Now) -> None:
        match fact:
            case Submission():
                submissions.accept_submission(draft, fact, known, now)
            case Outcomes():
                outcomes.record_outcomes(draft, fact, known, now)
            case Registration():
                leases.register(draft, fact, now, lease_seconds=self.lease_seconds)
            case Disconnection():
                leases.disconnect(draft, fact, now)
            case CapacityChange():
                leases.change_capacity(draft, fact)
            case Offer():
                leases.change_offer(draft, fact)
            case Handbacks():
                outcomes.take_back(draft, fact, now)
            case Starts():
                outcomes.note_starts(draft, fact)
            case Checkpoints():
                running.keep_checkpoints(draft, fact, now)
            case SaidLines():
                running.keep_lines(draft, fact)
            case Withdrawals():
                cancels.settle_withdrawals(draft, fact, now)
            case Unwindings():
                cancels.settle_unwindings(draft, fact)
            case CancelRequest():
                cancels.cancel_jobs(draft, fact, known, now)
            case WatchRequest():
                _answer_watch(draft, fact, known)
            case Renewals():
                leases.renew(self.memory, fact, now, lease_seconds=self.lease_seconds)
            case QueuePause():
                _pause_queue(draft, fact)
            case _:
                assert_never(fact)

    # -- looking on -------------------------------------------------------------------------

    def job(self, job_id: bytes) -> JobRow | None:
        """A ready or leased job, if memory holds it."""
        return self.memory.jobs.get(job_id)

    def has_checkpoint(self, key: int) -> bool:
        """Whether the open job with this key has left a checkpoint."""
        return key in self.memory.checkpointed

    def why_waiting(
        self,
        task: str,
        queue: str,
        status: TaskStatus,
        *,
        tenant: str = DEFAULT_TENANT,
        job_id: bytes | None = None,
        attempts: int = 0,
    ) -> str | None:
        """Why a job that has not started waits, in words; None if it does not wait.

        Args:
            job_id: tells, where memory holds the job, whether it must run alone.
            attempts: tells a retry from a job that was put off by its submitter.
        """
        if status is TaskStatus.SCHEDULED:
            return "it failed and is tried again later" if attempts else "it is scheduled for later"
        if status is not TaskStatus.QUEUED:
            return None
        if self.memory.is_paused(tenant, queue):
            return f"queue {queue!r} is paused"
        if not any(
            session.can_run(tenant, task, queue) for session in self.memory.sessions.values()
        ):
            return self._why_unserved(tenant, task, queue)
        job = self.memory.jobs.get(job_id) if job_id is not None else None
        if job is not None and job.deaths and self._quarantine_is_full(job):
            return "it runs alone after a crash and another such job is running"
        return "all slots of the subworkers that can run it are taken"

    def _why_unserved(self, tenant: str, task: str, queue: str) -> str:
        for session in self.memory.sessions.values():
            tag = session.withheld.get(task)
            its = session.tenant in (None, tenant)
            if tag is not None and session.is_reachable and its:
                return (
                    f"no connected subworker that knows task {task!r} has its tag {tag!r} and "
                    f"serves queue {queue!r}; start one with --tags naming all tags of the task"
                )
        return (
            f"no connected subworker serves queue {queue!r} and knows task {task!r}; "
            "start one with --task-modules naming the module that defines it"
        )

    def _quarantine_is_full(self, job: JobRow) -> bool:
        return free_alone(self.memory, self.memory.lanes_by_number[job.lane].key) is None

    def has_unserved_jobs(self, tasks: Container[str] | None = None) -> bool:
        """Whether a job is ready that no connected subworker (the local one apart) can run.

        Args:
            tasks: only jobs of these tasks; None: of any.
        """
        return any(
            lane.depth > 0
            and not self._is_paused(lane)
            and (tasks is None or lane.key.task in tasks)
            and all(session.local for session in self.memory.fleet.able(lane.key))
            for lane in self.memory.waiting
        )


def _pause_queue(draft: Draft, fact: QueuePause) -> None:
    queues = [(fact.tenant, fact.queue)]
    if fact.tenant == ALL_TENANTS and not fact.paused:
        known = draft.memory.paused.union(draft.pauses)
        queues += sorted(each for each in known.difference(queues) if each[1] == fact.queue)
    for queue in queues:
        if draft.pauses.get(queue, queue in draft.memory.paused) is not fact.paused:
            draft.pauses[queue] = fact.paused
            draft.saves.pauses.append(PauseRow(*queue, fact.paused))
    draft.commands.append(AnswerPause(fact))


def _answer_watch(draft: Draft, fact: WatchRequest, known: Known) -> None:
    answer = AnswerWatch(fact, [], [], [])
    for job_id in fact.ids:
        if is_hidden(draft, job_id, known, fact.tenant):
            answer.unknown.append(job_id)
            continue
        if draft.job(job_id) is not None or job_id in draft.inserted or job_id in draft.changed:
            continue
        ended = submissions.recorded_end(draft, job_id, known)
        stored = known.jobs.get(job_id)
        if ended is not None:
            kept = ended.value if ended.status is TaskStatus.SUCCESS else ended.failure
            if kept is None and job_id not in draft.finished:
                answer.expired.append(job_id)
            else:
                answer.ended.append(ended)
        elif stored is None:
            answer.unknown.append(job_id)
    draft.commands.append(answer)
