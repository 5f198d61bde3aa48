"""Who may come in: connections are counted, in all and by address, before and after their proof.

A newcomer above a cap is turned away; whoever is in stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, Self

import trio

from fastworker.errors import Overloaded
from fastworker.server.limits import (
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_WAITING,
    MAX_WAITING_PER_ADDRESS,
)

RETRY_SECONDS: Final = 5.0
"""What a peer is told that is turned away."""


class TurnedAway(Overloaded):
    """There are too many connections already."""


class Count:
    """Connections of one kind, in all and by address.

    Args:
        what: how messages call them.
        most, most_per_address: the caps.
        advice: what raises the caps, for a message; none if they are fixed.
        spares_loopback: whether only the first cap is for loopback addresses.
    """

    def __init__(
        self,
        what: str,
        most: int,
        most_per_address: int,
        *,
        advice: tuple[str, str] | None = None,
        spares_loopback: bool = False,
    ) -> None:
        self._what = what
        self._most = most
        self._most_per_address = most_per_address
        self._advice = advice
        self._spares_loopback = spares_loopback
        self._by_address: Counter[str] = Counter()
        self.total = 0

    def check(self, host: str) -> None:
        """Whether one more may come.

        Raises:
            TurnedAway: no.
        """
        if self.total >= self._most:
            raise self._refusal(f"{self.total} {self._what}", 0)
        here = self._by_address.get(host, 0)
        if here >= self._most_per_address and not (self._spares_loopback and is_loopback(host)):
            raise self._refusal(f"{here} {self._what} from one address", 1)

    def _refusal(self, many: str, which: int) -> TurnedAway:
        advice = f", or raise {self._advice[which]}" if self._advice else ""
        return TurnedAway(
            f"there are {many}, which is the most; try again later{advice}",
            retry_after=RETRY_SECONDS,
        )

    def add(self, host: str) -> None:
        """One has come."""
        self.total += 1
        self._by_address[host] += 1

    def remove(self, host: str) -> None:
        """One has gone."""
        self.total -= 1
        self._by_address[host] -= 1
        if not self._by_address[host]:
            del self._by_address[host]


class Visit:
    """One connection from being accepted to its end: as long as its block runs."""

    __slots__ = ("_gate", "_host", "_in", "on_proved")

    def __init__(self, gate: Gate, host: str) -> None:
        self._gate = gate
        self._host = host
        self._in = gate.waiting
        self.on_proved: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        self._in.add(self._host)
        return self

    def __exit__(self, *exception: object) -> None:
        self._in.remove(self._host)
        self._gate.left.set()
        self._gate.left = trio.Event()

    def check_room(self) -> None:
        """Whether it may become a peer.

        Raises:
            TurnedAway: there are too many of them.
        """
        self._gate.standing.check(self._host)

    def proved(self) -> None:
        """It has proved itself.

        Raises:
            TurnedAway: others did so first, and now there are too many of them.
        """
        self.check_room()
        self._in.remove(self._host)
        self._in = self._gate.standing
        self._in.add(self._host)
        self.on_proved()


def _nothing() -> None: ...


class Gate:
    """Counts the connections of one control plane.

    Args:
        connections, per_address: caps of those that have proved themselves.
    """

    def __init__(
        self,
        connections: int = MAX_CONNECTIONS,
        per_address: int = MAX_CONNECTIONS_PER_ADDRESS,
    ) -> None:
        advice = "--max-connections", "--max-connections-per-address"
        self.standing = Count(
            "connections", connections, per_address, advice=advice, spares_loopback=True
        )
        self.waiting = Count(
            "connections that have not proved themselves", MAX_WAITING, MAX_WAITING_PER_ADDRESS
        )
        self.left = trio.Event()
        """Set, and replaced, whenever a connection has ended."""

    def entering(self, host: str | None) -> Visit:
        """Count a connection for the length of a block, first as one that has proved nothing.

        Raises:
            TurnedAway: too many of those wait already.
        """
        name = host or ""
        self.waiting.check(name)
        return Visit(self, name)

    def statistics(self) -> dict[str, int]:
        """How many there are."""
        return {"open": self.standing.total, "waiting": self.waiting.total}


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; also of no address at all: in tests."""
    try:
        address = ip_address(host)
    except ValueError:
        return not host
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


__all__ = ["Count", "Gate", "TurnedAway", "Visit", "is_loopback"]
