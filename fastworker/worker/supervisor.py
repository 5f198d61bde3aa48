"""Keeps runners running: starts them, hears them out, notices their end, starts the next.

A runner's end is its exit, known from the kernel at once. What it wrote before that is read
first, so that no outcome that left it is counted as lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import Final

import trio

from fastworker.errors import ProtocolError
from fastworker.wire.messages import Message, RunnerFailed, RunnerReady
from fastworker.worker.backoff import Backoff
from fastworker.worker.runner_handle import OpenRunner, RunnerGone, RunnerHandle
from fastworker.worker.switchboard import Switchboard

LAST_WORDS_SECONDS: Final = 1.0
"""After its exit a runner's words are in a socket buffer; only a stray child keeps it open."""

EXIT_GRACE_SECONDS: Final = 1.0
"""From the end of its channel to the end of its process, which may have an orderly exit."""

_log = logging.getLogger("fastworker.worker")


class Supervisor:
    """The runners of one subworker. `keep_runner` is started once for each.

    Args:
        on_failed: called with a runner's own words if it cannot run; before any was ready this
            means that none ever will.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        open_runner: OpenRunner,
        *,
        random: Random,
        on_failed: Callable[[str], None],
    ) -> None:
        self._switchboard = switchboard
        self._open_runner = open_runner
        self._random = random
        self._on_failed = on_failed
        self._alive: dict[int, RunnerHandle] = {}
        self._killed = False
        self.ready = trio.Event()
        """A runner has been ready for the first time."""

    async def keep_runner(self, number: int) -> None:
        """Run one runner after another, until draining; then return after the last one's exit.

        Cancelling it kills the runner.
        """
        backoff = Backoff(self._random)
        while True:
            started_at = trio.current_time()
            try:
                how = await self._run_one(number)
            except OSError as error:
                how = f"could not be started: {error}"
            if self._switchboard.draining:
                return
            stood = trio.current_time() - started_at
            wait = backoff.next_seconds(stood_seconds=stood)
            _log.warning("runner %d ended (%s); the next one starts in %.1f s", number, how, wait)
            await trio.sleep(wait)

    def kill_all(self) -> None:
        """End all runners now; what they ran is handed back as drained."""
        self._killed = True
        for runner in self._alive.values():
            runner.kill()

    async def _run_one(self, number: int) -> str:
        """From start to exit; returns how it ended, with the number of jobs it took along."""
        async with self._open_runner() as runner:
            self._alive[number] = runner
            try:
                how = await self._hear_out(number, runner)
            finally:
                del self._alive[number]
        reason = "drain" if self._killed else "runner_died"
        lost = self._switchboard.runner_gone(number, reason=reason, detail=how)
        return f"pid {runner.pid}, {how}, jobs lost: {lost}"

    async def _hear_out(self, number: int, runner: RunnerHandle) -> str:
        if self._killed:
            runner.kill()
        heard_out = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, number, runner, heard_out)
            how = await runner.wait_exit()
            with trio.move_on_after(LAST_WORDS_SECONDS):
                await heard_out.wait()
            nursery.cancel_scope.cancel()
        return how

    async def _read(self, number: int, runner: RunnerHandle, heard_out: trio.Event) -> None:
        try:
            while True:
                self._take(number, runner, await runner.receive())
        except RunnerGone:
            pass
        except ProtocolError as error:
            _log.error("runner %d (pid %d) is ended: %s", number, runner.pid, error)
        heard_out.set()
        # A process that has closed its channel but lives on cannot be told or asked anything.
        await trio.sleep(EXIT_GRACE_SECONDS)
        runner.kill()

    def _take(self, number: int, runner: RunnerHandle, messages: list[Message]) -> None:
        rest = []
        for message in messages:
            match message:
                case RunnerReady():
                    self._switchboard.runner_ready(number, runner, message.tasks)
                    self.ready.set()
                case RunnerFailed():
                    self._on_failed(message.message)
                case _:
                    rest.append(message)
        if rest:
            self._switchboard.from_runner(number, rest)
