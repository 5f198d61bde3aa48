"""Accepting connections, also while the process has no descriptors left for them.

Trio's own loop writes a traceback ten times a second then; here those who are connected live on,
one line says what to do, and accepting goes on as soon as a connection has ended.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from fastworker.server.gate import Gate
from fastworker.server.limits import EXHAUSTED_LOG_SECONDS, EXHAUSTED_SECONDS

logger = logging.getLogger("fastworker.server")

EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""What accept(2) says when the process or the machine has too little of something."""

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


class Accepting:
    """Accepts the connections of one control plane.

    Args:
        serve: serves one of them to its end, and lets nothing out.
        gate: tells when one has ended.
    """

    def __init__(self, serve: Serve, gate: Gate) -> None:
        self._serve = serve
        self._gate = gate
        self._said_at: float | None = None

    async def serve_forever(self, sockets: Sequence[trio.SocketListener]) -> None:
        """Accept and serve until cancelled; then everything is closed."""
        async with trio.open_nursery() as nursery:
            for one in sockets:
                nursery.start_soon(self._serve_one, one, nursery)

    async def _serve_one(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                ended = self._gate.left
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in EXHAUSTED:
                        raise
                    self._say_exhausted(error)
                    with trio.move_on_after(EXHAUSTED_SECONDS):
                        await ended.wait()
                    continue
                nursery.start_soon(self._serve, stream)

    def _say_exhausted(self, error: OSError) -> None:
        now = trio.current_time()
        if self._said_at is not None and now - self._said_at < EXHAUSTED_LOG_SECONDS:
            return
        self._said_at = now
        logger.warning(
            "no new connection can be accepted (%s); those that stand, %d, are served on; "
            "raise the limit of open files (ulimit -n, LimitNOFILE=)",
            os.strerror(error.errno or 0),
            self._gate.standing.total,
        )


__all__ = ["Accepting"]
