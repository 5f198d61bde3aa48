"""What goes wrong. Each run has its own mix of faults, so that some of them meet often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
from trio.testing import MockClock

from tests.simulation.world import World

LONG_SILENCE_SECONDS: Final = (0.5, 40.0)
"""From a hiccup to well over two leases."""

ISOLATION_SECONDS: Final = ((5.0, 35.0), (12.5, 15.5), (15.5, 20.0))
"""Any; around the end of a lease, when nobody knows whether it stands; shortly after."""

ABSENCE_SECONDS: Final = (1.0, 25.0)

LONELY_SHARE: Final = 0.2
"""Of runs: those in which nothing happens but that subworkers are cut off and come back."""


class Nemesis:
    """Injects faults, one at a time, for as long as it runs."""

    def __init__(self, world: World, clock: MockClock) -> None:
        self._world = world
        self._random = world.random
        self._clock = clock
        faults: dict[Callable[[], None], float] = {
            self._kill_control_plane: 2,
            self._stop_control_plane: 1,
            self._crash_at_commit: 2,
            self._crash_and_fill: 1,
            self._break_store: 2,
            self._slow_disk: 1,
            self._full_disk: 1,
            self._kill_worker: 2,
            self._drain_worker: 1,
            self._kill_runner: 2,
            self._cut: 3,
            self._silence: 2,
            self._isolate: 4,
            self._slow_network: 1,
            self._pause_everything: 1,
            self._kill_application: 2,
            self._hide_application: 2,
        }
        # A third of the faults never meet in this run; the others are more or less frequent.
        self._faults = {
            fault: weight * self._random.random()
            for fault, weight in faults.items()
            if self._random.random() < 0.67
        } or {self._cut: 1.0}
        if self._random.random() < LONELY_SHARE:
            self._faults = {self._isolate: 1.0}
        self._mean_seconds = self._random.choice((0.7, 2.0, 5.0))

    async def rage(self, seconds: float) -> None:
        """Inject faults for so long."""
        world = self._world
        world.network.cut_share = self._random.choice((0.0, 0.0, 0.3))
        world.disk.cascade_crash_share = self._random.choice((0.0, 0.5))
        world.network.replays = self._random.random() < 0.4
        ends_at = trio.current_time() + seconds
        while trio.current_time() < ends_at:
            await trio.sleep(min(self._random.expovariate(1 / self._mean_seconds), seconds))
            fault = self._random.choices(list(self._faults), list(self._faults.values()))[0]
            world.record.note("fault", fault.__name__.strip("_").replace("_", " "))
            fault()

    def _until(self, low: float, high: float) -> float:
        return trio.current_time() + self._random.uniform(low, high)

    def _downtime(self) -> tuple[float, float]:
        return self._random.choice(((0.05, 2.0), (0.05, 2.0), (10.0, 25.0)))

    def _kill_control_plane(self) -> None:
        self._world.downtime = self._downtime()
        self._world.control_plane.kill()

    def _stop_control_plane(self) -> None:
        self._world.downtime = self._downtime()
        self._world.control_plane.stop()

    def _crash_at_commit(self) -> None:
        self._world.disk.next_commit = self._random.choice(("crash before", "crash after"))

    def _crash_and_fill(self) -> None:
        """What was stored without an answer is sent again when there is no room for anything."""
        self._world.downtime = (0.05, 0.5)
        self._world.disk.next_commit = "crash after"
        self._world.disk.full_after_crash = self._random.uniform(2.0, 15.0)

    def _break_store(self) -> None:
        self._world.disk.next_commit = self._random.choice(("break before", "break after"))

    def _slow_disk(self) -> None:
        self._world.disk.slow_until = self._until(1, 10)

    def _full_disk(self) -> None:
        self._world.disk.full_until = self._until(1, 15)
        self._world.disk.reserve = self._random.random() < 0.5

    def _kill_worker(self) -> None:
        if self._world.workers:
            self._world.record.count("subworker killed")
            self._random.choice(self._world.workers).kill()

    def _drain_worker(self) -> None:
        if self._world.workers:
            self._world.record.count("subworker drained")
            self._random.choice(self._world.workers).drain()

    def _kill_runner(self) -> None:
        if self._world.workers:
            self._random.choice(self._world.workers).kill_runner()

    def _cut(self) -> None:
        if wires := self._world.network.standing():
            self._random.choice(wires).cut()

    def _silence(self) -> None:
        """A connection over which nothing arrives for a while, one way or both: the network, or a
        process that is stopped and goes on later."""
        if wires := self._world.network.standing():
            up, down = self._random.choice(((True, True), (True, False), (False, True)))
            until = self._until(*LONG_SILENCE_SECONDS)
            self._random.choice(wires).hold(until, up=up, down=down)
            self._world.record.count("silence")

    def _isolate(self) -> None:
        """A subworker is cut off, or stopped, and comes back when others may have its jobs."""
        network, now = self._world.network, trio.current_time()
        there = [one.name for one in self._world.workers if network.away.get(one.name, 0.0) < now]
        if there:
            seconds = self._random.choice(ISOLATION_SECONDS)
            network.isolate(self._random.choice(there), self._until(*seconds))
            self._world.record.count("subworker isolated")

    def _slow_network(self) -> None:
        self._world.network.slow_until = self._until(1, 15)

    def _pause_everything(self) -> None:
        """The machine stands still; when it goes on, everybody's time has passed at once."""
        self._world.record.count("everything paused")
        self._clock.jump(self._random.uniform(*LONG_SILENCE_SECONDS))

    def _hide_application(self) -> None:
        """A client is away, for longer or shorter than its jobs go on without it."""
        if self._world.applications:
            self._world.record.count("client away")
            application = self._random.choice(self._world.applications)
            self._world.hide(application.name, self._until(*ABSENCE_SECONDS))

    def _kill_application(self) -> None:
        if self._world.applications:
            self._world.record.count("client killed")
            self._random.choice(self._world.applications).kill()
