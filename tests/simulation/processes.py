"""The processes of a run: control planes, subworkers with their runners, clients.

Each is the real thing in the one Trio loop. To kill one is to cut its connections, take its disk
away and cancel it, in this order and at once: whatever it still does on its way out has no effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

import trio

from fastworker.client.ambient import StandIn, Transport, set_stand_in
from fastworker.client.client import Client
from fastworker.core.records import ALL_QUEUES
from fastworker.errors import StoreBroken
from fastworker.runner.assignment import Assignment
from fastworker.runner.board import Board
from fastworker.runner.reactor import Start
from fastworker.runner.service import RunnerService
from fastworker.runner.wiring import Routes
from fastworker.server.control_plane import run_control_plane
from fastworker.server.listener import Listener
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.store.thread import StoreThread
from fastworker.testing.runner import InProcessRunner
from fastworker.testing.starters import Starters, one_loop
from fastworker.transport.dial import open_link_over
from fastworker.transport.link import Link
from fastworker.wire.addresses import Address
from fastworker.wire.handshake import token_id_of
from fastworker.wire.messages import Welcome
from fastworker.worker.board import started_tokens
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import Subworker
from tests.simulation import tasks
from tests.simulation.disk import Handle, open_handle
from tests.simulation.inside import Inside
from tests.simulation.ledgers import RunnerPlace

if TYPE_CHECKING:
    from tests.simulation.world import World

LEASE_SECONDS: Final = 15.0
HEARTBEAT_SECONDS: Final = 5.0
DRAIN_SECONDS: Final = 4.0
TOKEN: Final = "sim." + "5" * 64
BOARD_CELLS: Final = 64
NOWHERE: Final = Address("simulated", 0)


class ControlPlane:
    """One process of the control plane, from start to death."""

    def __init__(self, world: World, number: int) -> None:
        self.name = f"cp{number}"
        self.plane: Plane | None = None
        self.ended = trio.Event()
        self._world = world
        self._listener: Listener | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._handles: list[Handle] = []

    @property
    def is_ready(self) -> bool:
        """Whether it listens."""
        return self._listener is not None and not self.ended.is_set()

    async def run(self) -> None:
        """Serve until it is killed, stopped, or ends itself because of its store."""
        settings = ControlPlaneSettings(
            base_address=None,
            discovery_address=None,
            durability="memory",
            tokens={token_id_of(TOKEN): TOKEN},
            local_worker="never",
            lease_seconds=LEASE_SECONDS,
            heartbeat_seconds=HEARTBEAT_SECONDS,
        )
        start = partial(
            run_control_plane,
            clock=self._world.clock.both,
            open_storage=self._open_storage,
            handle_signals=False,
        )
        with self._scope:
            try:
                async with trio.open_nursery() as self._nursery:
                    self.plane = await self._nursery.start(start, settings)
                    self._listener = Listener(self.plane)
                    self._world.record.note("process", f"{self.name} is ready")
            except* StoreBroken as broken:
                self._end(f"ends by itself: {broken.exceptions[0]!r:.60}")
        self._end("has stopped")

    @asynccontextmanager
    async def _open_storage(self, _: ControlPlaneSettings) -> AsyncIterator[StoreThread]:
        async with open_handle(self._world.disk, self._handles) as store:
            yield store

    def serve(self, peer: str) -> Any:
        """Accept a connection; the dialler's end of it.

        Raises:
            ConnectionRefusedError: it does not listen.
        """
        if not self.is_ready or self._listener is None or self._nursery is None:
            raise ConnectionRefusedError("simulated: nobody listens")
        wire = self._world.network.connect(peer, self.name)
        self._nursery.start_soon(self._listener.serve_frames, wire.far, wire.name)
        return wire.near

    def kill(self) -> None:
        """SIGKILL."""
        for handle in self._handles:
            handle.revoke()
        self._end("is killed")
        self._scope.cancel()

    def stop(self) -> None:
        """End between two turns, with the store closed well."""
        self._scope.cancel()

    def _end(self, how: str) -> None:
        if not self.ended.is_set():
            self._world.record.note("process", f"{self.name} {how}")
            self._world.network.cut_all()
            self.ended.set()


class SimulatedRunner(InProcessRunner):
    """An in-process runner with a board, as a process has one."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__(monotonic)
        self.cells = [0] * BOARD_CELLS
        self.place: RunnerPlace | None = None

    def kill(self) -> None:
        """See `RunnerHandle.kill`: whoever does it, nothing that runs there goes on."""
        if self.place is not None:
            self.place.bury()
        super().kill()

    def started_tokens(self) -> Collection[int] | None:
        """See `RunnerHandle.started_tokens`."""
        return started_tokens(self.cells)


