"""An anyio task group that is entered and left by hand, around a caller's block."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio


class LocalGroup:
    """A cancel scope around a block, and local tasks that end with it.

    Unlike anyio's own it does not wrap the block's error: who leaves it is told what is left.
    """

    def __init__(self) -> None:
        self._tasks = anyio.create_task_group()

    @property
    def scope(self) -> anyio.CancelScope:
        """What cancels the block; there once it is entered."""
        return self._tasks.cancel_scope

    async def enter(self) -> None:
        """Begin the block."""
        await self._tasks.__aenter__()

    def start_soon(self, run: Callable[[], Coroutine[Any, Any, object]], *, name: str) -> None:
        """Start a local task."""
        self._tasks.start_soon(run, name=name)

    async def leave(self, error: BaseException | None) -> tuple[BaseException, ...]:
        """End the block, which ended with ``error``.

        Returns:
            What is left of it without the cancellations that were this block's own.
        """
        try:
            if error is None:
                await self._tasks.__aexit__(None, None, None)
                return ()
            taken = await self._tasks.__aexit__(type(error), error, error.__traceback__)
        except BaseExceptionGroup as group:
            return group.exceptions
        except BaseException as rest:
            return (rest,)
        return () if taken else (error,)
