"""Until when the leases of this subworker are certainly its own.

The control plane counts a lease from the moment at which it reads a heartbeat, which is after it
was sent and before its answer arrives. So the leases stand at least for their length from the
sending of the last heartbeat that was answered, whatever became of the later ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

MARGIN_SHARE: Final = 0.1
"""Of a lease: what tasks get, at its end, to stop before their jobs can be given to another."""

STOP_SHARE: Final = 0.5
"""Of that margin: what code has that stops by itself. The rest is for ending its runner."""

REGISTRATION: Final = 0
"""Registering renews as a heartbeat does; those are numbered from 1 on every connection."""


class LeaseWatch:
    """Follows the heartbeats of whichever connection stands.

    Args:
        clock: monotonic seconds, as `trio.current_time`.
    """

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._sent_at: dict[int, float] = {}
        self._lease_seconds: float | None = None
        self._doubtful_at: float | None = None
        self._was_doubted = False
        """Somebody has asked, and was told that they may be lost; `wait_doubtful` says so, too."""
        self._renewed = trio.Event()

    @property
    def stop_seconds(self) -> float:
        """What code gets to stop, once leases are doubtful, before it is made to."""
        lease_seconds = 0.0 if self._lease_seconds is None else self._lease_seconds
        return lease_seconds * MARGIN_SHARE * STOP_SHARE

    def connecting(self) -> None:
        """A new connection: the registration is being sent."""
        self._sent_at = {REGISTRATION: self._clock()}

    def beat_sent(self, number: int) -> None:
        """A heartbeat is being sent."""
        self._sent_at[number] = self._clock()

    def registered(self, lease_seconds: float) -> None:
        """The registration was answered."""
        self._lease_seconds = lease_seconds
        self.beat_answered(REGISTRATION)

    def beat_answered(self, number: int) -> None:
        """A heartbeat was answered; one that was not sent changes nothing."""
        sent_at = self._sent_at.get(number)
        if sent_at is None or self._lease_seconds is None:
            return
        self._sent_at = {later: at for later, at in self._sent_at.items() if later > number}
        self._doubtful_at = sent_at + self._lease_seconds * (1.0 - MARGIN_SHARE)
        self._renewed.set()
        self._renewed = trio.Event()

    def stand(self) -> bool:
        """Whether the leases are certainly ours; if not, `wait_doubtful` ends.

        To be asked before a job is let start: after a pause of this whole process that may be
        before anybody who waits for a moment has been woken.
        """
        self._was_doubted = self._was_doubted or self._is_doubtful()
        return not self._was_doubted

    async def wait_doubtful(self) -> None:
        """Until the leases may soon be given to others. Waits for ever before the first lease."""
        while self.stand():
            renewed = self._renewed
            until = self._doubtful_at
            with trio.move_on_at(float("inf") if until is None else until):
                await renewed.wait()

    async def wait_safe(self) -> None:
        """Until they have been renewed."""
        while self._is_doubtful():
            await self._renewed.wait()
        self._was_doubted = False

    def _is_doubtful(self) -> bool:
        return self._doubtful_at is not None and self._clock() >= self._doubtful_at
