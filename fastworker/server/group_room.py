"""How much of groups whose last message has not come may be held: in all, and of one tenant."""

from __future__ import annotations

from collections import Counter
from typing import Final

from fastworker.errors import Overloaded
from fastworker.wire.messages import Submit
from fastworker.wire.weights import size_of

OPEN_GROUP_BYTES: Final = 256 * 1024 * 1024
"""Of all connections together. While that is full, still up to a tenant's equal part."""

RETRY_AFTER_SECONDS: Final = 1.0
"""What a refused client is told: groups are completed, or left, all the time."""


class GroupRoom:
    """What is held of the groups of one control plane."""

    def __init__(self, most: int = OPEN_GROUP_BYTES) -> None:
        self._most = most
        self._held: Counter[str] = Counter()
        """Bytes by tenant."""

    def take(self, tenant: str, message: Submit) -> int:
        """Hold a part of a group; returns how many bytes that takes, options and all.

        Raises:
            Overloaded: there is no room.
        """
        size = len(message.ids) + size_of(message.payloads) + size_of(message.specs)
        parts = len(self._held) + (tenant not in self._held)
        own = self._held.get(tenant, 0)
        if self._held.total() + size > self._most and own + size > self._most // parts:
            raise Overloaded(
                "the control plane holds as much as it may of groups of which a part is missing; "
                "try again a little later",
                retry_after=RETRY_AFTER_SECONDS,
            )
        self._held[tenant] += size
        return size

    def give_back(self, tenant: str, size: int) -> None:
        """So much is no longer held here."""
        self._held[tenant] -= size
        if self._held[tenant] <= 0:
            del self._held[tenant]


__all__ = ["GroupRoom"]
