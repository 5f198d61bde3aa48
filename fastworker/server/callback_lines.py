"""Who may deliver how much at once, so that slow receivers hold up nobody but themselves.

Deliveries to one destination, and those of one tenant, form a line: some are under way, some wait
in memory for their turn, and the rest is put off in the store until it may be expected to have one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

AT_ONCE: Final = 64
"""Dialled at the same time in all: a socket each, and a result of up to a megabyte."""

AT_ONCE_PER_TENANT: Final = 48
AT_ONCE_PER_DESTINATION: Final = 4

OPEN_PER_TENANT: Final = 256
OPEN_PER_DESTINATION: Final = 64
"""Under way and waiting in memory; a row may have 8 KiB of data."""

LONGEST_WAIT_SECONDS: Final = 300.0
"""For what is put off: then the line may have become faster than it was."""

_FIRST_PACE_SECONDS: Final = 0.01
_WEIGHT: Final = 0.2
"""Of the newest delivery in what one is expected to take."""


@dataclass(slots=True, eq=False)
class _Line:
    """Deliveries to one destination, or of one tenant."""

    most: int
    slots: trio.CapacityLimiter
    open: int = 0
    pace: float = _FIRST_PACE_SECONDS
    """Seconds between two that are done."""
    free_at: float = 0.0
    """When the next one that is put off may expect its turn, wall seconds."""

    def when_free(self, now: float) -> float:
        """A turn for one more that has no room now; they come one after another."""
        latest = now + LONGEST_WAIT_SECONDS
        self.free_at = min(latest, max(self.free_at, now) + self.pace)
        return self.free_at

    def learn(self, seconds: float) -> None:
        each = seconds / self.slots.total_tokens
        self.pace += _WEIGHT * (each - self.pace)


class CallbackLines:
    """All lines with deliveries in them."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}
        self._slots = trio.CapacityLimiter(AT_ONCE)

    def admit(self, tenant: str, destination: str, now: float) -> float | None:
        """Let one more in, which `leave` is to be called for; or when it may expect its turn."""
        for name in (("tenant", tenant), ("destination", destination)):
            line = self._lines.get(name)
            if line is not None and line.open >= line.most:
                return line.when_free(now)
        for line in self._lines_of(tenant, destination):
            line.open += 1
        return None

    @asynccontextmanager
    async def turn(self, tenant: str, destination: str) -> AsyncIterator[None]:
        """Wait for a turn and have it for the length of the block."""
        to_there, of_tenant = self._lines_of(tenant, destination)
        async with to_there.slots, of_tenant.slots, self._slots:
            begun = trio.current_time()
            try:
                yield
            finally:
                seconds = trio.current_time() - begun
                to_there.learn(seconds)
                of_tenant.learn(seconds)

    def leave(self, tenant: str, destination: str) -> None:
        """One is done, or tried later."""
        for name in (("destination", destination), ("tenant", tenant)):
            line = self._lines[name]
            line.open -= 1
            if not line.open:
                del self._lines[name]

    def _lines_of(self, tenant: str, destination: str) -> tuple[_Line, _Line]:
        return (
            self._line("destination", destination, AT_ONCE_PER_DESTINATION, OPEN_PER_DESTINATION),
            self._line("tenant", tenant, AT_ONCE_PER_TENANT, OPEN_PER_TENANT),
        )

    def _line(self, kind: str, name: str, at_once: int, most: int) -> _Line:
        line = self._lines.get((kind, name))
        if line is None:
            line = self._lines[kind, name] = _Line(most, trio.CapacityLimiter(at_once))
        return line
