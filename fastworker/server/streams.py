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
        tenant_of: whose it is.
    """

    def __init__(
        self,
        roster: ConnectedRoster,
        find_job: Callable[[bytes], JobRow | None],
        tenant_of: Callable[[JobRow], str],
    ) -> None:
        self._roster = roster
        self._find_job = find_job
        self._tenant_of = tenant_of
        # A job may be asked for before it is there, so everybody may ask for any id: by whose
        # jobs they see, lest they take each other's place.
        self._consumers: dict[bytes, dict[str | None, _Consumer]] = {}
        self._by_peer: dict[Watcher, dict[bytes, str | None]] = {}
        roster.on_ended.append(self._ended)
        roster.on_subworker.append(self._returned)

    # --- clients -----------------------------------------------------------------------------

    def pull(self, peer: Watcher, message: StreamPull) -> None:
        """A client takes items of a job, more of them, or those that were lost once again."""
        sees = peer.sees
        consumer = self._consumers.get(message.id, {}).get(sees)
        if consumer is None or consumer.peer is not peer:
            self._forget(message.id, sees)
            self._consumers.setdefault(message.id, {})[sees] = _Consumer(peer, message)
            mine = self._by_peer.setdefault(peer, {})
            mine[message.id] = sees
            if len(mine) > MAX_STREAMS:
                self._forget(*next(iter(mine.items())))
        else:
            consumer.message = message
        job = self._find_job(message.id)
        if job is not None and job.session is not None and self._consumer_of(job, peer):
            link = self._roster.subworkers.get(job.session)
            if link is not None:
                link.send(_pull(job, message, again=message.again))

    def leave(self, peer: Watcher) -> None:
        """A client's connection has ended."""
        for job_id, sees in list(self._by_peer.get(peer, {}).items()):
            self._forget(job_id, sees)

    def _consumer_of(self, job: JobRow, peer: Watcher | None = None) -> _Consumer | None:
        """Who takes the items of this job, if it is ``peer`` or nobody was named: somebody of its
        tenant before those who see everybody's."""
        consumers = self._consumers.get(job.id)
        if consumers is None:
            return None
        found = consumers.get(self._tenant_of(job)) or consumers.get(None)
        return found if found is not None and peer in (None, found.peer) else None

    def _forget(self, job_id: bytes, sees: str | None) -> None:
        consumers = self._consumers.get(job_id, {})
        consumer = consumers.pop(sees, None)
        if consumer is not None:
            if not consumers:
                del self._consumers[job_id]
            mine = self._by_peer[consumer.peer]
            del mine[job_id]
            if not mine:
                del self._by_peer[consumer.peer]

    # --- subworkers --------------------------------------------------------------------------

    def items(self, session: bytes, message: StreamItems) -> None:
        """An attempt has made items, or has begun. One that lost its lease is passed over."""
        job = self._find_job(message.id)
        consumer = None if job is None else self._consumer_of(job)
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
        for job_id in self._consumers:
            job = self._find_job(job_id)
            consumer = None if job is None else self._consumer_of(job)
            if consumer is not None and job is not None and job.session == session:
                link.send(_pull(job, consumer.message, again=True))

    def _ended(self, finishes: Sequence[FinishRow]) -> None:
        if self._consumers:
            for row in finishes:
                for sees in list(self._consumers.get(row.id, ())):
                    self._forget(row.id, sees)


def _pull(job: JobRow, message: StreamPull, *, again: bool) -> Pull:
    return Pull(job.id, job.token, message.next, message.limit, again)
