"""Between the control plane and the runners: what each says, and what the others hear of it.

The one owner of the subworker's state: the jobs held (`HeldJobs`), what the control plane is owed
(`Owed`) and offered (`Offering`), and the runners that are ready (`ReadyRunners`). Every method is
a step that happens at once: nothing here waits, except the methods named ``wait_…`` and
``…_forever``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

import trio

from fastworker.core.ids import split_ids
from fastworker.transport.link import Link
from fastworker.wire.messages import (
    Assign,
    Checkpoint,
    Handback,
    LeaseLost,
    Lines,
    Message,
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
from fastworker.worker.columns import started_of, withdraw_of
from fastworker.worker.enforcing import Enforcer
from fastworker.worker.held import HeldJobs
from fastworker.worker.held_job import HeldJob
from fastworker.worker.limits import task_limits
from fastworker.worker.lone_runners import LoneRunners
from fastworker.worker.offering import Offering
from fastworker.worker.outcomes import rows_of
from fastworker.worker.owed import Owed
from fastworker.worker.ready_runners import ReadyRunners
from fastworker.worker.relaying import Relaying
from fastworker.worker.runner_handle import RunnerHandle

_log = logging.getLogger("fastworker.worker")


class Switchboard:
    """Takes what each side says, and sees that the others hear what follows from it.

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
        self._owed = Owed(clock)
        self._runners = ReadyRunners(self._held, clock)
        self._relaying = Relaying(self._runners.tell)
        self.enforcer = Enforcer(
            self._held, runner_of=self._runners.get, tell=self._owed.tell, clock=clock
        )
        """Its service is to be run beside this."""
        self.offering = Offering(self._held, self._owed.tell)

    # --- what others ask ---------------------------------------------------------------

    def pools(self) -> tuple[list[int], list[int]]:
        """Slots, and jobs taken beyond them, by pool; all zero while draining."""
        return self.offering.pools()

    @property
    def draining(self) -> bool:
        """Whether no more jobs are taken."""
        return self.offering.closed

    def claims(self) -> tuple[bytes, list[int]]:
        """Ids and tokens of everything whose lease has not demonstrably ended."""
        ids, tokens = self._owed.claims()
        jobs = [job for job in self._held.jobs if not job.stale]
        return ids + b"".join([job.id for job in jobs]), tokens + [job.token for job in jobs]

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
        await self._runners.wait_gone()

    async def wait_acknowledged(self) -> None:
        """Until the control plane has recorded every outcome and everything handed back."""
        await self._owed.wait_settled()

    # --- the link ----------------------------------------------------------------------

    def link_up(self, link: Link, *, stale: Sequence[int]) -> None:
        """Registered: from now on there is a control plane to talk to.

        Args:
            stale: claimed tokens whose leases are gone.
        """
        self._relaying.link = link
        self._drop_stale(stale)
        self._owed.link_up(link)
        running = [job for job in self._held.jobs if job.started_at is not None]
        if running:
            link.send(started_of(running))
        self.offering.link_up()

    def link_down(self) -> None:
        """The connection is lost. Jobs go on; conversations of tasks with it end."""
        self._owed.link_down()
        self._relaying.link_down()

    async def send_outcomes_forever(self) -> None:
        """See `Owed`."""
        await self._owed.send_outcomes_forever()

    async def hand_over_forever(self) -> None:
        """See `ReadyRunners`."""
        await self._runners.hand_over_forever()

    def _drop_stale(self, tokens: Sequence[int]) -> None:
        if not tokens:
            return
        # Those of outcomes are mostly recorded: the answer was lost with the connection.
        if lost := sum(token in self._held for token in tokens):
            _log.info("%d leases were lost while disconnected; late outcomes are refused", lost)
        self._owed.drop_stale(tokens)
        self._held.take_queued(tokens)
        for runner, jobs in self._held.handed_over(tokens).items():
            for job in jobs:
                job.stale = True
            self._runners.tell(runner, withdraw_of(jobs))
            self._runners.tell(runner, LeaseLost(tokens=[job.token for job in jobs]))

    def ask_before_hand_over(self, leases_stand: Callable[[], bool]) -> None:
        """Hand nothing over while the answer is no; `leases_doubtful` and `leases_safe` follow."""
        self._runners.leases_stand = leases_stand

    def leases_doubtful(self, within: float) -> None:
        """All leases may soon be given to others: runners get nothing more until `leases_safe`,
        and tasks that want it are stopped. What goes on is still ours unless we are told.

        Args:
            within: seconds until they may be.
        """
        self._runners.pause()
        for number in self._runners.numbers():
            jobs = [job for job in self._held.given_to(number) if not job.stale]
            if jobs:
                self._runners.tell(number, LeaseLost(tokens=[job.token for job in jobs]))
                self.enforcer.lease_doubtful(jobs, within)

    def leases_safe(self) -> None:
        """They have been renewed."""
        self.enforcer.leases_safe()
        self._runners.resume()

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
                    self._owed.acknowledge(message)
                case Withdraw():
                    self._withdraw(message)
                case Relay():
                    self._relaying.inward(message)
                case Pull():
                    for runner in self._held.handed_over([message.token]):
                        self._runners.tell(runner, message)
                case _:
                    _log.debug("ignored %s from the control plane", type(message).__name__)
        if self.draining:
            self._owed.give_back(self._held.take_queued(), "drain")
        elif self.offering.dropped:
            self._give_back_dropped()
        self._runners.hand_over()

    def _withdraw(self, message: Withdraw) -> None:
        asked = self._held.handed_over(message.tokens)
        for runner, jobs in asked.items():
            question = withdraw_of(jobs, grace=message.grace, reason=message.reason)
            self._runners.tell(runner, question)
            if message.grace is not None:
                self.enforcer.cancel_asked(jobs, message.grace, usual=message.usual)
        elsewhere = {job.token for jobs in asked.values() for job in jobs}
        taken = {job.token for job in self._held.take_queued(message.tokens)}
        self._owed.withdrawn(
            [
                (job_id, token, token in taken)
                for job_id, token in zip(split_ids(message.ids), message.tokens, strict=True)
                if token not in elsewhere
            ]
        )

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
        self._runners.add(number, runner)
        self._held.task_limits = task_limits(ready.limits)
        # One that runs alone may have come up with code that the others do not have yet.
        if number >= 0 and self.offering.change_tasks(ready):
            self._give_back_dropped()
        for old in replaces:
            self.retire(old)
        if self.draining:
            _log.debug("runner %d came up too late", number)
        elif number < 0:
            self._held.add_lone_runner(number)
        else:
            self._held.add_runner(number, self._slots)
        self.offering.announce()
        self._runners.hand_over()

    def retire(self, number: int) -> None:
        """Have a runner leave when what runs in it has ended. What it has not started comes back
        and is handed back."""
        self._held.retire_runner(number)
        self._runners.tell(number, RunnerStop())

    def _give_back_dropped(self) -> None:
        """Jobs of tasks that no runner knows any more wait for a subworker that does."""
        tokens = [job.token for job in self._held.jobs if job.spec[0] in self.offering.dropped]
        self._owed.give_back(self._held.take_queued(tokens), "drain")

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
                    self.offering.announce()
                case Progress() | Lines() | Checkpoint():
                    self._owed.report(message, is_held=self._held.is_ours)
                case Relay():
                    self._relaying.outward(number, message)
                case StreamItems():
                    self._owed.tell(message)
                case _:
                    _log.debug("ignored %s from runner %d", type(message).__name__, number)
        if number in self._held.leaving:
            self.offering.announce()
        self._runners.find_room()

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
        self._runners.remove(number)
        lost = [job for job in self._held.remove_runner(number) if not job.stale]
        gone = self.enforcer.gone(number, lost, started)
        if gone is not None:
            lost, reason, detail = gone.others, "drain", ""
        begun = bytes([started is None or job.token in started for job in lost])
        self._owed.give_back(lost, reason, detail=detail, started=begun)
        if gone is not None:
            leaving = gone.leaving
            self._owed.give_back(leaving, "lease_lost", started=b"\1" * len(leaving))
            self._owed.outcomes(gone.ends)
        self._relaying.runner_gone(number)
        self._held.look_for_runners()
        self.offering.announce()
        return len(lost)

    def _take_outcome(self, number: int, message: Outcome) -> None:
        end = self._held.end
        self._owed.outcomes(
            [row for row in rows_of(message) if end(row.token, runner=number) is not None]
        )

    def _take_started(self, message: Started) -> None:
        for token, started_at in zip(message.tokens, message.started_at, strict=True):
            job = self._held.get(token)
            if job is not None:
                job.started_at = started_at
        self._owed.tell(message)

    def _take_withdrawn(self, number: int, message: Withdrawn) -> None:
        rows = []
        for job_id, token, taken in zip(
            split_ids(message.ids), message.tokens, message.taken, strict=True
        ):
            job = self._held.end(token, runner=number) if taken else self._held.get(token)
            if job is None or not job.stale:
                rows.append((job_id, token, bool(taken) and job is not None))
        self._owed.withdrawn(rows)

    def _take_handback(self, number: int, message: Handback) -> None:
        kept, started = [], bytearray()
        for token, flag in zip(message.tokens, message.started, strict=True):
            job = self._held.end(token, runner=number)
            if job is not None and not job.stale:
                kept.append(job)
                started.append(flag)
        self._owed.give_back(kept, message.reason, detail=message.detail, started=bytes(started))

    # --- drain -------------------------------------------------------------------------

    def begin_drain(self, *, stop_after: float | None = None) -> None:
        """Take nothing more, give back what has not started; runners exit when they are done.

        A second call does nothing.

        Args:
            stop_after: seconds until what still runs is told to stop, and given back.
        """
        if self.draining:
            return
        self.offering.closed = True
        self.offering.announce()
        self._owed.give_back(self._held.take_queued(), "drain")
        self._runners.stop(cancel_after=stop_after)
