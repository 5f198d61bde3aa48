"""Clients that own jobs: once one has been gone for too long, its jobs are cancelled.

A client that merely reconnects calls that off. After a restart every owner has its whole time
again. Clients here are those on a connection of their own and those in tasks behind a subworker.
"""

from __future__ import annotations

import heapq
import logging
import math
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import trio

from fastworker.core.facts import CancelRequest
from fastworker.core.ids import ID_BYTES
from fastworker.core.records import DEFAULT_TENANT
from fastworker.server.cascades import JOBS_AT_ONCE

if TYPE_CHECKING:
    from fastworker.server.plane import Plane

logger = logging.getLogger("fastworker.server")

CLIENT_GONE: Final = "its client has gone"

LENGTHS_PER_OWNER: Final = 16
"""Different times for which one client's jobs outlive it; beyond that they wait for the longest."""


def owner_key(tenant: str, client: bytes) -> bytes:
    """What the jobs of a client are owned by: nobody in another tenant can be the same owner."""
    if tenant == DEFAULT_TENANT:
        return client
    return sha256(tenant.encode() + b"\0" + client).digest()[:ID_BYTES]


class Owners:
    """Which clients own jobs, which are connected, and until when the others may be gone."""

    def __init__(self) -> None:
        self._lengths: dict[bytes, set[float]] = {}
        """Of every client that owns jobs, and was here a moment ago: how long these outlive it."""
        self._peers: dict[bytes, set[object]] = {}
        self._absences: dict[bytes, int] = {}
        self._counter = 0
        self._due: list[tuple[float, int, bytes, float]] = []
        """When (monotonic), which absence, whose, and jobs that outlive it by how much."""
        self._changed = trio.Event()

    def arrived(self, owner: bytes, peer: object) -> None:
        """A client has a connection; it may have several for a moment."""
        self._peers.setdefault(owner, set()).add(peer)
        self._absences.pop(owner, None)

    def left(self, owner: bytes, peer: object) -> None:
        """A connection of a client has ended."""
        peers = self._peers.get(owner, set())
        peers.discard(peer)
        if not peers:
            self._peers.pop(owner, None)
            if owner in self._lengths:
                self._note_absence(owner)

    def note(self, owner: bytes, seconds: float) -> None:
        """A client submits jobs that it owns, and that outlive it by so many seconds."""
        lengths = self._lengths.setdefault(owner, set())
        if len(lengths) < LENGTHS_PER_OWNER or seconds > max(lengths):
            lengths.add(seconds)

    def _note_absence(self, owner: bytes) -> None:
        self._counter += 1
        self._absences[owner] = self._counter
        now, lengths = trio.current_time(), sorted(self._lengths[owner])
        for seconds in lengths:
            at_most = math.inf if seconds == lengths[-1] else seconds
            heapq.heappush(self._due, (now + seconds, self._counter, owner, at_most))
        self._changed.set()

    async def serve_forever(self, plane: Plane) -> None:
        """Cancel the jobs of clients that stay away, until cancelled."""
        for owner, seconds in await plane.store.owners():
            self.note(owner, seconds)
        for owner in [owner for owner in self._lengths if owner not in self._peers]:
            self._note_absence(owner)
        while True:
            self._changed = trio.Event()
            with trio.CancelScope(deadline=self._due[0][0] if self._due else math.inf):
                await self._changed.wait()
            while self._due and self._due[0][0] <= trio.current_time():
                _, absence, owner, at_most = heapq.heappop(self._due)
                if self._absences.get(owner) == absence and not plane.draining:
                    await self._cancel(plane, owner, at_most)

    async def _cancel(self, plane: Plane, owner: bytes, at_most: float) -> None:
        absence = self._absences[owner]
        after_key, count = -1, 0
        while rows := await plane.store.owned(
            owner, at_most=at_most, after_key=after_key, limit=JOBS_AT_ONCE
        ):
            if self._absences.get(owner) != absence:
                break  # It is back, and goes on owning the rest.
            after_key = rows[-1].key
            count += len(rows)
            ids = [row.id for row in rows]
            await plane.inbox.put(CancelRequest(None, ids, CLIENT_GONE, follows=True))
        if at_most == math.inf and self._absences.get(owner) == absence:
            del self._absences[owner], self._lengths[owner]
        if count:
            logger.info("client %s has gone: its %d jobs are cancelled", owner.hex(), count)
