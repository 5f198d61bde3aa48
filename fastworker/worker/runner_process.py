"""A runner as a child process, in a session of its own, on two socketpairs.

Frames on both channels: a 4-byte big-endian length and as many bytes. That the control channel
ends tells the runner that its subworker is gone, however that happened, and the runner then ends
its own process group; what else it carries is in `fastworker.worker.control`.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from fastworker.errors import ProtocolError
from fastworker.wire.codec import MAX_FRAME_BYTES, decode, encode
from fastworker.wire.messages import Assign, LoopBlocked, Message, Relay, Stacks
from fastworker.worker.board import open_board, read_board, seconds_running
from fastworker.worker.control import ControlChannel, texts_of
from fastworker.worker.runner_handle import RunnerGone
from fastworker.worker.settings import SubworkerSettings

RECEIVE_BYTES: Final = 262_144
"""One read takes all that a busy runner says in a turn."""

FRAME_MESSAGES: Final = 512
"""Enough that a frame's fixed cost vanishes."""

FRAME_WEIGHT_BYTES: Final = 4 * 1024 * 1024
"""A frame is sent before it passes this: with one message more it is far below the limit."""

REAP_SECONDS: Final = 5.0
"""After SIGKILL only the kernel is still at work."""

RUNNER_MODULE: Final = "fastworker.runner"

_LENGTH_BYTES: Final = 4


class RunnerProcess:
    """`RunnerHandle` of a child process; made by `open_runner_process`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        data: trio.SocketStream,
        control: ControlChannel,
        board: mmap.mmap,
    ) -> None:
        self._process = process
        self._data = data
        self._control = control
        self._board = board
        self._outbox: list[Message] = []
        self._unsent = b""
        """The rest of a frame that the channel had no room for."""
        self._writing = False
        self._waiting = trio.Event()
        self._received = bytearray()
        self._exit_lock = trio.Lock()

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group and session."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message at once if the channel has room, else with the frames that wait."""
        self._outbox.append(message)
        if not self._writing and not self._unsent:
            self._write_now()
        if self._unsent or self._outbox:
            self._waiting.set()

    async def receive(self) -> list[Message]:
        """The messages of the next frame. Raises as `RunnerHandle.receive` says."""
        while (frame := self._next_frame()) is None:
            try:
                data = await self._data.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise RunnerGone(f"runner {self.pid} has closed its channel") from error
            if not data:
                raise RunnerGone(f"runner {self.pid} has closed its channel")
            self._received += data
        return decode(frame)

    async def wait_exit(self) -> str:
        """Wait for the end and reap it. Raises nothing; cancelling leaves the process as it is."""
        async with self._exit_lock:
            if self._process.returncode is None:
                await _wait_exited(self.pid)
                # Not reaped yet, so the number is still its own: this reaches what it left behind.
                self.kill()
                self._process.wait()
        code = self._process.returncode
        return f"signal {-code}" if code < 0 else f"exit {code}"

    def started_tokens(self) -> Collection[int] | None:
        """See `RunnerHandle.started_tokens`."""
        return read_board(self._board)

    def running_for(self, token: int) -> float | None:
        """See `RunnerHandle.running_for`."""
        return seconds_running(self._board, token, now=time.monotonic())

    async def inspect(self, tokens: Collection[int] | None, *, with_stacks: bool) -> Stacks | None:
        """See `RunnerHandle.inspect`."""
        return await self._control.ask(tokens, with_stacks=with_stacks)

    async def stacks(self, tokens: Collection[int]) -> dict[int, str]:
        """See `RunnerHandle.stacks`."""
        answer = await self._control.ask(tokens, with_stacks=True)
        return texts_of(tokens, answer, pid=self.pid)

    async def wait_blocked(self) -> LoopBlocked:
        """See `RunnerHandle.wait_blocked`."""
        return await self._control.wait_blocked()

    def kill(self) -> None:
        """SIGKILL its process group."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def write_forever(self) -> None:
        """Send what is queued, until cancelled or until the runner is gone."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self._waiting.wait()
                self._waiting = trio.Event()
                self._writing = True
                while self._unsent or self._outbox:
                    data, self._unsent = self._unsent or self._framed_batch(), b""
                    await self._data.send_all(data)
                self._writing = False

    def _write_now(self) -> None:
        """Without the turns of the loop that the writer takes; it does what is left over."""
        data = self._framed_batch()
        try:
            sent = os.write(self._data.socket.fileno(), data)
        except OSError:
            # Full, or gone, which the writer finds out, too.
            sent = 0
        self._unsent = data[sent:]

    def _framed_batch(self) -> bytes:
        frame = encode(self._next_batch())
        return len(frame).to_bytes(_LENGTH_BYTES, "big") + frame

    def _next_batch(self) -> list[Message]:
        count = weight = 0
        for message in self._outbox[:FRAME_MESSAGES]:
            weight += _weight_bytes(message)
            if count and weight > FRAME_WEIGHT_BYTES:
                break
            count += 1
        batch = self._outbox[:count]
        del self._outbox[:count]
        return batch

    def _next_frame(self) -> bytes | None:
        received = self._received
        length = int.from_bytes(received[:_LENGTH_BYTES], "big")
        if len(received) < _LENGTH_BYTES:
            return None
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"runner {self.pid} sent a frame of {length} bytes")
        end = _LENGTH_BYTES + length
        if len(received) < end:
            return None
        frame = bytes(received[_LENGTH_BYTES:end])
        del received[:end]
        return frame


