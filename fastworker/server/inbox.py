"""What waits for the one loop: a channel of control facts and one of submissions per priority.

Control facts (outcomes, cancels, registrations) are taken first, then submissions, most urgent
first, in bounded batches. A full submission channel refuses at once, so a flood of LOW delays
neither CRITICAL jobs nor outcomes; a full control channel stops reading the one peer. Within one
priority tenants take turns, submission by submission, so that a flood of one delays no other.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

import trio

from fastworker.core.facts import CancelRequest, Fact, Submission, WatchRequest
from fastworker.core.records import TaskPriority
from fastworker.errors import Overloaded
from fastworker.server.group_room import GroupRoom

CONTROL_FACTS: Final = 10_000
"""Facts, each from one message: at this many the loop is seconds behind."""

WAITING_JOBS: Final = 100_000
"""Jobs per priority between the connections and the loop: a few seconds of full load."""

WAITING_BYTES: Final = 64 * 1024 * 1024
"""The same, by size of their arguments."""

BATCH_JOBS: Final = 2_000
"""Jobs in one turn: a commit of about 5 ms, so that urgent ones never wait long."""

BATCH_FACTS: Final = 512
"""Control facts in one turn."""

LARGE_IDS: Final = 500
"""A client's request to cancel or to watch more jobs than this is large."""

BATCH_IDS: Final = 2_000
"""Jobs that the large facts of one turn are about: some 20 ms, which is all that one client with
many such requests may hold up others. As many may wait; further ones are not even read."""

RETRY_AFTER_SECONDS: Final = 0.5
"""What a refused client is told: the channels drain in well under that."""


class _Waiting:
    """Submissions of one tenant, at one priority."""

    __slots__ = ("facts", "jobs", "size")

    def __init__(self) -> None:
        self.facts: deque[Submission] = deque()
        self.jobs = 0
        self.size = 0


class _Channel:
    """Submissions of one priority: in order within a tenant, by turns between tenants."""

    __slots__ = ("_tenants", "jobs", "size")

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, _Waiting] = OrderedDict()
        self.jobs = 0
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def has_room(self, tenant: str, jobs: int, size: int) -> bool:
        """Whether so much more may wait: while all is full, still up to a tenant's equal part."""
        if self.jobs + jobs <= WAITING_JOBS and self.size + size <= WAITING_BYTES:
            return True
        own = self._tenants.get(tenant)
        own_jobs, own_size = (0, 0) if own is None else (own.jobs, own.size)
        parts = len(self._tenants) + (own is None)
        return (
            own_jobs + jobs <= WAITING_JOBS // parts and own_size + size <= WAITING_BYTES // parts
        )

    def put(self, fact: Submission) -> None:
        """Put one at the end of its tenant's line."""
        waiting = self._tenants.get(fact.tenant)
        if waiting is None:
            waiting = self._tenants[fact.tenant] = _Waiting()
        waiting.facts.append(fact)
        self._count(waiting, len(fact.ids), fact.size())

    def take(self) -> Submission:
        """Take the first one of the tenant whose turn it is."""
        tenant, waiting = next(iter(self._tenants.items()))
        fact = waiting.facts.popleft()
        self._count(waiting, -len(fact.ids), -fact.size())
        if waiting.facts:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant]
        return fact

    def _count(self, waiting: _Waiting, jobs: int, size: int) -> None:
        waiting.jobs += jobs
        waiting.size += size
        self.jobs += jobs
        self.size += size


class Inbox:
    """Five bounded channels with one reader."""

    def __init__(self) -> None:
        self._put_control, self._control = trio.open_memory_channel[Fact](CONTROL_FACTS)
        self._submissions = [_Channel() for _ in TaskPriority]
        self.groups = GroupRoom()
        """For groups that are not here yet, because a part of them is missing."""
        self._something = trio.Event()
        self._large_ids = 0
        """Jobs that the large facts in the channel are about."""
        self._taken = trio.Event()
        """Set, and replaced, when a large fact is taken."""

    async def put(self, fact: Fact) -> None:
        """Hand over a control fact; waits while the channel is full, or has enough large ones."""
        large = _large_ids(fact)
        if large:
            while self._large_ids >= BATCH_IDS:
                await self._taken.wait()
        try:
            self._put_control.send_nowait(fact)
        except trio.WouldBlock:
            await self._put_control.send(fact)
        self._large_ids += large
        self._something.set()

    def offer(self, fact: Submission, priority: int) -> None:
        """Hand over a submission.

        Raises:
            Overloaded: too many jobs or bytes of this priority wait.
        """
        channel = self._submissions[priority]
        if not channel.has_room(fact.tenant, len(fact.ids), fact.size()):
            raise Overloaded(
                f"the control plane has {channel.jobs} {TaskPriority(priority).name} jobs "
                "waiting to be accepted; try again a little later",
                retry_after=RETRY_AFTER_SECONDS,
            )
        channel.put(fact)
        self._something.set()

    async def wait(self) -> None:
        """Wait until there is something to take."""
        await self._something.wait()

    def take_batch(self) -> list[Fact]:
        """The facts of one turn, perhaps none."""
        batch = self._take_control()
        self._take_submissions(batch)
        if not self._has_more():
            self._something = trio.Event()
        return batch

    def _take_control(self) -> list[Fact]:
        batch: list[Fact] = []
        large = 0
        try:
            while len(batch) < BATCH_FACTS and large < BATCH_IDS:
                fact = self._control.receive_nowait()
                large += _large_ids(fact)
                batch.append(fact)
        except trio.WouldBlock:
            pass
        if large:
            self._large_ids -= large
            self._taken.set()
            self._taken = trio.Event()
        return batch

    def _take_submissions(self, batch: list[Fact]) -> None:
        jobs = 0
        for priority in sorted(TaskPriority, reverse=True):
            channel = self._submissions[priority]
            while channel and jobs < BATCH_JOBS:
                fact = channel.take()
                jobs += len(fact.ids)
                batch.append(fact)

    def _has_more(self) -> bool:
        waiting = self._control.statistics().current_buffer_used
        return waiting > 0 or any(self._submissions)

    def statistics(self) -> dict[str, int]:
        """How much waits, by channel."""
        waiting = {p.name.lower(): self._submissions[p].jobs for p in TaskPriority}
        return {"control": self._control.statistics().current_buffer_used, **waiting}


def _large_ids(fact: Fact) -> int:
    """How many jobs a client's request is about, if those are many."""
    if not isinstance(fact, (CancelRequest, WatchRequest)):
        return 0
    count = len(fact.ids)
    return count if count > LARGE_IDS else 0
