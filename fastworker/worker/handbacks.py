"""Leases given up that the control plane may not have heard of. Pure.

A `Handback` has no acknowledgement of its own. The control plane reads a connection in order,
so the answer to a heartbeat sent after one proves that it has been read; until then it is sent
again over every new connection, where a repeated one is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastworker.wire.messages import Handback


class UnconfirmedHandbacks:
    """Handbacks not yet known to have been read, with the last heartbeat sent before each."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Handback]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, handback: Handback, *, after_beat: int) -> None:
        """Keep one that was sent after heartbeat ``after_beat``."""
        self._waiting.append((after_beat, handback))

    def confirm(self, beat: int) -> None:
        """Heartbeat ``beat`` was answered."""
        self._waiting = [(sent, message) for sent, message in self._waiting if sent >= beat]

    def send_again(self, *, after_beat: int) -> Sequence[Handback]:
        """A new connection: what to send over it."""
        messages = [message for _, message in self._waiting]
        self._waiting = [(after_beat, message) for message in messages]
        return messages

    def claims(self) -> tuple[bytes, list[int]]:
        """Ids and tokens, so that a restarted control plane knows what is handed back."""
        messages = [message for _, message in self._waiting]
        return (
            b"".join(message.ids for message in messages),
            [token for message in messages for token in message.tokens],
        )
