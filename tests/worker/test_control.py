"""What real runners say of their jobs over the control channel, whatever their loops do."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fastworker.core.records import PROCESS_POOL
from fastworker.wire.messages import Outcome, RunnerReady, Started
from fastworker.worker.runner_process import RunnerProcess, open_runner_process
from tests.worker.builders import ASYNC, THREAD, call, ids, settings
from tests.worker.sample_blocking import hold_interpreter_now

pytestmark = [pytest.mark.trio, pytest.mark.process, pytest.mark.slow]

PATIENCE_SECONDS = 30.0
SETTINGS = dataclasses.replace(settings(), task_modules=["tests.worker.sample_blocking"])


@asynccontextmanager
async def ready_runner(runtime: str = "asyncio") -> AsyncIterator[RunnerProcess]:
    chosen = dataclasses.replace(SETTINGS, async_runtime=runtime)
    with trio.fail_after(PATIENCE_SECONDS):
        async with open_runner_process(chosen) as runner:
            [ready] = await runner.receive()
            assert isinstance(ready, RunnerReady)
            yield runner


async def run(runner: RunnerProcess, task: str, *args: object, pool: int = ASYNC) -> None:
    """Start job 1 and wait until it has run for a while."""
    runner.send(call(1, task, *args, pool=pool))
    while not any(isinstance(message, Started) for message in await runner.receive()):
        pass


@pytest.mark.parametrize(
    ("runtime", "task", "lines"),
    [
        ("asyncio", "await_deep", ["in await_deep", "in _deep", "# the innermost line"]),
        ("asyncio", "await_generator", ["in await_generator", "in _numbers", "# inside a gen"]),
        ("asyncio", "await_group", ["in await_group", "task first child:", "task second child:"]),
        ("asyncio", "await_gather", ["in await_gather", "# the innermost line"]),
        ("trio", "await_trio", ["in await_trio", "_trio_child:", "# in a child of a nursery"]),
        ("asyncio", "await_trio", ["in await_trio", "_trio_child:", "# in a child of a nursery"]),
    ],
)
async def test_the_stack_of_an_awaiting_job_ends_where_it_waits(
    runtime: str, task: str, lines: list[str]
) -> None:
    kind = "trio" if task == "await_trio" else "asyncio"
    async with ready_runner(runtime) as runner:
        await run(runner, task)
        answer = await runner.inspect(None, with_stacks=True)
        assert answer is not None
        [[token, found, waits, start, stack]] = answer.rows
        assert (token, found, waits) == (1, kind, 0)
        assert isinstance(start, float)
        for line in lines:
            assert line in str(stack)
        assert "fastworker/runner" not in str(stack)


async def test_a_task_with_a_process_of_its_own_is_told_apart() -> None:
    async with ready_runner() as runner:
        await run(runner, "sleep_in_process", pool=PROCESS_POOL)
        answer = await runner.inspect(None, with_stacks=True)
        assert answer is not None
        [[_, kind, _, _, stack]] = answer.rows
        assert kind == "process"
        assert "# in a process" in str(stack)


async def test_the_stack_of_a_thread_is_that_of_its_job() -> None:
    async with ready_runner() as runner:
        await run(runner, "sleep_in_thread", pool=THREAD)
        stacks = await runner.stacks([1, 2])
        assert "in sleep_in_thread" in stacks[1]
        assert "# in a thread" in stacks[1]
        assert stacks[2] == "it does not run (any more)"


@pytest.mark.parametrize(("runtime", "task"), [("asyncio", "block_loop"), ("trio", "block_trio")])
async def test_a_blocked_loop_does_not_keep_the_stack_back(runtime: str, task: str) -> None:
    async with ready_runner(runtime) as runner:
        runner.send(call(1, task, 60.0))
        stacks = {1: ""}
        while "# blocks the loop" not in stacks[1]:
            stacks = await runner.stacks([1])


async def test_without_stacks_only_the_rows_come() -> None:
    async with ready_runner() as runner:
        await run(runner, "await_deep")
        answer = await runner.inspect([1, 7], with_stacks=False)
        assert answer is not None
        assert [row[0] for row in answer.rows] == [1]
        assert answer.rows[0][-1] == ""


async def test_an_interpreter_that_is_held_is_said_to_be() -> None:
    async with ready_runner() as runner:
        runner.send(call(1, "hold_interpreter", 40))
        await trio.sleep(1.0)
        stacks = await runner.stacks([1])
        assert f"the interpreter of process {runner.pid} has not answered" in stacks[1]


async def test_questions_to_a_runner_that_is_gone_are_answered_at_once() -> None:
    async with ready_runner() as runner:
        runner.kill()
        await runner.wait_exit()
        assert await runner.inspect(None, with_stacks=True) is None


@pytest.mark.parametrize(
    ("runtime", "task"),
    [
        ("asyncio", "block_loop"),
        ("trio", "block_trio"),
        ("asyncio", "block_trio"),
        ("asyncio", "block_in_group"),
        ("trio", "block_in_nursery"),
    ],
)
async def test_a_loop_that_does_not_turn_is_reported_with_its_job(runtime: str, task: str) -> None:
    async with ready_runner(runtime) as runner:
        runner.send(call(1, task, 1.6))
        began = trio.current_time()
        report = await runner.wait_blocked()
        assert trio.current_time() - began < 1.5
        assert 0.5 <= report.seconds < 1.5
        assert (report.token, report.id, report.task) == (1, ids([1]), task)
        assert "# blocks" in report.stack
        assert report.place.rpartition(":")[0].endswith("sample_blocking.py")
        ended = await runner.wait_blocked()
        assert ended.ended
        assert (ended.token, ended.stack) == (1, "")
        assert 1.0 < ended.seconds < 2.5


def letters_for(seconds: float) -> int:
    """So many keep the interpreter for about so long here."""
    for letters in range(18, 60):
        began = time.perf_counter()
        hold_interpreter_now(letters)
        took = time.perf_counter() - began
        if took > seconds / 8:
            return letters + 3
    raise AssertionError("this machine is too fast")


async def test_a_loop_whose_interpreter_was_held_is_reported_afterwards() -> None:
    letters = letters_for(2.0)
    report = None
    async with ready_runner() as runner:
        await run(runner, "await_deep")
        while report is None:  # how fast this machine is just now is a guess
            runner.send(call(letters, "hold_interpreter", letters))
            while not any(isinstance(message, Outcome) for message in await runner.receive()):
                pass
            with trio.move_on_after(1.0):
                report = await runner.wait_blocked()
            letters += 1
        assert report.task == "hold_interpreter"
        assert "# C code that keeps the interpreter" in report.stack


async def test_a_loop_that_turns_is_not_reported() -> None:
    async with ready_runner() as runner:
        await run(runner, "await_deep")
        runner.send(call(2, "sleep_in_thread", 1.2, pool=THREAD))
        with trio.move_on_after(1.5):
            pytest.fail(str(await runner.wait_blocked()))


def switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep so far."""
    found = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        line = status.read_text().split("\nvoluntary_ctxt_switches:")[1]
        found += int(line.split()[0])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc tells")
@pytest.mark.parametrize(
    ("task", "at_most"), [(None, 0), ("sleep_in_thread", 0), ("await_deep", 12)]
)
async def test_a_runner_that_has_nothing_to_watch_does_not_wake_up(
    task: str | None, at_most: int
) -> None:
    async with ready_runner() as runner:
        if task is not None:
            await run(runner, task, pool=ASYNC if task == "await_deep" else THREAD)
        await trio.sleep(1.0)  # what it began is over
        before = switches(runner.pid)
        await trio.sleep(1.0)
        assert switches(runner.pid) - before <= at_most
