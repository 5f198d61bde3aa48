"""Lines about connections that ended badly: everything is counted, little is written."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fastworker.server.blame import describe, is_bug
from fastworker.server.limits import (
    PEER_LINE_SECONDS,
    PEER_LINES_A_SECOND,
    PEER_LINES_AT_ONCE,
    PEERS_REMEMBERED,
)

logger = logging.getLogger("fastworker.server")

MAX_REASON_CHARACTERS: Final = 300
"""Reasons may quote what a peer has sent, escaped and cut; a line stays a line."""


class PeerLog:
    """Rate-limited lines, by address and in all, so that no attacker hides another.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: OrderedDict[str, float] = OrderedDict()
        """When the last line about an address was written, the longest ago first."""
        self._left_out = 0
        self._allowance = float(PEER_LINES_AT_ONCE)
        self._counted_at = clock()
        self.count = 0
        """Connections that ended badly."""

    def note(self, peer: str, reason: object) -> None:
        """One connection was refused or broken off.

        Args:
            peer: its address, ``host:port``.
            reason: why; nothing secret, and nothing of any payload.
        """
        self.count += 1
        if not self._may_write(peer.rpartition(":")[0] or peer):
            self._left_out += 1
            return
        more = f" ({self._left_out} more were not written)" if self._left_out else ""
        self._left_out = 0
        text = str(reason)[:MAX_REASON_CHARACTERS]
        logger.warning("connection from %s ended: %s%s", peer, text, more)

    def note_error(self, peer: str, error: Exception) -> None:
        """One connection ended with an error that nobody expected there; a bug shows all of it."""
        if not is_bug(error):
            self.note(peer, describe(error))
            return
        self.count += 1
        if self._may_write("a bug of ours"):
            text = "connection from %s broke inside fastworker, the others go on; please report it"
            logger.error(text, peer, exc_info=error)

    def _may_write(self, host: str) -> bool:
        now = self._clock()
        earned = (now - self._counted_at) * PEER_LINES_A_SECOND
        self._allowance = min(self._allowance + earned, float(PEER_LINES_AT_ONCE))
        self._counted_at = now
        last = self._last.get(host)
        if self._allowance < 1.0 or (last is not None and now - last < PEER_LINE_SECONDS):
            return False
        self._allowance -= 1.0
        self._last[host] = now
        self._last.move_to_end(host)
        if len(self._last) > PEERS_REMEMBERED:
            self._last.popitem(last=False)
        return True
