"""Carries the frames of clients inside tasks between their runners and the control plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastworker.transport.link import Link
from fastworker.wire.messages import Message, Relay
from fastworker.worker.relays import Inner, Relays

TellRunner: TypeAlias = Callable[[int, Message], None]
"""By the runner's number; to one that is gone nothing is said."""


class Relaying:
    """One for each subworker. Set ``link`` when there is a new connection.

    Args:
        tell_runner: sends a message to a runner.
    """

    def __init__(self, tell_runner: TellRunner) -> None:
        self._tell_runner = tell_runner
        self._relays = Relays()
        self.link: Link | None = None

    def link_down(self) -> None:
        """The connection is lost: all conversations over it end."""
        self.link = None
        for inner in self._relays.close_all():
            self._tell_runner(inner.runner, Relay(runner=inner.number, frame=b"", closed=True))

    def inward(self, message: Relay) -> None:
        """From the control plane to a client."""
        inner = self._relays.inward(message.runner)
        if inner is None:
            if not message.closed:
                self._tell(Relay(runner=message.runner, frame=b"", closed=True))
            return
        if message.closed:
            self._relays.close_outer(message.runner)
        self._tell_runner(
            inner.runner, Relay(runner=inner.number, frame=message.frame, closed=message.closed)
        )

    def outward(self, number: int, message: Relay) -> None:
        """From a client in the runner of this number."""
        inner = Inner(number, message.runner)
        if message.closed:
            outer = self._relays.close_inner(inner)
            if outer is not None:
                self._tell(Relay(runner=outer, frame=message.frame, closed=True))
        elif self.link is None:
            self._relays.refuse(inner)
            self._tell_runner(number, Relay(runner=inner.number, frame=b"", closed=True))
        else:
            outer = self._relays.outward(inner)
            if outer is not None:
                self.link.send(Relay(runner=outer, frame=message.frame))

    def runner_gone(self, number: int) -> None:
        """The clients of this runner are gone with it."""
        for outer in self._relays.remove_runner(number):
            self._tell(Relay(runner=outer, frame=b"", closed=True))

    def _tell(self, message: Relay) -> None:
        if self.link is not None:
            self.link.send(message)
