"""Leases given up that the control plane may not have recorded yet. Pure.

Like an outcome a `Handback` is answered by `OutcomeAck` once it is stored. Until then its leases
are claimed, and it is sent again over every new connection, where a repeated one is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastworker.wire.messages import Handback


class UnconfirmedHandbacks:
    """Handbacks not yet known to be recorded, oldest first."""

    def __init__(self) -> None:
        self._waiting: dict[int, Handback] = {}
        # By the first token: a message is acknowledged as a whole, and no token is in two.

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, handback: Handback) -> None:
        """Keep one that is sent, or would be if there were a connection."""
        self._waiting[handback.tokens[0]] = handback

    def acknowledge(self, tokens: Iterable[int]) -> None:
        """The control plane has recorded what became of these."""
        if self._waiting:
            for token in tokens:
                self._waiting.pop(token, None)

    @property
    def messages(self) -> Sequence[Handback]:
        """What to send over a new connection."""
        return list(self._waiting.values())

    def claims(self) -> tuple[bytes, list[int]]:
        """Ids and tokens, so that a restarted control plane waits for what is handed back."""
        messages = self._waiting.values()
        return (
            b"".join(message.ids for message in messages),
            [token for message in messages for token in message.tokens],
        )
