"""The runners that are ready, and when they are given the jobs held here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from fastworker.wire.messages import Message, RunnerStop
from fastworker.worker.held import HeldJobs
from fastworker.worker.runner_handle import RunnerHandle

READ_TURNS: Final = 2
"""Turns of the event loop from bytes on the socket to a message here."""


class ReadyRunners:
    """By number. Nothing is given to them while they are paused, or once they have been stopped.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, held: HeldJobs, clock: Callable[[], float]) -> None:
        self._held = held
        self._clock = clock
        self._handles: dict[int, RunnerHandle] = {}
        self._paused = False
        self.leases_stand: Callable[[], bool] = lambda: True
        """Asked before every hand-over: see `LeaseWatch.stand`."""
        self._stopped = False
        self._gone = trio.Event()
        self._room_found = trio.Event()

    def numbers(self) -> list[int]:
        """Of all of them."""
        return list(self._handles)

    def get(self, number: int) -> RunnerHandle | None:
        """The one of this number, if it is ready."""
        return self._handles.get(number)

    def add(self, number: int, runner: RunnerHandle) -> None:
        """One is ready; if all have been stopped, this one is, too."""
        self._handles[number] = runner
        if self._stopped:
            runner.send(RunnerStop())

    def remove(self, number: int) -> None:
        """One has exited, ready or not."""
        self._handles.pop(number, None)
        self._gone.set()
        self._gone = trio.Event()

    async def wait_gone(self) -> None:
        """Until there are none."""
        while self._handles:
            await self._gone.wait()

    def tell(self, number: int, message: Message) -> None:
        """Send a message to one; to one that is gone nothing is sent."""
        runner = self._handles.get(number)
        if runner is not None:
            runner.send(message)

    def stop(self, *, cancel_after: float | None) -> None:
        """Have all of them leave when they are done; the limit as in `RunnerStop`."""
        self._stopped = True
        for runner in self._handles.values():
            runner.send(RunnerStop(cancel_after=cancel_after))

    # --- giving them jobs --------------------------------------------------------------

    def pause(self) -> None:
        """Give them nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self.hand_over()

    def hand_over(self) -> None:
        """Give them as much as they have room for."""
        if self._stopped or self._paused or not self.leases_stand():
            return
        for number, assign in self._held.hand_over(now=self._clock()):
            self.tell(number, assign)
        self._held.look_for_runners()

    def find_room(self) -> None:
        """One of them may have room again: `hand_over_forever` looks."""
        self._room_found.set()

    async def hand_over_forever(self) -> None:
        """Give them more as room appears, but first take what the control plane has sent.

        Of what has arrived here, nothing less urgent is handed over before something more urgent:
        the bound on what starts before a more urgent job rests on that.
        """
        while True:
            await self._room_found.wait()
            self._room_found = trio.Event()
            for _ in range(READ_TURNS):
                await trio.lowlevel.checkpoint()
            self.hand_over()
