"""What waits for the one loop: a channel of control facts and one of submissions per priority.

Control facts (outcomes, cancels, registrations) are taken first, then submissions, most urgent
first, in bounded batches. A full submission channel refuses at once, so a flood of LOW delays
neither CRITICAL jobs nor outcomes; a full control channel stops reading the one peer.
"""

from __future__ import annotations

from typing import Final

import trio

from fastworker.core.facts import Fact, Submission
from fastworker.core.records import TaskPriority
from fastworker.errors import Overloaded

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

RETRY_AFTER_SECONDS: Final = 0.5
"""What a refused client is told: the channels drain in well under that."""


class _Depth:
    """How much of one priority waits."""

    __slots__ = ("jobs", "size")

    def __init__(self) -> None:
        self.jobs = 0
        self.size = 0


class Inbox:
    """Five bounded memory channels with one reader."""

    def __init__(self) -> None:
        self._put_control, self._control = trio.open_memory_channel[Fact](CONTROL_FACTS)
        channels = [trio.open_memory_channel[Submission](WAITING_JOBS) for _ in TaskPriority]
        self._put_submission = [send for send, _ in channels]
        self._submissions = [receive for _, receive in channels]
        self._depths = [_Depth() for _ in TaskPriority]
        self._something = trio.Event()

    async def put(self, fact: Fact) -> None:
        """Hand over a control fact; waits while the channel is full."""
        try:
            self._put_control.send_nowait(fact)
        except trio.WouldBlock:
            await self._put_control.send(fact)
        self._something.set()

    def offer(self, fact: Submission, priority: int) -> None:
        """Hand over a submission.

        Raises:
            Overloaded: too many jobs or bytes of this priority wait.
        """
        depth = self._depths[priority]
        size = fact.size()
        if depth.jobs + len(fact.ids) > WAITING_JOBS or depth.size + size > WAITING_BYTES:
            raise Overloaded(
                f"the control plane has {depth.jobs} {TaskPriority(priority).name} jobs "
                "waiting to be accepted; try again a little later",
                retry_after=RETRY_AFTER_SECONDS,
            )
        depth.jobs += len(fact.ids)
        depth.size += size
        self._put_submission[priority].send_nowait(fact)
        self._something.set()

    async def receive_batch(self, *, until: float) -> list[Fact]:
        """The facts of one turn, perhaps none: waits for the first one or the deadline.

        Args:
            until: monotonic seconds (`trio.current_time`).
        """
        with trio.CancelScope(deadline=until):
            await self._something.wait()
        batch = self._take_control()
        self._take_submissions(batch)
        if not self._has_more():
            self._something = trio.Event()
        return batch

    def _take_control(self) -> list[Fact]:
        batch: list[Fact] = []
        try:
            while len(batch) < BATCH_FACTS:
                batch.append(self._control.receive_nowait())
        except trio.WouldBlock:
            pass
        return batch

    def _take_submissions(self, batch: list[Fact]) -> None:
        jobs = 0
        for priority in sorted(TaskPriority, reverse=True):
            depth = self._depths[priority]
            while depth.jobs and jobs < BATCH_JOBS:
                fact = self._submissions[priority].receive_nowait()
                depth.jobs -= len(fact.ids)
                depth.size -= fact.size()
                jobs += len(fact.ids)
                batch.append(fact)

    def _has_more(self) -> bool:
        waiting = self._control.statistics().current_buffer_used
        return waiting > 0 or any(depth.jobs for depth in self._depths)

    def statistics(self) -> dict[str, int]:
        """How much waits, by channel."""
        depths = {TaskPriority(n).name.lower(): depth.jobs for n, depth in enumerate(self._depths)}
        return {"control": self._control.statistics().current_buffer_used, **depths}
