"""Runners in the process of the test: the real ones but for their process and their socket.

Usually one; one more for jobs that must run alone. Clients inside jobs go through the oldest.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from random import Random
from typing import Final

import trio

from fastworker.client import current
from fastworker.client.ambient import (
    Lease,
    Tenancy,
    set_job_context,
    set_tenancy,
    set_transport_opener,
    set_wait_hooks,
)
from fastworker.errors import CallerError, InternalError
from fastworker.runner.ambient import RelayedTransport, Relays
from fastworker.runner.assignment import Assignment
from fastworker.runner.board import Board
from fastworker.runner.collecting import start_collecting, stop_collecting
from fastworker.runner.context import current_job, current_lease, current_tenant, seconds_left
from fastworker.runner.inspection import Jobs, stacks_of
from fastworker.runner.lifespans import serve_within
from fastworker.runner.reactor import Start
from fastworker.runner.service import RunnerService
from fastworker.runner.trio_loop import call_later
from fastworker.runner.wiring import Routes, RunnerLimits
from fastworker.tasks import Runtime, TaskDefinition, lifespans
from fastworker.testing.clock import ClusterClock
from fastworker.testing.options import ClusterOptions
from fastworker.testing.starters import OpenStarters
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import LoopBlocked, Message, RunnerReady, Stacks
from fastworker.worker.board import started_tokens
from fastworker.worker.control import texts_of
from fastworker.worker.runner_handle import RunnerGone

BOARD_PLACES: Final = 4096
"""Jobs that have started and whose end has not been told."""

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

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._token = trio.lowlevel.current_trio_token()
        self._say, self._said = trio.open_memory_channel[bytes](MAX_UNREAD_FRAMES)
        self._attempts: trio.Nursery | None = None
        self._on_readable: Callable[[], None] | None = None
        self._running: Jobs = list
        self._killed = False
        self._started_when_killed: frozenset[int] | None = None
        self._stopping = False
        self._ended = trio.Event()
        self.channel = MemoryChannel(self._take_frame)
        self.cells = [0] * BOARD_PLACES
        """The board of its jobs, see `fastworker.runner.board`."""

    async def host(
        self,
        service: RunnerService,
        routes: Routes,
        open_starters: OpenStarters,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Run attempts until `stop` or `kill`; what then still runs is cancelled.

        The lifespan hooks for this loop are entered before, and left afterwards.

        Raises:
            CallerError: one of them cannot be entered.
        """

        async def serve() -> None:
            async with (
                trio.open_nursery() as self._attempts,
                open_starters(self._attempts, service) as starters,
            ):
                by_runtime = starters.by_runtime.items()
                routes.use(
                    {runtime: _collected(start) for runtime, start in by_runtime},
                    _collected(starters.function),
                )
                self._on_readable = service.on_readable
                self._running = service.running
                service.tell(RunnerReady(self.pid, routes.rows(), limits=routes.limits()))
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    # From now on nothing may be started: the nursery may be closed already.
                    self._stopping = True

        hooks = lifespans.of("trio", default=routes.default)
        try:
            failure = await serve_within(hooks, serve, limit_leaving=nullcontext)
            if failure is not None:
                raise CallerError(failure)
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

    def started_tokens(self) -> frozenset[int] | None:
        """See `RunnerHandle.started_tokens`."""
        return self._started_when_killed if self._killed else started_tokens(self.cells)

    def running_for(self, token: int) -> float | None:
        """See `RunnerHandle.running_for`."""
        if token not in self.cells:
            return None
        started = (each.started for each in self._running() if each.token == token)
        return max((self._monotonic() - moment for moment in started), default=None)

    async def inspect(self, tokens: Collection[int] | None, *, with_stacks: bool) -> Stacks | None:
        """See `RunnerHandle.inspect`."""
        return Stacks(0, stacks_of(self._running(), tokens, with_text=with_stacks))

    async def stacks(self, tokens: Collection[int]) -> dict[int, str]:
        """See `RunnerHandle.stacks`."""
        return texts_of(tokens, await self.inspect(tokens, with_stacks=True), pid=self.pid)

    async def wait_blocked(self) -> LoopBlocked:
        """See `RunnerHandle.wait_blocked`: a loop of a test is not watched."""
        await trio.sleep_forever()
        raise InternalError("slept for ever, and woke up")

    def kill(self) -> None:
        """Cancel all that runs, and hear nothing more of it. A second call does nothing."""
        if not self._killed:
            self._killed = True
            # What ends from now on is not told.
            self._started_when_killed = started_tokens(self.cells)
        self.stop()

    # --- what the service sees ----------------------------------------------------------

    def _take_frame(self, frame: bytes) -> None:
        if not self._killed and not self._ended.is_set():
            self._say.send_nowait(frame)

    def soon(self, function: Callable[[], None]) -> None:
        """See `Reactor.soon`."""
        self.post(function)

    def post(self, function: Callable[[], None]) -> None:
        """See `Reactor.post`; nothing happens once the runner is stopping."""

        def unless_stopping() -> None:
            if not self._stopping:
                function()

        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(unless_stopping)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """See `Reactor.later`."""
        if self._attempts is not None:
            self._attempts.start_soon(call_later, seconds, function)

    def watch_writable(self, on_writable: Callable[[], None] | None) -> None:
        """See `Reactor.watch_writable`; the channel is never full."""

    def stop(self) -> None:
        """See `Reactor.stop`."""
        if self._attempts is not None:
            self._attempts.cancel_scope.cancel()


