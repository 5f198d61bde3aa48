"""Between the control plane and the runners: what each says, and what the others hear of it.

The one owner of the subworker's state. Every method is a step that happens at once: nothing here
waits, except the two methods named ``wait_…``. Messages for the control plane go into the link's
outbox while there is a link; what must not be lost is kept and sent again over the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import trio

from fastworker.core.ids import split_ids
from fastworker.core.records import PROCESS_POOL
from fastworker.transport.link import Link
from fastworker.wire.messages import (
    Assign,
    Capacity,
    Checkpoint,
    Handback,
    LeaseLost,
    Lines,
    Message,
    Offered,
    Outcome,
    OutcomeAck,
    Progress,
    Pull,
    Relay,
    RunnerReady,
    RunnerSlots,
    RunnerStop,
    Started,
    StreamItems,
    Withdraw,
    Withdrawn,
)
from fastworker.worker.columns import handback_of, started_of, withdraw_of
from fastworker.worker.enforcing import Enforcer, Gone
from fastworker.worker.handbacks import UnconfirmedHandbacks
from fastworker.worker.held import HeldJob, HeldJobs
from fastworker.worker.limits import task_limits
from fastworker.worker.lone_runners import LoneRunners
from fastworker.worker.outcomes import UnacknowledgedOutcomes, rows_of
from fastworker.worker.relaying import Relaying
from fastworker.worker.reports import UnrecordedReports
from fastworker.worker.runner_handle import RunnerHandle

SENT_AHEAD_JOBS: Final = 2000
"""Jobs taken beyond the slots, for each runner, while they are so short that this many end within
a round trip; of longer ones the control plane sends fewer. They wait here, where a more urgent
job overtakes them; what no longer can be overtaken so cheaply, a runner's window, is far less."""

READ_TURNS: Final = 2
"""Turns of the event loop from bytes on the socket to a message here."""

_log = logging.getLogger("fastworker.worker")


