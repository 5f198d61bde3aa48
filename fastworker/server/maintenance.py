"""Keeps the store within its retention, a bounded round at a time."""

from __future__ import annotations

import logging
from typing import Final

import trio

from fastworker.server.plane import Plane

logger = logging.getLogger("fastworker.server")

PRUNE_EVERY_SECONDS: Final = 10.0
"""How far results may outlive their retention."""

PAUSE_BETWEEN_ROUNDS_SECONDS: Final = 0.05
"""Leaves the writer to the loop between two rounds."""


async def prune_forever(plane: Plane) -> None:
    """Remove outdated results and tombstones until cancelled."""
    warned = False
    while True:
        await trio.sleep(PRUNE_EVERY_SECONDS)
        more = True
        while more:
            report = await plane.store.prune(plane.settings.retention, now=plane.clock().wall)
            more = report.more
            if report.results and not warned:
                warned = True
                logger.warning(
                    "results past their retention are being removed (this is said once); "
                    "asking for one gives ResultExpired"
                )
            if more:
                await trio.sleep(PAUSE_BETWEEN_ROUNDS_SECONDS)
