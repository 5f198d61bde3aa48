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

OWN_CONNECTION: Final = "client:"
"""How the address of a client begins that is told over its own connection."""

AT_ONCE: Final = 64
"""Dialled at the same time in all: a socket each, and a result of up to a megabyte."""

AT_ONCE_PER_TENANT: Final = 48
AT_ONCE_PER_DESTINATION: Final = 4
AT_ONCE_PER_CLIENT: Final = 64
"""Over a connection that stands already."""

OPEN_PER_TENANT: Final = 256
"""Under way and waiting in memory; a row may have 8 KiB of data."""

WAITING_PER_LINE: Final = 60
WAITING_SECONDS: Final = 2.0
"""So much work may wait in memory: a receiver that takes its time has hardly any there."""

LONGEST_WAIT_SECONDS: Final = 300.0
"""For what is put off: then the line may have become faster than it was."""

UNKNOWN_WAIT_SECONDS: Final = 2.0
"""The same, as long as not much is known of a line."""

_FIRST_PACE_SECONDS: Final = 0.1
_KNOWN_AFTER: Final = 8
"""Deliveries."""
_WEIGHT: Final = 0.2
"""Of the newest delivery in what one is expected to take."""


@dataclass(slots=True, eq=False)
class _Line:
    """Deliveries to one destination, or of one tenant."""

    slots: trio.CapacityLimiter
    most: int | None = None
    """Open at most; None: depends on how fast they are."""
    open: int = 0
    known: int = 0
    pace: float = _FIRST_PACE_SECONDS
    """Seconds between two that are done."""
    free_at: float = 0.0
    """When the next one that is put off may expect its turn, wall seconds."""

    @property
    def is_full(self) -> bool:
        """Whether no more may come in now."""
        if self.most is not None:
            return self.open >= self.most
        waiting = min(WAITING_PER_LINE, int(WAITING_SECONDS / max(self.pace, 1e-3)))
        return self.open >= self.slots.total_tokens + waiting

    def when_free(self, now: float) -> float:
        """A turn for one more that has no room now; they come one after another."""
        known = self.known >= _KNOWN_AFTER
        latest = now + (LONGEST_WAIT_SECONDS if known else UNKNOWN_WAIT_SECONDS)
        self.free_at = min(latest, max(self.free_at, now) + self.pace)
        return self.free_at

    def learn(self, seconds: float) -> None:
        """One has taken so long."""
        self.known += 1
        self.pace += _WEIGHT * (seconds / self.slots.total_tokens - self.pace)


class CallbackLines:
    """All lines with deliveries in them."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}
        self._slots = trio.CapacityLimiter(AT_ONCE)

    def admit(self, tenant: str, destination: str, now: float) -> float | None:
        """Let one more in, which `leave` is to be called for; or when it may expect its turn."""
        for name in (("tenant", tenant), ("destination", destination)):
            line = self._lines.get(name)
            if line is not None and line.is_full:
                return line.when_free(now)
        self._of_tenant(tenant).open += 1
        self._to(destination).open += 1
        return None

    @asynccontextmanager
    async def push_turn(self, client: str) -> AsyncIterator[None]:
        """A turn for the length of the block, over the connection of a client."""
        line = self._to(client)
        async with line.slots:
            begun = trio.current_time()
            try:
                yield
            finally:
                line.learn(trio.current_time() - begun)

    @asynccontextmanager
    async def turn(self, tenant: str, destination: str) -> AsyncIterator[None]:
        """Wait for a turn and have it for the length of the block."""
        to_there, of_tenant = self._to(destination), self._of_tenant(tenant)
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

    def _to(self, destination: str) -> _Line:
        line = self._lines.get(("destination", destination))
        if line is None:
            pushed = destination.startswith(OWN_CONNECTION)
            at_once = AT_ONCE_PER_CLIENT if pushed else AT_ONCE_PER_DESTINATION
            line = self._lines["destination", destination] = _Line(trio.CapacityLimiter(at_once))
        return line

    def _of_tenant(self, tenant: str) -> _Line:
        line = self._lines.get(("tenant", tenant))
        if line is None:
            line = _Line(trio.CapacityLimiter(AT_ONCE_PER_TENANT), OPEN_PER_TENANT)
            self._lines["tenant", tenant] = line
        return line