class Switchboard:
    """The jobs held, the outcomes owed, and who is there to talk to.

    Args:
        slots: of one runner that is shared, by pool.
        processes: jobs at once that have a process each.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        slots: Sequence[int],
        *,
        processes: int = 1,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._slots = slots
        self._clock = clock
        self._held = HeldJobs(processes=processes)
        self._outcomes = UnacknowledgedOutcomes()
        self._handbacks = UnconfirmedHandbacks()
        self._reports = UnrecordedReports()
        self._relaying = Relaying(self._tell_runner)
        self._runners: dict[int, RunnerHandle] = {}
        self._link: Link | None = None
        self._announced: list[int] | None = None
        self._changed = trio.Event()
        self._outcome_waits = trio.Event()
        self._room_found = trio.Event()
        self._leases_doubtful = False
        self.enforcer = Enforcer(
            self._held, runner_of=self._runners.get, tell=self._tell, clock=clock
        )
        """Its service is to be run beside this."""
        self.draining = False
        self.tasks: list[list[object]] = []
        """Rows of `Register`, as the runner that came up last told them."""
        self._dropped: set[object] = set()
        """Tasks that were offered, and no longer are since the code has changed."""
        self.withheld: dict[str, object] | None = None
        """The same of `Register.withheld`."""

    # --- what others ask ---------------------------------------------------------------

    def pools(self) -> tuple[list[int], list[int]]:
        """Slots, and jobs taken beyond them, by pool; all zero while draining."""
        slots = self._held.slots()
        ahead = SENT_AHEAD_JOBS * len(self._held.runners)
        prefetch = [ahead if count else 0 for count in slots]
        if any(pool == PROCESS_POOL for _, pool, _ in self.tasks):
            processes = self._held.processes.slots()
            slots.append(processes)
            prefetch.append(processes)
        if self.draining:
            return [0] * len(slots), [0] * len(slots)
        return slots, prefetch

    def claims(self) -> tuple[bytes, list[int]]:
        """Ids and tokens of everything whose lease has not demonstrably ended."""
        ids, tokens = self._handbacks.claims()
        pairs = [(job.id, job.token) for job in self._held.jobs if not job.stale]
        pairs += [(row.id, row.token) for row in self._outcomes.rows]
        return (
            ids + b"".join([job_id for job_id, _ in pairs]),
            tokens + [token for _, token in pairs],
        )

    @property
    def lone(self) -> Sequence[LoneRunners]:
        """The jobs that run alone, and their runners."""
        return self._held.lone

    def given_to(self, runner: int) -> list[HeldJob]:
        """What this runner has been given and not ended."""
        return self._held.given_to(runner)

    @property
    def holds_jobs(self) -> bool:
        """Whether there are jobs that have neither ended nor been given back."""
        return len(self._held) > 0

    async def wait_runners_gone(self) -> None:
        """Until no runner is ready."""
        while self._runners:
            await self._changed.wait()

    async def wait_acknowledged(self) -> None:
        """Until the control plane has recorded every outcome and everything handed back."""
        while self._outcomes or self._handbacks:
            await self._changed.wait()

    # --- the link ----------------------------------------------------------------------

    def link_up(self, link: Link, *, stale: Sequence[int]) -> None:
        """Registered: from now on there is a control plane to talk to.

        Args:
            stale: claimed tokens whose leases are gone.
        """
        self._link = self._relaying.link = link
        self._announced = None
        self._drop_stale(stale)
        for report in self._reports.messages():
            link.send(report)
        for handback in self._handbacks.messages:
            link.send(handback)
        self._outcomes.send_again()
        self._outcome_waits.set()
        running = [job for job in self._held.jobs if job.started_at is not None]
        if running:
            link.send(started_of(running))
        self._announce_capacity()

    def link_down(self) -> None:
        """The connection is lost. Jobs go on; conversations of tasks with it end."""
        self._link = None
        self._relaying.link_down()

    async def send_outcomes_forever(self) -> None:
        """Send outcomes, all that came since the last time at once, without lingering."""
        while True:
            await self._outcome_waits.wait()
            self._outcome_waits = trio.Event()
            if self._link is not None:
                with self._link.cork:
                    for message in self._outcomes.next_messages():
                        self._link.send(message)

    async def hand_over_forever(self) -> None:
        """Give runners more as room appears, but first take what the control plane has sent.

        Of what has arrived here, nothing less urgent is handed over before something more urgent:
        the bound on what starts before a more urgent job rests on that.
        """
        while True:
            await self._room_found.wait()
            self._room_found = trio.Event()
            for _ in range(READ_TURNS):
                await trio.lowlevel.checkpoint()
            self._hand_over()

    def _tell(self, message: Message) -> None:
        if self._link is not None:
            self._link.send(message)

    def _announce_capacity(self) -> None:
        slots, prefetch = self.pools()
        if slots != self._announced:
            self._announced = slots
            self._tell(Capacity(pools=slots, prefetch=prefetch))

    def _drop_stale(self, tokens: Sequence[int]) -> None:
        if not tokens:
            return
        # Those of outcomes are mostly recorded: the answer was lost with the connection.
        if lost := sum(token in self._held for token in tokens):
            _log.info("%d leases were lost while disconnected; late outcomes are refused", lost)
        self._outcomes.acknowledge(tokens)
        self._reports.forget(tokens)
        self._held.take_queued(tokens)
        for runner, jobs in self._held.handed_over(tokens).items():
            for job in jobs:
                job.stale = True
            self._tell_runner(runner, withdraw_of(jobs))
            self._tell_runner(runner, LeaseLost(tokens=[job.token for job in jobs]))
        self._note_change()

    def leases_doubtful(self, within: float) -> None:
        """All leases may soon be given to others: runners get nothing more until `leases_safe`,
        and tasks that want it are stopped. What goes on is still ours unless we are told.

        Args:
            within: seconds until they may be.
        """
        self._leases_doubtful = True
        for number in self._runners:
            jobs = [job for job in self._held.given_to(number) if not job.stale]
            if jobs:
                self._tell_runner(number, LeaseLost(tokens=[job.token for job in jobs]))
                self.enforcer.lease_doubtful(jobs, within)

    def leases_safe(self) -> None:
        """They have been renewed."""
        self._leases_doubtful = False
        self.enforcer.leases_safe()
        self._hand_over()

    # --- from the control plane --------------------------------------------------------

    def from_control_plane(self, messages: Iterable[Message]) -> None:
        """Take what one frame says, then hand over what there is room for.

        Raises:
            ProtocolError: a message that cannot be.
        """
        for message in messages:
            match message:
                case Assign():
                    self.enforcer.watch(self._held.receive(message, now=self._clock()))
                case OutcomeAck():
                    self._acknowledge(message)
                case Withdraw():
                    self._withdraw(message)
                case Relay():
                    self._relaying.inward(message)
                case Pull():
                    for runner in self._held.handed_over([message.token]):
                        self._tell_runner(runner, message)
                case _:
                    _log.debug("ignored %s from the control plane", type(message).__name__)
        if self.draining:
            self._give_back(self._held.take_queued(), "drain")
        elif self._dropped:
            self._give_back_dropped()
        self._hand_over()

    def _acknowledge(self, message: OutcomeAck) -> None:
        self._outcomes.acknowledge(message.tokens)
        self._handbacks.acknowledge(message.tokens)
        self._outcomes.acknowledge(message.stale)
        self._reports.forget([*message.tokens, *message.stale])
        if message.stale:
            _log.info("%d late outcomes were refused: their leases had ended", len(message.stale))
        self._note_change()

    def _withdraw(self, message: Withdraw) -> None:
        asked = self._held.handed_over(message.tokens)
        for runner, jobs in asked.items():
            question = withdraw_of(jobs, grace=message.grace, reason=message.reason)
            self._tell_runner(runner, question)
            if message.grace is not None:
                self.enforcer.cancel_asked(jobs, message.grace)
        elsewhere = {job.token for jobs in asked.values() for job in jobs}
        taken = {job.token for job in self._held.take_queued(message.tokens)}
        self._tell_withdrawn(
            [
                (job_id, token, token in taken)
                for job_id, token in zip(split_ids(message.ids), message.tokens, strict=True)
                if token not in elsewhere
            ]
        )

    def _tell_withdrawn(self, rows: Sequence[tuple[bytes, int, bool]]) -> None:
        if not rows:
            return
        ids, tokens, taken = zip(*rows, strict=True)
        self._tell(Withdrawn(ids=b"".join(ids), tokens=tokens, taken=bytes(taken)))
        given = [(job_id, token) for job_id, token, was_taken in rows if was_taken]
        if given:
            # The same in words that can be repeated, should this connection not last.
            self._handbacks.add(handback_of(given, "drain"))

    # --- from runners ------------------------------------------------------------------

    def runner_ready(
        self,
        number: int,
        runner: RunnerHandle,
        ready: RunnerReady,
        *,
        replaces: Collection[int] = (),
    ) -> None:
        """A runner has imported its modules. Those with one job at a time have negative numbers.

        Args:
            replaces: runners that from now on get nothing more and leave when they are done.
        """
        self._runners[number] = runner
        self._held.task_limits = task_limits(ready.limits)
        if number >= 0:
            # One that runs alone may have come up with code that the others do not have yet.
            self._note_tasks(ready)
        for old in replaces:
            self.retire(old)
        if self.draining:
            runner.send(RunnerStop())
        elif number < 0:
            self._held.add_lone_runner(number)
        else:
            self._held.add_runner(number, self._slots)
        self._announce_capacity()
        self._hand_over()

    def retire(self, number: int) -> None:
        """Have a runner leave when what runs in it has ended. What it has not started comes back
        and is handed back."""
        self._held.retire_runner(number)
        self._tell_runner(number, RunnerStop())

    def _note_tasks(self, ready: RunnerReady) -> None:
        tasks = [list(row) for row in ready.tasks]
        if (tasks, ready.withheld) == (self.tasks, self.withheld):
            return
        # Jobs of these may still be on their way.
        self._dropped |= {row[0] for row in self.tasks}
        self._dropped -= {row[0] for row in tasks}
        self.tasks, self.withheld = tasks, ready.withheld
        self._tell(Offered(tasks=tasks, withheld=ready.withheld))
        self._give_back_dropped()

    def _give_back_dropped(self) -> None:
        """Jobs of tasks that no runner knows any more wait for a subworker that does."""
        tokens = [job.token for job in self._held.jobs if job.spec[0] in self._dropped]
        self._give_back(self._held.take_queued(tokens), "drain")

    def from_runner(self, number: int, messages: Iterable[Message]) -> None:
        """Take what one frame of a runner says.

        Raises:
            ProtocolError: a message that cannot be.
        """
        for message in messages:
            match message:
                case Outcome():
                    self._take_outcome(number, message)
                case Started():
                    self._take_started(message)
                case Withdrawn():
                    self._take_withdrawn(number, message)
                case Handback():
                    self._take_handback(number, message)
                case RunnerSlots():
                    self._held.change_slots(number, message.changes)
                    self._announce_capacity()
                case Progress() | Lines() | Checkpoint():
                    self._reports.add(message, is_held=self._held.__contains__)
                    self._tell(message)
                case Relay():
                    self._relaying.outward(number, message)
                case StreamItems():
                    self._tell(message)
                case _:
                    _log.debug("ignored %s from runner %d", type(message).__name__, number)
        if number in self._held.leaving:
            self._announce_capacity()
        self._room_found.set()

    def runner_gone(
        self, number: int, *, reason: str, detail: str, started: Collection[int] | None
    ) -> int:
        """A runner has exited, and all it said has been taken.

        Args:
            reason: ``runner_died`` or ``drain``.
            detail: ``signal 9`` or ``exit 3``.
            started: tokens of jobs whose code had begun; None: any of them may have.

        Returns:
            How many jobs it took with it.
        """
        self._runners.pop(number, None)
        lost = [job for job in self._held.remove_runner(number) if not job.stale]
        gone = self.enforcer.gone(number, lost, started)
        if gone is not None:
            self._end_late(gone)
            lost, reason, detail = gone.others, "drain", ""
        begun = bytes([started is None or job.token in started for job in lost])
        self._give_back(lost, reason, detail=detail, started=begun)
        self._relaying.runner_gone(number)
        self._held.look_for_runners()
        self._announce_capacity()
        self._note_change()
        return len(lost)

    def _end_late(self, gone: Gone) -> None:
        for row in gone.ends:
            self._outcomes.add(row)
        self._outcome_waits.set()
        self._give_back(gone.leaving, "lease_lost", started=b"\1" * len(gone.leaving))

    def _take_outcome(self, number: int, message: Outcome) -> None:
        for row in rows_of(message):
            if self._held.end(row.token, runner=number) is not None:
                self._outcomes.add(row)
        self._outcome_waits.set()

    def _take_started(self, message: Started) -> None:
        for token, started_at in zip(message.tokens, message.started_at, strict=True):
            job = self._held.get(token)
            if job is not None:
                job.started_at = started_at
        self._tell(message)

    def _take_withdrawn(self, number: int, message: Withdrawn) -> None:
        rows = []
        for job_id, token, taken in zip(
            split_ids(message.ids), message.tokens, message.taken, strict=True
        ):
            job = self._held.end(token, runner=number) if taken else self._held.get(token)
            if job is None or not job.stale:
                rows.append((job_id, token, bool(taken) and job is not None))
        self._tell_withdrawn(rows)

    def _take_handback(self, number: int, message: Handback) -> None:
        kept, started = [], bytearray()
        for token, flag in zip(message.tokens, message.started, strict=True):
            job = self._held.end(token, runner=number)
            if job is not None and not job.stale:
                kept.append(job)
                started.append(flag)
        self._give_back(kept, message.reason, detail=message.detail, started=bytes(started))

    # --- drain -------------------------------------------------------------------------

    def begin_drain(self, *, stop_after: float | None = None) -> None:
        """Take nothing more, give back what has not started; runners exit when they are done.

        A second call does nothing.

        Args:
            stop_after: seconds until what still runs is told to stop, and given back.
        """
        if self.draining:
            return
        self.draining = True
        self._announce_capacity()
        self._give_back(self._held.take_queued(), "drain")
        for runner in self._runners.values():
            runner.send(RunnerStop(cancel_after=stop_after))

    # --- small steps -------------------------------------------------------------------

    def _hand_over(self) -> None:
        if self.draining or self._leases_doubtful:
            return
        for number, assign in self._held.hand_over(now=self._clock()):
            self._tell_runner(number, assign)
        self._held.look_for_runners()

    def _tell_runner(self, number: int, message: Message) -> None:
        runner = self._runners.get(number)
        if runner is not None:
            runner.send(message)

    def _give_back(
        self, jobs: Sequence[HeldJob], reason: str, *, detail: str = "", started: bytes = b""
    ) -> None:
        if jobs:
            pairs = [(job.id, job.token) for job in jobs]
            handback = handback_of(pairs, reason, detail=detail, started=started)
            self._tell(handback)
            self._handbacks.add(handback)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
