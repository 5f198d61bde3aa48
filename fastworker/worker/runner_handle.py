"""What the subworker asks of a runner, however it is run: a process, or in the same process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fastworker.errors import FastWorkerError
from fastworker.wire.messages import LoopBlocked, Message, Stacks


class RunnerGone(FastWorkerError):
    """The runner has closed its channel and will say nothing more."""

    code = "runner_gone"


class RunnerHandle(Protocol):
    """One runner, alive or not."""

    @property
    def pid(self) -> int:
        """Its process, for the log."""
        ...

    def send(self, message: Message) -> None:
        """Queue a message; never waits. To a runner that is gone nothing is sent."""
        ...

    async def receive(self) -> list[Message]:
        """What it says next.

        Raises:
            RunnerGone: it has said everything it ever will.
            ProtocolError: it said something that is no frame.
        """
        ...

    async def wait_exit(self) -> str:
        """Wait until it has ended, all its children with it; returns how: ``exit 3``,
        ``signal 9``. A second call returns the same at once."""
        ...

    def started_tokens(self) -> Collection[int] | None:
        """Lease tokens of the jobs whose code has begun and whose end has not left the runner;
        None: it is not known, and any may have. For a runner that has ended."""
        ...

    def running_for(self, token: int) -> float | None:
        """Seconds since the code of this attempt began; None: it has not, or its end is told.

        Known without the runner's help, as long as it lives.
        """
        ...

    async def inspect(self, tokens: Collection[int] | None, *, with_stacks: bool) -> Stacks | None:
        """What these attempts (None: all) are doing just now, whatever the loops of the runner do.

        Those that do not run are left out. None: it has not answered within about a second.
        """
        ...

    async def stacks(self, tokens: Collection[int]) -> dict[int, str]:
        """Where each of these attempts is, as text; or why that is not known. Within about a
        second."""
        ...

    async def wait_blocked(self) -> LoopBlocked:
        """Wait for the next report that one of its event loops does not turn, or turns again."""
        ...

    def kill(self) -> None:
        """End it now, with everything it has started; does not wait. A second call does nothing."""
        ...


OpenRunner = Callable[[], AbstractAsyncContextManager[RunnerHandle]]
"""Starts a runner. Leaving the block, by any way, leaves no process behind."""
