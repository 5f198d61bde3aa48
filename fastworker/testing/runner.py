"""A runner in the process of the test: the real one but for its process and its socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from fastworker.client import current
from fastworker.client.ambient import set_job_context, set_transport_opener, set_wait_hooks
from fastworker.runner.ambient import Relays, serve_clients
from fastworker.runner.service import RunnerService
from fastworker.runner.wiring import Routes
from fastworker.tasks import Runtime, TaskDefinition
from fastworker.testing.clock import ClusterClock
from fastworker.testing.options import ClusterOptions
from fastworker.testing.starters import OpenStarters
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import Message, RunnerReady
from fastworker.worker.runner_handle import RunnerGone

MAX_UNREAD_FRAMES: Final = 100_000
"""Of what a runner says: its jobs are bounded, so only a subworker that stands still gets here."""


class MemoryChannel:
    """What `fastworker.runner.channel.Channel` is to a runner, without a socket."""

    unsent_bytes = 0

    def __init__(self, say: Callable[[bytes], None]) -> None:
        self._say = say
        self._arrived: list[bytes] = []

    def put(self, frame: bytes) -> None:
        """A frame of the subworker has arrived."""
        self._arrived.append(frame)

    def receive(self) -> list[bytes]:
        """The frames that have arrived."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._say(frame)

    def send_more(self) -> None:
        """Nothing is ever kept back."""


class InProcessRunner:
    """A `RunnerHandle`, and the `Reactor` of the runner behind it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._say, self._said = trio.open_memory_channel[bytes](MAX_UNREAD_FRAMES)
        self._attempts: trio.Nursery | None = None
        self._on_readable: Callable[[], None] | None = None
        self._killed = False
        self._ended = trio.Event()
        self.channel = MemoryChannel(self._take_frame)

    async def host(
        self,
        service: RunnerService,
        routes: Routes,
        open_starters: OpenStarters,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Run attempts until `stop` or `kill`; what then still runs is cancelled."""
        try:
            async with (
                trio.open_nursery() as self._attempts,
                open_starters(self._attempts, service) as starters,
            ):
                routes.use(starters.by_runtime, starters.function)
                self._on_readable = service.on_readable
                service.tell(RunnerReady(pid=self.pid, tasks=routes.rows()))
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._say.close()
            self._ended.set()

    # --- what the subworker sees --------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process of the test."""
        return os.getpid()

    def send(self, message: Message) -> None:
        """See `RunnerHandle.send`."""
        if self._on_readable is not None:
            self.channel.put(encode([message]))
            self.soon(self._on_readable)

    async def receive(self) -> list[Message]:
        """See `RunnerHandle.receive`."""
        try:
            return decode(await self._said.receive())
        except trio.EndOfChannel as error:
            raise RunnerGone("the runner in this process has ended") from error

    async def wait_exit(self) -> str:
        """See `RunnerHandle.wait_exit`."""
        await self._ended.wait()
        return "signal 9" if self._killed else "exit 0"

    def kill(self) -> None:
        """Cancel all that runs, and hear nothing more of it. A second call does nothing."""
        self._killed = True
        self.stop()

    # --- what the service sees ----------------------------------------------------------

    def _take_frame(self, frame: bytes) -> None:
        if not self._killed and not self._ended.is_set():
            self._say.send_nowait(frame)

    def soon(self, function: Callable[[], None]) -> None:
        """See `Reactor.soon`."""
        self.post(function)

    def post(self, function: Callable[[], None]) -> None:
        """See `Reactor.post`; nothing happens once the runner has ended."""

        def unless_ended() -> None:
            if not self._ended.is_set():
                function()

        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(unless_ended)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """See `Reactor.later`."""
        if self._attempts is not None:
            self._attempts.start_soon(_call_later, seconds, function)

    def watch_writable(self, on_writable: Callable[[], None] | None) -> None:
        """See `Reactor.watch_writable`; the channel is never full."""

    def stop(self) -> None:
        """See `Reactor.stop`."""
        if self._attempts is not None:
            self._attempts.cancel_scope.cancel()


async def _call_later(seconds: float, function: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    function()


@asynccontextmanager
async def open_in_process_runner(
    options: ClusterOptions,
    clock: ClusterClock,
    definitions: Sequence[TaskDefinition],
    default_runtime: Runtime,
    open_starters: OpenStarters,
) -> AsyncIterator[InProcessRunner]:
    """Start a runner; leaving the block cancels what it runs."""
    runner = InProcessRunner()
    routes = Routes({each.name: each for each in definitions}, default_runtime)
    service = RunnerService(
        runner.channel,
        runner,
        slots=(options.concurrency, options.threads),
        find_route=routes.find,
        on_relay=lambda message: relays.take(message),
        monotonic=clock.monotonic,
        wall=clock.wall,
    )
    relays = Relays(service)
    serve_clients(service, relays, jobs_only=True)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.host, service, routes, open_starters)
            try:
                yield runner
            finally:
                runner.kill()
    finally:
        current.stop_ambient()
        set_transport_opener(None)
        set_job_context(None)
        set_wait_hooks(None, None)
