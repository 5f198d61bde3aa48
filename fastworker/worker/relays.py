"""Which client connection of which runner has which number on the subworker's own link. Pure.

Tasks that use the client speak its protocol in `Relay` frames. A runner numbers its connections
for itself; towards the control plane every one gets a number that is unique in this subworker
and never used again.
"""

from __future__ import annotations

from typing import NamedTuple


class Inner(NamedTuple):
    """A client connection inside a runner."""

    runner: int
    number: int


class Relays:
    """The open connections, both ways, and those a runner has yet to learn the end of."""

    def __init__(self) -> None:
        self._outer: dict[Inner, int] = {}
        self._inner: dict[int, Inner] = {}
        self._ended: set[Inner] = set()
        self._last = 0

    def __len__(self) -> int:
        return len(self._outer)

    def outward(self, inner: Inner) -> int | None:
        """The number for a frame from a runner, a new one for its first frame.

        None: this connection has ended, and the runner did not know yet.
        """
        if inner in self._ended:
            return None
        number = self._outer.get(inner)
        if number is None:
            self._last += 1
            number = self._outer[inner] = self._last
            self._inner[number] = inner
        return number

    def inward(self, number: int) -> Inner | None:
        """The connection a frame from the control plane is for, if it is still open."""
        return self._inner.get(number)

    def close_inner(self, inner: Inner) -> int | None:
        """The runner has closed its end; returns the number to close towards the control plane."""
        self._ended.discard(inner)
        number = self._outer.pop(inner, None)
        if number is not None:
            del self._inner[number]
        return number

    def close_outer(self, number: int) -> Inner | None:
        """The control plane has closed its end; returns the connection to close in its runner."""
        inner = self._inner.pop(number, None)
        if inner is not None:
            self.refuse(inner)
        return inner

    def refuse(self, inner: Inner) -> None:
        """Nothing more of this connection is let through until the runner has closed it."""
        self._outer.pop(inner, None)
        self._ended.add(inner)

    def close_all(self) -> list[Inner]:
        """The link is lost; returns the connections to close in their runners."""
        return [inner for number in list(self._inner) if (inner := self.close_outer(number))]

    def remove_runner(self, runner: int) -> list[int]:
        """A runner is gone; returns the numbers to close towards the control plane."""
        self._ended = {inner for inner in self._ended if inner.runner != runner}
        gone = [inner for inner in self._outer if inner.runner == runner]
        return [number for inner in gone if (number := self.close_inner(inner)) is not None]
