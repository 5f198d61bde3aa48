"""The real control plane in this process, on a folder that may have been rebuilt or damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from fastworker.server.control_plane import run_control_plane
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings


@asynccontextmanager
async def started_plane(folder: Path) -> AsyncIterator[Plane]:
    """Start a control plane on a store, ready to serve; it is stopped at the end.

    Raises:
        StoreError: it refuses the store.
    """
    settings = ControlPlaneSettings(
        base_address="tcp://127.0.0.1:0",
        discovery_address=None,
        store=folder,
        tokens={"test": "test.0123456789abcdef0123456789abcdef"},
        local_worker="never",
    )
    try:
        async with trio.open_nursery() as nursery:
            yield await nursery.start(_run, settings)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _innermost(group) from None


async def _run(settings: ControlPlaneSettings, task_status: trio.TaskStatus[Plane]) -> None:
    await run_control_plane(settings, handle_signals=False, task_status=task_status)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