class Worker:
    """One subworker process with its runners."""

    def __init__(self, world: World, name: str, *, concurrency: int, processes: int) -> None:
        self.name = name
        self.ended = trio.Event()
        self.runners: list[tuple[RunnerPlace, SimulatedRunner]] = []
        self.drained = False
        self._world = world
        self._scope = trio.CancelScope()
        self._made = 0
        self._settings = SubworkerSettings(
            control_plane=[NOWHERE],
            token=TOKEN,
            label=name.partition("#")[0],
            task_modules=(),
            queues=(ALL_QUEUES,),
            concurrency=concurrency,
            threads=1,
            processes=processes,
            async_runtime="trio",
            drain_seconds=DRAIN_SECONDS,
        )
        self._subworker = Subworker(
            self._settings,
            dial=self._dial,
            open_runner=self._open_runner,
            random=Random(world.random.getrandbits(64)),
        )

    async def run(self) -> None:
        """Run until it is killed or drained."""
        with self._scope:
            await self._subworker.run()
        self._world.record.note("process", f"{self.name} has ended")
        self.ended.set()

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        self._world.record.note("process", f"{self.name} is killed")
        for place, _ in self.runners:
            place.bury()
        self._world.network.cut_all(self.name)
        self.ended.set()
        self._scope.cancel()

    def drain(self) -> None:
        """SIGTERM."""
        self.drained = True
        self._world.record.note("process", f"{self.name} drains")
        self._subworker.drain_asked.set()

    def kill_runner(self) -> None:
        """SIGKILL to one runner."""
        living = [pair for pair in self.runners if pair[0].alive]
        if living:
            self._world.random.choice(living)[0].kill()

    def _kill_runner(self, place: RunnerPlace, runner: SimulatedRunner) -> None:
        self._world.record.note("process", f"{place} is killed")
        self._world.record.count("runner killed")
        place.bury()
        runner.kill()

    @asynccontextmanager
    async def _dial(self, address: Address) -> AsyncIterator[tuple[Link, Welcome]]:
        frames = self._world.connect(self.name)
        async with open_link_over(
            frames, name="simulated", role="subworker", token=TOKEN, agent="simulation"
        ) as link:
            yield link

    @asynccontextmanager
    async def _open_runner(self, **_: Any) -> AsyncIterator[SimulatedRunner]:
        self._made += 1
        place = RunnerPlace(self.name, self._made)
        runner = SimulatedRunner(self._world.clock.monotonic)
        runner.place = place
        place.kill = partial(self._kill_runner, place, runner)
        routes = Routes(
            {each.name: each for each in tasks.DEFINITIONS},
            "trio",
            board=runner.cells,
            random=Random(self._world.random.getrandbits(64)),
        )
        service = RunnerService(
            runner.channel,
            runner,
            slots=self._settings.slots,
            find_route=routes.find,
            on_relay=lambda message: inside.relays.take(message),
            board=Board(runner.cells),
            monotonic=self._world.clock.monotonic,
            wall=self._world.clock.wall,
        )
        inside = Inside(self._world, place, service)

        @asynccontextmanager
        async def starters(
            nursery: trio.Nursery, service: RunnerService
        ) -> AsyncIterator[Starters]:
            async with one_loop(nursery, service) as inner:
                started = {
                    runtime: self._placed(start, place, inside)
                    for runtime, start in inner.by_runtime.items()
                }
                yield replace(inner, by_runtime=started)

        async with trio.open_nursery() as nursery:
            await nursery.start(runner.host, service, routes, starters)
            self.runners.append((place, runner))
            try:
                yield runner
            finally:
                place.bury()
                self.runners.remove((place, runner))
                runner.kill()
                inside.close()

    def _placed(self, start: Start, place: RunnerPlace, inside: Inside) -> Start:
        """Tasks are started in a copy of this context, and look there for where they are."""

        def started(assignment: Assignment) -> None:
            where = tasks.place.set(place)
            what = tasks.effects.set(self._world.effects)
            how = tasks.submit_children.set(inside.submit_children)
            try:
                start(assignment)
            finally:
                tasks.submit_children.reset(how)
                tasks.place.reset(where)
                tasks.effects.reset(what)

        return started


class Application:
    """One process with a client."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.client = Client(submit_timeout=world.random.choice((2.0, 10.0, 30.0)))
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.calls: list[str] = []
        """Under way."""
        self._world = world
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Run what is started here, until it is killed."""
        set_stand_in(StandIn(NOWHERE, TOKEN, self._open_transport), self._world.clock.wall)
        await self.client.start()
        async with trio.open_nursery() as self._nursery:
            self.ready.set()
            await self.ended.wait()
            self._nursery.cancel_scope.cancel()

    def start(self, call: Callable[..., Awaitable[None]], world: World, *arguments: Any) -> None:
        """Start one thing that this application does."""
        if self._nursery is not None and not self.ended.is_set():
            self._nursery.start_soon(self._call, call, world, arguments)

    async def _call(
        self, call: Callable[..., Awaitable[None]], world: World, arguments: tuple[Any, ...]
    ) -> None:
        name = f"{call.__name__} {arguments[0]}"
        self.calls.append(name)
        try:
            await call(world, self, *arguments)
        except Exception as error:
            world.record.bugs.append(f"{self.name}: {name} raised {error!r}")
        finally:
            self.calls.remove(name)

    async def _open_transport(self) -> Transport:
        transport: Transport = self._world.connect(self.name)
        return transport

    def kill(self) -> None:
        """SIGKILL."""
        self._world.record.note("process", f"{self.name} is killed")
        self._world.network.cut_all(self.name)
        self.client.stop()
        self.ended.set()
