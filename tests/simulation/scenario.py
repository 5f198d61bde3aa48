"""One run: load under faults, then peace, then judgement."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable
from typing import Final

import trio
from trio.testing import MockClock

from fastworker.client.ambient import set_job_context, set_stand_in
from fastworker.runner.context import current_lease, seconds_left
from tests.simulation import applications
from tests.simulation.determinism import one_seed
from tests.simulation.nemesis import Nemesis
from tests.simulation.oracle import violations
from tests.simulation.processes import Application
from tests.simulation.record import Record
from tests.simulation.world import World

DRAIN_SECONDS: Final = 2000.0
"""From the last fault to the end of the last job: the longest countdown, two leases, and every
long job once more on what slots there are."""

LEAVE_SHARE: Final = 0.3
"""Of runs: those at whose end a client leaves, and with it those of its jobs that it owns."""

SETTLE_SECONDS: Final = 1.0


def run_seed(seed: int) -> tuple[Record, list[str]]:
    """One run from start to end: what it left behind, and what was wrong."""
    clock = MockClock(autojump_threshold=0)
    record = Record()
    found: list[str] = []
    try:
        set_job_context(current_lease, seconds_left)
        with record.listening(), one_seed(seed, clock):
            trio.run(_run, seed, clock, record, found, clock=clock)
    except Exception as error:
        found.append("the run broke: " + "".join(traceback.format_exception(error)))
    finally:
        set_stand_in(None)
        set_job_context(None)
    return record, found


async def _run(seed: int, clock: MockClock, record: Record, found: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        world = World(seed, record, nursery)
        nursery.start_soon(world.keep_control_plane)
        for number in range(world.random.randint(1, 3)):
            nursery.start_soon(world.keep_worker, f"w{number}")
        numbers = itertools.count()
        async with trio.open_nursery() as load:
            seconds = world.random.uniform(5.0, 35.0)
            if world.random.random() < 0.6:
                await _pause(world, seconds)
            for number in range(2):
                load.start_soon(_use, world, f"c{number}", seconds, numbers.__next__)
            await Nemesis(world, clock).rage(seconds)
        if world.applications and world.random.random() < LEAVE_SHARE:
            world.random.choice(world.applications).kill()
        world.heal()
        with trio.move_on_after(DRAIN_SECONDS):
            await world.wait_quiet()
            # Memory follows the store a moment later.
            await trio.sleep(SETTLE_SECONDS)
        found += violations(world)
        for application in (*world.applications, *world.operators):
            application.kill()
        nursery.cancel_scope.cancel()


async def _pause(world: World, seconds: float) -> None:
    """Somebody who pauses a queue, in an application that nobody kills."""
    operator = Application(world, "operator")
    world.nursery.start_soon(operator.run)
    await operator.ready.wait()
    world.operators.append(operator)
    operator.start(applications.pause_queues, world, trio.current_time() + seconds)


async def _use(world: World, name: str, seconds: float, next_number: Callable[[], int]) -> None:
    """One application after another under this name, each going on where the last one died."""
    left = world.random.randint(*applications.JOBS)
    ends_at = trio.current_time() + seconds
    mean = seconds / left
    for life in itertools.count(1):
        application = Application(world, f"{name}#{life}")
        world.applications.append(application)
        world.nursery.start_soon(application.run)
        await application.ready.wait()
        for entry in world.entries:
            if entry.owner == name and entry.state == "intent" and not entry.tried_ids:
                application.start(applications.resubmit, world, entry)
        while not application.ended.is_set():
            if left <= 0 or trio.current_time() > ends_at:
                return
            left -= _begin(world, application, name, next_number)
            with trio.move_on_after(world.random.expovariate(1 / mean)):
                await application.ended.wait()
        world.applications.remove(application)


def _begin(
    world: World, application: Application, name: str, next_number: Callable[[], int]
) -> int:
    """Start something in an application; returns how many jobs that takes."""
    if world.random.random() < 0.1:
        count = world.random.randint(*applications.GROUP_JOBS)
        entries = [applications.intend(world, name, next_number()) for _ in range(count)]
        application.start(applications.submit_group, world, entries)
        return count
    entry = applications.intend(world, name, next_number())
    keyed = world.random.random() < 0.15
    how = applications.submit_keyed if keyed else applications.submit_one
    application.start(how, world, entry)
    return 1
