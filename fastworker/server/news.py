"""News of the subworkers for all clients: at once, and then gathered for a moment.

Every announcement tells every client of every subworker. When a thousand subworkers arrive, one
for each would cost a thousand times a thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

NEWS_SECONDS: Final = 0.25
"""From one announcement to the next."""


class News:
    """Calls ``announce`` soon after there was something new.

    Args:
        announce: tells every client how things are now.
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._next_at = 0.0
        """Monotonic seconds."""
        self._gathering = trio.Event()

    def note(self) -> None:
        """There is something new: announce it now, or with what else comes in this moment."""
        if trio.current_time() >= self._next_at:
            self._tell()
        else:
            self._gathering.set()

    async def serve_forever(self) -> None:
        """Announce what has gathered, until cancelled."""
        while True:
            await self._gathering.wait()
            await trio.sleep_until(self._next_at)
            if self._gathering.is_set():
                self._tell()

    def _tell(self) -> None:
        if self._gathering.is_set():
            self._gathering = trio.Event()
        self._next_at = trio.current_time() + NEWS_SECONDS
        self._announce()
