"""Keeps the store within its retention, a bounded round at a time, and sees that it is there."""

from __future__ import annotations

import logging
from typing import Final

import trio

from fastworker.server.plane import Plane
from fastworker.store.contract import NoSpace

logger = logging.getLogger("fastworker.server")

PRUNE_EVERY_SECONDS: Final = 10.0
"""How far results may outlive their retention."""

PAUSE_BETWEEN_ROUNDS_SECONDS: Final = 0.05
"""Leaves the writer to the loop between two rounds."""

LOOK_EVERY_SECONDS: Final = 1.0
"""How long a store that was taken away may go unnoticed while nothing is saved."""


async def maintain_forever(plane: Plane) -> None:
    """Prune and look after the store until cancelled.

    Raises:
        StoreUnusable: it was deleted, replaced or overwritten.
        StoreBroken: it failed.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_forever, plane)
        nursery.start_soon(prune_forever, plane)


async def look_forever(plane: Plane) -> None:
    """See that the store is still where it was, until cancelled; every save sees to it too.

    A store in memory cannot be taken away.
    """
    while plane.store.info.kind != "memory":
        await trio.sleep(LOOK_EVERY_SECONDS)
        await plane.store.check_present()


async def prune_forever(plane: Plane) -> None:
    """Remove outdated results and tombstones until cancelled."""
    warned = False
    while True:
        await trio.sleep(PRUNE_EVERY_SECONDS)
        more = True
        while more:
            try:
                now = plane.clock()
                retention = plane.clock.lenient(plane.settings.retention)
                report = await plane.store.prune(retention, now=now.wall)
            except NoSpace:
                break  # removing needs space, too: in the next round
            more = report.more
            if report.results and not warned:
                warned = True
                logger.warning(
                    "results past their retention are being removed (this is said once); "
                    "asking for one gives ResultExpired"
                )
            if more:
                await trio.sleep(PAUSE_BETWEEN_ROUNDS_SECONDS)
