"""A client's side of a connection: its requests become facts, its reads are answered directly.

The same code serves a client on a connection of its own and a task behind a subworker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from fastworker.core.facts import CancelRequest, WatchRequest
from fastworker.core.ids import ID_BYTES, split_ids
from fastworker.core.records import DEFAULT_OPTIONS, JobOptions, JobRow
from fastworker.errors import (
    CallerError,
    FastWorkerError,
    Forbidden,
    InvalidOption,
    Overloaded,
    ProtocolError,
    Rejected,
    UnknownJob,
)
from fastworker.server.answers import Intake
from fastworker.server.dead_letters import change_dead_letters
from fastworker.server.following import Follower
from fastworker.server.identity import Identity
from fastworker.server.manage import queue_pause
from fastworker.server.open_requests import OpenRequests
from fastworker.server.owners import owner_key
from fastworker.server.permissions import refusal
from fastworker.server.plane import Plane
from fastworker.server.reports import fetch_views, make_report, roster_message
from fastworker.server.roster import CancelOrigin, CancelPart, Watcher
from fastworker.wire.codec import UnknownMessage
from fastworker.wire.messages import (
    Beat,
    BeatAck,
    Bye,
    CallbackAck,
    Cancel,
    Fetch,
    Follow,
    Introduce,
    Manage,
    Message,
    Problem,
    Query,
    StreamPull,
    Submit,
    Unfollow,
    Unwatch,
    Watch,
)

READS_AT_ONCE: Final = 8
"""Per connection: reads share one thread, so more would only queue there."""

FETCHES_AT_ONCE: Final = 2
"""Per connection, each of up to 8 MiB of results: what a peer can ask for and not read."""

MAX_IDS: Final = 10_000
"""In one request: bounds what the store is asked at once."""

PART_IDS: Final = 1_000
"""Of a large request, for one turn of the loop: others have theirs in between."""

NOBODY: Final = ""
"""The tenant, which cannot be, of a client behind a subworker that has shown no lease: a subworker
runs jobs, and does not look at or change others."""

Authority = Callable[[bytes, int], JobRow | None]
"""The job of (job id, token), if that is a lease this connection speaks for."""


class ClientPeer(Watcher):
    """One client, from `Introduce` to the end of its connection."""

    def __init__(
        self,
        plane: Plane,
        send: Callable[[Message], None],
        reads: trio.Nursery,
        *,
        identity: Identity,
        host: str | None,
        dialled: str | None = None,
        authority: Authority | None = None,
        wait_room: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self._plane = plane
        self._send = send
        self._reads = reads
        self._limits: dict[bool, trio.Semaphore] = {}
        """Of reads, made when the first one comes: for whether it is of results."""
        self._open = OpenRequests()
        self._identity = identity
        self._host = host
        self._dialled = dialled
        self._authority = authority
        self._wait_room = wait_room
        self._parent: JobRow | None = None
        self._bound = authority is None
        """Whether its tenant is certain: inside jobs once it has shown the lease of one."""
        self._proved = self._bound
        """The same, or it has submitted something for a job of the tenant it is taken for."""
        self._callbacks: dict[str, str | FastWorkerError] = {}
        self.client_id: bytes | None = None
        self._intake = Intake(
            *(self, plane.inbox, self.send, self._complete),
            tenant=identity.submits_as,
            wall=lambda: plane.clock().wall,
        )
        self._follower = Follower(plane.following, plane.running, plane.store, self.send, reads)

    @property
    def sees(self) -> str | None:
        """The tenant whose jobs there are for this client; None: everybody's."""
        return self._identity.sees if self._proved else NOBODY

    def send(self, message: Message) -> None:
        """Queue a message for this client; nothing happens once it has left."""
        self._open.answered(message)
        if not self.closed:
            self._send(message)

    def close(self) -> None:
        """It has left; its jobs go on."""
        self.closed = True
        self._follower.close()
        self._intake.close()
        roster = self._plane.roster
        roster.left()
        roster.clients.discard(self)
        self._plane.streams.leave(self)
        if self.client_id is not None:
            whose = self._identity.submits_as, self.client_id
            if roster.clients_by_id.get(whose) is self:
                del roster.clients_by_id[whose]
            self._plane.owners.left(owner_key(*whose), self)

    async def receive(self, message: Message) -> None:
        """Handle one message.

        Raises:
            ProtocolError: it has no place here; the connection ends.
            Forbidden: its token does not allow this, and it is no request that could be answered.
        """
        self._open.asked(message)
        refused = refusal(self._identity, message)
        if refused is not None:
            request = getattr(message, "request", None)
            if request is None:
                raise refused
            self.send(Problem(refused.code, str(refused), request=request))
            return
        match message:
            case Submit():
                await self._submit(message)
            case Watch():
                ids = _bounded(message, message.ids)
                for start in range(0, len(ids), PART_IDS):
                    part = ids[start : start + PART_IDS]
                    await self._plane.inbox.put(WatchRequest(self, part, self.sees))
            case Unwatch():
                self._plane.roster.unwatch(split_ids(message.ids), self)
            case Cancel():
                ids = _bounded(message, message.ids)
                if not ids:
                    raise ProtocolError("message Cancel, field ids: expected at least one id")
                whole = CancelOrigin(self, message.request, len(ids))
                for start in range(0, len(ids), PART_IDS):
                    part, origin = ids[start : start + PART_IDS], CancelPart(whole, start)
                    fact = CancelRequest(origin, part, message.reason, self.sees, message.grace)
                    await self._plane.inbox.put(fact)
            case Follow():
                self._follower.follow(message, self.sees)
            case Unfollow():
                self._follower.unfollow(message.request)
            case Fetch() | Query():
                await self._read(message)
            case Manage():
                await self._manage(message)
            case CallbackAck():
                taken = split_ids(message.deliveries)
                whose = self._identity.submits_as, self.client_id
                self._plane.acknowledge_callbacks(taken, *whose)
            case StreamPull():
                self._plane.streams.pull(self, message)
            case Introduce():
                self._introduce(message)
            case Beat():
                self.send(BeatAck(message.number))
            case BeatAck() | Bye():
                pass
            case UnknownMessage():
                text = f"message kind {message.kind} is not known to this control plane"
                self.send(Problem("unknown_kind", text, request=message.request))
            case _:
                raise ProtocolError(
                    f"message {type(message).__name__} has no place on a client's connection"
                )

    def _introduce(self, message: Introduce) -> None:
        roster = self._plane.roster
        if self.client_id not in (None, message.client):
            raise ProtocolError("message Introduce, field client: it is another one than before")
        if self.client_id is None:
            self._bind(message)
        self.client_id = message.client
        whose = self._identity.submits_as, message.client
        self._plane.owners.arrived(owner_key(*whose), self)
        if message.callbacks:
            roster.clients_by_id[whose] = self
        if message.roster:
            roster.clients.add(self)
            self.send(roster_message(self._plane, self._dialled, self.sees))
        for listener in self._plane.roster.on_client:
            listener(message.client)

    def _bind(self, message: Introduce) -> None:
        """What a client inside a job may see is decided, once, by the lease that it shows."""
        if message.parent is None or self._authority is None:
            return
        parent = self._authority(message.parent, message.parent_token or 0)
        if parent is None:
            raise Forbidden("the job that this client speaks for no longer holds its lease")
        self._identity = self._identity.in_job(self._plane.tenant_of(parent))
        self._intake.tenant = self._identity.submits_as
        self._bound = self._proved = True

    async def _submit(self, message: Submit) -> None:
        if self._plane.draining:
            self._refuse_draining(message.request)
            return
        try:
            self._check_authority(message)
            await self._resolve_callbacks(message)
            self._intake.receive(message)
        except (CallerError, Rejected) as error:
            self.send(Problem(error.code, str(error), request=message.request))

    def _refuse_draining(self, request: int) -> None:
        text = "the control plane is stopping; try again in a moment"
        self.send(Problem("overloaded", text, request=request, retry_after=1.0))

    def _check_authority(self, message: Submit) -> None:
        self._parent = None
        if message.parent is None:
            if self._authority is not None:
                raise Forbidden("a task's submission names no job; it has no authority to submit")
            return
        if self._authority is not None:
            self._parent = self._authority(message.parent, message.parent_token or 0)
        if self._parent is None:
            raise Forbidden(
                "this job no longer holds its lease, so it may not submit in its name; "
                "another attempt may be running"
            )
        tenant = self._plane.tenant_of(self._parent)
        if self._bound and tenant != self._identity.tenant:
            raise Forbidden(
                "this client was started by a job of another tenant; start one in each job"
            )
        self._intake.tenant = tenant
        self._proved = self._proved or tenant == self._identity.tenant

    def _complete(self, options: JobOptions) -> JobOptions:
        """Write what only this side may write: it is never taken from the wire."""
        parent = self._parent
        if options is DEFAULT_OPTIONS and parent is None:
            return options
        bound = None if parent is None or options.detached else parent.options.deadline
        callback = options.callback
        return dataclasses.replace(
            options,
            parent=None if parent is None else parent.id,
            deadline=bound,
            owner=None if options.owned is None else self._owner(options.owned),
            callback=None if callback is None else self._callback(callback),
            callback_token=None if callback is None else self._identity.token_id,
        )

    def _owner(self, seconds: float) -> bytes:
        if self.client_id is None:
            raise InvalidOption("option owned: this connection has not said which client it is")
        owner = owner_key(self._identity.submits_as, self.client_id)
        self._plane.owners.note(owner, seconds)
        return owner

    def _callback(self, address: str) -> str:
        if address.startswith("client:"):
            mine = self.client_id is not None and self._intake.tenant == self._identity.submits_as
            if not mine or address != f"client:{(self.client_id or b'').hex()}":
                raise Forbidden("a callback over a connection goes to the submitter's own only")
            return address
        found = self._callbacks[address]
        if isinstance(found, FastWorkerError):
            raise found
        if self._plane.identities.signing_key(self._identity.token_id) is None:
            raise Forbidden(
                "callbacks to an address are signed with a token, and who comes with a certificate "
                "has none; take them over the connection (client.callbacks()), or use a token"
            )
        return found

    async def _resolve_callbacks(self, message: Submit) -> None:
        """Look up, once and for all, the addresses that this submission wants called."""
        options = (spec[3] for spec in message.specs if isinstance(spec[3], dict))
        named = {each["callback"] for each in options if type(each.get("callback")) is str}
        wanted = [address for address in named if not address.startswith("client:")]
        resolve = self._plane.resolve_callbacks
        self._callbacks = await resolve(wanted, self._host) if wanted else {}

    # -- reads, and changes that take reading -----------------------------------------------

    async def _manage(self, message: Manage) -> None:
        if self._plane.draining:
            self._refuse_draining(message.request)
        elif message.what in ("pause", "resume"):
            try:
                fact = queue_pause(self, message)
            except CallerError as error:
                self.send(Problem(error.code, str(error), request=message.request))
                return
            await self._plane.inbox.put(fact)
        else:
            await self._read(message)

    async def _read(self, message: Fetch | Query | Manage) -> None:
        """Answer beside the loop, so that a slow read holds up nothing."""
        answer: Callable[[], Awaitable[Message]]
        if isinstance(message, Fetch):
            ids = _bounded(message, message.ids)
            answer = partial(fetch_views, self._plane, message.request, ids, self.sees)
        elif isinstance(message, Manage):
            answer = partial(change_dead_letters, self._plane, message, self.sees)
        else:
            answer = partial(make_report, self._plane, message, self.sees)
        limit = self._limit_of(message)
        await limit.acquire()
        self._reads.start_soon(self._answer_read, message, answer, limit)

    def _limit_of(self, message: Fetch | Query | Manage) -> trio.Semaphore:
        of_results = isinstance(message, Fetch)
        limit = self._limits.get(of_results)
        if limit is None:
            count = FETCHES_AT_ONCE if of_results else READS_AT_ONCE
            limit = self._limits[of_results] = trio.Semaphore(count)
        return limit

    async def _answer_read(
        self,
        message: Fetch | Query | Manage,
        answer: Callable[[], Awaitable[Message]],
        limit: trio.Semaphore,
    ) -> None:
        try:
            await self._wait_room()
            self.send(await answer())
        except (CallerError, Rejected, UnknownJob) as error:
            wait = error.retry_after if isinstance(error, Overloaded) else None
            self.send(Problem(error.code, str(error), message.request, wait))
        finally:
            limit.release()


def _bounded(message: Message, packed: bytes) -> list[bytes]:
    """The ids of a request.

    Raises:
        ProtocolError: they are too many for one.
    """
    if len(packed) > MAX_IDS * ID_BYTES:
        raise ProtocolError(
            f"message {type(message).__name__}, field ids: expected at most {MAX_IDS} ids, "
            f"got {len(packed) // ID_BYTES}"
        )
    return split_ids(packed)
