"""Any order of events against what must always hold: a model of subworkers drives the dispatcher.

The subworkers of the model are honest and unlucky: they lose connections, leases and runners, say
things twice and late, but never that they did what they did not do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fastworker.core.backlogs import WAITING
from fastworker.core.commands import (
    AnnounceEnded,
    AnswerRegistration,
    AssignJobs,
    CancelChildren,
    Command,
    SettleCancel,
)
from fastworker.core.facts import (
    CancelRequest,
    CapacityChange,
    Disconnection,
    Fact,
    Handbacks,
    QueuePause,
    Renewals,
    Retry,
    Starts,
    Unwindings,
    Withdrawals,
)
from fastworker.core.records import (
    BacklogRow,
    FinishRow,
    JobOptions,
    JobRow,
    TaskPriority,
    TaskStatus,
)
from fastworker.core.returns import DEATHS_ALONE
from tests.core.harness import (
    LEASE,
    Plane,
    new_ids,
    only,
    outcomes,
    registration,
    submission,
)

ARGUMENTS = len(b"arguments")
QUEUES = ("default", "images")
TENANTS = ("default", "acme")
WORKERS = (b"worker-one", b"worker-two", b"worker-three")
delays = st.sampled_from([0.0, 0.5, 4.0, 40.0])
picks = st.integers(0, 10_000)
on_lost = st.sampled_from(["retry", "retry", "retry", "fail"])


@dataclass(eq=False)
class Lease:
    """An attempt, as the subworker that was sent it knows it."""

    session: bytes
    job: JobRow
    started: bool = False
    given_up: bool = False
    """Its subworker has reported its end, handed it back, or never got it."""
    lost: bool = False
    """Nothing was heard of its subworker for so long that it has run out."""


class Cluster(RuleBasedStateMachine):
    """One control plane, three subworkers."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = Plane()
        self.accepted: list[bytes] = []
        self.queue_of: dict[bytes, str] = {}
        self.tenant_of: dict[bytes, str] = {}
        self.ends: dict[bytes, FinishRow] = {}
        self.leases: list[Lease] = []
        self.connected: dict[bytes, int] = {}
        """Number of its connection, by subworker."""
        self.heard: dict[bytes, float] = {}
        self.connections = 0
        self.paused: set[str] = set()
        self.parent_of: dict[bytes, bytes] = {}
        self.to_follow: list[CancelChildren] = []
        self.cancels: list[CancelRequest] = []
        """Those that are not answered."""
        self.said: list[Fact] = []
        """What subworkers reported, to be said again."""
        self.deaths_alone: Counter[bytes] = Counter()
        self.failures: Counter[bytes] = Counter()
        """Failed attempts that count, by job."""

    # -- turns ------------------------------------------------------------------------------

    def turn(self, *facts: Fact, dropped: bool = False, seconds: float = 0.0) -> list[Command]:
        if dropped:
            self.plane.dispatcher.drop(self.plane.decide(*facts))
            self.leases_and_credit_agree()
            self.lanes_hold_every_ready_job_once()
        self.note_lost(self.plane.now.monotonic + seconds)
        commands = self.plane.turn(*facts, seconds=seconds)
        for answer in only(commands, AnswerRegistration):
            for lease in self.held(answer.fact.session):
                lease.given_up = lease.given_up or lease.job.token in answer.stale
        for announced in only(commands, AnnounceEnded):
            for row in announced.finishes:
                assert row.id not in self.ends, "a job ended twice"
                self.ends[row.id] = row
        self.to_follow += only(commands, CancelChildren)
        for settled in only(commands, SettleCancel):
            if not settled.fact.follows:
                assert settled.fact in self.cancels, "a cancel was answered twice"
                self.cancels.remove(settled.fact)
        for command in only(commands, AssignJobs):
            for job, _ in command.jobs:
                assert job.id not in self.plane.dispatcher.memory.cancels
                self.check_lease(command.session, job)
                self.leases.append(Lease(command.session, job))
        return commands

    def note_lost(self, now: float) -> None:
        for lease in self.leases:
            lease.lost = lease.lost or self.heard[lease.session] + LEASE <= now

    def check_lease(self, session: bytes, job: JobRow) -> None:
        now = self.plane.now
        earlier = [lease for lease in self.leases if lease.job.id == job.id]
        assert session in self.connected
        assert job.id not in self.ends
        assert self.queue_of[job.id] not in self.paused, "a paused queue handed out a job"
        assert job.expires_at is None or job.expires_at > now.wall, "started after its deadline"
        assert job.failures <= self.failures[job.id], "a failure counted twice"
        assert job.ready_at is None or job.ready_at <= now.wall, "started too early"
        for lease in earlier:
            assert lease.job.token < job.token
            assert lease.given_up or lease.lost, "two leases on one job"
            assert job.options.on_lost != "fail" or not lease.started, "started twice"

    def held(self, session: bytes) -> list[Lease]:
        return [each for each in self.leases if each.session == session and not each.given_up]

    def standing(self) -> list[Lease]:
        """Attempts that the control plane takes for running."""
        known = self.plane.dispatcher.memory.jobs
        return [
            lease
            for lease in self.leases
            if (row := known.get(lease.job.id)) is not None
            and (row.status, row.token) == (TaskStatus.RUNNING, lease.job.token)
        ]

    def open_leases(self) -> list[Lease]:
        """Those that subworkers, connected now, have neither ended nor given up."""
        return [
            lease for lease in self.leases if not lease.given_up and lease.session in self.connected
        ]

    def can_report(self) -> bool:
        return bool(self.open_leases())

    def pick(self, which: int) -> Lease:
        found = self.open_leases()
        return found[which % len(found)]

    def report(self, fact: Fact, dropped: bool = False) -> list[Command]:
        self.said.append(fact)
        return self.turn(fact, dropped=dropped)

    # -- clients ----------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 4),
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from([TaskPriority.LOW, TaskPriority.NORMAL, TaskPriority.HIGH]),
        delay=st.sampled_from([None, None, 0.0, 0.5, 4.0, 40.0]),
        expiry=st.sampled_from([None, None, None, None, 3.0, 30.0, 0.0]),
        on_lost=on_lost,
        parent=st.none() | picks,
        dropped=st.booleans(),
        tenant=st.sampled_from(TENANTS),
    )
    def submit(
        self,
        count: int,
        queue: str,
        priority: TaskPriority,
        delay: float | None,
        expiry: float | None,
        on_lost: str,
        parent: int | None,
        dropped: bool,
        tenant: str = "default",
    ) -> None:
        ids = new_ids(count)
        above = self.submitter(parent)
        if above is not None:
            self.parent_of.update(dict.fromkeys(ids, above))
        self.accepted += ids
        self.queue_of.update(dict.fromkeys(ids, queue))
        self.tenant_of.update(dict.fromkeys(ids, tenant))
        wall = self.plane.now.wall
        fact = submission(
            ids,
            queue=queue,
            priority=priority,
            options=JobOptions(on_lost=on_lost, parent=above),
            ready_at=None if delay is None else wall + delay,
            expires_at=None if expiry is None else wall + expiry,
            tenant=tenant,
        )
        self.turn(fact, dropped=dropped)

    def submitter(self, which: int | None) -> bytes | None:
        """A job that may submit others: it runs, or did when the submission was on its way."""
        if which is None or not self.accepted:
            return None
        memory, job_id = self.plane.dispatcher.memory, self.accepted[which % len(self.accepted)]
        job = memory.jobs.get(job_id)
        runs = job is not None and job.status is TaskStatus.RUNNING
        return job_id if runs or memory.recent.get(job_id) is not None else None

    @precondition(lambda self: self.accepted)
    @rule(which=picks, dropped=st.booleans())
    def cancel(self, which: int, dropped: bool) -> None:
        job_id = self.accepted[which % len(self.accepted)]
        self.cancels.append(CancelRequest(None, [job_id], ""))
        self.turn(self.cancels[-1], dropped=dropped)

    @precondition(lambda self: self.to_follow)
    @rule(dropped=st.booleans())
    def follow(self, dropped: bool) -> None:
        """The shell cancels the children of those that were cancelled."""
        command = self.to_follow.pop(0)
        ids = [row.id for row in self.plane.store.children(command.parents)]
        self.turn(CancelRequest(None, ids, command.reason, follows=True), dropped=dropped)

    @precondition(lambda self: self.accepted)
    @rule(which=picks)
    def submit_again(self, which: int) -> None:
        job_id = self.accepted[which % len(self.accepted)]
        queue, tenant = self.queue_of[job_id], self.tenant_of[job_id]
        self.turn(submission([job_id], queue=queue, first_try=False, tenant=tenant))

    @rule(
        queue=st.sampled_from(QUEUES),
        paused=st.sampled_from([True, False, False]),
        dropped=st.booleans(),
    )
    def pause(self, queue: str, paused: bool, dropped: bool) -> None:
        (self.paused.add if paused else self.paused.discard)(queue)
        facts = [QueuePause(None, queue, paused, tenant=tenant) for tenant in TENANTS]
        self.turn(*facts, dropped=dropped)

    # -- subworkers -------------------------------------------------------------------------

    @initialize(on_lost=on_lost)
    def begin(self, on_lost: str) -> None:
        for session in WORKERS[:2]:
            self.connect(session, 3, False)
        for queue in QUEUES:
            self.submit(5, queue, TaskPriority.NORMAL, None, None, on_lost, None, False)

    @rule(
        session=st.sampled_from(WORKERS), slots=st.sampled_from([3, 2, 1, 0]), dropped=st.booleans()
    )
    def connect(self, session: bytes, slots: int, dropped: bool) -> None:
        self.note_lost(self.plane.now.monotonic)
        self.connections += 1
        self.connected[session] = self.connections
        self.heard[session] = self.plane.now.monotonic
        fact = registration(
            session,
            slots=slots,
            prefetch=1,
            queues=("*",),
            origin=self.connections,
            claims=[(lease.job.id, lease.job.token) for lease in self.held(session)],
        )
        self.turn(fact, dropped=dropped)

    @precondition(lambda self: self.connected)
    @rule(which=picks, lost=st.booleans(), leaving=st.booleans(), dropped=st.booleans())
    def disconnect(self, which: int, lost: bool, leaving: bool, dropped: bool) -> None:
        session = sorted(self.connected)[which % len(self.connected)]
        number = self.connected[session]
        if leaving:
            self.turn(CapacityChange(session, (0, 0), (0, 0)))
            for lease in self.held(session):
                self.hand_back(lease, "drain")
        elif lost:
            # What was sent last never reached it.
            for lease in self.held(session):
                lease.given_up = not lease.started
        del self.connected[session]
        self.turn(Disconnection(session, number, leaving), dropped=dropped)

    @precondition(can_report)
    @rule(which=picks, told=st.booleans())
    def start(self, which: int, told: bool) -> None:
        lease = self.pick(which)
        lease.started = True
        if told:
            job, wall = lease.job, self.plane.now.wall
            self.report(Starts(lease.session, [job.id], [job.token], [wall]))

    @precondition(can_report)
    @rule(which=picks, succeeds=st.booleans(), dropped=st.booleans())
    def finish(self, which: int, succeeds: bool, dropped: bool) -> None:
        self.end(which, TaskStatus.SUCCESS if succeeds else TaskStatus.FAILURE, None, dropped)

    @precondition(can_report)
    @rule(
        which=picks,
        retry=st.builds(Retry, delays, st.booleans(), st.sampled_from([None, None, 1.0, 50.0])),
        twice=st.booleans(),
        dropped=st.booleans(),
    )
    def fail(self, which: int, retry: Retry, twice: bool, dropped: bool) -> None:
        self.end(which, TaskStatus.FAILURE, retry, dropped)
        if twice:
            self.turn(self.said[-1])

    def end(self, which: int, status: TaskStatus, retry: Retry | None, dropped: bool) -> None:
        lease = self.pick(which)
        lease.started = lease.given_up = True
        if retry is not None and retry.counted:
            self.failures[lease.job.id] += 1
        wall = self.plane.now.wall
        fact = outcomes(lease.session, [lease.job], status=status, at=wall, retry=retry)
        self.report(fact, dropped)

    @precondition(can_report)
    @rule(which=picks, started=st.booleans(), reason=st.sampled_from(["drain", "lease_lost"]))
    def give_back(self, which: int, started: bool, reason: str) -> None:
        lease = self.pick(which)
        lease.started = lease.started or started
        self.hand_back(lease, reason)

    @precondition(can_report)
    @rule(which=picks, shared=st.booleans(), again=st.integers(0, 4))
    def crash(self, which: int, shared: bool, again: int) -> None:
        """A runner dies, of one job or of all that its subworker has; some jobs do it again."""
        victim = self.pick(which)
        for lease in self.held(victim.session) if shared else [victim]:
            lease.started = True
            self.hand_back(lease, "runner_died")
        for _ in range(again):
            for lease in [each for each in self.open_leases() if each.job.id == victim.job.id]:
                lease.started = True
                self.hand_back(lease, "runner_died")

    def hand_back(self, lease: Lease, reason: str) -> None:
        lease.given_up = True
        job, started = lease.job, int(lease.started)
        if job.deaths and started and reason == "runner_died" and lease in self.standing():
            self.deaths_alone[job.id] += 1
        self.report(Handbacks(lease.session, [job.id], [job.token], [started], reason))

    @precondition(lambda self: self.plane.dispatcher.memory.cancels and self.open_leases())
    @rule(dropped=st.booleans())
    def withdraw(self, dropped: bool) -> None:
        asked = self.plane.dispatcher.memory.cancels
        for lease in [lease for lease in self.open_leases() if lease.job.id in asked]:
            taken = not lease.started
            lease.given_up = lease.given_up or taken
            job = lease.job
            fact = Withdrawals(lease.session, [job.id], [job.token], [int(taken)])
            self.report(fact, dropped)

    @precondition(lambda self: self.plane.dispatcher.memory.cancels and self.open_leases())
    @rule(stops=st.booleans(), dropped=st.booleans())
    def unwind(self, stops: bool, dropped: bool) -> None:
        asked = self.plane.dispatcher.memory.cancels
        for which, lease in enumerate(self.open_leases()):
            if lease.job.id not in asked:
                continue
            if stops:
                return self.end(which, TaskStatus.CANCELLED, None, dropped)
            job = lease.job
            self.report(Unwindings(lease.session, [job.id], [job.token], ["stack"]), dropped)

    @precondition(lambda self: self.said)
    @rule(which=picks)
    def say_again(self, which: int) -> None:
        fact = self.said[which % len(self.said)]
        self.turn(fact, fact)

    # -- time and crashes -------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.1, 2.0, 5.0, LEASE + 1, 60.0]),
        silent=st.sampled_from([False, False, True]),
    )
    def pass_time(self, seconds: float, silent: bool) -> None:
        """``silent``: the subworkers are connected, and nothing is heard of them."""
        while seconds > 0:
            step = min(seconds, LEASE / 6)
            seconds -= step
            at = self.plane.now.monotonic + step
            heard = {} if silent else dict.fromkeys(self.connected, at)
            self.heard.update(heard)
            self.turn(Renewals(heard), seconds=step)

    @rule(seconds=st.sampled_from([LEASE / 2, 4 * LEASE]))
    def stand_still(self, seconds: float) -> None:
        """The control plane itself does nothing for a while: nobody loses a lease for that."""
        self.heard = {session: at + seconds for session, at in self.heard.items()}
        self.turn(seconds=seconds)

    @rule(back=st.sampled_from([True, True, False]))
    def restart(self, back: bool) -> None:
        """``back``: the subworkers come back at once."""
        self.plane = self.plane.restart()
        self.to_follow = [CancelChildren(self.plane.store.cancelled_parents(), "restart", None)]
        self.heard = dict.fromkeys(self.heard, self.plane.now.monotonic)
        returning = sorted(self.connected) if back else []
        self.connected.clear()
        for session in returning:
            self.connect(session, 3, False)

    # -- what must always hold --------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_ends_stay(self) -> None:
        views = {view.id: view for view in self.plane.store.reader().views(self.accepted)}
        assert len(views) == len(self.accepted)
        for job_id, view in views.items():
            end = self.ends.get(job_id)
            assert view.status.is_terminal == (end is not None)
            if end is not None:
                assert (view.status, view.value) == (end.status, end.value)

    @invariant()
    def families_hold_who_lives_and_no_cancelled_job_is_forgotten(self) -> None:
        store = self.plane.store
        followed = {parent for command in self.to_follow for parent in command.parents}
        asked = self.plane.dispatcher.memory.cancels
        for parent in set(self.parent_of.values()):
            mine = {job_id for job_id, above in self.parent_of.items() if above == parent}
            living = {job_id for job_id in mine if job_id not in self.ends}
            assert {row.id for row in store.children([parent])} == living
            end = self.ends.get(parent)
            if end is not None and end.status is TaskStatus.CANCELLED and parent not in followed:
                assert living <= asked.keys(), "a child of a cancelled job goes on"

    @invariant()
    def leases_and_credit_agree(self) -> None:
        memory = self.plane.dispatcher.memory
        running = {job.id: job for job in memory.jobs.values() if job.status is TaskStatus.RUNNING}
        held = [job_id for session in memory.sessions.values() for job_id in session.held]
        assert sorted(held) == sorted(running)
        for session in memory.sessions.values():
            counts = Counter((pool, priority) for pool, priority, _ in session.held.values())
            for pool, row in enumerate(session.outstanding):
                assert row == [counts[pool, priority] for priority in range(len(row))]
            alone = [running[job_id] for job_id in session.held if running[job_id].deaths]
            assert session.alone == len(alone)
            assert all(running[job_id].session == session.incarnation for job_id in session.held)

    @invariant()
    def lanes_hold_every_ready_job_once(self) -> None:
        memory = self.plane.dispatcher.memory
        views = self.plane.store.reader().views(self.accepted)
        stored = Counter(
            (self.tenant_of[view.id], view.queue, view.priority)
            for view in views
            if view.status is TaskStatus.QUEUED
        )
        for lane in memory.lanes.values():
            back = [row for _, _, row in (*lane.returned, *lane.parked)]
            entries = [row for row in (*lane.ready, *back) if memory.jobs.get(row.id) is row]
            mine = [row for row in memory.jobs.values() if row.lane == lane.number]
            waiting = [row for row in mine if row.status is TaskStatus.QUEUED]
            assert sorted(row.id for row in entries) == sorted(row.id for row in waiting)
            assert all((row.position or 0) <= lane.window_end for row in waiting)
            assert len(waiting) + lane.stored == stored[lane.key[:3]]
        assert set(memory.waiting) == {lane for lane in memory.lanes.values() if lane.depth}
        assert set(memory.suspects) == {lane for lane in memory.waiting if lane.parked}
        assert set(memory.stored_lanes.values()) == {lane for lane in memory.waiting if lane.stored}
        payloads = (row.payload for row in memory.jobs.values())
        assert memory.payload_bytes == sum(len(payload) for payload in payloads if payload)

    @invariant()
    def what_waits_is_counted_exactly(self) -> None:
        store, memory = self.plane.store, self.plane.dispatcher.memory
        counts = Counter(
            self.tenant_of[view.id]
            for view in store.reader().views(self.accepted)
            if view.status in WAITING
        )
        waiting = counts.total()
        assert {row.tenant: row for row in store.load().backlogs} == memory.backlogs.by_tenant
        for tenant in set(self.tenant_of.values()):
            jobs = counts[tenant]
            assert memory.backlogs.of(tenant) == BacklogRow(tenant, jobs, jobs * ARGUMENTS)
        assert (memory.backlogs.jobs, memory.backlogs.size) == (waiting, waiting * ARGUMENTS)

    @invariant()
    def poison_is_bounded(self) -> None:
        assert max(self.deaths_alone.values(), default=0) <= DEATHS_ALONE

    def teardown(self) -> None:
        """In the end everything can be brought to its end."""
        for queue in QUEUES:
            self.pause(queue, False, False)
        self.pass_time(LEASE + 1, True)
        for _ in range(100):
            self.connect(b"healthy", 50, False)
            for lease in self.held(b"healthy"):
                lease.started = lease.given_up = True
                self.turn(outcomes(b"healthy", [lease.job], at=self.plane.now.wall))
            if len(self.ends) == len(self.accepted):
                return
            self.turn(seconds=1.0)
        raise AssertionError("some jobs never ended")


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
