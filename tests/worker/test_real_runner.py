"""The subworker with the real runner: that the two speak the same language."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from fastworker.wire.messages import (
    Bye,
    Capacity,
    Handback,
    Outcome,
    OutcomeAck,
    Register,
    Started,
)
from fastworker.wire.values import open_value
from fastworker.worker.runner_process import open_runner_process
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import Subworker
from tests.worker.builders import ASYNC, SUCCESS, THREAD, call, settings
from tests.worker.fake_control_plane import FakeControlPlane, Session

pytestmark = [pytest.mark.trio, pytest.mark.process]

PATIENCE_SECONDS = 30.0
SETTINGS = dataclasses.replace(settings(), task_modules=["tests.worker.sample_tasks"])


class Stage:
    def __init__(self, chosen: SubworkerSettings) -> None:
        self.control_plane = FakeControlPlane()
        self.subworker = Subworker(
            chosen,
            dial=self.control_plane.dial,
            open_runner=partial(open_runner_process, chosen),
        )
        self.exit_code: int | None = None
        self.ended = trio.Event()

    async def run(self) -> None:
        self.exit_code = await self.subworker.run()
        self.ended.set()

    async def connect(self) -> tuple[Session, Register]:
        session = await self.control_plane.next_session()
        return session, await session.register()


@asynccontextmanager
async def on_stage(chosen: SubworkerSettings = SETTINGS) -> AsyncIterator[Stage]:
    stage = Stage(chosen)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            yield stage
            nursery.cancel_scope.cancel()


async def test_a_job_runs() -> None:
    async with on_stage() as stage:
        session, register = await stage.connect()
        assert {row[0] for row in register.tasks} >= {"add", "wait_for_ever", "die"}
        session.link.send(call(1, "add", 2, 3))
        told = await session.next(Outcome)
        assert (list(told.tokens), told.statuses) == ([1], bytes([SUCCESS]))
        assert told.values[0] is not None
        assert open_value(told.values[0]) == 5


async def test_a_task_that_kills_its_process_costs_only_that_runner() -> None:
    async with on_stage() as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "wait_for_ever"))
        session.link.send(call(2, "die", pool=THREAD))
        handback = await session.next(Handback)
        assert sorted(handback.tokens) == [1, 2]
        assert (handback.reason, handback.detail) == ("runner_died", "signal 9")
        session.link.send(call(3, "add", 1, 1))
        assert list((await session.next(Outcome)).tokens) == [3]


async def test_only_what_had_started_in_a_dead_runner_is_suspected() -> None:
    async with on_stage(dataclasses.replace(SETTINGS, concurrency=2)) as stage:
        session, _ = await stage.connect()
        for token in (1, 2, 3, 4):
            session.link.send(call(token, "wait_for_ever"))
        session.link.send(call(5, "add", 1, 1, pool=ASYNC))
        begun: list[int] = []
        while len(begun) < 2:
            begun += (await session.next(Started)).tokens
        assert sorted(begun) == [1, 2]
        session.link.send(call(6, "die", pool=THREAD))
        handback = await session.next(Handback)
        started = dict(zip(handback.tokens, handback.started, strict=True))
        assert {token: started.get(token, 0) for token in range(1, 7)} == {
            **{1: 1, 2: 1, 6: 1},
            **{3: 0, 4: 0, 5: 0},
        }


async def test_a_suspect_dies_alone_and_disturbs_nobody() -> None:
    async with on_stage() as stage:
        session, _ = await stage.connect()
        session.link.send(call(1, "wait_for_ever"))
        assert list((await session.next(Started)).tokens) == [1]
        for token in (2, 3):
            suspect = call(token, "die", pool=THREAD)
            suspect.alone = [0]
            session.link.send(suspect)
            handback = await session.next(Handback)
            assert (list(handback.tokens), handback.started) == ([token], b"\1")
            assert (handback.reason, handback.detail) == ("runner_died", "signal 9")
        session.link.send(call(4, "add", 1, 1))
        assert list((await session.next(Outcome)).tokens) == [4]


async def test_drain_lets_the_runner_exit_by_itself() -> None:
    async with on_stage() as stage:
        session, _ = await stage.connect()
        await session.next(Capacity)
        session.link.send(call(1, "add", 1, 1))
        await session.next(Outcome)
        session.link.send(OutcomeAck(tokens=[1]))
        stage.subworker.drain_asked.set()
        await session.next(Bye)
        await stage.ended.wait()
        assert stage.exit_code == 0


async def test_drain_hands_back_what_the_runner_had_not_started() -> None:
    chosen = dataclasses.replace(SETTINGS, concurrency=1, drain_seconds=0.5)
    async with on_stage(chosen) as stage:
        session, _ = await stage.connect()
        for token in (1, 2, 3):
            session.link.send(call(token, "wait_for_ever"))
        assert list((await session.next(Started)).tokens) == [1]
        stage.subworker.drain_asked.set()
        started: dict[int, int] = {}
        while len(started) < 3:
            handback = await session.next(Handback)
            started.update(zip(handback.tokens, handback.started, strict=True))
        assert started == {1: 1, 2: 0, 3: 0}


async def test_a_module_that_does_not_exist_ends_with_2(caplog: pytest.LogCaptureFixture) -> None:
    async with on_stage(dataclasses.replace(SETTINGS, task_modules=["no_such_module"])) as stage:
        await stage.ended.wait()
        assert stage.exit_code == 2
        assert "no_such_module" in caplog.text