def _weight_bytes(message: Message) -> int:
    match message:
        case Assign():
            checkpoints = message.checkpoints or ()
            return sum(map(len, message.payloads)) + sum(len(one or b"") for one in checkpoints)
        case Relay():
            return len(message.frame)
    return 0


async def _wait_exited(pid: int) -> None:
    """Wait for the end of a child without reaping it."""
    if not hasattr(os, "pidfd_open"):
        # A platform without process descriptors: a thread waits.
        await trio.to_thread.run_sync(
            os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT, abandon_on_cancel=True
        )
        return
    descriptor = os.pidfd_open(pid)
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def runner_command(
    settings: SubworkerSettings,
    *,
    data_fd: int,
    control_fd: int,
    board_fd: int,
    module: str = RUNNER_MODULE,
) -> list[str]:
    """How a runner is started: all it knows comes from here, nothing from the environment."""
    # Two changes within a second leave compiled code that looks up to date and is not.
    unwritten = ["-B"] if settings.reload else []
    return [
        sys.executable,
        *unwritten,
        "-m",
        module,
        f"--data-fd={data_fd}",
        f"--control-fd={control_fd}",
        f"--board-fd={board_fd}",
        f"--concurrency={settings.concurrency}",
        f"--threads={settings.threads}",
        f"--async-runtime={settings.async_runtime}",
        f"--task-modules={','.join(settings.task_modules)}",
        f"--tags={','.join(settings.tags)}",
        f"--label={settings.label}",
        f"--log-level={settings.log_level}",
        f"--log-format={settings.log_format}",
        *([] if settings.collect_logs else ["--no-collect-logs"]),
    ]


def _spawn(command: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, pass_fds=descriptors, start_new_session=True
    )


@asynccontextmanager
async def open_runner_process(
    settings: SubworkerSettings, *, module: str = RUNNER_MODULE
) -> AsyncIterator[RunnerProcess]:
    """Start a runner; leaving the block kills and reaps it and closes both channels.

    Raises:
        OSError: the process cannot be started.
    """
    data, its_data = socket.socketpair()
    control, its_control = socket.socketpair()
    with its_control, its_data, open_board() as (board, its_board):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(data))
        async with stream, ControlChannel(control) as channel:
            descriptors = (its_data.fileno(), its_control.fileno(), its_board)
            command = runner_command(
                settings,
                data_fd=descriptors[0],
                control_fd=descriptors[1],
                board_fd=its_board,
                module=module,
            )
            process = await trio.to_thread.run_sync(_spawn, command, descriptors)
            its_data.close()
            its_control.close()
            runner = RunnerProcess(process, stream, channel, board)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(runner.write_forever)
                    nursery.start_soon(channel.read_forever)
                    yield runner
                    nursery.cancel_scope.cancel()
            finally:
                runner.kill()
                with trio.move_on_after(REAP_SECONDS, shield=True):
                    await runner.wait_exit()
