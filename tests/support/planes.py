"""A control plane in a thread of the tests' own process, for clients of any event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

import trio

from fastworker.server.control_plane import run_control_plane
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings

WAIT_SECONDS = 20.0


@contextmanager
def plane_in_a_thread(settings: ControlPlaneSettings) -> Iterator[Plane]:
    """Serve until the end of the block; what is given may be read, and nothing of it called."""
    started: Future[tuple[Plane, trio.lowlevel.TrioToken, trio.CancelScope]] = Future()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            run = partial(run_control_plane, handle_signals=False)
            plane = await nursery.start(run, settings)
            started.set_result((plane, trio.lowlevel.current_trio_token(), nursery.cancel_scope))

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="control plane", daemon=True)
    thread.start()
    plane, token, scope = started.result(WAIT_SECONDS)
    try:
        yield plane
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
