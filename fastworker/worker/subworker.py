"""The subworker: one nursery that lists its services, and how it ends.

User code never runs here, so heartbeats never wait for it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Final

import trio

from fastworker.core.ids import new_id
from fastworker.core.records import DEFAULT_GRACE_SECONDS
from fastworker.errors import AuthenticationFailed
from fastworker.transport.dial import open_link
from fastworker.transport.link import Link
from fastworker.wire.addresses import Address
from fastworker.wire.messages import Welcome
from fastworker.worker.connection import Connection, Dial
from fastworker.worker.inspecting import Inspector
from fastworker.worker.reloading import Reloader
from fastworker.worker.runner_handle import OpenRunner
from fastworker.worker.runner_process import open_runner_process
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.supervisor import Supervisor
from fastworker.worker.switchboard import Switchboard

__all__ = ["Subworker", "SubworkerSettings", "run_subworker"]

EXIT_OK: Final = 0
EXIT_SETTINGS: Final = 2
EXIT_REFUSED: Final = 5
EXIT_SECOND_SIGNAL: Final = 128
"""Plus the signal's number: 130 for SIGINT, 143 for SIGTERM."""

UNWIND_SHARE: Final = 0.2
"""Of the time for draining, at its end: what code that is told to stop then has for its clean-up,
but no longer than the usual grace."""

RUNNER_EXIT_SECONDS: Final = 1.0
"""From SIGKILL to the last word of a runner's end."""

ACKNOWLEDGE_SECONDS: Final = 5.0
"""For the last outcomes and handbacks to be recorded, by a control plane that may be restarting
just now; without an answer their jobs run again elsewhere when the lease has ended."""

_log = logging.getLogger("fastworker.worker")


async def run_subworker(
    settings: SubworkerSettings,
    *,
    on_drain: Callable[[], None] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> int:
    """Run a subworker until it is told to end by SIGTERM or SIGINT; for the main thread.

    The first signal drains, the second ends at once. Cancelling it kills its runners; their jobs
    run again after the lease has ended.

    Args:
        on_drain: called when it begins to drain.
        task_status: started once a control plane has registered this subworker.

    Returns:
        The exit code: 0 drained, 2 a task module cannot be imported, 5 the token is refused,
        130 or 143 ended by a second signal.
    """
    subworker = Subworker(
        settings, dial=dialler(settings), open_runner=partial(open_runner_process, settings)
    )
    exit_code = EXIT_OK
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, subworker)
        if on_drain is not None:
            nursery.start_soon(_call_at_drain, subworker, on_drain)
        exit_code = await subworker.run(task_status=task_status)
        nursery.cancel_scope.cancel()
    return exit_code


async def _call_at_drain(subworker: Subworker, on_drain: Callable[[], None]) -> None:
    await subworker.drain_asked.wait()
    on_drain()


def dialler(settings: SubworkerSettings) -> Dial:
    """What opens the network connections of a subworker with these settings."""

    @asynccontextmanager
    async def dial(address: Address) -> AsyncIterator[tuple[Link, Welcome]]:
        token = settings.token_for(address)
        tls = settings.tls() if settings.tls is not None and address.tls else None
        async with open_link(
            address, role="subworker", token=token, agent="fastworker", tls=tls
        ) as link:
            yield link

    return dial


async def watch_signals(
    subworker: Subworker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Turn SIGTERM and SIGINT into a drain, and the second one into the end; main thread only."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if subworker.drain_asked.is_set():
                _log.warning("%s again: ending at once", name)
                subworker.end(EXIT_SECOND_SIGNAL + number)
            else:
                _log.info("%s: draining; once more to end at once", name)
                subworker.drain_asked.set()


class Subworker:
    """A subworker with its ways to the outside plugged in: `run` it once.

    Args:
        dial: opens a link to a control plane.
        open_runner: starts a runner.
        random: for jitter.
    """

    def __init__(
        self,
        settings: SubworkerSettings,
        *,
        dial: Dial,
        open_runner: OpenRunner,
        random: Random | None = None,
    ) -> None:
        jitter = random if random is not None else Random()
        self._settings = settings
        self._exit_code = EXIT_OK
        self._scope = trio.CancelScope()
        self._switchboard = Switchboard(settings.slots, processes=settings.task_processes)
        self._supervisor = Supervisor(
            settings, self._switchboard, open_runner, random=jitter, on_failed=self._runner_failed
        )
        self._connection = Connection(
            settings,
            self._switchboard,
            dial,
            incarnation=new_id(wall=time.time(), random=os.urandom(10)),
            inspector=Inspector(self._supervisor.alive, self._switchboard.given_to),
            random=jitter,
            on_refused=self._refused,
        )
        self.drain_asked = trio.Event()
        """Set it to drain: take nothing more, let running jobs end, leave."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Run until `drain_asked` is set or `end` is called; returns the exit code.

        Args:
            task_status: started once a control plane has registered this subworker.
        """
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._switchboard.send_outcomes_forever)
                nursery.start_soon(self._switchboard.hand_over_forever)
                nursery.start_soon(self._switchboard.enforcer.enforce_forever)
                if self._settings.reload:
                    reloader = Reloader(self._settings.task_modules, self.reload)
                    nursery.start_soon(reloader.serve_forever)
                nursery.start_soon(self._supervisor.keep_runners)
                nursery.start_soon(self._supervisor.keep_lone_runners)
                nursery.start_soon(self._connection.watch_leases_forever)
                nursery.start_soon(self._connect_when_ready, task_status)
                nursery.start_soon(self._drain_when_asked)
        return self._exit_code

    def reload(self) -> None:
        """The task code has changed: replace the runners, once new ones are ready."""
        self._supervisor.reload()

    def end(self, exit_code: int) -> None:
        """Stop at once: runners are killed, their jobs run again after the lease has ended."""
        self._exit_code = exit_code
        self._scope.cancel()

    async def _connect_when_ready(self, task_status: trio.TaskStatus[None]) -> None:
        await self._supervisor.ready.wait()
        addresses = ", ".join(map(str, self._settings.control_plane))
        _log.info(
            "subworker %s (pid %d) offers %d tasks to %s",
            self._settings.label,
            os.getpid(),
            len(self._switchboard.offering.tasks),
            addresses,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._connection.stay_connected)
            await self._connection.registered.wait()
            task_status.started()

    async def _drain_when_asked(self) -> None:
        await self.drain_asked.wait()
        budget = self._settings.drain_seconds
        unwinding = min(DEFAULT_GRACE_SECONDS, budget * UNWIND_SHARE)
        self._switchboard.begin_drain(stop_after=budget - unwinding)
        with trio.move_on_after(budget):
            await self._switchboard.wait_runners_gone()
        self._supervisor.kill_all()
        with trio.move_on_after(RUNNER_EXIT_SECONDS):
            await self._switchboard.wait_runners_gone()
        with trio.move_on_after(ACKNOWLEDGE_SECONDS):
            await self._switchboard.wait_acknowledged()
        if not self._switchboard.holds_jobs:
            # To say goodbye is to say that nothing of what came here runs.
            await self._connection.say_bye("drain")
        self.end(EXIT_OK)

    def _runner_failed(self, sentence: str) -> None:
        _log.error("%s", sentence)
        if not self._supervisor.ready.is_set():
            self.end(EXIT_SETTINGS)

    def _refused(self, error: AuthenticationFailed) -> None:
        _log.error("%s", error)
        self.end(EXIT_REFUSED)
