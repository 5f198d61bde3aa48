"""A subworker's side of a connection: its reports become facts; tasks behind it are clients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import trio

from fastworker.core.facts import (
    CapacityChange,
    Disconnection,
    Handbacks,
    Offer,
    Registration,
    Starts,
    Unwindings,
    Withdrawals,
)
from fastworker.core.ids import split_ids
from fastworker.core.names import check_name
from fastworker.core.records import ALL_QUEUES, POOLS, JobRow
from fastworker.errors import FastWorkerError, Forbidden, ProtocolError
from fastworker.server.clients import ClientPeer
from fastworker.server.columns import checkpoints_fact, lines_fact, outcomes_fact
from fastworker.server.identity import Identity
from fastworker.server.plane import Plane
from fastworker.transport.link import Link
from fastworker.wire.codec import UnknownMessage, decode, encode
from fastworker.wire.messages import (
    Beat,
    BeatAck,
    Bye,
    Capacity,
    Checkpoint,
    Handback,
    Inspected,
    Lines,
    Message,
    Offered,
    Outcome,
    Problem,
    Progress,
    Register,
    Relay,
    Started,
    StreamItems,
    Unwinding,
    Withdrawn,
)

MAX_TASK_CLIENTS: Final = 10_000
"""Behind one subworker. Jobs that wait for others give their slots back, so slots do not bound
them; each costs a few KiB here."""


MAX_OFFER_CHARACTERS: Final = 256 * 1024
"""Of names and signatures in what one subworker says of itself: some thousand tasks. It is kept,
and told to every client that sees it."""

MAX_SLOTS: Final = 100_000
"""Of one subworker's pool, and as many jobs ahead: what is leased is held in memory."""

MAX_HOST_CHARACTERS: Final = 255


