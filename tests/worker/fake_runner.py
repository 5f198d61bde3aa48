"""Runners without processes, which do what the test says."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from fastworker.wire.messages import LoopBlocked, Message, RunnerReady, Stacks
from fastworker.worker.control import texts_of
from fastworker.worker.runner_handle import RunnerGone

_M = TypeVar("_M", bound=Message)


class FakeRunner:
    """A `RunnerHandle`, and the runner behind it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.killed = False
        self.started: frozenset[int] | None = None
        """Tokens on its board."""
        self.says_of_jobs: Stacks | None = None
        """Its answer to `inspect`; None: it is silent."""
        self.blocked, self._blocked = trio.open_memory_channel[LoopBlocked](math.inf)
        self._ended = trio.Event()
        self._how = ""
        self._told_send, self._told = trio.open_memory_channel[Message](math.inf)
        self._said_send, self._said = trio.open_memory_channel[list[Message]](math.inf)

    # What the subworker sees.

    def send(self, message: Message) -> None:
        self._told_send.send_nowait(message)

    async def receive(self) -> list[Message]:
        try:
            return await self._said.receive()
        except trio.EndOfChannel as error:
            raise RunnerGone("gone") from error

    async def wait_exit(self) -> str:
        await self._ended.wait()
        return self._how

    def started_tokens(self) -> frozenset[int] | None:
        return self.started

    def running_for(self, token: int) -> float | None:
        return None

    async def inspect(self, tokens: Collection[int] | None, *, with_stacks: bool) -> Stacks | None:
        return self.says_of_jobs

    async def stacks(self, tokens: Collection[int]) -> dict[int, str]:
        return texts_of(tokens, self.says_of_jobs, pid=self.pid)

    async def wait_blocked(self) -> LoopBlocked:
        return await self._blocked.receive()

    def kill(self) -> None:
        if not self._ended.is_set():
            self.killed = True
            self.exit("signal 9")

    # What the test does.

    def say(self, *messages: Message) -> None:
        """Tell the subworker something, in one frame."""
        self._said_send.send_nowait(list(messages))

    async def told(self, kind: type[_M]) -> _M:
        """The next message of this kind from the subworker; others before it are dropped."""
        while True:
            message = await self._told.receive()
            if isinstance(message, kind):
                return message

    def exit(self, how: str) -> None:
        """End; what was said before can still be heard."""
        self._how = how
        self._said_send.close()
        self._ended.set()


class FakeRunners:
    """Hand `open` to the subworker; take what it starts with `next`."""

    def __init__(self) -> None:
        self.started = 0
        self.says_first: Message | None = None
        self.is_slow = False
        """Those that are started from now on say nothing."""
        self._send, self._runners = trio.open_memory_channel[FakeRunner](math.inf)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeRunner]:
        self.started += 1
        runner = FakeRunner(pid=1000 + self.started)
        ready = RunnerReady(pid=runner.pid, tasks=[["add", 0, "(x, y)"]])
        if not self.is_slow:
            runner.say(self.says_first or ready)
        self._send.send_nowait(runner)
        try:
            yield runner
        finally:
            runner.kill()

    async def next(self) -> FakeRunner:
        return await self._runners.receive()
