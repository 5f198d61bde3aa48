"""Carries the items of streamed jobs from subworkers to whoever takes them, beside the loop.

Nothing is kept here but who takes which job's items and how far: the runner has the items until
they are taken. What a lost connection swallowed is asked for again by the side that returns: the
client on its new connection, and this module when a subworker has registered again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastworker.core.records import FinishRow, JobRow
from fastworker.server.roster import ConnectedRoster, Watcher
from fastworker.transport.link import Link
from fastworker.wire.messages import Pull, Streamed, StreamItems, StreamPull

MAX_STREAMS: Final = 10_000
"""Of one client. More are jobs that had ended before they were asked about: the oldest goes."""


@dataclass(slots=True, eq=False)
class _Consumer:
    """Who takes a job's items, and the latest it said."""

    peer: Watcher
    message: StreamPull


class Streams:
    """The streams of one control plane.

    Args:
        find_job: a job that memory holds.
    """

    def __init__(self, roster: ConnectedRoster, find_job: Callable[[bytes], JobRow | None]) -> None:
        self._roster = roster
        self._find_job = find_job
        self._consumers: dict[bytes, _Consumer] = {}
        self._by_peer: dict[Watcher, dict[bytes, None]] = {}
        roster.on_ended.append(self._ended)
        roster.on_subworker.append(self._returned)

    # --- clients -----------------------------------------------------------------------------

    def pull(self, peer: Watcher, message: StreamPull) -> None:
        """A client takes items of a job, more of them, or those that were lost once again."""
        consumer = self._consumers.get(message.id)
        if consumer is None or consumer.peer is not peer:
            self._forget(message.id)
            self._consumers[message.id] = _Consumer(peer, message)
            mine = self._by_peer.setdefault(peer, {})
            mine[message.id] = None
            if len(mine) > MAX_STREAMS:
                self._forget(next(iter(mine)))
        else:
            consumer.message = message
        job = self._find_job(message.id)
        if job is not None and job.session is not None:
            link = self._roster.subworkers.get(job.session)
            if link is not None:
                link.send(_pull(job, message, again=message.again))

    def leave(self, peer: Watcher) -> None:
        """A client's connection has ended."""
        for job_id in list(self._by_peer.get(peer, ())):
            self._forget(job_id)

    def _forget(self, job_id: bytes) -> None:
        consumer = self._consumers.pop(job_id, None)
        if consumer is not None:
            mine = self._by_peer[consumer.peer]
            del mine[job_id]
            if not mine:
                del self._by_peer[consumer.peer]

    # --- subworkers --------------------------------------------------------------------------

    def items(self, session: bytes, message: StreamItems) -> None:
        """An attempt has made items, or has begun. One that lost its lease is passed over."""
        consumer = self._consumers.get(message.id)
        job = self._find_job(message.id)
        if consumer is None or job is None:
            return
        if job.token != message.token or job.session != session:
            return
        if message.items or message.total is not None:
            consumer.peer.send(Streamed(message.id, message.first, message.items, message.total))
            return
        link = self._roster.subworkers.get(session)
        if link is not None:
            link.send(_pull(job, consumer.message, again=False))

    def _returned(self, session: bytes, link: Link) -> None:
        """A subworker stands again: what it sent meanwhile was lost."""
        for job_id, consumer in self._consumers.items():
            job = self._find_job(job_id)
            if job is not None and job.session == session:
                link.send(_pull(job, consumer.message, again=True))

    def _ended(self, finishes: Sequence[FinishRow]) -> None:
        if self._consumers:
            for row in finishes:
                self._forget(row.id)


def _pull(job: JobRow, message: StreamPull, *, again: bool) -> Pull:
    return Pull(job.id, job.token, message.next, message.limit, again)
