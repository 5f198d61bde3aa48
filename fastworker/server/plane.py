"""What every connection of one control plane shares."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from fastworker.core.dispatcher import Dispatcher
from fastworker.core.records import JobRow
from fastworker.core.sessions import Session
from fastworker.errors import FastWorkerError
from fastworker.server.connections import Connections
from fastworker.server.descriptors import connections_possible
from fastworker.server.following import Following
from fastworker.server.gate import Gate
from fastworker.server.identities import Identities
from fastworker.server.inbox import Inbox
from fastworker.server.inspection import Inspections
from fastworker.server.owners import Owners
from fastworker.server.peer_log import PeerLog
from fastworker.server.roster import ConnectedRoster
from fastworker.server.running import RunningProgress
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.streams import Streams
from fastworker.server.tls import OwnDoor
from fastworker.server.wall_jumps import WatchedClock
from fastworker.store.thread import StoreThread
from fastworker.transport.silence import SilenceWatch
from fastworker.wire.fields import OptionMap

logger = logging.getLogger("fastworker.server")

MAX_WARNINGS = 1000
"""Different once-only warnings remembered; after that the log has had enough of them."""

TOLD_CHARACTERS = 1024 * 1024
"""Of what subworkers say of themselves in one roster or report; the rest is only counted."""

CallbackResolver = Callable[[list[str], str | None], Awaitable[dict[str, str | FastWorkerError]]]
"""(addresses, submitter's host) → by address, what to store or why it is refused."""


@dataclass(slots=True)
class Plane:
    """The parts of a running control plane that its connections use."""

    settings: ControlPlaneSettings
    clock: WatchedClock
    dispatcher: Dispatcher
    inbox: Inbox
    store: StoreThread
    roster: ConnectedRoster
    resolve_callbacks: CallbackResolver
    acknowledge_callbacks: Callable[[list[bytes], str, bytes | None], None]
    owners: Owners
    following: Following
    running: RunningProgress
    identities: Identities
    identity: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    addresses: list[str] = field(default_factory=list)
    """Where it listens, as peers may dial it."""
    own_door: OwnDoor | None = None
    """Where the local subworker comes in, if not at one of these."""
    draining: bool = False
    on_draining: list[Callable[[], None]] = field(default_factory=list)
    """Called once, when nothing new is accepted any more."""
    warned: set[str] = field(default_factory=set)
    connections: Connections = field(init=False)
    inspections: Inspections = field(default_factory=Inspections)
    dead_letter_turn: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(1, max_value=1))
    """Held while dead letters are replayed or discarded, so that none is replayed twice."""
    peer_log: PeerLog = field(default_factory=PeerLog)
    silence: SilenceWatch = field(default_factory=SilenceWatch)
    gate: Gate = field(init=False)
    streams: Streams = field(init=False)

    def __post_init__(self) -> None:
        self.connections = Connections(self.settings.tenants)
        possible = connections_possible(self.settings.max_connections)
        self.gate = Gate(possible, self.settings.max_connections_per_address)
        self.streams = Streams(self.roster, self.dispatcher.job, self.tenant_of)

    def tenant_of(self, job: JobRow) -> str:
        """Whose job this is."""
        return self.dispatcher.memory.lanes_by_number[job.lane].key.tenant

    def job(self, job_id: bytes, sees: str | None) -> JobRow | None:
        """A job that memory holds, for whoever sees the jobs of this tenant (None: everybody's)."""
        job = self.dispatcher.job(job_id)
        return None if job is None or sees not in (None, self.tenant_of(job)) else job

    def warn(self, text: str) -> None:
        """Log a warning once."""
        if text not in self.warned and len(self.warned) < MAX_WARNINGS:
            self.warned.add(text)
            logger.warning("%s", text)

    def advertised(self, dialled_host: str | None) -> list[str]:
        """Addresses to tell a peer: what was configured, else the host that it dialled."""
        if self.settings.advertise is not None:
            return [self.settings.advertise]
        if dialled_host is None:
            return list(self.addresses)
        return [_with_host(address, dialled_host) for address in self.addresses]

    def worker_maps(self, sees: str | None) -> list[OptionMap]:
        """The known subworkers that run jobs of this tenant (None: all), for rosters and reports.

        What they run for others is not told.
        """
        room = _Room()
        return [
            {
                "label": session.label,
                "incarnation": session.incarnation.hex(),
                "host": session.host,
                "pid": session.pid,
                "queues": room.keep(sorted(session.queues)),
                "tasks": room.keep(sorted(session.tasks)),
                "tags": room.keep(list(session.tags)),
                "slots": list(session.pools),
                "running": sum(self.job(job_id, sees) is not None for job_id in session.held)
                if sees is not None
                else len(session.held),
                "local": session.local,
                "connected": session.origin is not None,
            }
            for session in self.sessions(sees)
        ]

    def sessions(self, sees: str | None) -> list[Session]:
        """The subworkers that have said what they can do, and that run jobs of this tenant."""
        return [
            session
            for session in self.dispatcher.memory.sessions.values()
            if session.known and (sees is None or session.tenant in (None, sees))
        ]

    def task_maps(self, sees: str | None) -> list[OptionMap]:
        """The known tasks with their signatures, and whether all subworkers agree on them."""
        found: dict[str, set[str]] = {}
        workers: dict[str, int] = {}
        for session in self.sessions(sees):
            if session.origin is None:
                continue
            for name, signature in session.signatures.items():
                found.setdefault(name, set()).add(signature)
                workers[name] = workers.get(name, 0) + 1
        room = _Room()
        return [
            {
                "name": name,
                "signature": sorted(signatures)[0],
                "signatures_agree": len(signatures) == 1,
                "workers": workers[name],
            }
            for name, signatures in sorted(found.items())
            if room.keep([name, min(signatures)])
        ]


class _Room:
    """What of the texts of one roster there is room for."""

    def __init__(self) -> None:
        self._left = TOLD_CHARACTERS

    def keep(self, texts: list[str]) -> list[str]:
        """The texts if there is room for all of them, else none."""
        size = sum(map(len, texts))
        if size > self._left:
            return []
        self._left -= size
        return texts


def _with_host(address: str, host: str) -> str:
    scheme, _, rest = address.partition("://")
    port = rest.rpartition(":")[2]
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"
