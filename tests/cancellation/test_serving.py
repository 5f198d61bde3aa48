"""Control plane, subworker and in-process cluster, cancelled while they start and serve."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from fastworker.client.ambient import stand_in, transport_opener
from fastworker.server.control_plane import run_control_plane
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.store.opening import open_store
from fastworker.testing import open_cluster
from fastworker.wire.addresses import parse_address
from fastworker.wire.handshake import token_id_of
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import run_subworker
from tests.cancellation import sample_tasks
from tests.cancellation.leftovers import (
    child_processes,
    open_descriptors,
    store_threads,
    trio_tasks,
    wait_none,
)
from tests.cancellation.stepping import moments, run_trio

pytestmark = pytest.mark.trio

TOKEN = "test." + "x" * 64

START_SECONDS = 30.0

COVERS = {"open_cluster", "run_control_plane", "run_subworker"}


def control_plane_settings(store: Path | None) -> ControlPlaneSettings:
    return ControlPlaneSettings(
        base_address="tcp://127.0.0.1:0",
        discovery_address="tcp://127.0.0.1:0",
        store=store,
        durability="memory" if store is None else "process",
        tokens={token_id_of(TOKEN): TOKEN},
        local_worker="never",
    )


class Surroundings:
    """What was there before; `check` that nothing has come to it."""

    def __init__(self) -> None:
        self._tasks = trio_tasks()
        self._descriptors = open_descriptors()
        self._children = set(child_processes())
        self._handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]

    async def check(self) -> None:
        await wait_none("tasks left", lambda: trio_tasks() - self._tasks)
        await wait_none("threads left", store_threads)
        assert not set(child_processes()) - self._children
        await wait_none("left open", lambda: open_descriptors() - self._descriptors)
        handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
        assert handlers == self._handlers


async def start_control_plane(settings: ControlPlaneSettings) -> bool:
    """Until it listens, and to its end."""
    async with trio.open_nursery() as nursery:
        run = partial(run_control_plane, handle_signals=False)
        plane: Plane = await nursery.start(run, settings)
        stream = await trio.open_tcp_stream("127.0.0.1", parse_address(plane.addresses[0]).port)
        await stream.aclose()
        nursery.cancel_scope.cancel()
    return True


async def test_control_plane_gives_back_what_it_took(tmp_path: Path, limit: int) -> None:
    settings = control_plane_settings(tmp_path / "store")
    total = (await run_trio(partial(start_control_plane, settings), None)).moments
    before = Surroundings()
    for moment in moments(total, limit // 3):
        with trio.fail_after(START_SECONDS):
            ran = await run_trio(partial(start_control_plane, settings), moment)
        await before.check()
        store = open_store(tmp_path / "store", "process")  # its lock is free
        store.close()
        if not ran.asked:
            break
    assert await start_control_plane(settings)


async def test_subworker_leaves_no_process(limit: int) -> None:
    async with trio.open_nursery() as nursery:
        run = partial(run_control_plane, handle_signals=False)
        plane: Plane = await nursery.start(run, control_plane_settings(None))
        settings = SubworkerSettings(
            control_plane=[parse_address(plane.addresses[0])],
            token=TOKEN,
            label="cancelled",
            task_modules=[sample_tasks.__name__],
        )
        await trio.testing.wait_all_tasks_blocked()
        before = Surroundings()
        for moment in doubling():
            with trio.fail_after(START_SECONDS):
                ran = await run_trio(partial(start_subworker, settings), moment)
            await wait_none("still connected", lambda: dict(plane.roster.subworkers))
            await before.check()
            if not ran.asked:
                break
        assert ran.answer is True
        nursery.cancel_scope.cancel()


def doubling() -> Iterator[int]:
    """Few moments: each start of a runner is one of an interpreter."""
    moment = 0
    while True:
        yield moment
        moment = max(1, 2 * moment)


async def start_subworker(settings: SubworkerSettings) -> bool:
    """Until a control plane has registered it, and to its end."""
    async with trio.open_nursery() as nursery:
        await nursery.start(run_subworker_to_its_end, settings)
        nursery.cancel_scope.cancel()
    return True


async def run_subworker_to_its_end(
    settings: SubworkerSettings, *, task_status: trio.TaskStatus[None]
) -> None:
    await run_subworker(settings, task_status=task_status)


async def use_cluster() -> int:
    async with open_cluster() as cluster, cluster.client() as client:
        handle = await client.submit(sample_tasks.note, "any")
        value: int = await handle.result(START_SECONDS)
        return value


async def test_cluster_of_a_test_can_be_opened_again(limit: int) -> None:
    total = (await run_trio(use_cluster, None)).moments
    before = Surroundings()
    for moment in moments(total, limit):
        ran = await run_trio(use_cluster, moment)
        await before.check()
        assert (stand_in(), transport_opener()) == (None, None)
        assert await use_cluster() == 1
        if not ran.asked:
            break
