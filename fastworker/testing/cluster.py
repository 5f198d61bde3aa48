"""A control plane and a subworker in the caller's Trio loop, connected without a network.

The nursery of `open_cluster` lists what runs: the control plane's services, the subworker, and
one task for each connection between them and to clients.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

import trio

from fastworker.client.ambient import StandIn, Transport, set_stand_in, stand_in
from fastworker.client.client import Client
from fastworker.core.dispatcher import Dispatcher
from fastworker.core.records import ALL_QUEUES, TaskStatus
from fastworker.errors import CallerError, ClientNotReady
from fastworker.server.control_plane import run_control_plane
from fastworker.server.listener import Listener
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.tasks import Runtime, lifespans, load_task_modules, registry
from fastworker.testing.clock import ClusterClock
from fastworker.testing.frames import MemoryFrames, MemoryTransport, memory_frames
from fastworker.testing.options import ClusterOptions
from fastworker.testing.runner import InProcessRunner, open_in_process_runner
from fastworker.testing.starters import OpenStarters, loops_and_threads, one_loop
from fastworker.transport.dial import open_link_over
from fastworker.transport.link import Link
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.handshake import token_id_of
from fastworker.wire.messages import Welcome
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import Subworker

HEARTBEATS_PER_LEASE: Final = 3
TOKEN_BYTES: Final = 32

NOWHERE: Final = Address("in-process", 0)
"""What messages call the control plane that no network leads to."""

LABEL: Final = "in-process"

LEAVE_SECONDS: Final = 10.0
"""For the lifespan hooks at the end of a test."""

logger = logging.getLogger("fastworker.testing")


class Cluster:
    """A running control plane with one subworker; made by `open_cluster`."""

    def __init__(self, plane: Plane, clock: ClusterClock, tasks: Iterable[str]) -> None:
        self._plane = plane
        self._clock = clock
        self._tasks = frozenset(tasks)
        self._missing: set[str] = set()
        self._turned = trio.Event()
        self.runners: list[InProcessRunner] = []
        """Those that run now: one, and another for jobs that must run alone."""
        plane.roster.on_turn.append(self._look)

    def client(self, **arguments: Any) -> Client:
        """A client of this cluster, to use with ``async with``; takes what `Client` takes.

        ``Client()``, wherever in this process it is called, is the same.
        """
        return Client(**arguments)

    def now(self) -> datetime:
        """The time of day as jobs and control plane see it: follows a virtual clock."""
        return self._clock.moment()

    async def wait_idle(self) -> None:
        """Wait until every job that was accepted has ended, those for later too.

        With a virtual clock that takes no time. Waits for ever if a job cannot be run.
        """
        while True:
            turned = self._turned
            counts = await self._plane.store.counts()
            if not any(count for status, count in counts.items() if _is_open(status)):
                return
            await turned.wait()

    def crash_runner(self) -> None:
        """End the runner as ``kill -9`` would: its jobs are lost with it, and run once more.

        Async jobs are cancelled; a new runner starts after a moment. Jobs that it took along run
        alone from then on: crash that runner, too, three times, and they are dead.
        """
        logger.info("the runner is crashed by the test")
        for runner in self.runners:
            runner.kill()

    async def _leave_runners(self) -> None:
        """End the runners, and wait until their lifespan hooks have been left."""
        with trio.move_on_after(LEAVE_SECONDS, shield=True):
            for runner in list(self.runners):
                runner.kill()
                await runner.wait_exit()

    def _look(self, dispatcher: Dispatcher) -> None:
        self._turned.set()
        self._turned = trio.Event()
        for lane in dispatcher.memory.waiting:
            task = lane.key.task
            if lane.depth and task not in self._tasks and task not in self._missing:
                self._missing.add(task)
                logger.warning(
                    "a job waits for task %r, which was not registered when this cluster started; "
                    "import its module at the top of the test, or name it in task_modules",
                    task,
                )


def _is_open(status: str) -> bool:
    return not TaskStatus(status).is_terminal


@asynccontextmanager
async def open_cluster(options: ClusterOptions | None = None) -> AsyncIterator[Cluster]:
    """Run everything in the caller's Trio loop until the end of the block.

    All tasks that are registered by then are served, from all queues; async ones run in Trio,
    plain functions too, one after another. Every `Client` without an address that is started
    meanwhile in this loop talks to this cluster. What is left of it at the end is cancelled.

    Raises:
        CallerError: not in Trio, a task module cannot be imported, or there is a cluster already.
    """
    if not trio.lowlevel.in_trio_run():
        raise CallerError(
            "open_cluster (fastworker_cluster) runs in Trio only; use fastworker_runtime here"
        )
    chosen = ClusterOptions() if options is None else options
    async with run_cluster(chosen, "trio", one_loop, address=None) as cluster:
        yield cluster


@asynccontextmanager
async def open_threaded_cluster(options: ClusterOptions) -> AsyncIterator[Cluster]:
    """The same for clients in other threads and loops: reached over a free loopback port, and
    with asyncio and threads to run jobs in."""
    address = "tcp://127.0.0.1:0"
    async with run_cluster(options, "asyncio", loops_and_threads, address=address) as cluster:
        yield cluster


@asynccontextmanager
async def run_cluster(
    options: ClusterOptions,
    default_runtime: Runtime,
    open_starters: OpenStarters,
    *,
    address: str | None,
) -> AsyncIterator[Cluster]:
    """Start everything, be the stand-in of all clients, and end everything.

    Args:
        address: where the control plane listens; None: clients come over memory.
    """
    if stand_in() is not None:
        raise CallerError(
            "an in-process cluster is running in this process already; one at a time, since "
            "every Client() without an address goes to it"
        )
    load_task_modules(options.task_modules)
    clock = ClusterClock(options.starts_at)
    token = f"test.{secrets.token_hex(TOKEN_BYTES)}"
    try:
        async with trio.open_nursery() as nursery:
            settings = _control_plane_settings(options, token, address)
            start = partial(run_control_plane, clock=clock.both, handle_signals=False)
            plane: Plane = await nursery.start(start, settings)
            definitions = registry.definitions()
            cluster = Cluster(plane, clock, (each.name for each in definitions))
            network = _Network(plane, nursery, token)

            @asynccontextmanager
            async def open_runner() -> AsyncIterator[InProcessRunner]:
                async with open_in_process_runner(
                    options, clock, definitions, default_runtime, open_starters
                ) as runner:
                    cluster.runners.append(runner)
                    try:
                        yield runner
                    finally:
                        cluster.runners.remove(runner)

            subworker = Subworker(
                _subworker_settings(options, default_runtime, token),
                dial=network.dial,
                open_runner=open_runner,
            )
            await nursery.start(_run_subworker, subworker)
            set_stand_in(network.stand_in(), clock.wall)
            try:
                yield cluster
            finally:
                set_stand_in(None)
                if lifespans:
                    await cluster._leave_runners()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _only_one(group)
        if error is None:
            raise
        # The test's own error, as the test raised it.
        raise error from error.__cause__


def _only_one(error: BaseException) -> BaseException | None:
    """The one error in a group, however deep; None if there are several."""
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) > 1:
            return None
        error = error.exceptions[0]
    return error


class _Network:
    """Connections within one Trio loop, and where clients find the control plane."""

    def __init__(self, plane: Plane, nursery: trio.Nursery, token: str) -> None:
        self._plane = plane
        self._listener = Listener(plane)
        self._nursery = nursery
        self._token = token
        self._numbers = itertools.count(1)
        self._loop = trio.lowlevel.current_trio_token()

    def connect(self) -> MemoryFrames:
        """A new connection; the dialler's end of it."""
        ours, theirs = memory_frames()
        name = f"in-process connection {next(self._numbers)}"
        self._nursery.start_soon(self._listener.serve_frames, theirs, name)
        return ours

    @asynccontextmanager
    async def dial(self, address: Address) -> AsyncIterator[tuple[Link, Welcome]]:
        """The subworker's way to the control plane."""
        async with open_link_over(
            self.connect(), name=LABEL, role="subworker", token=self._token, agent="fastworker"
        ) as link:
            yield link

    def stand_in(self) -> StandIn:
        """The clients' way to the control plane: over the network if it listens there."""
        if self._plane.addresses:
            return StandIn(parse_address(self._plane.addresses[0]), self._token)
        return StandIn(NOWHERE, self._token, self._open_transport, self._check_loop)

    async def _open_transport(self) -> Transport:
        return MemoryTransport(self.connect())

    def _check_loop(self) -> None:
        if not trio.lowlevel.in_trio_run() or trio.lowlevel.current_trio_token() is not self._loop:
            raise ClientNotReady(
                "the in-process cluster of a Trio test serves clients in the test's own loop "
                "only; with threads, asyncio or a BlockingClient use fastworker_runtime"
            )


def _control_plane_settings(
    options: ClusterOptions, token: str, address: str | None
) -> ControlPlaneSettings:
    lease_seconds = options.lease.total_seconds()
    return ControlPlaneSettings(
        base_address=address,
        discovery_address=None,
        durability="memory",
        tokens={token_id_of(token): token},
        local_worker="never",
        lease_seconds=lease_seconds,
        heartbeat_seconds=lease_seconds / HEARTBEATS_PER_LEASE,
    )


def _subworker_settings(
    options: ClusterOptions, default_runtime: Runtime, token: str
) -> SubworkerSettings:
    return SubworkerSettings(
        control_plane=[NOWHERE],
        token=token,
        label=LABEL,
        task_modules=options.task_modules,
        queues=(ALL_QUEUES,),
        concurrency=options.concurrency,
        threads=options.threads,
        async_runtime=default_runtime,
    )


async def _run_subworker(subworker: Subworker, *, task_status: trio.TaskStatus[None]) -> None:
    await subworker.run(task_status=task_status)
