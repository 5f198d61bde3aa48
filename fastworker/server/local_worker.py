"""The control plane's own subworker: a child process, while no other can run what waits.

``auto``: started once jobs have waited three seconds for a capable subworker, stopped when it has
been idle for a while; the core gives it nothing while another subworker can take it. ``always``:
kept running. ``never``: no such thing.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Container
from typing import Final

import trio

from fastworker.core.dispatcher import Dispatcher
from fastworker.server.plane import Plane

logger = logging.getLogger("fastworker.server")

PATIENCE_SECONDS: Final = 3.0
"""How long jobs wait for a subworker before the local one starts."""

IDLE_SECONDS: Final = 30.0
"""How long it stays when there is nothing to do."""

RESTART_SECONDS: Final = 5.0
"""Pause before it is started again after it ended by itself."""

KILL_SECONDS: Final = 2.0
"""For the kernel to end a killed child."""

LABEL: Final = "local"


class LocalWorker:
    """Starts and stops one child process."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._needed = False
        self._changed = trio.Event()
        self._child: trio.Process | None = None
        self._stopping = False
        self._tasks: Container[str] | None = None
        """What the child can run, once it has said so: it is not started for anything else."""
        if plane.settings.local_worker == "auto":
            plane.roster.on_turn.append(self._look)

    def _look(self, dispatcher: Dispatcher) -> None:
        ours = dispatcher.memory.fleet.local
        for session in ours:
            self._tasks = session.tasks or self._tasks
        needed = dispatcher.has_unserved_jobs(self._tasks) or any(session.held for session in ours)
        if needed != self._needed:
            self._needed = needed
            self._changed.set()
            self._changed = trio.Event()

    async def serve_forever(self) -> None:
        """Follow the need until cancelled; the child ends before this does."""
        mode = self._plane.settings.local_worker
        if mode == "never" or not self._plane.settings.task_modules:
            return
        while not self._stopping:
            if mode == "auto":
                await self._wait_steady(needed=True, seconds=PATIENCE_SECONDS)
                logger.info("no subworker can run what waits: starting the local one")
            await self._run_child()
            if not self._stopping:
                await trio.sleep(RESTART_SECONDS)

    async def _wait_steady(self, *, needed: bool, seconds: float) -> None:
        """Until the need has been this way for so long without a change."""
        while True:
            while self._needed is not needed:
                await self._changed.wait()
            with trio.move_on_after(seconds) as scope:
                await self._changed.wait()
            if scope.cancelled_caught:
                return

    async def stop(self) -> None:
        """Let the child finish what runs, and end; nothing is started afterwards."""
        self._stopping = True
        if self._child is not None:
            self._child.terminate()
            await self._child.wait()

    async def _run_child(self) -> None:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "fastworker.worker"],
            stdin=subprocess.PIPE,
        )
        assert process.stdin is not None
        self._child = process
        try:
            await process.stdin.send_all(json.dumps(self._instructions()).encode() + b"\n")
            async with trio.open_nursery() as nursery:
                if self._plane.settings.local_worker == "auto":
                    nursery.start_soon(self._stop_when_idle, process)
                code = await process.wait()
                nursery.cancel_scope.cancel()
            logger.info("the local subworker ended (exit code %d)", code)
        finally:
            self._child = None
            if process.returncode is None:
                # Its runners end with it: they watch its end of their channel.
                process.kill()
                with trio.move_on_after(KILL_SECONDS, shield=True):
                    await process.wait()

    async def _stop_when_idle(self, process: trio.Process) -> None:
        await self._wait_steady(needed=False, seconds=IDLE_SECONDS)
        logger.info("the local subworker is idle: stopping it")
        process.terminate()

    def _instructions(self) -> dict[str, object]:
        """What the child reads from its standard input: no secret in arguments or environment."""
        settings = self._plane.settings
        door = self._plane.own_door
        token = next(iter(settings.tokens.values()), "") if door is None else door.token
        return {
            "address": self._plane.addresses[0] if door is None else door.address,
            "token": token,
            "label": LABEL,
            "task_modules": list(settings.task_modules),
            "concurrency": settings.concurrency,
            "threads": settings.threads,
            "task_processes": settings.task_processes,
            "processes": settings.processes,
            "max_jobs_per_runner": settings.max_jobs_per_runner,
            "max_runner_bytes": settings.max_runner_bytes,
            "tags": list(settings.tags),
            "reload": settings.reload,
            "async_runtime": settings.async_runtime,
            "drain_seconds": settings.drain_seconds,
            "log_level": settings.log_level,
            "log_format": settings.log_format,
            "collect_logs": settings.collect_logs,
        }
