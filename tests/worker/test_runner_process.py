"""Real child processes, which play a runner's part in a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from fastworker.wire.messages import Assign, Handback, Outcome, RunnerReady, RunnerStop
from fastworker.worker.runner_handle import RunnerGone
from fastworker.worker.runner_process import RunnerProcess, open_runner_process, runner_command
from fastworker.worker.subworker import Subworker
from tests.worker.builders import assign, settings
from tests.worker.fake_control_plane import FakeControlPlane

pytestmark = [pytest.mark.trio, pytest.mark.process]

SCRIPT = "tests.worker.runner_script"
PATIENCE_SECONDS = 20.0

open_script = partial(open_runner_process, settings(), module=SCRIPT)


def play(*payloads: bytes) -> Assign:
    message = assign(*range(1, len(payloads) + 1))
    message.payloads = list(payloads)
    return message


@asynccontextmanager
async def ready_runner() -> AsyncIterator[RunnerProcess]:
    with trio.fail_after(PATIENCE_SECONDS):
        async with open_script() as runner:
            [ready] = await runner.receive()
            assert isinstance(ready, RunnerReady)
            assert ready.pid == runner.pid
            yield runner


async def wait_gone(pid: int) -> None:
    """Until this process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with trio.fail_after(PATIENCE_SECONDS):
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


async def test_messages_go_there_and_come_back() -> None:
    async with ready_runner() as runner:
        runner.send(play(b"ok"))
        [message] = await runner.receive()
        assert isinstance(message, Outcome)
        assert list(message.values) == [b"ok"]


async def test_frames_larger_than_the_socket_buffers_pass() -> None:
    large = bytes(1_000_000)
    async with ready_runner() as runner:
        for _ in range(10):
            runner.send(play(large))
        seen = [message for _ in range(10) for message in await runner.receive()]
        assert [list(message.values) for message in seen if isinstance(message, Outcome)] == [
            [large]
        ] * 10


@pytest.mark.parametrize(("payload", "how"), [(b"die", "signal 9"), (b"exit", "exit 3")])
async def test_an_exit_is_named_and_comes_after_the_last_words(payload: bytes, how: str) -> None:
    async with ready_runner() as runner:
        runner.send(play(b"ok", payload))
        assert await runner.wait_exit() == how
        [message] = await runner.receive()
        assert isinstance(message, Outcome)
        with pytest.raises(RunnerGone):
            await runner.receive()
        assert await runner.wait_exit() == how


async def test_stop_is_an_orderly_exit() -> None:
    async with ready_runner() as runner:
        runner.send(RunnerStop())
        assert await runner.wait_exit() == "exit 0"


async def test_kill_reaches_what_the_runner_started() -> None:
    async with ready_runner() as runner:
        runner.send(play(b"spawn"))
        [message] = await runner.receive()
        assert isinstance(message, Outcome)
        grandchild = int(message.values[0] or b"")
        runner.kill()
        assert await runner.wait_exit() == "signal 9"
        await wait_gone(grandchild)


async def test_leaving_the_block_leaves_no_process() -> None:
    async with ready_runner() as runner:
        runner.send(play(b"hang"))
        pid = runner.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_runner_dies_with_a_subworker_that_was_killed() -> None:
    code = (
        "import trio\n"
        "from tests.worker.test_runner_process import open_script\n"
        "async def main():\n"
        "    async with open_script() as runner:\n"
        "        await runner.receive()\n"
        "        print(runner.pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", code]
    parent = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.receive_some(100))
    os.kill(pid, 0)
    parent.kill()
    await parent.wait()
    await parent.stdout.aclose()
    await wait_gone(pid)


async def test_a_subworker_survives_the_death_of_its_runner() -> None:
    control_plane = FakeControlPlane()
    subworker = Subworker(settings(), dial=control_plane.dial, open_runner=open_script)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subworker.run)
            session = await control_plane.next_session()
            await session.register()
            session.link.send(play(b"ok", b"hang", b"die"))
            assert list((await session.next(Outcome)).tokens) == [1]
            handback = await session.next(Handback)
            assert (list(handback.tokens), handback.detail) == ([2, 3], "signal 9")
            session.link.send(assign(4))
            assert list((await session.next(Outcome)).tokens) == [4]
            subworker.end(130)


async def test_the_command_names_everything_the_runner_needs() -> None:
    command = runner_command(settings(concurrency=7), data_fd=3, control_fd=4, board_fd=5)
    assert command[:3] == [sys.executable, "-m", "fastworker.runner"]
    assert {"--data-fd=3", "--control-fd=4", "--board-fd=5"} <= set(command)
    assert {"--concurrency=7", "--threads=1"} <= set(command)


async def test_an_unreaped_process_group_is_not_mistaken() -> None:
    async with ready_runner() as runner:
        assert os.getpgid(runner.pid) == runner.pid != os.getpgid(0)
        os.kill(runner.pid, signal.SIGKILL)
        assert await runner.wait_exit() == "signal 9"
        runner.kill()
