"""Who is connected, who waits for which job, and the carrying out of what the core decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, assert_never

from fastworker.core.commands import (
    AcknowledgeOutcomes,
    AnnounceEnded,
    AnnounceLines,
    AnnounceRoster,
    AnswerPause,
    AnswerRegistration,
    AnswerSubmission,
    AnswerWatch,
    AssignJobs,
    CancelChildren,
    Command,
    SettleCancel,
    WithdrawJobs,
)
from fastworker.core.dispatcher import Dispatcher
from fastworker.core.facts import QueuePause
from fastworker.core.records import DEFAULT_GRACE_SECONDS, FinishRow, JobRow, LaneKey
from fastworker.errors import InternalError
from fastworker.server.answers import Origin
from fastworker.server.columns import (
    age_assignment,
    assign_message,
    finished_messages,
    split_assignment,
)
from fastworker.server.manage import PauseOrigin
from fastworker.server.news import News
from fastworker.transport.link import Cork, Link
from fastworker.wire.messages import (
    Cancelled,
    Gone,
    Message,
    OutcomeAck,
    Registered,
    Roster,
    Withdraw,
)

logger = logging.getLogger("fastworker.server")

MAX_WATCHERS: Final = 64
"""Connections told about one job; more than that is a loop in somebody's program."""


STACK_CHARACTERS: Final = 2 * 1024 * 1024
"""In the answer to one `Cancel`; further jobs that do not stop are told without."""

CLOSED_WATCHERS: Final = 64
"""Departed connections that may still be among the watchers; then all are looked through once."""


class Watcher:
    """Anything that can be told how jobs ended: a client, or a task behind a subworker."""

    closed: bool = False

    @property
    def sees(self) -> str | None:
        """The tenant whose jobs it may know of; None: everybody's."""
        return None

    def send(self, message: Message) -> None:
        """Queue a message for it."""
        raise NotImplementedError


class CancelOrigin:
    """One `Cancel` until every id is settled."""

    def __init__(self, peer: Watcher, request: int, count: int) -> None:
        self._peer = peer
        self._request = request
        self._outcomes = ["unknown"] * count
        self._stacks: dict[int, str] = {}
        self._room = STACK_CHARACTERS
        self._open = count

    def settle(self, index: int, outcome: str, stack: str | None = None) -> None:
        """One id is settled; the answer goes out with the last one."""
        self._outcomes[index] = outcome
        if stack is not None and self._room >= len(stack):
            self._room -= len(stack)
            self._stacks[index] = stack
        self._open -= 1
        if self._open == 0:
            count = len(self._outcomes)
            stacks = [self._stacks.get(at) for at in range(count)] if self._stacks else None
            self._peer.send(Cancelled(self._request, self._outcomes, stacks))


class CancelPart:
    """Some ids of one `Cancel`, which are settled in a turn of their own.

    Args:
        start: the index of the first one.
    """

    __slots__ = ("_start", "_whole")

    def __init__(self, whole: CancelOrigin, start: int) -> None:
        self._whole = whole
        self._start = start

    def settle(self, index: int, outcome: str, stack: str | None = None) -> None:
        """One id of this part is settled."""
        self._whole.settle(self._start + index, outcome, stack)


