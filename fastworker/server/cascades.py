"""Cancels that go on: from a job to the jobs it has submitted, which only the store knows."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from fastworker.core.commands import CancelChildren
from fastworker.core.facts import CancelRequest
from fastworker.core.families import PARENT_CANCELLED

if TYPE_CHECKING:
    from fastworker.server.plane import Plane
from fastworker.store.contract import FAMILY_PARENTS

JOBS_AT_ONCE: Final = 1_000
"""In one request to the loop: a turn of a few milliseconds."""


class Cascades:
    """Looks children up after the turn that cancelled their parents, and requests their cancel.

    Each request is a cancel like any other, so it goes on to the children's children by itself.
    """

    def __init__(self) -> None:
        # Sixteen bytes for each cancelled job. The requests that put them here were bounded, and
        # those that follow are made no faster than these are worked off.
        self._waiting: deque[CancelChildren] = deque()
        self._changed = trio.Event()

    def want(self, command: CancelChildren) -> None:
        """Cancel the children of these jobs soon."""
        self._waiting.append(command)
        self._changed.set()

    async def serve_forever(self, plane: Plane) -> None:
        """Cancel children until cancelled; at first those that a stop of this process left over."""
        left_over = await plane.store.cancelled_parents()
        await _cancel_children(plane, CancelChildren(left_over, PARENT_CANCELLED, None))
        while True:
            while self._waiting:
                await _cancel_children(plane, self._waiting.popleft())
            self._changed = trio.Event()
            await self._changed.wait()


async def _cancel_children(plane: Plane, command: CancelChildren) -> None:
    parents = command.parents
    for at in range(0, len(parents), FAMILY_PARENTS):
        after_key = -1
        while True:
            children = await plane.store.children(
                parents[at : at + FAMILY_PARENTS], after_key=after_key, limit=JOBS_AT_ONCE
            )
            if not children:
                break
            after_key = children[-1].key
            await plane.inbox.put(
                CancelRequest(
                    None,
                    [row.id for row in children],
                    command.reason,
                    grace=command.grace,
                    follows=True,
                )
            )
