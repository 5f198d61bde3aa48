"""The two things a client needs of its event loop that anyio has no portable name for.

A background task that outlives the call that started it, and a thread-safe wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias

Run: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class EventLoop(Protocol):
    """The loop a client was started in."""

    def spawn(self, run: Run, *, name: str) -> None:
        """Start ``run()`` in the background; it must let no `Exception` out."""
        ...

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        """Call ``function`` in the loop, from any thread; nothing happens if the loop has ended."""
        ...

    def is_current(self) -> bool:
        """Whether the caller runs in this loop."""
        ...


_owner_tasks: set[asyncio.Task[None]] = set()
"""asyncio holds tasks weakly; these must not be collected while they run."""


class _AsyncioLoop:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def spawn(self, run: Run, *, name: str) -> None:
        task = self._loop.create_task(run(), name=name)
        _owner_tasks.add(task)
        task.add_done_callback(_owner_tasks.discard)

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # closed: everything in it has ended
            self._loop.call_soon_threadsafe(function)

    def is_current(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


class _TrioLoop:
    def __init__(self) -> None:
        import trio

        self._lowlevel = trio.lowlevel
        self._finished = trio.RunFinishedError
        self._token = trio.lowlevel.current_trio_token()

    def spawn(self, run: Run, *, name: str) -> None:
        self._lowlevel.spawn_system_task(run, name=name)

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(self._finished):
            self._token.run_sync_soon(function)

    def is_current(self) -> bool:
        try:
            return self._lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False


def in_trio() -> bool:
    """Whether the caller runs in Trio; never imports it."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def running_loop() -> EventLoop | None:
    """The loop the caller runs in, or None."""
    if in_trio():
        return _TrioLoop()
    try:
        return _AsyncioLoop()
    except RuntimeError:
        return None