def _collected(start: Start) -> Start:
    """What starts attempts whose lines are collected, whoever has replaced ``sys.stdout``."""

    def start_collected(assignment: Assignment) -> None:
        start_collecting()
        start(assignment)

    return start_collected


@asynccontextmanager
async def open_in_process_runner(
    options: ClusterOptions,
    clock: ClusterClock,
    definitions: Sequence[TaskDefinition],
    default_runtime: Runtime,
    open_starters: OpenStarters,
    *,
    random: Random | None = None,
) -> AsyncIterator[InProcessRunner]:
    """Start a runner; leaving the block cancels what it runs.

    Args:
        random: for the jitter of retries.
    """
    runner = InProcessRunner(clock.monotonic)
    tasks = {each.name: each for each in definitions}
    routes = Routes(tasks, default_runtime, board=runner.cells, random=random)
    service = RunnerService(
        runner.channel,
        runner,
        slots=RunnerLimits(options.concurrency, options.threads).slots,
        find_route=routes.find,
        on_relay=lambda message: relays.take(message),
        board=Board(runner.cells),
        monotonic=clock.monotonic,
        wall=clock.wall,
    )
    relays = Relays(service)
    with _serving_clients(service, relays):
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.host, service, routes, open_starters)
            try:
                yield runner
            finally:
                runner.kill()


_serving: list[tuple[RunnerService, Relays]] = []


@contextmanager
def _serving_clients(service: RunnerService, relays: Relays) -> Iterator[None]:
    """Clients inside jobs may use this runner, too; after the last one there are none."""
    _serving.append((service, relays))
    set_transport_opener(_open_transport, jobs_only=True)
    set_job_context(current_lease, seconds_left)
    set_tenancy(Tenancy(current_tenant, _lease_of))
    set_wait_hooks(_enter_wait, _leave_wait)
    try:
        yield
    finally:
        _serving.remove((service, relays))
        if _serving:
            relays.end_all()
        else:
            stop_collecting()
            current.stop_ambient()
            set_transport_opener(None)
            set_job_context(None)
            set_tenancy(None)
            set_wait_hooks(None, None)


def _lease_of(tenant: str) -> Lease | None:
    leases = (service.lease_of(tenant) for service, _ in _serving)
    return next((lease for lease in leases if lease is not None), None)


async def _open_transport() -> RelayedTransport:
    if not _serving:
        raise ConnectionError("no runner is there")
    _, relays = _serving[0]
    return await relays.open()


def _enter_wait() -> None:
    assignment = current_job.get()
    if assignment is not None:
        for service, _ in _serving:  # those that do not run it pass over it
            service.lend_slot(assignment)


def _leave_wait() -> None:
    assignment = current_job.get()
    if assignment is not None:
        for service, _ in _serving:
            service.reclaim_slot(assignment)
