"""The items of a streamed job on the side that takes them: in order, none lost, none twice. Pure.

A `StreamPull` gives credit: the runner keeps items until they are taken and makes none beyond the
limit. The window grows only while the credit, and not the task or its consumer, is what both wait
for; so the task of a slow consumer runs no further ahead than at the beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from fastworker.wire.messages import Streamed, StreamPull

FIRST_WINDOW_ITEMS: Final = 64
"""How far a task may run ahead of its consumer: enough that neither waits at usual speeds."""

LARGEST_WINDOW_ITEMS: Final = 4096
"""For short items that are taken as fast as they come: some milliseconds of them."""

PULL_BYTES: Final = 512 * 1024
"""Taken without a word at most: half of what a runner keeps, so that it never stops for want of
an answer."""

CONSUMER_LEFT: Final = "its consumer has left"
"""Why its job is cancelled."""


class Arriving:
    """One stream.

    Args:
        tell: sends a message, or drops it if there is no connection.
        wake: called when something has come.
    """

    def __init__(
        self, job_id: bytes, *, tell: Callable[[StreamPull], None], wake: Callable[[], None]
    ) -> None:
        self.id = job_id
        self.items: deque[bytes] = deque()
        """Sealed, those that have come and are not taken."""
        self._tell = tell
        self._wake = wake
        self._next = 0
        self._received = 0
        self._window = FIRST_WINDOW_ITEMS
        self._limit = FIRST_WINDOW_ITEMS
        self._total: int | None = None
        self._pulled = 0
        self._taken_bytes = 0
        self._tight_at: int | None = None
        """So much had come when more was asked for, and it was all that had been allowed."""

    def arrived(self, message: Streamed) -> None:
        """Take what was pushed. Items before a gap come again: they have been asked for."""
        known = self._received - message.first
        if known < 0:
            return
        self.items.extend(message.items[known:])
        self._received = max(self._received, message.first + len(message.items))
        if message.total is not None:
            self._total = message.total
            if self._next == self._total:
                # The end was told after the last item had been taken, which must be known there.
                self._pull()
        self._wake()

    def take(self) -> bytes:
        """The next item; there must be one."""
        item = self.items.popleft()
        self._next += 1
        self._taken_bytes += len(item)
        if (
            self._next - self._pulled >= self._window // 2
            or self._taken_bytes >= PULL_BYTES
            or self._next == self._total
        ):
            self._pull()
        return item

    def wait(self) -> None:
        """The consumer waits, and there is no item: if only for want of credit, give more."""
        if self._received == self._tight_at and self._total is None:
            self._window = min(2 * self._window, LARGEST_WINDOW_ITEMS)
            self._pull()
            self._tight_at = None

    def _pull(self) -> None:
        if self._received >= self._limit:
            self._tight_at = self._received
        self._pulled = self._next
        self._taken_bytes = 0
        self._limit = self._next + self._window
        self._tell(self.first())

    def first(self) -> StreamPull:
        """What to say once the job is accepted."""
        return StreamPull(self.id, self._next, self._limit)

    def again(self) -> StreamPull:
        """What to say on a new connection. It may be as short-lived as the one before, so the
        window begins anew: what comes again must not always be what the next cut swallows."""
        self._window = FIRST_WINDOW_ITEMS
        self._limit = self._next + self._window
        self._pulled, self._taken_bytes = self._next, 0
        return StreamPull(self.id, self._next, self._limit, again=True)


class Arrivals:
    """The streams of one connection."""

    def __init__(self) -> None:
        self._open: dict[bytes, Arriving] = {}

    def add(self, stream: Arriving) -> None:
        """Take items for it from now on."""
        self._open[stream.id] = stream

    def remove(self, job_id: bytes) -> None:
        """Its items are of no use any more; a second call does nothing."""
        self._open.pop(job_id, None)

    def arrived(self, message: Streamed) -> None:
        """Items of one of them; those of others are passed over."""
        stream = self._open.get(message.id)
        if stream is not None:
            stream.arrived(message)

    def ids(self) -> list[bytes]:
        """The jobs whose items are taken here."""
        return list(self._open)

    def pulls(self) -> list[StreamPull]:
        """What to say on a new connection."""
        return [stream.again() for stream in self._open.values()]