class SubworkerPeer:
    """One subworker on one connection."""

    def __init__(
        self, plane: Plane, link: Link, reads: trio.Nursery, *, identity: Identity, host: str | None
    ) -> None:
        self._plane = plane
        self._link = link
        self._reads = reads
        self._identity = identity
        self._host = host
        self._session: bytes | None = None
        self._leaving = False
        self._tasks: dict[int, ClientPeer] = {}

    def heard(self, at: float) -> None:
        """Something came from it at this monotonic moment: its lease is renewed."""
        if self._session is not None and self._is_current():
            self._plane.roster.last_heard[self._session] = at

    def _is_current(self) -> bool:
        return self._session is not None and (
            self._plane.roster.subworkers.get(self._session) is self._link
        )

    async def receive(self, message: Message) -> None:
        """Handle one message.

        Raises:
            ProtocolError: it has no place here; the connection ends.
        """
        if isinstance(message, Register):
            await self._register(message)
        elif isinstance(message, Beat):
            self._link.send(BeatAck(message.number), urgent=True)
        elif isinstance(message, UnknownMessage):
            text = f"message kind {message.kind} is not known to this control plane"
            self._link.send(Problem("unknown_kind", text, request=message.request))
        elif self._session is None:
            raise ProtocolError(
                f"message {type(message).__name__} came before Register; send Register first"
            )
        elif self._is_current():
            await self._receive_registered(self._session, message)

    async def _receive_registered(self, session: bytes, message: Message) -> None:
        put = self._plane.inbox.put
        match message:
            case Outcome():
                await put(outcomes_fact(session, message))
            case Started():
                ids = split_ids(message.ids)
                await put(Starts(session, ids, message.tokens, message.started_at))
            case Progress():
                self._plane.running.take(session, message)
            case Lines():
                await put(lines_fact(session, message))
            case Checkpoint():
                await put(checkpoints_fact(session, message))
            case Handback():
                await put(
                    Handbacks(
                        session,
                        split_ids(message.ids),
                        message.tokens,
                        message.started,
                        message.reason,
                        message.detail,
                    )
                )
            case Withdrawn():
                ids = split_ids(message.ids)
                await put(Withdrawals(session, ids, message.tokens, message.taken))
            case Unwinding():
                ids = split_ids(message.ids)
                await put(Unwindings(session, ids, message.tokens, message.stacks))
            case Capacity():
                await put(CapacityChange(session, _pools(message.pools), _pools(message.prefetch)))
            case Offered():
                _check_offer(message)
                tasks = dict(_task_pools(message))
                await put(Offer(session, tasks, _signatures(message), _withheld(message)))
            case Relay():
                await self._relay(message)
            case StreamItems():
                self._plane.streams.items(session, message)
            case Inspected():
                self._plane.inspections.take(session, message)
            case Bye():
                self._leaving = True
            case BeatAck():
                pass
            case _:
                raise ProtocolError(
                    f"message {type(message).__name__} has no place on a subworker's connection"
                )

    async def _register(self, message: Register) -> None:
        if self._session is not None:
            raise ProtocolError("message Register came twice on one connection")
        label = check_name("worker", message.label)
        _check_offer(message)
        self._check_tenant(message.incarnation)
        self._warn_of_twins(label, message.incarnation)
        self._session = message.incarnation
        roster = self._plane.roster
        older = roster.subworkers.pop(message.incarnation, None)
        if older is not None:
            older.shut()
        roster.registering[self] = self._link
        roster.last_heard[message.incarnation] = trio.current_time()
        claims = dict(zip(message.claim_tokens, split_ids(message.claim_ids), strict=True))
        await self._plane.inbox.put(
            Registration(
                session=message.incarnation,
                origin=self,
                label=label,
                queues=frozenset(
                    queue if queue == ALL_QUEUES else check_name("queue", queue)
                    for queue in message.queues
                ),
                tasks=dict(_task_pools(message)),
                signatures=_signatures(message),
                pools=_pools(message.pools),
                prefetch=_pools(message.prefetch),
                local=message.local,
                claims=claims,
                host=message.host[:MAX_HOST_CHARACTERS],
                pid=message.pid,
                tags=tuple(message.tags or ()),
                withheld=_withheld(message),
                tenant=self._identity.sees,
            )
        )

    def _check_tenant(self, incarnation: bytes) -> None:
        """What a subworker holds it may hold on to only as who it was.

        Raises:
            Forbidden: it comes back with a token of another tenant.
        """
        session = self._plane.dispatcher.memory.sessions.get(incarnation)
        sees = self._identity.sees
        if session is None or sees is None:
            return
        held = [job for job_id in session.held if (job := self._plane.job(job_id, None))]
        was_other = session.known and session.tenant != sees
        if was_other or any(self._plane.tenant_of(job) != sees for job in held):
            raise Forbidden("this subworker has registered with a token of another tenant before")

    def _warn_of_twins(self, label: str, incarnation: bytes) -> None:
        for session in self._plane.dispatcher.memory.sessions.values():
            if (
                session.label == label
                and session.incarnation != incarnation
                and session.origin is not None
            ):
                self._plane.warn(
                    f"two subworkers call themselves {label!r}; both run, "
                    "but give each its own --worker-id to tell them apart"
                )

    # -- tasks behind it --------------------------------------------------------------------

    async def _relay(self, message: Relay) -> None:
        number = message.runner
        if message.closed:
            self._close_task(number)
            return
        peer = self._tasks.get(number)
        if peer is None:
            if len(self._tasks) >= MAX_TASK_CLIENTS:
                # It dials again; the others are not to suffer for it.
                self._link.send(Relay(number, b"", closed=True))
                return
            peer = self._tasks[number] = ClientPeer(
                self._plane,
                lambda answer: self._link.send(Relay(number, encode([answer]))),
                self._reads,
                identity=self._identity.in_job(),
                host=self._host,
                authority=self._leased,
            )
        try:
            for inner in decode(message.frame):
                await peer.receive(inner)
        except (ProtocolError, Forbidden) as error:
            peer.send(Problem(error.code, str(error)))
            self._close_task(number)
            self._link.send(Relay(number, b"", closed=True))

    def _leased(self, job_id: bytes, token: int) -> JobRow | None:
        job = self._plane.dispatcher.job(job_id)
        if job is None or job.token != token or job.session != self._session:
            return None
        return job

    def _close_task(self, number: int) -> None:
        peer = self._tasks.pop(number, None)
        if peer is not None:
            peer.close()

    async def close(self) -> None:
        """Its connection has ended. Its lease goes on unless it said goodbye."""
        for number in list(self._tasks):
            self._close_task(number)
        if self._session is None:
            return
        self._plane.roster.registering.pop(self, None)
        if self._is_current():
            del self._plane.roster.subworkers[self._session]
            self._plane.roster.last_heard.pop(self._session, None)
        await self._plane.inbox.put(Disconnection(self._session, self, self._leaving))


def _check_offer(message: Register | Offered) -> None:
    size = sum(len(str(row[0])) + len(str(row[2])) for row in message.tasks)
    size += sum(len(task) + len(str(tag)) for task, tag in (message.withheld or {}).items())
    if isinstance(message, Register):
        size += sum(map(len, (*message.queues, *(message.tags or ()))))
    if size > MAX_OFFER_CHARACTERS:
        raise ProtocolError(
            f"message {type(message).__name__}, field tasks: with queues and tags at most "
            f"{MAX_OFFER_CHARACTERS} characters, got {size}; offer fewer tasks"
        )


def _pools(column: object) -> tuple[int, ...]:
    assert isinstance(column, (list, tuple))
    slots = [min(each, MAX_SLOTS) for each in column[:POOLS]]
    return (*slots, *([0] * (POOLS - len(slots))))


def _signatures(message: Register | Offered) -> dict[str, str]:
    return {str(row[0]): str(row[2]) for row in message.tasks}


def _withheld(message: Register | Offered) -> dict[str, str]:
    return {task: str(tag) for task, tag in (message.withheld or {}).items()}


def _task_pools(message: Register | Offered) -> Iterator[tuple[str, int]]:
    for row in message.tasks:
        name, pool = row[0], row[1]
        with contextlib.suppress(FastWorkerError):
            # A name nobody could submit is no reason to refuse the others.
            if isinstance(pool, int) and 0 <= pool < POOLS:
                yield check_name("task", name), pool
