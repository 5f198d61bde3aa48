"""One run: its processes, its network, its disk, its ledgers, and how they are put together."""

from __future__ import annotations

import itertools
import math
from collections import ChainMap
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import trio

from fastworker.core.ids import split_ids
from fastworker.core.records import JobRow, LaneKey, Saves, TaskStatus
from fastworker.testing.clock import ClusterClock
from fastworker.wire import messages as m
from tests.simulation.determinism import EPOCH
from tests.simulation.disk import Disk
from tests.simulation.ledgers import Effects, Entry
from tests.simulation.network import Network, Wire
from tests.simulation.order import Order
from tests.simulation.processes import Application, ControlPlane, Worker
from tests.simulation.record import Record


class Visit(NamedTuple):
    """A connection over which a client has said who it is, and when."""

    wire: Wire
    since: float


class World:
    """Everything of one run; made inside `trio.run`."""

    def __init__(self, seed: int, record: Record, nursery: trio.Nursery) -> None:
        self.random = Random(f"faults {seed}")
        self.record = record
        self.nursery = nursery
        self.clock = ClusterClock(datetime.fromtimestamp(EPOCH, UTC))
        self.network = Network(Random(f"network {seed}"), record, self._delivered)
        self.network.may_repeat = self._may_repeat
        self.disk = Disk(Random(f"disk {seed}"), record)
        self.disk.kill = lambda: self.control_plane.kill()
        self.disk.on_commit = self._committed
        self.effects = Effects(record)
        self.entries: list[Entry] = []
        self.families = self.random.choice((0.5, 1.0, 3.0))
        """How much more often than usually jobs submit others."""
        self.downtime: tuple[float, float] = (0.05, 2.0)
        self.control_plane = ControlPlane(self, 0)
        self.workers: list[Worker] = []
        self.applications: list[Application] = []
        self.operators: list[Application] = []
        self.heard: dict[str, list[float]] = {}
        """When frames of each subworker process arrived at a control plane."""
        self.commit_bugs: list[str] = []
        self.healed_at = math.inf
        self.unreachable: dict[str, float] = {}
        """Until when the control plane cannot be dialled, by process."""
        self.visits: dict[bytes, list[Visit]] = {}
        """Of each client, by its own id, oldest first."""
        self.owners: dict[bytes, bytes] = {}
        """The client that owns each job."""
        self.lives: list[tuple[float, float]] = []
        """From start to end of each control plane."""
        self.accepted: dict[bytes, float] = {}
        """When each job was committed first."""
        self.settled: dict[bytes, float] = {}
        """When each job's end was committed."""
        self._met: dict[str, str] = {}
        self.leased_at: dict[int, float] = {}
        """When each token was committed."""
        self.under_way: dict[int, float] = {}
        """How long the assignment of each token took, in seconds."""
        self.retried: set[int] = set()
        """Tokens of attempts after which a policy asked for another."""
        self.given_up: set[int] = set()
        """Tokens of attempts that were stopped because their lease might be lost."""
        self.drained: set[int] = set()
        """Tokens of attempts that were stopped because their worker ended."""
        self._lanes: dict[int, LaneKey] = {}
        self._order = Order()
        self._paused: set[str] = set()
        self._last_token = 0
        """The greatest of all earlier transactions."""
        self._tokens: set[int] = set()
        """Of this transaction."""

    # --- processes ------------------------------------------------------------------------

    async def keep_control_plane(self) -> None:
        """Start one control plane after another."""
        for number in itertools.count(1):
            self.nursery.start_soon(self.control_plane.run)
            born_at = trio.current_time()
            self.lives.append((born_at, math.inf))
            await self.control_plane.ended.wait()
            self.lives[-1] = (born_at, trio.current_time())
            self.record.count("control plane restarted")
            await trio.sleep(self.random.uniform(*self.downtime))
            self.record.count(
                "cascade left over by a restart", len(self.disk.store.cancelled_parents())
            )
            self.control_plane = ControlPlane(self, number)

    async def keep_worker(self, label: str) -> None:
        """Start one subworker after another under the same name."""
        for number in itertools.count(1):
            worker = Worker(
                self,
                f"{label}#{number}",
                concurrency=self.random.choice((1, 2, 4)),
                processes=self.random.choice((1, 1, 2)),
            )
            self.workers.append(worker)
            self.nursery.start_soon(worker.run)
            await worker.ended.wait()
            self.workers.remove(worker)
            await trio.sleep(self.random.uniform(0.1, 4.0))

    def connect(self, peer: str) -> Any:
        """Dial the control plane; raises `ConnectionRefusedError`."""
        if trio.current_time() < self.unreachable.get(peer, 0.0):
            raise ConnectionRefusedError("simulated: the control plane cannot be reached")
        return self.control_plane.serve(peer)

    def hide(self, peer: str, until: float) -> None:
        """A process loses its connection and gets no other before this moment."""
        self.unreachable[peer] = until
        self.network.cut_all(peer)

    # --- what passes by -------------------------------------------------------------------

    def _delivered(
        self, wire: Wire, messages: list[m.Message], to_control_plane: bool, sent_at: float
    ) -> None:
        for message in messages:
            if to_control_plane:
                self._heard_of(wire, message)
            else:
                self._answered(message, under_way=trio.current_time() - sent_at)
        if to_control_plane and wire.peer in self._met:
            self.heard.setdefault(wire.peer, []).append(trio.current_time())

    def _may_repeat(self, messages: list[m.Message]) -> bool:
        """What was refused is forgotten, so that nothing but its sender may send it again."""
        submits = [message for message in messages if isinstance(message, m.Submit)]
        return all(id in self.disk.ids for each in submits for id in split_ids(each.ids))

    def _heard_of(self, wire: Wire, message: m.Message) -> None:
        count = self.record.count
        match message:
            case m.Register():
                host = wire.name.partition("-")[2].partition(":")[0]
                before = self._met.get(wire.peer)
                self._met[wire.peer] = host
                if message.claim_tokens:
                    after = "a restart" if before != host else "a reconnection"
                    count(f"claims after {after}")
            case m.Introduce():
                self.visits.setdefault(message.client, []).append(Visit(wire, trio.current_time()))
            case m.Submit():
                known = self.disk.ids
                count("submission repeated", sum(id in known for id in split_ids(message.ids)))
                count(
                    "said to be a first try and stored",
                    message.first_try and any(id in known for id in split_ids(message.ids)),
                )
            case m.Handback():
                count(f"handed back: {message.reason}")
            case m.Withdrawn():
                taken = sum(message.taken)
                count("withdrawn in time", taken)
                count("withdrawn too late", len(message.tokens) - taken)
            case _:
                pass

    def _answered(self, message: m.Message, *, under_way: float) -> None:
        count = self.record.count
        match message:
            case m.OutcomeAck():
                count("stale outcome refused", len(message.stale))
            case m.Registered():
                count("stale claim", len(message.stale))
            case m.Submitted():
                for row in message.refused or ():
                    count(f"refused: {row[1]}")
            case m.Assign():
                self.under_way.update(dict.fromkeys(message.tokens, under_way))
                count("assigned again", sum(attempt > 1 for attempt in message.attempts))
            case m.Cancelled():
                for outcome in message.outcomes:
                    count(f"cancel: {outcome}")
            case m.Problem():
                count(f"problem: {message.code}")
            case m.LeaseLost():
                count("lease lost told")
            case _:
                pass

    def _committed(self, saves: Saves) -> None:
        """Look at a transaction that has just been written."""
        inserted = {row.key: row for row in saves.inserts}
        latest: ChainMap[int, JobRow] = ChainMap({}, inserted, self.disk.rows)
        self._lanes.update(saves.lanes)
        for pause in saves.pauses:
            # Before the leases: what is resumed may be handed out in the same transaction.
            self.record.note("commit", f"queue {pause.queue} paused: {pause.paused}")
            self.record.count("queue paused" if pause.paused else "queue resumed")
            (self._paused.add if pause.paused else self._paused.discard)(pause.queue)
        for row in saves.inserts:
            self.accepted[row.id] = trio.current_time()
            if row.options.owner is not None:
                self.owners[row.id] = row.options.owner
            if row.status is TaskStatus.RUNNING:
                self._leased(row)
        for row in saves.updates:
            self._changed(latest[row.key], row)
            latest[row.key] = row
        self._last_token = max(self._tokens, default=self._last_token)
        self._tokens.clear()
        for finish in saves.finishes:
            row = latest[finish.key]
            self.settled[finish.id] = trio.current_time()
            self.record.note("commit", f"{finish.id.hex()[-8:]} {finish.status} {finish.token}")
            self.record.count(f"ended: {finish.status}")
            late = finish.failure is not None and finish.failure.type_name == "TimeLimitExceeded"
            self.record.count("ended: past its time limit", late)
            # What was given up and ended in one turn ends without a lease.
            waited = finish.status in (TaskStatus.CANCELLED, TaskStatus.EXPIRED)
            if finish.token != row.token and not (waited and finish.token == 0):
                self.commit_bugs.append(
                    f"fencing: {finish.id.hex()} ended under token {finish.token}, "
                    f"but its lease is {row.token}"
                )
            if row.status is TaskStatus.QUEUED and row.token and finish.status == "success":
                self.record.count("lease revived")
            if finish.key in inserted and finish.status is TaskStatus.CANCELLED:
                self.record.count("cancelled before its submission")
        wall, waited = self.clock.wall(), self._order.waited
        self.commit_bugs += self._order.violations(saves, self._lanes, self._paused, wall)
        self.record.count("leased while others of its line waited", self._order.waited - waited)
        for attempt in saves.attempts:
            self.record.count(f"attempt: {attempt.outcome}")
            if attempt.outcome == "retried":
                self.retried.add(attempt.token)
            elif attempt.outcome == "lease_lost":
                self.given_up.add(attempt.token)
            elif attempt.outcome == "drain":
                self.drained.add(attempt.token)
        self.record.count("dead letter replayed", len(saves.replays))

    def _changed(self, before: JobRow, after: JobRow) -> None:
        if before.status is TaskStatus.RUNNING and after.status is not TaskStatus.RUNNING:
            self.record.note("commit", f"{after.id.hex()[-8:]} waits again after {before.token}")
        if after.status is TaskStatus.RUNNING and after.token != before.token:
            self._leased(after)
        elif after.status is TaskStatus.RUNNING and before.status is TaskStatus.QUEUED:
            self.record.note("commit", f"{after.id.hex()[-8:]} holds {after.token} again")
            self.record.count("lease revived")

    def _leased(self, job: JobRow) -> None:
        self.record.note("commit", f"{job.id.hex()[-8:]} leased as {job.token}")
        if job.token <= self._last_token or job.token in self._tokens:
            self.commit_bugs.append(
                f"fencing: token {job.token} was given out after {self._last_token}"
            )
        self._tokens.add(job.token)
        self.leased_at[job.token] = trio.current_time()
        if self._lanes[job.lane].queue in self._paused:
            self.commit_bugs.append(f"{job.id.hex()} was leased while its queue was paused")

    # --- the end --------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on nothing goes wrong any more."""
        self.record.note("heal", "")
        self.healed_at = trio.current_time()
        self.downtime = (0.05, 0.5)
        self.unreachable.clear()
        self.network.heal()
        self.disk.heal()

    async def wait_quiet(self) -> None:
        """Until every job has ended, every call has returned, and a control plane stands."""
        while not self._is_quiet():  # noqa: ASYNC110
            await trio.sleep(0.5)

    def _is_quiet(self) -> bool:
        calls = any(application.calls for application in (*self.applications, *self.operators))
        return self.control_plane.is_ready and not calls and not self.disk.open_jobs()

    def silence(self, worker: str, since: float, until: float) -> float:
        """The longest time within which nothing of a subworker was heard, in seconds.

        Only silences that end after ``since`` and begin before ``until`` count.
        """
        moments = [*self.heard.get(worker, ()), math.inf]
        longest = 0.0
        for last, following in itertools.pairwise(moments):
            if last > until:
                break
            if following > since:
                longest = max(longest, min(following, until) - last)
        return longest
