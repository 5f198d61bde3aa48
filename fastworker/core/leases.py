"""Leases of subworkers: registered, renewed, claimed after a reconnection, run out.

One lease covers all jobs of a subworker. It is renewed by hearing from it, lives through a lost
connection, and is judged by this process's monotonic clock only. Expiry is never stored.
"""

from __future__ import annotations

from fastworker.core.cancels import withdraw
from fastworker.core.commands import AnnounceRoster, AnswerRegistration
from fastworker.core.facts import CapacityChange, Disconnection, Offer, Registration, Renewals
from fastworker.core.memory import Draft, Memory
from fastworker.core.questions import Snapshot
from fastworker.core.records import Now, TaskStatus, WorkerRow
from fastworker.core.returns import requeue
from fastworker.core.sessions import Session


def adopt_running(memory: Memory, snapshot: Snapshot, *, lease_until: float) -> None:
    """After a restart: leased jobs stay with their subworkers for one whole lease of grace."""
    for job in snapshot.running:
        memory.jobs[job.id] = job
        if job.session is None:
            continue
        session = memory.sessions.get(job.session)
        if session is None:
            session = memory.sessions[job.session] = Session(job.session, lease_until)
            memory.fleet.expires(lease_until)
        priority = memory.lanes_by_number[job.lane].key.priority
        session.hold(job.id, 0, priority, job.deaths > 0)


def register(draft: Draft, fact: Registration, now: Now, *, lease_seconds: float) -> None:
    """A subworker connects: take over what it says, compare what it claims."""
    memory = draft.memory
    session = memory.sessions.get(fact.session)
    if session is None:
        session = memory.sessions[fact.session] = Session(fact.session, 0.0)
    session.describe(fact)
    session.lease_until = now.monotonic + lease_seconds
    memory.fleet.revive(session)
    stale = [
        token for token, job_id in fact.claims.items() if not _keeps(draft, session, job_id, token)
    ]
    for job_id in list(session.held):
        job = draft.job(job_id)
        if job is None or job.token not in fact.claims:
            # Leased, but the assignment never reached it: nothing has started.
            draft.release(session, job_id)
            if job is not None and job.status is TaskStatus.RUNNING:
                requeue(draft, job, now, reason="unsent", started=False)
    row = WorkerRow(fact.session, fact.label, fact.host, fact.pid, now.wall)
    draft.saves.workers.append(row)
    draft.commands.append(AnswerRegistration(fact, stale))
    if memory.cancels:
        held = [job for job_id in session.held if (job := draft.job(job_id)) is not None]
        withdraw(draft, held)
    draft.commands.append(AnnounceRoster())


def _keeps(draft: Draft, session: Session, job_id: bytes, token: int) -> bool:
    """Whether a claimed lease still holds its job; counts it in its true pool if so.

    One that expired while its subworker was away is revived if the job was not handed out again.
    """
    job = draft.job(job_id)
    if job is None or job.token != token:
        return False
    if session.tenant not in (None, draft.tenant_of(job.lane)):
        return False
    if job.status is TaskStatus.QUEUED and job.session is None:
        # What is left in its lane is passed over.
        revived = job._replace(
            status=TaskStatus.RUNNING, position=None, due_at=None, session=session.incarnation
        )
        draft.move(job, revived, keep=True)
    elif job.session != session.incarnation:
        return False
    lane = draft.lane_of(job).lane.key
    pool = session.tasks.get(lane.task, 0)
    draft.release(session, job_id)
    draft.hold(session, job_id, pool, lane.priority, job.deaths > 0)
    return True


def disconnect(draft: Draft, fact: Disconnection, now: Now) -> None:
    """A connection ended. The lease goes on, unless the subworker said goodbye."""
    memory = draft.memory
    session = memory.sessions.get(fact.session)
    if session is None or session.origin is not fact.origin:
        return
    draft.disconnected.append((session, session.origin))
    session.origin = None
    memory.fleet.changed()
    if fact.leaving:
        # It has told of everything it got: what is left was on its way, and never starts.
        for job_id in list(session.held):
            draft.release(session, job_id)
            job = draft.job(job_id)
            if job is not None and job.status is TaskStatus.RUNNING:
                requeue(draft, job, now, reason="unsent", started=False)
        session.lapsed = True
        draft.expired_sessions.append(session)
    draft.commands.append(AnnounceRoster())


def change_capacity(draft: Draft, fact: CapacityChange) -> None:
    """A subworker has other slots than before."""
    session = draft.memory.sessions.get(fact.session)
    if session is not None:
        session.pools, session.prefetch = fact.pools, fact.prefetch
        draft.memory.fleet.changed()


def change_offer(draft: Draft, fact: Offer) -> None:
    """A subworker knows other tasks than before."""
    session = draft.memory.sessions.get(fact.session)
    if session is not None:
        session.tasks, session.signatures = fact.tasks, fact.signatures
        session.withheld = fact.withheld
        draft.memory.fleet.changed()
        draft.commands.append(AnnounceRoster())


def renew(memory: Memory, fact: Renewals, now: Now, *, lease_seconds: float) -> None:
    """Leases run from the moment the subworker was last heard."""
    for incarnation, heard in fact.heard.items():
        session = memory.sessions.get(incarnation)
        if session is None or session.origin is None:
            continue
        if heard + lease_seconds > now.monotonic:
            session.lease_until = max(session.lease_until, heard + lease_seconds)
            if session.lapsed:
                memory.fleet.revive(session)


def extend_all(memory: Memory, gap: float) -> None:
    """This process itself stood still: nobody may lose a lease for that."""
    for session in memory.sessions.values():
        session.lease_until += gap


def expire_leases(draft: Draft, now: Now) -> None:
    """Jobs of subworkers whose lease ran out wait again; their old tokens are fenced."""
    for session in draft.memory.fleet.expired(now.monotonic):
        for job_id in list(session.held):
            draft.release(session, job_id)
            job = draft.job(job_id)
            if job is not None and job.status is TaskStatus.RUNNING:
                requeue(draft, job, now, reason="lease_expired", started=True)
        draft.expired_sessions.append(session)