class ConnectedRoster:
    """Connections by what they are, and the watchers of jobs.

    Args:
        lane_key: gives the lane of a job, for its task and priority.
        load_payloads: is given assignments of which something is in the store only.
        has_checkpoint: whether the store has one for the job with this key.
        wall: the time of day, in seconds.
    """

    def __init__(
        self,
        lane_key: Callable[[int], LaneKey],
        load_payloads: Callable[[bytes, list[tuple[JobRow, int]]], None],
        *,
        has_checkpoint: Callable[[int], bool],
        lease_seconds: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._lane_key = lane_key
        self._load_payloads = load_payloads
        self._has_checkpoint = has_checkpoint
        self._lease_seconds = lease_seconds
        self._wall = wall
        self._watchers: dict[bytes, list[Watcher]] = {}
        self._left = 0
        self._has_news = False
        """Whether something about the subworkers is new in this turn."""
        self.news = News(self._announce_roster)
        self.cork = Cork()
        """Of all links of this control plane."""
        self.subworkers: dict[bytes, Link] = {}
        """Those whose registration has been answered: only they are sent anything."""
        self.registering: dict[object, Link] = {}
        """Links by the origin of a registration that is not answered yet."""
        self.clients: set[Watcher] = set()
        self.clients_by_id: dict[tuple[str, bytes], Watcher] = {}
        """Those that callbacks may be pushed to, by tenant and client id."""
        self.last_heard: dict[bytes, float] = {}
        """Since the last turn of the loop: of a thousand subworkers only a few each time."""
        self.describe: Callable[[str | None], Roster] | None = None
        """What a client is told of the cluster that sees the jobs of this tenant."""
        self.cancel_children: Callable[[CancelChildren], None] = lambda command: None
        self.on_turn: list[Callable[[Dispatcher], None]] = []
        self.on_ended: list[Callable[[Sequence[FinishRow]], None]] = []
        self.on_lines: list[Callable[[Sequence[bytes]], None]] = []
        self.on_client: list[Callable[[bytes], None]] = []
        self.on_subworker: list[Callable[[bytes, Link], None]] = []
        """Called once a subworker is told that it is registered."""

    # -- the shell of the loop --------------------------------------------------------------

    def heard(self) -> dict[bytes, float]:
        """When subworkers were heard since the last call, if they were (monotonic seconds)."""
        heard, self.last_heard = self.last_heard, {}
        return heard

    def turn_ended(self, dispatcher: Dispatcher) -> None:
        """Let the services that follow the state look at it."""
        for look in self.on_turn:
            look(dispatcher)

    def carry_out(self, commands: Sequence[Command]) -> None:
        """Do what the core decided, in its order; what is said leaves at once."""
        with self.cork:
            for command in commands:
                self._carry_out(command)
            if self._has_news:
                self._has_news = False
                self.news.note()

    def _carry_out(self, command: Command) -> None:
        match command:
            case AnswerSubmission():
                self._answer_submission(command)
            case AssignJobs():
                self._assign(command)
            case AcknowledgeOutcomes():
                # A subworker only keeps outcomes meanwhile, and usually hears of new jobs first.
                answer = OutcomeAck(command.tokens, command.stale)
                self._tell(command.session, answer, lazy=True)
            case AnnounceEnded():
                self._announce(command.finishes)
            case AnswerRegistration():
                self._answer_registration(command)
            case WithdrawJobs():
                ids = b"".join(command.ids)
                usual = command.grace is None
                grace = DEFAULT_GRACE_SECONDS if command.grace is None else command.grace
                asked = Withdraw(ids, command.tokens, grace, command.reason, usual)
                self._tell(command.session, asked)
            case SettleCancel():
                if isinstance(command.fact.origin, (CancelOrigin, CancelPart)):
                    command.fact.origin.settle(command.index, command.outcome, command.stack)
            case CancelChildren():
                self.cancel_children(command)
            case AnswerWatch():
                self._answer_watch(command)
            case AnswerPause():
                _pause_origin(command.fact).answer()
            case AnnounceRoster():
                self._has_news = True
            case AnnounceLines():
                for listen in self.on_lines:
                    listen(command.ids)
            case _:
                assert_never(command)

    # -- watching ---------------------------------------------------------------------------

    def watch(self, ids: Sequence[bytes], watcher: Watcher) -> None:
        """Tell ``watcher`` when these jobs end."""
        watchers = self._watchers
        for job_id in ids:
            present = watchers.get(job_id)
            if present is None:
                watchers[job_id] = [watcher]
            elif watcher not in present:
                alive = [other for other in present if not other.closed]
                watchers[job_id] = [*alive[-MAX_WATCHERS + 1 :], watcher]

    def unwatch(self, ids: Sequence[bytes], watcher: Watcher) -> None:
        """No longer tell ``watcher`` about these jobs."""
        for job_id in ids:
            present = self._watchers.get(job_id)
            if present is not None and watcher in present:
                present.remove(watcher)
                if not present:
                    del self._watchers[job_id]

    def watchers_of(self, job_id: bytes) -> int:
        """How many connections wait to be told how this job ends."""
        return sum(not watcher.closed for watcher in self._watchers.get(job_id, ()))

    def left(self) -> None:
        """A watcher has closed. What it watched may end in a year: it is not kept until then."""
        self._left += 1
        if self._left < CLOSED_WATCHERS:
            return
        self._left = 0
        for job_id, present in list(self._watchers.items()):
            alive = [each for each in present if not each.closed]
            if alive:
                self._watchers[job_id] = alive
            else:
                del self._watchers[job_id]

    def _announce(self, finishes: Sequence[FinishRow]) -> None:
        by_watcher: dict[Watcher, list[FinishRow]] = {}
        for row in finishes:
            for watcher in self._watchers.pop(row.id, ()):
                if not watcher.closed:
                    by_watcher.setdefault(watcher, []).append(row)
        for watcher, rows in by_watcher.items():
            for message in finished_messages(rows):
                watcher.send(message)
        for listener in self.on_ended:
            listener(finishes)

    # -- answers ----------------------------------------------------------------------------

    def _answer_submission(self, command: AnswerSubmission) -> None:
        fact = command.fact
        origin = fact.origin
        if not isinstance(origin, Origin):
            raise InternalError("a submission came from nowhere")
        watcher = origin.peer
        if fact.watch and isinstance(watcher, Watcher) and not watcher.closed:
            passed = {refusal.index for refusal in command.refused}
            passed.update(index for index, _ in command.existing)
            ended = {row.id for row in command.ended}
            self.watch(
                [
                    job_id
                    for index, job_id in enumerate(fact.ids)
                    if index not in passed and job_id not in ended
                ]
                if passed or ended
                else fact.ids,
                watcher,
            )
            self.watch(command.older, watcher)
        origin.settle(command.refused, command.existing)
        if command.ended and isinstance(watcher, Watcher):
            for message in finished_messages(command.ended):
                watcher.send(message)

    def _answer_watch(self, command: AnswerWatch) -> None:
        watcher = command.fact.origin
        assert isinstance(watcher, Watcher)
        told = {row.id for row in command.ended}.union(command.unknown, command.expired)
        self.watch([job_id for job_id in command.fact.ids if job_id not in told], watcher)
        for message in finished_messages(command.ended):
            watcher.send(message)
        if command.unknown or command.expired:
            watcher.send(Gone(b"".join(command.unknown), b"".join(command.expired)))

    # -- subworkers -------------------------------------------------------------------------

    def _answer_registration(self, command: AnswerRegistration) -> None:
        """From now on the link is used, and not before: what the subworker is sent ahead of the
        answer it drops, because it is told there which of its leases still stand."""
        link = self.registering.pop(command.fact.origin, None)
        if link is not None:
            self.subworkers[command.fact.session] = link
            # Urgent, so that no urgent assignment overtakes it.
            link.send(Registered(self._lease_seconds, command.stale), urgent=True)
            for listener in self.on_subworker:
                listener(command.fact.session, link)

    def _tell(self, session: bytes, message: Message, *, lazy: bool = False) -> None:
        link = self.subworkers.get(session)
        if link is not None:
            link.send(message, lazy=lazy)

    def _assign(self, command: AssignJobs) -> None:
        missing = list(filter(self._is_incomplete, command.jobs))
        present = command.jobs
        if missing:
            self._load_payloads(command.session, missing)
            present = [entry for entry in command.jobs if not self._is_incomplete(entry)]
        self.send_assignment(command.session, present, urgent=command.urgent)

    def _is_incomplete(self, entry: tuple[JobRow, int]) -> bool:
        job, _ = entry
        return job.payload is None or self._has_checkpoint(job.key)

    def send_assignment(
        self,
        session: bytes,
        jobs: list[tuple[JobRow, int]],
        *,
        urgent: bool = False,
        checkpoints: Mapping[int, bytes] | None = None,
    ) -> None:
        """Send leased jobs with their arguments; if it is not connected, it claims nothing
        when it comes back, and they are handed out again.

        Args:
            checkpoints: what attempts before have left, by job key.
        """
        link = self.subworkers.get(session)
        if link is None or not jobs:
            return
        for part in split_assignment(jobs, checkpoints):
            message = assign_message(
                part, self._lane_key, wall=self._wall(), checkpoints=checkpoints
            )
            is_timed = message.budget is not None or message.remaining is not None
            age = partial(age_assignment, message) if is_timed else None
            link.send(message, urgent=urgent, age=age)

    def _announce_roster(self) -> None:
        if self.describe is None:
            return
        told: dict[str | None, Roster] = {}
        for client in self.clients:
            sees = client.sees
            if sees not in told:
                told[sees] = self.describe(sees)
            client.send(told[sees])


def _pause_origin(fact: QueuePause) -> PauseOrigin:
    if not isinstance(fact.origin, PauseOrigin):
        raise InternalError("a pause came from nowhere")
    return fact.origin
